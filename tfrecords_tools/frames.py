"""Which frames of a source are stored, and as what: selection, scaling, JPEG."""

import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import simplejpeg

from official.video.data import records
from tfrecords_tools.decode import (
  FFMPEG_ERRORS,
  MICROSECONDS,
  TIME_TOLERANCE,
  Frame,
  SourceError,
)
from tfrecords_tools.pixels import (
  Orientation,
  Scaler,
  hdr_name,
  matrix_name,
  orientation_of,
  scaled_size,
  shown_size,
)
from tfrecords_tools.streaming import FrameStore

# TensorFlow can't parse a record of 2 GiB.
_MAX_CLIP_BYTES = 2**31 - 2**26
_MAX_JPEG_SIDE = 65_500
# Frames that FFmpeg flags as damaged; those after one suffer too, up to a keyframe.
_MAX_DAMAGED_SHARE = 0.1
# Frames from a flagged one up to which others that lack are its damage too.
_BESIDE = 12
# Of all frames, those that others lack before without damage: more have a variable rate.
_MAX_GAPS_SHARE = 0.05
# Pixels of a stranger shape than this are a mistake in the file.
_MAX_PIXEL_ASPECT = 8


@dataclasses.dataclass(frozen=True)
class FrameOptions:
  """What to store of a source.

  Attributes:
    fps: frames a second; 0 stores every frame of the source.
    short_side: pixels that a larger short side is scaled down to; 0 keeps sizes.
    quality: JPEG quality, 1 to 100.
    max_frames: clips of more stored frames are skipped; 0 for no limit.
    max_pixels: sources of larger frames are skipped.
    max_seconds: clips that last longer are skipped.
  """

  fps: float = 0.0
  short_side: int = 256
  quality: int = 95
  max_frames: int = 100_000
  max_pixels: int = 8192 * 4320
  max_seconds: float = 3600.0


def frames_in_span(
  frames: Iterable[Frame], start: int, end: int | None
) -> Iterator[tuple[int, Frame]]:
  """Yields `(microseconds from start, frame)` of frames from `start` to before `end`."""
  for frame in frames:
    if end is not None and frame.time >= end - TIME_TOLERANCE:
      return
    if frame.time >= start - TIME_TOLERANCE:
      yield max(0, frame.time - start), frame


def frames_at_rate(
  frames: Iterable[Frame], start: int, end: int | None, fps: float
) -> Iterator[tuple[int, Frame]]:
  """Yields `(microseconds from start, frame)` at times `k / fps`.

  The frame is the one shown at that time: the last whose own time is not later. So a
  lower rate drops frames, a higher one repeats them, and a variable rate becomes even.
  """
  step = 0
  shown: Frame | None = None

  def due(until):
    nonlocal step
    until = until if end is None else min(until, end)
    while (time := round(step * MICROSECONDS / fps)) + start < until - TIME_TOLERANCE:
      step += 1
      if shown:
        yield time, shown

  for frame in frames:
    if shown:
      yield from due(frame.time)
    if end is not None and frame.time >= end - TIME_TOLERANCE:
      return
    shown = frame
  if shown:
    yield from due(shown.time + shown.duration)


def _padded_to_even(plane: np.ndarray) -> np.ndarray:
  """`plane`, in a buffer that goes on by a row and a column where its sides are odd.

  The encoder reads luma up to even sides, and would find there whatever memory holds.
  """
  height, width = plane.shape
  if not (height % 2 or width % 2):
    return np.ascontiguousarray(plane)
  padded = np.empty((height + height % 2, width + width % 2), plane.dtype)
  padded[:height, :width] = plane
  padded[:height, width:] = plane[:, -1:]
  padded[height:] = padded[height - 1]
  return padded[:height, :width]


class FrameEncoder:
  """Scales frames and encodes them as JPEG, 4:2:0, full range BT.601 as JFIF has it.

  Attributes:
    format: of the encoded frames, as records name it.
    size: width and height of the encoded frames; known after the first.
    notes: what was done to the colours or shape of the pixels that a user may want to
      know.
  """

  format = 'JPEG'

  def __init__(self, options: FrameOptions):
    self._options = options
    self._scaler = Scaler()
    self._scaled: tuple[int, int] | None = None
    self._orientation = Orientation()
    self._last: tuple[Frame, bytes] | None = None
    self.size = (0, 0)
    self.notes: list[str] = []

  def encode(self, frame: Frame) -> bytes:
    """Encodes a frame; all are scaled to the size of the first.

    Raises:
      SourceError: no JPEG can hold it.
    """
    if self._last is None or self._last[0] is not frame:
      try:
        self._last = frame, self._encode(frame)
      except FFMPEG_ERRORS as error:
        image = frame.image
        what = f'{image.width}x{image.height} {image.format.name}'
        raise SourceError(
          f"a frame of {what}, colour matrix {matrix_name(image)}, can't be converted: "
          f'{error}'
        ) from error
    return self._last[1]

  def _begin(self, frame: Frame) -> tuple[int, int]:
    """Settles size and orientation by the first frame; returns the size to scale to."""
    image, aspect = frame.image, frame.pixel_aspect
    if not 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT:
      self.notes.append(
        f'pixel shape: {aspect:.4g} times as wide as high, taken as square'
      )
      aspect = 1.0
    if name := hdr_name(image):
      self.notes.append(f'HDR: {name} was mapped to the usual range of BT.709')
    size = shown_size(image.width, image.height, aspect)
    size = scaled_size(*size, self._options.short_side)
    if max(size) > _MAX_JPEG_SIDE:
      raise SourceError('frames of {}x{} are larger than a JPEG can be'.format(*size))
    if size[0] * size[1] > records.MAX_FRAME_PIXELS:
      raise SourceError(
        'frames of {}x{} are over the {} pixels that training decodes; set '
        '--short_side'.format(*size, records.MAX_FRAME_PIXELS)
      )
    self._orientation = orientation_of(image)
    return size

  def _encode(self, frame: Frame) -> bytes:
    planes = self._planes(frame, self._scaler.scale)
    quality = self._options.quality
    if len(planes) == 1:
      return simplejpeg.encode_jpeg(
        np.ascontiguousarray(planes[0]), quality, 'RGB', '420'
      )
    luma, *chroma = planes
    chroma = [np.ascontiguousarray(plane) for plane in chroma]
    return simplejpeg.encode_jpeg_yuv_planes(_padded_to_even(luma), *chroma, quality)

  def _planes(self, frame: Frame, scale: Callable) -> list[np.ndarray]:
    """What a method of the scaler makes of a frame, upright; settles the size."""
    self._scaled = self._scaled or self._begin(frame)
    planes = self._orientation.apply(scale(frame.image, *self._scaled))
    self.size = planes[0].shape[1], planes[0].shape[0]
    return planes

  def kept(self, frame: Frame) -> bytes | None:
    """The source's own JPEG where it has the size of the encoded frames, else None."""
    if frame.jpeg is None:
      return None
    size = frame.image.width, frame.image.height
    if size != (self._scaled or self._begin(frame)):
      return None
    self._scaled = self.size = size
    return frame.jpeg


class PngEncoder(FrameEncoder):
  """Scales frames as the other does and encodes them as PNG: nothing more is lost."""

  format = 'PNG'

  def _encode(self, frame: Frame) -> bytes:
    from PIL import Image  # Takes longer to import than most commands take to run.

    (rgb,) = self._planes(frame, self._scaler.scale_to_rgb)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(file, 'PNG', compress_level=1)
    return file.getvalue()

  def kept(self, frame: Frame) -> bytes | None:
    """None: a source's JPEG is none of ours."""
    del frame
    return None


@dataclasses.dataclass(frozen=True)
class EncodedFrames:
  """The frames of a clip as they are stored.

  Attributes:
    jpegs: the encoded frames, in the store that was handed over.
    sizes: bytes of each of them.
    timestamps: microseconds from the clip's start, increasing.
    width: pixels.
    height: pixels.
    frame_rate: frames a second.
    end: microseconds in the source where the clip ends: where asked, or with the source.
    notes: what a user may want to know about the pixels.
  """

  jpegs: FrameStore
  sizes: list[int]
  timestamps: list[int]
  width: int
  height: int
  frame_rate: float
  end: int
  notes: list[str]


def _stored_rate(timestamps: list[int], stated: float) -> float:
  """The stated rate where the times agree with it; else what the times say."""
  span = timestamps[-1] - timestamps[0]
  measured = (len(timestamps) - 1) * MICROSECONDS / span if span else 0.0
  if not measured or abs(measured - stated) <= 0.02 * stated:
    return stated or measured
  return measured


class _Span:
  """Frames of the source that a clip passes over, within its limit of seconds.

  Attributes:
    source_end: microseconds in the source where the last frame seen ends.
    frames: frames that are shown within the span.
    damaged: those of them that FFmpeg flags as damaged.
  """

  def __init__(self, start: int, end: int | None, max_seconds: float):
    self._start, self._end = start, end
    self._limit = round(max_seconds * MICROSECONDS)
    self.source_end = self.frames = self.damaged = 0
    # Of those frames, the last damaged one; numbers of frames that lack, by where.
    self._flagged: int | None = None
    self._gaps: list[tuple[int, int]] = []
    self._lost = 0
    self._alone: list[int] = []  # Of gaps without damage.

  def _check(self, time: int) -> None:
    until = time if self._end is None else min(time, self._end)
    if until - self._start > self._limit:
      raise SourceError(
        f'lasts over {self._limit / MICROSECONDS:g} s (--max_seconds); cut it up by '
        'start and end'
      )

  def watched(self, frames: Iterable[Frame]) -> Iterator[Frame]:
    """Passes frames on; raises `SourceError` for one too far from the clip's start."""
    for frame in frames:
      self._check(frame.time)
      self.source_end = frame.time + frame.duration
      # The first frames may be from before the span, up to its keyframe.
      if self.source_end > self._start and (self._end is None or frame.time < self._end):
        self.frames += 1
        self.damaged += frame.damaged
        self._note_gaps(frame)
      yield frame
    self._check(self.source_end)

  def _note_gaps(self, frame: Frame) -> None:
    """Tells frames that damage lost from those that nobody recorded: by what is beside."""
    if frame.missing:
      self._gaps.append((self.frames, frame.missing))
    if frame.damaged:
      self._flagged = self.frames
    while self._gaps:
      at, missing = self._gaps[0]
      if self._flagged is not None and abs(self._flagged - at) <= _BESIDE:
        self._lost += missing
      elif self.frames - at < _BESIDE:
        return  # A frame to come may be damaged.
      else:
        self._alone.append(missing)
      del self._gaps[0]

  def damage(self) -> list[str]:
    """Notes on damage, if any; raises `SourceError` where it is too much."""
    alone = [*self._alone, *(count for _, count in self._gaps)]
    # Whoever records no still scenes may state a constant rate all the same.
    varies = len(alone) > _MAX_GAPS_SHARE * self.frames
    lost = 0 if varies else self._lost
    notes, total = [], self.frames + lost
    if self.damaged:
      notes.append(
        f'damaged frames: {self.damaged} of {self.frames}, as FFmpeg flags them'
        + (f'; {lost} more are lost beside them' if lost else '')
      )
    if self.damaged + lost > _MAX_DAMAGED_SHARE * total:
      raise SourceError(notes[0])
    if alone and not varies:
      notes.append(
        f'missing frames: {sum(alone)} of {total + sum(alone)} by the rate that it states; '
        'damaged, or of a variable rate'
      )
    return notes


def encode_frames(
  frames: Iterable[Frame],
  stated_rate: float,
  start: int,
  end: int | None,
  options: FrameOptions,
  store: FrameStore | None = None,
  encoder: FrameEncoder | None = None,
) -> EncodedFrames:
  """Selects and encodes the frames of a span.

  Args:
    frames: of the source in order of time, from the one shown at `start` or before.
    stated_rate: frames a second as the source states them; 0 if it doesn't.
    start: microseconds from the source's first frame.
    end: microseconds that the clip ends before; None for the source's end.
    options: what to store.
    store: where encoded frames go; a list by default.
    encoder: of one source's frames; by default to JPEG, as the options say.

  Raises:
    SourceError: no frame in the span, or more than the options allow.
  """
  encoder = encoder or FrameEncoder(options)
  span = _Span(start, end, options.max_seconds)
  jpegs: FrameStore = [] if store is None else store
  sizes: list[int] = []
  timestamps: list[int] = []
  total_bytes = 0
  if options.fps:
    selected = frames_at_rate(span.watched(frames), start, end, options.fps)
  else:
    selected = frames_in_span(span.watched(frames), start, end)
  for timestamp, frame in selected:
    if len(timestamps) == options.max_frames > 0:
      raise SourceError(f'more than {options.max_frames} frames (--max_frames)')
    jpeg = encoder.kept(frame) or encoder.encode(frame)
    jpegs.append(jpeg)
    timestamps.append(timestamp)
    sizes.append(len(jpeg))
    total_bytes += len(jpeg)
    if total_bytes > _MAX_CLIP_BYTES:
      raise SourceError(
        'over 2 GiB of JPEG frames, more than a record holds; cut it up by start and '
        'end, or lower --fps, --short_side or --quality'
      )
  if not timestamps:
    asked = 'its end' if end is None else f'{end / MICROSECONDS:g} s'
    raise SourceError(
      f'no frame from {start / MICROSECONDS:g} s to {asked}: '
      f'the video lasts {span.source_end / MICROSECONDS:.2f} s'
    )
  notes = [*encoder.notes, *span.damage()]
  width, height = encoder.size
  rate = options.fps or _stored_rate(timestamps, stated_rate)
  clip_end = span.source_end if end is None else min(span.source_end, end)
  return EncodedFrames(jpegs, sizes, timestamps, width, height, rate, clip_end, notes)

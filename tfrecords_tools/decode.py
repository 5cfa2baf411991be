"""Video files to timed frames, streamed by PyAV: any container and codec of FFmpeg."""

import contextlib
import ctypes
import dataclasses
import fractions
import itertools
import os
import stat
import struct
from collections.abc import Iterator

import av
import av._core
from av.stream import Disposition

MICROSECONDS = 1_000_000
# Containers such as WebM round times to 1 ms, so closer times count as equal.
TIME_TOLERANCE = 1_000

# Playlists would open further files, and a still picture is no video.
_REFUSED_FORMATS = frozenset({'concat', 'dash', 'hls', 'image2', 'tty'})
_STILL_FORMAT_SUFFIX = '_pipe'
# How far before the wanted time to seek, in seconds, when the nearest keyframe by the
# container's index turns out to be shown later than wanted.
_SEEK_MARGINS = (0, 2, 20)
# Frames shown no later than the one before are dropped; this many are still no damage.
_MAX_MISPLACED_SHARE = 0.1
# Seconds at the start that may lack their keyframe.
_MAX_MISSING_START = 0.5
# Containers without a table of frames: what is lost in their middle is not told by a count.
_UNCOUNTED = ('matroska', 'mpegts')
# Of a frame's share of time; a gap up to so much longer is jitter.
_MAX_JITTER = 0.6
_SEEK_WORTHWHILE = 1 * MICROSECONDS
# A small file can hold any number of frames, so what is decoded for a clip has a bound,
# counted in pixels: 4.9 hours of 1920x1080 at 30 frames a second. A frame costs its
# decoder something however small it is, so at most 2**20 frames are.
_MAX_DECODED_PIXELS = 2**40
_LEAST_PIXELS_A_FRAME = 2**20
# Headers also claim tables of any size; FFmpeg then allocates up to 2 GiB at a time.
_LEAST_MAX_ALLOCATION = 2**29
_MAX_BYTES_A_PIXEL = 16
_ASF_HEADER_BYTES = 1 << 16
_ASF_FILE_PROPERTIES = bytes.fromhex('a1dcab8c47a9cf118ee400c00c205365')
# The sizes of a live stream mean nothing.
_ASF_BROADCAST = 1
# PyAV hands some failures on as they are, such as times beyond 64 bits.
FFMPEG_ERRORS = (av.FFmpegError, ValueError, OSError, ArithmeticError, MemoryError)


class SourceError(Exception):
  """A source gives no record; the message is the reason that the manifest states."""


@dataclasses.dataclass(frozen=True)
class Frame:
  """A decoded frame.

  Attributes:
    time: microseconds from the source's first frame.
    duration: microseconds it is shown for, as far as known.
    image: the pixels, in any format that FFmpeg scales.
    jpeg: the encoded image, where the source stores JPEGs.
    pixel_aspect: width of a pixel over its height.
    damaged: whether FFmpeg says that parts of it were lost or made up.
    missing: frames that lack before it at the constant rate that the stream states, where
      nothing else tells of frames that are lost.
  """

  time: int
  duration: int
  image: av.VideoFrame
  jpeg: bytes | None = None
  pixel_aspect: float = 1.0
  damaged: bool = False
  missing: int = 0


def _ffmpeg_reason(error: Exception) -> str:
  return getattr(error, 'strerror', None) or str(error) or type(error).__name__


def check_file(path: str) -> None:
  """Raises `SourceError` where `path` can't be a video: missing, empty, a folder, ..."""
  try:
    status = os.stat(path)
  except FileNotFoundError:
    raise SourceError('missing') from None
  except (OSError, ValueError) as error:
    raise SourceError(f"can't be read: {_ffmpeg_reason(error)}") from error
  if not stat.S_ISREG(status.st_mode):
    raise SourceError('not a regular file')
  if not status.st_size:
    raise SourceError('empty file')
  if not os.access(path, os.R_OK):
    raise SourceError("can't be read: Permission denied")


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
  if width * height > max_pixels:
    raise SourceError(
      f'frames of {width}x{height} are over the limit of {max_pixels} pixels '
      '(--max_pixels)'
    )


def _limit_allocations(max_pixels: int) -> None:
  """Makes FFmpeg refuse single allocations that no frame of this size needs."""
  # Resolved through the libraries that PyAV's module links to.
  set_limit = getattr(ctypes.CDLL(av._core.__file__), 'av_max_alloc', None)
  limit = max(_LEAST_MAX_ALLOCATION, _MAX_BYTES_A_PIXEL * max_pixels)
  if set_limit is not None:
    set_limit(ctypes.c_size_t(min(limit, 2**31 - 1)))


def _asf_bytes(path: str) -> int:
  """Size of the file by the header of an ASF file, WMV or WMA; 0 where it says none.

  The file properties object: its name, its size, the file's name, its size; flags.
  """
  with open(path, 'rb') as file:
    header = file.read(_ASF_HEADER_BYTES)
  start = header.find(_ASF_FILE_PROPERTIES)
  if start < 0 or len(header) < start + 92:
    return 0
  (size,) = struct.unpack_from('<Q', header, start + 40)
  return 0 if header[start + 88] & _ASF_BROADCAST else size


class _Clock:
  """Times of frames in the order they are shown in, as FFmpeg's own guess has them.

  Containers without times of display, such as AVI, get them made up; where reordered
  frames show that they are wrong, the times of decoding are right.

  Attributes:
    reorders: whether the times of display turned out to be wrong.
  """

  def __init__(self) -> None:
    self._last: dict[str, int | None] = {'pts': None, 'dts': None}
    self._faults = {'pts': 0, 'dts': 0}
    self.reorders = False

  def _note(self, key: str, ticks: int | None) -> None:
    last = self._last[key]
    if ticks is not None:
      self._faults[key] += last is not None and ticks <= last
      self._last[key] = ticks

  def ticks(self, image: av.VideoFrame) -> int | None:
    """The time of the next frame in ticks of its stream; None where it has none."""
    self._note('pts', image.pts)
    self._note('dts', image.dts)
    self.reorders = self._faults['pts'] > self._faults['dts']
    first, second = image.pts, image.dts
    if self.reorders:
      first, second = second, first
    return second if first is None else first


class Video:
  """An open video file; made by `open_video`.

  Attributes:
    frame_rate: frames a second as the container states them; 0 if it doesn't.
  """

  def __init__(self, container: 'av.container.InputContainer', max_pixels: int):
    self._container = container
    self._max_pixels = max_pixels
    self._stream = self._find_stream()
    self._decoded_pixels = self._decoded = self._misplaced = 0
    self._origin: int | None = None
    self._sought = False
    self._states_end = 'matroska' in container.format.name
    self._corrupt: set[int | None] = set()
    self.frame_rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)

  def _find_stream(self) -> 'av.video.stream.VideoStream':
    format_name = self._container.format.name
    if format_name in _REFUSED_FORMATS or format_name.endswith(_STILL_FORMAT_SUFFIX):
      raise SourceError(f'not a video but {format_name}')
    streams = [
      stream
      for stream in self._container.streams.video
      if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
      sound = ' (sound only)' if self._container.streams.audio else ''
      raise SourceError(f'no video stream{sound}')
    stream = streams[0]
    if stream.codec_context is None:
      raise SourceError('no decoder for its codec')
    context = stream.codec_context
    _check_pixels(context.width, context.height, self._max_pixels)
    # Workers are processes, one a core; and a damaged stream decodes to the same frames
    # every time only without threads.
    context.thread_type = 'NONE'
    context.thread_count = 1
    # A size that changes later is refused before its frame is allocated.
    context.options = {'max_pixels': str(min(self._max_pixels, 2**31 - 1))}
    return stream

  @property
  def _tick(self) -> fractions.Fraction:
    """Seconds of a unit of the stream's clock."""
    return self._stream.time_base or fractions.Fraction(1, MICROSECONDS)

  def _microseconds(self, ticks: int) -> int:
    return round(ticks * self._tick * MICROSECONDS)

  def _pixel_aspect(self) -> float:
    """As FFmpeg guesses it: what the container says, else the codec's last word."""
    context = self._stream.codec_context
    return float(self._stream.sample_aspect_ratio or context.sample_aspect_ratio or 1)

  def _count(self, image: av.VideoFrame) -> None:
    """Raises `SourceError` where a frame is too large, or one too many."""
    _check_pixels(image.width, image.height, self._max_pixels)
    self._decoded += 1
    self._decoded_pixels += max(image.width * image.height, _LEAST_PIXELS_A_FRAME)
    if self._decoded_pixels > _MAX_DECODED_PIXELS:
      raise SourceError(
        f'over {_MAX_DECODED_PIXELS // _LEAST_PIXELS_A_FRAME} megapixels of frames up to '
        "the clip's end, which is the limit; cut the file up"
      )

  def _constant_rate(self) -> float:
    """Frames a second that all frames keep to; 0 where they need not."""
    stream = self._stream
    counted = not self._container.format.name.startswith(_UNCOUNTED)
    if counted or not stream.average_rate or stream.average_rate != stream.base_rate:
      return 0.0
    return float(stream.average_rate)

  def _images(self) -> Iterator[av.VideoFrame]:
    for packet in self._container.demux(self._stream):
      if packet.is_corrupt and packet.pts is not None:
        self._corrupt.add(packet.pts)
      # An empty packet repeats the frame before, which decoders refuse to; one without a
      # time ends the stream.
      if packet.size or packet.dts is None:
        yield from packet.decode()

  def _decode(self) -> Iterator[Frame]:
    """Frames from wherever the container stands, in order of time."""
    default = round(MICROSECONDS / self.frame_rate) if self.frame_rate else 0
    clock, last, rate = _Clock(), None, self._constant_rate()
    for image in self._images():
      self._count(image)
      duration = self._microseconds(image.duration or 0) or default
      ticks = clock.ticks(image)
      if ticks is None:
        time = 0 if last is None else last.time + last.duration
      else:
        if self._origin is None:
          self._origin = ticks
        time = self._microseconds(ticks - self._origin)
        if last is not None and time <= last.time and clock.reorders:
          time = last.time + last.duration
      if last is None or time > last.time:
        missing = 0
        if last is not None:
          gap = (time - last.time - last.duration) / MICROSECONDS
          missing = max(0, int(gap * rate + 1 - _MAX_JITTER))
        last = Frame(
          time,
          duration,
          image,
          pixel_aspect=self._pixel_aspect(),
          damaged=image.is_corrupt or image.pts in self._corrupt,
          missing=missing,
        )
        yield last
      else:
        self._misplaced += 1

  def _seek(self, time: int) -> Iterator[Frame] | None:
    """Frames from a keyframe at or before `time`; None where seeking fails."""
    self._sought = True
    for margin in _SEEK_MARGINS:
      wanted = max(0, time - margin * MICROSECONDS)
      ticks = int(wanted / MICROSECONDS / self._tick) + (self._origin or 0)
      with contextlib.suppress(*FFMPEG_ERRORS):
        self._container.seek(ticks, stream=self._stream, backward=True)
        frames = self._decode()
        first = next(frames, None)
        if first and first.image.key_frame and first.time <= time + TIME_TOLERANCE:
          return itertools.chain([first], frames)
    return None

  def _frames_around(self, start: int) -> Iterator[Frame]:
    frames = self._decode()
    first = next(frames, None)
    if first is None:
      return
    if start > _SEEK_WORTHWHILE and self._origin is not None:
      found = self._seek(start)
      if found is not None:
        yield from found
        return
      self._container.seek(self._origin, stream=self._stream, backward=True)
      yield from self._decode()
      return
    yield first
    yield from frames

  def frames(self, start: int = 0) -> Iterator[Frame]:
    """Yields frames in order of time, from the one shown at `start` or an earlier one.

    Args:
      start: microseconds from the first frame.

    Raises:
      SourceError: decoding fails, or ends far short of the stated duration; raised
        where that happens, so a caller that stops before never sees it.
    """
    last = None
    try:
      for frame in self._frames_around(start):
        yield frame
        last = frame
    except FFMPEG_ERRORS as error:
      at = f' after {last.time / MICROSECONDS:.2f} s' if last else ''
      # What FFmpeg answers to frames over its limit of pixels.
      hint = (
        ' (or frames over --max_pixels)'
        if isinstance(error, av.error.ArgumentError)
        else ''
      )
      raise SourceError(
        f'truncated or damaged: decoding failed{at}: {_ffmpeg_reason(error)}{hint}'
      ) from error
    self._check_complete(last)

  def _check_complete(self, last: Frame | None) -> None:
    self._check_bytes()
    stated, slack = self._stated_duration()
    if last is None:
      if stated:
        raise SourceError(f'truncated or damaged: no frame of {stated:.2f} s decodes')
      raise SourceError('no frame can be decoded')
    if self._misplaced > _MAX_MISPLACED_SHARE * self._decoded:
      raise SourceError(
        f'damaged: the times of {self._misplaced} of {self._decoded} frames do not increase'
      )
    wanted = 0 if stated or self._sought else self._stream.frames
    if self._decoded < 0.95 * wanted - 2:
      raise SourceError(
        f'damaged: {self._decoded} of the {wanted} frames it states can be decoded'
      )
    shown = last.duration / MICROSECONDS
    if stated and shown > stated + slack:
      raise SourceError(
        f'damaged: a frame lasts {shown:.2f} s of the {stated:.2f} s that it states'
      )
    end = self._start() + last.time / MICROSECONDS + shown
    if end < stated - slack:
      raise SourceError(
        f'truncated: frames end at {end:.2f} s of the {stated:.2f} s it states'
      )

  def _start(self) -> float:
    """Seconds of the stated duration that lie before the first frame.

    Frames of a source that was cut apart from its keyframes may be missing there.
    """
    first = self._stream.start_time
    if first is None or self._origin is None:
      return 0.0
    missing = max(0.0, float((self._origin - first) * self._tick))
    # Matroska states the time of the end, others the time from the start.
    offset = max(0.0, float(first * self._tick)) if self._states_end else 0.0
    return offset + min(missing, _MAX_MISSING_START)

  @property
  def seconds(self) -> float:
    """How long the container says that it lasts; 0 if it doesn't."""
    return self._stated_duration()[0]

  def _check_bytes(self) -> None:
    """Raises `SourceError` where the file has far fewer bytes than its header says."""
    if self._container.format.name != 'asf':
      return
    stated, size = _asf_bytes(self._container.name), os.path.getsize(self._container.name)
    if size < 0.95 * stated:
      raise SourceError(f'truncated: it has {size} of the {stated} bytes that it states')

  def _stated_duration(self) -> tuple[float, float]:
    """Seconds that the container states, and how many of them may be missing."""
    stream = self._stream
    if self._container.format.name == 'avi' and stream.frames:
      # FFmpeg makes the durations up from the bytes that are there; the header counts
      # frames, dropped ones included, of one tick each.
      stated = float(stream.frames * self._tick)
    elif stream.duration:
      stated = float(stream.duration * self._tick)
    else:
      stated = (self._container.duration or 0) / MICROSECONDS
      if self._container.streams.audio:
        # Then it includes the sound, which often outlasts the pictures.
        return stated, max(1.0, 0.1 * stated)
    frames = 2 / self.frame_rate if self.frame_rate else 0.5
    return stated, 0.05 * stated + min(0.5, frames)


@contextlib.contextmanager
def open_video(path: str, max_pixels: int) -> Iterator[Video]:
  """Opens a video file.

  Args:
    path: an absolute path, so that FFmpeg can't take it for a URL.
    max_pixels: largest frame to decode.

  Raises:
    SourceError: it isn't a video that can be read.
  """
  check_file(path)
  av.logging.set_level(None)
  _limit_allocations(max_pixels)
  try:
    container = av.open(
      os.path.abspath(path),
      metadata_errors='replace',
      options={
        'protocol_whitelist': 'file',
        'max_pixels': str(min(max_pixels, 2**31 - 1)),
      },
    )
  except FFMPEG_ERRORS as error:
    raise SourceError(f'not a readable video: {_ffmpeg_reason(error)}') from error
  with container:
    yield Video(container, max_pixels)

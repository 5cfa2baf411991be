"""Video files to timed frames, streamed by PyAV: any container and codec of FFmpeg."""

import contextlib
import dataclasses
import fractions
import itertools
import os
import stat
from collections.abc import Iterator

import av
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
_SEEK_WORTHWHILE = 1 * MICROSECONDS


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
  """

  time: int
  duration: int
  image: av.VideoFrame
  jpeg: bytes | None = None


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


class Video:
  """An open video file; made by `open_video`.

  Attributes:
    frame_rate: frames a second as the container states them; 0 if it doesn't.
  """

  def __init__(self, container: 'av.container.InputContainer', max_pixels: int):
    self._container = container
    self._max_pixels = max_pixels
    self._stream = self._find_stream()
    self._origin: int | None = None
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
    return stream

  @property
  def _tick(self) -> fractions.Fraction:
    """Seconds of a unit of the stream's clock."""
    return self._stream.time_base or fractions.Fraction(1, MICROSECONDS)

  def _microseconds(self, ticks: int) -> int:
    return round(ticks * self._tick * MICROSECONDS)

  def _decode(self) -> Iterator[Frame]:
    """Frames from wherever the container stands, in order of time."""
    default = round(MICROSECONDS / self.frame_rate) if self.frame_rate else 0
    last = None
    for image in self._container.decode(self._stream):
      _check_pixels(image.width, image.height, self._max_pixels)
      ticks = image.pts if image.pts is not None else image.dts
      duration = self._microseconds(image.duration or 0) or default
      if ticks is None:
        time = 0 if last is None else last.time + last.duration
      else:
        if self._origin is None:
          self._origin = ticks
        time = self._microseconds(ticks - self._origin)
      if last is None or time > last.time:
        last = Frame(time, duration, image)
        yield last

  def _seek(self, time: int) -> Iterator[Frame] | None:
    """Frames from a keyframe at or before `time`; None where seeking fails."""
    for margin in _SEEK_MARGINS:
      wanted = max(0, time - margin * MICROSECONDS)
      ticks = int(wanted / MICROSECONDS / self._tick) + (self._origin or 0)
      with contextlib.suppress(av.FFmpegError):
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
    except (av.FFmpegError, ValueError, OSError) as error:
      at = f' after {last.time / MICROSECONDS:.2f} s' if last else ''
      raise SourceError(
        f'truncated or damaged: decoding failed{at}: {_ffmpeg_reason(error)}'
      ) from error
    self._check_complete(last)

  def _check_complete(self, last: Frame | None) -> None:
    stated, slack = self._stated_duration()
    if last is None:
      if stated:
        raise SourceError(f'truncated or damaged: no frame of {stated:.2f} s decodes')
      raise SourceError('no frame can be decoded')
    end = (last.time + last.duration) / MICROSECONDS
    if end < stated - slack:
      raise SourceError(
        f'truncated: frames end at {end:.2f} s of the {stated:.2f} s it states'
      )

  def _stated_duration(self) -> tuple[float, float]:
    """Seconds that the container states, and how many of them may be missing."""
    stream = self._stream
    if stream.duration:
      stated = float(stream.duration * self._tick)
      return stated, max(0.5, 0.05 * stated)
    # This one includes sound, which often outlasts the pictures.
    stated = (self._container.duration or 0) / MICROSECONDS
    return stated, max(1.0, 0.1 * stated)


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
  try:
    container = av.open(
      os.path.abspath(path),
      metadata_errors='replace',
      options={'protocol_whitelist': 'file'},
    )
  except (av.FFmpegError, ValueError, OSError) as error:
    raise SourceError(f'not a readable video: {_ffmpeg_reason(error)}') from error
  with container:
    yield Video(container, max_pixels)

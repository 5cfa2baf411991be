"""Sources that store their frames as JPEGs: checked, decoded, timed by their number."""

from collections.abc import Callable, Iterator

import av
import simplejpeg

from tfrecords_tools.decode import MICROSECONDS, Frame, SourceError

_START, _END = b'\xff\xd8', b'\xff\xd9'
# Decoders of records expect colour as JFIF has it, or grey.
_COLOR_SPACES = frozenset({'YCbCr', 'Gray'})


def decode_jpeg(data: bytes, name: str, max_pixels: int) -> av.VideoFrame:
  """Decodes one image to RGB.

  Args:
    data: the encoded image.
    name: of the frame, for messages.
    max_pixels: largest frame to accept.

  Raises:
    SourceError: it is no whole and sound JPEG, or too large.
  """
  if not data.startswith(_START):
    seen = f'it begins with {data[:4]!r}' if data else 'it is empty'
    raise SourceError(f'{name} is not a JPEG: {seen}')
  if not data.rstrip(b'\0').endswith(_END):
    raise SourceError(f'{name} is a cut JPEG, without its end marker')
  try:
    height, width, color_space, _ = simplejpeg.decode_jpeg_header(data)
    if color_space not in _COLOR_SPACES:
      raise SourceError(f'{name} is a JPEG in {color_space}, expected YCbCr')
    if width * height > max_pixels:
      raise SourceError(
        f'{name} of {width}x{height} is over the limit of {max_pixels} pixels '
        '(--max_pixels)'
      )
    return av.VideoFrame.from_ndarray(simplejpeg.decode_jpeg(data), 'rgb24')
  except ValueError as error:
    raise SourceError(f'{name} is a damaged JPEG: {error}') from error


class JpegFootage:
  """JPEG frames at an even rate.

  Attributes:
    frame_rate: frames a second.
  """

  def __init__(
    self,
    count: int,
    read: Callable[[int], tuple[str, bytes]],
    frame_rate: float,
    max_pixels: int,
  ):
    """Opens the footage.

    Args:
      count: number of frames.
      read: from a position to the frame's name in messages and its data.
      frame_rate: frames a second.
      max_pixels: largest frame to accept.
    """
    self.frame_rate = frame_rate
    self._count = count
    self._read = read
    self._max_pixels = max_pixels

  def frames(self, start: int = 0) -> Iterator[Frame]:
    """Yields frames in order of time, from the one shown at `start` us or before."""
    first = int(start * self.frame_rate / MICROSECONDS)
    for index in range(min(first, self._count - 1), self._count):
      name, data = self._read(index)
      image = decode_jpeg(data, name, self._max_pixels)
      time = self._time(index)
      yield Frame(time, self._time(index + 1) - time, image, data)

  def _time(self, index: int) -> int:
    return round(index * MICROSECONDS / self.frame_rate)

"""The frames of records that anybody may have written: JPEG or PNG, of a bearable size.

The signature alone decides which, and nothing else is opened: an image library would
take a frame that calls itself EPS to its interpreter.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import simplejpeg

if TYPE_CHECKING:
  from PIL import Image

from official.video.data import records

_JPEG, _PNG = b'\xff\xd8', b'\x89PNG\r\n\x1a\n'
_JPEG_END, _PNG_END = b'\xff\xd9', b'IEND\xaeB`\x82'
_PNG_SIZE = struct.Struct('>II')
_PNG_SIZE_OFFSET = 16


class FrameError(ValueError):
  """What is wrong with a stored frame, to be read after its number."""


def frame_size(data: bytes) -> tuple[int, int]:
  """Width and height that a frame states.

  Raises:
    FrameError: it is neither JPEG nor PNG, cut, or of more pixels than training decodes.
  """
  if data.startswith(_JPEG):
    try:
      height, width = simplejpeg.decode_jpeg_header(data)[:2]
    except ValueError as error:
      raise FrameError(f'is not a readable JPEG: {error}') from error
    end, name = _JPEG_END, 'JPEG'
  elif data.startswith(_PNG) and len(data) >= _PNG_SIZE_OFFSET + _PNG_SIZE.size:
    width, height = _PNG_SIZE.unpack_from(data, _PNG_SIZE_OFFSET)
    end, name = _PNG_END, 'PNG'
  else:
    raise FrameError(f'is not a readable JPEG or PNG: it begins with {data[:4]!r}')
  if not 0 < width * height <= records.MAX_FRAME_PIXELS:
    raise FrameError(
      f'is {width}x{height}, expected 1 to {records.MAX_FRAME_PIXELS} pixels'
    )
  if not data.rstrip(b'\0').endswith(end):
    raise FrameError(f'is a cut {name}, without its end marker')
  return width, height


def decode_frame(data: bytes, least_side: int = 0) -> Image.Image:
  """Decodes a frame to RGB.

  Args:
    data: the encoded frame.
    least_side: a JPEG may be decoded at a fraction of its size that is at least this high
      and wide; 0 decodes the whole.

  Raises:
    FrameError: as `frame_size` says, or it is damaged.
  """
  from PIL import Image  # Takes longer to import than most commands take to run.

  frame_size(data)
  try:
    if data.startswith(_JPEG) and not least_side:
      return Image.fromarray(simplejpeg.decode_jpeg(data))
    with Image.open(io.BytesIO(data), formats=('JPEG', 'PNG')) as file:
      file.draft('RGB', (least_side, least_side))
      return file.convert('RGB')
  except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
    raise FrameError(f'is not a readable frame: {error}') from error

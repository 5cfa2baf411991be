"""Decoded frames as players show them: size, orientation, colours, as 8-bit arrays.

FFmpeg scales and converts. What it is asked for here gives the pixels of its own
conversion to RGB, up to rounding, for every pixel format, range and matrix that it knows.
"""

import dataclasses
import threading
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import (
  ColorPrimaries,
  ColorRange,
  Colorspace,
  ColorTrc,
  Interpolation,
  VideoReformatter,
)

# The exact variants cost 4 % and give the same bytes on every processor. Full chroma
# halves the colour error of conversions to RGB and costs nothing.
_INTERPOLATION = (
  Interpolation.AREA
  | Interpolation.ACCURATE_RND
  | Interpolation.BITEXACT
  | Interpolation.FULL_CHR_H_INT
  | Interpolation.FULL_CHR_H_INP
)
_GRAPH_FLAGS = 'area+accurate_rnd+bitexact+full_chroma_int+full_chroma_inp'
# H.273 numbers of JFIF's own matrix, and of "unspecified", which FFmpeg takes for it.
_UNSPECIFIED = 2
_JPEG_MATRICES = frozenset({_UNSPECIFIED, 5, 6})
# Formats whose planes FFmpeg copies or scales to those of a JPEG without a bias, where
# they have the full range as well.
_PLAIN_FORMATS = frozenset({'yuv420p', 'yuvj420p', 'yuva420p', 'nv12', 'nv21'})
_COMPONENTS_OF_COLOUR = 3
_HDR_TRANSFERS = {ColorTrc.SMPTE2084: 'PQ', ColorTrc.ARIB_STD_B67: 'HLG'}
# Tables of a tone mapping take seconds to make, so the last ones are kept.
_KEPT_GRAPHS = 4
# Colour matrices by their numbers in H.273.
MATRICES = {
  0: 'RGB',
  1: 'BT.709',
  _UNSPECIFIED: 'not specified',
  4: 'FCC',
  5: 'BT.601',
  6: 'BT.601',
  7: 'SMPTE 240M',
  8: 'YCgCo',
  9: 'BT.2020',
  10: 'BT.2020 of constant luminance',
  11: "SMPTE 2085 (Y'D'zD'x)",
  12: 'derived from primaries',
  13: 'derived from primaries, of constant luminance',
  14: 'ICtCp',
  15: 'IPT-C2',
  16: 'YCgCo-Re',
  17: 'YCgCo-Ro',
}


def matrix_name(image: av.VideoFrame) -> str:
  """Name of a frame's colour matrix, such as BT.709."""
  return MATRICES.get(image.colorspace, 'reserved')


# --- Geometry -------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Orientation:
  """How stored pixels are turned to be shown: a transpose first, then mirrors."""

  transpose: bool = False
  mirror_x: bool = False
  mirror_y: bool = False

  def apply(self, planes: list[np.ndarray]) -> list[np.ndarray]:
    """Turns planes of `[height, width]` or `[height, width, channels]`."""
    if self.transpose:
      planes = [plane.swapaxes(0, 1) for plane in planes]
    step_x, step_y = -1 if self.mirror_x else 1, -1 if self.mirror_y else 1
    return [plane[::step_y, ::step_x] for plane in planes]


def orientation_of(image: av.VideoFrame) -> Orientation:
  """What the container's display matrix says; angles between right ones are left alone.

  The frame's own `side_data` would tie it into a reference cycle: every frame would stay
  in memory until the garbage collector came by.
  """
  side_data: Any = SideDataContainer(image).get(  # type: ignore[call-arg]
    'DISPLAYMATRIX'
  )
  if side_data is None:
    return Orientation()
  # x' = a x + c y, y' = b x + d y, in pixels with y pointing down.
  a, b, _, c, d = np.frombuffer(memoryview(side_data), np.int32)[:5].tolist()
  if a and d and not b and not c:
    return Orientation(False, a < 0, d < 0)
  if b and c and not a and not d:
    return Orientation(True, c < 0, b < 0)
  return Orientation()


def shown_size(width: int, height: int, pixel_aspect: float) -> tuple[int, int]:
  """Width and height of square pixels; as players do it, the height stays."""
  return max(1, round(width * pixel_aspect)), height


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
  """Width and height after scaling the short side down to `short_side`."""
  short = min(width, height)
  if not short_side or short <= short_side:
    return width, height
  return round(width * short_side / short), round(height * short_side / short)


# --- Colours --------------------------------------------------------------------------


def _limited_to_full(minimum: int, maximum: int) -> np.ndarray:
  """Table from 10 bits of which `minimum` to `maximum` are used to 8 bits of full range."""
  values = (np.arange(1024) - minimum) * 255 / (maximum - minimum)
  return values.round().clip(0, 255).astype(np.uint8)


_FULL_LUMA = _limited_to_full(64, 940)
# Grey is 512 there and 128 here, so the range is 0.5 to 255.5 and not 0 to 255, as FFmpeg
# has it where it converts planes to planes: half a level too little of each colour.
_FULL_CHROMA = (
  ((np.arange(1024) - 512) * 255 / 896 + 128).round().clip(0, 255).astype(np.uint8)
)


def _planes(
  image: av.VideoFrame, channels: int, dtype: Any = np.uint8
) -> list[np.ndarray]:
  """`[height, width]` arrays of a planar image, or one `[height, width, channels]`."""
  result = []
  for plane in image.planes:
    rows = np.frombuffer(memoryview(plane), dtype)
    rows = rows.reshape(-1, plane.line_size // rows.itemsize)
    array = rows[: plane.height, : plane.width * channels]
    shape = (plane.height, plane.width, channels)
    result.append(array.reshape(shape) if channels > 1 else array)
  return result


def hdr_name(image: av.VideoFrame) -> str | None:
  """'PQ' or 'HLG' where a frame has that transfer function; None for the usual range."""
  return _HDR_TRANSFERS.get(image.color_trc)  # type: ignore[call-overload]


def _is_yuv(image: av.VideoFrame) -> bool:
  """Whether components are luma and chroma, of limited range or full."""
  name = image.format.name
  return (
    len(image.format.components) >= _COMPONENTS_OF_COLOUR
    and not image.format.is_rgb
    and not image.format.has_palette
    and not name.startswith(('xyz', 'bayer'))
  )


def _is_full_range(image: av.VideoFrame) -> bool:
  return image.color_range == ColorRange.JPEG or image.format.name.startswith('yuvj')


class _ToneMapping:
  """FFmpeg's perceptual mapping of HDR frames to BT.709."""

  def __init__(self, image: av.VideoFrame, width: int, height: int):
    self._graph = Graph()
    self._graph.threads = 1
    source = self._graph.add(
      'buffer',
      f'video_size={image.width}x{image.height}:pix_fmt={image.format.name}'
      f':time_base=1/{av.time_base}:colorspace={int(image.colorspace)}'
      f':range={int(image.color_range)}',
    )
    options = [f'{width}:{height}:flags={_GRAPH_FLAGS}', 'intent=perceptual']
    options += ['out_transfer=bt709', 'out_primaries=bt709', 'out_range=pc']
    # What comes with HDR where the source doesn't say so.
    if image.color_primaries == ColorPrimaries.UNSPECIFIED:
      options.append('in_primaries=bt2020')
    if _is_yuv(image) and image.colorspace == _UNSPECIFIED:
      options.append('in_color_matrix=bt2020')
    self._graph.link_nodes(
      source,
      self._graph.add('scale', ':'.join(options)),
      self._graph.add('format', 'rgb24'),
      self._graph.add('buffersink'),
    ).configure()

  def __call__(self, image: av.VideoFrame) -> av.VideoFrame:
    self._graph.vpush(image)
    return self._graph.vpull()


class _ToneMappings(threading.local):
  """The last tone mappings of a thread, by what they were made for."""

  def __init__(self) -> None:
    self._kept: dict[tuple, _ToneMapping] = {}

  def find(self, image: av.VideoFrame, width: int, height: int) -> _ToneMapping:
    """The mapping for frames like `image`; made where there is none."""
    key = (
      *(image.width, image.height, image.format.name, width, height),
      *(int(image.colorspace), int(image.color_range)),
      *(int(image.color_trc), int(image.color_primaries)),
    )
    found = self._kept.pop(key, None) or _ToneMapping(image, width, height)
    self._kept[key] = found
    while len(self._kept) > _KEPT_GRAPHS:
      del self._kept[next(iter(self._kept))]
    return found


_tone_mappings = _ToneMappings()


def _settle_matrix(image: av.VideoFrame) -> None:
  """Takes the usual matrix for reserved numbers, as players do: FFmpeg refuses them."""
  if image.colorspace not in MATRICES:
    image.colorspace = _UNSPECIFIED


class Scaler:
  """Scales frames of one source and converts their colours."""

  def __init__(self) -> None:
    self._reformatter = VideoReformatter()

  def scale(self, image: av.VideoFrame, width: int, height: int) -> list[np.ndarray]:
    """Pixels of a frame.

    Args:
      image: any frame that FFmpeg scales; alpha is left out, as it does.
      width: of the result.
      height: of the result.

    Returns:
      Where the frame has a JPEG's matrix, its planes as JFIF has them, `[height, width]`
      of Y and half of that, rounded up, of Cb and Cr; otherwise one RGB array of
      `[height, width, 3]`; uint8.

    Raises:
      decode.FFMPEG_ERRORS: FFmpeg can't convert it.
    """
    _settle_matrix(image)
    if hdr_name(image):
      return _planes(_tone_mappings.find(image, width, height)(image), 3)
    # Between YUV matrices FFmpeg goes through RGB all the same and darkens by two levels,
    # so the encoder then gets the RGB; the planes are three times as fast where they can
    # be.
    if image.colorspace in _JPEG_MATRICES and _is_yuv(image):
      if not _is_full_range(image):
        return self._from_limited_range(image, width, height)
      if image.format.name in _PLAIN_FORMATS:
        return _planes(self._scale(image, width, height, 'yuv420p', ColorRange.JPEG), 1)
    elif image.format.name == 'gray' and image.colorspace in _JPEG_MATRICES:
      return _planes(self._scale(image, width, height, 'yuv420p', ColorRange.JPEG), 1)
    return _planes(self._scale(image, width, height, 'rgb24', ColorRange.JPEG), 3)

  def scale_to_rgb(
    self, image: av.VideoFrame, width: int, height: int
  ) -> list[np.ndarray]:
    """As `scale`, but one RGB array whatever the frame's matrix is."""
    _settle_matrix(image)
    if hdr_name(image):
      return _planes(_tone_mappings.find(image, width, height)(image), 3)
    return _planes(self._scale(image, width, height, 'rgb24', ColorRange.JPEG), 3)

  def _from_limited_range(
    self, image: av.VideoFrame, width: int, height: int
  ) -> list[np.ndarray]:
    # Two bits more than are kept, so that the second rounding costs nothing.
    scaled = self._scale(image, width, height, 'yuv420p10le', ColorRange.MPEG)
    tables = _FULL_LUMA, _FULL_CHROMA, _FULL_CHROMA
    return [
      np.take(table, plane, mode='clip')
      for table, plane in zip(tables, _planes(scaled, 1, '<u2'), strict=True)
    ]

  def _scale(
    self,
    image: av.VideoFrame,
    width: int,
    height: int,
    pixel_format: str,
    color_range: ColorRange,
  ) -> av.VideoFrame:
    return self._reformatter.reformat(
      image,
      width=width,
      height=height,
      format=pixel_format,
      dst_colorspace=Colorspace.ITU601,
      dst_color_range=color_range,
      interpolation=_INTERPOLATION,
      threads=1,
    )

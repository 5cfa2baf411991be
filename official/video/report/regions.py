"""Pictures of regions: which of two views correspond, and where a region looks."""

import base64
import dataclasses
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from official.video.report import plots

if TYPE_CHECKING:
  from PIL import Image

_SCALE = 144  # Pixels that a frame is drawn high.
_GAP = 4


@dataclasses.dataclass(frozen=True)
class Picture:
  """An image of the report and the line under it.

  Attributes:
    image: data URI.
    caption: plain text.
  """

  image: str
  caption: str


def _enlarged(frame: np.ndarray) -> 'Image.Image':
  from PIL import Image

  if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8:
    raise ValueError(f'frame is {frame.dtype} {frame.shape}, expected uint8 [H, W, 3]')
  width = round(_SCALE * frame.shape[1] / frame.shape[0])
  return Image.fromarray(frame).resize((width, _SCALE), Image.Resampling.BICUBIC)


def _outlined(image: 'Image.Image', box: np.ndarray, color: str) -> None:
  from PIL import ImageDraw

  top, left, bottom, right = np.asarray(box) * ([image.height, image.width] * 2)
  draw = ImageDraw.Draw(image)
  inset = (left + 1, top + 1, max(right - 2, left + 2), max(bottom - 2, top + 2))
  draw.rectangle(inset, outline=color, width=3)


def _beside(images: Sequence['Image.Image']) -> str:
  from PIL import Image

  width = sum(image.width for image in images) + _GAP * (len(images) - 1)
  whole = Image.new('RGB', (width, max(image.height for image in images)), '#10141a')
  left = 0
  for image in images:
    whole.paste(image, (left, 0))
    left += image.width + _GAP
  buffer = io.BytesIO()
  whole.save(buffer, 'JPEG', quality=88, optimize=True, subsampling=0)
  return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()


def matches(
  regions: np.ndarray, others: np.ndarray, others_valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """For each region the most similar valid one of the other view, and the cosine.

  Args:
    regions: `[N, C]`.
    others: `[M, C]`.
    others_valid: bool `[M]`, at least one of them true.
  """
  unit = [x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
          for x in (regions, others)]  # fmt: skip
  cosine = np.where(others_valid[None], unit[0] @ unit[1].T, -np.inf)
  return cosine.argmax(1), cosine.max(1)


def correspondence(
  frames: Sequence[np.ndarray],
  boxes: Sequence[np.ndarray],
  regions: Sequence[np.ndarray],
  valid: Sequence[np.ndarray],
  same: bool = True,
) -> Picture:
  """Draws the key frames of two views; a region and its match have one colour.

  Args:
    frames: of both views, uint8 `[H, W, 3]`.
    boxes: of both views, `[N, 4]` top, left, bottom, right as shares.
    regions: of both views, `[N, C]` features.
    valid: of both views, bool `[N]`.
    same: whether place i is the same object in both views, which the caption then counts.

  Raises:
    ValueError: the second view has no valid region.
  """
  if not valid[1].any():
    raise ValueError('the second view has no valid region to match')
  found, cosine = matches(regions[0], regions[1], valid[1])
  images = [_enlarged(frame) for frame in frames]
  parts = []
  for number in np.flatnonzero(valid[0]):
    color = plots.COLORS[number % len(plots.COLORS)]
    _outlined(images[0], boxes[0][number], color)
    _outlined(images[1], boxes[1][found[number]], color)
    parts.append(f'{cosine[number]:.2f}')
  caption = f'cosine of each region and its match: {", ".join(parts)}'
  both = valid[0] & valid[1]
  if same and both.any():
    right = int((found == np.arange(len(found)))[both].sum())
    caption += f'; {right} of {int(both.sum())} match themselves'
  return Picture(_beside(images), caption)


def attention(
  frames: np.ndarray, box: np.ndarray, weights: np.ndarray, key: int | None = None
) -> Picture:
  """Draws where a region looks: the frames of its context, brighter where it attends.

  Args:
    frames: uint8 `[c, H, W, 3]` of the context.
    box: `[4]` top, left, bottom, right as shares, in the key frame.
    weights: `[c, h, w]` that add up to 1, mean over heads and layers or of one.
    key: which frame the box is in; the middle one by default.

  Raises:
    ValueError: frames and weights differ in number.
  """
  from PIL import Image

  if len(frames) != len(weights):
    raise ValueError(f'{len(frames)} frames for {len(weights)} maps of attention')
  key = len(frames) // 2 if key is None else key
  strength = weights / max(float(weights.max()), 1e-12)
  images = []
  for number, frame in enumerate(frames):
    image = _enlarged(frame)
    mask = Image.fromarray((255 * strength[number]).astype(np.uint8))
    mask = mask.resize(image.size, Image.Resampling.BICUBIC)
    shade = np.asarray(mask, np.float32)[..., None] / 255
    grey = np.asarray(image.convert('L').convert('RGB'), np.float32)
    mixed = shade * np.asarray(image, np.float32) + (1 - shade) * grey * 0.35
    image = Image.fromarray(mixed.astype(np.uint8))
    if number == key:
      _outlined(image, box, plots.COLORS[0])
    images.append(image)
  share = ', '.join(f'{100 * part:.0f} %' for part in weights.sum((1, 2)))
  return Picture(_beside(images), f'attention by frame: {share}')

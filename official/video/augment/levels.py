"""Changes of whole pixel levels, those of PIL: what RandAugment is made of.

They take uint8 [T, H, W, 3] of static shape and return the same. What they measure of the
pixels is measured of the whole clip, so all frames change alike. They reckon in integers,
so the levels are the same in every mode and on every device.

All are compiled by XLA, on the host too; what is no tensor is a constant of the graph.
"""

import math
from typing import Any

import tensorflow as tf

# Fractions are counted in 2**-16.
_BITS = 16
_ONE = 1 << _BITS
# Less than a level, but more than what rounding a factor to a fraction takes off it.
_SLACK = 1 << (_BITS - 7)
# Of red, green and blue in PIL's luma, in 2**-16.
_LUMA = (19595, 38470, 7471)
GREY = 128
# Of PIL's SMOOTH filter: the centre's weight, where each of the eight about it has 1.
_CENTRE = 5


def _compiled(function: Any) -> Any:
  return tf.function(function, jit_compile=True, autograph=False)


def _bytes(levels: tf.Tensor) -> tf.Tensor:
  return tf.cast(tf.clip_by_value(levels, 0, 255), tf.uint8)


def _luma(clip: tf.Tensor) -> tf.Tensor:
  """PIL's luma of each pixel, int32 [T, H, W, 1]."""
  weighted = tf.cast(clip, tf.int32) * tf.constant(_LUMA)
  total = tf.reduce_sum(weighted, -1, keepdims=True)
  return tf.bitwise.right_shift(total + _ONE // 2, _BITS)


def _blended(start: tf.Tensor, clip: tf.Tensor, factor: float) -> tf.Tensor:
  """What lies `factor` times as far from `start`, int32, as the clip; rounded down."""
  step = round(factor * _ONE)
  clip = tf.cast(clip, tf.int32)
  return _bytes(
    tf.bitwise.right_shift(start * _ONE + (clip - start) * step + _SLACK, _BITS)
  )


@_compiled
def invert(clip: tf.Tensor) -> tf.Tensor:
  """The negative."""
  return 255 - clip


@_compiled
def posterize(clip: tf.Tensor, bits: int) -> tf.Tensor:
  """Keeps the highest bits of each level, 1 to 8."""
  return tf.bitwise.bitwise_and(clip, tf.constant(256 - (1 << (8 - bits)), tf.uint8))


@_compiled
def solarize(clip: tf.Tensor, threshold: int) -> tf.Tensor:
  """Inverts the levels from `threshold` on."""
  return tf.where(tf.cast(clip, tf.int32) < threshold, clip, 255 - clip)


@_compiled
def solarize_add(clip: tf.Tensor, addition: int, threshold: int = 128) -> tf.Tensor:
  """Makes the levels below `threshold` brighter by `addition`."""
  levels = tf.cast(clip, tf.int32)
  return tf.where(levels < threshold, _bytes(levels + addition), clip)


@_compiled
def color(clip: tf.Tensor, factor: float) -> tf.Tensor:
  """Moves the colours away from their grey; 1 leaves them."""
  return _blended(_luma(clip), clip, factor)


@_compiled
def brightness(clip: tf.Tensor, factor: float) -> tf.Tensor:
  """Moves the levels away from black; 1 leaves them."""
  return _blended(tf.zeros(clip.shape, tf.int32), clip, factor)


@_compiled
def contrast(clip: tf.Tensor, factor: float) -> tf.Tensor:
  """Moves the levels away from the mean luma of the clip; 1 leaves them."""
  # Summed in two steps: over all frames of a long clip, int32 would not do.
  of_frames = tf.cast(tf.reduce_sum(_luma(clip), [1, 2, 3]), tf.int64)
  count = clip.shape[0] * clip.shape[1] * clip.shape[2]
  mean = (2 * tf.reduce_sum(of_frames) + count) // (2 * count)
  return _blended(tf.cast(mean, tf.int32), clip, factor)


@_compiled
def sharpness(clip: tf.Tensor, factor: float) -> tf.Tensor:
  """Moves each frame away from its smoothed one; 1 leaves it. Borders stay."""
  frames, height, width, channels = clip.shape
  if min(height, width) < 3:
    return clip
  levels = tf.cast(clip, tf.int32)
  size = (frames, height - 2, width - 2, channels)
  near = [tf.slice(levels, (0, y, x, 0), size) for y in range(3) for x in range(3)]
  total = tf.add_n(near) + (_CENTRE - 1) * near[4]
  weight = 8 + _CENTRE
  inside = _blended((2 * total + weight) // (2 * weight), near[4], factor)
  rows = tf.concat([clip[:, 1:-1, :1], inside, clip[:, 1:-1, -1:]], 2)
  return tf.concat([clip[:, :1], rows, clip[:, -1:]], 1)


@_compiled
def autocontrast(clip: tf.Tensor) -> tf.Tensor:
  """Stretches each channel so that its extreme levels are 0 and 255."""
  levels = tf.cast(clip, tf.int32)
  low, high = tf.reduce_min(levels, [0, 1, 2]), tf.reduce_max(levels, [0, 1, 2])
  stretched = (levels - low) * 255 // tf.maximum(high - low, 1)
  return tf.where(high > low, _bytes(stretched), clip)


@_compiled
def equalize(clip: tf.Tensor) -> tf.Tensor:
  """Maps the levels of each channel so that all are about as frequent."""
  channels = clip.shape[-1]
  # The levels of all channels in a row, so that one table serves them.
  rows = tf.cast(clip, tf.int32) + 256 * tf.range(channels)
  places = tf.reshape(rows, [-1])
  counts = tf.math.unsorted_segment_sum(tf.ones_like(places), places, 256 * channels)
  counts = tf.reshape(counts, [channels, 256])
  highest = tf.reduce_max(tf.cast(clip, tf.int32), [0, 1, 2])
  of_highest = tf.gather(counts, highest, axis=1, batch_dims=1)[:, None]
  step = (tf.reduce_sum(counts, 1, keepdims=True) - of_highest) // 255
  below = tf.cumsum(counts, 1, exclusive=True)
  table = (below + step // 2) // tf.maximum(step, 1)
  table = tf.where(step > 0, table, tf.range(256))
  return _bytes(tf.gather(tf.reshape(table, [-1]), rows))


Affine = tuple[float, float, float, float, float, float]


@_compiled
def warp(clip: tf.Tensor, transform: Affine, mirrored: Affine, first: tf.Tensor):
  """Each pixel as the one that an affine map finds for it; grey where there is none.

  Args:
    clip: uint8 [T, H, W, 3].
    transform: a, b, c, d, e, f: what is seen at (x, y) lies at (a x + b y + c,
      d x + e y + f), in pixels from the left upper corner of the frame; a pixel's centre
      stands for it.
    mirrored: another one.
    first: bool scalar, whether it is the first of both.

  Returns:
    uint8 [T, H, W, 3], the nearest pixels.
  """
  frames, height, width, channels = clip.shape
  # Centres lie at halves of pixels, so twice as fine a grid has them all.
  x, y = 2 * tf.range(width) + 1, 2 * tf.range(height)[:, None] + 1
  fixed = [
    tf.constant([round(_ONE * n) for n in numbers]) for numbers in (transform, mirrored)
  ]
  a, b, c, d, e, f = tf.unstack(tf.where(first, *fixed))
  column = tf.bitwise.right_shift(a * x + b * y + 2 * c, _BITS + 1)
  row = tf.bitwise.right_shift(d * x + e * y + 2 * f, _BITS + 1)
  inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
  place = tf.where(inside, row * width + column, 0)
  found = tf.gather(
    tf.reshape(clip, [frames, height * width, channels]), tf.reshape(place, [-1]), axis=1
  )
  found = tf.reshape(found, clip.shape)
  return tf.where(inside[..., None], found, tf.constant(GREY, tf.uint8))


def sheared_x(level: float) -> Affine:
  """Rows move by `level` for each row further down."""
  return 1.0, level, 0.0, 0.0, 1.0, 0.0


def sheared_y(level: float) -> Affine:
  """Columns move by `level` for each column further right."""
  return 1.0, 0.0, 0.0, level, 1.0, 0.0


def translated(x: float, y: float) -> Affine:
  """What lay at (x, y) moves to the corner."""
  return 1.0, 0.0, x, 0.0, 1.0, y


def rotated(degrees: float, width: int, height: int) -> Affine:
  """Turns the frame about its middle, counterclockwise."""
  cos, sin = (f(math.radians(degrees)) for f in (math.cos, math.sin))
  x, y = width / 2, height / 2
  return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y

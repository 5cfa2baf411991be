"""Functions of pixels: colour, blur, solarization, the same for all frames of a clip.

They take float32 [T, H, W, 3] in [0, 1] with static shape and, where the docstring says no
more, uint8 too, and return float32 in [0, 1]. Values follow CVRL (arXiv 2008.03800) and
its implementation in the Model Garden.

All are compiled by XLA, on the host too. A pass over a clip costs what its memory traffic
costs, so several changes share a pass (`fused_jitter`), and uint8 pixels are scaled by the
first one. LLVM vectorizes such a pass only if it runs over [pixels, 3], has no branch and
takes its parameters from few buffers: hence `compiled_on_pixels`.
"""

import functools
from typing import Any

import tensorflow as tf

# Below this difference of channels a pixel counts as grey: nothing to saturate or turn.
_GREY = 1e-12
_LUMA = (0.2989, 0.587, 0.114)


def _compiled(function: Any) -> Any:
  return tf.function(function, jit_compile=True, autograph=False)


def compiled_on_pixels(function: Any) -> Any:
  """Compiles a function of pixels [N, 3], and lets it take them in any shape [..., 3]."""
  compiled = _compiled(function)

  @functools.wraps(function)
  def of_clip(clip: tf.Tensor, *args: Any) -> tf.Tensor:
    return tf.reshape(compiled(tf.reshape(clip, [-1, 3]), *args), clip.shape)

  return of_clip


def scaled(pixels: tf.Tensor) -> tf.Tensor:
  """uint8 to float32 in [0, 1], inside a compiled pass; floats as they are."""
  if pixels.dtype == tf.uint8:
    return tf.cast(pixels, tf.float32) * (1 / 255)
  return pixels


def clipped(pixels: tf.Tensor) -> tf.Tensor:
  """Clips to [0, 1]."""
  return tf.clip_by_value(pixels, 0.0, 1.0)


@_compiled
def to_float(clip: tf.Tensor) -> tf.Tensor:
  """uint8 pixels to float32 in [0, 1]."""
  return scaled(clip)


def as_float(clip: tf.Tensor) -> tf.Tensor:
  """A clip as float32 in [0, 1]; one that is, as it is."""
  return clip if clip.dtype.is_floating else to_float(clip)


@_compiled
def adjust_brightness(clip: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """Multiplies by `factor` and clips to [0, 1]."""
  return clipped(scaled(clip) * factor)


def adjust_contrast(clip: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """Scales the distance to each channel's mean over the clip, and clips to [0, 1]."""
  return _move_from(clip, channel_means(clip), factor)


@_compiled
def _move_from(clip: tf.Tensor, mean: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  return clipped((clip - mean) * factor + mean)


@_compiled
def channel_means(clip: tf.Tensor) -> tf.Tensor:
  """The mean of each channel over the clip, in [0, 1], [3]."""
  frames, height, width, channels = clip.shape
  # In steps, because XLA vectorizes the first, which has nearly all the work: over many
  # rows for floats, over the few frames for integers.
  if clip.dtype == tf.uint8:
    clip = tf.reduce_sum(tf.cast(clip, tf.int32), 0, keepdims=True)
    clip = tf.cast(clip, tf.float32) * (1 / 255)
  columns = tf.reduce_sum(tf.reshape(clip, [-1, width * channels]), 0)
  sums = tf.reduce_sum(tf.reshape(columns, [width, channels]), 0)
  return sums / (frames * height * width)


@compiled_on_pixels
def adjust_saturation(clip: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """Multiplies the saturation of HSV by `factor`, up to 1; clips to [0, 1].

  Value and hue stay, so each channel moves away from the largest in proportion.
  """
  return saturated(scaled(clip), factor)


@compiled_on_pixels
def adjust_hue(clip: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
  """Turns the hue of HSV by `delta` of a full turn; clips to [0, 1]."""
  return turned(scaled(clip), hue_corners(delta))


class _Hexcone:
  """What HSV is made of: the extreme channels, and where the others lie between them.

  Attributes:
    largest: largest channel, the value of HSV, [..., 1].
    smallest: smallest channel, [..., 1].
    chroma: their difference, [..., 1].
  """

  def __init__(self, pixels: tf.Tensor):
    self._channels = red, green, blue = tf.split(pixels, 3, -1)
    self.largest = tf.maximum(tf.maximum(red, green), blue)
    self.smallest = tf.minimum(tf.minimum(red, green), blue)
    self.chroma = self.largest - self.smallest

  def turned(self, corners: tf.Tensor) -> tf.Tensor:
    """The pixels with another hue, [..., 3]; `corners` as of `hue_corners`.

    The channel at place p on the hue circle of 6 lies min(p, 4 - p) chromas below the
    largest, between none and one. With p up to 11 and counted from 5, that is
    2 - abs(abs(p) - 3). Times the chroma, it takes no division.
    """
    red, green, blue = self._channels
    # The hue times the chroma, in sixths of a turn: dividing would need a guard for greys.
    hue = tf.where(
      self.largest == red,
      green - blue,
      tf.where(
        self.largest == green,
        blue - red + 2 * self.chroma,
        red - green + 4 * self.chroma,
      ),
    )
    place = tf.abs(tf.abs(hue + self.chroma * corners) - 3 * self.chroma)
    turned = self.largest - 2 * self.chroma + place
    return tf.maximum(tf.minimum(turned, self.largest), self.smallest)

  def saturated(self, pixels: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Pixels of this largest channel and chroma with another saturation, [..., 3]."""
    # The saturation is the chroma over the largest channel, at most 1: hence `most`.
    loss = self.largest - pixels
    # Divided for each channel, because XLA gives a division that several others read a
    # pass of its own.
    most = loss * self.largest / tf.maximum(self.chroma, _GREY)
    return tf.maximum(self.largest - tf.minimum(loss * factor, most), 0.0)


def hue_corners(delta: tf.Tensor) -> tf.Tensor:
  """Where red, green and blue lie on the hue circle of 6 after a turn, counted from 5."""
  return tf.math.floormod(6 * delta + tf.constant([5.0, 3.0, 1.0]), 6.0) - 5


def saturated(pixels: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """As `adjust_saturation`, inside a compiled pass."""
  return _Hexcone(pixels).saturated(pixels, factor)


def turned(pixels: tf.Tensor, corners: tf.Tensor) -> tf.Tensor:
  """As `adjust_hue`, inside a compiled pass; `corners` are of `hue_corners`."""
  return _Hexcone(pixels).turned(corners)


def saturated_and_turned(
  pixels: tf.Tensor, factor: tf.Tensor, corners: tf.Tensor
) -> tf.Tensor:
  """Both in either order: neither changes what the other reads."""
  cone = _Hexcone(pixels)
  return cone.saturated(cone.turned(corners), factor)


@compiled_on_pixels
def to_grayscale(clip: tf.Tensor) -> tf.Tensor:
  """The luma of each pixel, in all three channels."""
  channels = tf.split(scaled(clip), 3, 1)
  luma = sum(weight * x for weight, x in zip(_LUMA, channels, strict=True))
  return tf.tile(luma, [1, 3])


@_compiled
def solarize(clip: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
  """Inverts the values at or above `threshold`."""
  clip = scaled(clip)
  return tf.where(clip < threshold, clip, 1 - clip)


def gaussian_blur(clip: tf.Tensor, sigma: tf.Tensor, radius: int) -> tf.Tensor:
  """Blurs each frame with 2 * radius + 1 Gaussian taps an axis; zeros lie outside.

  Args:
    clip: float32 [T, H, W, 3].
    sigma: float32 scalar, standard deviation in pixels.
    radius: taps on either side of the centre.

  Returns:
    The blurred clip, clipped to [0, 1].
  """
  return blurred(clip, gaussian_taps(sigma, radius, radius))


def gaussian_taps(sigma: tf.Tensor, size: int, radius: int | tf.Tensor) -> tf.Tensor:
  """The central tap and `size` to one side, of a kernel that is zero beyond `radius`."""
  places = tf.range(size + 1)
  taps = tf.exp(-0.5 * tf.square(tf.cast(places, tf.float32) / sigma))
  taps = tf.where(places <= radius, taps, 0.0)
  return taps / (2 * tf.reduce_sum(taps) - taps[0])


def blurred(clip: tf.Tensor, taps: tf.Tensor) -> tf.Tensor:
  """Blurs with a symmetric kernel of which `taps` [R + 1] is one half."""
  if taps.shape[0] == 1:
    return clip
  frames, height, width, channels = clip.shape
  margin = (taps.shape[0] - 1) * channels
  rows = tf.reshape(clip, [frames, height, width * channels])
  # Padded outside the compiled pass, which would pad anew for every tap.
  rows = _blur_across(tf.pad(rows, [[0, 0], [0, 0], [margin, margin]]), taps, channels)
  return tf.reshape(_blur_down(rows, taps), clip.shape)


@_compiled
def _blur_across(rows: tf.Tensor, taps: tf.Tensor, step: int) -> tf.Tensor:
  """Blurs along the padded last axis, and pads the one before for `_blur_down`."""
  radius = taps.shape[0] - 1
  return tf.pad(
    _weighted_shifts(rows, taps, axis=2, step=step), [[0, 0], [radius, radius], [0, 0]]
  )


@_compiled
def _blur_down(rows: tf.Tensor, taps: tf.Tensor) -> tf.Tensor:
  return clipped(_weighted_shifts(rows, taps, axis=1, step=1))


def _weighted_shifts(rows: tf.Tensor, taps: tf.Tensor, axis: int, step: int) -> tf.Tensor:
  """Sum of rows shifted by up to R steps either way along an axis.

  The shifts by i steps both weigh taps[i], so they are added before they are weighed.
  """
  radius = taps.shape[0] - 1
  size = rows.shape.as_list()
  size[axis] -= 2 * radius * step

  def shifted(steps: int) -> tf.Tensor:
    begin = [0, 0, 0]
    begin[axis] = (radius + steps) * step
    return tf.slice(rows, begin, size)

  total = taps[0] * shifted(0)
  for i in range(1, radius + 1):
    total += taps[i] * (shifted(-i) + shifted(i))
  return total

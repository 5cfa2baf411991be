"""Photometric augmentation of one clip, the same for all its frames.

An operation takes a clip, float32 [T, H, W, 3] in [0, 1] with static shape, and a key. Its
`draw` is the draw of its parameters, its `apply` the change they make, so either can be
looked at alone; calling it does both, and skips the work when the draw says so. Values and
order follow CVRL (arXiv 2008.03800) and its implementation in the Model Garden.

The pixel functions are compiled by XLA, on the host too: fused, they take a third of the
time that TensorFlow's own kernels take one by one.
"""

import abc
import math
from typing import Any, TypeAlias

import gin
import tensorflow as tf

from official.video.data import draws

Draws: TypeAlias = dict[str, tf.Tensor]

# Below this difference of channels a pixel counts as grey: nothing to saturate or turn.
_GREY = 1e-12
_LUMA = (0.2989, 0.587, 0.114)


def _compiled(function: Any) -> Any:
  return tf.function(function, jit_compile=True, autograph=False)


@_compiled
def to_float(clip: tf.Tensor) -> tf.Tensor:
  """uint8 pixels to float32 in [0, 1]."""
  return tf.cast(clip, tf.float32) * (1 / 255)


@_compiled
def adjust_brightness(clip: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """Multiplies by `factor` and clips to [0, 1]."""
  return tf.clip_by_value(clip * factor, 0.0, 1.0)


@_compiled
def adjust_contrast(clip: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """Scales the distance to each channel's mean over the clip, and clips to [0, 1]."""
  frames, height, width, channels = clip.shape
  # In two steps, because XLA vectorizes the first and it has nearly all the work.
  columns = tf.reduce_mean(tf.reshape(clip, [frames * height, width * channels]), 0)
  mean = tf.reduce_mean(tf.reshape(columns, [width, channels]), 0)
  return tf.clip_by_value((clip - mean) * factor + mean, 0.0, 1.0)


@_compiled
def adjust_saturation(clip: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """Multiplies the saturation of HSV by `factor`, up to 1; clips to [0, 1].

  Value and hue stay, so each channel moves away from the largest in proportion.
  """
  channels, largest, chroma = _hexcone(clip)
  gain = tf.minimum(factor, largest / tf.maximum(chroma, _GREY))
  moved = [largest - (largest - channel) * gain for channel in channels]
  return tf.clip_by_value(tf.stack(moved, -1), 0.0, 1.0)


@_compiled
def adjust_hue(clip: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
  """Turns the hue of HSV by `delta` of a full turn; clips to [0, 1]."""
  (red, green, blue), largest, chroma = _hexcone(clip)
  scale = 1 / tf.maximum(chroma, _GREY)
  sixths = tf.where(
    largest == red,
    (green - blue) * scale,
    tf.where(largest == green, 2 + (blue - red) * scale, 4 + (red - green) * scale),
  )
  sixths += 6 * delta
  turned = []
  for corner in (5.0, 3.0, 1.0):
    place = sixths + corner
    place -= 6 * tf.floor(place * (1 / 6))
    loss = tf.clip_by_value(tf.minimum(place, 4 - place), 0.0, 1.0)
    turned.append(largest - chroma * loss)
  return tf.clip_by_value(tf.stack(turned, -1), 0.0, 1.0)


def _hexcone(clip: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
  """The three channels, the largest of them, and the difference to the smallest."""
  red, green, blue = (clip[..., channel] for channel in range(3))
  largest = tf.maximum(tf.maximum(red, green), blue)
  smallest = tf.minimum(tf.minimum(red, green), blue)
  return [red, green, blue], largest, largest - smallest


@_compiled
def to_grayscale(clip: tf.Tensor) -> tf.Tensor:
  """The luma of each pixel, in all three channels."""
  luma = sum(weight * clip[..., i] for i, weight in enumerate(_LUMA))
  return tf.stack([luma] * 3, -1)


@_compiled
def solarize(clip: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
  """Inverts the values at or above `threshold`."""
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
  if radius == 0:
    return clip
  frames, height, width, channels = clip.shape
  taps = tf.exp(-0.5 * tf.square(tf.range(-radius, radius + 1, dtype=tf.float32) / sigma))
  taps /= tf.reduce_sum(taps)
  # Padded once and outside the compiled passes, which would redo it for every tap.
  rows = tf.reshape(clip, [frames, height, width * channels])
  margin = [[0, 0], [radius, radius], [radius * channels, radius * channels]]
  padded = tf.pad(rows, margin)
  blurred = _weighted_shifts(padded, taps, axis=2, step=channels)
  blurred = _weighted_shifts(blurred, taps, axis=1, step=1)
  return tf.reshape(blurred, clip.shape)


@_compiled
def _weighted_shifts(rows: tf.Tensor, taps: tf.Tensor, axis: int, step: int) -> tf.Tensor:
  """Sum over i of taps[i] * rows shifted by i * step along an axis, clipped to [0, 1]."""
  shape = rows.shape.as_list()
  shape[axis] -= (taps.shape[0] - 1) * step
  begins = [
    [i * step if a == axis else 0 for a in range(3)] for i in range(taps.shape[0])
  ]
  total = tf.add_n([taps[i] * tf.slice(rows, b, shape) for i, b in enumerate(begins)])
  return tf.clip_by_value(total, 0.0, 1.0)


class PhotometricOp(abc.ABC):
  """A random change of a clip's pixels: its draw and its effect.

  Extend it with a `draw` that returns at least the bool 'applied', and an `apply` that
  takes the same dict. Draw names need to be unique within one operation only.
  """

  @abc.abstractmethod
  def draw(self, key: tf.Tensor) -> Draws:
    """The parameters under a key, scalars by name; 'applied' says whether to act."""

  @abc.abstractmethod
  def apply(self, clip: tf.Tensor, drawn: Draws) -> tf.Tensor:
    """The clip, float32 [T, H, W, 3] in [0, 1], changed as drawn."""

  def __call__(self, clip: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Draws and applies."""
    drawn = self.draw(key)
    changed = tf.cond(drawn['applied'], lambda: self.apply(clip, drawn), lambda: clip)
    return tf.ensure_shape(changed, clip.shape)


@gin.configurable
class ColorJitter(PhotometricOp):
  """Brightness, contrast, saturation and hue in random order, clipped after each.

  Args:
    brightness: the factor is uniform in [max(0, 1 - brightness), 1 + brightness).
    contrast: likewise.
    saturation: likewise.
    hue: the turn is uniform in [-hue, hue) of the full circle.
    probability: of acting at all.
  """

  def __init__(
    self,
    brightness: float = 0.8,
    contrast: float = 0.8,
    saturation: float = 0.8,
    hue: float = 0.2,
    probability: float = 0.8,
  ):
    self._strengths = {
      'brightness': brightness,
      'contrast': contrast,
      'saturation': saturation,
    }
    self._hue = hue
    self._probability = probability

  def draw(self, key: tf.Tensor) -> Draws:
    """Scalars 'applied', the three factors and 'hue'; 'order', a permutation of 4."""
    drawn = {
      name: draws.uniform(key, name, (), max(0.0, 1.0 - strength), 1.0 + strength)
      for name, strength in self._strengths.items()
    }
    return drawn | {
      'hue': draws.uniform(key, 'hue', (), -self._hue, self._hue),
      'order': draws.permutation(key, 'order', 4),
      'applied': draws.bernoulli(key, 'applied', self._probability),
    }

  def apply(self, clip: tf.Tensor, drawn: Draws) -> tf.Tensor:
    """Runs the four changes, 0 brightness to 3 hue, as 'order' says."""

    def step(index: tf.Tensor, clip: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      branches = [
        lambda: adjust_brightness(clip, drawn['brightness']),
        lambda: adjust_contrast(clip, drawn['contrast']),
        lambda: adjust_saturation(clip, drawn['saturation']),
        lambda: adjust_hue(clip, drawn['hue']),
      ]
      changed = tf.switch_case(drawn['order'][index], branches)
      return index + 1, tf.ensure_shape(changed, clip.shape)

    # A loop, because XLA's compile time explodes on a chain of four switches.
    return tf.while_loop(
      lambda index, _: index < 4, step, (tf.constant(0), clip), maximum_iterations=4
    )[1]


@gin.configurable
class Grayscale(PhotometricOp):
  """Takes the colour away.

  Args:
    probability: of acting at all.
  """

  def __init__(self, probability: float = 0.2):
    self._probability = probability

  def draw(self, key: tf.Tensor) -> Draws:
    """'applied' alone."""
    return {'applied': draws.bernoulli(key, 'applied', self._probability)}

  def apply(self, clip: tf.Tensor, drawn: Draws) -> tf.Tensor:
    """See `to_grayscale`."""
    del drawn
    return to_grayscale(clip)


@gin.configurable
class GaussianBlur(PhotometricOp):
  """Blurs with a random width.

  The kernel has 2 * ((H // 10) // 2) + 1 taps at height H. Taps beyond four of the largest
  sigma are left out: together they weigh less than 7e-5.

  Args:
    min_sigma: smallest standard deviation, in pixels.
    max_sigma: largest standard deviation, in pixels.
    probability: of acting at all.
  """

  def __init__(
    self, min_sigma: float = 0.1, max_sigma: float = 2.0, probability: float = 1.0
  ):
    self._range = min_sigma, max_sigma
    self._probability = probability

  def draw(self, key: tf.Tensor) -> Draws:
    """Scalars 'applied' and 'sigma'."""
    return {
      'sigma': draws.uniform(key, 'sigma', (), *self._range),
      'applied': draws.bernoulli(key, 'applied', self._probability),
    }

  def apply(self, clip: tf.Tensor, drawn: Draws) -> tf.Tensor:
    """See `gaussian_blur`."""
    radius = min(clip.shape[1] // 10 // 2, math.ceil(4 * self._range[1]))
    return gaussian_blur(clip, drawn['sigma'], radius)


@gin.configurable
class Solarize(PhotometricOp):
  """Inverts bright values.

  Args:
    threshold: smallest value that is inverted.
    probability: of acting at all.
  """

  def __init__(self, threshold: float = 0.5, probability: float = 0.2):
    self._threshold = threshold
    self._probability = probability

  def draw(self, key: tf.Tensor) -> Draws:
    """'applied' alone."""
    return {'applied': draws.bernoulli(key, 'applied', self._probability)}

  def apply(self, clip: tf.Tensor, drawn: Draws) -> tf.Tensor:
    """See `solarize`."""
    del drawn
    return solarize(clip, tf.constant(self._threshold))

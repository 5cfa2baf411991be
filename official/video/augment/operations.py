"""Photometric operations: a random change of one clip's pixels, alike in all frames.

An operation takes a clip and a key. Its `draw` is the draw of its parameters, its `apply`
the change they make, so either can be looked at alone; calling it does both, and skips the
work when the draw says so. Values and order follow CVRL (arXiv 2008.03800) and its
implementation in the Model Garden.
"""

import abc
import functools
import math
from collections.abc import Sequence
from typing import TypeAlias

import gin
import numpy as np
import tensorflow as tf

from official.video import draws
from official.video.augment import fused_jitter, pixels

Draws: TypeAlias = dict[str, tf.Tensor]

_ADJUSTMENTS = {
  'brightness': pixels.adjust_brightness,
  'contrast': pixels.adjust_contrast,
  'saturation': pixels.adjust_saturation,
  'hue': pixels.adjust_hue,
}
# Weight of the taps that a blur may leave out, of 1.
_NEGLIGIBLE = 1e-4
# The module under which users' gin files may name the operations.
_configurable = gin.configurable(module='official.video.augment.photometric')


class PhotometricOp(abc.ABC):
  """A random change of a clip's pixels: its draw and its effect.

  Extend it with a `draw` that returns at least the bool 'applied', and an `apply` that
  takes the same dict. Draw names need to be unique within one operation only.

  Attributes:
    moves: whether what is seen moves in the frame, so that boxes would not fit any more.
  """

  moves = False

  @abc.abstractmethod
  def draw(self, key: tf.Tensor) -> Draws:
    """The parameters under a key, scalars by name; 'applied' says whether to act."""

  @abc.abstractmethod
  def apply(self, clip: tf.Tensor, drawn: Draws) -> tf.Tensor:
    """The clip, float32 [T, H, W, 3] in [0, 1], changed as drawn."""

  def apply_on_host(self, clip: tf.Tensor, drawn: Draws) -> tf.Tensor:
    """What `apply` returns, made in the way that suits a CPU; the clip may be uint8."""
    return self.apply(pixels.as_float(clip), drawn)

  def __call__(
    self, clip: tf.Tensor, key: tf.Tensor, on_device: bool = False
  ) -> tf.Tensor:
    """Draws and applies.

    Args:
      clip: uint8, or float32 in [0, 1], [T, H, W, 3] with static shape.
      key: int32 [2].
      on_device: this is a part of a compiled train step, where one large graph is best;
        otherwise functions are compiled one by one, as they are needed.

    Returns:
      float32 in [0, 1], the same shape.
    """
    drawn = self.draw(key)

    def changed() -> tf.Tensor:
      if on_device:
        return self.apply(pixels.as_float(clip), drawn)
      return self.apply_on_host(clip, drawn)

    result = tf.cond(drawn['applied'], changed, lambda: pixels.as_float(clip))
    return tf.ensure_shape(result, clip.shape)


@_configurable
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
    """Scalars 'applied' and of all `fused_jitter.CHANGES`; 'order', their permutation."""
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
    """Runs the four changes, one after the other, as 'order' numbers them."""

    def step(index: tf.Tensor, clip: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      branches = [
        functools.partial(_ADJUSTMENTS[name], clip, drawn[name])
        for name in fused_jitter.CHANGES
      ]
      changed = tf.switch_case(drawn['order'][index], branches)
      return index + 1, tf.ensure_shape(changed, clip.shape)

    # A loop, because XLA's compile time explodes on a chain of four switches.
    return tf.while_loop(
      lambda index, _: index < 4, step, (tf.constant(0), clip), maximum_iterations=4
    )[1]

  def apply_on_host(self, clip: tf.Tensor, drawn: Draws) -> tf.Tensor:
    """Runs them in one pass or two; see `fused_jitter`."""
    return fused_jitter.jittered(clip, drawn)


@_configurable
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
    """See `pixels.to_grayscale`."""
    del drawn
    return pixels.to_grayscale(clip)

  apply_on_host = apply


@_configurable
class GaussianBlur(PhotometricOp):
  """Blurs with a random width.

  The kernel has 2 * ((H // 10) // 2) + 1 taps at height H. Of these, outer ones are left
  out that together weigh less than 1e-4 at the sigma drawn.

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
    """See `pixels.gaussian_blur`; always of the largest radius, as XLA wants one shape."""
    radii = self._radii(clip)
    radius = tf.gather(radii, self._choice(drawn['sigma'], radii))
    return pixels.blurred(clip, pixels.gaussian_taps(drawn['sigma'], radii[-1], radius))

  def apply_on_host(self, clip: tf.Tensor, drawn: Draws) -> tf.Tensor:
    """Leaves out the taps that `apply` sets to zero: a small sigma takes a cheap branch."""
    clip, radii = pixels.as_float(clip), self._radii(clip)
    blurs = [
      functools.partial(pixels.gaussian_blur, clip, drawn['sigma'], r) for r in radii
    ]
    return tf.switch_case(self._choice(drawn['sigma'], radii), blurs)

  def _radii(self, clip: tf.Tensor) -> list[int]:
    return _blur_radii(clip.shape[1] // 10 // 2, self._range[1])

  def _choice(self, sigma: tf.Tensor, radii: Sequence[int]) -> tf.Tensor:
    """Which of some rising radii is the smallest that does for a sigma."""
    limits = tf.constant([_largest_sigma(r) for r in radii[:-1]], tf.float32)
    return tf.math.count_nonzero(sigma > limits, dtype=tf.int32)


def _blur_radii(largest: int, max_sigma: float) -> list[int]:
  """Up to four radii to choose from, of which the last does for `max_sigma`."""
  enough = next((r for r in range(largest) if _largest_sigma(r) >= max_sigma), largest)
  return sorted({math.ceil(enough * part / 4) for part in range(1, 5)})


@functools.cache
def _largest_sigma(radius: int) -> float:
  """Up to which sigma all taps beyond a radius are negligible together."""
  # The share left out grows with sigma, so bisection finds where it becomes too much.
  squares = np.square(np.arange(20 * radius + 20))
  low, high = 0.0, 2.0 * radius + 2.0
  while high - low > 1e-6:
    sigma = (low + high) / 2
    taps = np.exp(-0.5 * squares / sigma**2)
    left_out = 2 * taps[radius + 1 :].sum() / (2 * taps.sum() - 1)
    low, high = (sigma, high) if left_out < _NEGLIGIBLE else (low, sigma)
  return low


@_configurable
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
    """See `pixels.solarize`."""
    del drawn
    return pixels.solarize(clip, tf.constant(self._threshold))

  apply_on_host = apply

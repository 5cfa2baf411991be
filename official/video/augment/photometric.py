"""Photometric augmentation of one clip, the same for all its frames.

An operation takes a clip, float32 [T, H, W, 3] in [0, 1] with static shape, and a key. Its
`draw` is the draw of its parameters, its `apply` the change they make, so either can be
looked at alone; calling it does both, and skips the work when the draw says so. Values and
order follow CVRL (arXiv 2008.03800) and its implementation in the Model Garden.

The pixel functions are compiled by XLA, on the host too. A pass over a clip costs what its
memory traffic costs, so several changes share a pass, and uint8 pixels are scaled by the
first one. LLVM vectorizes such a pass only if it runs over [pixels, 3], has no branch and
takes its parameters from few buffers: hence [N, 3] and the `_settings` below.
"""

import abc
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import gin
import numpy as np
import tensorflow as tf

from official.video import draws

Draws: TypeAlias = dict[str, tf.Tensor]

# Below this difference of channels a pixel counts as grey: nothing to saturate or turn.
_GREY = 1e-12
_LUMA = (0.2989, 0.587, 0.114)
# Weight of the taps that a blur may leave out, of 1.
_NEGLIGIBLE = 1e-4


def _compiled(function: Any) -> Any:
  return tf.function(function, jit_compile=True, autograph=False)


def _compiled_on_pixels(function: Any) -> Any:
  """Compiles a function of pixels [N, 3], and lets it take them in any shape [..., 3]."""
  compiled = _compiled(function)

  @functools.wraps(function)
  def of_clip(clip: tf.Tensor, *args: Any) -> tf.Tensor:
    return tf.reshape(compiled(tf.reshape(clip, [-1, 3]), *args), clip.shape)

  return of_clip


def _scaled(pixels: tf.Tensor) -> tf.Tensor:
  if pixels.dtype == tf.uint8:
    return tf.cast(pixels, tf.float32) * (1 / 255)
  return pixels


def _clipped(pixels: tf.Tensor) -> tf.Tensor:
  return tf.clip_by_value(pixels, 0.0, 1.0)


@_compiled
def to_float(clip: tf.Tensor) -> tf.Tensor:
  """uint8 pixels to float32 in [0, 1]."""
  return _scaled(clip)


@_compiled
def adjust_brightness(clip: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """Multiplies by `factor` and clips to [0, 1]."""
  return _clipped(_scaled(clip) * factor)


def adjust_contrast(clip: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """Scales the distance to each channel's mean over the clip, and clips to [0, 1]."""
  return _move_from(clip, channel_means(clip), factor)


@_compiled
def _move_from(clip: tf.Tensor, mean: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  return _clipped((clip - mean) * factor + mean)


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


@_compiled_on_pixels
def adjust_saturation(clip: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  """Multiplies the saturation of HSV by `factor`, up to 1; clips to [0, 1].

  Value and hue stay, so each channel moves away from the largest in proportion.
  """
  return _saturated(_scaled(clip), factor)


@_compiled_on_pixels
def adjust_hue(clip: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
  """Turns the hue of HSV by `delta` of a full turn; clips to [0, 1]."""
  return _turned(_scaled(clip), _hue_corners(delta))


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
    """The pixels with another hue, [..., 3]; `corners` as of `_hue_corners`.

    The channel at place p on the hue circle of 6 lies min(p, 4 - p) chromas below the
    largest, between none and one. With p up to 11 and counted from 5, that is
    2 - abs(abs(p) - 3). Times the chroma, it takes no division.
    """
    red, green, blue = self._channels
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
    loss = self.largest - pixels
    # Divided for each channel, because XLA gives a division that several others read a
    # pass of its own.
    most = loss * self.largest / tf.maximum(self.chroma, _GREY)
    return tf.maximum(self.largest - tf.minimum(loss * factor, most), 0.0)


def _hue_corners(delta: tf.Tensor) -> tf.Tensor:
  """Where red, green and blue lie on the hue circle of 6 after a turn, counted from 5."""
  return tf.math.floormod(6 * delta + tf.constant([5.0, 3.0, 1.0]), 6.0) - 5


def _saturated(pixels: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
  return _Hexcone(pixels).saturated(pixels, factor)


def _turned(pixels: tf.Tensor, corners: tf.Tensor) -> tf.Tensor:
  return _Hexcone(pixels).turned(corners)


def _saturated_and_turned(
  pixels: tf.Tensor, factor: tf.Tensor, corners: tf.Tensor
) -> tf.Tensor:
  """Both in either order: neither changes what the other reads."""
  cone = _Hexcone(pixels)
  return cone.saturated(cone.turned(corners), factor)


@_compiled_on_pixels
def to_grayscale(clip: tf.Tensor) -> tf.Tensor:
  """The luma of each pixel, in all three channels."""
  channels = tf.split(_scaled(clip), 3, 1)
  luma = sum(weight * x for weight, x in zip(_LUMA, channels, strict=True))
  return tf.tile(luma, [1, 3])


@_compiled
def solarize(clip: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
  """Inverts the values at or above `threshold`."""
  clip = _scaled(clip)
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
  return _blurred(clip, _gaussian_taps(sigma, radius, radius))


def _gaussian_taps(sigma: tf.Tensor, size: int, radius: int | tf.Tensor) -> tf.Tensor:
  """The central tap and `size` to one side, of a kernel that is zero beyond `radius`."""
  places = tf.range(size + 1)
  taps = tf.exp(-0.5 * tf.square(tf.cast(places, tf.float32) / sigma))
  taps = tf.where(places <= radius, taps, 0.0)
  return taps / (2 * tf.reduce_sum(taps) - taps[0])


def _blurred(clip: tf.Tensor, taps: tf.Tensor) -> tf.Tensor:
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
  return _clipped(_weighted_shifts(rows, taps, axis=1, step=1))


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

  def apply_on_host(self, clip: tf.Tensor, drawn: Draws) -> tf.Tensor:
    """What `apply` returns, made in the way that suits a CPU; the clip may be uint8."""
    return self.apply(_as_float(clip), drawn)

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
        return self.apply(_as_float(clip), drawn)
      return self.apply_on_host(clip, drawn)

    result = tf.cond(drawn['applied'], changed, lambda: _as_float(clip))
    return tf.ensure_shape(result, clip.shape)


def _as_float(clip: tf.Tensor) -> tf.Tensor:
  return clip if clip.dtype.is_floating else to_float(clip)


_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
# What one pass over the pixels can do, in its order. Brightness is nearly free, so it
# stands wherever it may come, with a factor of one where it does not.
_PASSES = (
  ('brightness',),
  ('brightness', 'saturation', 'late brightness'),
  ('brightness', 'hue', 'late brightness'),
  ('brightness', 'saturation and hue', 'late brightness'),
  ('saturation', 'late brightness', 'hue'),
  ('hue', 'late brightness', 'saturation'),
)


def _plan_pass(changes: Sequence[int]) -> tuple[int, bool, bool]:
  """Which of `_PASSES` makes some changes of distinct kinds in order.

  Returns:
    Its number, whether it brightens, whether it brightens late. Contrast is not its part.
  """
  cone = [change for change in changes if change in (_SATURATION, _HUE)]
  if _BRIGHTNESS not in changes:
    before = len(cone)
  else:
    before = sum(c in cone for c in changes[: changes.index(_BRIGHTNESS)])
  if len(cone) == 2:
    number = 3 if before != 1 else 4 if cone[0] == _SATURATION else 5
  else:
    number = {(): 0, (_SATURATION,): 1, (_HUE,): 2}[tuple(cone)]
  brightens = _BRIGHTNESS in changes
  return number, brightens and before == 0, brightens and before > 0


def _plan_passes() -> np.ndarray:
  """The passes before contrast and after it, for each order of the four changes.

  Returns:
    int32 [256, 2, 3], by the order read as a number of base four.
  """
  plans = np.zeros([4**4, 2, 3], np.int32)
  for order in itertools.permutations(range(4)):
    place = order.index(_CONTRAST)
    number = int(np.dot(order, _ORDER_BASE))
    plans[number] = [_plan_pass(order[:place]), _plan_pass(order[place + 1 :])]
  return plans


_ORDER_BASE = (64, 16, 4, 1)
_PLANS = _plan_passes()


def _pass_of(
  changes: Sequence[str], contrast: bool
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
  """Compiles a pass, with contrast as its first change or without; see `_settings`."""

  @_compiled_on_pixels
  def run(pixels: tf.Tensor, settings: tf.Tensor) -> tf.Tensor:
    early, late, factor, corners, scale, offset = tf.unstack(settings)
    pixels = _scaled(pixels)
    if contrast:
      pixels = _clipped(pixels * scale + offset)
    for change in changes:
      if change == 'brightness':
        pixels = tf.minimum(pixels * early, 1.0)
      elif change == 'late brightness':
        pixels = tf.minimum(pixels * late, 1.0)
      elif change == 'saturation':
        pixels = _saturated(pixels, factor)
      elif change == 'hue':
        pixels = _turned(pixels, corners)
      else:
        pixels = _saturated_and_turned(pixels, factor, corners)
    return pixels

  return run


# By whether contrast comes first.
_COMPILED_PASSES = [
  [_pass_of(changes, contrast) for changes in _PASSES] for contrast in (False, True)
]


def _run_pass(
  clip: tf.Tensor, plan: tf.Tensor, drawn: Draws, mean: tf.Tensor | None = None
) -> tf.Tensor:
  """Makes one pass of `_PLANS`, from contrast around `mean` on if there is a mean."""
  settings = _settings(plan, drawn, tf.zeros([3]) if mean is None else mean)
  passes = _COMPILED_PASSES[mean is not None]
  branches = [functools.partial(run, clip, settings) for run in passes]
  return tf.ensure_shape(tf.switch_case(plan[0], branches), clip.shape)


def _settings(plan: tf.Tensor, drawn: Draws, mean: tf.Tensor) -> tf.Tensor:
  """What a pass reads, in one buffer: [6, 3], a row for each factor or offset."""
  brightness = tf.where(plan[1:] == 1, drawn['brightness'], 1.0)
  contrast, saturation = drawn['contrast'], drawn['saturation']
  return tf.stack(
    [
      tf.fill([3], brightness[0]),
      tf.fill([3], brightness[1]),
      tf.fill([3], saturation),
      _hue_corners(drawn['hue']),
      tf.fill([3], contrast),
      (1 - contrast) * mean,
    ]
  )


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

  def apply_on_host(self, clip: tf.Tensor, drawn: Draws) -> tf.Tensor:
    """Runs them in two passes, because contrast needs the mean of what comes before it.

    If nothing does, in one.
    """
    number = tf.tensordot(drawn['order'], tf.constant(_ORDER_BASE), 1)
    before, after = tf.unstack(tf.gather(_PLANS, number))

    def from_contrast_on(clip: tf.Tensor) -> tf.Tensor:
      return _run_pass(clip, after, drawn, channel_means(clip))

    return tf.cond(
      drawn['order'][0] == _CONTRAST,
      lambda: from_contrast_on(clip),
      lambda: from_contrast_on(_run_pass(clip, before, drawn)),
    )


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

  apply_on_host = apply


@gin.configurable
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
    """See `gaussian_blur`."""
    radii = self._radii(clip)
    radius = tf.gather(radii, self._choice(drawn['sigma'], radii))
    return _blurred(clip, _gaussian_taps(drawn['sigma'], radii[-1], radius))

  def apply_on_host(self, clip: tf.Tensor, drawn: Draws) -> tf.Tensor:
    """Leaves out the taps that `apply` sets to zero."""
    clip, radii = _as_float(clip), self._radii(clip)
    blurs = [functools.partial(gaussian_blur, clip, drawn['sigma'], r) for r in radii]
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
  squares = np.square(np.arange(20 * radius + 20))
  low, high = 0.0, 2.0 * radius + 2.0
  while high - low > 1e-6:
    sigma = (low + high) / 2
    taps = np.exp(-0.5 * squares / sigma**2)
    left_out = 2 * taps[radius + 1 :].sum() / (2 * taps.sum() - 1)
    low, high = (sigma, high) if left_out < _NEGLIGIBLE else (low, sigma)
  return low


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

  apply_on_host = apply

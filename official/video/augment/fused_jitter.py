"""Colour jitter in two passes over a clip, or one: what suits a CPU.

Jitter makes four changes in an order that is drawn. One after the other they would read
and write the clip four times, which is what they cost. Contrast alone needs to know the
whole clip (its mean), so what comes before it can share one pass over the pixels, and
contrast with what comes after it another.

A pass has to be compiled before the order is known, and every branch inside it would undo
its vectorization. So there are a few passes without branches, in which each change has its
place (`_PASSES`), and a table of which two of them make each of the 24 orders (`_PLANS`).
A change that an order lacks at some place gets the parameter that changes nothing.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from official.video.augment import pixels as pixel

# As numbered in the drawn order.
CHANGES = ('brightness', 'contrast', 'saturation', 'hue')
_CONTRAST = CHANGES.index('contrast')
_EARLY, _LATE, _BOTH = 'early brightness', 'late brightness', 'saturation and hue'
# What one pass over the pixels can do, in its order; the cheapest first. Brightness is
# nearly free, so it stands wherever it may come, with a factor of one where it does not.
# Saturation and hue next to each other share the hexcone, which is most of their work.
_PASSES = (
  (_EARLY,),
  (_EARLY, 'saturation', _LATE),
  (_EARLY, 'hue', _LATE),
  (_EARLY, _BOTH, _LATE),
  ('saturation', _LATE, 'hue'),
  ('hue', _LATE, 'saturation'),
)
# An order of the four changes, read as a number of base four, is its row in `_PLANS`.
_ORDER_BASE = (64, 16, 4, 1)


def _plan_pass(changes: Sequence[str]) -> tuple[int, bool, bool]:
  """Which of `_PASSES` makes some of the changes but contrast, in the order given.

  Hue, brightness, say, is the third pass brightening late: its first place stays unused.

  Returns:
    Its number, whether it brightens early, whether late.
  """
  wanted = list(changes)
  # Next to each other, in either order, both are made in one go through the hexcone.
  cone = [i for i, change in enumerate(wanted) if change in ('saturation', 'hue')]
  if len(cone) == 2 and cone[1] == cone[0] + 1:
    wanted[cone[0] : cone[0] + 2] = [_BOTH]
  for number, places in enumerate(_PASSES):
    # A pass is taken for what is left of it without one or both of its brightnesses.
    for brightness in (None, _EARLY, _LATE):
      used = [p for p in places if p == brightness or p not in (_EARLY, _LATE)]
      if ['brightness' if p == brightness else p for p in used] == wanted:
        return number, brightness == _EARLY, brightness == _LATE
  raise ValueError(f'no pass makes {", ".join(changes)}')


def _plan_passes() -> np.ndarray:
  """The passes before contrast and from it on, for each order of the four changes.

  Returns:
    int32 [256, 2, 3]; rows that are no order are zeros.
  """
  plans = np.zeros([len(CHANGES) ** 4, 2, 3], np.int32)
  for order in itertools.permutations(range(4)):
    names = [CHANGES[change] for change in order]
    place = names.index('contrast')
    row = int(np.dot(order, _ORDER_BASE))
    plans[row] = [_plan_pass(names[:place]), _plan_pass(names[place + 1 :])]
  return plans


_PLANS = _plan_passes()


def _pass_of(
  places: Sequence[str], contrast: bool
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
  """Compiles a pass, with contrast as its first change or without; see `_settings`."""

  @pixel.compiled_on_pixels
  def run(pixels: tf.Tensor, settings: tf.Tensor) -> tf.Tensor:
    early, late, factor, corners, scale, offset = tf.unstack(settings)
    pixels = pixel.scaled(pixels)
    if contrast:
      pixels = pixel.clipped(pixels * scale + offset)
    for change in places:
      if change == _EARLY:
        pixels = tf.minimum(pixels * early, 1.0)
      elif change == _LATE:
        pixels = tf.minimum(pixels * late, 1.0)
      elif change == 'saturation':
        pixels = pixel.saturated(pixels, factor)
      elif change == 'hue':
        pixels = pixel.turned(pixels, corners)
      else:
        pixels = pixel.saturated_and_turned(pixels, factor, corners)
    return pixels

  return run


# By whether contrast comes first.
_COMPILED_PASSES = [
  [_pass_of(places, contrast) for places in _PASSES] for contrast in (False, True)
]


def _run_pass(
  clip: tf.Tensor,
  plan: tf.Tensor,
  drawn: Mapping[str, tf.Tensor],
  mean: tf.Tensor | None = None,
) -> tf.Tensor:
  """Makes one pass of `_PLANS`, from contrast around `mean` on if there is a mean."""
  settings = _settings(plan, drawn, tf.zeros([3]) if mean is None else mean)
  passes = _COMPILED_PASSES[mean is not None]
  branches = [functools.partial(run, clip, settings) for run in passes]
  return tf.ensure_shape(tf.switch_case(plan[0], branches), clip.shape)


def _settings(
  plan: tf.Tensor, drawn: Mapping[str, tf.Tensor], mean: tf.Tensor
) -> tf.Tensor:
  """What a pass reads, in one buffer: [6, 3], a row for each factor or offset.

  Contrast about the mean m, (x - m) c + m, is a factor c and an offset (1 - c) m.
  """
  brightness = tf.where(plan[1:] == 1, drawn['brightness'], 1.0)
  contrast, saturation = drawn['contrast'], drawn['saturation']
  return tf.stack(
    [
      tf.fill([3], brightness[0]),
      tf.fill([3], brightness[1]),
      tf.fill([3], saturation),
      pixel.hue_corners(drawn['hue']),
      tf.fill([3], contrast),
      (1 - contrast) * mean,
    ]
  )


def jittered(clip: tf.Tensor, drawn: Mapping[str, tf.Tensor]) -> tf.Tensor:
  """Makes the four changes in their order; in one pass where contrast is the first.

  Args:
    clip: uint8, or float32 in [0, 1], [T, H, W, 3] with static shape.
    drawn: float32 scalars by the names of `CHANGES`: three factors and, for 'hue', the
      share of a full turn; 'order' int32 [4], a permutation of the indices of `CHANGES`.

  Returns:
    float32 in [0, 1], the same shape.
  """
  row = tf.tensordot(drawn['order'], tf.constant(_ORDER_BASE), 1)
  before, after = tf.unstack(tf.gather(_PLANS, row))

  def from_contrast_on(clip: tf.Tensor) -> tf.Tensor:
    return _run_pass(clip, after, drawn, pixel.channel_means(clip))

  return tf.cond(
    drawn['order'][0] == _CONTRAST,
    lambda: from_contrast_on(clip),
    lambda: from_contrast_on(_run_pass(clip, before, drawn)),
  )

"""Mixing the clips of a batch with each other, the same on any number of replicas."""

import functools

import gin
import numpy as np
import tensorflow as tf

from official.video import draws
from official.video.configs import tasks as task_config
from official.video.errors import UserError

# Knots of a Beta distribution's quantiles on half of its range, between which it is linear.
_KNOTS = 4096


@gin.configurable
class Mixup:
  """Mixtures of the clips of a batch: `Mixup.alpha = 0.8` in gin, or `task.mixup.alpha`.

  Args:
    alpha: of the Beta distribution of a clip's share in its mixture; 0 mixes nothing.
    group_size: clips in a row that are mixed with each other.
  """

  def __init__(self, alpha: float = 0.0, group_size: int = 2):
    self.alpha, self.group_size = alpha, group_size


def build_mixup(config: task_config.Mixup) -> Mixup:
  """The mixtures that a config asks for; where it says nothing, gin may.

  Raises:
    UserError: gin binds what is out of range, or a group where nothing is mixed.
  """
  given = {name: x for name, x in config.as_dict().items() if x is not None}
  mixup = Mixup(**given)
  # Of the config's own fields this was looked at before.
  alpha, size = mixup.alpha, mixup.group_size
  if not isinstance(alpha, (int, float)) or not 0 <= alpha <= 100:
    raise UserError(f'Mixup.alpha {alpha!r} in gin: expected a number from 0 to 100')
  if not isinstance(size, int) or size < 2:
    raise UserError(
      f'Mixup.group_size {size!r} in gin: expected a whole number from 2 on'
    )
  if not alpha and size != 2:
    where = told_at(config, 'group_size')
    raise UserError(
      f'{where} {size}: nothing reads it where task.mixup.alpha is 0; leave it out, or '
      'set that'
    )
  return mixup


def told_at(config: task_config.Mixup, name: str) -> str:
  """Where a user changes a field of the mixtures."""
  return (
    f'task.mixup.{name}' if getattr(config, name) is not None else f'Mixup.{name} in gin'
  )


def partners(keys: tf.Tensor, group_size: int, name: str) -> tf.Tensor:
  """Which other clip of its group each clip meets, int32 [B].

  A group is so many clips in a row; its clips are shifted by one number that its first
  clip's key draws, so no clip meets itself. Where groups divide a replica's share of the
  batch, any number of replicas draws the same.

  Args:
    keys: int32 [B, 2]; B a multiple of the group's size.
    group_size: at least 2.
    name: of the draw.
  """
  shifts = tf.map_fn(
    lambda key: 1 + draws.integer(key, name, group_size - 1),
    keys[::group_size],
    fn_output_signature=tf.TensorSpec([], tf.int32),
  )
  places = tf.range(group_size)
  bases = group_size * tf.range(tf.shape(shifts)[0])
  others = (places[None] + shifts[:, None]) % group_size
  return tf.reshape(bases[:, None] + others, [-1])


def shares(keys: tf.Tensor, alpha: float) -> tf.Tensor:
  """The share that each clip keeps of itself, float32 [B], of Beta(alpha, alpha).

  Args:
    keys: int32 [B, 2].
    alpha: above 0; small ones make shares near 0 and 1 likely.
  """
  places = tf.map_fn(
    lambda key: draws.uniform(key, 'mixup/share'),
    keys,
    fn_output_signature=tf.TensorSpec([], tf.float32),
  )
  # The distribution is symmetric: the knots are of its lower half.
  place = tf.minimum(places, 1 - places) * 2 * _KNOTS
  knot = tf.minimum(tf.cast(place, tf.int32), _KNOTS - 1)
  low, high = (
    tf.gather(tf.constant(_lower_quantiles(alpha)), knot + step) for step in (0, 1)
  )
  lower = low + (high - low) * (place - tf.cast(knot, tf.float32))
  return tf.where(places < 0.5, lower, 1 - lower)


@functools.cache
def _lower_quantiles(alpha: float) -> np.ndarray:
  """Quantiles of Beta(alpha, alpha) at `_KNOTS` + 1 places from 0 to 0.5, float32."""
  # The density x**(alpha - 1) (1 - x)**(alpha - 1) may have a pole at 0; by t = x**power
  # it has none.
  power = min(alpha, 1.0)
  t = np.linspace(0.0, 0.5**power, 16 * _KNOTS + 1)
  x = t ** (1 / power)
  density = x ** (alpha - power) * (1 - x) ** (alpha - 1)
  mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
  at = np.interp(np.linspace(0.0, 1.0, _KNOTS + 1), mass / mass[-1], t)
  return (at ** (1 / power)).astype(np.float32)


def mixed(values: tf.Tensor, others: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
  """Each row's share of itself and the rest of another row's.

  Args:
    values: float32 [B, ...].
    others: the same shape.
    share: float32 [B].
  """
  share = tf.reshape(share, [-1] + [1] * (values.shape.rank - 1))
  return share * values + (1 - share) * others

"""Networks that follow others: targets, teachers and key encoders of momentum methods.

Their weights are no variables to train: no tape watches them, no optimizer sees them, a
checkpoint holds them and a step that turns out to be bad takes their move back.
"""

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf
import tf_keras

from official.video.models import encoder


@contextlib.contextmanager
def untrained() -> Iterator[None]:
  """Variables that are made inside are not to be trained."""
  with tf.variable_creator_scope(_not_trained):
    yield


def _not_trained(create, **kwargs) -> tf.Variable:
  return create(**(kwargs | {'trainable': False}))


def average_into(
  pairs: Sequence[tuple[tf.Variable, tf.Variable]], momentum: float
) -> None:
  """Moves variables towards others: v = momentum * v + (1 - momentum) * other.

  To be called in the replica context, or without a strategy.

  Args:
    pairs: each variable and the other, which is the same on all replicas.
    momentum: share that is kept.
  """
  values = [momentum * tf.identity(v) + (1 - momentum) * other for v, other in pairs]

  def assign(variable, value):
    return variable.assign(value)

  def merged(strategy, values):
    for (variable, _), value in zip(pairs, values, strict=True):
      strategy.extended.update(variable, assign, args=(value,), group=False)

  # As Keras's optimizers do: weights may be written in this context only.
  tf.__internal__.distribute.interim.maybe_merge_call(
    merged, tf.distribute.get_strategy(), values
  )


class MomentumModel(encoder.VideoModel):
  """A model some of whose networks follow others.

  Build a follower `with momentum.untrained()`, like its leader layer by layer, and name it
  by `follow`. Batch norm of a follower keeps moving averages of its own.
  """

  def __init__(self, *args, **kwargs):
    """Initializes the model, in which nothing follows yet; see `VideoModel`."""
    super().__init__(*args, **kwargs)
    self._followed = _Untracked()

  def follow(
    self, follower: tf_keras.layers.Layer, leader: tf_keras.layers.Layer
  ) -> None:
    """Pairs two built networks; their variables correspond in order.

    Raises:
      ValueError: they have other variables, or the follower's would be trained.
    """
    pairs = list(zip(_variables(follower), _variables(leader), strict=True))
    for mine, theirs in pairs:
      if mine.shape != theirs.shape:
        raise ValueError(f'{mine.name} {mine.shape} follows {theirs.name} {theirs.shape}')
      if mine.trainable:
        raise ValueError(f'{mine.name} is trained; build it within momentum.untrained()')
    self._followed.pairs += pairs

  def averaged(self) -> list[tuple[tf.Variable, tf.Variable]]:
    """Variable of follower and leader for every weight that is followed.

    Kernels, biases, batch norm's scale and offset; not its moving statistics.
    """
    return [pair for pair in self._followed.pairs if pair[1].trainable]

  def copy_to_followers(self) -> None:
    """Gives the followers their leaders' weights and moving statistics."""
    for follower, leader in self._followed.pairs:
      follower.assign(leader)

  def move_followers(self, momentum: float) -> None:
    """Moves the followers towards their leaders; see `average_into`."""
    average_into(self.averaged(), momentum)

  @property
  def trainable_weights(self) -> list[tf.Variable]:
    """Variables of all networks that follow none."""
    # Keras goes by the layer, which does not know that its variables are not trained.
    return [v for v in super().trainable_weights if v.trainable]

  @property
  def non_trainable_weights(self) -> list[tf.Variable]:
    """Moving averages, those of weights included."""
    trained = {id(v) for v in self.trainable_weights}
    return [v for v in self.weights if id(v) not in trained]


class _Untracked:
  """Pairs that Keras does not take for state of the model's own."""

  def __init__(self):
    self.pairs: list[tuple[tf.Variable, tf.Variable]] = []


def _variables(layer: tf_keras.layers.Layer) -> list[tf.Variable]:
  # Keras lists a weight that is not trained under both its kinds.
  return list({id(v): v for v in layer.variables}.values())

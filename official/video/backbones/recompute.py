"""Running a part of a model twice: to recompute activations, or to back-propagate later.

What the second run needs to equal the first is here: variables that the forward pass
itself writes (moving averages, counters of random masks) are set back before it, and it
is kept from being merged with the first.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras
from tensorflow.python.eager import record
from tensorflow.python.ops import control_flow_util

# Operations in name scopes that are called so are run again by the backward pass.
SCOPE = 'recomputed'


def part_of(operation: str) -> str:
  """Which recomputed part an operation of this name belongs to; '' where to none."""
  found = re.match(rf'(.*/)?{SCOPE}(_\d+)?/', operation)
  return found[0] if found else ''


def after(values: Any, dependencies: Sequence[tf.Tensor]) -> Any:
  """The same tensors, known only once the dependencies are.

  What is computed from them starts later and is not merged with an equal computation
  that doesn't wait, neither by the graph's optimizers nor by XLA.

  Args:
    values: a structure of tensors.
    dependencies: tensors to wait for; None among them is skipped.
  """
  dependencies = [tensor for tensor in dependencies if tensor is not None]
  if tf.executing_eagerly() or not dependencies:
    return values
  if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
    # XLA keeps no edge but that of data, so a false that is made of the dependencies is
    # added, which changes no value.
    never = _never(dependencies)
    return tf.nest.map_structure(
      lambda x: x | never if x.dtype == tf.bool else x + tf.cast(never, x.dtype), values
    )
  # The graph's optimizers merge what has equal inputs, control inputs included.
  with tf.control_dependencies(dependencies):
    return tf.nest.map_structure(tf.identity, values)


def _never(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
  """False, but known only once the tensors are, as no compiler sees through it.

  XLA drops control dependencies, and on CPUs optimization barriers too before it merges
  equal computations. Also false where the tensors are not finite.
  """
  # One number of each is enough to wait for it; there may be none in an empty tensor.
  firsts = [tf.reduce_sum(tf.reshape(tensor, [-1])[:1]) for tensor in tensors]
  total = tf.add_n([tf.cast(first, tf.float32) for first in firsts])
  # No square is negative, and comparing with NaN is false; no compiler relies on either.
  return total * total < -1.0


class ForwardState:
  """The variables that a forward pass in training writes itself, as they were."""

  def __init__(self, variables: Iterable[tf.Variable]):
    """Reads the variables.

    Args:
      variables: of a layer or model; those count that are not weights to train, frozen
        weights included among these.
    """
    self._variables = [v for v in variables if not v.trainable]
    self._values = [tf.identity(v) for v in self._variables]

  def restore(self) -> None:
    """Writes the values back."""
    for variable, value in zip(self._variables, self._values, strict=True):
      variable.assign(value)


@tf.autograph.experimental.do_not_convert
def recompute(layer: tf_keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
  """`layer(x, training=True)`, of which only `x` is kept for the backward pass.

  The backward pass runs the layer again. The gradients are those of the layer itself, of
  all its variables; moving averages and counters are advanced once.

  Unlike `tf.recompute_grad`, it calls the layer as a layer, without which Keras would run
  it in inference mode in the backward pass; sets the variables back; and survives XLA.

  Args:
    layer: a built layer whose `call` takes `training`. Its randomness, if any, is a
      function of its variables.
    x: its input.
  """

  @tf.custom_gradient
  def run(x):
    before = ForwardState(layer.variables)
    with record.stop_recording(), tf.name_scope(SCOPE):
      y = layer(x, training=True)

    def gradient(upstream, variables=()):
      now = ForwardState(layer.variables)
      before.restore()
      again = after(x, [upstream])
      with tf.GradientTape() as tape:
        tape.watch(again)
        result = layer(again, training=True)
      now.restore()
      first, *others = tape.gradient(
        result,
        [again, *variables],
        output_gradients=upstream,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
      )
      return (first, others) if variables else first

    return y, gradient

  return run(x)

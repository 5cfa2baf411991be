"""What one optimisation step is made of, whatever the task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from official.video.backbones import recompute

Tensors = Mapping[str, tf.Tensor]


def whole_batch_gradients(
  forward: Callable[[Tensors], Tensors],
  objective: Callable[[Tensors], tuple[tf.Tensor, Any]],
  inputs: Tensors,
  model: tf_keras.Model,
  micro_batches: int = 1,
) -> tuple[Any, list[tf.Tensor | None]]:
  """Gradients of an objective of the whole batch, at the memory of a micro-batch.

  With more than one micro-batch, a first pass computes the outputs of all samples and
  keeps no activation, the objective of the whole batch is differentiated with respect to
  them, and a second pass back-propagates that through one micro-batch after the other.
  So also a loss that compares all samples has its true gradient, for one more forward
  pass.

  Batch norm takes its statistics over a micro-batch (of all replicas, where it is
  synchronized), in both passes the same, and its moving averages are advanced once for
  each micro-batch. Random masks are the same in both passes where they are a function of
  the model's variables; those advance likewise.

  Args:
    forward: outputs of samples from their inputs, through the model, in training; the
      batch is the first axis of every tensor.
    objective: the scalar to differentiate, and anything else, from all outputs.
    inputs: this replica's batch.
    model: its trainable variables are differentiated, its other ones may be written.
    micro_batches: how many equal parts the batch is computed in.

  Returns:
    The second result of `objective`, and a gradient or None for each trainable variable.

  Raises:
    ValueError: the batch does not divide into so many parts.

  Source: arXiv 2101.06983.
  """
  variables = model.trainable_variables
  if micro_batches == 1:
    with tf.GradientTape() as tape:
      value, result = objective(forward(inputs))
    return result, [_dense(g) for g in tape.gradient(value, variables)]
  parts = _split(inputs, micro_batches)
  before = recompute.ForwardState(model.variables)
  outputs = _outputs_of_parts(forward, parts)
  result, by_output, gradients = _through_objective(objective, outputs, variables)
  # Both passes begin at the same moving averages and counters, so they compute the same,
  # and the second leaves them advanced by one batch, not two.
  before.restore()
  for part, by_part in zip(parts, _split(by_output, micro_batches), strict=True):
    # Waiting for the part before keeps the activations of one part alive at a time.
    part = recompute.after(part, [*by_part.values(), *gradients])
    with tf.GradientTape() as tape:
      computed = forward(part)
      targets = [computed[key] for key in by_part]
    more = tape.gradient(targets, variables, output_gradients=list(by_part.values()))
    gradients = [_add(a, b) for a, b in zip(gradients, more, strict=True)]
  return result, [_dense(gradient) for gradient in gradients]


def _through_objective(
  objective: Callable[[Tensors], tuple[tf.Tensor, Any]],
  outputs: Tensors,
  variables: Sequence[tf.Variable],
) -> tuple[Any, dict[str, tf.Tensor], list[tf.Tensor | None]]:
  """Differentiates an objective as if the outputs were its inputs.

  Returns:
    Its second result; its gradients by the outputs that have one; and by the variables
    that it reads itself, such as a temperature, else None.
  """
  with tf.GradientTape() as tape:
    # Masks and ids pass through too.
    floats = {key: x for key, x in outputs.items() if x.dtype.is_floating}
    tape.watch(floats)
    value, result = objective(outputs)
  by_output, gradients = tape.gradient(value, (floats, variables))
  found = {key: value for key, value in by_output.items() if value is not None}
  return result, found, gradients


def _outputs_of_parts(
  forward: Callable[[Tensors], Tensors], parts: Sequence[Tensors]
) -> dict[str, tf.Tensor]:
  computed: list[Tensors] = []
  for part in parts:
    previous = computed[-1].values() if computed else ()
    computed.append(forward(recompute.after(part, list(previous))))
  return {key: tf.concat([c[key] for c in computed], 0) for key in computed[0]}


def _split(tensors: Tensors, parts: int) -> list[Tensors]:
  split = {key: tf.split(tensor, parts) for key, tensor in tensors.items()}
  return [{key: values[i] for key, values in split.items()} for i in range(parts)]


def _add(total: tf.Tensor | None, more: tf.Tensor | None) -> tf.Tensor | None:
  if total is None or more is None:
    return more if total is None else total
  return tf.convert_to_tensor(total) + tf.convert_to_tensor(more)


def _dense(gradient: tf.Tensor | tf.IndexedSlices | None) -> tf.Tensor | None:
  # Optimizers look for equal rows of a gradient of embeddings; XLA has no such shapes.
  return None if gradient is None else tf.convert_to_tensor(gradient)


def finite_on_all_replicas(tensors: Sequence[tf.Tensor | None]) -> tf.Tensor:
  """Whether the joint norm of the tensors is finite on every replica: the same on all.

  Costs one pass over the tensors and the exchange of one number.
  """
  norm = tf.linalg.global_norm([tensor for tensor in tensors if tensor is not None])
  bad = tf.cast(~tf.math.is_finite(norm), tf.float32)
  context = tf.distribute.get_replica_context()
  if context is not None and context.num_replicas_in_sync > 1:
    bad = context.all_reduce(tf.distribute.ReduceOp.SUM, bad)
  return tf.equal(bad, 0)


class Undo:
  """Takes an update of model and optimizer back where it turns out to be bad.

  Everything is updated as ever, and then each variable chooses between its new and its old
  value. To skip the update with `tf.cond` instead would need merge calls and collectives
  inside a branch, which `MirroredStrategy` refuses and which hang where replicas disagree;
  to update with zero gradients would still decay momentum and count the step. The choice
  is elementwise, so XLA fuses it into the update; without XLA it costs a copy of weights
  and slots at a time when activations are free already.
  """

  def __init__(self, model: tf_keras.Model, optimizer: tf_keras.optimizers.Optimizer):
    """Reads all variables.

    Args:
      model: its weights, moving averages and counters; frozen weights are not updated
        and so left out.
      optimizer: its slots and counters, made here if they aren't yet.
    """
    updated = [*model.trainable_variables]
    updated += [v for v in model.variables if not v.trainable]
    updated += _optimizer_variables(optimizer, model.trainable_variables)
    self._variables = list({id(v): v for v in updated}.values())
    self._values = [tf.identity(v) for v in self._variables]

  def unless(self, good: tf.Tensor) -> None:
    """Writes the values back where `good` is false; it must be the same on all replicas."""

    def choose(variable, value, good):
      return variable.assign(tf.where(good, variable, value))

    def merged(strategy, values, good):
      for variable, value in zip(self._variables, values, strict=True):
        strategy.extended.update(variable, choose, args=(value, good), group=False)

    # As Keras's optimizers do: only there may mirrored variables of any kind be written.
    tf.__internal__.distribute.interim.maybe_merge_call(
      merged, tf.distribute.get_strategy(), self._values, good
    )


def _optimizer_variables(
  optimizer: tf_keras.optimizers.Optimizer, trained: Sequence[tf.Variable]
) -> list[tf.Variable]:
  with tf.init_scope():
    inner = getattr(optimizer, 'inner_optimizer', optimizer)
    if isinstance(inner, tf_keras.optimizers.legacy.Optimizer):
      inner._create_all_weights(trained)
    else:
      inner.build(trained)
  found = optimizer.variables
  # Wrappers keep some in one list, some in the other.
  return [*(found() if callable(found) else found), *getattr(optimizer, 'weights', ())]

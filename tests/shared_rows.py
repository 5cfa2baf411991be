"""A loss whose rows replicas share: equal values and gradients, and smaller tensors."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import tensorflow as tf

from official.video.losses import gather

# Of the tensors of a batch, a scalar or more to compare, of which the first is the loss.
Loss = Callable[..., Sequence[tf.Tensor]]


def whole(loss: Loss, tensors: Sequence[tf.Tensor]):
  """Values of a loss on one device, and gradients of its first."""
  watched = _floating(tensors)
  with tf.GradientTape() as tape:
    tape.watch(watched)
    values = loss(*tensors)
  return [x.numpy() for x in values], tape.gradient(values[0], watched)


def _floating(tensors):
  return [x for x in tensors if x.dtype.is_floating]


def assert_shared(strategy, loss: Loss, tensors: Sequence[tf.Tensor]):
  """Asserts that replicas with a part each come to the whole's values and gradients.

  Returns:
    The graph of the replicas' function.
  """
  values, gradients = whole(loss, tensors)
  replicas = strategy.num_replicas_in_sync
  size = tensors[0].shape[0] // replicas

  def replica(*parts):
    with tf.GradientTape() as tape:
      tape.watch(_floating(parts))
      gathered = [gather.gather(x) for x in parts]
      gathered = [tf.ensure_shape(x, [size * replicas, *x.shape[1:]]) for x in gathered]
      made = loss(*gathered)
      scaled = made[0] / replicas
    return tuple(made), tape.gradient(scaled, _floating(parts))

  def part(x):
    return strategy.experimental_distribute_values_from_function(
      lambda c: x[c.replica_id_in_sync_group * size :][:size]
    )

  run = tf.function(lambda *x: strategy.run(replica, args=x), autograph=False)
  parts = [part(x) for x in tensors]
  made, of_parts = run(*parts)
  for found, wanted in zip(made, values, strict=True):
    for value in strategy.experimental_local_results(found):
      np.testing.assert_allclose(value, wanted, rtol=1e-5)
  for found, wanted in zip(of_parts, gradients, strict=True):
    joined = tf.concat(strategy.experimental_local_results(found), 0)
    np.testing.assert_allclose(joined, wanted, atol=1e-6)
  return run.get_concrete_function(*parts).graph


def assert_chunked(
  monkeypatch: pytest.MonkeyPatch, loss: Loss, tensors, chunk_bytes: int
) -> None:
  """Asserts the whole's values and gradients where rows come in chunks of so many bytes."""
  values, gradients = whole(loss, tensors)
  monkeypatch.setattr(gather, 'CHUNK_BYTES', chunk_bytes)
  numbers, chunks = [], gather._chunks
  monkeypatch.setattr(
    gather, '_chunks', lambda *sizes: numbers.append(chunks(*sizes)) or numbers[-1]
  )
  for run in (whole, lambda *x: _in_graph(*x)):
    made, found = run(loss, tensors)
    np.testing.assert_allclose(np.stack(made), np.stack(values), rtol=1e-5)
    for one, wanted in zip(found, gradients, strict=True):
      np.testing.assert_allclose(one, wanted, atol=1e-6)
  assert min(numbers) > 1


def _in_graph(loss: Loss, tensors):
  def run(*tensors):
    watched = _floating(tensors)
    with tf.GradientTape() as tape:
      tape.watch(watched)
      values = loss(*tensors)
    return values, tape.gradient(values[0], watched)

  return tf.function(run, autograph=False)(*tensors)


def biggest(graph) -> int:
  """Numbers of the largest tensor of a graph and its functions."""
  graphs = [graph, *(f.graph for f in graph._functions.values() if hasattr(f, 'graph'))]
  sizes = [
    output.shape.num_elements() or 0
    for one in graphs
    for op in one.get_operations()
    for output in op.outputs
    if output.shape.is_fully_defined()
  ]
  return max(sizes)

"""Attention in chunks: values and gradients of the whole, and no tensor of all pairs."""

import numpy as np
import pytest
import tensorflow as tf

from official.video.backbones import attention
from official.video.estimate import cost
from tests import shared_rows

BATCH, HEADS, LENGTH, OTHERS, WIDTH = 2, 3, 11, 7, 4
ROW = 4 * BATCH * HEADS * OTHERS


def tensors(dtype=tf.float32, others=OTHERS):
  rng = np.random.default_rng(0)
  sizes = (LENGTH, others, others)
  return [tf.cast(rng.normal(size=(BATCH, HEADS, size, WIDTH)), dtype) for size in sizes]


def by_hand(query, key, value):
  logits = np.einsum('bhld,bhmd->bhlm', query, key)
  weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  return np.einsum('bhlm,bhmd->bhld', weights, value)


def with_gradients(*inputs):
  with tf.GradientTape() as tape:
    tape.watch(inputs)
    taken = attention.attend(*inputs)
    value = tf.reduce_sum(tf.sin(3 * taken))
  return taken, *tape.gradient(value, inputs)


@pytest.mark.parametrize('compiled', [None, False, True])
@pytest.mark.parametrize('rows', [1, 3, 4, 11])
def test_chunks_are_the_whole(monkeypatch, rows, compiled):
  inputs = tensors()
  expected = with_gradients(*inputs)
  np.testing.assert_allclose(
    expected[0], by_hand(*(x.numpy() for x in inputs)), atol=1e-6
  )
  monkeypatch.setattr(attention, 'CHUNK_BYTES', rows * ROW)
  run = with_gradients
  if compiled is not None:
    run = tf.function(with_gradients, jit_compile=compiled, autograph=False)
  for one, other in zip(run(*inputs), expected, strict=True):
    np.testing.assert_allclose(one, other, atol=2e-6)


def test_only_a_chunk_is_there_at_once(monkeypatch):
  monkeypatch.setattr(attention, 'CHUNK_BYTES', 4 * ROW)
  inputs = tensors()
  graph = tf.function(with_gradients).get_concrete_function(*inputs).graph
  assert shared_rows.biggest(graph) == max(
    BATCH * HEADS * 4 * OTHERS, BATCH * HEADS * LENGTH * WIDTH
  )
  # Each chunk's weights wait for what came of the chunk before.
  softmaxes = [op for op in graph.get_operations() if op.type == 'Softmax']
  assert len(softmaxes) == 6  # Three forward, three again.
  for op in softmaxes[1:3]:
    asking = op.inputs[0].op.inputs[0].op
    assert asking.control_inputs, op.name


@pytest.mark.parametrize('dtype', [tf.bfloat16, tf.float16])
def test_short_types_keep_a_float32_softmax(monkeypatch, dtype):
  inputs = tensors(dtype)
  expected = with_gradients(*(tf.cast(x, tf.float32) for x in inputs))
  monkeypatch.setattr(attention, 'CHUNK_BYTES', 3 * ROW)
  graph = tf.function(attention.attend).get_concrete_function(*inputs).graph
  softmaxes = [op for op in graph.get_operations() if op.type == 'Softmax']
  assert {op.outputs[0].dtype for op in softmaxes} == {tf.float32}
  for one, other in zip(with_gradients(*inputs), expected, strict=True):
    assert one.dtype == dtype
    scale = np.abs(other).max()
    np.testing.assert_allclose(tf.cast(one, tf.float32) / scale, other / scale, atol=0.06)


def test_unknown_lengths_are_taken():
  spec = tf.TensorSpec([None, HEADS, None, WIDTH])
  call = tf.function(attention.attend).get_concrete_function(spec, spec, spec)
  query, key, value = tensors()
  np.testing.assert_allclose(
    call(query, key, value), attention.attend(query, key, value), atol=1e-6
  )


def test_the_estimate_holds_one_chunk(monkeypatch):
  matrix = tf.Variable(tf.eye(WIDTH))

  def function(x):
    x = x @ matrix
    return attention.attend(x, x, x)

  spec = tf.TensorSpec([1, 1, 64, WIDTH])
  whole = cost.of_function(function, spec, [matrix]).activation_bytes
  monkeypatch.setattr(attention, 'CHUNK_BYTES', 4 * 64 * 8)
  chunked = cost.of_function(function, spec, [matrix])
  # Weights and products of all pairs, and those of 8 of 64 queries with what they took.
  pairs = 2 * 4 * 64 * 64
  assert whole - chunked.activation_bytes == pairs - (pairs // 8 + 4 * 8 * WIDTH)
  assert chunked.flops == cost.of_function(function, spec, [matrix]).flops

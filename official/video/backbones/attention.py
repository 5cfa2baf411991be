"""Softmax attention that never holds the weights of all pairs of tokens at once."""

import tensorflow as tf

from official.video.backbones import recompute

# Bytes of the float32 weights that are there at a time: 12 heads of the 3,169 tokens of a
# clip of 32x224x224 have 482 MB of them in every block, and training would keep them all.
CHUNK_BYTES = 2**28


def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
  """What each token takes of the values: the softmax of its products with the keys.

  The softmax is float32. Where all weights would be more than `CHUNK_BYTES`, queries come
  in chunks, one after the other, and the backward pass computes their weights again.

  Args:
    query: `[B, heads, L, D]`, scaled.
    key: `[B, heads, M, D]`.
    value: `[B, heads, M, D]`.

  Returns:
    `[B, heads, L, D]`, of the type of the values.
  """
  batch, heads, length = (query.shape[i] for i in range(3))
  others = key.shape[2]
  if None in (heads, length, others):
    return tf.matmul(tf.cast(_weights(query, key), value.dtype), value)
  row_bytes = 4 * (batch or 1) * heads * others
  number = -(-length // max(1, CHUNK_BYTES // row_bytes))
  if number == 1:
    return tf.matmul(tf.cast(_weights(query, key), value.dtype), value)
  return _in_chunks(query, key, value, -(-length // number))


def _weights(query: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
  """float32 `[B, heads, L, M]`, how much each query takes of each key."""
  logits = tf.matmul(query, key, transpose_b=True)
  return tf.nn.softmax(tf.cast(logits, tf.float32))


def _in_chunks(
  query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, size: int
) -> tf.Tensor:
  """`attend` by so many queries at a time."""
  parts = [slice(i, i + size) for i in range(0, query.shape[2], size)]

  @tf.custom_gradient
  def forward(query, key, value):
    taken: list[tf.Tensor] = []
    for part in parts:
      with tf.name_scope(recompute.SCOPE):
        # The chunk before it is done first, or all would be there together.
        asking = recompute.after(query[:, :, part], taken[-1:])
        weights = tf.cast(_weights(asking, key), value.dtype)
        taken.append(tf.matmul(weights, value))

    def backward(upstream):
      of_query: list[tf.Tensor] = []
      of_key, of_value = tf.zeros_like(key), tf.zeros_like(value)
      for part in parts:
        before = of_query[-1:] or [upstream]
        asking = recompute.after(query[:, :, part], before)
        above = upstream[:, :, part]
        weights = _weights(asking, key)
        of_value += tf.matmul(tf.cast(weights, value.dtype), above, transpose_a=True)
        of_weights = tf.matmul(above, value, transpose_b=True)
        of_weights = tf.cast(of_weights, tf.float32)
        mean = tf.reduce_sum(of_weights * weights, -1, keepdims=True)
        of_logits = tf.cast(weights * (of_weights - mean), query.dtype)
        of_query.append(tf.matmul(of_logits, key))
        of_key += tf.matmul(of_logits, asking, transpose_a=True)
      return tf.concat(of_query, 2), of_key, of_value

    return tf.concat(taken, 2), backward

  return forward(query, key, value)

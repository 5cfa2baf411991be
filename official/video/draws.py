"""Stateless random draws keyed by (seed, epoch, record, view, draw name).

A key is an int32 [2] tensor. `sample_key` makes the key of a record, `fold` derives a new
key from a key and an integer or a name, and `uniform`, `bernoulli`, `integer` and
`permutation` turn a key and a name into numbers. Two draws share a stream only where they
share both key and name.

A key is the key of a Philox generator, and integers and names are its counter: what
`fold` and the draws return are blocks of one permutation that never overlap. Only the
integer bits are TensorFlow's; they are the same eagerly, inside tf.data and under XLA,
which its own conversion to floats is not.
"""

import zlib
from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf
import tf_keras

Foldable: TypeAlias = int | str | tf.Tensor

# Integers fold below it, names above.
_NAME_SPACE = 1 << 62
# Low half of the counter: draws count up from 0, new keys lie far beyond.
_DRAW, _FOLD = 0, 1 << 62
_PHILOX = 1


def sample_key(seed: Foldable, epoch: Foldable, record: Foldable) -> tf.Tensor:
  """The key of one record in one epoch.

  Args:
    seed: the run's seed.
    epoch: how often the data were passed before, from 0.
    record: the record's number in its data set, or its name.

  Returns:
    An int32 [2] key.
  """
  root = tf.zeros([2], tf.int32)
  return fold(fold(fold(root, seed), epoch), record)


def fold(key: tf.Tensor, data: Foldable) -> tf.Tensor:
  """Derives the key that belongs to `data` under `key`, unrelated to any other.

  Args:
    key: int32 or int64 [2].
    data: an integer of up to 64 bits, a scalar integer tensor, or a name (hashed when
      the graph is traced).

  Returns:
    An int32 [2] key.
  """
  return _bits(key, data, [2], _FOLD)


def fold_each(key: tf.Tensor, count: int) -> tf.Tensor:
  """Keys int32 [count, 2] of as many frames of a clip, from that of the clip."""
  return tf.stack([fold(key, f'frame/{number}') for number in range(count)])


def uniform(
  key: tf.Tensor,
  name: str,
  shape: Sequence[int] = (),
  minval: float | tf.Tensor = 0.0,
  maxval: float | tf.Tensor = 1.0,
) -> tf.Tensor:
  """Draws float32 numbers in [minval, maxval), on a grid of 2**24 steps.

  XLA may round the last bit of another range than [0, 1) differently.
  """
  bits = _bits(key, name, shape)
  mantissa = tf.bitwise.bitwise_and(bits, (1 << 24) - 1)
  return minval + (maxval - minval) * (tf.cast(mantissa, tf.float32) * 2.0**-24)


def bernoulli(key: tf.Tensor, name: str, p: float | tf.Tensor) -> tf.Tensor:
  """Draws a bool scalar that is true with probability `p`."""
  return uniform(key, name) < p


def integer(key: tf.Tensor, name: str, maxval: int | tf.Tensor) -> tf.Tensor:
  """Draws an int32 scalar in [0, maxval); its bias is below maxval / 2**31."""
  bits = tf.bitwise.bitwise_and(_bits(key, name, []), 0x7FFFFFFF)
  return tf.math.floormod(bits, tf.cast(maxval, tf.int32))


def permutation(key: tf.Tensor, name: str, n: int) -> tf.Tensor:
  """Draws an int32 [n] permutation of 0 .. n-1."""
  return tf.argsort(_bits(key, name, [n]), stable=True)


def step_counter(layer: tf_keras.layers.Layer, name: str) -> tf.Variable:
  """Adds a weight that keys a layer's draws of the step; who draws adds 1 to it.

  It starts at a number of its own, so that equal layers draw differently, and is in
  checkpoints, so that a run that goes on draws what it would have drawn.
  """
  return layer.add_weight(
    name=name,
    dtype=tf.int64,
    initializer=lambda shape, dtype: tf.random.uniform(shape, 0, 2**62, dtype),
    trainable=False,
    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
  )


def replica() -> tf.Tensor:
  """The number of this replica, a scalar int64: replicas share counters, not draws."""
  context = tf.distribute.get_replica_context()
  return tf.cast(context.replica_id_in_sync_group, tf.int64)


def _bits(
  key: tf.Tensor, data: Foldable, shape: Sequence[int], start: int = _DRAW
) -> tf.Tensor:
  """Uniform int32 bits, the same on every device."""
  # The raw operation, because the public one costs ten times as much a call.
  return tf.raw_ops.StatelessRandomUniformFullIntV2(
    shape=tf.constant(shape, tf.int32),
    key=tf.reshape(tf.bitcast(tf.cast(key, tf.int32), tf.uint64), [1]),
    counter=_counter(data, start),
    alg=_PHILOX,
    dtype=tf.int32,
  )


def _counter(data: Foldable, start: int) -> tf.Tensor:
  if tf.is_tensor(data):
    return tf.bitcast(tf.stack([start, tf.cast(data, tf.int64)]), tf.uint64)
  number = _NAME_SPACE | zlib.crc32(data.encode()) if isinstance(data, str) else data
  return tf.constant([start, number % 2**64], tf.uint64)

"""Stateless random draws keyed by (seed, epoch, record, view, draw name).

A key is an int32 [2] tensor. `sample_key` makes the key of a record, `fold` derives a new
key from a key and an integer or a name, and `uniform`, `bernoulli`, `integer` and
`permutation` turn a key and a name into numbers. Each of them folds its name first, so two
draws share a stream only where they share both key and name.

Everything is made of the integer bits of Philox: those are the same eagerly, inside
tf.data and under XLA, which TensorFlow's own conversion to floats is not.
"""

import zlib
from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

Foldable: TypeAlias = int | str | tf.Tensor

# Keeps names and integers apart: an integer below 2**62 never folds like a name.
_NAME_SPACE = 1 << 62
# Keep the bits that make keys apart from the bits that make numbers.
_FOLD, _DRAW = 0x2545F491, 0x5851F42D


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
  """Derives the key that belongs to `data` under `key`.

  Args:
    key: int32 or int64 [2].
    data: an integer of up to 64 bits, a scalar integer tensor, or a name (hashed when
      the graph is traced).

  Returns:
    An int32 [2] key, unrelated to `key` and to the keys of other `data`.
  """
  folded = tf.bitwise.bitwise_xor(tf.cast(key, tf.int32), _words(data))
  return _bits(folded, [2], _FOLD)


def uniform(
  key: tf.Tensor,
  name: str,
  shape: Sequence[int] = (),
  minval: float | tf.Tensor = 0.0,
  maxval: float | tf.Tensor = 1.0,
) -> tf.Tensor:
  """Draws float32 numbers in [minval, maxval), on a grid of 2**24 steps."""
  bits = _bits(fold(key, name), shape, _DRAW)
  mantissa = tf.bitwise.bitwise_and(bits, (1 << 24) - 1)
  return minval + (maxval - minval) * (tf.cast(mantissa, tf.float32) * 2.0**-24)


def bernoulli(key: tf.Tensor, name: str, p: float | tf.Tensor) -> tf.Tensor:
  """Draws a bool scalar that is true with probability `p`."""
  return uniform(key, name) < p


def integer(key: tf.Tensor, name: str, maxval: int | tf.Tensor) -> tf.Tensor:
  """Draws an int32 scalar in [0, maxval); its bias is below maxval / 2**31."""
  bits = tf.bitwise.bitwise_and(_bits(fold(key, name), [], _DRAW), 0x7FFFFFFF)
  return tf.math.floormod(bits, tf.cast(maxval, tf.int32))


def permutation(key: tf.Tensor, name: str, n: int) -> tf.Tensor:
  """Draws an int32 [n] permutation of 0 .. n-1."""
  return tf.argsort(_bits(fold(key, name), [n], _DRAW), stable=True)


def _bits(key: tf.Tensor, shape: Sequence[int], domain: int) -> tf.Tensor:
  return tf.random.stateless_uniform(
    shape,
    seed=tf.bitwise.bitwise_xor(key, tf.constant([0, domain])),
    minval=None,
    maxval=None,
    dtype=tf.int32,
    alg='philox',
  )


def _words(data: Foldable) -> tf.Tensor:
  """The two int32 words of a name or integer."""
  if isinstance(data, str):
    data = _NAME_SPACE | zlib.crc32(data.encode())
  wide = tf.cast(data, tf.int64) if tf.is_tensor(data) else tf.constant(data, tf.int64)
  return tf.bitcast(wide, tf.int32)

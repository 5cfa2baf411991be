"""Layers that families of nets share."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.framework import config as tf_config

from official.video.backbones import layers


def maps_and_gradient(layer, x):
  @tf.function(autograph=False)
  def run(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      pooled = layer(x)
      loss = tf.reduce_sum(pooled**2)
    return pooled, tape.gradient(loss, x)

  return run(x)


@pytest.mark.parametrize('padding', ['same', 'valid'])
@pytest.mark.parametrize(
  ('window', 'strides'),
  [
    ((1, 3, 3), (1, 2, 2)),
    ((2, 2, 2), (2, 2, 2)),
    ((3, 3, 3), (2, 2, 2)),
    ((3, 3, 3), (1, 1, 1)),
    ((2, 1, 3), (3, 1, 2)),
    ((1, 1, 1), (2, 1, 1)),
  ],
)
def test_pooling_in_turn_is_pooling_at_once(window, strides, padding):
  shape = (2, 5, 9, 8, 3)
  distinct = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape)
  x = tf.constant(distinct / 1000, tf.float32)
  expected = maps_and_gradient(tf_keras.layers.MaxPool3D(window, strides, padding), x)
  layer = layers.MaxPool3D(window, strides, padding)
  for found, value in zip(maps_and_gradient(layer, x), expected, strict=True):
    np.testing.assert_allclose(found, value, rtol=1e-6)
  known = tf_keras.Input(shape[1:])
  assert layer(known).shape[1:] == expected[0].shape[1:]
  sizes_unknown = tf.function(layer, [tf.TensorSpec([None, None, None, None, 3])])
  np.testing.assert_array_equal(sizes_unknown(x), expected[0])


def test_deterministic_pooling_compiles():
  x = tf.random.stateless_normal([2, 4, 8, 8, 3], [0, 1])
  layer = layers.MaxPool3D((1, 3, 3), (1, 2, 2), 'same')
  expected = maps_and_gradient(layer, x)
  tf.config.experimental.enable_op_determinism()
  try:
    found = tf.function(lambda x: maps_and_gradient(layer, x), jit_compile=True)(x)
  finally:
    tf_config.disable_op_determinism()
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_of_equal_maxima_the_first_gets_the_gradient():
  values = np.random.default_rng(0).integers(0, 3, (2, 4, 6, 6, 2)).astype(np.float32)
  expected = np.zeros_like(values)
  for clip, t, h, w, channel in np.ndindex(2, 2, 3, 3, 2):
    corner = np.array([2 * t, 2 * h, 2 * w])
    cells = [tuple(corner + offset) for offset in np.ndindex(2, 2, 2)]
    first = max(cells, key=lambda cell: values[(clip, *cell, channel)])
    at = (clip, *first, channel)
    expected[at] = 2 * values[at]
  layer = layers.MaxPool3D((2, 2, 2), (2, 2, 2))
  _, gradient = maps_and_gradient(layer, tf.constant(values))
  np.testing.assert_array_equal(gradient, expected)

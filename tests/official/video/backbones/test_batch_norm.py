"""The fused batch norm against Keras' synchronized one, which spells it out."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video.backbones.batch_norm import BatchNormalization

OPTIONS = {'momentum': 0.9, 'epsilon': 1e-5, 'synchronized': True}


def made(kind, x):
  layer = kind(**OPTIONS)
  layer.build(x.shape)
  rng = np.random.default_rng(1)
  for variable in layer.variables:
    variable.assign(rng.uniform(0.5, 2, variable.shape))
  return layer


def operations(function, *args):
  graph = tf.function(function, autograph=False).get_concrete_function(*args).graph
  return {node.op for node in graph.as_graph_def().node}


@pytest.mark.parametrize(
  'shape', [(2, 3, 4, 5, 6), (2, 4, 5, 6), (8, 6), (1, 1, 1, 1, 6)]
)
def test_outputs_gradients_and_statistics_are_those_of_keras(shape):
  x = tf.constant(np.random.default_rng(0).normal(3, 2, shape), tf.float32)
  found = []
  for kind in (BatchNormalization, tf_keras.layers.BatchNormalization):
    layer = made(kind, x)
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = layer(x, training=True)
      loss = tf.reduce_sum(y * tf.sin(y))
    gradients = tape.gradient(loss, [x, layer.gamma, layer.beta])
    found.append([y, *gradients, *layer.variables, layer(x, training=False)])
  for ours, theirs in zip(*found, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=3e-4)


def test_only_maps_in_training_are_fused():
  x = tf.zeros([2, 3, 4, 5, 6])
  layer = made(BatchNormalization, x)
  fused = 'FusedBatchNormV3'
  assert fused in operations(lambda v: layer(v, training=True), x)
  assert fused not in operations(lambda v: layer(v, training=False), x)
  layer.trainable = False
  before = [v.numpy() for v in layer.variables]
  assert fused not in operations(lambda v: layer(v, training=True), x)
  layer(x, training=True)
  for old, new in zip(before, layer.variables, strict=True):
    np.testing.assert_array_equal(old, new)


def test_two_replicas_share_their_statistics(mirrored):
  strategy = mirrored(2)
  x = np.random.default_rng(0).normal(3, 2, (4, 3, 4, 5, 6)).astype(np.float32)
  with strategy.scope():
    shared = made(BatchNormalization, x[:2])
  halves = strategy.experimental_distribute_values_from_function(
    lambda context: tf.constant(x[2 * context.replica_id_in_sync_group :][:2])
  )
  run = tf.function(
    lambda v: strategy.run(lambda part: shared(part, training=True), args=(v,))
  )
  both = np.concatenate(strategy.experimental_local_results(run(halves)))
  alone = made(BatchNormalization, x)
  np.testing.assert_allclose(both, alone(x, training=True), rtol=1e-4, atol=2e-5)
  for one, other in zip(shared.variables, alone.variables, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4)

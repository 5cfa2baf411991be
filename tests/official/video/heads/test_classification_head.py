import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video.backbones import batch_norm
from official.video.checkpoints.names import logical_variables
from official.video.configs import heads
from official.video.heads.classification import (
  ClassificationHead,
  build_classification_head,
)

FEATURES = tf.random.stateless_normal([8, 6], [1, 2])


def test_shape_names_and_defaults():
  head = build_classification_head(heads.ClassificationHead(), 7)
  assert head(FEATURES).shape == (8, 7)
  assert set(logical_variables(head)) == {'output/kernel', 'output/bias'}
  kernel, bias = head.get_weights()
  np.testing.assert_allclose(head(FEATURES), FEATURES @ kernel + bias, rtol=1e-5)


def test_normalized_input_by_hand():
  head = ClassificationHead(2, normalize_input=True)
  features = tf.constant([[3.0, 4.0]])
  head(features)
  head.set_weights([np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.5, 0.0])])
  np.testing.assert_allclose(head(features), [[1.1, 1.6]], rtol=1e-6)


def test_dropout_acts_in_training_only():
  config = heads.ClassificationHead(dropout_rate=0.5)
  head = build_classification_head(config, 7)
  plain = head(FEATURES)
  np.testing.assert_array_equal(head(FEATURES, training=False), plain)
  assert np.abs(head(FEATURES, training=True) - plain).max() > 0.1
  off = build_classification_head(heads.ClassificationHead(), 7)
  np.testing.assert_array_equal(off(FEATURES, training=True), off(FEATURES))


def test_each_step_drops_others():
  head = build_classification_head(heads.ClassificationHead(dropout_rate=0.5), 7)
  first, second = (head(FEATURES, training=True) for _ in range(2))
  assert np.abs(first - second).max() > 0.1
  # A mask follows from the counter, which a checkpoint holds.
  head.dropout_step.assign_sub(1)
  np.testing.assert_array_equal(head(FEATURES, training=True), second)


def test_batch_norm_in_evaluation_is_by_the_moving_statistics():
  head = build_classification_head(heads.ClassificationHead(batch_norm=True), 7)
  plain = head(FEATURES, training=False)
  # As they begin: mean 0, variance 1.
  kernel, bias = head.output_dense.get_weights()
  expected = FEATURES / np.sqrt(1 + 1e-5) @ kernel + bias
  np.testing.assert_allclose(plain, expected, atol=1e-5)
  np.testing.assert_array_equal(head(FEATURES, training=False), plain)
  head(FEATURES + 3, training=True)
  assert np.abs(head(FEATURES, training=False) - plain).max() > 0.1


def test_logits_are_float32_under_mixed_precision():
  tf_keras.mixed_precision.set_global_policy('mixed_bfloat16')
  try:
    head = ClassificationHead(7)
    assert head(tf.cast(FEATURES, tf.bfloat16)).dtype == tf.float32
  finally:
    tf_keras.mixed_precision.set_global_policy('float32')


@pytest.mark.parametrize('sync', [True, False])
def test_batch_norm_is_over_all_replicas_as_the_backbones_is(mirrored, sync):
  norm = batch_norm.NormActivation()
  norm.override({'use_sync_bn': sync})
  features = tf.random.stateless_normal([8, 6], [3, 4]) + tf.repeat([[0.0], [5.0]], 4, 0)
  strategy = mirrored(2)
  with strategy.scope():
    head = build_classification_head(heads.ClassificationHead(batch_norm=True), 7, norm)
    head(features)
  parts = strategy.experimental_distribute_values_from_function(
    lambda c: features[4 * c.replica_id_in_sync_group :][:4]
  )
  step = tf.function(lambda x: strategy.run(lambda f: head(f, training=True), (x,)))
  actual = tf.concat(strategy.experimental_local_results(step(parts)), 0)
  # By hand: a half that is normalized by itself has no trace of its offset.
  halves = [features] if sync else tf.split(features, 2)
  normal = [
    (x - tf.reduce_mean(x, 0)) / (tf.math.reduce_std(x, 0) + 1e-6) for x in halves
  ]
  kernel = head.output_dense.kernel.read_value()
  np.testing.assert_allclose(actual, tf.concat(normal, 0) @ kernel, atol=1e-3)

"""BYOL's regression loss."""

import numpy as np
import tensorflow as tf

from official.video.losses import byol


def test_is_two_minus_two_cosines_of_any_lengths():
  a = tf.constant([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
  b = tf.constant([[7.0, 0.0], [-2.0, 0.0], [0.0, 5.0]])
  np.testing.assert_allclose(byol.regression_loss(a, b), [0.0, 4.0, 2.0], atol=1e-6)


def test_each_view_predicts_the_other():
  x, y = [1.0, 0.0], [0.0, 1.0]
  views = tf.constant([[x, y]])
  np.testing.assert_allclose(byol.symmetric_loss(views, views), [4.0], atol=1e-6)
  np.testing.assert_allclose(byol.symmetric_loss(views, views[:, ::-1]), [0.0], atol=1e-6)


def test_no_gradient_reaches_the_target_and_zero_vectors_do_no_harm():
  a, b = tf.Variable([[1.0, 2.0], [0.0, 0.0]]), tf.Variable([[2.0, 1.0], [1.0, 1.0]])
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(byol.regression_loss(a, b))
  of_a, of_b = tape.gradient(loss, [a, b])
  assert of_b is None
  assert np.isfinite(of_a.numpy()).all() and np.abs(of_a[0]).max() > 0


def test_both_views_learn_and_neither_target_does():
  predictions, targets = (
    tf.Variable(tf.random.stateless_normal([3, 2, 4], [seed, 0])) for seed in (1, 2)
  )
  with tf.GradientTape() as tape:
    loss = byol.symmetric_loss(predictions, targets)
  assert loss.shape == (3,)
  of_predictions, of_targets = tape.gradient(loss, [predictions, targets])
  assert of_targets is None
  assert (np.abs(of_predictions).max(-1) > 0).all()


def test_vectors_down_to_the_bound_have_a_direction():
  # The bound is on the norm: of 1e-12, where a bound on its square would be 1e-6.
  short = tf.constant([[1e-10, 0.0]])
  np.testing.assert_allclose(byol.regression_loss(short, 2 * short), [0.0], atol=1e-6)

"""The regression loss of methods that predict a target network's output."""

import tensorflow as tf

_EPSILON = 1e-12


def regression_loss(prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
  """Squared distance of the normalized vectors: 2 - 2 cos, in [0, 4].

  No gradient reaches the target. Computed in float32 whatever the inputs' dtype.

  Args:
    prediction: `[..., D]`, of the online network.
    target: `[..., D]`, of the target network.

  Returns:
    float32 `[...]`.

  Source: arXiv 2006.07733, equation 2.
  """
  return 2.0 - 2.0 * tf.reduce_sum(
    _unit(prediction) * tf.stop_gradient(_unit(target)), -1
  )


def symmetric_loss(predictions: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
  """Each view's prediction against the other view's target, summed: in [0, 8].

  Args:
    predictions: `[B, 2, D]`, of the online network.
    targets: `[B, 2, D]`, of the target network, of the same views.

  Returns:
    float32 `[B]`.
  """
  return tf.reduce_sum(regression_loss(predictions, targets[:, ::-1]), 1)


def _unit(x: tf.Tensor) -> tf.Tensor:
  x = tf.cast(x, tf.float32)
  # The norm itself is bounded from below, its square not: as where the method comes from.
  return tf.math.l2_normalize(x, -1, epsilon=_EPSILON**2)

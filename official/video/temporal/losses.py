"""The three losses of G-TAD.

Source: arXiv 1911.11462, sections 3.4 and 4.1, and the ActivityNet branch of its public code;
written anew.
"""

import tensorflow as tf


def balanced_cross_entropy(logits: tf.Tensor, positive: tf.Tensor) -> tf.Tensor:
  """Mean cross entropy in which positives and negatives weigh the same.

  Args:
    logits: any shape.
    positive: bool of that shape.

  Returns:
    Scalar: half the mean over positives and half that over negatives; of a kind that is
    absent nothing is added. At even odds everywhere log 2.
  """
  target = tf.cast(positive, tf.float32)
  loss = tf.nn.sigmoid_cross_entropy_with_logits(target, logits)
  means = [
    tf.math.divide_no_nan(tf.reduce_sum(loss * weight), tf.reduce_sum(weight))
    for weight in (target, 1 - target)
  ]
  return 0.5 * tf.add_n(means)


def balanced_regression(
  logits: tf.Tensor, overlap: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
  """Half the mean squared error over as many medium and low overlaps as high ones.

  Args:
    logits: any shape.
    overlap: targets of that shape; high above 0.7, medium above 0.3, low above 0. Spans that
      touch no action teach nothing here.
    seed: int32 `[2]`, of the choice.

  Returns:
    Scalar.
  """
  high = overlap > 0.7
  medium = (overlap > 0.3) & (overlap <= 0.7)
  low = (overlap > 0) & (overlap <= 0.3)
  counts = [
    tf.math.count_nonzero(group, dtype=tf.float32) for group in (high, medium, low)
  ]
  # A batch without a high overlap, where the public code divides 0 by 0, draws one of each.
  wanted = tf.maximum(counts[0], 1.0)
  drawn = tf.random.stateless_uniform(tf.shape(overlap), seed)
  chosen = high
  for group, count in ((medium, counts[1]), (low, counts[2])):
    chosen |= group & (drawn < tf.math.divide_no_nan(wanted, count))
  weight = tf.cast(chosen, tf.float32)
  error = tf.square(tf.sigmoid(logits) - overlap)
  return 0.5 * tf.math.divide_no_nan(tf.reduce_sum(error * weight), tf.reduce_sum(weight))


def total_loss(outputs: dict, target: dict, seed: tf.Tensor) -> dict[str, tf.Tensor]:
  """Border, classification and 10 times regression loss, and 'loss', their sum.

  Args:
    outputs: of `gtad.GtadModel`.
    target: of `targets.targets`, batched.
    seed: int32 `[2]`.
  """
  border = tf.add_n(
    [
      balanced_cross_entropy(outputs[name], target[name] > 0.5)
      for name in ('start', 'end')
    ]
  )
  kind = balanced_cross_entropy(outputs['classification'], target['overlap'] > 0.9)
  regression = balanced_regression(outputs['regression'], target['overlap'], seed)
  return {
    'loss': border + kind + 10.0 * regression,
    'border_loss': border,
    'classification_loss': kind,
    'regression_loss': regression,
  }

import numpy as np
import pytest
import tensorflow as tf

from official.video.temporal import losses

SEED = (0, 1)


def softplus(x):
  return np.log1p(np.exp(x))


def sigmoid(x):
  return 1 / (1 + np.exp(-np.asarray(x)))


def test_balanced_cross_entropy_by_hand():
  positive = tf.constant([True, False, False])
  loss = losses.balanced_cross_entropy(tf.constant([0.0, 2.0, -1.0]), positive)
  expected = 0.5 * softplus(0.0) + 0.5 * (softplus(2.0) + softplus(-1.0)) / 2
  assert float(loss) == pytest.approx(expected, rel=1e-5)
  none = losses.balanced_cross_entropy(tf.constant([0.0, 2.0]), tf.constant([False] * 2))
  assert float(none) == pytest.approx((softplus(0.0) + softplus(2.0)) / 4, rel=1e-5)


def test_balanced_cross_entropy_equals_the_ratio_form():
  """The public code weighs by entries / positives; the same, but for its epsilon."""
  rng = np.random.default_rng(0)
  logits, positive = rng.normal(size=(4, 9)), rng.random((4, 9)) < 0.2
  p, ratio = sigmoid(logits), positive.size / positive.sum()
  weights = np.where(positive, 0.5 * ratio, 0.5 * ratio / (ratio - 1))
  expected = -(weights * np.log(np.where(positive, p, 1 - p))).mean()
  loss = losses.balanced_cross_entropy(tf.constant(logits, tf.float32), positive)
  assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_balanced_regression_by_hand():
  # Two high, one medium, one low; what overlaps nothing takes no part, whatever it says.
  overlap = np.array([[0.8, 0.9, 0.5], [0.2, 0.0, 0.0]])
  logits = np.array([[0.0, 1.0, -1.0], [0.5, 9.0, -9.0]])
  error = np.square(sigmoid(logits) - overlap)[overlap > 0]
  loss = losses.balanced_regression(
    tf.constant(logits, tf.float32), tf.constant(overlap, tf.float32), SEED
  )
  assert float(loss) == pytest.approx(0.5 * error.sum() / 4, rel=1e-5)


@pytest.mark.parametrize('share', [0.5, 0.2])
def test_as_many_medium_or_low_as_high_are_drawn(share):
  overlap = np.repeat([0.9, share], [300, 3000]).astype(np.float32)
  # No error at the high ones, an error of 1 (nearly) at the others: half of the chosen.
  logits = np.where(overlap > 0.7, np.log(9), np.where(overlap > 0.3, 30, 30))
  loss = losses.balanced_regression(tf.constant(logits, tf.float32), overlap, SEED)
  assert float(loss) == pytest.approx(0.5 * (1 - share) ** 2 / 2, rel=0.15)
  again = losses.balanced_regression(tf.constant(logits, tf.float32), overlap, (5, 5))
  assert float(again) != float(loss)


def test_thresholds_of_the_three_sets():
  """Which of two overlaps is drawn with one high one shows in what the loss is taken of."""
  for value, counted in ((0.0, False), (0.01, True), (0.31, True), (0.71, True)):
    overlap = tf.constant([0.9, value], tf.float32)
    logits = tf.constant([np.log(9), 30.0], tf.float32)
    loss = float(losses.balanced_regression(logits, overlap, SEED))
    expected = 0.5 * (1 - value) ** 2 / 2 if counted else 0.0
    assert loss == pytest.approx(expected, abs=1e-6)


def test_a_batch_without_high_overlaps_is_finite():
  loss = losses.balanced_regression(tf.zeros([4]), tf.constant([0.5, 0.2, 0, 0]), SEED)
  assert float(loss) == pytest.approx(0.5 * (0.0 + 0.3**2) / 2, rel=1e-5)
  assert float(losses.balanced_regression(tf.zeros([4]), tf.zeros([4]), SEED)) == 0


def test_the_total_by_hand():
  outputs = {
    'start': tf.constant([[0.0, 1.0]]),
    'end': tf.constant([[2.0, 0.0]]),
    'regression': tf.constant([[0.0, 0.0, 1.0]]),
    'classification': tf.constant([[1.0, -1.0, 0.5]]),
  }
  target = {
    'start': tf.constant([[1.0, 0.5]]),  # A half is not positive.
    'end': tf.constant([[0.0, 0.51]]),
    'overlap': tf.constant([[0.95, 0.9, 0.0]]),  # Of these .95 alone is above .9.
  }
  found = losses.total_loss(outputs, target, SEED)
  border = 0.5 * (softplus(0) + softplus(1)) + 0.5 * (softplus(2) + softplus(0))
  kind = 0.5 * (softplus(-1) + (softplus(-1) + softplus(0.5)) / 2)
  regression = 0.5 * (0.45**2 + 0.4**2) / 2
  for name, value in (
    ('border_loss', border),
    ('classification_loss', kind),
    ('regression_loss', regression),
    ('loss', border + kind + 10 * regression),
  ):
    assert float(found[name]) == pytest.approx(value, rel=1e-5), name

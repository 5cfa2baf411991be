import numpy as np
import pytest
import tensorflow as tf

from official.video.losses import response


def test_labels_are_a_diamond_about_the_centre():
  labels = response.response_labels(17, 8, 16)
  assert labels[8, 8] == labels[8, 10] == labels[9, 9] == labels[6, 8] == 1
  assert labels[8, 11] == labels[9, 10] == labels[10, 10] == 0
  assert labels.sum() == 13
  np.testing.assert_array_equal(
    response.response_labels(5, 8, 8),
    [[0] * 5, [0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0] * 5],
  )


def test_both_kinds_of_cells_weigh_the_same():
  labels = response.response_labels(3, 1, 0)  # One cell of nine.
  logits = np.full((2, 3, 3), -2.0)
  logits[:, 1, 1] = 1.0
  logits[1, 0, 0] = 3.0
  soft = np.logaddexp(0, [-1.0, -2.0, 3.0])  # A hit, a rejection, a mistake.
  expected = [(soft[0] + soft[1]) / 2, soft[0] / 2 + (7 * soft[1] + soft[2]) / 16]
  logits = tf.constant(logits, tf.float32)
  np.testing.assert_allclose(
    response.balanced_cross_entropy(logits, labels), expected, rtol=1e-5
  )
  np.testing.assert_allclose(
    response.balanced_accuracy(logits, labels), [1.0, 0.5 + 7 / 16], rtol=1e-6
  )


def test_no_answer_costs_log_2():
  labels = response.response_labels(17, 8, 16)
  loss = response.balanced_cross_entropy(tf.zeros([1, 17, 17]), labels)
  assert float(loss[0]) == pytest.approx(np.log(2), rel=1e-5)

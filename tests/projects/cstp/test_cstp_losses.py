"""CSTP's objective by hand."""

import numpy as np
import pytest
import tensorflow as tf

from official.video.projects.cstp import losses


def logits_of(probabilities):
  return tf.math.log(tf.constant(probabilities, tf.float32))


def sample():
  """Two samples: what the networks say, and what is right."""
  pair = [[0.5, 0.3, 0.1, 0.05, 0.05], [0.2, 0.2, 0.2, 0.2, 0.2]]
  views = [[[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]]] * 2
  x, y = [1.0, 0.0], [0.0, 1.0]
  outputs = {
    # The first sample's views predict each other's target; the second's predict their
    # own, which is at a right angle to the other's.
    'prediction': tf.constant([[x, y], [x, y]]),
    'target': tf.constant([[y, x], [x, y]]),
    'spatial': logits_of(pair),
    'temporal': logits_of(pair[::-1]),
    'playback': logits_of(views),
    'rotation': logits_of(views),
  }
  labels = {
    'spatial_label': tf.constant([1, 4]),
    'temporal_label': tf.constant([0, 0]),
    'playback_label': tf.constant([0, 3]),
    'rotation_label': tf.constant([[0, 3], [1, 3]]),
  }
  return outputs, labels


def test_terms_by_hand():
  terms = losses.per_sample(*sample())
  expected = {
    'byol': [0, 2 + 2],
    'spatial': -np.log([0.3, 0.2]),
    'temporal': -np.log([0.2, 0.5]),
    # One label for both views, and a label for each: summed over the views.
    'playback': -np.log([0.7 * 0.1, 0.1 * 0.4]),
    'rotation': -np.log([0.7 * 0.4, 0.1 * 0.4]),
    'temporal_accuracy': [1, 1],
    'spatial_accuracy': [0, 0],
    'playback_accuracy': [0.5, 0.5],
    'rotation_accuracy': [1, 0.5],
  }
  assert set(terms) == set(expected)
  for name, values in expected.items():
    np.testing.assert_allclose(terms[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_hits_name_their_class():
  found = losses.hits(*sample())
  assert found['rotation_hit'].numpy().tolist() == [[1, 1], [0, 1]]
  assert found['rotation_true_class'].numpy().tolist() == [[0, 3], [1, 3]]
  assert found['playback_true_class'].numpy().tolist() == [[0, 0], [3, 3]]
  assert found['spatial_hit'].shape == (2, 1)


def test_classes_count_the_same_however_frequent():
  hits, classes = np.array([1, 1, 1, 0]), np.array([0, 0, 0, 2])
  assert losses.balanced_accuracy(hits, classes) == 0.5


def test_the_total_is_weighted_in_the_order_of_the_tasks():
  terms = {
    'byol': 1.0,
    'spatial': 10.0,
    'temporal': 100.0,
    'playback': 1e3,
    'rotation': 1e4,
  }
  terms = {name: tf.constant(value) for name, value in terms.items()}
  assert float(losses.total(terms, (1, 2, 3, 4, 5))) == 54321
  assert float(losses.total(terms, (0, 0, 3, 0, 0))) == 300
  assert float(losses.total(terms, (0, 0, 0, 0, 0))) == 0
  # The published weights.
  assert float(losses.total(terms)) == pytest.approx(0.1 + 11110)
  # A term of weight 0 may be anything.
  terms['spatial'] = tf.constant(np.nan)
  assert float(losses.total(terms, (1, 0, 3, 4, 5))) == 54301

import numpy as np
import pytest
import tensorflow as tf

from official.video.errors import UserError
from official.video.heads import temporal_convolution


def test_scores_by_hand():
  head = temporal_convolution.TemporalConvolutionHead(2, (2, 1, 1), 3)
  x = tf.constant([1.0, 3.0, 7.0], shape=(1, 3, 1, 1, 1))
  head(x)
  # Means of two frames are 2 and 5; each class sees (before, here, after).
  head.conv.kernel.assign(np.reshape([[1, 0], [10, 0], [100, 1]], (3, 1, 1, 1, 2)))
  first = 0 * 1 + 2 * 10 + 5 * 100, 2 * 1 + 5 * 10 + 0 * 100
  np.testing.assert_allclose(head(x), [[np.mean(first), np.mean([5, 0])]])


def test_larger_maps_are_averaged():
  head = temporal_convolution.TemporalConvolutionHead(4)
  x = tf.random.stateless_uniform([2, 3, 7, 7, 5], [1, 2])
  expected = head(x)
  wide = tf.tile(x, [1, 1, 2, 2, 1])
  # Any window of a periodic map has the same mean.
  np.testing.assert_allclose(head(wide), expected, rtol=1e-5, atol=1e-6)


def test_logits_are_float32():
  head = temporal_convolution.TemporalConvolutionHead(2, dtype='mixed_bfloat16')
  assert head(tf.zeros([1, 2, 7, 7, 3], tf.bfloat16)).dtype == tf.float32


def test_a_small_map_is_refused():
  head = temporal_convolution.TemporalConvolutionHead(2)
  with pytest.raises(UserError, match='is 2 x 4 x 4; expected at least 2 x 7 x 7'):
    head(tf.zeros([1, 2, 4, 4, 8]))

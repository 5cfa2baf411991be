import numpy as np
import pytest
import tensorflow as tf

from official.video.heads import siamese


def test_cross_correlation_by_hand():
  rng = np.random.default_rng(0)
  z, x = rng.normal(size=(2, 3, 3, 4)), rng.normal(size=(2, 6, 6, 4))
  actual = siamese.cross_correlation(
    tf.constant(z, tf.float32), tf.constant(x, tf.float32)
  )
  assert actual.shape == (2, 4, 4)
  for b in range(2):
    for i in range(4):
      for j in range(4):
        expected = (z[b] * x[b, i : i + 3, j : j + 3]).sum()
        assert float(actual[b, i, j]) == pytest.approx(expected, abs=1e-4)


def test_both_maps_start_apart_and_within_the_root_of_the_channels():
  head = siamese.SiameseHead(64)
  assert head(tf.ones([1, 2, 2, 100])).shape == (1, 2, 2, 128)
  kernels = np.stack([head.exemplar.kernel, head.search.kernel])
  assert 0.09 < np.abs(kernels).max() <= 0.1
  assert abs(np.corrcoef(*kernels.reshape(2, -1))[0, 1]) < 0.1

import numpy as np
import pytest
import tensorflow as tf

from official.video.augment import normalization
from tests import modes


@pytest.mark.parametrize(
  'zero_centering,low,high', [(False, 0.0, 1.0), (True, -1.0, 1.0)]
)
def test_bytes_and_floats_share_one_range(zero_centering, low, high):
  pixels = np.array([0, 51, 255], np.uint8)

  def normalize(x):
    return normalization.normalize(x, zero_centering)

  scaled = modes.assert_same(normalize, pixels, atol=1e-7)
  assert scaled.dtype == np.float32
  np.testing.assert_allclose(scaled, [low, low + 0.2 * (high - low), high], atol=1e-6)
  np.testing.assert_allclose(normalize(tf.constant(pixels / 255)), scaled, atol=1e-6)

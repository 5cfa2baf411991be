"""Pixel functions against TensorFlow's, the reference's, and by hand."""

import numpy as np
import pytest
import tensorflow as tf
from official.projects.video_ssl.ops import video_ssl_preprocess_ops as reference

from official.video.augment import pixels
from tests import modes
from tests.frames import CORNERS, clip, tall


@pytest.mark.parametrize('frames', [clip(), CORNERS], ids=['noise', 'corners'])
def test_adjustments_equal_tensorflows(frames):
  def ours(x):
    return (
      pixels.adjust_brightness(x, tf.constant(1.7)),
      pixels.adjust_contrast(x, tf.constant(0.3)),
      pixels.adjust_contrast(x, tf.constant(1.7)),
      pixels.adjust_saturation(x, tf.constant(0.3)),
      pixels.adjust_saturation(x, tf.constant(1.7)),
      pixels.adjust_hue(x, tf.constant(0.2)),
      pixels.adjust_hue(x, tf.constant(-0.13)),
      pixels.to_grayscale(x),
    )

  x = tf.constant(frames)
  theirs = [
    x * 1.7,
    tf.reshape(tf.image.adjust_contrast(tall(x), 0.3), x.shape),
    tf.reshape(tf.image.adjust_contrast(tall(x), 1.7), x.shape),
    tf.image.adjust_saturation(x, 0.3),
    tf.image.adjust_saturation(x, 1.7),
    tf.image.adjust_hue(x, 0.2),
    tf.image.adjust_hue(x, -0.13),
    tf.tile(tf.image.rgb_to_grayscale(x), [1, 1, 1, 3]),
  ]
  for actual, expected in zip(modes.assert_same(ours, x, atol=1e-6), theirs, strict=True):
    np.testing.assert_allclose(actual, tf.clip_by_value(expected, 0.0, 1.0), atol=1e-5)


def test_solarize_inverts_from_the_threshold_on():
  values = tf.constant([0.0, 0.25, 0.49999, 0.5, 0.75, 1.0])
  found = pixels.solarize(values, tf.constant(0.5)).numpy()
  np.testing.assert_allclose(found, [0.0, 0.25, 0.49999, 0.5, 0.25, 0.0])
  found = pixels.solarize(values, tf.constant(0.25)).numpy()
  np.testing.assert_allclose(found, [0.0, 0.75, 0.50001, 0.5, 0.25, 0.0], rtol=1e-5)
  frames = tf.constant(clip())
  expected = reference.random_solarization(frames, p=1.0)
  np.testing.assert_allclose(
    pixels.solarize(frames, tf.constant(0.5)), expected, atol=1e-6
  )


def test_blur_by_hand():
  frames = np.zeros((1, 5, 5, 3), np.float32)
  frames[0, 2, 2, 1] = 1
  w = np.exp(-0.5 * np.array([1.0, 0.0, 1.0]) / 0.8**2)
  w /= w.sum()
  blurred = pixels.gaussian_blur(tf.constant(frames), tf.constant(0.8), 1)
  np.testing.assert_allclose(blurred[0, 1:4, 1:4, 1], np.outer(w, w), atol=1e-6)
  np.testing.assert_allclose(np.sum(blurred), 1, atol=1e-5)

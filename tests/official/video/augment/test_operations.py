"""Random operations: their draws, their two ways, bytes, frames alike."""

import gin
import numpy as np
import pytest
import tensorflow as tf
from official.projects.video_ssl.ops import video_ssl_preprocess_ops as reference

from official.video import draws
from official.video.augment import operations
from tests import modes
from tests.frames import SHAPE, both_ways, clip


@pytest.mark.parametrize('size', [30, 112, 224])
def test_blur_equals_the_reference(size):
  frames = np.zeros((2, size, 24, 3), np.float32)
  frames[:, size // 2 :] = clip(shape=(2, size - size // 2, 24, 3))
  frames[:, :3] = 1
  op = operations.GaussianBlur()
  for sigma in (0.1, 0.3, 0.46, 0.7, 0.95, 1.2, 1.43, 1.69, 1.7, 2.0):
    expected = reference.gaussian_blur(tf.constant(frames), size // 10, sigma)
    actual = both_ways(op, frames, {'sigma': sigma})
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_blurs_leave_out_next_to_nothing():
  places = np.arange(-60, 61)
  for radius in range(12):
    sigma = operations._largest_sigma(radius)
    for factor, small in ((1.0, True), (1.01, False)):
      taps = np.exp(-0.5 * (places / (sigma * factor)) ** 2)
      left_out = taps[np.abs(places) > radius].sum() / taps.sum()
      assert (left_out < 1.0001e-4) == small, radius
  assert operations._blur_radii(11, 2.0) == [2, 4, 6, 8]
  assert operations._blur_radii(5, 2.0) == [2, 3, 4, 5]
  assert operations._blur_radii(11, 0.2) == operations._blur_radii(0, 2.0) == [0]
  assert operations._blur_radii(40, 9.0)[-1] == 35


def test_small_frames_are_not_blurred():
  frames = tf.constant(clip(shape=(2, 16, 16, 3)))
  assert np.array_equal(
    operations.GaussianBlur()(frames, draws.sample_key(0, 0, 0)), frames
  )


OPS = {
  'jitter': operations.ColorJitter(),
  'grayscale': operations.Grayscale(),
  'blur': operations.GaussianBlur(probability=0.5),
  'solarize': operations.Solarize(),
}


@pytest.mark.parametrize('name', OPS)
@pytest.mark.parametrize('on_device', [False, True])
def test_every_op_in_every_mode(name, on_device):
  """Under one key that lets it act and one that does not."""
  op, frames = OPS[name], tf.constant(clip())
  keys = [draws.sample_key(0, 0, record) for record in range(40)]
  acts = [bool(op.draw(key)['applied']) for key in keys]
  shapes = []

  def run(frames, key):
    result = op(frames, key, on_device)
    shapes.append(result.shape.as_list())
    return result

  for wanted in (True, False):
    key = keys[acts.index(wanted)]
    result = modes.assert_same(run, frames, key, atol=1e-5)
    assert np.array_equal(result, frames) is not wanted
    assert result.dtype == np.float32 and result.min() >= 0 and result.max() <= 1
  assert shapes == [list(SHAPE)] * len(shapes)
  assert np.array_equal(op(frames, key), op(frames, key))


@pytest.mark.parametrize('name', OPS)
@pytest.mark.parametrize('on_device', [False, True])
def test_every_op_takes_bytes(name, on_device):
  op = OPS[name]
  frames = np.random.default_rng(1).integers(0, 256, SHAPE).astype(np.uint8)
  for record in range(12):
    key = draws.sample_key(0, 0, record)
    scaled = op(tf.constant(frames / 255, tf.float32), key)
    np.testing.assert_allclose(op(tf.constant(frames), key, on_device), scaled, atol=1e-5)


@pytest.mark.parametrize('name', OPS)
def test_every_op_treats_the_frames_alike(name):
  op = OPS[name]
  key = next(
    k for k in (draws.sample_key(0, 0, r) for r in range(40)) if op.draw(k)['applied']
  )
  still = tf.constant(np.repeat(clip()[:1], 3, 0))
  result = op(still, key).numpy()
  np.testing.assert_allclose(result, np.repeat(result[:1], 3, 0), atol=1e-6)


@pytest.fixture(scope='module')
def drawn():
  """The real draws of all operations over 2,000 keys, by name."""
  tree = modes.over_keys(
    lambda key: {name: op.draw(key) for name, op in OPS.items()}, 2000
  )
  return {f'{op}/{name}': v for op, values in tree.items() for name, v in values.items()}


@pytest.mark.parametrize(
  'name,low,high',
  [
    ('jitter/brightness', 0.2, 1.8),
    ('jitter/contrast', 0.2, 1.8),
    ('jitter/saturation', 0.2, 1.8),
    ('jitter/hue', -0.2, 0.2),
    ('blur/sigma', 0.1, 2.0),
  ],
)
def test_parameters_are_uniform_in_their_ranges(drawn, name, low, high):
  values = drawn[name]
  assert low <= values.min() and values.max() < high
  assert modes.kolmogorov(values, lambda x: (x - low) / (high - low)) < 0.0435


@pytest.mark.parametrize(
  'name,probability',
  [('jitter', 0.8), ('grayscale', 0.2), ('blur', 0.5), ('solarize', 0.2)],
)
def test_probabilities(drawn, name, probability):
  error = 3.3 * np.sqrt(probability * (1 - probability) / 2000)
  assert abs(drawn[f'{name}/applied'].mean() - probability) < error


def test_every_order_is_as_likely(drawn):
  _, counts = np.unique(drawn['jitter/order'], axis=0, return_counts=True)
  assert len(counts) == 24
  assert ((counts - 2000 / 24) ** 2 / (2000 / 24)).sum() < 49.7  # chi-square, 23, .999


def test_strengths_bound_the_draws():
  soft = operations.ColorJitter(0.1, 0.0, 2.0, 0.05, probability=1.0)
  drawn = modes.over_keys(soft.draw, 200)
  assert drawn['brightness'].min() >= 0.9 and drawn['brightness'].max() < 1.1
  assert (drawn['contrast'] == 1).all()
  assert 0 <= drawn['saturation'].min() < 0.1 and 2.9 < drawn['saturation'].max() < 3
  assert np.abs(drawn['hue']).max() <= 0.05 and drawn['applied'].all()


def test_gin_files_name_the_operations_as_ever():
  for name in ('ColorJitter', 'photometric.ColorJitter', 'augment.photometric.Solarize'):
    assert gin.config.get_configurable(name) is not None
  with gin.unlock_config():
    gin.parse_config('official.video.augment.photometric.ColorJitter.hue = 0.01')
    drawn = operations.ColorJitter().draw(draws.sample_key(0, 0, 0))
    gin.clear_config()
  assert abs(float(drawn['hue'])) <= 0.01

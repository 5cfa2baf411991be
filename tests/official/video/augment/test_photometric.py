import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf
from official.projects.video_ssl.ops import video_ssl_preprocess_ops as reference

from official.video import draws
from official.video.augment import photometric
from tests import modes

SHAPE = (3, 22, 18, 3)


def clip(seed=0, shape=SHAPE):
  return np.random.default_rng(seed).random(shape).astype(np.float32)


def tall(frames):
  """The frames stacked along the height, as the reference sees them."""
  return tf.reshape(frames, [-1, *frames.shape[2:]])


# Greys, primaries, black and white: where HSV has its corners.
CORNERS = np.array(
  [[a, b, c] for a in (0, 0.5, 1) for b in (0, 0.5, 1) for c in (0, 0.5, 1)], np.float32
).reshape(1, 3, 9, 3)


@pytest.mark.parametrize('frames', [clip(), CORNERS], ids=['noise', 'corners'])
def test_adjustments_equal_tensorflows(frames):
  def ours(x):
    return (
      photometric.adjust_brightness(x, tf.constant(1.7)),
      photometric.adjust_contrast(x, tf.constant(0.3)),
      photometric.adjust_contrast(x, tf.constant(1.7)),
      photometric.adjust_saturation(x, tf.constant(0.3)),
      photometric.adjust_saturation(x, tf.constant(1.7)),
      photometric.adjust_hue(x, tf.constant(0.2)),
      photometric.adjust_hue(x, tf.constant(-0.13)),
      photometric.to_grayscale(x),
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
  found = photometric.solarize(values, tf.constant(0.5)).numpy()
  np.testing.assert_allclose(found, [0.0, 0.25, 0.49999, 0.5, 0.25, 0.0])
  frames = tf.constant(clip())
  expected = reference.random_solarization(frames, p=1.0)
  np.testing.assert_allclose(
    photometric.solarize(frames, tf.constant(0.5)), expected, atol=1e-6
  )


@functools.cache
def graph(method):
  return tf.function(method, autograph=False)


def both_ways(op, frames, drawn):
  """What an operation makes of frames in a train step and, checked to be it, on a host."""
  frames = tf.constant(frames)
  drawn = {name: tf.constant(value) for name, value in drawn.items()}
  expected = graph(op.apply)(frames, drawn).numpy()
  actual = graph(op.apply_on_host)(frames, drawn)
  np.testing.assert_allclose(actual, expected, atol=2e-6)
  return expected


@pytest.mark.parametrize('size', [30, 112, 224])
def test_blur_equals_the_reference(size):
  frames = np.zeros((2, size, 24, 3), np.float32)
  frames[:, size // 2 :] = clip(shape=(2, size - size // 2, 24, 3))
  frames[:, :3] = 1
  op = photometric.GaussianBlur()
  for sigma in (0.1, 0.3, 0.46, 0.7, 0.95, 1.2, 1.43, 1.69, 1.7, 2.0):
    expected = reference.gaussian_blur(tf.constant(frames), size // 10, sigma)
    actual = both_ways(op, frames, {'sigma': sigma})
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_blurs_leave_out_next_to_nothing():
  places = np.arange(-60, 61)
  for radius in range(12):
    sigma = photometric._largest_sigma(radius)
    for factor, small in ((1.0, True), (1.01, False)):
      taps = np.exp(-0.5 * (places / (sigma * factor)) ** 2)
      left_out = taps[np.abs(places) > radius].sum() / taps.sum()
      assert (left_out < 1.0001e-4) == small, radius
  assert photometric._blur_radii(11, 2.0) == [2, 4, 6, 8]
  assert photometric._blur_radii(5, 2.0) == [2, 3, 4, 5]
  assert photometric._blur_radii(11, 0.2) == photometric._blur_radii(0, 2.0) == [0]
  assert photometric._blur_radii(40, 9.0)[-1] == 35


def test_blur_by_hand():
  frames = np.zeros((1, 5, 5, 3), np.float32)
  frames[0, 2, 2, 1] = 1
  w = np.exp(-0.5 * np.array([1.0, 0.0, 1.0]) / 0.8**2)
  w /= w.sum()
  blurred = photometric.gaussian_blur(tf.constant(frames), tf.constant(0.8), 1)
  np.testing.assert_allclose(blurred[0, 1:4, 1:4, 1], np.outer(w, w), atol=1e-6)
  np.testing.assert_allclose(np.sum(blurred), 1, atol=1e-5)


def test_small_frames_are_not_blurred():
  frames = tf.constant(clip(shape=(2, 16, 16, 3)))
  assert np.array_equal(
    photometric.GaussianBlur()(frames, draws.sample_key(0, 0, 0)), frames
  )


@pytest.mark.parametrize('order', itertools.permutations(range(4)))
@pytest.mark.parametrize('strong', [True, False])
def test_jitter_runs_in_the_drawn_order_and_clips_after_each(order, strong):
  factors = (1.6, 1.5, 1.7, 0.15) if strong else (0.7, 0.4, 0.5, -0.18)
  steps = [
    lambda x: x * factors[0],
    lambda x: tf.image.adjust_contrast(x, factors[1]),
    lambda x: tf.image.adjust_saturation(x, factors[2]),
    lambda x: tf.image.adjust_hue(x, factors[3]),
  ]
  frames = clip()
  expected = tall(tf.constant(frames))
  for step in order:
    expected = tf.clip_by_value(steps[step](expected), 0.0, 1.0)
  names = 'brightness', 'contrast', 'saturation', 'hue'
  drawn = dict(zip(names, factors, strict=True)) | {'order': order}
  actual = both_ways(JITTER, frames, drawn)
  np.testing.assert_allclose(actual, tf.reshape(expected, SHAPE), atol=3e-5)


JITTER = photometric.ColorJitter()


def test_jitter_of_greys_and_primaries_ends_in_range():
  for order in itertools.permutations(range(4)):
    drawn = {'brightness': 1.8, 'contrast': 1.8, 'saturation': 1.8, 'hue': 0.2}
    result = both_ways(JITTER, CORNERS, drawn | {'order': order})
    assert result.min() >= 0 and result.max() <= 1


OPS = {
  'jitter': photometric.ColorJitter(),
  'grayscale': photometric.Grayscale(),
  'blur': photometric.GaussianBlur(probability=0.5),
  'solarize': photometric.Solarize(),
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
  soft = photometric.ColorJitter(0.1, 0.0, 2.0, 0.05, probability=1.0)
  drawn = modes.over_keys(soft.draw, 200)
  assert drawn['brightness'].min() >= 0.9 and drawn['brightness'].max() < 1.1
  assert (drawn['contrast'] == 1).all()
  assert 0 <= drawn['saturation'].min() < 0.1 and 2.9 < drawn['saturation'].max() < 3
  assert np.abs(drawn['hue']).max() <= 0.05 and drawn['applied'].all()

"""RandAugment: its draws, magnitudes of the reference, one result in every mode."""

import gin
import numpy as np
import pytest
import tensorflow as tf
from official.vision.ops import augment as reference
from PIL import Image

from official.video import draws
from official.video.augment import levels, policies, rand_augment
from official.video.configs import data as data_config
from official.video.data import key_frames, views
from official.video.errors import UserError
from tests import modes

CLIP = np.random.default_rng(0).integers(0, 221, (2, 24, 20, 3)).astype(np.uint8)
NAMES = list(rand_augment.RandAugment().ops(1, 1))


def keys_of(count):
  return [draws.sample_key(0, 0, record) for record in range(count)]


def test_every_operation_in_every_mode():
  """Both directions, stacked: an outer graph compiles all of them together."""
  ops = rand_augment.RandAugment(magnitude=7.0).ops(24, 20)

  def run(clip):
    return tf.stack(
      [op(clip, tf.constant(x)) for op in ops.values() for x in (0 < 1, 1 < 0)]
    )

  found = modes.assert_same(run, CLIP)
  assert found.dtype == np.uint8 and found.shape == (2 * len(NAMES), *CLIP.shape)
  for name, (one, other) in zip(NAMES, found.reshape(-1, 2, *CLIP.shape), strict=True):
    assert np.array_equal(one, CLIP) == (name == 'Identity'), name
    signed = name.startswith(('Rotate', 'Shear', 'Translate'))
    assert np.array_equal(one, other) != signed, name


def composed(op, clip, drawn):
  """What the operations that were drawn do one after the other."""
  ops = list(op.ops(*clip.shape[1:3]).values())
  for number, positive in zip(drawn['ops'], drawn['positive'], strict=True):
    clip = ops[number](clip, positive)
  return clip


def test_layers_follow_one_another_in_every_mode():
  op = rand_augment.RandAugment(3, 7.0)
  key = next(k for k in keys_of(99) if len(set(op.draw(k)['ops'].numpy()) - {0}) == 3)
  found = modes.assert_same(lambda clip: op(clip, key), CLIP)
  expected = composed(op, tf.constant(CLIP), op.draw(key))
  np.testing.assert_allclose(found, expected / 255, atol=1e-6)
  on_device = modes.compiled(lambda clip: op(clip, key, on_device=True), CLIP)
  np.testing.assert_array_equal(on_device, found)
  # Floats are the levels that they were made of.
  np.testing.assert_array_equal(op(tf.constant(CLIP / 255, tf.float32), key), found)


def test_draws():
  op = rand_augment.RandAugment(2)
  drawn = modes.over_keys(op.draw, 3200)
  for layer in range(2):
    counts = np.bincount(drawn['ops'][:, layer], minlength=16)
    assert ((counts - 200) ** 2 / 200).sum() < 37.7  # chi-square, 15, .999
  assert len(NAMES) == 16 and drawn['applied'].all()
  assert np.abs(drawn['positive'].mean(0) - 0.5).max() < 0.03
  # Layers and directions are drawn apart.
  pairs = np.corrcoef(np.concatenate([drawn['ops'], drawn['positive']], 1).T)
  assert np.abs(pairs - np.eye(4)).max() < 0.07


@pytest.mark.parametrize('magnitude', [3.0, 5.0, 10.0])
def test_magnitudes_are_the_references(magnitude):
  """Of what PIL's own tests do not tell: the numbers behind a magnitude, by the effect."""
  ops = rand_augment.RandAugment(magnitude=magnitude).ops(24, 20)
  arguments = reference.level_to_arg(40.0, 100.0)
  image, true = tf.constant(CLIP[:1]), tf.constant(True)
  for name, theirs, off in (
    ('Posterize', reference.posterize, 0),
    # At 10 the reference's threshold of 256 is none of uint8; ours inverts nothing.
    *([('Solarize', reference.solarize, 0)] if magnitude < 10 else []),
    ('SolarizeAdd', reference.solarize_add, 0),
    ('Brightness', reference.brightness, 1),
    ('Color', reference.color, 2),
  ):
    expected = theirs(image[0], *arguments[name](magnitude)).numpy().astype(int)
    found = ops[name](image, true)[0].numpy().astype(int)
    assert np.abs(found - expected).max() <= off, name
  for name, begin in (('Rotate', 30), ('ShearX', 0.3), ('TranslateX', 100 / 224 * 20)):
    level = begin * magnitude / 10
    transform = {
      'Rotate': lambda level: levels.rotated(level, 20, 24),
      'ShearX': levels.sheared_x,
      'TranslateX': lambda level: levels.translated(round(level), 0),
    }[name](level)
    pil = Image.fromarray(CLIP[0]).transform(
      (20, 24), Image.Transform.AFFINE, transform, fillcolor=(128,) * 3
    )
    same = (ops[name](image, true)[0].numpy() == np.asarray(pil)).all(-1)
    assert same.mean() > 0.99, name


def test_ends_of_the_magnitudes():
  ops = rand_augment.RandAugment(magnitude=0.0).ops(24, 20)
  assert ops['Posterize'](tf.constant(CLIP), tf.constant(True)).numpy().max() == 128
  ops = rand_augment.RandAugment(magnitude=10.0).ops(24, 20)
  np.testing.assert_array_equal(
    ops['Solarize'](tf.constant(CLIP), tf.constant(True)), CLIP
  )


def test_frames_change_alike():
  still = tf.constant(np.repeat(CLIP[:1], 3, 0))
  policy = policies.build_policy('rand_augment')
  apply = tf.function(lambda key: policy(still, key, 0), autograph=False)
  for key in keys_of(12):
    found = apply(key).numpy()
    np.testing.assert_array_equal(found, np.repeat(found[:1], 3, 0))


def test_numbers_come_from_gin():
  try:
    gin.parse_config('rand_augment.num_layers = 4\nrand_augment.magnitude = 0.0')
    policy = policies.build_policy('rand_augment')
    drawn = policy.draw(draws.sample_key(0, 0, 0), 1)
    assert drawn['RandAugment/0']['ops'].shape == [4]
    gin.parse_config('rand_augment.magnitude = 11.0')
    with pytest.raises(
      UserError, match=r'rand_augment\.magnitude 11\.0: expected 0 to 10'
    ):
      policies.build_policy('rand_augment')
  finally:
    gin.clear_config()


@pytest.mark.parametrize('fields', [{'num_layers': 0}, {'translate_const': 300}])
def test_numbers_that_mean_nothing_are_refused(fields):
  with pytest.raises(UserError, match=rf'rand_augment\.{next(iter(fields))} .*expected'):
    rand_augment.RandAugment(**fields)


@pytest.mark.parametrize('kind', [key_frames.VIEWS, 'augmented'])
def test_boxes_do_not_follow_a_warp(kind):
  config = data_config.DataConfig(num_views=1, views=kind)
  config.regions.generator = 'boxes'
  config.augmentation.policy = 'rand_augment'
  if kind == 'augmented':
    views.build_view_maker(config)
    return
  with pytest.raises(UserError, match="policy 'rand_augment': moves what is seen"):
    views.build_view_maker(config)

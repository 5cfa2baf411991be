import pathlib

import gin
import numpy as np
import pytest
import tensorflow as tf

from official.video import draws
from official.video.augment import geometric, operations, pixels, policies
from official.video.configs import data as data_config
from official.video.data import samplers
from official.video.errors import UserError
from tests import modes

ROOT = pathlib.Path(__file__).parents[4]
CLIP = np.random.default_rng(0).integers(0, 256, (2, 24, 20, 3)).astype(np.uint8)
KEY = draws.sample_key(3, 0, 1)


@pytest.fixture(autouse=True)
def composed():
  """'custom' cannot be built without a composition."""
  gin.parse_config('custom.ops = [@ColorJitter(), @Grayscale()]')
  yield
  gin.clear_config()


def names(policy, view):
  return list(policy.draw(KEY, view))


def test_operations_of_the_named_policies():
  cvrl = policies.build_policy('cvrl')
  first = ['ColorJitter/0', 'Grayscale/0', 'GaussianBlur/0']
  assert names(cvrl, 0) == first == names(cvrl, 2)
  assert names(cvrl, 1) == [*first, 'Solarize/0']
  paper = policies.build_policy('cvrl_paper')
  assert names(paper, 0) == names(paper, 1) == first[:2]
  assert names(policies.build_policy('none'), 0) == []
  assert names(policies.build_policy('custom'), 1) == first[:2]


@pytest.mark.parametrize('name', sorted(policies.POLICIES))
@pytest.mark.parametrize('view', [0, 1])
def test_every_policy_in_every_mode(name, view):
  policy = policies.build_policy(name)
  result = modes.assert_same(lambda c, k: policy(c, k, view), CLIP, KEY, atol=1e-5)
  assert result.shape == CLIP.shape and result.dtype == np.float32
  assert result.min() >= 0 and result.max() <= 1


def test_none_only_scales():
  result = policies.build_policy('none')(tf.constant(CLIP), KEY, 0)
  np.testing.assert_allclose(result, CLIP / 255, atol=1e-6)


@pytest.mark.parametrize('jit', [False, True])
@pytest.mark.parametrize('view', [0, 1])
def test_a_batch_is_its_clips_one_by_one(jit, view):
  """A train step with it on a device sees what the host would have made."""
  policy = policies.build_policy('cvrl')
  rng = np.random.default_rng(1)
  clips = tf.constant(rng.integers(0, 256, (6, 2, 120, 16, 3)).astype(np.uint8))
  keys = tf.stack([draws.sample_key(0, 0, record) for record in range(6)])

  def augment(clips, keys):
    return policy.batch(clips, keys, view)

  specs = [
    tf.TensorSpec([None, *clips.shape[1:]], tf.uint8),
    tf.TensorSpec([None, 2], tf.int32),
  ]
  step = tf.function(augment, jit_compile=jit, input_signature=specs)
  batch = step(clips, keys)
  assert batch.shape == clips.shape
  on_host = tf.function(lambda clip, key: policy(clip, key, view), autograph=False)
  for i in range(6):
    np.testing.assert_allclose(batch[i], on_host(clips[i], keys[i]), atol=1e-5)


def test_the_operations_run_in_order_on_their_own_keys():
  policy = policies.Policy(
    [[operations.Solarize(0.6, 1.0), operations.Solarize(0.3, 1.0)]]
  )
  once = pixels.solarize(pixels.to_float(tf.constant(CLIP)), tf.constant(0.6))
  expected = pixels.solarize(once, tf.constant(0.3))
  np.testing.assert_allclose(policy(tf.constant(CLIP), KEY, 0), expected, atol=1e-6)
  twice = policies.Policy([[operations.ColorJitter(), operations.ColorJitter()]]).draw(
    KEY, 0
  )
  assert list(twice) == ['ColorJitter/0', 'ColorJitter/1']
  assert twice['ColorJitter/0']['hue'] != twice['ColorJitter/1']['hue']


def probabilities(name, view):
  policy = policies.build_policy(name)
  drawn = modes.over_keys(lambda key: policy.draw(key, view), 1500)
  return {op: values['applied'].mean() for op, values in drawn.items()}


def test_the_views_of_cvrl_differ_in_blur_and_solarization():
  first, second = probabilities('cvrl', 0), probabilities('cvrl', 1)
  assert first['GaussianBlur/0'] == 1
  assert abs(second['GaussianBlur/0'] - 0.1) < 0.026
  assert abs(second['Solarize/0'] - 0.2) < 0.035


def test_no_two_draws_of_a_sample_are_correlated():
  """Frames, crops, flips and pixels of both views, over records and epochs."""
  policy, sampler = policies.build_policy('cvrl'), samplers.IntervalSampler()

  def row(key):
    indices = sampler(key, 300, 16, 2, 2)
    numbers = [indices[0, 0], indices[1, 0] - indices[0, 0]]
    for view in (0, 1):
      view_key = draws.fold(key, view)
      window = geometric.random_resized_crop_window(view_key, 256, 340)
      # Size and place of a window hang together; its size is one draw of several.
      numbers += [window[2] * window[3], draws.bernoulli(view_key, 'flip', 0.5)]
      for drawn in policy.draw(view_key, view).values():
        numbers += [v for k, v in drawn.items() if k != 'order']
        numbers += list(tf.unstack(drawn['order']))[:1] if 'order' in drawn else []
    return tf.stack([tf.cast(number, tf.float32) for number in numbers])

  rows = np.concatenate([modes.over_keys(row, 1000, epoch) for epoch in (0, 1)])
  rows = rows[:, rows.std(0) > 0]  # the first view's blur always acts
  # A start and its difference to the other one are dependent by construction.
  correlations = np.abs(np.corrcoef(rows.T) - np.eye(rows.shape[1]))
  correlations[0, 1] = correlations[1, 0] = 0
  assert rows.shape[1] == 24
  assert correlations.max() < 4.5 / np.sqrt(2000)


def test_views_that_share_a_key_still_differ():
  policy = policies.build_policy('cvrl_paper')
  hues = [float(policy.draw(KEY, view)['ColorJitter/0']['hue']) for view in (0, 1)]
  assert hues[0] != hues[1]
  assert hues[0] == float(policy.draw(KEY, 0)['ColorJitter/0']['hue'])


def test_unknown_names_get_the_nearest():
  with pytest.raises(
    UserError, match=r"augmentation\.policy 'cvlr'.*did you mean 'cvrl'"
  ):
    policies.build_policy('cvlr')


def test_gin_composes_a_policy_for_each_view():
  gin.clear_config()
  gin.parse_config("""
    custom.ops = [@ColorJitter(), @GaussianBlur()]
    custom.second_view_ops = [@Solarize()]
    Solarize.probability = 1.0
    Solarize.threshold = 0.0
  """)
  policy = policies.build_policy('custom')
  assert names(policy, 0) == ['ColorJitter/0', 'GaussianBlur/0']
  np.testing.assert_allclose(policy(tf.constant(CLIP), KEY, 1), 1 - CLIP / 255, atol=1e-6)


def test_soft_jitter_example_changes_the_draws():
  def jitter():
    policy = policies.build_policy('cvrl')
    return modes.over_keys(lambda key: policy.draw(key, 0)['ColorJitter/0'], 800)

  def gaps():
    sampler = samplers.build_sampler(data_config.Sampler())
    starts = modes.over_keys(lambda key: sampler(key, 230, 16, 2, 2)[:, 0], 2000)
    return np.abs(starts[:, 0] - starts[:, 1])

  hard, near = jitter(), gaps()
  gin.parse_config_file(str(ROOT / 'configs/gin/soft_jitter.gin'))
  soft, far = jitter(), gaps()
  for name, strength in {
    'brightness': 0.4,
    'contrast': 0.4,
    'saturation': 0.4,
    'hue': 0.1,
  }.items():
    centre = 0 if name == 'hue' else 1
    assert 0.9 * strength < np.abs(soft[name] - centre).max() <= strength
    np.testing.assert_allclose(soft[name] - centre, (hard[name] - centre) / 2, atol=1e-6)
  assert abs(soft['applied'].mean() - 0.5) < 0.06 < hard['applied'].mean() - 0.7
  assert abs((near.mean() + 0.5) / 200 - 1 / 3) < 0.02
  assert abs((far.mean() + 0.5) / 200 - 3 / 8) < 0.02
  view = policies.build_policy('cvrl')(tf.constant(CLIP), KEY, 0)
  assert view.shape == CLIP.shape

import numpy as np
import pytest
import tensorflow as tf

from official.video import draws
from official.video.backbones import grouping
from official.video.errors import UserError
from tests.goldens import cases, golden, relative_error

MODES = {'hard': 'straight_through', 'soft': 'soft'}


def random(*shape, seed=0):
  values = np.random.default_rng(seed).normal(size=shape)
  return tf.constant(values, tf.float32)


@pytest.mark.parametrize('mode', cases('gvilm_losses.npz', 'grouping/(.+)/output'))
def test_grouping_equals_the_goldens(mode):
  expected = golden('gvilm_losses.npz')
  groups = tf.constant(expected['grouping/in/group_tokens'])
  tokens = tf.constant(expected['grouping/in/video_tokens'])
  logits = tf.matmul(groups, tokens, transpose_b=True) / groups.shape[-1] ** 0.5
  assignment = grouping.assign(logits, MODES[mode])
  golden_assignment = expected[f'grouping/{mode}/assignment']
  assert relative_error(assignment, golden_assignment) < 1e-6
  output = groups + grouping.aggregate(assignment, tokens)
  assert relative_error(output, expected[f'grouping/{mode}/output']) < 1e-6


def test_noise_is_finite_at_both_ends_of_the_draws():
  ends = grouping.gumbel(tf.constant([0.0, 0.5, 1 - 2.0**-24])).numpy()
  assert np.isfinite(ends).all() and (np.diff(ends) > 0).all()
  np.testing.assert_allclose(ends[1], -np.log(np.log(2)), rtol=1e-6)


def test_hard_assignment_is_one_hot_with_the_gradient_of_the_softmax():
  logits, weight = tf.Variable(random(2, 3, 5)), random(2, 3, 5, seed=1)
  gradients = {}
  for kind in ('straight_through', 'soft', 'stopped'):
    with tf.GradientTape() as tape:
      assignment = grouping.assign(logits, kind)
      value = tf.reduce_sum(assignment * weight)
    gradients[kind] = tape.gradient(value, logits)
    np.testing.assert_allclose(tf.reduce_sum(assignment, 1), 1, rtol=1e-6)
    if kind != 'soft':
      best = tf.one_hot(tf.argmax(logits, 1), 3, axis=1)
      np.testing.assert_allclose(assignment, best, atol=1e-6)
  assert gradients['stopped'] is None
  np.testing.assert_allclose(gradients['straight_through'], gradients['soft'], rtol=1e-5)


def test_empty_groups_stay_finite():
  assignment = tf.constant([[[1.0, 1.0], [0.0, 0.0]]])
  values = tf.constant([[[2.0, 4.0], [6.0, 8.0]]])
  mean = grouping.aggregate(assignment, values)
  np.testing.assert_allclose(mean, [[[8 / 3, 4.0], [0, 0]]], rtol=1e-6)
  total = grouping.aggregate(assignment, values, 'sum')
  np.testing.assert_allclose(total, [[[8.0, 12.0], [0, 0]]])


@pytest.mark.parametrize('pre_attention', [False, True])
def test_hard_assignment_passes_gradients_to_queries_and_keys(pre_attention):
  block = grouping.GroupingBlock(8, 16, pre_attention=pre_attention)
  groups, tokens = random(2, 3, 8), random(2, 5, 8, seed=1)
  with tf.GradientTape() as tape:
    refined, assignment = block(groups, tokens)
    value = tf.reduce_sum(refined * random(2, 3, 8, seed=2))
  assert set(np.unique(assignment.numpy().round(6))) == {0.0, 1.0}
  gradients = tape.gradient(value, block.trainable_variables)
  by_name = {v.name: g for v, g in zip(block.trainable_variables, gradients, strict=True)}
  for part in ('query/kernel', 'key/kernel', 'value/kernel', 'mlp_1/kernel'):
    found = [g for name, g in by_name.items() if name.endswith(f'{part}:0')]
    assert found and all(float(tf.norm(g)) > 0 for g in found), part


def test_noise_is_gumbel_and_a_function_of_the_samples_key():
  keys = tf.stack([draws.sample_key(0, 0, i) for i in range(4)])
  noise = grouping.gumbel_noise(keys, 'a', (50, 60)).numpy()
  assert noise.mean() == pytest.approx(0.5772, abs=0.04)
  assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.1)
  again = grouping.gumbel_noise(tf.reverse(keys, [0]), 'a', (50, 60)).numpy()
  np.testing.assert_array_equal(again[::-1], noise)
  assert not np.array_equal(noise[0], noise[1])
  assert not np.array_equal(grouping.gumbel_noise(keys, 'b', (50, 60)), noise)


def test_noise_changes_assignments():
  block = grouping.GroupingBlock(8, 16)
  groups, tokens = random(1, 6, 8), random(1, 40, 8, seed=1)
  plain = block(groups, tokens)[1]
  np.testing.assert_array_equal(plain, block(groups, tokens)[1])
  noisy = block(groups, tokens, draws.sample_key(0, 0, 1)[None])[1]
  assert not np.array_equal(plain, noisy)


def test_unknown_kinds_are_refused():
  with pytest.raises(UserError, match='assignment'):
    grouping.GroupingBlock(8, 16, assignment='harder')
  with pytest.raises(UserError, match='aggregation'):
    grouping.GroupingBlock(8, 16, aggregation='median')

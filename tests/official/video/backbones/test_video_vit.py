import math

import numpy as np
import pytest
import tensorflow as tf

from official.video import draws
from official.video.backbones import factory, families, video_vit
from official.video.checkpoints import names
from official.video.errors import UserError


def config(**changes):
  values = {
    'hidden_size': 16,
    'num_layers': 3,
    'num_heads': 2,
    'mlp_dim': 32,
    'tubelet': (2, 8, 8),
    'grid': (4, 4, 4),
    'num_groups': 5,
    'grouping_layers': (2, 3),
  } | changes
  return families.of('video_vit', **values)


def build(remat='none', **changes):
  return factory.build_backbone(config(**changes), remat=remat)


def clips(*shape, seed=0):
  values = np.random.default_rng(seed).normal(size=shape)
  return tf.constant(values, tf.float32)


def test_endpoints():
  net = build()
  endpoints = net(clips(2, 8, 32, 32, 3))
  shapes = {name: tuple(value.shape) for name, value in endpoints.items()}
  assert shapes == {
    'tokens': (2, 4, 4, 4, 16),
    'cls': (2, 1, 1, 1, 16),
    'groups': (2, 5, 1, 1, 16),
    'assignment_2': (2, 4, 4, 4, 5),
    'assignment_3': (2, 4, 4, 4, 5),
  }
  np.testing.assert_allclose(tf.reduce_sum(endpoints['assignment_3'], -1), 1, 1e-5)
  for name, spec in net.output_specs.items():
    spec.assert_is_compatible_with(shapes[name])


def test_a_plain_transformer_has_no_groups():
  net = build(num_groups=0)
  assert set(net(clips(1, 8, 32, 32, 3))) == {'tokens', 'cls'} == set(net.output_specs)
  assert not any('group' in name for name in names.logical_variables(net))


def test_the_published_vit_b_has_its_size():
  net = factory.build_backbone(families.of('video_vit'))
  width, blocks = 768, 12
  block = 4 * (width**2 + width) + 2 * width * 3072 + 3072 + width + 4 * width
  grouping = 4 * (width**2 + width) + 2 * width * 3072 + 3072 + width + 6 * width
  embedding = 2 * 16 * 16 * 3 * width + width + (1 + 3136 + 1 + 32) * width
  expected = blocks * block + 3 * grouping + embedding + 4 * width
  assert net.count_params() == expected


def test_interpolated_positions_keep_a_linear_code():
  grid, new = (4, 3, 5), (8, 6, 10)
  places = np.stack(np.meshgrid(*map(np.arange, grid), indexing='ij'), -1)
  table = np.concatenate([np.full((1, 1, 3), 9.0), places.reshape(1, -1, 3)], 1)
  table = tf.constant(table, tf.float32)
  assert video_vit.resized_positions(table, grid, grid) is table
  resized = video_vit.resized_positions(table, grid, new).numpy()
  np.testing.assert_array_equal(resized[0, 0], 9)
  inner = resized[0, 1:].reshape(*new, 3)[1:-1, 1:-1, 1:-1]
  expected = np.stack(
    np.meshgrid(*((np.arange(2 * n) + 0.5) / 2 - 0.5 for n in grid), indexing='ij'), -1
  )
  np.testing.assert_allclose(inner, expected[1:-1, 1:-1, 1:-1], atol=1e-5)


def test_other_sizes_are_taken():
  net = build()
  call = tf.function(lambda x: net(x)['tokens'])
  any_size = call.get_concrete_function(tf.TensorSpec([None, None, None, None, 3]))
  small, large = clips(1, 8, 32, 32, 3), clips(1, 12, 48, 40, 3)
  np.testing.assert_allclose(any_size(small), net(small)['tokens'], atol=1e-5)
  assert any_size(large).shape == (1, 6, 6, 5, 16)


def gradients(net, x, keys=None):
  with tf.GradientTape() as tape:
    endpoints = net(x, training=True, keys=keys)
    value = tf.add_n([tf.reduce_sum(tf.sin(3 * v)) for v in endpoints.values()])
  return value, tape.gradient(value, net.trainable_variables)


@pytest.mark.parametrize('compiled', [False, True])
@pytest.mark.parametrize('remat', ['all', 'block_1,grouping_3'])
def test_recomputed_blocks_have_the_same_gradients(remat, compiled):
  plain, lean = build(), build(remat)
  lean.set_weights(plain.get_weights())
  x, keys = clips(2, 8, 32, 32, 3), draws.sample_key(0, 0, 1)
  keys = tf.stack([keys, draws.fold(keys, 1)])
  run = [tf.function(lambda n=net: gradients(n, x, keys)) for net in (plain, lean)]
  if compiled:
    run[1] = tf.function(lambda: gradients(lean, x, keys), jit_compile=True)
  (value, expected), (other, actual) = (f() for f in run)
  assert float(other) == pytest.approx(float(value), rel=1e-4)
  # Of key biases the true gradient is 0, so they hold rounding only.
  floor = 1e-3 * max(np.abs(one).max() for one in expected)
  for variable, one, many in zip(plain.variables, expected, actual, strict=True):
    scale = max(np.abs(one).max(), floor)
    np.testing.assert_allclose(
      many / scale, one / scale, atol=1e-3, err_msg=variable.name
    )


def test_every_weight_gets_a_gradient():
  net = build()
  value, found = gradients(net, clips(2, 8, 32, 32, 3))
  assert np.isfinite(value)
  for variable, gradient in zip(net.trainable_variables, found, strict=True):
    assert gradient is not None, variable.name


def test_dropped_paths_skip_a_block():
  net = build(drop_path=0.999999, num_groups=0, num_layers=2)
  x = clips(3, 8, 32, 32, 3)
  dropped = net(x, training=True)['cls']
  net.blocks[1].drop_path = 0.0
  before = int(net.blocks[1].drop_step)
  assert not np.allclose(dropped, net(x, training=True)['cls'])
  assert int(net.blocks[1].drop_step) == before
  first = net.blocks[0](net.embedding(x))
  np.testing.assert_allclose(dropped, net.norm(first)[:, :1, None, None], atol=1e-5)


def test_impossible_configurations_are_refused():
  with pytest.raises(UserError, match='num_heads 3'):
    build(num_heads=3)
  with pytest.raises(UserError, match='grouping_layers'):
    build(grouping_layers=(0, 2))
  with pytest.raises(UserError, match=r"no stage 'res2'"):
    build('res2')


def gelu_of(x, activation):
  if activation == 'gelu':
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))
  if activation == 'gelu_tanh':
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
  return x / (1 + np.exp(-1.702 * x))


@pytest.mark.parametrize('activation', list(video_vit.ACTIVATIONS))
def test_activations(activation):
  x = np.linspace(-4, 4, 33)
  actual = video_vit.ACTIVATIONS.find(activation)(tf.constant(x, tf.float32))
  np.testing.assert_allclose(actual, gelu_of(x, activation), atol=1e-6)


def test_sinusoidal_codes_by_hand():
  codes = video_vit.sinusoidal_positions(3, 4)
  expected = [
    [0, 1, 0, 1],
    [np.sin(1), np.cos(1), np.sin(0.01), np.cos(0.01)],
    [np.sin(2), np.cos(2), np.sin(0.02), np.cos(0.02)],
  ]
  np.testing.assert_allclose(codes, [expected], atol=1e-7)


def test_fixed_positions_without_a_class_token():
  fields = {'cls_token': False, 'positions': 'sinusoidal', 'num_groups': 3}
  net = build(final_norm='mean', grouping_layers=(2,), **fields)
  assert not any(
    name.startswith(('embedding/cls', 'embedding/position'))
    for name in names.logical_variables(net)
  )
  endpoints = net(clips(2, 8, 32, 32, 3))
  shapes = {name: tuple(value.shape) for name, value in endpoints.items()}
  assert shapes == {
    'tokens': (2, 4, 4, 4, 16),
    'pooled': (2, 1, 1, 1, 16),
    'groups': (2, 3, 1, 1, 16),
    'assignment_2': (2, 4, 4, 4, 3),
  }
  assert set(net.output_specs) == {'tokens', 'pooled', 'groups'}
  net.norm.gamma.assign(np.arange(16.0))
  mean = tf.reduce_mean(endpoints['tokens'], [1, 2, 3])
  np.testing.assert_allclose(
    net(clips(2, 8, 32, 32, 3))['pooled'][:, 0, 0, 0], net.norm(mean), atol=1e-5
  )
  # Of black clips, the tubelets hold nothing but their codes, the first ones in time first.
  black = net.embedding(tf.zeros([1, 8, 32, 32, 3]))[0, :64]
  np.testing.assert_allclose(black, video_vit.sinusoidal_positions(64, 16)[0])
  half = net.embedding(tf.zeros([1, 4, 32, 32, 3]))[0, :32]
  np.testing.assert_allclose(half[:16], (black[:16] + black[16:32]) / 2, atol=1e-6)


def test_norms_before_the_first_block():
  net = build(pre_norm=True, num_groups=2, grouping_layers=(3,))
  tokens = net.embedding(clips(1, 8, 32, 32, 3))[0]
  np.testing.assert_allclose(tf.reduce_mean(tokens[:-2], -1), 0, atol=1e-5)
  np.testing.assert_allclose(tf.math.reduce_std(tokens[:-2], -1), 1, atol=1e-2)
  np.testing.assert_array_equal(tokens[-2:], net.embedding.groups[0])


def test_unknown_choices_are_refused():
  for field in ('activation', 'positions', 'final_norm'):
    with pytest.raises(UserError, match=rf"video_vit\.{field} 'other': expected one of"):
      build(**{field: 'other'})

"""What every family after a PyTorch original must do."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video.backbones import batch_norm
from official.video.errors import UserError
from official.video.settings import experiment
from tests import backbones

# The smallest clip of each.
FAMILIES = {
  'r2plus1d': (1, 1, 1),
  'c3d': (8, 16, 16),
  'r3d': (1, 1, 1),
  's3d': (5, 17, 17),
  'i3d': (2, 2, 2),
}
NARROW = 0.0625

every_family = pytest.mark.parametrize('family', FAMILIES)


def clip_shape(family: str) -> tuple[int, ...]:
  return *map(max, FAMILIES[family], (4, 16, 16)), 3


def clips(family: str) -> tf.Tensor:
  return tf.random.stateless_uniform([4, *clip_shape(family)], [1, 2], -1)


def narrow(family: str, norm=None, specs=None, **fields) -> tf_keras.Model:
  fields = {'width_multiplier': NARROW} | fields
  return backbones.build(family, norm, specs, **fields)


@functools.cache
def shared(family: str) -> tf_keras.Model:
  """One net for the tests that change nothing but its moving statistics."""
  tf_keras.utils.set_random_seed(1)
  return narrow(family)


def norms(net: tf_keras.Model) -> list[tf_keras.layers.BatchNormalization]:
  return [x for x in net.layers if isinstance(x, tf_keras.layers.BatchNormalization)]


@every_family
def test_a_gradient_reaches_every_variable(family):
  net = shared(family)
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(net(clips(family), training=True)['5'] ** 2)
  gradients = tape.gradient(loss, net.trainable_variables)
  for variable, gradient in zip(net.trainable_variables, gradients, strict=True):
    # Batch norm takes away what a bias before it adds.
    added = family == 'c3d' and variable.name.split('/')[-1] == 'bias:0'
    if not added:
      assert np.abs(gradient).max() > 0, variable.name


@pytest.mark.parametrize(
  ('family', 'sync'),
  [
    ('r2plus1d', True),
    ('c3d', True),
    ('c3d', False),
    ('r3d', True),
    pytest.param('s3d', False, marks=pytest.mark.slow),
    pytest.param('i3d', False, marks=pytest.mark.slow),
  ],
)
def test_compiles_forward_and_gradient(family, sync):
  tf_keras.utils.set_random_seed(1)
  norm = batch_norm.NormActivation()
  norm.use_sync_bn = sync
  net = narrow(family, norm, **({'model_id': 10} if family == 'r3d' else {}))
  weights, inputs = net.get_weights(), clips(family)

  def step(x):
    with tf.GradientTape() as tape:
      outputs = net(x)
      loss = tf.reduce_mean(outputs['5'] ** 2)
    gradients = tape.gradient(loss, net.trainable_variables, unconnected_gradients='zero')
    # Only the first of the maps in training mode: batch norm over the few values of the
    # last ones makes of rounding whatever it likes.
    return {'first': net(x, training=True)['1'], 'last': outputs['5']}, loss, gradients

  maps, loss, gradients = tf.function(step)(inputs)
  net.set_weights(weights)
  compiled_maps, compiled_loss, compiled = tf.function(step, jit_compile=True)(inputs)
  for name, expected in maps.items():
    np.testing.assert_allclose(compiled_maps[name], expected, rtol=1e-3, atol=1e-3)
  np.testing.assert_allclose(compiled_loss, loss, rtol=1e-3)
  total = tf.linalg.global_norm(gradients).numpy()
  differences = [a - b for a, b in zip(compiled, gradients, strict=True)]
  assert total > 0
  assert tf.linalg.global_norm(differences).numpy() < 1e-3 * total


@every_family
def test_norm_options_reach_every_layer(family):
  norm = batch_norm.NormActivation()
  norm.override(
    {
      'norm_momentum': 0.7,
      'norm_epsilon': 1e-3,
      'use_sync_bn': False,
      'activation': 'swish',
    }
  )
  net = narrow(family, norm)
  seen = {(x.momentum, x.epsilon, x.synchronized) for x in norms(net)}
  assert seen == {(0.7, 1e-3, False)}
  assert {x.synchronized for x in norms(shared(family))} == {True}
  assert net(clips(family))['5'].numpy().min() < 0


def test_fused_norm_moves_to_the_unbiased_variance():
  net = narrow('c3d', backbones.unsynchronized())
  before = net.get_layer('conv5b').output
  last = tf_keras.Model(net.input, before)(clips('c3d'), training=True)
  values = last.numpy().reshape(-1, last.shape[-1])
  net(clips('c3d'), training=True)
  expected = 0.9 + 0.1 * values.var(0, ddof=1)
  moved = net.get_layer('bn5b').moving_variance
  np.testing.assert_allclose(moved, expected, rtol=1e-4)


@every_family
def test_input_specs_give_static_shapes(family):
  specs = tf_keras.layers.InputSpec(shape=[None, *clip_shape(family)])
  net = narrow(family, specs=specs)
  static = {name: tuple(shape[1:]) for name, shape in net.output_specs.items()}
  actual = shared(family)(clips(family))
  assert static == {name: tuple(x.shape[1:]) for name, x in actual.items()}
  assert list(static) == list('12345')


@every_family
@pytest.mark.parametrize('size', [(9, 37, 50), (11, 18, 45)])
def test_odd_sizes(family, size):
  endpoints = shared(family)(tf.zeros([1, *size, 3]))
  for name, x in endpoints.items():
    assert min(x.shape) > 0, name
    assert np.isfinite(x).all(), name


@every_family
def test_clips_that_are_too_small_are_refused(family):
  smallest, net = FAMILIES[family], shared(family)
  last = net(tf.zeros([1, *smallest, 3]))['5']
  assert last.shape[1:4] == (1, 1, 1)
  for axis in range(3):
    size = [n - (i == axis) for i, n in enumerate(smallest)]
    with pytest.raises(UserError, match=rf'{family}: clips are .* expected at least'):
      net(tf.zeros([1, *size, 3]))
  specs = tf_keras.layers.InputSpec(shape=[None, *size, 3])
  with pytest.raises(UserError, match=rf'{family}: clips are .*feature_shape'):
    narrow(family, specs=specs)


RESNET = {'model_id': 10, 'width_multiplier': NARROW}
OTHERS = {
  'resnet_3d': RESNET,
  'resnet_3dy': RESNET,
  'video_vit': {
    'hidden_size': 16,
    'num_layers': 2,
    'num_heads': 2,
    'mlp_dim': 16,
    'num_groups': 3,
    'grouping_layers': [1, 2],
  },
}


@pytest.mark.slow
@pytest.mark.parametrize(
  'frames_and_side',
  [(None, None), pytest.param((16, 32), marks=pytest.mark.exhaustive), (16, 48)],
)
@pytest.mark.parametrize('kind', [*FAMILIES, *OTHERS])
def test_small_clips_give_in_a_graph_what_they_give_eagerly(kind, frames_and_side):
  frames, side = frames_and_side
  size = (frames, side, side) if frames else FAMILIES.get(kind, (8, 32, 32))
  if kind == 'video_vit':
    grid = [size[0] // 2, size[1] // 16, size[2] // 16]
    fields = OTHERS[kind] | {'tubelet': [2, 16, 16], 'grid': grid}
    net = backbones.build(kind, **fields)
  else:
    net = narrow(kind, **OTHERS[kind]) if kind in OTHERS else shared(kind)
  clips = tf.random.stateless_uniform([2, *size, 3], [1, 2], -1)
  expected = net(clips)
  # Of unknown batch, as an export's signatures are: TensorFlow's rewriter sees less.
  spec = tf.TensorSpec([None, *size, 3])
  for actual in (
    tf.function(net)(clips),
    tf.function(net, input_signature=[spec])(clips),
  ):
    for name, x in expected.items():
      np.testing.assert_allclose(actual[name], x, atol=1e-4, err_msg=name)


@every_family
def test_width_multiplier_scales_every_channel(family):
  wide = narrow(family, width_multiplier=2 * NARROW)
  for one, two in zip(norms(shared(family)), norms(wide), strict=True):
    a, b = one.gamma.shape[0], two.gamma.shape[0]
    # The number inside R(2+1)D's stem depends on the clip's channels as well.
    if (family, one.name) != ('r2plus1d', 'conv1/bn'):
      assert abs(b - 2 * a) <= 1, one.name


@every_family
def test_standard_initialization(family):
  net = shared(family)
  for norm in norms(net):
    np.testing.assert_array_equal(norm.gamma, 1.0)
  for key, (variable, _) in backbones.tensors(backbones.pytorch_layers(net)).items():
    if key.endswith('.bias'):
      np.testing.assert_array_equal(variable, 0.0)


def test_reference_initialization():
  tf_keras.utils.set_random_seed(1)
  net = backbones.build('c3d', width_multiplier=0.5, weight_init='reference')
  scales = net.get_layer('bn5b').gamma.numpy()
  limit = math.sqrt(6 / 256)
  assert 0.9 * limit < scales.max() <= limit
  assert -limit <= scales.min() < -0.9 * limit
  assert abs(scales.mean()) < 0.1 * limit
  layer = net.get_layer('conv3b')
  fan = 27 * 128
  kernel, bias = layer.kernel.numpy(), layer.bias.numpy()
  limit = math.sqrt(6 / (2 * fan))
  assert 0.99 * limit < np.abs(kernel).max() <= limit
  limit = 1 / math.sqrt(fan)
  assert 0.9 * limit < np.abs(bias).max() <= limit


@every_family
def test_reference_initialization_draws_every_scale(family):
  net = narrow(family, weight_init='reference')
  for norm in norms(net):
    scales, limit = norm.gamma.numpy(), math.sqrt(3 / max(1, norm.gamma.shape[0] // 2))
    assert np.abs(scales).max() <= limit, norm.name
    assert (scales != 1).all(), norm.name
  for key, (variable, _) in backbones.tensors(backbones.pytorch_layers(net)).items():
    if key.endswith(('fc.bias', 'conv1.bias')):
      assert np.abs(variable).max() > 0, key


@every_family
def test_every_variable_has_a_pytorch_name(family):
  net = shared(family)
  named = backbones.tensors(backbones.pytorch_layers(net)).values()
  assert {id(v) for v, _ in named} == {id(v) for v in net.variables}


@every_family
@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'width_multiplier': 0.0}, r'width_multiplier is 0.0; expected a number above 0'),
    ({'weight_init': 'zero'}, r"weight_init 'zero': expected one of standard, refer"),
  ],
)
def test_impossible_options_are_named(family, fields, message):
  with pytest.raises(UserError, match=rf'backbone\.{family}\.{message}'):
    backbones.build(family, **fields)


@pytest.mark.parametrize('family', ['r2plus1d', 's3d'])
def test_mixed_precision_keeps_float32_variables(family):
  tf_keras.mixed_precision.set_global_policy('mixed_bfloat16')
  try:
    net = narrow(family, backbones.unsynchronized())
  finally:
    tf_keras.mixed_precision.set_global_policy('float32')
  assert net(clips(family), training=True)['5'].dtype == tf.bfloat16
  assert {v.dtype for v in net.variables} == {tf.float32}


@every_family
def test_an_experiment_takes_it_by_type(family):
  params = experiment.load('cvrl_pretrain_tiny')
  text = (
    f'task.model.backbone: {{type: {family}, {family}: {{width_multiplier: {NARROW}}}}}'
  )
  experiment.apply_overrides(params, text, 'test')
  model = experiment.build_task(params).built_model()
  assert model.backbone.name == family
  width = model.backbone.output_specs['5'][-1]
  shape = (2, *params.task.train_data.feature_shape)
  output = model(tf.random.stateless_uniform(shape, [1, 2]), training=True)
  assert output['feature'].shape == (2, width)
  assert output['output'].shape == (2, 64)

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video.backbones import batch_norm, factory, families, resnet_3d
from official.video.checkpoints.names import logical_variables
from official.video.errors import UserError

CLIPS = tf.random.stateless_uniform([4, 4, 16, 16, 3], [1, 2])


def build(norm=None, **fields) -> tf_keras.Model:
  config = families.Backbone()
  config.override({'resnet_3d': {'width_multiplier': 0.0625} | fields})
  return factory.build_backbone(config, norm)


# Counts of the bottleneck nets are the published ones.
@pytest.mark.parametrize(
  ('depth', 'parameters'),
  [
    (10, None),
    (18, None),
    (34, None),
    (50, 31_725_248),
    (101, 59_682_496),
    pytest.param(152, 82_187_968, marks=pytest.mark.slow),
  ],
)
def test_depths_build_and_run(depth, parameters):
  net = build(model_id=depth, stem_conv_temporal_stride=1)
  expansion = 4 if depth >= 50 else 1
  assert {name: tuple(x.shape) for name, x in net(CLIPS[:1]).items()} == {
    '2': (1, 4, 4, 4, 4 * expansion),
    '3': (1, 4, 2, 2, 8 * expansion),
    '4': (1, 4, 1, 1, 16 * expansion),
    '5': (1, 4, 1, 1, 32 * expansion),
  }
  assert net.output_specs['5'][-1] == 32 * expansion
  names = logical_variables(net)
  kernels = [n for n in names if n.endswith('kernel') and 'shortcut' not in n]
  assert len(kernels) == depth - 1  # the last of a depth's layers is the classifier
  if parameters:
    assert full_width_parameters(names) == parameters


def full_width_parameters(sixteenth: dict[str, tf.Variable]) -> int:
  """Size of a net by that of its 1/16 wide version: a kernel shrinks at both ends."""
  return sum(
    int(tf.size(v)) * (256 if 'kernel' in name and 'stem' not in name else 16)
    for name, v in sixteenth.items()
  )


def test_width_multiplier_scales_every_channel():
  narrow, wide = build(model_id=18), build(model_id=18, width_multiplier=0.125)
  for name, variable in logical_variables(wide).items():
    shape = np.array(logical_variables(narrow)[name].shape)
    channels = slice(-1, None) if name == 'stem/conv/kernel' else slice(-2, None)
    shape[channels] *= 2
    assert tuple(variable.shape) == tuple(shape), name


def test_temporal_options_reach_their_layers():
  net = build(
    model_id=50,
    stem_conv_temporal_kernel_size=3,
    stem_conv_temporal_stride=1,
    stem_pool_temporal_stride=2,
    temporal_kernel_sizes=[1, 3, 5, 3],
    temporal_strides=[1, 2, 1, 1],
  )
  shapes = {name: tuple(v.shape) for name, v in logical_variables(net).items()}
  assert shapes['stem/conv/kernel'][0] == 3
  kernels = [
    shapes[f'{stage}/block_1/temporal/conv/kernel'][0] for stage in resnet_3d.STAGES
  ]
  assert kernels == [1, 3, 5, 3]
  assert net.get_layer('stem/pool').pool_size == (3, 3, 3)
  endpoints = net(tf.zeros([1, 8, 16, 16, 3]))
  assert [endpoints[e].shape[1] for e in '2345'] == [4, 2, 2, 2]


def test_basic_block_shapes():
  shapes = {n: tuple(v.shape) for n, v in logical_variables(build(model_id=18)).items()}
  assert shapes['res2/block_0/first/conv/kernel'] == (1, 3, 3, 4, 4)
  assert shapes['res4/block_0/first/conv/kernel'] == (3, 3, 3, 8, 16)
  assert shapes['res4/block_0/second/conv/kernel'] == (3, 3, 3, 16, 16)
  assert shapes['res4/block_0/shortcut/conv/kernel'] == (1, 1, 1, 8, 16)
  assert 'res2/block_0/shortcut/conv/kernel' not in shapes


def test_shortcut_follows_a_stride_without_new_channels():
  net = build(model_id=10, temporal_strides=[2, 1, 1, 1])
  assert 'res2/block_0/shortcut/conv/kernel' in logical_variables(net)
  assert net(CLIPS)['2'].shape[1] == 1


# Strides as pretrained, and the same stages dilated instead: a stage, two, and all three.
DILATED = [
  {'spatial_strides': [1, 2, 2, 1], 'spatial_dilations': [1, 1, 1, 2]},
  {'spatial_strides': [1, 2, 1, 1], 'spatial_dilations': [1, 1, 2, 4]},
  {'spatial_strides': [1, 1, 1, 1], 'spatial_dilations': [1, 2, 4, 8]},
]
# Maps of odd sizes, where SAME places all windows alike; of even ones; of both.
SHAPES = [(65, 65), (64, 64), (48, 40)]


@pytest.fixture(scope='module')
def strided():
  """Nets whose norms differ from channel to channel, and what they make of clips."""
  nets = {}
  for family, depth in (('resnet_3d', 10), ('resnet_3d', 50), ('resnet_3dy', 18)):
    tf_keras.utils.set_random_seed(depth)
    fields = {
      'model_id': depth,
      'width_multiplier': 0.0625,
      'stem_conv_temporal_stride': 1,
      'temporal_strides': [1, 2, 1, 1],
    }
    config = families.Backbone()
    config.override({'type': family, family: fields})
    net = factory.build_backbone(config)
    weights = [w + 0.1 * np.random.uniform(size=w.shape) for w in net.get_weights()]
    net.set_weights(weights)
    nets[depth] = config, weights, outputs(net)
  return nets


def outputs(net) -> dict[tuple[int, int], dict[str, np.ndarray]]:
  """All endpoints for a clip of each shape."""
  made = {}
  for shape in SHAPES:
    clip = tf.random.stateless_uniform([1, 2, *shape, 3], [5, 6])
    made[shape] = {name: x.numpy() for name, x in net(clip).items()}
  return made


def dilated(strided, depth: int, fields: dict):
  """What the net makes of the clips with other strides, and the same weights."""
  config, weights, _ = strided[depth]
  config = config.replace()
  config.get().override(fields)
  net = factory.build_backbone(config)
  net.set_weights(weights)
  return outputs(net)


@pytest.mark.parametrize('fields', DILATED)
@pytest.mark.parametrize('depth', [10, 18, 50])
def test_dilation_computes_what_the_stride_did(strided, depth, fields):
  actual = dilated(strided, depth, fields)
  for shape, endpoints in strided[depth][2].items():
    assert set(endpoints) == set(actual[shape])
    for endpoint, cells in endpoints.items():
      step = fields['spatial_dilations'][int(endpoint[0]) - 2]
      dense = actual[shape][endpoint]
      assert dense.shape[2] > (cells.shape[2] - 1) * step
      assert cells.std() > 0.01
      gap = np.abs(dense[:, :, ::step, ::step] - cells).max()
      assert gap < 1e-5 * cells.std(), (shape, endpoint)


def test_dilation_computes_what_the_stride_did_padded_alike_on_both_sides(strided):
  changes = {'symmetric_padding': True}
  plain, cells = strided[10][2][48, 40], dilated(strided, 10, changes)[48, 40]
  dense = dilated(strided, 10, changes | DILATED[1])[48, 40]
  gap = np.abs(dense['5'][:, :, ::4, ::4] - cells['5']).max()
  assert gap < 1e-5 * cells['5'].std()
  assert np.abs(plain['2'] - cells['2']).max() > 0.1 * cells['2'].std()


def test_the_first_convolution_can_carry_the_stride():
  net = build(model_id=50, width_multiplier=0.0625, strided_convolution='first')
  first = net.get_layer('res3/block_0')
  assert first._temporal_conv.strides == (1, 2, 2)
  assert first._spatial_conv.strides == (1, 1, 1)
  again = net.get_layer('res3/block_1')
  assert again._temporal_conv.strides == (1, 1, 1)


@pytest.mark.parametrize('depth', [18, 50])
def test_the_first_block_can_be_dilated_as_the_others(strided, depth):
  fields = DILATED[0] | {'dilated_first_block': True}
  actual = dilated(strided, depth, fields)
  for shape, endpoints in strided[depth][2].items():
    cells = endpoints['5']
    gap = actual[shape]['5'][:, :, ::2, ::2] - cells
    assert np.sqrt(np.mean(gap**2)) > 0.05 * cells.std()


def test_a_dilated_net_keeps_its_static_shape_and_compiles():
  fields = DILATED[1] | {'model_id': 10, 'width_multiplier': 0.0625}
  specs = tf_keras.layers.InputSpec(shape=[None, 2, 48, 40, 3])
  net = factory.build_backbone(families.of('resnet_3d', **fields), input_specs=specs)
  assert net.output_specs['5'].as_list() == [None, 1, 6, 5, 32]
  clip = tf.random.stateless_uniform([1, 2, 48, 40, 3], [5, 6])
  compiled = tf.function(lambda x: net(x)['5'], jit_compile=True)(clip)
  np.testing.assert_allclose(compiled, net(clip)['5'], rtol=1e-3, atol=1e-4)


# Not 50 in training mode: batch norm over so few values makes its gradient so steep
# that noise of 1e-7 in the clips moves it by up to a tenth, compiled or not.
@pytest.mark.parametrize(
  ('depth', 'training'), [(10, True), pytest.param(50, False, marks=pytest.mark.slow)]
)
def test_compiles_forward_and_gradient(depth, training):
  tf_keras.utils.set_random_seed(1)
  net = build(model_id=depth)

  def step(clips):
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(net(clips, training=training)['5'] ** 2)
    return loss, tape.gradient(loss, net.trainable_variables)

  loss, gradients = tf.function(step)(CLIPS)
  compiled_loss, compiled = tf.function(step, jit_compile=True)(CLIPS)
  np.testing.assert_allclose(compiled_loss, loss, rtol=1e-4)
  differences = [a - b for a, b in zip(compiled, gradients, strict=True)]
  norm = tf.linalg.global_norm(gradients).numpy()
  assert norm > 0
  assert tf.linalg.global_norm(differences).numpy() < 1e-3 * norm


def statistics(net) -> dict[str, np.ndarray]:
  named = logical_variables(net).items()
  return {name: v.numpy() for name, v in named if 'moving' in name}


def train_step(net, strategy=None) -> np.ndarray:
  """Output for the whole batch in training mode; updates the statistics."""
  clips = CLIPS * tf.reshape([0.1, 0.2, 1.0, 3.0], [4, 1, 1, 1, 1])
  if strategy is None:
    return net(clips, training=True).numpy()
  parts = strategy.experimental_distribute_values_from_function(
    lambda c: clips[2 * c.replica_id_in_sync_group :][:2]
  )
  run = tf.function(lambda x: strategy.run(lambda c: net(c, training=True), (x,)))
  return tf.concat(strategy.experimental_local_results(run(parts)), 0).numpy()


def stem_and_basic_blocks(sync: bool) -> tf_keras.Model:
  net = build(batch_norm.NormActivation(use_sync_bn=sync), model_id=10)
  return tf_keras.Model(net.inputs, net.output['3'])


def bottleneck_blocks(sync: bool) -> tf_keras.Model:
  inputs = tf_keras.Input([4, 16, 16, 3])
  norm = batch_norm.NormActivation(use_sync_bn=sync)
  x = resnet_3d.BottleneckBlock(4, norm, 3, name='first')(inputs)
  x = resnet_3d.BottleneckBlock(4, norm, name='second')(x)
  return tf_keras.Model(inputs, x)


def compare_replicas(make, sync: bool, strategy) -> tuple[float, float]:
  """Largest relative gap of statistics, and of outputs, to one replica's."""
  single = make(sync)
  weights = single.get_weights()
  expected = train_step(single)
  with strategy.scope():
    double = make(sync)
    double.set_weights(weights)
  actual = train_step(double, strategy)
  gaps = []
  for name, value in statistics(single).items():
    start = 0.9 if 'variance' in name else 0.0
    moved = np.abs(value - start).max()
    gaps.append(np.abs(statistics(double)[name] - value).max() / moved)
  return max(gaps), np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize('make', [stem_and_basic_blocks, bottleneck_blocks])
def test_two_replicas_share_batch_statistics_in_every_layer(mirrored, make):
  assert max(compare_replicas(make, True, mirrored(2))) < 1e-3


@pytest.mark.parametrize('make', [stem_and_basic_blocks, bottleneck_blocks])
def test_unsynchronized_statistics_differ(mirrored, make):
  assert min(compare_replicas(make, False, mirrored(2))) > 0.05


def test_norm_options_reach_every_batch_norm():
  norm = batch_norm.NormActivation()
  norm.override({'norm_momentum': 0.7, 'norm_epsilon': 1e-3, 'activation': 'swish'})
  net = build(norm, model_id=10)
  norms = [
    layer
    for layer in net._flatten_layers()
    if isinstance(layer, tf_keras.layers.BatchNormalization)
  ]
  assert len(norms) == 1 + 4 * 2 + 3
  assert {(layer.momentum, layer.epsilon) for layer in norms} == {(0.7, 1e-3)}
  assert net(CLIPS)['5'].numpy().min() < 0


def test_mixed_precision_keeps_float32_variables():
  tf_keras.mixed_precision.set_global_policy('mixed_bfloat16')
  try:
    net = build(model_id=10)
  finally:
    tf_keras.mixed_precision.set_global_policy('float32')
  assert net(CLIPS)['5'].dtype == tf.bfloat16
  assert {v.dtype for v in logical_variables(net).values()} == {tf.float32}


def test_input_specs_fix_the_clip():
  specs = tf_keras.layers.InputSpec(shape=[None, 4, 16, 16, 3])
  config = families.of('resnet_3d', model_id=10, width_multiplier=0.0625)
  net = factory.build_backbone(config, input_specs=specs)
  assert net.output_specs['3'].as_list() == [None, 2, 2, 2, 8]


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'model_id': 51}, r'model_id 51: expected one of 10, 18, 34, 50'),
    ({'width_multiplier': 0.0}, r'width_multiplier is 0.0; expected a number above 0'),
    ({'temporal_strides': [1, 1, 1]}, r'temporal_strides is \[1, 1, 1\]; expected 4'),
    ({'spatial_strides': [1, 2, 2, 0]}, r'spatial_strides is .* expected 4 integers'),
    ({'spatial_dilations': [1, 1, 1, 2]}, r'res5 has spatial stride 2 and dilation 2'),
    (
      {'spatial_strides': [1, 1, 2, 1], 'spatial_dilations': [1, 2, 1, 1]},
      r'res4 has spatial stride 2 and an input of dilation 2',
    ),
    (
      {
        'model_id': 18,
        'temporal_strides': [1, 1, 1, 2],
        'spatial_strides': [1, 2, 1, 1],
        'spatial_dilations': [1, 1, 2, 2],
      },
      r'res5 has temporal stride 2 and an input of dilation 2',
    ),
    ({'model_id': 10, 'strided_convolution': 'first'}, r"is 'first'.*basic blocks"),
    (
      {'model_id': 50, 'strided_convolution': 'first'} | DILATED[0],
      r"strided_convolution is 'first'.*dilated stages",
    ),
    ({'strided_convolution': 'third'}, r"'third': expected one of spatial, first"),
    ({'temporal_kernel_blocks': ['all']}, r'temporal_kernel_blocks is .*expected 4 of'),
    ({'temporal_kernel_blocks': ['few'] * 4}, r"'few': expected one of all, even, odd"),
    ({'res2_pool_temporal_stride': 0}, r'res2_pool_temporal_stride is 0; expected 1'),
    ({'pixel_mean': [0.5]}, r'pixel_mean is \[0.5\]; expected three numbers, of red'),
    ({'pixel_deviation': [1, 0, 1]}, r'pixel_deviation is .* three numbers above 0, of'),
  ],
)
def test_impossible_options_are_named(fields, message):
  with pytest.raises(UserError, match=message):
    build(**fields)


def test_unknown_backbone_lists_the_known_ones():
  with pytest.raises(
    UserError, match=r"backbone.type 'resnet_4d': expected one of .*resnet_3d"
  ):
    factory.build_backbone(families.of('resnet_4d'))


def test_registry_refuses_a_second_builder():
  assert 'resnet_3d' in factory.registered_backbones()
  with pytest.raises(ValueError, match='registered already'):
    families.BACKBONES.register('resnet_3d')(lambda *args: None)

"""Nets of any family, and the PyTorch tensors that their goldens were made with."""

import importlib

import numpy as np
import tensorflow as tf
import tf_keras

from official.video.backbones import batch_norm, factory, families
from official.video.backbones.batch_norm import BatchNormalization
from tests import goldens

# By file of goldens, its net's first map: the original's module, our layer, its strides.
FIRST_MAPS = {
  'cstp_c3d.npz': ('conv1', 'conv1', (1, 1, 1)),
  'cstp_r21d.npz': ('conv1', 'conv1/temporal_conv', (1, 2, 2)),
  'cstp_r3d18.npz': ('conv1', 'conv1', (1, 2, 2)),
  'cstp_s3d.npz': ('block1', 'Conv_1a/bn2/activation', (2, 2, 2)),
  'cstp_i3d.npz': ('conv3d_1a_7x7', 'conv3d_1a_7x7/batch3d/activation', (2, 2, 2)),
}

# PyTorch leaf names of a layer's variables, and the axes that make its tensor of ours.
CONV = {'kernel': ('weight', (4, 3, 0, 1, 2)), 'bias': ('bias', (0,))}
DENSE = {'kernel': ('weight', (1, 0)), 'bias': ('bias', (0,))}
NORM = {
  'gamma': ('weight', (0,)),
  'beta': ('bias', (0,)),
  'moving_mean': ('running_mean', (0,)),
  'moving_variance': ('running_var', (0,)),
}
LEAVES = {
  tf_keras.layers.Conv3D: CONV,
  tf_keras.layers.Dense: DENSE,
  BatchNormalization: NORM,
  tf_keras.layers.BatchNormalization: NORM,
}


def build(family: str, norm=None, specs=None, **fields) -> tf_keras.Model:
  return factory.build_backbone(families.of(family, **fields), norm, specs)


def unsynchronized():
  """Normalization as the references' goldens had it: over the values of one replica."""
  norm = batch_norm.NormActivation()
  norm.use_sync_bn = False
  return norm


def pytorch_layers(net: tf_keras.Model) -> dict[str, tf_keras.layers.Layer]:
  return importlib.import_module(type(net).__module__).pytorch_layers(net)


def tensors(layers) -> dict[str, tuple[tf.Variable, tuple[int, ...]]]:
  """PyTorch key to our variable and the axes that make their tensor of it."""
  found = {}
  for module, layer in layers.items():
    for variable in layer.variables:
      own = variable.name.split(':')[0].rsplit('/', 1)[-1]
      leaf, axes = LEAVES[type(layer)][own]
      found[f'{module}.{leaf}'] = (variable, axes)
  return found


def fill(layers, prefix: str, gain: float = 1.0) -> None:
  """Gives layers the values that the goldens' references had under their keys."""
  for key, (variable, axes) in tensors(layers).items():
    shape = [variable.shape[axis] for axis in axes]
    value = goldens.fill(prefix + key, shape, gain=gain if len(axes) == 5 else 1.0)
    variable.assign(value.transpose(np.argsort(axes)))


def filled(family: str, file: str) -> tf_keras.Model:
  """The net with the weights of the online net behind a file of goldens."""
  net = build(family, unsynchronized())
  own = {k: v for k, v in pytorch_layers(net).items() if not k.startswith('block')}
  fill(own, 'online_net.', float(goldens.golden(file)['meta/conv_gain']))
  return net


def clip(name: str, shape) -> np.ndarray:
  return goldens.fill(f'cstp/{name}', shape, 'clip')


def clips(net: tf_keras.Model, file: str) -> tuple[np.ndarray, np.ndarray]:
  """Both clips of a file of goldens; `net` holds the goldens' weights."""
  arrays = goldens.golden(file)
  child, name, strides = FIRST_MAPS[file]
  first = tf_keras.Model(net.input, net.get_layer(name).output)

  def fits(values):
    mean = pooled(first(values))
    return goldens.relative_error(mean, arrays[f'eval/stage_mean/{child}']) < 1e-4

  shape = arrays[f'eval/stage_shape/{child}']
  found = goldens.clip('cstp/clip1', shape, strides, fits)
  return found, clip('clip2', found.shape)


def resnet_clip(net: tf_keras.Model, file: str, name: str, pixels=lambda x: x):
  """The clip behind a file of golden endpoints; `net` holds the goldens' weights.

  Args:
    net: a ResNet of published strides.
    file: of golden arrays.
    name: of the clip, for `goldens.fill`.
    pixels: makes the net's input of it.
  """
  arrays = goldens.golden(file)
  first = tf_keras.Model(net.input, net.output['2'])

  def fits(values):
    mean = tf.reduce_mean(first(pixels(values)), [2, 3])
    return goldens.relative_error(mean, arrays['endpoint_2/spatial_mean']) < 1e-4

  return pixels(goldens.clip(name, arrays['endpoint_2/shape'], (2, 4, 4), fits))


def assert_golden_endpoint(actual: tf.Tensor, file: str, endpoint: str) -> None:
  """Asserts shape, means over space and a corner's values of a ResNet's endpoint."""
  arrays, key = goldens.golden(file), f'endpoint_{endpoint}/'
  assert tuple(actual.shape) == tuple(arrays[key + 'shape'])
  mean = tf.reduce_mean(actual, [2, 3])
  assert goldens.relative_error(mean, arrays[key + 'spatial_mean']) < 1e-4
  corner = arrays[key + 'corner']
  cut = actual[0][tuple(slice(n) for n in corner.shape)]
  assert goldens.relative_error(cut, corner) < 1e-4


def assert_golden_stages(
  net: tf_keras.Model, file: str, children: dict[str, str]
) -> tuple[tf.Tensor, np.ndarray]:
  """Asserts the golden means and shapes of layers' outputs; returns features.

  Args:
    net: with the goldens' weights.
    file: of golden arrays.
    children: the original's module to the layer whose output is its.

  Returns:
    Our pooled feature and the golden one.
  """
  arrays = goldens.golden(file)
  stored = goldens.cases(file, 'eval/stage_mean/(.+)')
  outputs = {child: net.get_layer(children[child]).output for child in stored}
  last = net.output['5']
  actual = tf_keras.Model(net.input, outputs | {'last': last})(clips(net, file)[0])
  for child in stored:
    shape = tuple(arrays[f'eval/stage_shape/{child}'])
    assert tuple(actual[child].shape) == shape, child
    mean, expected = pooled(actual[child]), arrays[f'eval/stage_mean/{child}']
    assert goldens.relative_error(mean, expected) < 1e-4, child
  return pooled(actual['last']), arrays['eval/feature']


def assert_golden_statistics(net: tf_keras.Model, file: str) -> None:
  """Asserts the moving statistics after training mode on one clip, then the other."""
  arrays = goldens.golden(file)
  for values in clips(net, file):
    net(values, training=True)
  prefix, ours = 'train/bn/online_net.', tensors(pytorch_layers(net))
  keys = [k.removeprefix(prefix) for k in arrays.files if k.startswith(prefix)]
  keys = [key for key in keys if not key.startswith('project.')]
  assert keys
  for key in keys:
    error = goldens.relative_error(ours[key][0], arrays[prefix + key])
    assert error < 1e-4, key


def assert_golden_logits(net: tf_keras.Model, model: str, norm_name: str) -> None:
  """Asserts the fine-tuned classifier's logits over the backbone's feature."""
  arrays = goldens.golden('cstp_finetune_logits.npz')
  shape = tuple(arrays[f'{model}/clip_shape'])
  feature = pooled(net(clip('ft_clip', shape))['5'])
  expected = arrays[f'{model}/logits']
  head = classifier(feature.shape, expected.shape[-1], norm_name)
  assert goldens.relative_error(head(feature), expected) < 1e-4


def classifier(shape, classes: int, norm_name: str) -> tf_keras.Model:
  """The head of fine-tuning with the goldens' weights."""
  norm = tf_keras.layers.BatchNormalization(epsilon=1e-5)
  dense = tf_keras.layers.Dense(classes)
  head = tf_keras.Sequential([tf_keras.layers.UnitNormalization(), norm, dense])
  head.build(shape)
  fill({norm_name: norm, 'classify': dense}, '')
  return head


def assert_inventory(net: tf_keras.Model, file: str) -> None:
  """Asserts that the net's tensors are all those of the reference, with its shapes."""
  foreign = ('project.', 'num_batches_tracked', 'custom')
  expected = {
    key.removeprefix('online_net.'): list(shape)
    for key, shape, _ in goldens.inventory(file)
    if key.startswith('online_net.') and not any(part in key for part in foreign)
  }
  ours = tensors(pytorch_layers(net))
  actual = {key: [v.shape[axis] for axis in axes] for key, (v, axes) in ours.items()}
  assert actual == expected
  assert {id(v) for v, _ in ours.values()} == {id(v) for v in net.variables}


def trainable(net: tf_keras.Model) -> int:
  return sum(int(tf.size(v)) for v in net.trainable_variables)


def pooled(x: tf.Tensor) -> tf.Tensor:
  return tf.reduce_mean(x, [1, 2, 3])

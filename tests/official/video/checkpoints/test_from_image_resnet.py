"""Inflated nets map a still clip as the net for images maps its image."""

import functools
import re
import zipfile
from unittest import mock

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import yaml
from official.vision.modeling.backbones import resnet as image_resnet
from tf_keras.src.applications import resnet as keras_resnet

from official.video.backbones import factory, families
from official.video.checkpoints import (
  from_image_resnet,
  from_pytorch,
  keras_file,
  origin,
  pytorch_file,
  restore,
  tensor_file,
)
from official.video.errors import UserError
from official.video.settings import experiment
from tests import drivers, pickles

REPEATS = {10: (1, 1, 1, 1), 50: (3, 4, 6, 3)}
FILTERS = (16, 32, 64, 128)  # Of a quarter of the width.


def published(bottleneck: bool, repeats=(1, 1, 1, 1)):
  """A residual net for images by torchvision's names, with a classifier."""
  rng = np.random.default_rng(0)
  tensors = {'fc.weight': np.ones((5, 8), np.float32)}

  def conv(name, norm, out, inside, size):
    scale = (2 / (inside * size * size)) ** 0.5
    tensors[f'{name}.weight'] = scale * rng.normal(size=(out, inside, size, size))
    for part, low, high in (
      ('weight', 0.5, 1.5),
      ('bias', -0.2, 0.2),
      ('running_mean', -0.2, 0.2),
      ('running_var', 0.5, 1.5),
    ):
      tensors[f'{norm}.{part}'] = rng.uniform(low, high, out)
    tensors[f'{norm}.num_batches_tracked'] = np.array(3)

  conv('conv1', 'bn1', FILTERS[0], 3, 7)
  width = FILTERS[0]
  for stage, filters in enumerate(FILTERS, 1):
    for number in range(repeats[stage - 1]):
      begin, out = f'layer{stage}.{number}', filters * (4 if bottleneck else 1)
      sizes = [(filters, width, 1), (filters, filters, 3), (out, filters, 1)]
      for i, size in enumerate(
        sizes if bottleneck else [(filters, width, 3), (filters, filters, 3)], 1
      ):
        conv(f'{begin}.conv{i}', f'{begin}.bn{i}', *size)
      if width != out or (number == 0 and stage > 1):
        conv(f'{begin}.downsample.0', f'{begin}.downsample.1', out, width, 1)
      width = out
  return {
    key: value.astype(np.int64 if 'num_batches' in key else np.float32)
    for key, value in tensors.items()
  }


def stages_of(tensors, images):
  """What the net makes of images [B, H, W, 3], padded as PyTorch pads, by stage."""

  def conv(x, name, norm, stride=1):
    kernel = tensors[f'{name}.weight'].transpose(2, 3, 1, 0)
    pad = kernel.shape[0] // 2
    x = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    x = tf.nn.conv2d(x, kernel, stride, 'VALID')
    scale, offset, mean, variance = (
      tensors[f'{norm}.{part}']
      for part in ('weight', 'bias', 'running_mean', 'running_var')
    )
    return tf.nn.batch_normalization(x, mean, variance, offset, scale, 1e-5)

  x = tf.nn.relu(conv(images, 'conv1', 'bn1', 2))
  x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=-1e9)
  x = tf.nn.max_pool2d(x, 3, 2, 'VALID')
  found = {}
  for stage in (1, 2, 3, 4):
    number = 0
    while f'layer{stage}.{number}.conv1.weight' in tensors:
      begin, stride = f'layer{stage}.{number}', 2 if stage > 1 and number == 0 else 1
      shortcut = x
      if f'{begin}.downsample.0.weight' in tensors:
        shortcut = conv(x, f'{begin}.downsample.0', f'{begin}.downsample.1', stride)
      strided = 2 if f'{begin}.conv3.weight' in tensors else 1
      count = 3 if strided == 2 else 2
      for i in range(1, count + 1):
        x = conv(x, f'{begin}.conv{i}', f'{begin}.bn{i}', stride if i == strided else 1)
        x = tf.nn.relu(x) if i < count else x
      x = tf.nn.relu(x + shortcut)
      number += 1
    found[str(stage + 1)] = x.numpy()
  return found


def built(family: str, **fields):
  config = families.of(family)
  config.get().override({'width_multiplier': 0.25, **fields})
  return factory.build_backbone(config)


def still(size: int, frames: int = 9):
  image = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
  return image, np.repeat(image[:, None], frames, 1)


@pytest.fixture
def still_equal(equality):
  """Asserts that a still clip's maps are its image's; `what` was inflated."""

  def equal(what, found, expected):
    equality(f'{what}, maps', found, np.broadcast_to(expected, found.shape))

  return equal


def normalized(image, pixels='imagenet'):
  """Pixels in [0, 1] as a net was shown them."""
  mean, deviation = (np.array(x, np.float32) for x in from_image_resnet.PIXELS[pixels])
  return (image - mean) / deviation


@pytest.mark.parametrize(
  ('family', 'model_id', 'size'),
  [
    ('resnet_3d', 10, 64),
    ('resnet_3d', 10, 65),
    ('r3d', 10, 48),
    pytest.param('resnet_3d', 50, 64, marks=pytest.mark.slow),
    pytest.param('resnet_3d', 10, 224, marks=pytest.mark.slow),
  ],
)
@pytest.mark.parametrize('how', ['central_frame', 'average'])
def test_a_still_clip_is_its_image(family, model_id, size, how, tmp_path, still_equal):
  tensors = published(model_id == 50, REPEATS[model_id])
  path = str(tmp_path / 'image.pth')
  pytorch_file.write(path, {'state_dict': tensors})
  net = built(family, model_id=model_id, **from_image_resnet.fields_of(tensors, family))
  others = from_image_resnet.load(net, family, path, how)
  assert others == ['fc.weight']
  # So many frames that the middle one sees no padding in time through any of the layers.
  frames = 9 if how == 'central_frame' else 65
  image = np.random.default_rng(1).random((1, size, size, 3)).astype(np.float32)
  clip = np.repeat(image[:, None], frames, 1)
  expected, maps = stages_of(tensors, normalized(image)), net(clip, training=False)
  for name in ('2', '3') if how == 'average' else ('2', '3', '4', '5'):
    found = maps[name].numpy()
    shown = found[:, found.shape[1] // 2] if how == 'average' else found
    wanted = expected[name] if how == 'average' else expected[name][:, None]
    still_equal(f'torchvision ResNet to {family}, {how}', shown, wanted)
  assert np.abs(expected['5']).max() > 1e-2


@pytest.mark.parametrize('zero_centering', [False, True])
@pytest.mark.parametrize('pixels', sorted(from_image_resnet.PIXELS.keys() - {'caffe'}))
def test_it_takes_the_pixels_of_tasks(pixels, zero_centering, tmp_path, still_equal):
  path = str(tmp_path / 'image.pth')
  tensors = published(False)
  pytorch_file.write(path, {'state_dict': tensors})
  fields = from_image_resnet.fields_of(tensors, 'resnet_3d', pixels, zero_centering)
  net = built('resnet_3d', model_id=10, **fields)
  from_image_resnet.load(net, 'resnet_3d', path, 'central_frame', pixels=pixels)
  image = np.random.default_rng(1).random((2, 64, 64, 3)).astype(np.float32)
  expected = stages_of(published(False), normalized(image, pixels))
  shown = 2 * image - 1 if zero_centering else image
  found = net(np.repeat(shown[:, None], 9, 1), training=False)
  for stage in '25':  # Whole maps, their borders too.
    what = f'torchvision ResNet to resnet_3d of {pixels} pixels'
    still_equal(what, found[stage].numpy(), expected[stage][:, None])


def simclr_names(tensors):
  """A bottleneck net by the names of SimCLR's checkpoints of TensorFlow."""
  convs = []
  for stage in (1, 2, 3, 4):
    number = 0
    while f'layer{stage}.{number}.conv1.weight' in tensors:
      begin = f'layer{stage}.{number}'
      convs += [f'{begin}.downsample.0'] if number == 0 else []
      convs += [f'{begin}.conv{i}' for i in (1, 2, 3)]
      number += 1
  parts = {'weight': 'gamma', 'bias': 'beta'}
  parts |= {'running_mean': 'moving_mean', 'running_var': 'moving_variance'}
  found = {
    'global_step': np.array(3),
    'head_supervised/linear_layer/dense/bias': np.ones(5),
  }
  for number, name in enumerate(['conv1', *convs]):
    last = f'_{number}' if number else ''
    kernel = tensors[f'{name}.weight'].transpose(2, 3, 1, 0)
    found[f'base_model/conv2d{last}/kernel'] = kernel
    found[f'base_model/conv2d{last}/kernel/Momentum'] = kernel
    norm = name.replace('conv', 'bn').replace('sample.0', 'sample.1')
    for part, called in parts.items():
      found[f'base_model/batch_normalization{last}/{called}'] = tensors[f'{norm}.{part}']
  return found


def haiku_names(tensors):
  """The same by Haiku's names, which have axes for the pixels."""
  found = {'projector/linear/w': np.ones((4, 2))}
  for key, value in tensors.items():
    module, _, part = key.rpartition('.')
    if module == 'fc' or 'num_batches' in key:
      continue
    parts = module.split('.')
    if len(parts) == 1:
      name = {'conv1': 'initial_conv', 'bn1': 'initial_batchnorm'}[module]
    else:
      place, (kind, number) = parts[2], (parts[2][:-1], parts[2][-1])
      if place == 'downsample':
        inner = ('shortcut_conv', 'shortcut_batchnorm')[int(parts[3])]
      else:
        inner = f'{"conv" if kind == "conv" else "batchnorm"}_{int(number) - 1}'
      name = f'block_group_{int(parts[0][5:]) - 1}/~/block_{parts[1]}/~/{inner}'
    begin = f'res_net50/~/{name}'
    if value.ndim == 4:
      found[f'{begin}/w'] = value.transpose(2, 3, 1, 0)
    else:
      told = {'weight': 'scale', 'bias': 'offset'}
      told |= {'running_mean': '~/mean_ema/average', 'running_var': '~/var_ema/average'}
      found[f'{begin}/{told[part]}'] = value.reshape(1, 1, 1, -1)
  return found


@pytest.mark.parametrize('names', [simclr_names, haiku_names])
def test_other_peoples_names_are_the_same_net(names, tmp_path):
  tensors = published(True, (2, 1, 3, 1))
  path = str(tmp_path / 'image.npz')
  np.savez(path, **names(tensors))
  found, others = from_image_resnet.image_net(tensor_file.read_tensors(path), path)
  plain = {k for k in tensors if not k.startswith('fc') and 'num_batches' not in k}
  assert found.keys() == plain and others
  for key in plain:
    np.testing.assert_array_equal(found[key], tensors[key], err_msg=key)
  fields = from_image_resnet.fields_of(tensor_file.read_tensors(path), 'resnet_3d')
  pads = 'symmetric_padding' in fields
  assert (pads, 'pixel_mean' in fields) == (
    (True, False) if names is simclr_names else (False, True)
  )


def test_a_byol_checkpoint_is_inflated(tmp_path):
  online, target = (haiku_names(published(True, REPEATS[50])) for _ in range(2))
  for key, value in target.items():
    target[key] = value + 1
  path = tmp_path / 'pretrain_res50x1.pkl'
  path.write_bytes(pickles.pickled(byol_of(online, target)))
  result = drivers.run(
    from_image_resnet, f'--source={path}', f'--checkpoint={tmp_path / "ckpt"}'
  )
  assert result.code == 2 and result.stderr.count('\n') == 1
  assert 'holds 2 nets, online/, target/; name one by --prefix' in result.stderr
  for net, names in (('online', online), ('target', target)):
    found, others = from_image_resnet.image_net(
      tensor_file.read_tensors(str(path)), str(path), f'{net}/'
    )
    alone, _ = from_image_resnet.image_net(names, 'byol')
    assert found.keys() == alone.keys() and others
    for key, value in alone.items():
      np.testing.assert_array_equal(found[key], value, err_msg=key)
  result = drivers.run(
    from_image_resnet,
    f'--source={path}',
    '--prefix=online/',
    f'--checkpoint={tmp_path / "ckpt"}',
    '--params_override=width_multiplier=0.25',
  )
  assert result.code == 0, result.stderr
  weights = tf.train.load_checkpoint(str(tmp_path / 'ckpt'))
  assert len(weights.get_variable_to_shape_map()) > 200


@pytest.mark.parametrize(
  'form', [tuple, lambda x: dict(zip(('params', 'state'), x, strict=True))]
)
def test_haikus_parameters_and_state_are_one_net(form, tmp_path):
  names = haiku_names(published(True))
  path = tmp_path / 'net.pkl'
  path.write_bytes(pickles.pickled(form(split_of_haiku(names))))
  found, others = from_image_resnet.image_net(
    tensor_file.read_tensors(str(path)), str(path)
  )
  alone, _ = from_image_resnet.image_net(names, 'byol')
  assert found.keys() == alone.keys() and len(others) == 1
  for key, value in alone.items():
    np.testing.assert_array_equal(found[key], value, err_msg=key)


@pytest.mark.parametrize(
  ('name', 'suffix'),
  [
    ('moco_v2_800ep_pretrain.pth.tar', '.pth'),
    ('SLOW_8x8_R50.pyth', '.pth'),
    ('net.ckpt', '.pth'),
    ('net.pkl', '.pth'),
    ('net.model', '.safetensors'),
    ('net.bin', '.safetensors'),
    ('net', '.npz'),
    ('net.pth', '.npz'),
  ],
)
def test_a_file_is_known_by_its_content(name, suffix, tmp_path):
  tensors = {key: value.astype(np.float32) for key, value in published(False).items()}
  made, path = tmp_path / f'made{suffix}', tmp_path / name
  if suffix == '.npz':
    np.savez(made, **tensors)
  elif suffix == '.pth':
    pytorch_file.write(str(made), {'state_dict': tensors})
  else:
    tensor_file.write_safetensors(str(made), tensors)
  made.rename(path)
  found = tensor_file.read_tensors(str(path))
  assert found.keys() == tensors.keys()
  for key, value in tensors.items():
    np.testing.assert_array_equal(found[key], value)


def test_flags_that_would_make_another_net_are_refused(keras_file_of, tmp_path):
  _, path = keras_file_of
  to = f'--checkpoint={tmp_path / "ckpt"}'
  result = drivers.run(from_image_resnet, f'--source={path}', '--prefix=bogus/', to)
  assert result.code == 2 and 'need no --prefix' in result.stderr
  for field in ('symmetric_padding=false', 'strided_convolution=spatial'):
    change = f'--params_override={field}'
    result = drivers.run(from_image_resnet, f'--source={path}', change, to)
    assert result.code == 2 and result.stderr.count('\n') == 1
    assert 'weights compute something else' in result.stderr


def split_of_haiku(names):
  """Parameters and state, by module and name."""
  params, state = {}, {}
  for key, value in names.items():
    module, _, name = key.rpartition('/')
    (state if '_ema/' in key else params).setdefault(module, {})[name] = value
  return params, state


def byol_of(online, target):
  """A BYOL's state of nets by Haiku's names."""
  return pickles.byol_state(split_of_haiku(online), split_of_haiku(target))


def test_a_hole_in_numbered_names_is_named():
  tensors = simclr_names(published(True, (2, 1, 3, 1)))
  for key in [key for key in tensors if key.endswith('/kernel')]:
    rest = {name: value for name, value in tensors.items() if name != key}
    with pytest.raises(UserError, match=f'lacks {key};'):
      from_image_resnet.image_net(rest, 'simclr.npz')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda t: t.pop('bn1.running_mean'), r'lacks bn1\.running_mean'),
    (lambda t: t.pop('conv1.weight'), r'lacks conv1\.weight'),
    (
      lambda t: t.pop('layer1.0.conv2.weight'),
      r'lacks layer1\.0\.conv2\.weight; expected',
    ),
    (lambda t: t.pop('layer1.0.bn2.bias'), r'lacks layer1\.0\.bn2\.bias'),
    (
      lambda t: [t.pop(k) for k in list(t) if 'running' in k],
      r'lacks bn1\.running_mean; expected .*no group norm',
    ),
    (
      lambda t: t.pop('layer2.0.downsample.0.weight'),
      r'lacks layer2\.0\.downsample\.0\.weight; expected',
    ),
    (lambda t: t.pop('layer2.0.downsample.1.weight'), r'lacks layer2\.0\.downsample\.1'),
  ],
)
def test_what_a_net_lacks_is_one_line(change, message, tmp_path):
  tensors = published(False)
  change(tensors)
  pytorch_file.write(str(tmp_path / 'image.pth'), {'state_dict': tensors})
  for family in ('resnet_3d', 'r3d', 'r2plus1d'):
    result = drivers.run(
      from_image_resnet,
      f'--source={tmp_path / "image.pth"}',
      f'--checkpoint={tmp_path / "ckpt"}',
      f'--backbone={family}',
      '--params_override=width_multiplier=0.25'
      + ('' if family == 'r2plus1d' else ',model_id=10'),
    )
    assert result.code == 2 and result.stderr.count('\n') == 1, result.stderr
    assert re.search(message, result.stderr), result.stderr


def test_a_net_of_the_model_garden_is_taken(tmp_path, still_equal):
  image_net = image_resnet.ResNet(50, depth_multiplier=0.25, norm_epsilon=1e-5)
  rng = np.random.default_rng(2)
  for variable in image_net.variables:
    noise = rng.uniform(0.8, 1.2, variable.shape).astype(np.float32)
    variable.assign(variable * noise if len(variable.shape) > 1 else noise)
  path = tf.train.Checkpoint(backbone=image_net).write(str(tmp_path / 'ckpt'))
  net = built('resnet_3d', model_id=50)
  others = from_image_resnet.load(net, 'resnet_3d', path, 'central_frame', pixels='unit')
  assert not [key for key in others if 'layer_with_weights' in key]
  image, clip = still(64)  # Both pad alike at any size.
  expected, maps = image_net(image, training=False), net(clip, training=False)
  for name in ('2', '3', '4', '5'):
    wanted = np.repeat(expected[name][:, None], maps[name].shape[1], 1)
    still_equal('Model Garden ResNet to resnet_3d', maps[name].numpy(), wanted)


@pytest.mark.parametrize(
  'begin',
  [
    *('module.encoder_q.', 'module.base_encoder.', 'backbone.', 'online_encoder.net.'),
    'online_network.encoder.',
  ],
)
def test_what_comes_before_the_names_is_found(begin, tmp_path):
  tensors = {begin + key: value for key, value in published(False).items()}
  tensors['queue'] = np.ones((4, 2), np.float32)
  tensors[f'{begin}prototypes.weight'] = np.ones((4, 2), np.float32)
  net, others = from_image_resnet.image_net(tensors, 'x.pth')
  assert set(others) == {'queue', f'{begin}fc.weight', f'{begin}prototypes.weight'}
  assert {'conv1.weight', 'layer4.0.conv2.weight'} <= net.keys()
  copy = {
    key.replace(begin, 'module.encoder_k.'): value for key, value in tensors.items()
  }
  with pytest.raises(UserError, match=r'holds 2 nets, .*; name one by --prefix'):
    from_image_resnet.image_net(tensors | copy, 'x.pth')
  net, _ = from_image_resnet.image_net(tensors | copy, 'x.pth', begin)
  assert 'conv1.weight' in net


def test_other_nets_are_refused(tmp_path):
  refused = functools.partial(pytest.raises, UserError)
  with refused(
    match=r'x\.pth: no key \.\.\.layer1\.0\.conv1\.weight; expected a residual'
  ):
    from_image_resnet.image_net({'features.0.weight': np.ones(1)}, 'x.pth')
  path = str(tmp_path / 'image.pth')
  pytorch_file.write(path, {'state_dict': published(False)})
  with refused(match=r'does not match the resnet_3d .*missing.*model_id='):
    from_image_resnet.load(built('resnet_3d', model_id=18), 'resnet_3d', path)
  with refused(match=r'does not match the resnet_3d .*unfit.*width_multiplier='):
    net = built('resnet_3d', model_id=10, width_multiplier=0.125)
    from_image_resnet.load(net, 'resnet_3d', path)
  bad = published(False)
  bad['layer1.0.conv1.weight'] = bad['layer1.0.conv1.weight'] * np.inf
  pytorch_file.write(path, {'state_dict': bad})
  with refused(
    match=r'image\.pth: layer1\.0\.conv1\.weight has numbers .* copy it again'
  ):
    from_image_resnet.load(built('resnet_3d', model_id=10), 'resnet_3d', path)


def test_the_command_writes_what_a_task_starts_from(tmp_path):
  source, target = tmp_path / 'image.pth', tmp_path / 'inflated' / 'ckpt'
  pytorch_file.write(str(source), {'state_dict': published(False)})
  result = drivers.run(
    from_image_resnet,
    f'--source={source}',
    f'--checkpoint={target}',
    '--params_override=model_id=10,width_multiplier=0.25',
    '--pixels=unit',
  )
  assert result.code == 0, result.stderr
  assert 'ignored 1 tensors: fc.weight' in result.stdout
  net = built('resnet_3d', model_id=10)
  restore.restore_backbone(net, str(target))
  kernel = net.get_layer('stem/conv').kernel.numpy()
  expected = tensor_file.read_tensors(str(source))['conv1.weight'].transpose(2, 3, 1, 0)
  np.testing.assert_allclose(kernel.sum(0), expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(kernel[0], expected / 5, rtol=1e-5, atol=1e-6)

  result = drivers.run(
    from_image_resnet,
    f'--source={source}',
    f'--checkpoint={source}/ckpt',
    '--params_override=model_id=10,width_multiplier=0.25',
  )
  assert result.code == 2 and result.stderr.count('\n') == 1
  assert f"--checkpoint {source}/ckpt: can't be written: " in result.stderr


# --- Keras Applications ---------------------------------------------------------------


def keras_net():
  """A narrow net of Keras Applications' own code, without its file of weights."""
  inputs = tf_keras.Input((64, 64, 3))
  x = tf_keras.layers.ZeroPadding2D(3, name='conv1_pad')(inputs)
  x = tf_keras.layers.Conv2D(FILTERS[0], 7, 2, name='conv1_conv')(x)
  x = tf_keras.layers.BatchNormalization(epsilon=1.001e-5, name='conv1_bn')(x)
  x = tf_keras.layers.ReLU(name='conv1_relu')(x)
  x = tf_keras.layers.ZeroPadding2D(1, name='pool1_pad')(x)
  x = tf_keras.layers.MaxPooling2D(3, 2, name='pool1_pool')(x)
  for stage, filters in enumerate(FILTERS, 2):
    stride = 1 if stage == 2 else 2
    # It sets its own name of the layers where it builds a whole net.
    with mock.patch.object(keras_resnet, 'layers', tf_keras.layers):
      x = keras_resnet.stack1(x, filters, 1, stride1=stride, name=f'conv{stage}')
  x = tf_keras.layers.GlobalAveragePooling2D(name='avg_pool')(x)
  net = tf_keras.Model(inputs, tf_keras.layers.Dense(5, name='predictions')(x))
  rng = np.random.default_rng(4)
  for v in net.variables:
    # Small variances, so that the epsilon is seen.
    low, high = (1e-5, 1e-3) if 'variance' in v.name else (-0.2, 0.2)
    value = rng.uniform(low, high, v.shape)
    if 'kernel' in v.name:
      value *= 0.05 / np.prod(v.shape[:-1]) ** 0.5
    v.assign(value + 1.0 if 'gamma' in v.name else value)
  return net


@pytest.mark.parametrize('suffix', ['h5', 'keras', 'weights.h5'])
def test_keras_names_and_values_are_read(suffix, tmp_path):
  net = keras_net()
  path = str(tmp_path / f'net.{suffix}')
  if suffix == 'weights.h5':
    net.save_weights(path.replace('.weights', ''), save_format='h5')
    path = path.replace('.weights', '')
  else:
    net.save(path)
  found = keras_file.read_keras(path)
  assert len(found) == len(net.weights)
  for v in net.weights:
    assert np.array_equal(found[v.name.split(':')[0]], v), v.name


@pytest.fixture(scope='module')
def keras_file_of(tmp_path_factory):
  folder = tmp_path_factory.mktemp('keras')
  net = keras_net()
  net.save_weights(str(folder / 'net.h5'))
  return net, str(folder / 'net.h5')


# As the depths are those of published nets, the family's is set to one block a stage.
@pytest.fixture
def one_block_a_stage(monkeypatch):
  from official.video.backbones import resnet_3d

  monkeypatch.setitem(resnet_3d.DEPTHS, 50, (True, (1, 1, 1, 1)))


KERAS = {'strided_convolution': 'first', 'symmetric_padding': True, 'model_id': 50}


@pytest.mark.parametrize('how', ['central_frame', 'average'])
def test_a_net_of_keras_is_taken(keras_file_of, one_block_a_stage, how, still_equal):
  image_net, path = keras_file_of
  tensors = tensor_file.read_tensors(path)
  assert from_image_resnet.fields_of(tensors, 'resnet_3d', 'unit') == {
    'strided_convolution': 'first',
    'symmetric_padding': True,
  }
  net = built('resnet_3d', **KERAS)
  others = from_image_resnet.load(net, 'resnet_3d', path, how, pixels='unit')
  assert others == ['predictions/kernel', 'predictions/bias']
  image, clip = still(64, 9 if how == 'central_frame' else 21)
  ends = {str(n): f'conv{n}_block1_out' for n in range(2, 6)}
  outputs = {name: image_net.get_layer(x).output for name, x in ends.items()}
  expected = tf_keras.Model(image_net.input, outputs)(image, training=False)
  maps = net(clip, training=False)
  for name in ends:
    found = maps[name]
    shown = found[:, found.shape[1] // 2][:, None] if how == 'average' else found
    what = f'Keras ResNet to resnet_3d, {how}'
    still_equal(what, shown.numpy(), expected[name].numpy()[:, None])
    assert np.std(expected[name]) > 1e-2


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_weights_out_and_in_are_the_same_function(
  suffix, keras_file_of, one_block_a_stage, tmp_path, equality
):
  _, source = keras_file_of
  first, again = str(tmp_path / 'first'), str(tmp_path / 'again')
  width = '--params_override=width_multiplier=0.25'
  done = drivers.run(
    from_image_resnet, f'--source={source}', f'--checkpoint={first}', width
  )
  assert done.code == 0, done.stderr
  file = f'--pytorch_file={tmp_path / "net"}{suffix}'
  net = '--backbone=resnet_3d'
  done = drivers.run(from_pytorch, net, '--reverse', file, f'--checkpoint={first}')
  assert done.code == 0, done.stderr
  assert 'show it pixels in [0, 1] less [' in done.stdout
  assert 'model.backbone.resnet_3d.symmetric_padding True' in done.stdout
  done = drivers.run(from_pytorch, net, file, f'--checkpoint={again}')
  assert done.code == 0, done.stderr
  assert 'task.model.backbone.resnet_3d.symmetric_padding=true' in done.stdout
  clip = np.random.default_rng(0).random((1, 4, 64, 64, 3)).astype(np.float32)
  found = []
  for checkpoint in (first, again):
    kept = origin.of(checkpoint).converted
    assert kept['zero_centering'] is False
    fields = kept['model']['backbone']['resnet_3d']
    backbone = built('resnet_3d', **{k: x for k, x in fields.items() if k != 'remat'})
    restore.restore_backbone(backbone, checkpoint)
    found.append(backbone(clip, training=False)['5'].numpy())
  equality('resnet_3d by our own names, out and in, maps', found[1], found[0], 1e-6)
  other = drivers.run(
    from_pytorch, '--backbone=r3d', file, f'--checkpoint={tmp_path / "other"}'
  )
  assert other.code == 2 and 'give --backbone=resnet_3d' in other.stderr
  done = drivers.run(
    from_pytorch,
    *(
      net,
      '--reverse',
      f'--checkpoint={first}',
      f'--pytorch_file={tmp_path / "net.npz"}',
    ),
  )
  assert done.code == 2 and 'call it .pth or .safetensors' in done.stderr


def test_keras_pixels_are_blue_first_and_of_255(
  keras_file_of, one_block_a_stage, still_equal
):
  image_net, path = keras_file_of
  needed = from_image_resnet.fields_of(tensor_file.read_tensors(path), 'resnet_3d')
  net = built('resnet_3d', **KERAS, **{k: x for k, x in needed.items() if 'pixel' in k})
  from_image_resnet.load(net, 'resnet_3d', path, 'central_frame')
  image = np.random.default_rng(1).random((1, 64, 64, 3)).astype(np.float32)
  shown = tf_keras.applications.resnet.preprocess_input(255 * image.copy())
  stem = tf_keras.Model(image_net.input, image_net.get_layer('conv1_relu').output)
  expected = stem(shown)
  layer = net.get_layer('stem/activation').output
  found = tf_keras.Model(net.input, layer)(np.repeat(image[:, None], 5, 1))
  what = 'Keras ResNet to resnet_3d of its pixels'
  still_equal(what, found[:, 1].numpy(), expected.numpy())


def test_strides_of_another_convolution_are_refused(keras_file_of, tmp_path):
  _, path = keras_file_of
  with pytest.raises(UserError, match=r'net\.h5: the first convolution .*=first'):
    net = built('resnet_3d', **KERAS | {'strided_convolution': 'spatial'})
    from_image_resnet.load(net, 'resnet_3d', path)
  other = str(tmp_path / 'image.pth')
  pytorch_file.write(other, published(True))
  with pytest.raises(UserError, match=r'the spatial convolution .*=spatial'):
    from_image_resnet.load(built('resnet_3d', **KERAS), 'resnet_3d', other)
  for family in ('r3d', 'r2plus1d'):
    with pytest.raises(UserError, match='has basic blocks, the file bottlenecks'):
      from_image_resnet.fields_of(tensor_file.read_tensors(path), family)


def test_files_that_are_no_keras_nets(tmp_path):
  path = tmp_path / 'net.h5'
  with pytest.raises(UserError, match='No such file'):
    keras_file.read_keras(str(path))
  path.write_bytes(b'no file')
  with pytest.raises(UserError, match=r"net\.h5: is no whole file of Keras'"):
    keras_file.read_keras(str(path))
  with h5py.File(path, 'w') as file:
    file.create_group('layers/conv2d')
  with pytest.raises(UserError, match='names no layers'):
    keras_file.read_keras(str(path))
  with zipfile.ZipFile(tmp_path / 'net.keras', 'w') as archive:
    archive.writestr('config.json', '{}')
  with pytest.raises(UserError, match=r"net\.keras: is no whole file of Keras'"):
    keras_file.read_keras(str(tmp_path / 'net.keras'))


# --- R(2+1)D and others ---------------------------------------------------------------


@pytest.mark.parametrize('how', ['central_frame', 'average'])
def test_a_still_clip_is_its_image_in_split_convolutions(how, tmp_path, still_equal):
  tensors = published(False, (1, 2, 1, 1))
  path = str(tmp_path / 'image.pth')
  pytorch_file.write(path, {'state_dict': tensors})
  needed = from_image_resnet.fields_of(tensors, 'r2plus1d', 'unit')
  assert needed['stage_blocks'] == (1, 2, 1, 1)
  net = built('r2plus1d', **needed)
  others = from_image_resnet.load(net, 'r2plus1d', path, how, pixels='unit')
  assert others == ['fc.weight']
  image, clip = still(48, 9 if how == 'central_frame' else 33)
  expected, maps = stages_of(tensors, image), net(clip, training=False)
  for name in ('2', '3') if how == 'average' else ('2', '3', '4', '5'):
    found = maps[name].numpy()
    shown = found[:, found.shape[1] // 2, None] if how == 'average' else found
    what = f'torchvision ResNet to r2plus1d, {how}'
    still_equal(what, shown, expected[name][:, None])
  with pytest.raises(UserError, match=r'fits an r2plus1d .*stem_pool=true; add'):
    net = built('r2plus1d', **needed | {'stem_pool': False})
    from_image_resnet.load(net, 'r2plus1d', path)


def test_resnet_3d_pads_as_pytorch_does_at_any_size(tmp_path, still_equal):
  tensors = published(False)
  path = str(tmp_path / 'image.pth')
  pytorch_file.write(path, {'state_dict': tensors})
  net = built('resnet_3d', model_id=10, symmetric_padding=True)
  from_image_resnet.load(net, 'resnet_3d', path, 'central_frame', pixels='unit')
  image, clip = still(48)
  expected, maps = stages_of(tensors, image), net(clip, training=False)
  for name in ('2', '3', '4', '5'):
    what = 'torchvision ResNet to resnet_3d, 48 pixels'
    still_equal(what, maps[name].numpy(), expected[name][:, None])


def test_numbered_children_are_found():
  plain = published(False)
  numbers = {'conv1': '0', 'bn1': '1', **{f'layer{i}': str(i + 3) for i in range(1, 5)}}
  tensors = {}
  for key, value in plain.items():
    name, _, rest = key.partition('.')
    tensors[f'backbone.{numbers.get(name, name)}.{rest}'] = value
  tensors['projection_head.0.weight'] = np.ones((4, 2), np.float32)
  net, others = from_image_resnet.image_net(tensors, 'x.pth')
  assert set(others) == {'projection_head.0.weight', 'backbone.fc.weight'}
  for key, value in plain.items():
    assert key == 'fc.weight' or net[key] is value, key
  assert from_image_resnet.fields_of(tensors, 'r2plus1d')['stage_blocks'] == (1, 1, 1, 1)


def test_relatives_of_residual_nets_are_refused():
  tensors = published(False)
  deep = {key: value for key, value in tensors.items() if key != 'conv1.weight'}
  deep |= {f'conv1.{i}.weight': np.ones((4, 3, 3, 3)) for i in (0, 3, 6)}
  with pytest.raises(UserError, match=r'x\.pth: its stem is of several convolutions'):
    from_image_resnet.image_net(deep, 'x.pth')
  pooled = tensors | {'layer2.0.downsample.2.weight': np.ones(8)}
  with pytest.raises(UserError, match='its shortcuts pool before they convolve'):
    from_image_resnet.image_net(pooled, 'x.pth')
  for family in ('s3d', 'i3d', 'c3d'):
    with pytest.raises(UserError, match=f'--backbone {family}: .* so no residual net is'):
      from_image_resnet.fields_of(tensors, family)


def test_the_command_tells_what_tasks_need(tmp_path):
  source, target = tmp_path / 'image.pth', tmp_path / 'ckpt'
  pytorch_file.write(str(source), {'state_dict': published(False)})
  flags = f'--source={source}', f'--checkpoint={target}', '--backbone=r2plus1d'
  result = drivers.run(
    from_image_resnet, *flags, '--params_override=width_multiplier=0.25'
  )
  assert result.code == 0, result.stderr
  for field in ('mid_width=double', 'stem_pool=true', 'stage_blocks=[1,1,1,1]'):
    assert f'task.model.backbone.r2plus1d.{field}' in result.stdout
  params = experiment.load(
    'cstp_finetune_ucf101',
    params_override='task.model.backbone.type=r2plus1d,task.zero_centering=false',
  )
  with pytest.raises(
    UserError, match=r'was trained with task\.model\.backbone\.r2plus1d'
  ):
    origin.check(params.task, str(target))


def test_a_task_that_shows_other_pixels_or_pads_otherwise_is_refused(
  tmp_path, still_equal
):
  source, target = tmp_path / 'image.pth', tmp_path / 'ckpt'
  pytorch_file.write(str(source), {'state_dict': published(False)})
  flags = [f'--source={source}', f'--checkpoint={target}', '--zero_centering']
  flags.append('--params_override=width_multiplier=0.25,model_id=10')
  result = drivers.run(from_image_resnet, *flags)
  assert result.code == 0, result.stderr
  (told,) = re.findall(r'need --params_override=(\S+)', result.stdout)
  for field in ('symmetric_padding=true', 'model_id=10', 'pixel_mean=[-0.03'):
    assert field in told
  params = experiment.load('cvrl_linear_eval', params_override=told)
  assert params.task.zero_centering
  origin.check(params.task, str(target))
  net = factory.build_backbone(params.task.model.backbone)
  restore.restore_backbone(net, str(target))
  image = np.random.default_rng(1).random((1, 64, 64, 3)).astype(np.float32)
  expected = stages_of(published(False), normalized(image))['2']
  found = net(np.repeat(2 * image[:, None] - 1, 65, 1), training=False)['2'].numpy()
  what = 'torchvision ResNet to resnet_3d, zero_centering'
  still_equal(what, found[:, found.shape[1] // 2], expected)
  for other in (
    'task.zero_centering=false',
    'task.model.backbone.resnet_3d.pixel_mean=[]',
    'task.model.backbone.resnet_3d.symmetric_padding=false',
  ):
    wrong = experiment.load('cvrl_linear_eval', params_override=f'{told},{other}')
    with pytest.raises(UserError, match='another function'):
      origin.check(wrong.task, str(target))


@pytest.mark.parametrize('how', ['average', 'central_frame'])
def test_a_run_on_single_frames_is_inflated(how, tmp_path):
  """Its own features of a frame are those of the inflated net of a still clip."""
  fields = {'model_id': 10, 'width_multiplier': 0.25}
  frames = families.of(
    'resnet_3d',
    **fields,
    stem_conv_temporal_kernel_size=1,
    stem_conv_temporal_stride=1,
    temporal_kernel_sizes=(1, 1, 1, 1),
  )
  image_net = factory.build_backbone(frames)
  rng = np.random.default_rng(0)
  for variable in image_net.variables:
    low, high = (-0.3, 0.3) if variable.shape.rank > 1 else (0.5, 1.5)
    variable.assign(rng.uniform(low, high, variable.shape))
  run = tmp_path / 'run'
  manager = tf.train.CheckpointManager(
    tf.train.Checkpoint(backbone=image_net), str(run), max_to_keep=1
  )
  manager.save(7)
  flags = [
    f'--source={run}',
    f'--checkpoint={tmp_path / "inflated" / "ckpt"}',
    f'--inflation={how}',
    '--params_override=model_id=10,width_multiplier=0.25',
  ]
  done = drivers.run(from_image_resnet, *flags)
  assert done.code == 0, done.stderr
  net = factory.build_backbone(families.of('resnet_3d', **fields))
  restore.restore({'backbone': net}, str(tmp_path / 'inflated' / 'ckpt'))
  image = rng.uniform(size=(1, 1, 33, 33, 3)).astype(np.float32)
  clip = np.repeat(image, 33, 1)
  found, expected = net(clip), image_net(image)
  # In the middle of so many frames no window of these stages reaches past the ends.
  for stage in '23' if how == 'average' else '2345':
    middle = found[stage].shape[1] // 2
    here, there = found[stage].numpy()[:, middle], expected[stage].numpy()[:, 0]
    scale = np.abs(there).max()
    assert np.abs(here - there).max() < 1e-5 * scale
  for flag in ('--pixels=unit', '--prefix=x', '--zero_centering', '--backbone=r3d'):
    elsewhere = f'--checkpoint={tmp_path / "other"}'
    done = drivers.run(from_image_resnet, *flags, elsewhere, flag)
    assert done.code == 2 and 'leave it out' in done.stderr
  # It means the pixels that the run was shown.
  kept = yaml.safe_load((tmp_path / 'inflated' / 'ckpt.converted.yaml').read_text())
  assert kept['task']['zero_centering'] is False
  assert kept['task']['model']['backbone']['resnet_3d']['model_id'] == 10
  (run / 'params.yaml').write_text(
    yaml.safe_dump(
      {
        'task': {
          'zero_centering': True,
          'model': {
            'backbone': {'type': 'resnet_3d', 'resnet_3d': frames.get().as_dict()}
          },
        }
      }
    )
  )
  again = [*flags[:1], f'--checkpoint={tmp_path / "again"}']  # It tells its own depth.
  done = drivers.run(from_image_resnet, *again)
  assert done.code == 0, done.stderr
  kept = yaml.safe_load((tmp_path / 'again.converted.yaml').read_text())['task']
  assert kept['zero_centering'] is True
  found = kept['model']['backbone']['resnet_3d']
  assert (found['model_id'], found['temporal_kernel_sizes']) == (10, [1, 1, 3, 3])
  # A run on clips is none.
  clips = tmp_path / 'clips'
  tf.train.CheckpointManager(
    tf.train.Checkpoint(backbone=net), str(clips), max_to_keep=1
  ).save(3)
  done = drivers.run(
    from_image_resnet, f'--source={clips}', f'--checkpoint={tmp_path / "x"}', flags[-1]
  )
  assert done.code == 2 and len(done.stderr.splitlines()) == 1


def test_a_checkpoint_that_is_there_stays(tmp_path):
  """Be it a run's; and what stands beside one that was removed does not speak of the next."""
  source, target = tmp_path / 'image.pth', tmp_path / 'run' / 'ckpt-8'
  tensors = published(False)
  pytorch_file.write(str(source), {'state_dict': tensors})
  flags = [
    *(f'--source={source}', f'--checkpoint={target}', '--pixels=unit'),
    '--params_override=model_id=10,width_multiplier=0.25',
  ]
  target.parent.mkdir()
  (tmp_path / 'run' / 'ckpt-8.converted.yaml').write_text('task: {zero_centering: true}')
  assert drivers.run(from_image_resnet, *flags).code == 0
  told = (tmp_path / 'run' / 'ckpt-8.converted.yaml').read_text()
  assert 'zero_centering: false' in told and 'symmetric_padding: true' in told
  before = (tmp_path / 'run' / 'ckpt-8.index').read_bytes()
  done = drivers.run(from_image_resnet, *flags)
  assert done.code == 2 and 'exists; name a new one, or remove it' in done.stderr
  assert (tmp_path / 'run' / 'ckpt-8.index').read_bytes() == before
  # Numbers that mean nothing are named before anything is written.
  tensors['layer1.0.conv1.weight'][0, 0, 0, 0] = np.nan
  pytorch_file.write(str(source), {'state_dict': tensors})
  flags[1] = f'--checkpoint={tmp_path / "other"}'
  done = drivers.run(from_image_resnet, *flags)
  assert done.code == 2 and 'layer1.0.conv1.weight has numbers' in done.stderr

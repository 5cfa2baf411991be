"""CSTP's `.pth` files to checkpoints and back: everything matched, or one clear line."""

import json
import struct

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video.checkpoints import (
  from_pytorch,
  pytorch_file,
  pytorch_mapping,
  restore,
  tensor_file,
)
from official.video.errors import UserError
from tests import drivers, goldens

FAMILIES = {'r2plus1d': 'r21d', 'c3d': 'c3d', 'r3d': 'r3d', 's3d': 's3d', 'i3d': 'i3d'}
# Keys around the backbone of fine-tuned and of pretrained files, some of each.
AROUND = {
  'classify.weight': (5, 512),
  'cls_bn.running_var': (512,),
  'target_net.conv1.weight': (4, 3, 3, 3, 3),
  'predictor.net.0.weight': (8, 4),
  'overlap_spa.weight': (5, 8),
  'rot_cls.bias': (4,),
  'online_net.project.net.0.weight': (8, 4),
}


def build(family, width=0.125):
  return from_pytorch.build_backbone(family, f'{family}.width_multiplier={width}')


def random_state_dict(layers, prefix='module.online_net.', around=True):
  """Tensors for every key of layers, several names of one alike, and some around."""
  random = np.random.default_rng(5)
  state_dict = pytorch_mapping.to_state_dict(layers)
  tensors = {}
  for key, tensor in state_dict.items():
    if id(tensor) not in tensors:
      floats = tensor.dtype == np.float32
      values = random.normal(size=tensor.shape).astype(np.float32)
      tensors[id(tensor)] = values if floats else np.full((), 31, np.int64)
    state_dict[key] = tensors[id(tensor)]
  found = {prefix + key: value for key, value in state_dict.items()}
  begin = 'module.' if prefix.startswith('module.') else ''
  extra = {begin + key: np.ones(shape, np.float32) for key, shape in AROUND.items()}
  return found | (extra if around else {})


def run(family, *flags, width=0.125):
  override = [f'--params_override={family}.width_multiplier={width}'] if width else []
  return drivers.run(from_pytorch, f'--backbone={family}', *override, *flags)


def write(path, state_dict):
  pytorch_file.write(str(path), {'epoch': 3, 'arch': 'x', 'state_dict': state_dict})
  return path


def files(folder):
  return f'--pytorch_file={folder / "a.pth"}', f'--checkpoint={folder / "ckpt"}'


def failure(result):
  assert result.code == 2
  assert result.stderr.count('\n') == 1
  return result.stderr


# --- The mapping ----------------------------------------------------------------------


def layers_of_each_kind():
  conv, dense = tf_keras.layers.Conv3D(2, (1, 2, 3)), tf_keras.layers.Dense(3)
  norm = tf_keras.layers.BatchNormalization()
  conv.build([None, 4, 5, 6, 4])
  dense.build([None, 2])
  norm.build([None, 3])
  return conv, dense, norm


def test_layouts_of_layers():
  conv, dense, norm = layers_of_each_kind()
  mapping = {'net': {'conv': conv, 'head': {'0': dense, '1': norm}}}
  kernel = np.arange(2 * 4 * 1 * 2 * 3, dtype=np.float32).reshape(2, 4, 1, 2, 3)
  state_dict = {
    'net.conv.weight': kernel,
    'net.conv.bias': np.float32([1, 2]),
    'net.head.0.weight': np.float32([[1, 2], [3, 4], [5, 6]]),
    'net.head.0.bias': np.float32([7, 8, 9]),
    'net.head.1.weight': np.float32([1, 2, 3]),
    'net.head.1.bias': np.float32([4, 5, 6]),
    'net.head.1.running_mean': np.float32([7, 8, 9]),
    'net.head.1.running_var': np.float32([10, 11, 12]),
    'net.head.1.num_batches_tracked': np.array(5),
  }
  assignments, unmatched = pytorch_mapping.convert(state_dict, mapping)
  assert not unmatched
  assert not np.any(norm.moving_mean)  # Nothing is changed yet.
  pytorch_mapping.apply(assignments)
  for out, inside, time, row, column in [
    (0, 0, 0, 0, 0),
    (1, 3, 0, 1, 2),
    (1, 0, 0, 0, 1),
  ]:
    assert (
      conv.kernel[time, row, column, inside, out]
      == kernel[out, inside, time, row, column]
    )
  assert dense.kernel.numpy().tolist() == [[1, 3, 5], [2, 4, 6]]
  assert [v.numpy().tolist()[0] for v in norm.variables] == [1, 4, 7, 10]
  back = pytorch_mapping.to_state_dict(mapping)
  assert list(back) == list(state_dict)
  for key, tensor in state_dict.items():
    if not key.endswith('tracked'):
      np.testing.assert_array_equal(back[key], tensor)
  assert back['net.head.1.num_batches_tracked'].dtype == np.int64


def test_what_does_not_match_is_named():
  _, dense, _ = layers_of_each_kind()
  state_dict = {'a.weight': np.zeros((3, 2), np.float32), 'b': np.zeros(1, np.float32)}
  assignments, unmatched = pytorch_mapping.convert(state_dict, {'a': dense})
  assert [a.weight.key for a in assignments] == ['a.weight']
  assert (unmatched.missing, unmatched.unexpected) == (['a.bias'], ['b'])
  assert str(unmatched) == '1 missing: a.bias; 1 unexpected: b'
  state_dict = {'a.weight': np.zeros((2, 3), np.float32), 'a.bias': np.zeros(3, np.int64)}
  _, unmatched = pytorch_mapping.convert(state_dict, {'a': dense})
  assert unmatched.unfit == [
    'a.weight is [2, 3] there and [3, 2] here',
    'a.bias is of int64 there, expected a float',
  ]
  assert not unmatched.missing
  assert not unmatched.unexpected


def test_several_names_of_a_layer():
  _, dense, _ = layers_of_each_kind()
  mapping = {'a': dense, 'b': dense}
  weight, bias = np.ones((3, 2), np.float32), np.zeros(3, np.float32)
  one = {'b.weight': weight, 'b.bias': bias}
  both = one | {'a.weight': weight.copy(), 'a.bias': bias}
  for state_dict in (one, both):
    assignments, unmatched = pytorch_mapping.convert(state_dict, mapping)
    assert not unmatched
    assert len(assignments) == 2
  _, unmatched = pytorch_mapping.convert(both | {'a.weight': weight + 1}, mapping)
  assert unmatched.unfit == ['b.weight is another name of a.weight, but differs from it']
  back = pytorch_mapping.to_state_dict(mapping)
  assert back['a.weight'] is back['b.weight']


def test_half_precision_is_widened():
  _, dense, _ = layers_of_each_kind()
  values = {'a.weight': np.float16([[1, 2], [3, 4], [5, 6]]), 'a.bias': np.zeros(3, 'f2')}
  assignments, unmatched = pytorch_mapping.convert(values, {'a': dense})
  assert not unmatched
  assert {a.value.dtype for a in assignments} == {np.dtype(np.float32)}


def test_layers_without_a_counterpart():
  with pytest.raises(ValueError, match='build it'):
    pytorch_mapping.weights({'a': tf_keras.layers.Dense(1)})
  layer = tf_keras.layers.Conv3DTranspose(2, 1)
  layer.build([None, 1, 1, 1, 2])
  with pytest.raises(TypeError, match='no counterpart'):
    pytorch_mapping.weights({'a': layer})


def test_data_parallel_prefix():
  strip = pytorch_mapping.without_data_parallel
  assert strip({'module.a': 1, 'module.module.b': 2}) == {'a': 1, 'module.b': 2}
  assert strip({'module.a': 1, 'b': 2}) == {'module.a': 1, 'b': 2}


# --- The driver -----------------------------------------------------------------------


@pytest.mark.parametrize(
  'family, module', [*((family, 'module.') for family in FAMILIES), ('c3d', '')]
)
def test_there_and_back_bit_for_bit(tmp_path, family, module):
  net, layers = build(family)
  state_dict = random_state_dict(layers, f'{module}online_net.')
  write(tmp_path / 'a.pth', state_dict)
  result = run(family, *files(tmp_path))
  assert result.code == 0, result.stderr
  # Any task restores it, and it holds nothing else.
  report = restore.restore_backbone(net, str(tmp_path / 'ckpt'))
  assert len(report.restored) == len(net.variables)
  assert not report.ignored
  for key, weight in pytorch_mapping.weights(layers).items():
    tensor = state_dict[f'{module}online_net.{key}']
    np.testing.assert_array_equal(weight.to_pytorch(), tensor)
    shapes = f'{list(tensor.shape)} -> {weight.name} {list(weight.variable.shape)}'
    assert f'online_net.{key} {shapes}\n' in result.stdout
  for key in AROUND:
    assert f'\n{key}: not part of the backbone\n' in result.stdout
  assert f'{len(AROUND)} keys are not part of the backbone' in result.stdout
  back = tmp_path / 'back.pth'
  flags = (f'--pytorch_file={back}', f'--checkpoint={tmp_path}', '--reverse')
  result = run(family, *flags)
  assert result.code == 0, result.stderr
  found = pytorch_file.read_state_dict(str(back))
  own = random_state_dict(layers, around=False)
  assert set(found) == set(own)
  for key, tensor in own.items():
    if not key.endswith('num_batches_tracked'):
      assert found[key].tobytes() == tensor.tobytes(), key


def test_a_file_that_pytorch_wrote(tmp_path):
  state_dict = goldens.pytorch('r3d')
  checkpoint = f'--checkpoint={tmp_path / "ckpt"}'
  there = f'--pytorch_file={goldens.PYTORCH / "r3d.pth"}'
  assert run('r3d', there, checkpoint, width=1 / 64).code == 0
  back = f'--pytorch_file={tmp_path / "b.pth"}'
  assert run('r3d', '--reverse', back, checkpoint, width=1 / 64).code == 0
  found = pytorch_file.read_state_dict(str(tmp_path / 'b.pth'))
  assert set(found) == {key for key in state_dict if key.startswith('module.online_net.')}
  for key, tensor in found.items():
    if not key.endswith('num_batches_tracked'):
      np.testing.assert_array_equal(tensor, state_dict[key])


def test_safetensors_there_and_back(tmp_path):
  _, layers = build('c3d')
  state_dict = random_state_dict(layers, 'module.online_net.')
  path = tmp_path / 'a.safetensors'
  tensor_file.write_safetensors(str(path), state_dict)
  there = f'--pytorch_file={path}', f'--checkpoint={tmp_path / "ckpt"}'
  result = run('c3d', *there)
  assert result.code == 0, result.stderr
  back = f'--pytorch_file={tmp_path / "b.safetensors"}', there[1]
  assert run('c3d', '--reverse', *back).code == 0
  # By another name it is read as what it is.
  (tmp_path / 'pytorch_model.bin').write_bytes((tmp_path / 'b.safetensors').read_bytes())
  named = f'--pytorch_file={tmp_path / "pytorch_model.bin"}'
  assert run('c3d', named, f'--checkpoint={tmp_path / "named"}').code == 0
  found = tensor_file.read_safetensors(str(tmp_path / 'b.safetensors'))
  own = random_state_dict(layers, 'module.online_net.', around=False)
  assert set(found) == set(own)
  for key, tensor in own.items():
    if not key.endswith('num_batches_tracked'):
      assert found[key].tobytes() == tensor.tobytes(), key
  path.write_bytes(path.read_bytes()[:-1])
  other = f'--checkpoint={tmp_path / "other"}'
  assert 'no whole safetensors file' in failure(run('c3d', there[0], other))


def test_a_safetensors_file_has_the_published_form(tmp_path):
  tensors = {
    'a': np.arange(6, dtype='>f4').reshape(2, 3).T,
    'b': np.array(True),
    'c': np.zeros((0, 2), np.int64),
  }
  path = tmp_path / 'a.safetensors'
  tensor_file.write_safetensors(str(path), tensors)
  data = path.read_bytes()
  (length,) = struct.unpack('<Q', data[:8])
  header = json.loads(data[8 : 8 + length])
  assert length % 8 == 0 and header.pop('__metadata__') == {'format': 'pt'}
  assert header == {
    'a': {'dtype': 'F32', 'shape': [3, 2], 'data_offsets': [0, 24]},
    'b': {'dtype': 'BOOL', 'shape': [], 'data_offsets': [24, 25]},
    'c': {'dtype': 'I64', 'shape': [0, 2], 'data_offsets': [25, 25]},
  }
  assert len(data) == 8 + length + 25
  found = tensor_file.read_safetensors(str(path))
  for key, value in tensors.items():
    np.testing.assert_array_equal(found[key], value)
    assert found[key].shape == value.shape


def test_a_file_of_the_bare_backbone(tmp_path):
  _, layers = build('c3d')
  write(tmp_path / 'a.pth', random_state_dict(layers, '', around=False))
  message = failure(run('c3d', *files(tmp_path)))
  assert "no key begins with 'online_net.', but there are conv1.weight" in message
  assert run('c3d', '--prefix=', *files(tmp_path)).code == 0
  back = f'--pytorch_file={tmp_path / "b.pth"}', f'--checkpoint={tmp_path / "ckpt"}'
  assert run('c3d', '--prefix=', '--reverse', *back).code == 0
  assert 'conv1.weight' in pytorch_file.read_state_dict(str(tmp_path / 'b.pth'))


@pytest.mark.parametrize(
  'change, message',
  [
    (lambda s: s.pop('module.online_net.conv1.weight'), '1 missing: conv1.weight'),
    (
      lambda s: s.update({'module.online_net.conv9.bias': np.zeros(3, np.float32)}),
      '1 unexpected: conv9.bias',
    ),
    (
      lambda s: s.update({'module.decoder.bias': np.zeros(3, np.float32)}),
      '1 unexpected: decoder.bias',
    ),
    (
      lambda s: s.update({'module.online_net.bn1.bias': np.zeros(3, np.float32)}),
      '1 unfit: bn1.bias is [3] there and [8] here',
    ),
  ],
)
def test_files_that_do_not_match(tmp_path, change, message):
  _, layers = build('c3d')
  state_dict = random_state_dict(layers)
  change(state_dict)
  write(tmp_path / 'a.pth', state_dict)
  found = failure(run('c3d', *files(tmp_path)))
  assert message in found
  assert str(tmp_path / 'a.pth') in found
  assert not (tmp_path / 'ckpt.index').exists()


def test_code_in_a_file_is_named_and_not_executed(tmp_path):
  (tmp_path / 'a.pth').write_bytes(b'\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.')
  assert 'refused: os.system' in failure(run('c3d', *files(tmp_path)))


def test_nothing_is_overwritten(tmp_path):
  _, layers = build('c3d')
  write(tmp_path / 'a.pth', random_state_dict(layers))
  assert run('c3d', *files(tmp_path)).code == 0
  before = (tmp_path / 'a.pth').read_bytes()
  assert 'exists' in failure(run('c3d', *files(tmp_path)))
  assert 'exists' in failure(run('c3d', '--reverse', *files(tmp_path)))
  assert (tmp_path / 'a.pth').read_bytes() == before


def test_a_checkpoint_of_another_backbone(tmp_path):
  net, _ = build('c3d')
  tf.train.Checkpoint(backbone=net).write(str(tmp_path / 'ckpt'))
  result = run('r3d', '--reverse', *files(tmp_path))
  assert result.code == 2
  assert 'do not match' in result.stderr
  assert not (tmp_path / 'a.pth').exists()


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('kind', ['pre', 'ft'])
def test_every_key_of_the_originals_is_accounted_for(family, kind):
  _, layers = from_pytorch.build_backbone(family)
  # Views of one number: the real files are of hundreds of megabytes.
  state_dict = {
    key: np.broadcast_to(np.zeros((), dtype), shape)
    for key, shape, dtype in goldens.inventory(f'{FAMILIES[family]}_{kind}')
  }
  own, others, unknown = from_pytorch.split_state_dict(state_dict, 'online_net')
  assignments, unmatched = pytorch_mapping.convert(own, layers)
  assert not unmatched, str(unmatched)
  assert not unknown
  assert len(own) + len(others) == len(state_dict)
  assert {id(a.weight.variable) for a in assignments} == {
    id(v) for layer in layers.values() for v in layer.variables
  }
  # Back, the keys are those of the original again, with their shapes.
  back = pytorch_mapping.to_state_dict(layers)
  assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in own.items()}


def test_mistaken_requests_are_one_line(tmp_path):
  with pytest.raises(UserError, match='unknown field'):
    from_pytorch.build_backbone('c3d', 'c3d.depth=3')
  result = drivers.run(from_pytorch, '--backbone=vgg', *files(tmp_path))
  assert 'r2plus1d' in failure(result)
  assert 'No such file' in failure(run('c3d', *files(tmp_path)))
  assert 'does not exist' in failure(run('c3d', '--reverse', *files(tmp_path)))

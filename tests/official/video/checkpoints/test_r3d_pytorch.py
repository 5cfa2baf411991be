"""What is written for PyTorch is the same net there; takes PyTorch, which CI has not."""

import importlib.util
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from official.video.backbones import factory, families, resnet_3d
from official.video.checkpoints import from_pytorch, pytorch_file, pytorch_mapping
from tests import drivers

torch = pytest.importorskip('torch')
SCRIPT = pathlib.Path(__file__).parents[4] / 'docs' / 'scripts' / 'r3d_pytorch.py'


def theirs():
  spec = importlib.util.spec_from_file_location('r3d_pytorch', SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize('shape', [(8, 64, 80), (5, 63, 49)])
def test_features_are_equal_both_ways(shape, tmp_path, equality):
  config = families.of('resnet_3d', width_multiplier=0.25)
  net = factory.build_backbone(config)
  rng = np.random.default_rng(0)
  for variable in net.variables:
    low, high = (0.5, 1.5) if len(variable.shape) == 1 else (-0.06, 0.06)
    variable.assign(rng.uniform(low, high, variable.shape))
  checkpoint = tf.train.Checkpoint(backbone=net).write(str(tmp_path / 'ckpt'))
  path = tmp_path / 'cvrl.pth'
  done = drivers.run(
    from_pytorch,
    *(
      '--reverse',
      '--backbone=resnet_3d',
      '--params_override=resnet_3d.width_multiplier=0.25',
    ),
    *(f'--checkpoint={checkpoint}', f'--pytorch_file={path}'),
  )
  assert done.code == 0, done.stderr
  other = theirs().R3D(width=0.25)
  other.load_state_dict(torch.load(path)['state_dict'])  # All keys, and no other.
  clips = rng.random((2, *shape, 3)).astype(np.float32)
  expected = tf.reduce_mean(net(clips)['5'], [1, 2, 3]).numpy()
  with torch.no_grad():
    found = other.eval()(torch.from_numpy(clips.transpose(0, 4, 1, 2, 3))).numpy()
  equality(
    'resnet_3d in PyTorch by docs/scripts/r3d_pytorch.py, features', found, expected
  )
  # And back: PyTorch's own weights give its features here.
  torch.save(other.state_dict(), tmp_path / 'own.pth')
  state = pytorch_file.read_state_dict(str(tmp_path / 'own.pth'))
  assignments, unmatched = pytorch_mapping.convert(state, resnet_3d.pytorch_layers(net))
  assert not unmatched
  for variable in net.variables:
    variable.assign(tf.zeros_like(variable))
  pytorch_mapping.apply(assignments)
  again = tf.reduce_mean(net(clips)['5'], [1, 2, 3]).numpy()
  equality('docs/scripts/r3d_pytorch.py to resnet_3d, features', again, found)

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests import backbones, goldens

FILE = 'cstp_s3d.npz'


@pytest.fixture(scope='module')
def net():
  return backbones.filled('s3d', FILE)


@pytest.mark.slow
def test_published_size():
  assert backbones.trainable(backbones.build('s3d')) == 9_098_000


@pytest.mark.slow
def test_slow_keeps_the_frames():
  fast, slow = (
    backbones.build('s3d', width_multiplier=0.0625, slow=slow) for slow in (False, True)
  )
  clip = tf.zeros([1, 9, 32, 32, 3])
  assert [x.shape[1] for x in fast(clip).values()] == [5, 5, 5, 3, 1]
  assert [x.shape[1] for x in slow(clip).values()] == [9, 9, 9, 5, 2]
  assert fast(clip)['5'].shape == (1, 1, 1, 1, 64)


def test_gates_weigh_the_channels():
  gated, plain = (
    backbones.build('s3d', width_multiplier=0.0625, gating=gating)
    for gating in (True, False)
  )
  names = [x.name for x in gated.layers if 'gating' in x.name and x.weights]
  assert len(names) == 9 * 4
  assert not [x.name for x in plain.layers if 'gating' in x.name]
  layers = (gated.get_layer(f'Mixed_3b/{n}') for n in ('gating_b1', 'gating_b1/fc'))
  gate, dense = layers
  branch = gate.input[0]
  run = tf_keras.Model(gated.input, [branch, gate.output])
  inputs, outputs = run(tf.random.stateless_uniform([2, 5, 32, 32, 3], [1, 2]))
  kernel, bias = (w.numpy() for w in dense.weights)
  weights = 1 / (1 + np.exp(-(np.mean(inputs, (1, 2, 3)) @ kernel + bias)))
  expected = inputs * weights[:, None, None, None]
  np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)


def test_both_names_lead_to_one_layer(net):
  layers = backbones.pytorch_layers(net)
  assert layers['block1.0.conv1'] is layers['Conv_1a.conv1']
  assert layers['block4.5.branch2.1.bn2'] is layers['Mixed_4f.branch2.1.bn2']
  own = [name for name in layers if not name.startswith('block')]
  assert len(layers) == 2 * len(own)


def test_keys_of_the_reference(net):
  backbones.assert_inventory(net, 's3d_ft')


def test_golden_stages_and_feature(net):
  children = {
    'block1': 'Conv_1a/bn2/activation',
    'block2': 'Conv_2c/bn2/activation',
    'block3': 'Mixed_3c',
    'block4': 'Mixed_4f',
    'block5': 'Mixed_5c',
  }
  feature, expected = backbones.assert_golden_stages(net, FILE, children)
  assert goldens.relative_error(feature, expected) < 1e-4


def test_golden_logits(net):
  backbones.assert_golden_logits(net, 's3d', 'classify_bn')


def test_golden_statistics():
  backbones.assert_golden_statistics(backbones.filled('s3d', FILE), FILE)

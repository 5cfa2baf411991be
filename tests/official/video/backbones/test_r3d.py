import numpy as np
import pytest
import tensorflow as tf

from official.video.backbones import r3d
from official.video.errors import UserError
from tests import backbones, goldens

FILE = 'cstp_r3d18.npz'


@pytest.fixture(scope='module')
def net():
  return backbones.filled('r3d', FILE)


def test_published_size():
  assert backbones.trainable(backbones.build('r3d')) == 33_203_904


@pytest.mark.parametrize('depth', [10, 18, 34])
def test_depths(depth):
  net = backbones.build('r3d', model_id=depth, width_multiplier=0.0625)
  convs = [n for n in backbones.tensors(backbones.pytorch_layers(net)) if 'conv' in n]
  assert len(convs) == depth - 1  # the last of a depth's layers is the classifier
  assert net(tf.zeros([1, 5, 33, 40, 3]))['5'].shape == (1, 1, 2, 2, 32)


def test_shortcut_a_subsamples_and_appends_zeros():
  x = tf.random.stateless_uniform([2, 5, 4, 6, 3], [1, 2])
  layer = r3d.SubsamplingShortcut(5, (2, 1, 3))
  actual = layer(x).numpy()
  np.testing.assert_array_equal(actual[..., :3], x[:, ::2, :, ::3])
  assert actual.shape == (2, 3, 4, 2, 5)
  assert not actual[..., 3:].any()


def test_shortcut_a_has_no_weights_else_the_net_is_the_same():
  a, b = (
    backbones.build('r3d', width_multiplier=0.0625, shortcut_type=kind) for kind in 'AB'
  )
  names = {net: set(backbones.tensors(backbones.pytorch_layers(net))) for net in (a, b)}
  assert {n for n in names[b] if 'downsample' not in n} == names[a] < names[b]
  clip = tf.zeros([1, 3, 32, 48, 3])
  for one, other in zip(a(clip).values(), b(clip).values(), strict=True):
    assert one.shape == other.shape


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'model_id': 50}, r'model_id is 50, .*bottleneck.*10, 18, 34.*type=resnet_3d'),
    ({'model_id': 19}, r'model_id 19: expected one of 10, 18, 34'),
    ({'shortcut_type': 'C'}, r"shortcut_type 'C': expected one of A, B"),
    ({'temporal_strides': [1, 2]}, r'temporal_strides is \[1, 2\]; expected 4 integers'),
    ({'temporal_kernel_sizes': [3, 3, 3, 0]}, r'kernel_sizes is .* expected 4 integers'),
    ({'pixel_mean': [1, 2]}, r'backbone.r3d.pixel_mean is \[1, 2\]; expected three'),
  ],
)
def test_impossible_options_are_named(fields, message):
  with pytest.raises(UserError, match=message):
    backbones.build('r3d', **fields)


def test_keys_of_the_reference(net):
  backbones.assert_inventory(net, 'r3d_ft')


def test_golden_stages_and_feature(net):
  children = {'conv1': 'conv1', 'maxpool': 'maxpool'}
  children |= {f'layer{i}': f'layer{i}/1/activation' for i in range(1, 5)}
  feature, expected = backbones.assert_golden_stages(net, FILE, children)
  assert goldens.relative_error(feature, expected) < 1e-4


def test_golden_logits(net):
  backbones.assert_golden_logits(net, 'r3d18', 'classify_bn')


def test_golden_statistics():
  backbones.assert_golden_statistics(backbones.filled('r3d', FILE), FILE)

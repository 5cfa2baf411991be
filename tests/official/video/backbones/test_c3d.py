import pytest
import tensorflow as tf

from tests import backbones, goldens

FILE = 'cstp_c3d.npz'


@pytest.fixture(scope='module')
def net():
  return backbones.filled('c3d', FILE)


def test_published_size():
  assert backbones.trainable(backbones.build('c3d')) == 27_661_440


def test_poolings_round_down():
  net = backbones.build('c3d', width_multiplier=0.0625)
  shapes = [tuple(x.shape[1:4]) for x in net(tf.zeros([1, 11, 39, 33, 3])).values()]
  assert shapes == [(11, 39, 33), (11, 19, 16), (5, 9, 8), (2, 4, 4), (1, 2, 2)]


def test_keys_of_the_reference(net):
  backbones.assert_inventory(net, 'c3d_ft')


def test_golden_stages_and_feature(net):
  names = ('1', '2', '3a', '3b', '4a', '4b', '5a', '5b')
  children = {f'conv{name}': f'conv{name}' for name in names}
  feature, expected = backbones.assert_golden_stages(net, FILE, children)
  assert goldens.relative_error(feature, expected) < 1e-4


def test_golden_logits(net):
  backbones.assert_golden_logits(net, 'c3d', 'cls_bn')


def test_golden_statistics():
  backbones.assert_golden_statistics(backbones.filled('c3d', FILE), FILE)

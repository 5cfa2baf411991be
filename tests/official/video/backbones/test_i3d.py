import pytest
import tensorflow as tf

from official.video.backbones import i3d
from official.video.heads import temporal_convolution
from tests import backbones, goldens

FILE = 'cstp_i3d.npz'


@pytest.fixture(scope='module')
def net():
  return backbones.filled('i3d', FILE)


@pytest.mark.slow
def test_published_size():
  assert backbones.trainable(backbones.build('i3d')) == 12_287_264


def test_static_padding():
  assert i3d.static_padding((7, 7, 7), (2, 2, 2)) == ((2, 3),) * 3
  assert i3d.static_padding((3, 3, 3), (1, 1, 1)) == ((1, 1),) * 3
  assert i3d.static_padding((1, 3, 3), (1, 2, 2)) == ((0, 0), (0, 1), (0, 1))
  assert i3d.static_padding((2, 2, 2), (2, 2, 2)) == ((0, 0),) * 3


def test_poolings_round_up():
  net = backbones.build('i3d', width_multiplier=0.0625)
  shapes = [tuple(x.shape[1:4]) for x in net(tf.zeros([1, 9, 34, 44, 3])).values()]
  assert shapes == [(4, 17, 22), (4, 9, 11), (4, 5, 6), (2, 3, 3), (1, 2, 2)]


def test_a_window_cut_short_takes_what_there_is():
  net = backbones.build('i3d', width_multiplier=0.0625)
  x = tf.random.stateless_uniform([1, 1, 5, 4, 1], [1, 2]) - 2
  pool = net.get_layer('pool2')
  rows = [x[:, :, a : a + 3] for a in (0, 2, 4)]
  expected = [[tf.reduce_max(row[..., b : b + 3, :]) for b in (0, 2)] for row in rows]
  assert pool(x)[0, 0, ..., 0].numpy().tolist() == tf.stack(expected).numpy().tolist()


def test_keys_of_the_reference(net):
  backbones.assert_inventory(net, 'i3d_ft')


def test_golden_stages_and_feature(net):
  stem = ('conv3d_1a_7x7', 'conv3d_2b_1x1', 'conv3d_2c_3x3')
  children = {name: f'{name}/batch3d/activation' for name in stem}
  blocks = [block for stage in i3d.MIXED.values() for block in stage]
  children |= {f'mixed_{block}': f'mixed_{block}' for block in blocks}
  feature, expected = backbones.assert_golden_stages(net, FILE, children)
  feature /= tf.norm(feature, axis=-1, keepdims=True)
  assert goldens.relative_error(feature, expected) < 1e-4


def test_golden_logits(net):
  arrays = goldens.golden('cstp_finetune_logits.npz')
  expected = arrays['i3d/logits']
  features = net(backbones.clip('ft_clip', tuple(arrays['i3d/clip_shape'])))['5']
  head = temporal_convolution.TemporalConvolutionHead(expected.shape[-1])
  head(features)
  backbones.fill({'conv3d_0c_1x1_custom.conv3d': head.conv}, 'online_net.')
  assert goldens.relative_error(head(features), expected) < 1e-4


def test_golden_statistics():
  backbones.assert_golden_statistics(backbones.filled('i3d', FILE), FILE)

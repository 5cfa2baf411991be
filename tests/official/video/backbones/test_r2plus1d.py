import pytest
import tensorflow as tf

from official.video.backbones import r2plus1d
from official.video.errors import UserError
from tests import backbones, goldens

FILE = 'cstp_r21d.npz'


@pytest.fixture(scope='module')
def net():
  return backbones.filled('r2plus1d', FILE)


def test_published_size():
  net = backbones.build('r2plus1d')
  assert backbones.trainable(net) == 14_365_303
  mid = [x.filters for x in net.layers if x.name.endswith('spatial_conv')]
  assert sorted(mid) == sorted([83, 144, 144, 230, 288, 42, 460, 576, 85, 921, 1152, 170])


def test_split_convolution_keeps_the_parameters_of_a_full_one():
  assert r2plus1d.mid_channels((3, 7, 7), 3, 64) == 83
  mid = r2plus1d.mid_channels((3, 3, 3), 100, 100)
  assert mid == 225  # 270,000 = 225 * (9 * 100 + 3 * 100)


def test_more_blocks():
  net = backbones.build('r2plus1d', width_multiplier=0.0625, stage_blocks=[1, 3, 1, 2])
  names = backbones.pytorch_layers(net)
  assert {n.split('.conv1')[0] for n in names if n.startswith('conv3')} >= {
    'conv3.block1',
    'conv3.blocks.0',
    'conv3.blocks.1',
  }
  assert 'conv3.blocks.0.downsampleconv.bn' not in names
  assert net(tf.zeros([1, 8, 16, 16, 3]))['5'].shape == (1, 1, 1, 1, 32)


@pytest.mark.parametrize('blocks', [[1, 1, 1], [1, 1, 0, 1]])
def test_impossible_blocks_are_named(blocks):
  with pytest.raises(UserError, match=r'stage_blocks is \[1, 1.*expected 4 integers'):
    backbones.build('r2plus1d', stage_blocks=blocks)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'mid_width': 'wide'}, r"mid_width 'wide': expected one of layer, block, double"),
    ({'shortcut': 'none'}, r"shortcut 'none': expected one of split, plain"),
    ({'stem_mid_filters': -1}, r'stem_mid_filters is -1; expected 1 or more, or 0'),
  ],
)
def test_impossible_options_are_named(fields, message):
  with pytest.raises(UserError, match=message):
    backbones.build('r2plus1d', **fields)


def test_widths_between_the_halves():
  def widths(**fields):
    net = backbones.build('r2plus1d', width_multiplier=0.5, **fields)
    layers = backbones.pytorch_layers(net)
    return [
      layers[f'{name}.spatial_conv'].filters
      for name in ('conv1', 'conv3.block1.conv1', 'conv3.block1.conv2')
    ]

  # 3*49*3*32 / (49*3 + 3*32); 27*32*64 / (9*32 + 3*64), and of 64 and 64.
  assert widths() == [58, 115, 144]
  assert widths(mid_width='block', stem_mid_filters=45) == [22, 115, 115]
  assert widths(mid_width='double') == [64, 128, 128]


def test_keys_of_the_reference(net):
  backbones.assert_inventory(net, 'r21d_ft')


def test_golden_stages_and_feature(net):
  children = {'conv1': 'conv1/temporal_conv'}
  children |= {stage: f'{stage}/block1/activation' for stage in r2plus1d.STAGES}
  feature, expected = backbones.assert_golden_stages(net, FILE, children)
  assert goldens.relative_error(feature, expected) < 1e-4


def test_golden_logits(net):
  backbones.assert_golden_logits(net, 'r21d', 'cls_bn')


def test_golden_statistics():
  backbones.assert_golden_statistics(backbones.filled('r2plus1d', FILE), FILE)

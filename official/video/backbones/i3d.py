"""I3D: Inception v1 with its windows inflated through time."""

import dataclasses
from typing import Any

import tensorflow as tf
import tf_keras

from official.video.backbones import families, layers


@dataclasses.dataclass(frozen=True)
class Mixed:
  """Channels of the four branches of an inception block, concatenated in this order.

  Attributes:
    single: of the 1x1x1 convolution.
    double: of the 1x1x1 convolution and the 3x3x3 one after it.
    second_double: the same of the third branch.
    pooled: of the 1x1x1 convolution after the pooling.
  """

  single: int
  double: tuple[int, int]
  second_double: tuple[int, int]
  pooled: int


# By stage, in order. S3D has the same.
MIXED: dict[str, dict[str, Mixed]] = {
  '3': {
    '3b': Mixed(64, (96, 128), (16, 32), 32),
    '3c': Mixed(128, (128, 192), (32, 96), 64),
  },
  '4': {
    '4b': Mixed(192, (96, 208), (16, 48), 64),
    '4c': Mixed(160, (112, 224), (24, 64), 64),
    '4d': Mixed(128, (128, 256), (24, 64), 64),
    '4e': Mixed(112, (144, 288), (32, 64), 64),
    '4f': Mixed(256, (160, 320), (32, 128), 128),
  },
  '5': {
    '5b': Mixed(256, (160, 320), (32, 128), 128),
    '5c': Mixed(384, (192, 384), (48, 128), 128),
  },
}

# Window and strides of the pooling before each stage.
POOLS: dict[str, tuple[layers.Size, layers.Size]] = {
  '2': ((1, 3, 3), (1, 2, 2)),
  '3': ((1, 3, 3), (1, 2, 2)),
  '4': ((3, 3, 3), (2, 2, 2)),
  '5': ((2, 2, 2), (2, 2, 2)),
}

pytorch_layers = layers.pytorch_layers


def static_padding(kernel: layers.Size, strides: layers.Size) -> layers.Padding:
  """What TensorFlow's SAME pads of an even size, whatever the size."""
  totals = [max(k - s, 0) for k, s in zip(kernel, strides, strict=True)]
  time, height, width = ((total // 2, total - total // 2) for total in totals)
  return time, height, width


@dataclasses.dataclass
class I3DConfig(layers.ConvNetConfig):
  """I3D, the inflated Inception v1."""


@families.family('i3d', I3DConfig)
class I3D(layers.VideoBackbone):
  """I3D: clips `[B, T, H, W, C]` to endpoints '1' to '5', one a resolution.

  T frames of S x S pixels become `[B, T/8, S/32, S/32, 1024]` at endpoint '5'; sizes are
  rounded up.

  Source: arXiv 1705.07750, one stream; padding of its PyTorch port.
  """

  family = 'i3d'
  config_class = I3DConfig

  @staticmethod
  def endpoints_of(
    clips: tf.Tensor, config: Any, units: layers.Units
  ) -> dict[str, tf.Tensor]:
    """Applies the stem and the inception blocks."""
    del config
    x = _unit(units, clips, units.width(64), 7, 'conv3d_1a_7x7', stride=2)
    endpoints = {'1': x}
    x = _unit(units, _pool(units, x, '2'), units.width(64), 1, 'conv3d_2b_1x1')
    x = endpoints['2'] = _unit(units, x, units.width(192), 3, 'conv3d_2c_3x3')
    for stage, blocks in MIXED.items():
      x = _pool(units, x, stage)
      for block, channels in blocks.items():
        x = _mixed(units, x, channels, f'mixed_{block}')
      endpoints[stage] = x
    return endpoints

  @staticmethod
  def smallest_clip(config: Any) -> layers.Size:
    """What the padded window of the first convolution needs."""
    del config
    return (2, 2, 2)


def _unit(
  units: layers.Units, x: tf.Tensor, filters: int, size: int, name: str, stride: int = 1
) -> tf.Tensor:
  kernel, strides = (size,) * 3, (stride,) * 3
  names = (f'{name}/conv3d', f'{name}/batch3d')
  pads = static_padding(kernel, strides)
  return units.conv_norm(x, filters, kernel, strides, names=names, pads=pads)


def _pool(units: layers.Units, x: tf.Tensor, stage: str) -> tf.Tensor:
  """The pooling before a stage; a last window that is cut short counts as well."""
  window, strides = POOLS[stage]
  padding = static_padding(window, strides)
  # A window is whole once padded by a stride less one, which is the rounding up.
  time, height, width = (
    (front, back + stride - 1)
    for (front, back), stride in zip(padding, strides, strict=True)
  )
  pads = (time, height, width)
  return units.max_pool(x, window, strides, name=f'pool{stage}', pads=pads)


def _mixed(units: layers.Units, x: tf.Tensor, channels: Mixed, name: str) -> tf.Tensor:
  first = _unit(units, x, units.width(channels.single), 1, f'{name}/branch_0')
  branches = [first]
  for i, widths in enumerate([channels.double, channels.second_double], 1):
    reduced = _unit(units, x, units.width(widths[0]), 1, f'{name}/branch_{i}/0')
    wide = units.width(widths[1])
    branches.append(_unit(units, reduced, wide, 3, f'{name}/branch_{i}/1'))
  pooled = units.max_pool(x, (3, 3, 3), layers.ONE, name=f'{name}/branch_3/0')
  width = units.width(channels.pooled)
  branches.append(_unit(units, pooled, width, 1, f'{name}/branch_3/1'))
  return tf_keras.layers.Concatenate(name=name)(branches)

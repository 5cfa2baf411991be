"""S3D and S3D-G: I3D's inception blocks with convolutions split into space and time."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from official.video.backbones import families, i3d, layers

# The original registers its units a second time, under the stage they belong to.
ALIASES: dict[str, str] = {
  'Conv_1a': 'block1.0',
  'Conv_2b': 'block2.1',
  'Conv_2c': 'block2.2',
} | {
  f'Mixed_{block}': f'block{stage}.{index}'
  for stage, blocks in i3d.MIXED.items()
  for index, block in enumerate(blocks, 1)
}


def pytorch_layers(backbone: tf_keras.Model) -> Mapping[str, tf_keras.layers.Layer]:
  """Every layer with weights by both names it has in the PyTorch original.

  Args:
    backbone: an `S3D`.

  Returns:
    As `layers.pytorch_layers`; a layer appears under its own name and, later, under its
    stage's.
  """
  own = layers.pytorch_layers(backbone)
  return own | {
    '.'.join([ALIASES[unit], rest]): layer
    for name, layer in own.items()
    for unit, _, rest in [name.partition('.')]
  }


@dataclasses.dataclass
class S3DConfig(layers.ConvNetConfig):
  """S3D; the defaults are S3D-G.

  Attributes:
    gating: whether each branch of an inception block weighs its channels by a gate.
    slow: whether the first convolution keeps all frames, which takes clips of 3 frames
      or more; else of 5. Rows and columns are 17 at least.
  """

  gating: bool = True
  slow: bool = False


@families.family('s3d', S3DConfig)
class S3D(layers.VideoBackbone):
  """S3D: clips `[B, T, H, W, C]` to endpoints '1' to '5', one a resolution.

  T frames of S x S pixels become `[B, T/8, S/32, S/32, 1024]` at endpoint '5', twice the
  frames if slow. The last halving rounds down, the others up.

  Source: arXiv 1712.04851; gates follow every branch, as in CoCLR.
  """

  family = 's3d'
  config_class = S3DConfig

  @staticmethod
  def endpoints_of(
    clips: tf.Tensor, config: Any, units: layers.Units
  ) -> dict[str, tf.Tensor]:
    """Applies the stem and the inception blocks."""
    strides = (1 if config.slow else 2, 2, 2)
    x = _separable(units, clips, units.width(64), 7, 'Conv_1a', strides)
    endpoints = {'1': x}
    x = _unit(units, _pool(units, x, '2'), units.width(64), 'Conv_2b')
    x = endpoints['2'] = _separable(units, x, units.width(192), 3, 'Conv_2c')
    for stage, blocks in i3d.MIXED.items():
      x = _pool(units, x, stage)
      for block, channels in blocks.items():
        x = _mixed(units, x, channels, f'Mixed_{block}', config.gating)
      endpoints[stage] = x
    return endpoints

  @staticmethod
  def smallest_clip(config: Any) -> layers.Size:
    """Two frames and pixels before the last pooling, which rounds down."""
    return (3 if config.slow else 5, 17, 17)


def _unit(units: layers.Units, x: tf.Tensor, filters: int, name: str) -> tf.Tensor:
  names = (f'{name}/conv', f'{name}/bn')
  return units.conv_norm(x, filters, layers.ONE, names=names)


def _separable(
  units: layers.Units,
  x: tf.Tensor,
  filters: int,
  size: int,
  name: str,
  strides: layers.Size = layers.ONE,
) -> tf.Tensor:
  """Convolution in space, then through time, each with batch norm and activation."""
  names = (f'{name}/conv1', f'{name}/bn1')
  x = units.conv_norm(x, filters, (1, size, size), (1, *strides[1:]), names=names)
  names = (f'{name}/conv2', f'{name}/bn2')
  return units.conv_norm(x, filters, (size, 1, 1), (strides[0], 1, 1), names=names)


def _pool(units: layers.Units, x: tf.Tensor, stage: str) -> tf.Tensor:
  window, strides = i3d.POOLS[stage]
  name = f'MaxPool_{stage}a'
  if stage == '5':  # Of even size, so it cannot be padded alike on both sides.
    return layers.MaxPool3D(window, strides, name=name)(x)
  return units.max_pool(x, window, strides, name=name)


def _mixed(
  units: layers.Units, x: tf.Tensor, channels: i3d.Mixed, name: str, gating: bool
) -> tf.Tensor:
  width = units.width
  branches = [_unit(units, x, width(channels.single), f'{name}/branch0/0')]
  for i, widths in enumerate([channels.double, channels.second_double], 1):
    reduced = _unit(units, x, width(widths[0]), f'{name}/branch{i}/0')
    branch = f'{name}/branch{i}/1'
    branches.append(_separable(units, reduced, width(widths[1]), 3, branch))
  pooled = units.max_pool(x, (3, 3, 3), layers.ONE, name=f'{name}/branch3/0')
  branches.append(_unit(units, pooled, width(channels.pooled), f'{name}/branch3/1'))
  if gating:
    branches = [
      _gate(units, branch, f'{name}/gating_b{i}') for i, branch in enumerate(branches)
    ]
  return tf_keras.layers.Concatenate(name=name)(branches)


def _gate(units: layers.Units, x: tf.Tensor, name: str) -> tf.Tensor:
  """Weighs each channel by a sigmoid of a linear map of all channels' means."""
  # On [batch, channels]: as a product of five dimensions TensorFlow's graph rewriter makes
  # a wrong shape of it where the clips are small.
  mean = tf_keras.layers.GlobalAveragePooling3D(name=f'{name}/mean')(x)
  gate = units.dense(mean, x.shape[-1], 'sigmoid', f'{name}/fc')
  gate = tf_keras.layers.Reshape((1, 1, 1, x.shape[-1]), name=f'{name}/everywhere')(gate)
  return tf_keras.layers.Multiply(name=name)([x, gate])

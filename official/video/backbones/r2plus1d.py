"""R(2+1)D of one residual block a stage, each convolution split into space and time."""

import dataclasses
from typing import Any

import tensorflow as tf
import tf_keras

from official.video.backbones import families, layers
from official.video.errors import UserError

STAGES = ('conv2', 'conv3', 'conv4', 'conv5')
STEM_FILTERS = 64

pytorch_layers = layers.pytorch_layers


def mid_channels(kernel: layers.Size, channels: int, filters: int) -> int:
  """Channels between the halves of a split convolution, which keep its parameter count.

  Source: arXiv 1711.11248, section 3.5.
  """
  time, height, width = kernel
  space = height * width
  parameters = time * space * channels * filters
  return max(1, parameters // (space * channels + time * filters))


@dataclasses.dataclass
class R2Plus1DConfig(layers.ConvNetConfig):
  """R(2+1)D; the defaults are the net that CSTP pretrains.

  Attributes:
    stage_blocks: residual blocks of stages conv2 to conv5.
  """

  stage_blocks: tuple[int, ...] = (1, 1, 1, 1)


@families.family('r2plus1d', R2Plus1DConfig)
class R2Plus1D(layers.VideoBackbone):
  """R(2+1)D: clips `[B, T, H, W, C]` to endpoints '1' (stem) and '2' to '5' (stages).

  T frames of S x S pixels become `[B, T/8, S/16, S/16, 512]` at endpoint '5'.

  Source: arXiv 1711.11248; widths and depth of the net that CSTP pretrains.
  """

  family = 'r2plus1d'
  config_class = R2Plus1DConfig

  @staticmethod
  def endpoints_of(
    clips: tf.Tensor, config: Any, units: layers.Units
  ) -> dict[str, tf.Tensor]:
    """Applies stem and stages."""
    stem = units.width(STEM_FILTERS)
    x = _split_conv(units, clips, stem, (3, 7, 7), (1, 2, 2), 'conv1')
    x = units.activate(units.norm(x, 'bn1'), 'bn1/activation')
    endpoints = {'1': x}
    for index, (stage, repeats) in enumerate(
      zip(STAGES, config.stage_blocks, strict=True)
    ):
      filters = units.width(STEM_FILTERS * 2**index)
      x = _block(units, x, filters, f'{stage}/block1', downsample=index > 0)
      for i in range(repeats - 1):
        x = _block(units, x, filters, f'{stage}/blocks/{i}', downsample=False)
      endpoints[str(index + 2)] = x
    return endpoints

  @classmethod
  def check(cls, config: Any) -> None:
    """Checks the number of blocks too."""
    super().check(config)
    blocks = config.stage_blocks
    if len(blocks) != len(STAGES) or min(blocks) < 1:
      raise UserError(
        f'backbone.r2plus1d.stage_blocks is {list(blocks)}; expected {len(STAGES)} '
        'integers of 1 or more, one each for conv2 to conv5'
      )


def _split_conv(
  units: layers.Units,
  x: tf.Tensor,
  filters: int,
  kernel: layers.Size,
  strides: layers.Size,
  name: str,
) -> tf.Tensor:
  """Convolution in space, batch norm, activation, convolution through time."""
  x = units.conv_norm(
    x,
    mid_channels(kernel, x.shape[-1], filters),
    (1, *kernel[1:]),
    (1, *strides[1:]),
    names=(f'{name}/spatial_conv', f'{name}/bn'),
  )
  return units.conv(
    x, filters, (kernel[0], 1, 1), (strides[0], 1, 1), name=f'{name}/temporal_conv'
  )


def _block(
  units: layers.Units, x: tf.Tensor, filters: int, name: str, downsample: bool
) -> tf.Tensor:
  """Two split convolutions and a shortcut, itself a split convolution if downsampling."""
  strides, kernel = (2, 2, 2) if downsample else layers.ONE, (3, 3, 3)
  shortcut = x
  if downsample:
    conv = f'{name}/downsampleconv'
    shortcut = _split_conv(units, x, filters, layers.ONE, strides, conv)
    shortcut = units.norm(shortcut, f'{name}/downsamplebn')
  x = _split_conv(units, x, filters, kernel, strides, f'{name}/conv1')
  x = units.activate(units.norm(x, f'{name}/bn1'), f'{name}/bn1/activation')
  x = _split_conv(units, x, filters, kernel, layers.ONE, f'{name}/conv2')
  x = units.norm(x, f'{name}/bn2')
  x = tf_keras.layers.Add(name=f'{name}/add')([x, shortcut])
  return units.activate(x, f'{name}/activation')

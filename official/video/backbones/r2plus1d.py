"""R(2+1)D: a residual net of convolutions that are split into space and time."""

import dataclasses
from typing import Any

import tensorflow as tf
import tf_keras

from official.video import registry
from official.video.backbones import families, layers
from official.video.errors import UserError

STAGES = ('conv2', 'conv3', 'conv4', 'conv5')
STEM_FILTERS = 64
MID_WIDTHS = ('layer', 'block', 'double')
SHORTCUTS = ('split', 'plain')

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
    mid_width: channels between the halves of a split convolution: 'layer' keeps the
      parameters of the 3D one; 'block' has those of the block's first in both of a block,
      as torchvision has; 'double' is twice what comes out, which has room for either sign
      of a map of images.
    stem_mid_filters: the same of the stem, at full width; 0 goes by `mid_width`.
    shortcut: where the shape changes, a 'split' convolution of 1x1x1 as well, or a 'plain'
      one; with batch norm.
    stem_pool: whether max pooling halves rows and columns after the stem, as in nets for
      images.
  """

  stage_blocks: tuple[int, ...] = (1, 1, 1, 1)
  mid_width: str = 'layer'
  stem_mid_filters: int = 0
  shortcut: str = 'split'
  stem_pool: bool = False


@families.family('r2plus1d', R2Plus1DConfig)
class R2Plus1D(layers.VideoBackbone):
  """R(2+1)D: clips `[B, T, H, W, C]` to endpoints '1' (stem) and '2' to '5' (stages).

  T frames of S x S pixels become `[B, T/8, S/16, S/16, 512]` at endpoint '5', with the
  stem's pooling half of the rows and columns.

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
    kernel = (3, 7, 7)
    mid = units.width(config.stem_mid_filters) if config.stem_mid_filters else 0
    mid = mid or _mid_width(config, kernel, clips.shape[-1], stem)
    x = _split_conv(units, clips, stem, mid, kernel, (1, 2, 2), 'conv1')
    x = units.activate(units.norm(x, 'bn1'), 'bn1/activation')
    endpoints = {'1': x}
    if config.stem_pool:
      x = units.max_pool(x, (1, 3, 3), (1, 2, 2), name='maxpool')
    for index, (stage, repeats) in enumerate(
      zip(STAGES, config.stage_blocks, strict=True)
    ):
      filters = units.width(STEM_FILTERS * 2**index)
      x = _block(units, config, x, filters, f'{stage}/block1', downsample=index > 0)
      for i in range(repeats - 1):
        name = f'{stage}/blocks/{i}'
        x = _block(units, config, x, filters, name, downsample=False)
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
    where = 'backbone.r2plus1d'
    registry.check_choice(f'{where}.mid_width', config.mid_width, MID_WIDTHS)
    registry.check_choice(f'{where}.shortcut', config.shortcut, SHORTCUTS)
    if config.stem_mid_filters < 0:
      raise UserError(
        f'{where}.stem_mid_filters is {config.stem_mid_filters}; expected 1 or more, or 0 '
        'for those of mid_width'
      )


def _mid_width(
  config: R2Plus1DConfig, kernel: layers.Size, channels: int, filters: int
) -> int:
  if config.mid_width == 'double':
    return 2 * filters
  return mid_channels(kernel, channels, filters)


def _split_conv(
  units: layers.Units,
  x: tf.Tensor,
  filters: int,
  mid: int,
  kernel: layers.Size,
  strides: layers.Size,
  name: str,
) -> tf.Tensor:
  """Convolution in space, batch norm, activation, convolution through time."""
  x = units.conv_norm(
    x,
    mid,
    (1, *kernel[1:]),
    (1, *strides[1:]),
    names=(f'{name}/spatial_conv', f'{name}/bn'),
  )
  return units.conv(
    x, filters, (kernel[0], 1, 1), (strides[0], 1, 1), name=f'{name}/temporal_conv'
  )


def _block(
  units: layers.Units,
  config: R2Plus1DConfig,
  x: tf.Tensor,
  filters: int,
  name: str,
  downsample: bool,
) -> tf.Tensor:
  """Two split convolutions and a shortcut, itself a convolution if downsampling."""
  strides, kernel = (2, 2, 2) if downsample else layers.ONE, (3, 3, 3)
  shortcut = x
  if downsample:
    shortcut = _shortcut(units, config, x, filters, strides, name)
  mid = _mid_width(config, kernel, x.shape[-1], filters)
  x = _split_conv(units, x, filters, mid, kernel, strides, f'{name}/conv1')
  x = units.activate(units.norm(x, f'{name}/bn1'), f'{name}/bn1/activation')
  if config.mid_width == 'layer':
    mid = _mid_width(config, kernel, filters, filters)
  x = _split_conv(units, x, filters, mid, kernel, layers.ONE, f'{name}/conv2')
  x = units.norm(x, f'{name}/bn2')
  x = tf_keras.layers.Add(name=f'{name}/add')([x, shortcut])
  return units.activate(x, f'{name}/activation')


def _shortcut(
  units: layers.Units,
  config: R2Plus1DConfig,
  x: tf.Tensor,
  filters: int,
  strides: layers.Size,
  name: str,
) -> tf.Tensor:
  conv = f'{name}/downsampleconv'
  if config.shortcut == 'plain':
    x = units.conv(x, filters, layers.ONE, strides, name=conv)
  else:
    mid = _mid_width(config, layers.ONE, x.shape[-1], filters)
    x = _split_conv(units, x, filters, mid, layers.ONE, strides, conv)
  return units.norm(x, f'{name}/downsamplebn')

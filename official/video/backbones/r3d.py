"""R3D-10, -18 and -34 of full 3x3x3 convolutions, padded as PyTorch nets are.

`resnet_3d` has basic blocks too, but padded by TensorFlow's rule and named as the Model
Garden's nets are; weights of one give other features in the other.
"""

import dataclasses
from typing import Any

import tensorflow as tf
import tf_keras

from official.video import registry
from official.video.backbones import families, layers
from official.video.errors import UserError

STEM_FILTERS = 64
SHORTCUT_TYPES = ('A', 'B')

# Depth to the number of blocks of each stage.
DEPTHS: dict[int, tuple[int, int, int, int]] = {
  10: (1, 1, 1, 1),
  18: (2, 2, 2, 2),
  34: (3, 4, 6, 3),
}
BOTTLENECK_DEPTHS = (50, 101, 152, 200)

pytorch_layers = layers.pytorch_layers


class SubsamplingShortcut(tf_keras.layers.Layer):
  """Shortcut without weights: every n-th frame, row and column; new channels are 0."""

  def __init__(self, filters: int, strides: layers.Size, **kwargs):
    """Initializes the layer.

    Args:
      filters: channels of the output, no fewer than the input's.
      strides: of frames, rows and columns.
      **kwargs: of `tf_keras.layers.Layer`.
    """
    super().__init__(**kwargs)
    self.filters = filters
    self.strides = tuple(strides)

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Maps `[B, T, H, W, C]` to `[B, T', H', W', filters]`."""
    time, height, width = self.strides
    new = self.filters - inputs.shape[-1]
    kept = inputs[:, ::time, ::height, ::width]
    return tf.pad(kept, ((0, 0), (0, 0), (0, 0), (0, 0), (0, new)))


@dataclasses.dataclass
class R3DConfig(layers.ConvNetConfig):
  """A 3D residual net padded as in PyTorch; the defaults are R3D-18.

  Attributes:
    model_id: depth: 10, 18 or 34.
    shortcut_type: where the shape changes, 'A' subsamples and appends channels of 0, 'B'
      is a strided 1x1x1 convolution with batch norm.
    stem_conv_temporal_kernel_size: frames that the 7x7 stem convolution sees.
    stem_pool: whether max pooling halves time and space after the stem.
    temporal_kernel_sizes: frames that the convolutions of each stage see; 1 in all but the
      first are mixed convolutions, MC3.
    temporal_strides: of the stages.
  """

  model_id: int = 18
  shortcut_type: str = 'B'
  stem_conv_temporal_kernel_size: int = 7
  stem_pool: bool = True
  temporal_kernel_sizes: tuple[int, ...] = (3, 3, 3, 3)
  temporal_strides: tuple[int, ...] = (1, 2, 2, 2)


@families.family('r3d', R3DConfig)
class R3D(layers.VideoBackbone):
  """R3D: clips `[B, T, H, W, C]` to endpoints '1' (stem) and '2' to '5' (stages).

  T frames of S x S pixels become `[B, T/16, S/32, S/32, 512]` at endpoint '5', without the
  stem's pooling `[B, T/8, S/16, S/16, 512]`; sizes are rounded up.

  Source: arXiv 1711.09577; without the pooling and of a stem of 3 frames 1711.11248.
  """

  family = 'r3d'
  config_class = R3DConfig

  @staticmethod
  def endpoints_of(
    clips: tf.Tensor, config: Any, units: layers.Units
  ) -> dict[str, tf.Tensor]:
    """Applies stem and stages."""
    stem, strides = units.width(STEM_FILTERS), (1, 2, 2)
    kernel = (config.stem_conv_temporal_kernel_size, 7, 7)
    x = units.conv_norm(clips, stem, kernel, strides, names=('conv1', 'bn1'))
    endpoints = {'1': x}
    if config.stem_pool:
      x = units.max_pool(x, (3, 3, 3), (2, 2, 2), name='maxpool')
    for index, repeats in enumerate(DEPTHS[config.model_id]):
      filters = units.width(STEM_FILTERS * 2**index)
      space = 2 if index else 1
      strides = (config.temporal_strides[index], space, space)
      kernel = (config.temporal_kernel_sizes[index], 3, 3)
      for i in range(repeats):
        name = f'layer{index + 1}/{i}'
        x = _block(units, x, filters, kernel, strides, config.shortcut_type, name)
        strides = layers.ONE
      endpoints[str(index + 2)] = x
    return endpoints

  @classmethod
  def check(cls, config: Any) -> None:
    """Checks depth and shortcut too."""
    super().check(config)
    if config.model_id in BOTTLENECK_DEPTHS:
      raise UserError(
        f'backbone.r3d.model_id is {config.model_id}, a net of bottleneck blocks; '
        'expected 10, 18, 34; backbone.type=resnet_3d has the deeper ones'
      )
    registry.check_choice('backbone.r3d.model_id', config.model_id, DEPTHS)
    field = 'backbone.r3d.shortcut_type'
    registry.check_choice(field, config.shortcut_type, SHORTCUT_TYPES)
    for field in ('temporal_kernel_sizes', 'temporal_strides'):
      values = getattr(config, field)
      if len(values) != 4 or min(values) < 1:
        raise UserError(
          f'backbone.r3d.{field} is {list(values)}; expected 4 integers of 1 or more, one '
          'a stage'
        )


def _block(
  units: layers.Units,
  x: tf.Tensor,
  filters: int,
  kernel: layers.Size,
  strides: layers.Size,
  shortcut_type: str,
  name: str,
) -> tf.Tensor:
  """Two convolutions and a shortcut; the first convolution carries the strides."""
  shortcut = x
  if strides != layers.ONE or x.shape[-1] != filters:
    shortcut = _shortcut(units, x, filters, strides, shortcut_type, name)
  names = (f'{name}/conv1', f'{name}/bn1')
  x = units.conv_norm(x, filters, kernel, strides, names=names)
  names = (f'{name}/conv2', f'{name}/bn2')
  x = units.conv_norm(x, filters, kernel, names=names, activate=False)
  x = tf_keras.layers.Add(name=f'{name}/add')([x, shortcut])
  return units.activate(x, f'{name}/activation')


def _shortcut(
  units: layers.Units,
  x: tf.Tensor,
  filters: int,
  strides: layers.Size,
  shortcut_type: str,
  name: str,
) -> tf.Tensor:
  if shortcut_type == 'A':
    return SubsamplingShortcut(filters, strides, name=f'{name}/shortcut')(x)
  names = (f'{name}/downsample/0', f'{name}/downsample/1')
  return units.conv_norm(x, filters, layers.ONE, strides, names=names, activate=False)

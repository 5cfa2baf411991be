"""C3D with batch norm: eight 3x3x3 convolutions and four poolings."""

import dataclasses
from typing import Any

import tensorflow as tf

from official.video.backbones import families, layers

# The convolutions of each stage, by name and filters; a pooling stands between stages.
STAGES: tuple[dict[str, int], ...] = (
  {'1': 64},
  {'2': 128},
  {'3a': 256, '3b': 256},
  {'4a': 512, '4b': 512},
  {'5a': 512, '5b': 512},
)

pytorch_layers = layers.pytorch_layers


@dataclasses.dataclass
class C3DConfig(layers.ConvNetConfig):
  """C3D with batch norm. Clips have 8 frames and 16 rows and columns at least."""


@families.family('c3d', C3DConfig)
class C3D(layers.VideoBackbone):
  """C3D: clips `[B, T, H, W, C]` to endpoints '1' to '5', the stages' outputs.

  T frames of S x S pixels become `[B, T/8, S/16, S/16, 512]` at endpoint '5'; sizes are
  rounded down.

  Source: arXiv 1412.0767, without its dense layers; batch norm after each convolution.
  """

  family = 'c3d'
  config_class = C3DConfig

  @staticmethod
  def endpoints_of(
    clips: tf.Tensor, config: Any, units: layers.Units
  ) -> dict[str, tf.Tensor]:
    """Applies the stages."""
    del config
    x, endpoints = clips, {}
    for index, stage in enumerate(STAGES):
      if index:
        window = (1 if index == 1 else 2, 2, 2)
        x = layers.MaxPool3D(window, window, name=f'pool{index}')(x)
      for conv, filters in stage.items():
        names = (f'conv{conv}', f'bn{conv}')
        width = units.width(filters)
        x = units.conv_norm(x, width, (3, 3, 3), names=names, use_bias=True)
      endpoints[str(index + 1)] = x
    return endpoints

  @staticmethod
  def smallest_clip(config: Any) -> layers.Size:
    """One frame and pixel after three poolings of time and four of space."""
    del config
    return (8, 16, 16)

"""Configurations of the backbones: one dataclass a family, one field of `Backbone`."""

import dataclasses

from official.modeling import hyperparams
from official.vision.configs import common


def norm_activation() -> common.NormActivation:
  """Normalization of video pretraining: ReLU, synchronized BN, momentum 0.9, eps 1e-5."""
  return common.NormActivation(
    activation='relu', use_sync_bn=True, norm_momentum=0.9, norm_epsilon=1e-5
  )


@dataclasses.dataclass
class ResNet3D(hyperparams.Config):
  """A 3D residual net; the defaults are the R3D-50 that CVRL pretrains.

  Attributes:
    model_id: depth; 10, 18 and 34 have basic blocks; 50, 101, 152 and 200 bottlenecks.
    width_multiplier: factor of every channel count, the stem's included.
    stem_conv_temporal_kernel_size: frames that the 7x7 stem convolution sees.
    stem_conv_temporal_stride: temporal stride of the stem convolution.
    stem_pool_temporal_stride: temporal stride of the stem's max pooling, whose temporal
      kernel is 1 where this is 1, else 3.
    temporal_kernel_sizes: of stages res2 to res5, the same in all blocks of a stage.
    temporal_strides: of stages res2 to res5.
    spatial_strides: of stages res2 to res5.
    spatial_dilations: of the 3x3 convolutions in stages res2 to res5. A dilated stage has
      spatial stride 1: detection and tracking trade one for the other.
  """

  model_id: int = 50
  width_multiplier: float = 1.0
  stem_conv_temporal_kernel_size: int = 5
  stem_conv_temporal_stride: int = 2
  stem_pool_temporal_stride: int = 1
  temporal_kernel_sizes: tuple[int, ...] = (1, 1, 3, 3)
  temporal_strides: tuple[int, ...] = (1, 1, 1, 1)
  spatial_strides: tuple[int, ...] = (1, 2, 2, 2)
  spatial_dilations: tuple[int, ...] = (1, 1, 1, 1)


@dataclasses.dataclass
class Backbone(hyperparams.OneOfConfig):
  """The backbone of a model.

  Attributes:
    type: name of the family, which is the name of the field that configures it.
    resnet_3d: 3D residual nets.
  """

  type: str | None = 'resnet_3d'
  resnet_3d: ResNet3D = dataclasses.field(default_factory=ResNet3D)

"""A 3D residual net whose last stage is there twice, with weights of their own."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf
import tf_keras

from official.video.backbones import batch_norm, families, resnet_3d

LOCAL = '5_1'
_LAST = len(resnet_3d.STAGES) - 1


@dataclasses.dataclass
class ResNet3DYConfig(resnet_3d.ResNet3DConfig):
  """A 3D residual net with two last stages; the defaults are the one of ConST-CL."""


@families.family('resnet_3dy', ResNet3DYConfig)
class ResNet3DY(resnet_3d.ResNet3D):
  """`ResNet3D` with a second res5, 'res5_1', which goes on from endpoint '4' to '5_1'.

  A checkpoint of it holds a `ResNet3D` in the places of one, and the second stage beside:
  plain nets can be restored from it.

  Attributes:
    branches: the second stage, by the endpoint that it goes on from.

  Source: arXiv 2112.05181, section 3.1.
  """

  def __init__(
    self,
    config: resnet_3d.ResNet3DConfig,
    norm_activation: batch_norm.NormActivation,
    clip_shape: Sequence[int | None] = (None, None, None, 3),
    name: str = 'resnet_3dy',
  ):
    """Builds the net; the arguments are those of `ResNet3D`."""
    super().__init__(config, norm_activation, clip_shape, name)
    inputs = tf_keras.Input(self.output['4'].shape[1:], name='endpoint_4')
    x = resnet_3d.residual_stage(inputs, 'res5_1', _LAST, config, norm_activation)
    self.local_stage = tf_keras.Model(inputs, {LOCAL: x}, name='local_stage')

  @property
  def branches(self) -> dict[str, tf_keras.Model]:
    """The second stage, by the endpoint that it goes on from."""
    return {'4': self.local_stage}

  def call(self, inputs: tf.Tensor, training: bool | None = None, mask=None):
    """Maps clips `[B, T, H, W, C]` to the dict of endpoints."""
    endpoints = super().call(inputs, training=training, mask=mask)
    return endpoints | self.local_stage(endpoints['4'], training=training)

  @property
  def output_specs(self) -> dict[str, tf.TensorShape]:
    """Static shape `[B, T', H', W', C]` of every endpoint."""
    return super().output_specs | {LOCAL: self.local_stage.output[LOCAL].shape}


def pytorch_layers(backbone: tf_keras.Model) -> dict[str, tf_keras.layers.Layer]:
  """Those of the `ResNet3D`, and the second last stage's, 'layer4_1'.

  Args:
    backbone: a `ResNet3DY`.
  """
  second = resnet_3d.stage_layers(backbone.local_stage, 'res5_1', 'layer4_1')
  return resnet_3d.pytorch_layers(backbone) | second

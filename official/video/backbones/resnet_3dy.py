"""A 3D residual net whose last stage is there twice, with weights of their own."""

from typing import Any

import tensorflow as tf
import tf_keras

from official.video.backbones import factory, resnet_3d
from official.video.configs import backbones as backbones_config

LOCAL = '5_1'
_LAST = len(resnet_3d.STAGES) - 1


class ResNet3DY(resnet_3d.ResNet3D):
  """`ResNet3D` with a second res5, 'res5_1', which goes on from endpoint '4' to '5_1'.

  A checkpoint of it holds a `ResNet3D` in the places of one, and the second stage beside:
  plain nets can be restored from it.

  Attributes:
    branches: the second stage, by the endpoint that it goes on from.

  Source: arXiv 2112.05181, section 3.1.
  """

  def __init__(self, *args, **kwargs):
    """Builds the net; the arguments are those of `ResNet3D`."""
    super().__init__(*args, **{'name': 'resnet_3dy'} | kwargs)
    self.local_stage = self._stage()

  @property
  def branches(self) -> dict[str, tf_keras.Model]:
    """The second stage, by the endpoint that it goes on from."""
    return {'4': self.local_stage}

  def _stage(self) -> tf_keras.Model:
    options: dict[str, Any] = dict(self._options)
    inputs = tf_keras.Input(self.output['4'].shape[1:], name='endpoint_4')
    names = ('activation', 'use_sync_bn', 'norm_momentum', 'norm_epsilon')
    block = resnet_3d.stage_options(options, _LAST, options['dilated_first_block'])
    x = resnet_3d.residual_stage(
      inputs,
      'res5_1',
      options['model_id'],
      _LAST,
      options['width_multiplier'],
      block | {name: options[name] for name in names},
    )
    return tf_keras.Model(inputs, {LOCAL: x}, name='local_stage')

  def call(self, inputs: tf.Tensor, training: bool | None = None, mask=None):
    """Maps clips `[B, T, H, W, C]` to the dict of endpoints."""
    endpoints = super().call(inputs, training=training, mask=mask)
    return endpoints | self.local_stage(endpoints['4'], training=training)

  @property
  def output_specs(self) -> dict[str, tf.TensorShape]:
    """Static shape `[B, T', H', W', C]` of every endpoint."""
    return super().output_specs | {LOCAL: self.local_stage.output[LOCAL].shape}


@factory.BACKBONES.register('resnet_3dy')
def build_resnet_3dy(
  config: backbones_config.ResNet3DY,
  norm_activation: backbones_config.NormActivation,
  input_specs: tf_keras.layers.InputSpec | None = None,
) -> ResNet3DY:
  """Builds a `ResNet3DY` from its configuration; see `factory.build_backbone`."""
  clip_shape = input_specs.shape[1:] if input_specs else (None, None, None, 3)
  return ResNet3DY(
    **config.as_dict(), **norm_activation.as_dict(), clip_shape=tuple(clip_shape)
  )

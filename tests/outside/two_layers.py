"""A backbone of two convolutions, to copy from."""

import dataclasses

import tf_keras
from official.modeling import hyperparams

from official.video.backbones import batch_norm, families


@dataclasses.dataclass
class TwoLayersConfig(hyperparams.Config):
  """Its settings: the fields of `task.model.backbone.two_layers`.

  Attributes:
    width: channels of the first layer; the second has twice as many.
  """

  width: int = 16


@families.family('two_layers', TwoLayersConfig)
class TwoLayers(tf_keras.Model):
  """Clips [B, T, H, W, 3] to endpoints '4' and '5': maps of 1/2 and 1/4 of the pixels."""

  def __init__(self, config, norm_activation, clip_shape):
    clips = maps = tf_keras.Input(clip_shape)
    endpoints = {}
    for stage, width in (('4', config.width), ('5', 2 * config.width)):
      conv = tf_keras.layers.Conv3D(
        width, 3, (1, 2, 2), 'same', use_bias=False, name=f'res{stage}/conv'
      )
      norm = batch_norm.BatchNormalization(
        synchronized=norm_activation.use_sync_bn,
        momentum=norm_activation.norm_momentum,
        epsilon=norm_activation.norm_epsilon,
        name=f'res{stage}/norm',
      )
      activation = tf_keras.layers.Activation(
        norm_activation.activation, name=f'res{stage}/activation'
      )
      maps = endpoints[stage] = activation(norm(conv(maps)))
    super().__init__(clips, endpoints, name='two_layers')
    self.output_specs = {stage: maps.shape for stage, maps in endpoints.items()}

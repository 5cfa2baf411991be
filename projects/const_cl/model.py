"""ConST-CL's network: one backbone, a global head, and regions in the other view's context."""

import tensorflow as tf
import tf_keras

from official.video.backbones import factory
from official.video.heads import context, projection
from official.video.models import encoder

from . import configs


class ConstClModel(encoder.VideoModel):
  """A backbone with two last stages, one under the global head, one for the regions.

  Attributes:
    local_head: region features, the context's memory and the decoder.
    local_endpoint: the endpoint that the local head stands on.
  """

  def __init__(self, config: configs.Model):
    """Builds all variables of the local head.

    Raises:
      UserError: the backbone lacks an endpoint, or an option is impossible.
    """
    backbone = factory.build_encoder(config)
    factory.check_endpoints(config, backbone, 'local_endpoint')
    head = projection.ProjectionHead(config.head, config.norm_activation)
    super().__init__(backbone, head, config.endpoint)
    self.local_endpoint = config.local_endpoint
    channels = backbone.output_specs[config.local_endpoint][-1]
    self.local_head = context.ContextHead(config.local_head, channels, name='local_head')
    maps = tf_keras.Input((config.local_head.context_length, 2, 2, channels))
    self.local_head(tf_keras.Input((None, channels)), self.local_head.memory(maps))

  def maps(self, endpoints: dict[str, tf.Tensor]) -> tf.Tensor:
    """`[B, T', H', W', C]` float32 local maps, every place of length 1."""
    features = tf.cast(endpoints[self.local_endpoint], tf.float32)
    return tf.math.l2_normalize(features, -1)

  def encode_regions(self, clips: tf.Tensor, boxes: tf.Tensor) -> dict[str, tf.Tensor]:
    """As `VideoModel.encode_regions`, of the local maps.

    'context' `[B, N, C]` are the regions as reconstructed from their own clip, and
    'attention' `[B, layers, heads, N, M]` says from which places of its context.
    """
    outputs = self.encode(clips)
    maps = self.maps(outputs)
    queries = self.local_head.regions(maps, boxes)
    decoded, attention = self.local_head(queries, self.local_head.memory(maps))
    return outputs | {'region': queries, 'context': decoded, 'attention': attention}

  def pair(
    self, clips: tf.Tensor, boxes: tf.Tensor, training: bool = False
  ) -> dict[str, tf.Tensor]:
    """What the losses need of two views of the same videos.

    Args:
      clips: `[2 B, T, H, W, 3]` normalized, the first views first.
      boxes: float32 `[2 B, N, 4]` as shares of the views, in their key frames.
      training: whether batch norm is in training mode; its statistics are those of both
        views together.

    Returns:
      float32 'embedding' `[B, 2, D]`; 'region' and 'reconstruction' `[B, 2, N, C]`, the
      latter of a view's regions from the other view's context.
    """
    endpoints = self.backbone(clips, training=training)
    pooled = tf.reduce_mean(tf.cast(endpoints[self.endpoint], tf.float32), [1, 2, 3])
    embedding = tf.cast(self.head(pooled, training=training), tf.float32)
    maps = self.maps(endpoints)
    queries, memory = self.local_head.regions(maps, boxes), self.local_head.memory(maps)
    first, second = tf.split(memory, 2)
    decoded, _ = self.local_head(queries, tf.concat([second, first], 0))
    outputs = {'embedding': embedding, 'region': queries, 'reconstruction': decoded}
    return {name: tf.stack(tf.split(x, 2), 1) for name, x in outputs.items()}

  @property
  def serving_items(self) -> dict[str, tf_keras.layers.Layer]:
    """Also the local head, which regions are looked at by."""
    return super().serving_items | {'local_head': self.local_head}

  @property
  def checkpoint_items(self) -> dict[str, tf_keras.layers.Layer]:
    """Also the local head."""
    return super().checkpoint_items | {'local_head': self.local_head}

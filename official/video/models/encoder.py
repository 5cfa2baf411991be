"""The model of every task: a backbone, its pooled feature and a head."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from official.video.heads import regions


class VideoModel(tf_keras.Model):
  """Backbone, global average pooling, head.

  Called on `[B, T, H, W, 3]` normalized clips, it returns a dict: 'feature' [B, C]
  float32, the pooled endpoint, and 'output' [B, D] float32, what the head makes of it.

  A checkpoint of it holds `backbone` and `head` beside the whole model, so that a
  backbone can be taken out of any task's checkpoint.
  """

  def __init__(
    self,
    backbone: tf_keras.Model,
    head: tf_keras.layers.Layer,
    endpoint: str = '5',
    freeze_backbone: bool = False,
  ):
    """Initializes the model.

    Args:
      backbone: maps clips to a dict of endpoints [B, T', H', W', C].
      head: maps [B, C] features to [B, D]; one with a true attribute `takes_map` maps
        the endpoint [B, T', H', W', C] itself.
      endpoint: which endpoint is pooled.
      freeze_backbone: train the head only; the backbone's batch norm then uses its
        stored statistics.
    """
    super().__init__(name='video_model')
    self.backbone = backbone
    self.head = head
    self.endpoint = endpoint
    backbone.trainable = not freeze_backbone

  def encode(self, clips: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
    """All endpoints of the backbone, and under 'feature' the pooled one."""
    endpoints = self.backbone(clips, training=training)
    pooled = tf.reduce_mean(tf.cast(endpoints[self.endpoint], tf.float32), [1, 2, 3])
    return endpoints | {'feature': pooled}

  def encode_regions(self, clips: tf.Tensor, boxes: tf.Tensor) -> dict[str, tf.Tensor]:
    """What `encode` gives, and under 'region' the feature of every box.

    Args:
      clips: `[B, T, H, W, 3]`, normalized.
      boxes: float32 `[B, N, 4]` top, left, bottom, right as shares of the view, in the
        frame after the clip's middle.

    Returns:
      'region' float32 `[B, N, C]` beside the rest.
    """
    outputs = self.encode(clips)
    maps = outputs[self.endpoint]
    middle = maps[:, tf.shape(maps)[1] // 2]
    return outputs | {'region': regions.region_means(middle, boxes)}

  def call(self, clips: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
    """{'feature': [B, C], 'output': [B, D]} of [B, T, H, W, 3] clips."""
    encoded = self.encode(clips, training)
    return {'feature': encoded['feature'], 'output': self.output_of(encoded)}

  def output_of(self, encoded: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """What the head makes of `encode`'s result, [B, D] float32."""
    takes_map = getattr(self.head, 'takes_map', False)
    return tf.cast(
      self.head(encoded[self.endpoint if takes_map else 'feature']), tf.float32
    )

  def pytorch_layers(self) -> dict[str, Any]:
    """Layers by the modules of the method's own original; empty where it has none."""
    return {}

  @property
  def serving_items(self) -> dict[str, tf_keras.layers.Layer]:
    """What of the checkpoint's items `encode` and `encode_regions` need."""
    return {'backbone': self.backbone}

  @property
  def checkpoint_items(self) -> dict[str, tf_keras.layers.Layer]:
    """What a checkpoint holds by name beside the model; read by the trainer."""
    return {'backbone': self.backbone, 'head': self.head}

"""Heads of action localization: the actions of every box."""

import tensorflow as tf
import tf_keras

from official.video import registry
from official.video.configs import heads as heads_config
from official.video.configs import reads
from official.video.heads import classification, context, regions

KINDS = ('roi', 'context')


class ActionHead(tf_keras.layers.Layer):
  """Maps `[B, T, H, W, C]` and boxes to logits of independent classes.

  'roi': mean of the maps over time, RoI align, maximum over the box, a dense layer.
  'context': the box's mean in the key frame attends to the maps about it, a dense layer.
  Computed in float32.

  Source: arXiv 1812.03982, appendix (roi); arXiv 1812.02707 with the decoder of
  arXiv 2112.05181 (context).
  """

  def __init__(
    self, config: heads_config.ActionHead, num_classes: int, name: str = 'action_head'
  ):
    """Initializes the head.

    Args:
      config: its kind and sizes.
      num_classes: classes, not exclusive of each other.
      name: of the layer.

    Raises:
      UserError: there is no such kind, or it does not read a field that is set.
    """
    super().__init__(name=name, dtype='float32')
    kind = config.kind
    registry.check_choice('task.model.head.kind', kind, KINDS)
    self.kind, self.num_classes = kind, num_classes
    with reads.all_used(config, 'task.model.head', f'kind {kind!r}', ('kind',)) as read:
      if kind == 'roi':
        self._samples, self._half_pixel = read.samples, read.half_pixel_centers
        self.classifier = classification.ClassificationHead(
          num_classes, dropout_rate=read.dropout_rate, name='classifier'
        )
      else:
        self.decoder = context.ContextHead(read.context, num_classes)

  def call(
    self,
    maps: tf.Tensor,
    boxes: tf.Tensor,
    training: bool | None = None,
    shown: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """float32 `[B, N, num_classes]` logits of boxes `[B, N, 4]`, float32.

    With `shown` `[B, 4]`, only that part of the maps is looked at.
    """
    if self.kind == 'context':
      queries = self.decoder.regions(maps, boxes, shown)
      memory, remembered = self.decoder.memory(maps), None
      if shown is not None:
        remembered = self.decoder.remembered(maps, shown)
      return self.decoder(queries, memory, remembered=remembered)[0]
    sampled = regions.roi_align(
      tf.reduce_mean(tf.cast(maps, tf.float32), 1),
      boxes,
      self._samples,
      self._half_pixel,
      shown,
    )
    pooled = tf.reduce_max(sampled, [2, 3])
    count, channels = tf.shape(pooled)[1], pooled.shape[-1]
    flat = tf.reshape(pooled, [-1, channels])
    logits = self.classifier(flat, training=training)
    return tf.reshape(logits, [-1, count, self.num_classes])

"""The model of a siamese tracker."""

import tensorflow as tf
import tf_keras

from official.video.configs import tasks as task_config
from official.video.heads import siamese
from official.video.models import encoder


class SiameseModel(encoder.VideoModel):
  """A backbone that sees an image as a clip that stands still, and the two heads."""

  def __init__(
    self, backbone: tf_keras.Model, config: task_config.TrackingModel, frames: int
  ):
    """Builds the heads.

    Args:
      backbone: of `factory.build_encoder`.
      config: of the model.
      frames: that an image is repeated to.
    """
    head = siamese.SiameseHead(config.output_dim)
    super().__init__(backbone, head, config.endpoint, config.freeze_backbone)
    self._frames, self._scale = frames, config.response_scale

  def maps(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
    """`[B, h, w, C]` of images `[B, H, W, 3]`, normalized: the mean over time."""
    clips = tf.repeat(images[:, None], self._frames, 1)
    maps = self.backbone(clips, training=training)[self.endpoint]
    return tf.reduce_mean(tf.cast(maps, tf.float32), 1)

  def embed(self, exemplars: tf.Tensor, training: bool = False) -> tf.Tensor:
    """`[B, h, w, D]` of images `[B, z, z, 3]`, normalized: what `correlate` takes."""
    return self.head.exemplar(self.maps(exemplars, training))

  def correlate(
    self, exemplars: tf.Tensor, searches: tf.Tensor, training: bool = False
  ) -> tf.Tensor:
    """`[B, r, r]` responses of `embed`'s output in images `[B, x, x, 3]`, normalized."""
    search = self.head.search(self.maps(searches, training))
    return siamese.cross_correlation(exemplars, search) * self._scale

"""The linear classifier of probes and fine-tuning."""

from typing import Any

import tensorflow as tf
import tf_keras

from official.video.configs import heads as heads_config


@tf_keras.utils.register_keras_serializable(package='Vidgarden')
class ClassificationHead(tf_keras.layers.Layer):
  """Optional L2 normalization, dropout, a dense layer: `[B, C]` to `[B, num_classes]`.

  Logits are float32 whatever the dtype policy. Variables are named output/kernel and
  output/bias.
  """

  def __init__(
    self,
    num_classes: int,
    normalize_input: bool = False,
    dropout_rate: float = 0.0,
    name: str = 'classification_head',
    **kwargs,
  ):
    """Initializes the head.

    Args:
      num_classes: number of classes.
      normalize_input: whether the feature is L2-normalized first.
      dropout_rate: share of the feature dropped while training.
      name: of the layer.
      **kwargs: of `tf_keras.layers.Layer`.
    """
    super().__init__(name=name, **kwargs)
    self.num_classes = num_classes
    self.normalize_input = normalize_input
    self.dropout = tf_keras.layers.Dropout(dropout_rate, name='dropout')
    self.output_dense = tf_keras.layers.Dense(num_classes, name='output', dtype='float32')

  def call(self, features: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    """Maps features `[B, C]` to logits `[B, num_classes]`, float32."""
    x = tf.cast(features, tf.float32)
    if self.normalize_input:
      x = tf.math.l2_normalize(x, -1)
    return self.output_dense(self.dropout(x, training=training))

  def get_config(self) -> dict[str, Any]:
    """Arguments that build an equal head."""
    return super().get_config() | {
      'num_classes': self.num_classes,
      'normalize_input': self.normalize_input,
      'dropout_rate': self.dropout.rate,
    }


def build_classification_head(
  config: heads_config.ClassificationHead, num_classes: int
) -> ClassificationHead:
  """Builds the head of a configuration for `num_classes` classes."""
  return ClassificationHead(num_classes, **config.as_dict())

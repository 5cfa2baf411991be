"""The linear classifier of probes and fine-tuning."""

import tensorflow as tf
import tf_keras

from official.video import draws, registry
from official.video.backbones import batch_norm
from official.video.configs import heads as heads_config
from official.video.configs import reads
from official.video.heads import temporal_convolution

TYPES = ('linear', 'temporal_convolution')


class ClassificationHead(tf_keras.layers.Layer):
  """L2 normalization and batch norm if asked for, dropout, a dense layer.

  Maps `[B, C]` to `[B, num_classes]`. Logits are float32 whatever the dtype policy.
  Variables are named output/kernel and output/bias, with batch norm bn/..., and with
  dropout dropout_step: its masks are a function of that counter, so that a resumed run
  draws what an uninterrupted one would.
  """

  def __init__(
    self,
    num_classes: int,
    normalize_input: bool = False,
    dropout_rate: float = 0.0,
    batch_norm: bool = False,
    use_sync_bn: bool = True,
    name: str = 'classification_head',
    **kwargs,
  ):
    """Initializes the head.

    Args:
      num_classes: number of classes.
      normalize_input: whether the feature is L2-normalized first.
      dropout_rate: share of the feature dropped while training.
      batch_norm: whether batch norm comes before that.
      use_sync_bn: whether its statistics are taken over all replicas.
      name: of the layer.
      **kwargs: of `tf_keras.layers.Layer`.
    """
    super().__init__(name=name, **kwargs)
    self.num_classes = num_classes
    self.normalize_input = normalize_input
    self.batch_norm = batch_norm
    self.dropout_rate = dropout_rate
    if batch_norm:
      self.bn = tf_keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=use_sync_bn, name='bn', dtype='float32'
      )
    self.output_dense = tf_keras.layers.Dense(num_classes, name='output', dtype='float32')

  def build(self, input_shape: tf.TensorShape) -> None:
    """Makes the counter of the dropout's masks; it starts at a number of its own."""
    if self.dropout_rate:
      self.dropout_step = draws.step_counter(self, 'dropout_step')
    super().build(input_shape)

  def _drop(self, x: tf.Tensor) -> tf.Tensor:
    replica = draws.replica()
    dropped = tf.nn.experimental.stateless_dropout(
      x, self.dropout_rate, tf.stack([self.dropout_step, replica])
    )
    with tf.control_dependencies([dropped]):
      self.dropout_step.assign_add(1)
    return dropped

  def call(self, features: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    """Maps features `[B, C]` to logits `[B, num_classes]`, float32."""
    x = tf.cast(features, tf.float32)
    if self.normalize_input:
      x = tf.math.l2_normalize(x, -1)
    if self.batch_norm:
      x = self.bn(x, training=training)
    if training and self.dropout_rate:
      x = self._drop(x)
    return self.output_dense(x)


def build_classification_head(
  config: heads_config.ClassificationHead,
  num_classes: int,
  norm_activation: batch_norm.NormActivation | None = None,
) -> tf_keras.layers.Layer:
  """Builds the head of a configuration for `num_classes` classes.

  Whether its batch norm is synchronized follows `norm_activation`, the backbone's.

  Raises:
    UserError: there is no such type, or it does not read a field that is set.
  """
  kind, synchronized = config.type, True
  registry.check_choice('task.model.head.type', kind, TYPES)
  if norm_activation is not None:
    synchronized = norm_activation.use_sync_bn
  with reads.all_used(config, 'task.model.head', f'type {kind!r}', ('type',)) as read:
    if kind == 'linear':
      return ClassificationHead(
        num_classes,
        read.normalize_input,
        read.dropout_rate,
        read.batch_norm,
        synchronized,
      )
    return temporal_convolution.TemporalConvolutionHead(num_classes)

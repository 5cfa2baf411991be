"""Batch norm that is synchronized over replicas, and fused where there is only one."""

import dataclasses

import tensorflow as tf
import tf_keras

from official.modeling import hyperparams


@dataclasses.dataclass
class NormActivation(hyperparams.Config):
  """Batch normalization and activation; the defaults are those of video pretraining.

  The Model Garden's class of this name has the same fields; importing that one imports
  all of its detection code.

  Attributes:
    activation: of Keras, by name.
    use_sync_bn: take the statistics over all replicas.
    norm_momentum: of the moving statistics.
    norm_epsilon: added to the variance.
  """

  activation: str = 'relu'
  use_sync_bn: bool = True
  norm_momentum: float = 0.9
  norm_epsilon: float = 1e-5


class BatchNormalization(tf_keras.layers.BatchNormalization):
  """Keras' layer; on one replica the synchronized one trains in a fused operation.

  Keras spells synchronized statistics out in dozens of operations, also where there is
  no other replica to ask. Both forms move the variance towards the biased one of the
  batch.
  """

  def call(self, inputs: tf.Tensor, training=None, mask=None) -> tf.Tensor:
    """Normalizes `[..., C]`."""
    # A frozen layer uses its stored statistics, whatever `training` says.
    trains = training is True and self.trainable
    alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
    layout = {4: 'NHWC', 5: 'NDHWC'}.get(len(inputs.shape))
    if not (self.synchronized and trains and alone and layout and mask is None):
      return super().call(inputs, training, mask)
    inputs = tf.cast(inputs, self.compute_dtype)
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
      x=inputs,
      scale=self.gamma,
      offset=self.beta,
      mean=tf.constant([], tf.float32),
      variance=tf.constant([], tf.float32),
      epsilon=self.epsilon,
      data_format=layout,
    )
    count = tf.cast(tf.size(inputs) / inputs.shape[-1], tf.float32)
    # The operation's variance is the unbiased one.
    biased = variance * (tf.maximum(count - 1, 1) / count)
    for moving, seen in ((self.moving_mean, mean), (self.moving_variance, biased)):
      moving.assign_sub((moving - seen) * (1 - self.momentum))
    return outputs

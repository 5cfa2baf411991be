"""The head of a siamese tracker, and the correlation of what it makes of two images."""

import tensorflow as tf
import tf_keras


class SiameseHead(tf_keras.layers.Layer):
  """Two linear maps of features, of the exemplar's and of the search image's."""

  def __init__(self, output_dim: int, name: str = 'siamese_head'):
    """Initializes the head.

    Args:
      output_dim: channels.
      name: of the layer.
    """
    super().__init__(name=name, dtype='float32')
    self.exemplar = _linear(output_dim, 'exemplar')
    self.search = _linear(output_dim, 'search')

  def call(self, features: tf.Tensor) -> tf.Tensor:
    """Both maps side by side, `[..., 2 * output_dim]`."""
    return tf.concat([self.exemplar(features), self.search(features)], -1)


def _linear(output_dim: int, name: str) -> tf_keras.layers.Layer:
  # Uniform within 1 / sqrt(fan in), as the published tracker's convolutions start.
  kernel = tf_keras.initializers.VarianceScaling(1 / 3, 'fan_in', 'uniform')
  return tf_keras.layers.Dense(
    output_dim, kernel_initializer=kernel, name=name, dtype='float32'
  )


def cross_correlation(exemplars: tf.Tensor, searches: tf.Tensor) -> tf.Tensor:
  """Slides each exemplar's features over its search image's.

  Args:
    exemplars: `[B, z, z, C]`.
    searches: `[B, x, x, C]`.

  Returns:
    `[B, x - z + 1, x - z + 1]` inner products.
  """
  size, channels = exemplars.shape[1], exemplars.shape[3]
  kernel = tf.reshape(tf.transpose(exemplars, [1, 2, 0, 3]), [size, size, -1, 1])
  flat = tf.transpose(searches, [1, 2, 0, 3])
  width = searches.shape[1]
  flat = tf.reshape(flat, [1, width, width, -1])
  response = tf.nn.depthwise_conv2d(flat, kernel, [1, 1, 1, 1], 'VALID')[0]
  out = width - size + 1
  summed = tf.reduce_sum(tf.reshape(response, [out, out, -1, channels]), -1)
  return tf.transpose(summed, [2, 0, 1])

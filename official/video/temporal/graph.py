"""GCNeXt: graph convolution over time steps, along time and along likeness.

Source: arXiv 1911.11462 and its public code; written anew.
"""

import tensorflow as tf
import tf_keras

from official.video.temporal.config import Gtad


def uniform(fan_in: int) -> tf_keras.initializers.Initializer:
  """PyTorch's draw for the weights and biases of a layer of so many inputs."""
  return tf_keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)


def linear(
  fan_in: int, units: int, name: str, activation: str | None = None
) -> tf_keras.layers.Dense:
  """A dense layer over the last axis that begins as PyTorch's would."""
  return tf_keras.layers.Dense(
    units,
    activation,
    kernel_initializer=uniform(fan_in),
    bias_initializer=uniform(fan_in),
    name=name,
  )


class GroupedConv1D(tf_keras.layers.Layer):
  """A 1-D convolution in groups of channels, padded; Keras has it on GPUs only.

  Maps `[B, ..., T, C]` to `[B, ..., T, filters]`.
  """

  def __init__(self, filters: int, kernel_size: int, groups: int, name: str):
    super().__init__(name=name)
    self.filters, self.kernel_size, self.groups = filters, kernel_size, groups

  def build(self, input_shape: tf.TensorShape) -> None:
    """Makes the kernel `[groups, taps * C / groups, filters / groups]`."""
    fan_in = input_shape[-1] // self.groups * self.kernel_size
    shape = (self.groups, fan_in, self.filters // self.groups)
    self.kernel = self.add_weight('kernel', shape, initializer=uniform(fan_in))
    self.bias = self.add_weight('bias', (self.filters,), initializer=uniform(fan_in))
    super().build(input_shape)

  def call(self, x: tf.Tensor) -> tf.Tensor:
    """Convolves."""
    pad = self.kernel_size // 2
    length, channels = x.shape[-2:]
    padded = tf.pad(x, [[0, 0]] * (x.shape.rank - 2) + [[pad, pad], [0, 0]])
    taps = [padded[..., i : i + length, :] for i in range(self.kernel_size)]
    shape = tf.concat([tf.shape(x)[:-1], [self.groups, channels // self.groups]], 0)
    grouped = tf.concat([tf.reshape(tap, shape) for tap in taps], -1)
    y = tf.einsum('...gc,gcf->...gf', grouped, self.kernel)
    return tf.reshape(y, tf.concat([tf.shape(x)[:-1], [self.filters]], 0)) + self.bias


def nearest_nodes(x: tf.Tensor, k: int) -> tf.Tensor:
  """Rows `[B, T, k]` of the k nodes of `[B, T, C]` nearest to each, itself included."""
  squares = tf.reduce_sum(tf.square(x), -1, keepdims=True)
  products = tf.matmul(x, x, transpose_b=True)
  closeness = 2 * products - squares - tf.transpose(squares, [0, 2, 1])
  return tf.math.top_k(tf.stop_gradient(closeness), k).indices


class GraphBlock(tf_keras.layers.Layer):
  """What time steps learn of their neighbours in time and in meaning, added to them.

  Maps `[B, T, C]` to the same.
  """

  def __init__(self, config: Gtad, name: str):
    super().__init__(name=name)
    self._neighbors = config.neighbors
    self.temporal = self._path(config, config.hidden_dim, 3, 'temporal')
    self.semantic = self._path(config, 2 * config.hidden_dim, 1, 'semantic')

  def _path(self, config: Gtad, fan_in: int, taps: int, name: str) -> list:
    width = 4 * config.cardinality
    return [
      linear(fan_in, width, f'{name}_in', 'relu'),
      GroupedConv1D(width, taps, config.cardinality, f'{name}_grouped'),
      tf_keras.layers.Activation('relu'),
      linear(width, config.hidden_dim, f'{name}_out'),
    ]

  def call(self, x: tf.Tensor) -> tf.Tensor:
    """Adds both paths; of a node's edges in meaning, the strongest counts."""
    others = tf.gather(x, nearest_nodes(x, self._neighbors), batch_dims=1)
    own = tf.broadcast_to(x[:, :, None], tf.shape(others))
    temporal, semantic = x, tf.concat([own, others], -1)
    for layer in self.temporal:
      temporal = layer(temporal)
    for layer in self.semantic:
      semantic = layer(semantic)
    return tf.nn.relu(x + temporal + tf.reduce_max(semantic, 2))

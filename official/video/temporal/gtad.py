"""G-TAD: a graph network that scores all spans of a video's feature sequence.

Source: arXiv 1911.11462 and the ActivityNet branch of its public code; written anew.
"""

import tensorflow as tf
import tf_keras

from official.video.temporal import graph, spans
from official.video.temporal.config import Gtad


class SpanReader(tf_keras.layers.Layer):
  """SGAlign and the first layer over what it reads, in one.

  Maps the sequence and its context, `[B, T, C]` each, to `[B, spans, anchor_dim]`.
  """

  def __init__(self, config: Gtad, name: str):
    super().__init__(name=name)
    self._filters, self._widening = config.anchor_dim, config.widening
    self._bins = [config.inner_samples, config.context_samples]

  def build(self, input_shape: list[tf.TensorShape]) -> None:
    """Makes the kernel `[bins, C, anchor_dim]`: the sequence's bins, then the context's."""
    _, steps, channels = input_shape[0]
    # Outside of the graph that may be traced now, which would not outlive it.
    with tf.init_scope():
      self._matrices = [
        tf.constant(spans.reading_matrix(steps, bins, self._widening))
        for bins in self._bins
      ]
    shape = (sum(self._bins), channels, self._filters)
    fan_in = shape[0] * channels
    self.kernel = self.add_weight('kernel', shape, initializer=graph.uniform(fan_in))
    self.bias = self.add_weight(
      'bias', (self._filters,), initializer=graph.uniform(fan_in)
    )
    super().build(input_shape)

  def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
    """Reads and multiplies."""
    parts = []
    kernels = tf.split(self.kernel, self._bins)
    for x, kernel, matrix in zip(inputs, kernels, self._matrices, strict=True):
      # Interpolation and the layer are linear, so their order is free: multiplying T steps
      # by each bin's weights, then interpolating, costs a third of the other order.
      y = tf.einsum('btc,scf->bstf', x, kernel)
      y = tf.reshape(y, [-1, matrix.shape[1], self._filters])
      parts.append(tf.matmul(matrix, y))
    return tf.add_n(parts) + self.bias


class GtadModel(tf_keras.Model):
  """Scores of starts, ends and all spans of feature sequences `[B, T, D]`."""

  def __init__(self, config: Gtad):
    """Initializes the layers."""
    super().__init__(name='gtad')
    self.config = config
    hidden = config.hidden_dim
    self.entrance = graph.GroupedConv1D(hidden, 3, config.input_groups, 'entrance')
    self.base = graph.GraphBlock(config, 'base')
    self.borders = {
      name: (graph.GraphBlock(config, f'{name}_graph'), graph.linear(hidden, 1, name))
      for name in ('start', 'end')
    }
    self.span_graph = graph.GraphBlock(config, 'span_graph')
    self.reader = SpanReader(config, 'reader')
    widths = [config.anchor_dim] + [config.map_dim] * 3
    # The ActivityNet branch's convolutions over the map are 1x1: each span for itself.
    self.map = [
      graph.linear(fan_in, config.map_dim, f'map_{i}', 'relu')
      for i, fan_in in enumerate(widths[:3])
    ]
    self.confidence = graph.linear(config.map_dim, 2, 'confidence')

  def call(self, features: tf.Tensor, training: bool | None = None) -> dict:
    """Logits.

    Args:
      features: `[B, T, D]`.
      training: unused; Keras hands it down.

    Returns:
      'start' and 'end' `[B, T]`, 'regression' and 'classification' `[B, spans]`.
    """
    del training
    x = self.base(tf.nn.relu(self.entrance(features)))
    outputs = {
      name: linear(block(x))[..., 0] for name, (block, linear) in self.borders.items()
    }
    x = self.span_graph(x)
    near = graph.nearest_nodes(x, self.config.neighbors)
    context = tf.reduce_mean(tf.gather(x, near, batch_dims=1), 2)
    y = tf.nn.relu(self.reader([x, context]))
    for layer in self.map:
      y = layer(y)
    regression, classification = tf.unstack(self.confidence(y), axis=-1)
    return outputs | {'regression': regression, 'classification': classification}

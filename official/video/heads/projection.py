"""The projection head of contrastive pretraining."""

from typing import Any

import tensorflow as tf
import tf_keras

from official.video.configs import backbones, reads
from official.video.configs import heads as heads_config


class ProjectionHead(tf_keras.layers.Layer):
  """Hidden layers of dense, batch norm and activation, then a dense layer with bias.

  Maps features `[B, C]` to embeddings `[B, output_dim]`, which the losses normalize.
  Variables are named dense_<i>/..., bn_<i>/... and output/... .

  Source: arXiv 2008.03800; discarded after pretraining.
  """

  def __init__(
    self,
    hidden_dim: int = 2048,
    num_hidden_layers: int = 3,
    output_dim: int = 128,
    use_bias: bool = True,
    normalize_input: bool = False,
    norm_momentum: float = 0.997,
    norm_epsilon: float = 1e-5,
    use_sync_bn: bool = True,
    activation: str = 'relu',
    name: str = 'projection_head',
    **kwargs,
  ):
    """Initializes the head.

    Args:
      hidden_dim: units of each hidden layer.
      num_hidden_layers: number of hidden layers, 0 for a linear head.
      output_dim: size of the embedding.
      use_bias: whether the hidden dense layers have a bias.
      normalize_input: whether the feature is L2-normalized first.
      norm_momentum: share of the moving statistics kept at each step.
      norm_epsilon: added to the variance.
      use_sync_bn: whether batch statistics are taken over all replicas.
      activation: name of the activation.
      name: of the layer.
      **kwargs: of `tf_keras.layers.Layer`.
    """
    super().__init__(name=name, **kwargs)
    self.hidden_dim = hidden_dim
    self.num_hidden_layers = num_hidden_layers
    self.output_dim = output_dim
    self.use_bias = use_bias
    self.normalize_input = normalize_input
    self.norm_momentum = norm_momentum
    self.norm_epsilon = norm_epsilon
    self.use_sync_bn = use_sync_bn
    self.activation = activation
    self._activation = tf_keras.activations.get(activation)
    for i in range(num_hidden_layers):
      setattr(self, f'dense_{i}', self._dense(i))
      setattr(self, f'bn_{i}', self._batch_norm(i))
    self.output_dense = tf_keras.layers.Dense(output_dim, name='output')

  def call(self, features: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    """Maps `[B, C]` to `[B, output_dim]`."""
    x = tf.math.l2_normalize(features, -1) if self.normalize_input else features
    for i in range(self.num_hidden_layers):
      x = getattr(self, f'dense_{i}')(x)
      x = self._activation(getattr(self, f'bn_{i}')(x, training=training))
    return self.output_dense(x)

  def _dense(self, index: int) -> tf_keras.layers.Layer:
    return tf_keras.layers.Dense(
      self.hidden_dim, use_bias=self.use_bias, name=f'dense_{index}'
    )

  def _batch_norm(self, index: int) -> tf_keras.layers.Layer:
    return tf_keras.layers.BatchNormalization(
      momentum=self.norm_momentum,
      epsilon=self.norm_epsilon,
      synchronized=self.use_sync_bn,
      name=f'bn_{index}',
    )


def build_projection_head(
  config: heads_config.ProjectionHead,
  norm_activation: backbones.NormActivation | None = None,
  name: str = 'projection_head',
) -> ProjectionHead:
  """Builds the head of a configuration.

  Args:
    config: sizes, bias and batch norm of the head.
    norm_activation: of the backbone above which the head stands; the head takes its
      activation and whether statistics are synchronized. ReLU, synchronized by default.
    name: of the layer; a model with two heads names them apart.

  Returns:
    The head, not built yet.

  Raises:
    UserError: a field is set that a head of so many layers does not read.
  """
  reader = f'a head of {config.num_hidden_layers} hidden layers'
  with reads.all_used(config, 'task.model.head', reader) as read:
    options = {
      field: getattr(read, field)
      for field in ('output_dim', 'num_hidden_layers', 'normalize_input')
    }
    if read.num_hidden_layers:
      options |= {field: getattr(read, field) for field in _OF_HIDDEN_LAYERS}
  shared: dict[str, Any] = {}
  if norm_activation is not None:
    shared['use_sync_bn'] = norm_activation.use_sync_bn
    shared['activation'] = norm_activation.activation
  return ProjectionHead(**options, **shared, name=name)


_OF_HIDDEN_LAYERS = ('hidden_dim', 'use_bias', 'norm_momentum', 'norm_epsilon')


def model_garden_layout(head: ProjectionHead) -> tf.train.Checkpoint:
  """The head as the Model Garden's `video_ssl` checkpoints hold it, inside 'model'.

  `restore.restore({'model': model_garden_layout(head)}, path)` then reads a published
  pretraining checkpoint's head, which stands behind the backbone as the layers
  `layer_with_weights-1` and on.
  """
  layers = []
  for i in range(head.num_hidden_layers):
    layers += [getattr(head, f'dense_{i}'), getattr(head, f'bn_{i}')]
  layers.append(head.output_dense)
  named = {f'layer_with_weights-{i + 1}': layer for i, layer in enumerate(layers)}
  return tf.train.Checkpoint(**named)

"""The projection head of contrastive pretraining."""

import tensorflow as tf
import tf_keras

from official.video.backbones import batch_norm
from official.video.configs import heads as heads_config
from official.video.configs import reads


class ProjectionHead(tf_keras.layers.Layer):
  """Hidden layers of dense, batch norm and activation, then a dense layer with bias.

  Maps features `[B, C]` to embeddings `[B, output_dim]`, which the losses normalize.
  Variables are named dense_<i>/..., bn_<i>/... and output/... .

  Source: arXiv 2008.03800; discarded after pretraining.
  """

  def __init__(
    self,
    config: heads_config.ProjectionHead,
    norm_activation: batch_norm.NormActivation | None = None,
    name: str = 'projection_head',
  ):
    """Initializes the head.

    Args:
      config: sizes, bias and batch norm of the head.
      norm_activation: of the backbone above which the head stands; the head takes its
        activation and whether statistics are synchronized. The defaults if None.
      name: of the layer; a model with two heads names them apart.

    Raises:
      UserError: a field is set that a head of so many layers does not read.
    """
    super().__init__(name=name)
    shared = norm_activation or batch_norm.NormActivation()
    self.num_hidden_layers = config.num_hidden_layers
    self._activation = tf_keras.activations.get(shared.activation)
    reader = f'a head of {config.num_hidden_layers} hidden layers'
    with reads.all_used(config, 'task.model.head', reader) as read:
      self._normalize_input = read.normalize_input
      for i in range(read.num_hidden_layers):
        dense = tf_keras.layers.Dense(
          read.hidden_dim, use_bias=read.use_bias, name=f'dense_{i}'
        )
        norm = tf_keras.layers.BatchNormalization(
          momentum=read.norm_momentum,
          epsilon=read.norm_epsilon,
          synchronized=shared.use_sync_bn,
          name=f'bn_{i}',
        )
        setattr(self, f'dense_{i}', dense)
        setattr(self, f'bn_{i}', norm)
      self.output_dense = tf_keras.layers.Dense(read.output_dim, name='output')

  def call(self, features: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    """Maps `[B, C]` to `[B, output_dim]`."""
    x = tf.math.l2_normalize(features, -1) if self._normalize_input else features
    for i in range(self.num_hidden_layers):
      x = getattr(self, f'dense_{i}')(x)
      x = self._activation(getattr(self, f'bn_{i}')(x, training=training))
    return self.output_dense(x)


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

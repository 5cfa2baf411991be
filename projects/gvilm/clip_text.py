"""CLIP's text tower: a causal transformer on byte pairs, whose last piece stands for a text.

Source: arXiv 2103.00020, section 2.4.
"""

import tensorflow as tf
import tf_keras

from official.video.backbones import video_vit
from official.video.errors import UserError

from . import configs

# What stands for a text: the piece that ends it.
FEATURE = 'end'
NORM_EPSILON = 1e-5


class CausalBlock(video_vit.Block):
  """A transformer block in which no piece sees those behind it."""

  def _taken(self, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    logits = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32)
    length = tf.shape(logits)[-1]
    seen = tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0)
    weights = tf.nn.softmax(tf.where(seen, logits, logits.dtype.min))
    return tf.matmul(tf.cast(weights, value.dtype), value)


class ClipTextEncoder(tf_keras.layers.Layer):
  """CLIP's transformer on ids, which end with the highest one; see `byte_pairs`.

  Attributes:
    width: of its features.
    sequence_width: of a piece's.
  """

  def __init__(self, config: configs.TextModel, name: str = 'text_encoder'):
    """Builds all variables.

    Raises:
      UserError: the configuration is impossible.
    """
    super().__init__(name=name)
    if config.feature != FEATURE:
      raise UserError(
        f'task.model.text.feature {config.feature!r}: of kind {config.kind!r} it is '
        f'{FEATURE!r}; set it to that'
      )
    self._end, self._positions = config.vocab_size - 1, config.max_positions
    width = self.sequence_width = config.hidden_size
    self.width = config.projection_dim or width
    of_blocks = video_vit.VideoViTConfig(
      hidden_size=width,
      num_heads=config.num_heads,
      mlp_dim=config.mlp_dim,
      activation=config.activation,
      norm_epsilon=NORM_EPSILON,
    )
    self.words = tf_keras.layers.Embedding(
      config.vocab_size,
      width,
      tf_keras.initializers.TruncatedNormal(0.02),
      name='word_embedding',
    )
    self.blocks = [
      CausalBlock(of_blocks, f'block_{number}', 0.0)
      for number in range(config.num_layers)
    ]
    self.norm = tf_keras.layers.LayerNormalization(epsilon=NORM_EPSILON, name='norm')
    self.projection = None
    if config.projection_dim:
      self.projection = tf_keras.layers.Dense(
        config.projection_dim, use_bias=False, name='projection'
      )
    self(tf_keras.Input([config.max_positions], dtype=tf.int32))

  def build(self, input_shape: tf.TensorShape) -> None:
    """Makes the table of positions."""
    self.position = self.add_weight(
      'position',
      [self._positions, self.sequence_width],
      initializer=tf_keras.initializers.TruncatedNormal(0.01),
    )
    super().build(input_shape)

  def mask(self, ids: tf.Tensor) -> tf.Tensor:
    """Which pieces there are, bool `[B, L]` of ids: all to the first that ends a text.

    Padding is behind that, where no piece of the text sees it.
    """
    ended = tf.cumsum(tf.cast(ids == self._end, tf.int32), 1, exclusive=True)
    return ended == 0

  def outputs(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
    """'sequence_output' `[B, L, D]` of ids `[B, L]`."""
    x = self.words(ids)
    x += tf.cast(self.position[: ids.shape[1]], x.dtype)
    for block in self.blocks:
      x = block(x)
    return {'sequence_output': self.norm(x)}

  def pooled(self, outputs: dict[str, tf.Tensor], mask: tf.Tensor) -> tf.Tensor:
    """Features `[B, D]` of the outputs and which pieces there are `[B, L]`."""
    last = tf.math.count_nonzero(mask, 1, dtype=tf.int32) - 1
    feature = tf.gather(outputs['sequence_output'], last, batch_dims=1)
    return feature if self.projection is None else self.projection(feature)

  def call(self, ids: tf.Tensor) -> tf.Tensor:
    """Features `[B, D]` of ids `[B, L]`."""
    return self.pooled(self.outputs(ids), self.mask(ids))

"""Grouping: tokens of a clip are assigned to group tokens, which take them in."""

from collections.abc import Callable

import tensorflow as tf
import tf_keras

from official.video import draws, registry

# Keeps empty groups finite.
_EPSILON = 1.0


def gumbel(uniform: tf.Tensor) -> tf.Tensor:
  """Gumbel(0, 1) numbers of float32 numbers on a grid of 2**24 steps in [0, 1)."""
  # Half a step above 0 is finite; half a step below 1 would round to 1, which is not.
  inside = tf.clip_by_value(uniform, 2.0**-25, 1 - 2.0**-24)
  return -tf.math.log(-tf.math.log(inside))


def gumbel_noise(keys: tf.Tensor, name: str, shape: tuple[int, int]) -> tf.Tensor:
  """Gumbel(0, 1) noise, float32 `[B, *shape]`, a function of each sample's key.

  Args:
    keys: int32 `[B, 2]`; see `official.video.draws`.
    name: of the draw.
    shape: of a sample's noise.
  """

  def draw(key: tf.Tensor) -> tf.Tensor:
    return gumbel(draws.uniform(key, name, shape))

  return tf.map_fn(draw, keys, fn_output_signature=tf.TensorSpec(shape, tf.float32))


def _soft(probability: tf.Tensor) -> tf.Tensor:
  return probability


def _straight_through(probability: tf.Tensor) -> tf.Tensor:
  return _hard(probability) + probability - tf.stop_gradient(probability)


def _hard(probability: tf.Tensor) -> tf.Tensor:
  best = tf.argmax(probability, 1)
  return tf.one_hot(best, probability.shape[1], axis=1, dtype=probability.dtype)


# From each token's distribution over the groups to what is assigned.
ASSIGNMENTS: registry.Registry[Callable] = registry.Registry(
  'backbone.video_vit.assignment',
  {'straight_through': _straight_through, 'soft': _soft, 'stopped': _hard},
)


def assign(
  logits: tf.Tensor, kind: str = 'straight_through', noise: tf.Tensor | None = None
) -> tf.Tensor:
  """Distributes each token over the groups.

  Args:
    logits: `[B, M, N]`, of M groups and N tokens.
    kind: 'straight_through' assigns a token to its best group with the gradient of the
      softmax, 'soft' by the softmax itself, 'stopped' to its best group without a
      gradient.
    noise: `[B, M, N]`, added to the logits.

  Returns:
    `[B, M, N]`, float32 (float64 where the logits are); the groups of a token add up to
    1.

  Raises:
    UserError: unknown kind.
  """
  if logits.dtype != tf.float64:
    logits = tf.cast(logits, tf.float32)
  if noise is not None:
    logits += tf.cast(noise, logits.dtype)
  finish = ASSIGNMENTS.find(kind)
  return finish(tf.nn.softmax(logits, 1))


def _mean(assignment: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
  size = tf.reduce_sum(assignment, 2, keepdims=True)
  return tf.matmul(assignment, values) / (size + _EPSILON)


# From assignment [B, M, N] and values [B, N, D] to what each group takes in.
AGGREGATIONS: registry.Registry[Callable] = registry.Registry(
  'backbone.video_vit.aggregation', {'mean': _mean, 'sum': tf.matmul}
)


def aggregate(assignment: tf.Tensor, values: tf.Tensor, how: str = 'mean') -> tf.Tensor:
  """What each group takes in of the tokens assigned to it.

  Args:
    assignment: `[B, M, N]`.
    values: `[B, N, D]`.
    how: 'mean', with one token of value 0 more than there are, or 'sum'.

  Returns:
    `[B, M, D]`.

  Raises:
    UserError: unknown `how`.
  """
  return AGGREGATIONS.find(how)(assignment, values)


class GroupingBlock(tf_keras.layers.Layer):
  """Refines group tokens by the video tokens that are assigned to them.

  One head. Both are normalized, each token goes to a group by the dot product of its key
  with the groups' queries, and what a group takes in is added to it; an MLP with a
  residual connection follows. Variables are in float32, assignments too.

  Source: arXiv 2202.11094 (assignment and its noise), 2207.04044 (grouping as k-means).
  """

  def __init__(
    self,
    width: int,
    mlp_dim: int,
    assignment: str = 'straight_through',
    aggregation: str = 'mean',
    pre_attention: bool = False,
    name: str = 'grouping',
    **kwargs,
  ):
    """Initializes the layer.

    Args:
      width: of all tokens.
      mlp_dim: hidden units of the MLP.
      assignment: a key of `ASSIGNMENTS`.
      aggregation: a key of `AGGREGATIONS`.
      pre_attention: whether group tokens first attend to the video tokens.
      name: of the layer; its noise is drawn by that name.
      **kwargs: of `tf_keras.layers.Layer`.
    """
    super().__init__(name=name, **kwargs)
    self.width, self.mlp_dim = width, mlp_dim
    self.assignment, self.aggregation = assignment, aggregation
    self.pre_attention = pre_attention
    ASSIGNMENTS.find(assignment)
    AGGREGATIONS.find(aggregation)

    def norm(name):
      return tf_keras.layers.LayerNormalization(epsilon=1e-6, name=name)

    def dense(units, name, activation=None):
      return tf_keras.layers.Dense(units, activation, name=name)

    self.group_norm, self.token_norm = norm('group_norm'), norm('token_norm')
    self.query, self.key = dense(width, 'query'), dense(width, 'key')
    self.value, self.output_dense = dense(width, 'value'), dense(width, 'output')
    self.mlp_norm = norm('mlp_norm')
    self.mlp_1, self.mlp_2 = dense(mlp_dim, 'mlp_1', 'gelu'), dense(width, 'mlp_2')
    if pre_attention:
      self.pre_norm = norm('pre_norm')
      self.pre_query, self.pre_key = dense(width, 'pre_query'), dense(width, 'pre_key')
      self.pre_value, self.pre_output = (
        dense(width, 'pre_value'),
        dense(width, 'pre_output'),
      )

  def _attended(self, groups: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
    """Groups after soft cross-attention to the tokens, whose softmax is over tokens."""
    query = self.pre_query(self.pre_norm(groups))
    logits = tf.matmul(query, self.pre_key(tokens), transpose_b=True)
    weights = tf.nn.softmax(tf.cast(logits, tf.float32) * self.width**-0.5)
    taken = tf.matmul(tf.cast(weights, tokens.dtype), self.pre_value(tokens))
    return groups + self.pre_output(taken)

  def _logits(self, groups: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """The groups that ask, normalized tokens, and how well they match, `[B, M, N]`."""
    tokens = self.token_norm(tokens)
    if self.pre_attention:
      groups = self._attended(groups, tokens)
    query, key = self.query(self.group_norm(groups)), self.key(tokens)
    return groups, tokens, tf.matmul(query, key, transpose_b=True) * self.width**-0.5

  def probabilities(self, groups: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
    """How likely each token goes to each group, float32 `[B, M, N]`, without noise.

    Arguments as of `call`.
    """
    return tf.nn.softmax(tf.cast(self._logits(groups, tokens)[2], tf.float32), 1)

  def call(
    self, groups: tf.Tensor, tokens: tf.Tensor, keys: tf.Tensor | None = None
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Refined groups `[B, M, D]`, and the assignment float32 `[B, M, N]`.

    Args:
      groups: `[B, M, D]`.
      tokens: `[B, N, D]`.
      keys: int32 `[B, 2]`, of Gumbel noise on the logits; None for none.
    """
    groups, tokens, logits = self._logits(groups, tokens)
    noise = None
    if keys is not None:
      shape = (groups.shape[1], tokens.shape[1])
      noise = gumbel_noise(keys, f'gumbel/{self.name}', shape)
    assignment = assign(logits, self.assignment, noise)
    taken = aggregate(
      assignment, tf.cast(self.value(tokens), tf.float32), self.aggregation
    )
    groups += self.output_dense(tf.cast(taken, groups.dtype))
    return groups + self.mlp_2(self.mlp_1(self.mlp_norm(groups))), assignment

"""A vision transformer of tubelets with joint space-time attention, and with groups."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from official.modeling import hyperparams
from official.video import draws, registry
from official.video.backbones import (
  attention,
  batch_norm,
  families,
  grouping,
  recompute,
  remat,
)
from official.video.errors import UserError

Grid = tuple[Any, Any, Any]
_INIT = functools.partial(tf_keras.initializers.TruncatedNormal, stddev=0.02)
# Wavelengths of sinusoidal codes are geometric up to this, as in arXiv 1706.03762.
_LONGEST_WAVE = 10_000.0


def quick_gelu(x: tf.Tensor) -> tf.Tensor:
  """CLIP's cheap GELU."""
  return x * tf.sigmoid(1.702 * x)


ACTIVATIONS: registry.Registry[Callable[[tf.Tensor], tf.Tensor]] = registry.Registry(
  'backbone.video_vit.activation',
  {
    'gelu': tf.nn.gelu,
    'gelu_tanh': functools.partial(tf.nn.gelu, approximate=True),
    'quick_gelu': quick_gelu,
  },
)
POSITIONS = ('learned', 'sinusoidal')
FINAL_NORMS = ('tokens', 'mean')


def interpolation(size: int, new_size: int | tf.Tensor) -> tf.Tensor:
  """float32 `[new_size, size]`: linear interpolation between `size` cell centres.

  Beyond the outer centres it is constant.
  """
  ratio = size / tf.cast(new_size, tf.float32)
  places = (tf.range(tf.cast(new_size, tf.float32)) + 0.5) * ratio - 0.5
  places = tf.clip_by_value(places, 0.0, size - 1.0)
  distance = tf.abs(places[:, None] - tf.range(float(size)))
  return tf.maximum(1.0 - distance, 0.0)


@dataclasses.dataclass
class VideoViTConfig(hyperparams.Config):
  """A video transformer; the defaults are the ViT-B that G-ViLM pretrains.

  Attributes:
    hidden_size: width of all tokens.
    num_layers: transformer blocks.
    num_heads: of their attention.
    mlp_dim: hidden units of their MLPs.
    tubelet: frames, rows and columns of a token.
    grid: tubelets in time, height and width that the position table is stored for, those
      of the pretraining. Other clips interpolate it.
    num_groups: group tokens; 0 for a plain transformer.
    grouping_layers: after which blocks, from 1, a grouping block follows.
    assignment: of tubelets to groups: 'straight_through' (to the best group, with the
      gradient of the softmax), 'soft', or 'stopped' (without a gradient).
    aggregation: what a group takes in of its tubelets: their 'mean' or 'sum'.
    pre_attention: whether the groups of a grouping block first attend to the tubelets.
    drop_path: share of the samples that skip the last block in training; it grows
      linearly from 0 at the first.
    activation: of the MLPs: 'gelu', 'gelu_tanh' (its approximation by tanh, ViViT's), or
      'quick_gelu' (x * sigmoid(1.702 x), CLIP's).
    norm_epsilon: of layer norm, outside of grouping blocks.
    cls_token: whether there is a class token.
    positions: 'learned' codes, or fixed 'sinusoidal' ones of a tubelet's number (VideoMAE's).
    pre_norm: whether a layer norm stands before the first block (CLIP's).
    final_norm: what the last layer norm is of: all 'tokens', or their 'mean', which then
      is the endpoint 'pooled' (VideoMAE's and timm's `fc_norm`).
  """

  hidden_size: int = 768
  num_layers: int = 12
  num_heads: int = 12
  mlp_dim: int = 3072
  tubelet: tuple[int, int, int] = (2, 16, 16)
  grid: tuple[int, int, int] = (16, 14, 14)
  num_groups: int = 32
  grouping_layers: tuple[int, ...] = (6, 9, 12)
  assignment: str = 'straight_through'
  aggregation: str = 'mean'
  pre_attention: bool = False
  drop_path: float = 0.0
  activation: str = 'gelu'
  norm_epsilon: float = 1e-6
  cls_token: bool = True
  positions: str = 'learned'
  pre_norm: bool = False
  final_norm: str = 'tokens'


def sinusoidal_positions(count: int, width: int) -> np.ndarray:
  """Fixed position codes float32 `[1, count, width]`: sines and cosines in turn.

  Source: arXiv 1706.03762, section 3.5.
  """
  waves = _LONGEST_WAVE ** (2 * (np.arange(width) // 2) / width)
  angles = np.arange(count)[:, None] / waves
  codes = np.where(np.arange(width) % 2, np.cos(angles), np.sin(angles))
  return codes[None].astype(np.float32)


def resized_positions(
  table: tf.Tensor, grid: Sequence[int], new_grid: Sequence[Any]
) -> tf.Tensor:
  """Position codes of another grid, interpolated in time and space.

  Args:
    table: `[1, K + T*H*W, D]`; the first K codes, such as the class token's, are kept.
    grid: T, H, W of the table.
    new_grid: T', H', W'; integers or scalar tensors.

  Returns:
    `[1, K + T'*H'*W', D]`.
  """
  known = all(isinstance(size, int) for size in new_grid)
  if known and tuple(grid) == tuple(new_grid):
    return table
  width = table.shape[-1]
  kept = table.shape[1] - grid[0] * grid[1] * grid[2]
  codes = tf.reshape(table[:, kept:], [*grid, width])
  matrices = [interpolation(a, b) for a, b in zip(grid, new_grid, strict=True)]
  codes = tf.einsum('at,bh,cw,thwd->abcd', *matrices, tf.cast(codes, tf.float32))
  codes = tf.cast(tf.reshape(codes, [1, -1, width]), table.dtype)
  return tf.concat([table[:, :kept], codes], 1)


def _layer_norm(config: VideoViTConfig, name: str) -> tf_keras.layers.Layer:
  return tf_keras.layers.LayerNormalization(epsilon=config.norm_epsilon, name=name)


class Embedding(tf_keras.layers.Layer):
  """Clips `[B, T, H, W, C]` to `[B, K + N + M, D]`: class token (if any), tubelets, groups.

  Attributes:
    position: codes of class token and tubelets; a variable, or a constant array.
    pre_norm: layer norm of class token and tubelets, or None.
  """

  def __init__(self, config: VideoViTConfig):
    super().__init__(name='embedding')
    self.config = config
    self.tubelet = tf_keras.layers.Conv3D(
      config.hidden_size, config.tubelet, config.tubelet, name='tubelet'
    )
    self.pre_norm = _layer_norm(config, 'pre_norm') if config.pre_norm else None

  def build(self, input_shape: tf.TensorShape) -> None:
    """Makes class token, position table and group tokens."""
    config = self.config
    tubelets = config.grid[0] * config.grid[1] * config.grid[2]

    def weight(name, count, initializer):
      shape = (1, count, config.hidden_size)
      return self.add_weight(name, shape, initializer=initializer)

    if config.cls_token:
      self.cls = weight('cls', 1, 'zeros')
    if config.positions == 'learned':
      self.position = weight('position', config.cls_token + tubelets, _INIT())
    else:
      # The class token has none.
      codes = sinusoidal_positions(tubelets, config.hidden_size)
      self.position = np.pad(codes, [(0, 0), (int(config.cls_token), 0), (0, 0)])
    if config.num_groups:
      self.groups = weight('groups', config.num_groups, _INIT())
    super().build(input_shape)

  def call(self, clips: tf.Tensor) -> tf.Tensor:
    """Cuts the clips into tubelets, and adds position codes of their grid."""
    x = self.tubelet(clips)
    grid = _sizes(x)[1:4]
    batch, width = tf.shape(x)[0], self.config.hidden_size

    def repeated(token):
      token = tf.cast(token, x.dtype)
      repeated = tf.broadcast_to(token, [batch, token.shape[1], width])
      return tf.ensure_shape(repeated, [x.shape[0], *token.shape[1:]])

    count = grid[0] * grid[1] * grid[2]
    tokens = tf.reshape(x, [-1, count, width])
    if self.config.cls_token:
      tokens = tf.concat([repeated(self.cls), tokens], 1)
    positions = resized_positions(self.position, self.config.grid, grid)
    tokens += tf.cast(positions, x.dtype)
    if self.pre_norm:
      tokens = self.pre_norm(tokens)
    if not self.config.num_groups:
      return tokens
    return tf.concat([tokens, repeated(self.groups)], 1)


class Block(tf_keras.layers.Layer):
  """A transformer block that normalizes first: `[B, L, D]` to the same.

  Variables of drop path: drop_step, a counter that its masks are a function of.
  """

  def __init__(self, config: VideoViTConfig, name: str, drop_path: float):
    super().__init__(name=name)
    self.heads, self.drop_path = config.num_heads, drop_path
    width = config.hidden_size
    self.attention_norm = _layer_norm(config, 'attention_norm')
    self.query, self.key, self.value, self.output_dense = (
      tf_keras.layers.Dense(width, name=part)
      for part in ('query', 'key', 'value', 'output')
    )
    self.mlp_norm = _layer_norm(config, 'mlp_norm')
    self.mlp_1 = tf_keras.layers.Dense(
      config.mlp_dim, ACTIVATIONS.find(config.activation), name='mlp_1'
    )
    self.mlp_2 = tf_keras.layers.Dense(width, name='mlp_2')

  def build(self, input_shape: tf.TensorShape) -> None:
    """Makes the counter of drop path, where there is one."""
    if self.drop_path:
      self.drop_step = draws.step_counter(self, 'drop_step')
    super().build(input_shape)

  def _split(self, x: tf.Tensor) -> tf.Tensor:
    _, length, width = _sizes(x)
    x = tf.reshape(x, [-1, length, self.heads, width // self.heads])
    return tf.transpose(x, [0, 2, 1, 3])

  def _attend(self, x: tf.Tensor) -> tf.Tensor:
    query, key, value = (self._split(f(x)) for f in (self.query, self.key, self.value))
    taken = self._taken(query * query.shape[-1] ** -0.5, key, value)
    taken = tf.transpose(taken, [0, 2, 1, 3])
    return self.output_dense(tf.reshape(taken, [-1, *_sizes(x)[1:]]))

  def _taken(self, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """What each token takes of the values, all `[B, heads, L, D]`."""
    return attention.attend(query, key, value)

  def _dropped(self, x: tf.Tensor, branch: int) -> tf.Tensor:
    ones = tf.ones([tf.shape(x)[0], 1, 1], x.dtype)
    seed = tf.stack([self.drop_step, 2 * draws.replica() + branch])
    return x * tf.nn.experimental.stateless_dropout(ones, self.drop_path, seed)

  def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    """Attention and MLP, each added to what it sees."""
    drops = bool(training and self.drop_path)
    branches = (
      lambda x: self._attend(self.attention_norm(x)),
      lambda x: self.mlp_2(self.mlp_1(self.mlp_norm(x))),
    )
    for number, branch in enumerate(branches):
      change = branch(x)
      x += self._dropped(change, number) if drops else change
    if drops:
      with tf.control_dependencies([x]):
        self.drop_step.assign_add(1)
    return x


def _sizes(x: tf.Tensor) -> list[Any]:
  """The shape, integers where they are known."""
  dynamic = tf.shape(x)
  return [dynamic[i] if size is None else size for i, size in enumerate(x.shape)]


class Grouped:
  """A grouping block on the sequence of all tokens; `recompute` takes it for a layer."""

  def __init__(
    self,
    block: grouping.GroupingBlock,
    config: VideoViTConfig,
    keys: tf.Tensor | None = None,
  ):
    """Initializes it.

    Args:
      block: refines the groups.
      config: says how many tokens at the end are groups, and whether the first is the class.
      keys: of the block's noise.
    """
    self.block, self.num_groups, self.keys = block, config.num_groups, keys
    self._first = int(config.cls_token)

  @property
  def variables(self) -> list[tf.Variable]:
    """Those of the block."""
    return self.block.variables

  def _parts(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    others, groups = x[:, : -self.num_groups], x[:, -self.num_groups :]
    return others, tf.ensure_shape(groups, [x.shape[0], self.num_groups, x.shape[2]])

  def probabilities(self, x: tf.Tensor) -> tf.Tensor:
    """How likely each video token goes to each group, `[B, M, N]`."""
    others, groups = self._parts(x)
    return self.block.probabilities(groups, others[:, self._first :])

  def __call__(self, x: tf.Tensor, training: bool = True) -> tf.Tensor:
    """`[B, L, D]` with refined groups."""
    del training
    others, groups = self._parts(x)
    groups, _ = self.block(groups, others[:, self._first :], self.keys)
    return tf.concat([others, groups], 1)


class VideoViT(tf_keras.Model, remat.RecomputesItself):
  """A video transformer: clips `[B, T, H, W, C]` to endpoints `[B, T', H', W', D]`.

  Endpoints: 'tokens', the grid of tubelets; 'cls' `[B, 1, 1, 1, D]`, the class token, if
  there is one; with group tokens 'groups' `[B, M, 1, 1, D]`, and outside of training
  'assignment_<layer>' `[B, T', H', W', M]` of every grouping block, how likely each
  tubelet went to each group. All but the assignments are normalized; with `final_norm` of
  the mean, groups and 'pooled' `[B, 1, 1, 1, D]`, the mean of the tubelets, are, but 'tokens'
  and 'cls' are as the last block leaves them. The mean of an endpoint is the global feature
  that it stands for.

  Clips of another size than the position table's are taken as they are; the table is
  interpolated.

  Source: arXiv 2103.15691 (model 1) with the groups of 2303.16341.
  """

  def __init__(self, config: VideoViTConfig):
    """Initializes the model.

    Raises:
      UserError: the configuration is impossible.
    """
    super().__init__(name='video_vit')
    _check(config)
    self.config = config
    self.embedding = Embedding(config)
    rates = [
      config.drop_path * i / max(1, config.num_layers - 1)
      for i in range(config.num_layers)
    ]
    self.blocks = [Block(config, f'block_{i}', rate) for i, rate in enumerate(rates)]
    self.groupings = {
      str(layer): grouping.GroupingBlock(
        config.hidden_size,
        4 * config.hidden_size,
        config.assignment,
        config.aggregation,
        config.pre_attention,
        name=f'grouping_{layer}',
      )
      for layer in (config.grouping_layers if config.num_groups else ())
    }
    self.norm = _layer_norm(config, 'norm')
    if config.num_groups:
      self.group_norm = _layer_norm(config, 'group_norm')
    self._recomputed: frozenset[str] = frozenset()

  @property
  def stages(self) -> list[str]:
    """Names that `rematerialize` takes."""
    layers: list[tf_keras.layers.Layer] = [*self.blocks, *self.groupings.values()]
    return [layer.name for layer in layers]

  def layers_by_depth(self) -> list[list[tf_keras.layers.Layer]]:
    """The embedding, then each block with the grouping block that follows it."""
    groupings = [self.groupings.get(str(i + 1)) for i in range(len(self.blocks))]
    pairs = zip(self.blocks, groupings, strict=True)
    return [[self.embedding], *([layer for layer in pair if layer] for pair in pairs)]

  @property
  def output_specs(self) -> dict[str, tf.TensorShape]:
    """Shapes of the endpoints of any clip in training."""
    width = self.config.hidden_size
    specs = {'tokens': tf.TensorShape([None, None, None, None, width])}
    if self.config.cls_token:
      specs['cls'] = tf.TensorShape([None, 1, 1, 1, width])
    if self.config.final_norm == 'mean':
      specs['pooled'] = tf.TensorShape([None, 1, 1, 1, width])
    if self.config.num_groups:
      specs['groups'] = tf.TensorShape([None, self.config.num_groups, 1, 1, width])
    return specs

  def rematerialize(self, stages: str) -> None:
    """Recomputes blocks in the backward pass; see `remat.rematerialize`.

    Args:
      stages: 'none', 'all', or names of `stages` with commas between.

    Raises:
      UserError: there is no such stage.
    """
    self._recomputed = frozenset(remat.chosen_of(self.stages, stages))

  def _run(self, name: str, layer: Any, x: tf.Tensor, training: bool | None):
    recomputed = training and name in self._recomputed
    return recompute.recompute(layer, x) if recomputed else layer(x, training=training)

  def call(
    self, clips: tf.Tensor, training: bool | None = None, keys: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Endpoints of clips.

    Args:
      clips: `[B, T, H, W, C]`, multiples of the tubelet; more is cut off.
      training: whether paths are dropped, and blocks recomputed.
      keys: int32 `[B, 2]`, of Gumbel noise in the grouping blocks; None for none.
    """
    config = self.config
    x = self.embedding(clips)
    steps = [_sizes(clips)[i + 1] // size for i, size in enumerate(config.tubelet)]
    endpoints = {}
    for number, block in enumerate(self.blocks, start=1):
      x = self._run(block.name, block, x, training)
      if str(number) not in self.groupings:
        continue
      layer = self.groupings[str(number)]
      grouped = Grouped(layer, config, keys)
      if not training:
        endpoints[f'assignment_{number}'] = tf.reshape(
          tf.transpose(grouped.probabilities(x), [0, 2, 1]),
          [-1, *steps, config.num_groups],
        )
      x = self._run(layer.name, grouped, x, training)
    return self._normalized(x, steps) | endpoints

  def _normalized(self, x: tf.Tensor, steps: Sequence[Any]) -> dict[str, tf.Tensor]:
    width, groups = self.config.hidden_size, self.config.num_groups
    first, of_mean = int(self.config.cls_token), self.config.final_norm == 'mean'
    tokens = x[:, :-groups] if groups else x
    if not of_mean:
      tokens = self.norm(tokens)
    endpoints = {'tokens': tf.reshape(tokens[:, first:], [-1, *steps, width])}
    if first:
      endpoints['cls'] = tokens[:, :1, None, None]
    if of_mean:
      mean = tf.reduce_mean(tf.cast(tokens[:, first:], tf.float32), 1)
      endpoints['pooled'] = self.norm(tf.cast(mean, x.dtype))[:, None, None, None]
    if groups:
      endpoints['groups'] = self.group_norm(x[:, -groups:])[:, :, None, None]
    return endpoints


def _check(config: VideoViTConfig) -> None:
  if config.hidden_size % config.num_heads:
    raise UserError(
      f'backbone.video_vit.num_heads {config.num_heads}: does not divide hidden_size '
      f'{config.hidden_size}'
    )
  layers = set(config.grouping_layers)
  if config.num_groups and not layers <= set(range(1, config.num_layers + 1)):
    raise UserError(
      f'backbone.video_vit.grouping_layers {list(config.grouping_layers)}: expected '
      f'numbers of 1 to num_layers {config.num_layers}'
    )
  registry.check_choice('backbone.video_vit.positions', config.positions, POSITIONS)
  registry.check_choice('backbone.video_vit.final_norm', config.final_norm, FINAL_NORMS)


@families.builder('video_vit', VideoViTConfig)
def build_video_vit(
  config: VideoViTConfig,
  norm_activation: batch_norm.NormActivation,
  input_specs: tf_keras.layers.InputSpec | None = None,
) -> VideoViT:
  """Builds a `VideoViT` with its weights; layer norm whatever `norm_activation` says."""
  del norm_activation, input_specs
  model = VideoViT(config)
  shape = [t * n for t, n in zip(config.tubelet, config.grid, strict=True)]
  model(tf_keras.Input((*shape, 3)))
  return model

"""Regions that attend to a clip: position code, context memory and decoder."""

import tensorflow as tf
import tf_keras

from official.video.configs import heads as heads_config
from official.video.errors import UserError
from official.video.heads import regions


def context_frames(frames: int, length: int) -> list[int]:
  """Which maps of a clip are remembered: evenly spaced about the key frame.

  Args:
    frames: maps of the clip.
    length: how many are wanted, odd.

  Raises:
    UserError: the length is even or more than there are.
  """
  if length < 1 or length % 2 == 0 or length > frames:
    raise UserError(
      f'context_length {length}: expected an odd number of at most {frames}, which is how '
      'many maps the backbone makes of a clip; shorten it or lengthen the clips'
    )
  stride, middle = frames // length, regions.key_frame(frames)
  return [middle + i * stride for i in range(-(length // 2), length // 2 + 1)]


class PositionCode(tf_keras.layers.Layer):
  """Codes of the places of a `[T, H, W]` grid, learnt from centred coordinates.

  Time, and row with column, go through two dense layers each. Variables are named
  temporal_1, temporal_2, spatial_1 and spatial_2.
  """

  def __init__(self, hidden: int = 4, units: int = 8, name: str = 'position', **kwargs):
    """Initializes the layer.

    Args:
      hidden: units of the first layers.
      units: of either code; the result has twice as many.
      name: of the layer.
      **kwargs: of `tf_keras.layers.Layer`.
    """
    super().__init__(name=name, **kwargs)
    self._dense = {
      f'{kind}_{i}': tf_keras.layers.Dense(
        size, activation, name=f'{kind}_{i}', dtype='float32'
      )
      for kind in ('temporal', 'spatial')
      for i, size, activation in ((1, hidden, 'relu'), (2, units, None))
    }

  def call(self, features: tf.Tensor) -> tf.Tensor:
    """`[T, H, W, 2 * units]` float32 of features `[B, T, H, W, C]`."""
    shape = features.shape[1:4]
    centred = [tf.range(n, dtype=tf.float32) - (n - 1) / 2 for n in shape]
    time, row, column = tf.meshgrid(*centred, indexing='ij')
    codes = []
    for kind, inputs in (
      ('temporal', time[..., None]),
      ('spatial', tf.stack([row, column], -1)),
    ):
      codes.append(self._dense[f'{kind}_2'](self._dense[f'{kind}_1'](inputs)))
    return tf.concat(codes, -1)


class _Head(tf_keras.layers.Layer):
  """One attention head with an MLP of its own behind it."""

  def __init__(self, channels: int, norm_epsilon: float, name: str):
    super().__init__(name=name, dtype='float32')
    self._scale = channels**-0.5
    dense = {'units': channels, 'dtype': 'float32'}
    self.query = tf_keras.layers.Dense(**dense, name='query')
    self.key = tf_keras.layers.Dense(**dense, name='key')
    self.value = tf_keras.layers.Dense(**dense, name='value')
    self.norm = tf_keras.layers.LayerNormalization(
      epsilon=norm_epsilon, name='layer_norm', dtype='float32'
    )
    self.ffn1 = tf_keras.layers.Dense(**dense, activation='gelu', name='ffn1')
    self.ffn2 = tf_keras.layers.Dense(**dense, name='ffn2')

  def call(
    self, queries: tf.Tensor, memory: tf.Tensor, remembered: tf.Tensor | None
  ) -> tuple[tf.Tensor, tf.Tensor]:
    query, key, value = self.query(queries), self.key(memory), self.value(memory)
    scores = tf.matmul(query, key, transpose_b=True) * self._scale
    if remembered is not None:
      scores = tf.where(remembered[:, None], scores, scores.dtype.min)
    attention = tf.nn.softmax(scores)
    x = self.norm(tf.matmul(attention, value) + query)
    return self.ffn2(self.ffn1(x)), attention


class ContextDecoder(tf_keras.layers.Layer):
  """Layers of heads in which regions attend to a memory, and not to each other.

  A head is softmax(q k / sqrt(channels)) v, layer norm of that plus q, and an MLP of its
  own without residual; the heads' outputs are concatenated. Computed in float32: the
  norm's epsilon is below what bfloat16 can tell from 0.

  Source: arXiv 2112.05181, section 3.2, as released.
  """

  def __init__(
    self,
    channels: int = 128,
    num_layers: int = 3,
    num_heads: int = 3,
    norm_epsilon: float = 1e-12,
    name: str = 'decoder',
    **kwargs,
  ):
    """Initializes the decoder.

    Args:
      channels: of a head.
      num_layers: one after the other.
      num_heads: of a layer.
      norm_epsilon: of layer norm.
      name: of the layer.
      **kwargs: of `tf_keras.layers.Layer`.
    """
    super().__init__(name=name, **kwargs | {'dtype': 'float32'})
    self._heads = [
      [_Head(channels, norm_epsilon, f'layer_{i}/head_{j}') for j in range(num_heads)]
      for i in range(num_layers)
    ]

  def call(
    self,
    queries: tf.Tensor,
    memory: tf.Tensor,
    remembered: tf.Tensor | None = None,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes regions.

    Args:
      queries: `[B, N, C]`.
      memory: `[B, M, C']`.
      remembered: bool `[B, M]`, what of the memory can be attended to; None for all.

    Returns:
      float32 `[B, N, num_heads * channels]`, and the attention
      `[B, num_layers, num_heads, N, M]`.
    """
    x, attention = queries, []
    for heads in self._heads:
      outputs = [head(x, memory, remembered) for head in heads]
      x = tf.concat([output for output, _ in outputs], -1)
      attention.append(tf.stack([weights for _, weights in outputs], 1))
    return x, tf.stack(attention, 1)


class ContextHead(tf_keras.layers.Layer):
  """From maps and boxes to what the regions are in their context.

  The region's feature asks, the maps about the key frame answer; a dense layer follows.
  """

  def __init__(
    self, config: heads_config.ContextHead, units: int, name: str = 'context_head'
  ):
    """Initializes the head.

    Args:
      config: of the decoder and its memory.
      units: of the last layer.
      name: of the layer.
    """
    super().__init__(name=name, dtype='float32')
    self._samples, self._length = config.samples, config.context_length
    self._half_pixel = config.half_pixel_centers is not False
    self.position = PositionCode(dtype='float32') if config.position_code else None
    self.decoder = ContextDecoder(
      config.channels, config.num_layers, config.num_heads, config.norm_epsilon
    )
    self.projection = tf_keras.layers.Dense(units, name='projection', dtype='float32')

  def regions(
    self, features: tf.Tensor, boxes: tf.Tensor, shown: tf.Tensor | None = None
  ) -> tf.Tensor:
    """`[B, N, C]` means over boxes `[B, N, 4]` in the key frame of `[B, T, H, W, C]`.

    `shown` is as of `regions.roi_align`.
    """
    middle = features[:, regions.key_frame(features.shape[1])]
    return regions.region_means(middle, boxes, self._samples, self._half_pixel, shown)

  def memory(self, features: tf.Tensor) -> tf.Tensor:
    """`[B, context_length * H * W, C']` of maps `[B, T, H, W, C]`."""
    frames = context_frames(features.shape[1], self._length)
    kept = tf.cast(tf.gather(features, frames, axis=1), tf.float32)
    if self.position is not None:
      code = self.position(kept)
      shape = tf.concat([tf.shape(kept)[:1], code.shape], 0)
      kept = tf.concat([kept, tf.broadcast_to(code[None], shape)], -1)
    tokens = kept.shape[1] * kept.shape[2] * kept.shape[3]
    return tf.reshape(kept, [-1, tokens, kept.shape[4]])

  def remembered(self, features: tf.Tensor, shown: tf.Tensor) -> tf.Tensor:
    """Which of `memory`'s places lie in the part `[B, 4]` of the maps, bool `[B, M]`."""
    inside = regions.middles_inside(shown, *features.shape[2:4])
    flat = tf.reshape(inside, [-1, features.shape[2] * features.shape[3]])
    return tf.tile(flat, [1, self._length])

  def call(
    self,
    queries: tf.Tensor,
    memory: tf.Tensor,
    training: bool | None = None,
    remembered: tf.Tensor | None = None,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """`[B, N, units]` and the attention of `ContextDecoder`, given the above."""
    del training
    decoded, attention = self.decoder(queries, memory, remembered)
    return self.projection(decoded), attention

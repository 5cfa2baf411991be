"""Features of regions: RoI align on maps of one frame or of the mean of several."""

import tensorflow as tf


def sample_weights(
  low: tf.Tensor, high: tf.Tensor, cells: int | tf.Tensor, samples: int
) -> tf.Tensor:
  """What each cell of an axis contributes to samples inside an interval.

  Samples lie in the middle of equal parts of the interval; a sample at position p mixes
  the cells floor(p) and floor(p) + 1 linearly, where cell i is at position i and the last
  cell goes on beyond the end.

  Args:
    low: `[..., N]` begin of the intervals, as shares of the axis.
    high: `[..., N]` their ends.
    cells: of the axis.
    samples: of an interval.

  Returns:
    float32 `[..., N, samples, cells]`; the last axis adds up to 1.
  """
  low, high = tf.cast(low, tf.float32), tf.cast(high, tf.float32)
  places = (tf.range(samples, dtype=tf.float32) + 0.5) / samples
  position = low[..., None] + (high - low)[..., None] * places
  size = tf.cast(cells, tf.float32)
  position = tf.clip_by_value(position * size, 0.0, size - 1)
  distance = position[..., None] - tf.range(size, dtype=tf.float32)
  return tf.maximum(0.0, 1.0 - tf.abs(distance))


def _axes(features: tf.Tensor, boxes: tf.Tensor, samples: int):
  top, left, bottom, right = tf.unstack(tf.cast(boxes, tf.float32), axis=-1)
  height, width = tf.unstack(tf.shape(features)[1:3])
  rows = sample_weights(top, bottom, height, samples)
  columns = sample_weights(left, right, width, samples)
  return rows, columns


def roi_align(features: tf.Tensor, boxes: tf.Tensor, samples: int = 4) -> tf.Tensor:
  """Samples a grid of features from every box.

  Args:
    features: `[B, H, W, C]`.
    boxes: `[B, N, 4]` top, left, bottom, right as shares of the map; computed in float32
      whatever the features' dtype.
    samples: of a box along either axis.

  Returns:
    float32 `[B, N, samples, samples, C]`.

  Source: arXiv 1703.06870, with one sample a bin and no half-pixel shift.
  """
  rows, columns = _axes(features, boxes, samples)
  features = tf.cast(features, tf.float32)
  along = tf.einsum('bnjw,bhwc->bnhjc', columns, features)
  return tf.einsum('bnih,bnhjc->bnijc', rows, along)


def region_means(features: tf.Tensor, boxes: tf.Tensor, samples: int = 4) -> tf.Tensor:
  """The mean of `roi_align` over its samples, `[B, N, C]`, without making them."""
  rows, columns = _axes(features, boxes, samples)
  rows, columns = (tf.reduce_mean(weights, -2) for weights in (rows, columns))
  weights = rows[..., :, None] * columns[..., None, :]
  return tf.einsum('bnhw,bhwc->bnc', weights, tf.cast(features, tf.float32))


def key_frame(frames: int) -> int:
  """The frame of a clip (or of its maps) that boxes belong to: the one after the middle."""
  return frames // 2

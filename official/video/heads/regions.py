"""Features of regions: RoI align on maps of one frame or of the mean of several."""

import tensorflow as tf

# Top, left, bottom and right of a box that is all of the map.
WHOLE = (0.0, 0.0, 1.0, 1.0)


def sample_weights(
  low: tf.Tensor,
  high: tf.Tensor,
  cells: int | tf.Tensor,
  samples: int,
  half_pixel_centers: bool = True,
  within: tuple[tf.Tensor | float, tf.Tensor | float] = (0.0, 1.0),
) -> tf.Tensor:
  """What each cell of an axis contributes to samples inside an interval.

  Samples lie in the middle of equal parts of the interval; each mixes the two cells next
  to it linearly. Beyond the first and the last cell's position, these go on.

  Args:
    low: `[..., N]` begin of the intervals, as shares of the axis.
    high: `[..., N]` their ends.
    cells: of the axis.
    samples: of an interval.
    half_pixel_centers: cell i of n stands for its middle, the share (i + 1/2) / n, so a
      mirrored interval on a mirrored axis has mirrored weights. Otherwise it stands for
      its beginning, i / n, as in the Model Garden's aligner, which so reads half a cell
      too far towards the end.
    within: begin and end, `[..., N]` or less, of the part of the axis that holds the
      picture, as shares; its first and last cell are those that go on.

  Returns:
    float32 `[..., N, samples, cells]`; the last axis adds up to 1.
  """
  low, high = tf.cast(low, tf.float32), tf.cast(high, tf.float32)
  places = (tf.range(samples, dtype=tf.float32) + 0.5) / samples
  position = low[..., None] + (high - low)[..., None] * places
  size = tf.cast(cells, tf.float32)
  position = position * size - (0.5 if half_pixel_centers else 0.0)
  first, last = (tf.convert_to_tensor(share)[..., None] * size for share in within)
  position = tf.minimum(tf.maximum(position, first), tf.maximum(last - 1, first))
  # A tent of width 2 about the position is 1 - d and d at its two neighbours and 0 at all
  # other cells: bilinear interpolation without a gather, which accelerators do slowly.
  distance = position[..., None] - tf.range(size, dtype=tf.float32)
  return tf.maximum(0.0, 1.0 - tf.abs(distance))


def _axes(
  features: tf.Tensor,
  boxes: tf.Tensor,
  samples: int,
  half_pixel_centers: bool,
  shown: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor]:
  """`sample_weights` of the boxes along the rows, and along the columns, of the map."""
  top, left, bottom, right = tf.unstack(tf.cast(boxes, tf.float32), axis=-1)
  height, width = tf.unstack(tf.shape(features)[1:3])
  shown = WHOLE if shown is None else shown
  first, begin, last, end = tf.unstack(tf.cast(shown, tf.float32)[..., None], 4, axis=-2)
  return (
    sample_weights(top, bottom, height, samples, half_pixel_centers, (first, last)),
    sample_weights(left, right, width, samples, half_pixel_centers, (begin, end)),
  )


def roi_align(
  features: tf.Tensor,
  boxes: tf.Tensor,
  samples: int = 4,
  half_pixel_centers: bool = True,
  shown: tf.Tensor | None = None,
) -> tf.Tensor:
  """Samples a grid of features from every box.

  Args:
    features: `[B, H, W, C]`.
    boxes: `[B, N, 4]` top, left, bottom, right as shares of the map; computed in float32
      whatever the features' dtype.
    samples: of a box along either axis.
    half_pixel_centers: where the cells are; see `sample_weights`.
    shown: `[B, 4]`, the part of the map that holds the picture, if that is not all:
      samples read what they would read of a map of that part alone.

  Returns:
    float32 `[B, N, samples, samples, C]`.

  Source: arXiv 1703.06870, with one sample a bin.
  """
  rows, columns = _axes(features, boxes, samples, half_pixel_centers, shown)
  features = tf.cast(features, tf.float32)
  along = tf.einsum('bnjw,bhwc->bnhjc', columns, features)
  return tf.einsum('bnih,bnhjc->bnijc', rows, along)


def region_means(
  features: tf.Tensor,
  boxes: tf.Tensor,
  samples: int = 4,
  half_pixel_centers: bool = True,
  shown: tf.Tensor | None = None,
) -> tf.Tensor:
  """The mean of `roi_align` over its samples, `[B, N, C]`, without making them."""
  rows, columns = _axes(features, boxes, samples, half_pixel_centers, shown)
  rows, columns = (tf.reduce_mean(weights, -2) for weights in (rows, columns))
  weights = rows[..., :, None] * columns[..., None, :]
  return tf.einsum('bnhw,bhwc->bnc', weights, tf.cast(features, tf.float32))


def middles_inside(shown: tf.Tensor, height: int, width: int) -> tf.Tensor:
  """Whether cells' middles lie in `[B, 4]` boxes of a map, bool `[B, height, width]`."""
  top, left, bottom, right = tf.unstack(tf.cast(shown, tf.float32)[:, :, None], axis=1)
  row, column = ((tf.range(n, dtype=tf.float32) + 0.5) / n for n in (height, width))
  rows = (row >= top) & (row <= bottom)
  return rows[:, :, None] & ((column >= left) & (column <= right))[:, None]


def key_frame(frames: int) -> int:
  """The frame of a clip (or of its maps) that boxes belong to: the one after the middle."""
  return frames // 2

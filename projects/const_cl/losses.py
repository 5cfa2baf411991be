"""ConST-CL's local loss: a region, reconstructed from the other view, meets its match.

The global loss is CVRL's, `official.video.losses.info_nce`.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from official.video.losses import gather

_IMPOSSIBLE = -1e9


class Direction(NamedTuple):
  """What one direction of the local loss gives, by region of the view that asks.

  Attributes:
    loss: `[B, N]`, 0 where the region does not count.
    weight: `[B, N]` float32, whether it counts.
    match: `[B, N]` int32, the region of the other view that it meets.
    positive: `[B, N]` similarity to the match.
    negative: `[B, N]` mean similarity to the negatives.
  """

  loss: tf.Tensor
  weight: tf.Tensor
  match: tf.Tensor
  positive: tf.Tensor
  negative: tf.Tensor


def match_regions(regions: tf.Tensor, others: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
  """For each region the most similar valid one of the other view of its video.

  Args:
    regions: `[B, N, C]`, of length 1.
    others: `[B, N, C]`, of length 1.
    valid: bool `[B, N]`, of the others.

  Returns:
    int32 `[B, N]`; 0 where no other region is valid.
  """
  similarity = tf.matmul(regions, others, transpose_b=True)
  similarity = tf.where(valid[:, None], similarity, _IMPOSSIBLE)
  return tf.argmax(similarity, -1, output_type=tf.int32)


def one_direction(
  regions: tf.Tensor,
  reconstructed: tf.Tensor,
  others: tf.Tensor,
  valid: tf.Tensor,
  others_valid: tf.Tensor,
  temperature: float = 0.2,
  normalize: bool = True,
  same_order: bool = False,
  reference_compatible: bool = False,
  first: int | tf.Tensor = 0,
) -> Direction:
  """Contrasts the reconstructed regions of a view with the other view's.

  A region's positive is its match in the other view of its video; its negatives are that
  view's regions of all other videos, and of its own only under `same_order`. Gradients
  flow through all arguments. Invalid regions are neither asked for, nor matched, nor
  negatives.

  Args:
    regions: `[B, N, C]`, of the view that asks; what is matched.
    reconstructed: `[B, N, C]`, the same regions, reconstructed from the other view.
    others: `[D, N, C]`, of the other view, of all videos.
    valid: bool `[B, N]`, of the regions.
    others_valid: bool `[D, N]`.
    temperature: divides the similarities.
    normalize: whether all vectors are brought to length 1 first.
    same_order: row i of both views is one object, so it is its match, and what else is in
      its video is a negative.
    reference_compatible: let invalid regions be matched and be negatives, as the Model
      Garden does.
    first: which of the D videos is the first of the B, which stand in one order.

  Source: arXiv 2112.05181, equations 3 and 4.
  """
  vectors = [tf.cast(x, tf.float32) for x in (regions, reconstructed, others)]
  if normalize:
    vectors = [tf.math.l2_normalize(x, -1) for x in vectors]
  regions, reconstructed, others = vectors
  usable = tf.ones_like(others_valid) if reference_compatible else others_valid
  (batch, count), videos = tf.unstack(tf.shape(regions)[:2]), tf.shape(others)[0]
  own = others[first : first + batch]
  own_usable = usable[first : first + batch]
  if same_order:
    match = tf.broadcast_to(tf.range(count), [batch, count])
  else:
    match = match_regions(regions, own, own_usable)
  target = tf.gather(own, match, batch_dims=1)
  positive = tf.reduce_sum(reconstructed * target, -1)
  similarity = tf.einsum('bnc,dmc->bndm', reconstructed, others)
  own_video = tf.range(videos) == first + tf.range(batch)[:, None]
  negatives = _negatives(own_video, count, same_order) & usable[None, None]
  # Region n of video b against its match, then against all regions of all videos; those
  # that are no negatives stay in their places, as shapes are static, and weigh nothing.
  logits = tf.where(negatives, similarity / temperature, _IMPOSSIBLE)
  shape = tf.shape(positive)
  flat = tf.reshape(logits, [shape[0], shape[1], -1])
  logits = tf.concat([positive[..., None] / temperature, flat], -1)
  # Without a usable region there is no match: `match_regions` then names the first.
  met = own_usable if same_order else tf.reduce_any(own_usable, -1, keepdims=True)
  weight = tf.cast(valid & met, tf.float32)
  loss = tf.reduce_logsumexp(logits, -1) - logits[..., 0]
  mean = _masked_mean(similarity, negatives)
  return Direction(loss * weight, weight, match, positive, mean)


def _negatives(own_video: tf.Tensor, count: tf.Tensor, same_order: bool) -> tf.Tensor:
  """Which region of which video may be a negative: bool, broadcasts to `[B, N, D, N]`.

  Of `own_video`, bool `[B, D]`, that is:

  Without an order nothing tells which regions of the own video show another object, so
  none of them is one; with an order all but the region itself are.
  """
  own = tf.eye(count, dtype=tf.bool)[None, :, None] if same_order else True
  return ~(own_video[:, None, :, None] & own)


def _masked_mean(similarity: tf.Tensor, negatives: tf.Tensor) -> tf.Tensor:
  """The mean over the negatives of each region, 0 where it has none."""
  share = tf.cast(negatives, tf.float32)
  total = tf.reduce_sum(similarity * share, [2, 3])
  return tf.math.divide_no_nan(total, tf.reduce_sum(share, [2, 3]))


class LocalLoss(NamedTuple):
  """What `local_loss` returns: float32 scalars, means over the regions that count.

  Attributes:
    loss: mean of both directions.
    positive_similarity: to the match.
    negative_similarity: to the negatives.
  """

  loss: tf.Tensor
  positive_similarity: tf.Tensor
  negative_similarity: tf.Tensor


def _mean(values: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
  total = tf.reduce_sum(values * weight)
  return tf.math.divide_no_nan(total, tf.reduce_sum(weight))


def directions(
  regions: tf.Tensor, reconstructed: tf.Tensor, valid: tf.Tensor, **options
) -> list[Direction]:
  """Both directions of the local loss.

  A replica computes those of its own videos, against the regions of all; what comes of it
  is gathered. So memory and arithmetic are shared out, and the gradient is the whole one.

  Args:
    regions: `[B, 2, N, C]` of both views, of all replicas.
    reconstructed: `[B, 2, N, C]`; row v from the other view's context.
    valid: bool `[B, 2, N]`.
    **options: of `one_direction`.
  """
  return [
    _shared_direction(
      (regions[:, v], reconstructed[:, v], valid[:, v]),
      regions[:, 1 - v],
      valid[:, 1 - v],
      options,
    )
    for v in range(2)
  ]


def _shared_direction(
  asking: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
  others: tf.Tensor,
  usable: tf.Tensor,
  options,
) -> Direction:
  """One direction: this replica's rows, in chunks, then those of all."""
  regions, reconstructed, counts = asking

  def contrasted(first, own, rebuilt, others) -> Direction:
    counting = counts[first : first + tf.shape(own)[0]]
    return one_direction(own, rebuilt, others, counting, usable, **options, first=first)

  videos, count = (size or 0 for size in regions.shape[:2])
  return Direction(
    *gather.by_rows(
      contrasted, (regions, reconstructed), (others,), 4 * count * videos * count
    )
  )


def chance(clips: int, count: int, same_order: bool) -> float:
  """The local loss of regions that tell nothing, if all of them count.

  Args:
    clips: of the global batch.
    count: regions of a view.
    same_order: see `one_direction`.
  """
  return math.log(1 + (clips - 1) * count + (count - 1 if same_order else 0))


def local_loss(
  regions: tf.Tensor, reconstructed: tf.Tensor, valid: tf.Tensor, **options
) -> LocalLoss:
  """The local loss of a global batch, the mean of both directions.

  Regions that tell nothing score ln(1 + (B - 1) N): 9.01 for 1024 videos of 8 regions. A
  direction without a region that counts is 0.

  Args:
    regions: `[B, 2, N, C]` of both views.
    reconstructed: `[B, 2, N, C]`; row v from the other view's context.
    valid: bool `[B, 2, N]`.
    **options: of `one_direction`.

  Source: arXiv 2112.05181, equations 3 to 5.
  """
  means = [
    (
      _mean(d.loss, d.weight),
      _mean(d.positive, d.weight),
      _mean(d.negative, d.weight),
    )
    for d in directions(regions, reconstructed, valid, **options)
  ]
  return LocalLoss(*((a + b) / 2 for a, b in zip(*means, strict=True)))

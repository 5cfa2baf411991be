"""ConST-CL's local loss: a region, reconstructed from the other view, meets its match.

The global loss is CVRL's, `official.video.losses.info_nce`.
"""

from typing import NamedTuple

import tensorflow as tf

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
) -> Direction:
  """Contrasts the reconstructed regions of a view with the other view's.

  A region's positive is its match in the other view of its video; its negatives are that
  view's regions of all other videos, and of its own only under `same_order`. Gradients
  flow through all arguments. Invalid regions are neither asked for, nor matched, nor
  negatives.

  Args:
    regions: `[B, N, C]`, of the view that asks; what is matched.
    reconstructed: `[B, N, C]`, the same regions, reconstructed from the other view.
    others: `[B, N, C]`, of the other view.
    valid: bool `[B, N]`, of the regions.
    others_valid: bool `[B, N]`.
    temperature: divides the similarities.
    normalize: whether all vectors are brought to length 1 first.
    same_order: row i of both views is one object, so it is its match, and what else is in
      its video is a negative.
    reference_compatible: let invalid regions be matched and be negatives, as the Model
      Garden does.

  Source: arXiv 2112.05181, equations 3 and 4.
  """
  vectors = [tf.cast(x, tf.float32) for x in (regions, reconstructed, others)]
  if normalize:
    vectors = [tf.math.l2_normalize(x, -1) for x in vectors]
  regions, reconstructed, others = vectors
  usable = tf.ones_like(others_valid) if reference_compatible else others_valid
  batch, count = tf.unstack(tf.shape(others)[:2])
  if same_order:
    match = tf.broadcast_to(tf.range(count), [batch, count])
  else:
    match = match_regions(regions, others, usable)
  target = tf.gather(others, match, batch_dims=1)
  positive = tf.reduce_sum(reconstructed * target, -1)
  similarity = tf.einsum('bnc,dmc->bndm', reconstructed, others)
  negatives = _negatives(batch, count, same_order) & usable[None, None]
  # Region n of video b against its match, then against all regions of all videos; those
  # that are no negatives stay in their places, as shapes are static, and weigh nothing.
  logits = tf.where(negatives, similarity / temperature, _IMPOSSIBLE)
  shape = tf.shape(positive)
  flat = tf.reshape(logits, [shape[0], shape[1], -1])
  logits = tf.concat([positive[..., None] / temperature, flat], -1)
  # Without a usable region there is no match: `match_regions` then names the first.
  met = usable if same_order else tf.reduce_any(usable, -1, keepdims=True)
  weight = tf.cast(valid & met, tf.float32)
  loss = tf.reduce_logsumexp(logits, -1) - logits[..., 0]
  mean = _masked_mean(similarity, negatives)
  return Direction(loss * weight, weight, match, positive, mean)


def _negatives(batch: tf.Tensor, count: tf.Tensor, same_order: bool) -> tf.Tensor:
  """Which region of which video may be a negative: bool, broadcasts to `[B, N, B, N]`.

  Without an order nothing tells which regions of the own video show another object, so
  none of them is one; with an order all but the region itself are.
  """
  own_video = tf.eye(batch, dtype=tf.bool)[:, None, :, None]
  own = tf.eye(count, dtype=tf.bool)[None, :, None] if same_order else True
  return ~(own_video & own)


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

  Args:
    regions: `[B, 2, N, C]` of both views.
    reconstructed: `[B, 2, N, C]`; row v from the other view's context.
    valid: bool `[B, 2, N]`.
    **options: of `one_direction`.
  """
  return [
    one_direction(
      regions[:, v],
      reconstructed[:, v],
      regions[:, 1 - v],
      valid[:, v],
      valid[:, 1 - v],
      **options,
    )
    for v in range(2)
  ]


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

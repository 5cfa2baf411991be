"""InfoNCE over two views of every clip."""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from official.video.losses import gather

# Finite, so that probability zero times this logarithm stays zero in the entropy.
_SELF_LOGIT = -1e9


class InfoNCE(NamedTuple):
  """What `info_nce` returns: float32 scalars.

  Attributes:
    loss: mean cross entropy of view a's rows plus that of view b's.
    top1: share of the 2N rows whose most similar candidate is the clip's other view.
    entropy: mean entropy of the rows' distributions over candidates, in nats.
    positive_similarity: mean similarity of the two views of a clip.
    negative_similarity: mean similarity to all other candidates.
  """

  loss: tf.Tensor
  top1: tf.Tensor
  entropy: tf.Tensor
  positive_similarity: tf.Tensor
  negative_similarity: tf.Tensor


def info_nce(
  view_a: tf.Tensor,
  view_b: tf.Tensor,
  temperature: float = 0.1,
  normalize: bool = True,
) -> InfoNCE:
  """Contrasts each embedding with the 2N-1 others of both views.

  The loss is the sum of the two views' mean cross entropies, as CVRL defines it: twice
  the mean over all rows. Embeddings that tell nothing score 2 ln(2N-1), its chance
  level: 15.248 for N = 1024. Accuracy and entropy regard all 2N-1 candidates, in both
  directions, like the loss.

  Computed in float32 whatever the inputs' dtype; among replicas, each computes the rows of
  its own clips.

  Args:
    view_a: `[N, C]` embeddings of the first view, of the global batch.
    view_b: `[N, C]` embeddings of the second view; row i is the same clip as row i of
      view_a.
    temperature: divides the similarities.
    normalize: whether to L2-normalize the embeddings, so that similarity is the cosine.

  Returns:
    The loss and what it is judged by.

  Raises:
    ValueError: if the views' static shapes differ.

  Source: arXiv 2008.03800.
  """
  view_a, view_b = tf.cast(view_a, tf.float32), tf.cast(view_b, tf.float32)
  view_a.shape.assert_is_compatible_with(view_b.shape)
  rows = tf.concat([view_a, view_b], 0)
  if normalize:
    rows = tf.math.l2_normalize(rows, -1)
  clips = view_a.shape[0]
  halves = tf.split(rows, 2)
  told = functools.partial(_of_rows, temperature=temperature)
  per_clip = gather.by_rows(told, halves, (rows,), 2 * 4 * 2 * (clips or 0))
  means = [tf.reduce_mean(values) for values in per_clip]
  return InfoNCE(2.0 * means[0], *means[1:])


def _of_rows(
  first: int | tf.Tensor,
  of_a: tf.Tensor,
  of_b: tf.Tensor,
  rows: tf.Tensor,
  temperature: float,
) -> list[tf.Tensor]:
  """What some clips add to each field of `InfoNCE`: `[n, 2]`, of both views' rows.

  Args:
    first: number of the first of the clips.
    of_a: `[n, C]` embeddings of their first view.
    of_b: `[n, C]` of their second.
    rows: `[2N, C]` of the first and then of the second views of all clips.
    temperature: divides the similarities.
  """
  mine, count = tf.concat([of_a, of_b], 0), tf.shape(rows)[0]
  clips = first + tf.range(tf.shape(of_a)[0])
  own = tf.concat([clips, count // 2 + clips], 0)
  positive = tf.math.floormod(own + count // 2, count)
  similarity = tf.matmul(mine, rows, transpose_b=True)
  is_own = tf.range(count) == own[:, None]
  logits = tf.where(is_own, _SELF_LOGIT, similarity / temperature)
  loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=positive, logits=logits)
  hits = tf.cast(tf.argmax(logits, 1, output_type=tf.int32) == positive, tf.float32)
  log_probability = tf.nn.log_softmax(logits)
  entropy = -tf.reduce_sum(tf.exp(log_probability) * log_probability, 1)
  of_positive = tf.gather(similarity, positive, batch_dims=1)
  of_others = tf.reduce_sum(tf.where(is_own, 0.0, similarity), 1) - of_positive
  of_negatives = tf.math.divide_no_nan(of_others, tf.cast(count - 2, tf.float32))
  told = (loss, hits, entropy, of_positive, of_negatives)
  return [tf.transpose(tf.reshape(x, [2, -1])) for x in told]


def chance(clips: int) -> float:
  """The loss of embeddings that tell nothing, in a global batch of so many clips."""
  return 2 * math.log(max(1, 2 * clips - 1))


# What a task reports of it, in the order of `InfoNCE`.
SCALARS = (
  'contrastive_loss',
  'contrastive_top1',
  'contrastive_entropy',
  'positive_similarity',
  'negative_similarity',
)


def scalars(views: Sequence[tf.Tensor], temperature: float) -> dict[str, tf.Tensor]:
  """The results of `info_nce` by the names that tasks report.

  Args:
    views: `[N, C]` embeddings of each view, at least two. Of more, every pair is
      contrasted by itself, and each result is the mean over pairs; chance stays 2 ln(2N-1).
    temperature: divides the similarities.
  """
  pairs = [info_nce(*pair, temperature) for pair in itertools.combinations(views, 2)]
  means = [tf.add_n(list(values)) / len(pairs) for values in zip(*pairs, strict=True)]
  return dict(zip(SCALARS, means, strict=True))

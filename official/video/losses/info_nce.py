"""InfoNCE over two views of every clip."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

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

  Computed in float32 whatever the inputs' dtype.

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
  similarity = tf.matmul(rows, rows, transpose_b=True)
  count = rows.shape[0] or tf.shape(rows)[0]
  positive = tf.math.floormod(tf.range(count) + count // 2, count)
  logits = tf.linalg.set_diag(similarity / temperature, tf.fill([count], _SELF_LOGIT))
  return InfoNCE(
    2.0 * _mean_cross_entropy(logits, positive),
    _top1(logits, positive),
    _mean_entropy(logits),
    *_mean_similarities(similarity, positive),
  )


def _mean_cross_entropy(logits: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
  return tf.reduce_mean(
    tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=logits)
  )


def _top1(logits: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
  hits = tf.argmax(logits, 1, output_type=tf.int32) == target
  return tf.reduce_mean(tf.cast(hits, tf.float32))


def _mean_entropy(logits: tf.Tensor) -> tf.Tensor:
  log_probability = tf.nn.log_softmax(logits)
  return -tf.reduce_mean(tf.reduce_sum(tf.exp(log_probability) * log_probability, 1))


def _mean_similarities(
  similarity: tf.Tensor, positive: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  count = tf.cast(tf.shape(similarity)[0], tf.float32)
  of_positives = tf.reduce_sum(tf.gather(similarity, positive, batch_dims=1))
  others = tf.reduce_sum(similarity) - tf.linalg.trace(similarity) - of_positives
  of_negatives = tf.math.divide_no_nan(others, count * (count - 2.0))
  return of_positives / count, of_negatives


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

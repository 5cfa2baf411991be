"""G-ViLM's three losses: pure functions of the embeddings of the global batch.

Equation numbers are those of arXiv 2303.16341. All is computed in float32 or, given
float64, in that. Similarities are cosines.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from official.video import registry
from official.video.losses import gather

# Finite, so that a candidate that is left out has probability zero without a NaN.
_LEFT_OUT = -1e9


class Temporal(NamedTuple):
  """What `temporal_grouping` returns: scalars.

  Attributes:
    loss: of the assignment of each time step.
    accuracy: share of the time steps nearer to their own centre.
    margin: mean similarity to the own centre minus that to the other.
  """

  loss: tf.Tensor
  accuracy: tf.Tensor
  margin: tf.Tensor


class Contrast(NamedTuple):
  """What `paired_contrast` returns: scalars.

  Attributes:
    loss: the sum of both directions.
    row_loss: mean cross entropy of each row's own column.
    column_loss: mean cross entropy of each column's own row.
    top1: share of rows and columns that have the largest value in common.
  """

  loss: tf.Tensor
  row_loss: tf.Tensor
  column_loss: tf.Tensor
  top1: tf.Tensor


def _float(x: tf.Tensor) -> tf.Tensor:
  x = tf.convert_to_tensor(x)
  return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def _unit(x: tf.Tensor) -> tf.Tensor:
  return tf.math.l2_normalize(_float(x), -1)


def centre_similarities(features: tf.Tensor, foreground: tf.Tensor) -> tf.Tensor:
  """Cosines of each time step with its clip's background and foreground centre.

  Args:
    features: `[B, T, D]`.
    foreground: `[B, T]`, 1 where the clip shows its own video, 0 elsewhere; each clip
      has both.

  Returns:
    `[B, T, 2]`: background, foreground.
  """
  features = _float(features)
  mask = tf.cast(foreground, features.dtype)
  weights = tf.stack([1 - mask, mask], 1)
  centres = tf.matmul(weights, features) / tf.reduce_sum(weights, 2, keepdims=True)
  return tf.matmul(_unit(features), _unit(centres), transpose_b=True)


def assignment_probabilities(
  features: tf.Tensor, foreground: tf.Tensor, temperature: float
) -> tf.Tensor:
  """Equation 1: to which centre each time step belongs, `[B, T, 2]`."""
  return tf.nn.softmax(centre_similarities(features, foreground) / temperature)


def temporal_grouping(
  features: tf.Tensor,
  foreground: tf.Tensor,
  temperature: float = 0.1,
  form: str = 'mse',
) -> Temporal:
  """Equation 2: tells each time step of a blended clip to be foreground or background.

  Gradients flow through the centres too. With two orthogonal constant features the
  squared error is (1 / (1 + e^(1 / temperature)))^2.

  Args:
    features: `[B, T, D]`, of each time step of the blended clips.
    foreground: `[B, T]`, see `centre_similarities`.
    temperature: divides the similarities.
    form: 'mse', the mean squared error of both probabilities, or 'ce', the mean cross
      entropy.

  Raises:
    UserError: unknown form.
  """
  similarity = centre_similarities(features, foreground)
  target = tf.cast(foreground, similarity.dtype)
  target = tf.stack([1 - target, target], -1)
  loss = TEMPORAL_FORMS.find(form)(similarity / temperature, target)
  own = tf.reduce_sum(similarity * target, -1)
  other = tf.reduce_sum(similarity * (1 - target), -1)
  accuracy = tf.reduce_mean(tf.cast(own > other, similarity.dtype))
  return Temporal(loss, accuracy, tf.reduce_mean(own - other))


def _squared_error(logits: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
  return tf.reduce_mean(tf.square(tf.nn.softmax(logits) - target))


def _cross_entropy(logits: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
  return -tf.reduce_mean(tf.reduce_sum(target * tf.nn.log_softmax(logits), -1))


# Of each form, the loss of steps that are as near to both centres.
TEMPORAL_CHANCE = {'mse': 0.25, 'ce': math.log(2)}
TEMPORAL_FORMS: registry.Registry[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = (
  registry.Registry('losses.temporal_form', {'mse': _squared_error, 'ce': _cross_entropy})
)


def _soft(similarity: tf.Tensor, temperature: float) -> tf.Tensor:
  attention = tf.nn.softmax(similarity / temperature, 1)
  return tf.reduce_sum(attention * similarity, 1)


def _maximum(similarity: tf.Tensor, temperature: float) -> tf.Tensor:
  del temperature
  return tf.reduce_max(similarity, 1)


def _soft_to_hard(similarity: tf.Tensor, temperature: float) -> tf.Tensor:
  attention = tf.nn.softmax(similarity / temperature, 1)
  best = tf.argmax(similarity, 1)
  chosen = tf.one_hot(best, similarity.shape[1], axis=1, dtype=similarity.dtype)
  attention += tf.stop_gradient(chosen - attention)
  return tf.reduce_sum(attention * similarity, 1)


# How a noun's similarities to the groups become one number.
ALIGNMENTS: registry.Registry[Callable[[tf.Tensor, float], tf.Tensor]] = (
  registry.Registry(
    'losses.grounding_similarity',
    {'softmax': _soft, 'max': _maximum, 'soft_to_hard_st': _soft_to_hard},
  )
)


def grounding_similarity(
  groups: tf.Tensor,
  nouns: tf.Tensor,
  valid: tf.Tensor | None = None,
  temperature: float = 0.07,
  alignment: str = 'softmax',
) -> tf.Tensor:
  """Equation 3: how well the groups of video i cover the nouns of caption j.

  Each noun attends over the groups, so it may bind to few of them, and a group that no
  noun names costs nothing; a caption's nouns count equally. Each replica computes the rows
  of its own videos, and all get the whole.

  Args:
    groups: `[B, M, D]` group embeddings.
    nouns: `[C, K, D]` noun embeddings.
    valid: `[C, K]`, which nouns there are; all by default. Of a caption without any the
      similarity is 0.
    temperature: of the attention over groups.
    alignment: a key of `ALIGNMENTS`; 'max' takes each noun's best group, and
      'soft_to_hard_st' does so with the gradient of the softmax.

  Returns:
    `[B, C]` in [-1, 1].

  Raises:
    UserError: unknown alignment.
  """
  align = ALIGNMENTS.find(alignment)

  def covered(_, groups, nouns) -> tuple[tf.Tensor]:
    # [b, M, C, K]
    similarity = tf.einsum('bmd,ckd->bmck', groups, nouns)
    per_noun = align(similarity, temperature)
    if valid is None:
      return (tf.reduce_mean(per_noun, -1),)
    weight = tf.cast(valid, per_noun.dtype)
    total = tf.reduce_sum(per_noun * weight, -1)
    return (tf.math.divide_no_nan(total, tf.reduce_sum(weight, -1)),)

  groups, nouns = _unit(groups), _unit(nouns)
  sizes = [size or 0 for size in (groups.shape[1], *nouns.shape[:2])]
  row_bytes = groups.dtype.size * math.prod(sizes)
  return gather.by_rows(covered, (groups,), (nouns,), row_bytes)[0]


def paired_chance(pairs: int) -> float:
  """`paired_contrast` of similarities that are all the same."""
  return 2 * math.log(max(1, pairs))


def paired_contrast(
  similarity: tf.Tensor,
  temperature: tf.Tensor | float,
  valid: tf.Tensor | None = None,
  left_out: tf.Tensor | None = None,
) -> Contrast:
  """InfoNCE both ways: row i belongs to column i. Chance is 2 ln B.

  Equations 4 to 6 of grounding similarities, equation 7 of those of whole videos and
  captions.

  Args:
    similarity: `[B, B]`.
    temperature: divides it.
    valid: bool `[B]`, which pairs take part; the others are neither queries nor
      candidates.
    left_out: bool `[B, B]`, candidates that are not counted as wrong; the diagonal is
      ignored.
  """
  logits = _float(similarity)
  logits = logits / tf.cast(temperature, logits.dtype)
  count = tf.shape(logits)[0]
  kept = tf.ones([count], tf.bool) if valid is None else tf.cast(valid, tf.bool)
  own = tf.eye(count, dtype=tf.bool)
  out = ~(kept[:, None] & kept[None]) & ~own
  if left_out is not None:
    out |= left_out & ~own
  logits = tf.where(out, tf.cast(_LEFT_OUT, logits.dtype), logits)
  weight = tf.cast(kept, logits.dtype)
  both = [_directed(x, weight) for x in (logits, tf.transpose(logits))]
  (rows, row_hits), (columns, column_hits) = both
  return Contrast(rows + columns, rows, columns, (row_hits + column_hits) / 2)


def _directed(logits: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Cross entropy and accuracy of the diagonal, means over the rows of weight 1."""
  own = tf.linalg.diag_part(logits)
  loss = tf.reduce_logsumexp(logits, 1) - own
  best = tf.argmax(logits, 1, output_type=tf.int32)
  hits = tf.cast(best == tf.range(tf.shape(logits)[0]), logits.dtype)
  total = tf.reduce_sum(weight)
  return (
    tf.math.divide_no_nan(tf.reduce_sum(loss * weight), total),
    tf.math.divide_no_nan(tf.reduce_sum(hits * weight), total),
  )


def shares_a_noun(ids: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
  """Which captions have a noun phrase in common, bool `[B, B]`.

  Args:
    ids: int64 `[B, K]`, equal for equal phrases.
    valid: `[B, K]`.
  """
  valid = tf.cast(valid, tf.bool)
  same = ids[:, :, None, None] == ids[None, None]
  same &= valid[:, :, None, None] & valid[None, None]
  return tf.reduce_any(same, [1, 3])

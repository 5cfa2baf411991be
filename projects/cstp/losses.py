"""CSTP's joint objective: BYOL and four classifications, sample by sample."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from official.video.losses import byol

# Pretext tasks in the order of the published weights. Those of a pair have one label a
# clip pair; the others one a view, and their terms are summed over both.
PAIR_TASKS = ('spatial', 'temporal')
VIEW_TASKS = ('playback', 'rotation')
TASKS = (*PAIR_TASKS, *VIEW_TASKS)
WEIGHTS = (0.1, 1.0, 1.0, 1.0, 1.0)


def label_name(task: str) -> str:
  """Under which name a batch holds a task's labels."""
  return f'{task}_label'


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
  """Cross entropy of `[..., C]` logits and `[...]` class ids, float32 `[...]`."""
  return tf.nn.sparse_softmax_cross_entropy_with_logits(
    labels=labels, logits=tf.cast(logits, tf.float32)
  )


def per_sample(
  outputs: Mapping[str, tf.Tensor], labels: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
  """The five terms and the four tasks' hits of every sample.

  Args:
    outputs: 'prediction' and 'target' `[B, 2, D]`; logits 'spatial' and 'temporal'
      `[B, 5]`, 'playback' and 'rotation' `[B, 2, C]`.
    labels: under `label_name` of each task int `[B]`, of rotation `[B, 2]`.

  Returns:
    float32 `[B]`: 'byol', and for each task its cross entropy '<task>', summed over the
    views, and '<task>_accuracy', their mean.
  """
  terms = {'byol': byol.symmetric_loss(outputs['prediction'], outputs['target'])}
  for task in TASKS:
    logits, label = _by_prediction(task, outputs, labels)
    terms[task] = tf.reduce_sum(cross_entropy(logits, label), 1)
    terms[f'{task}_accuracy'] = tf.reduce_mean(_hits(logits, label), 1)
  return terms


def _by_prediction(
  task: str, outputs: Mapping[str, tf.Tensor], labels: Mapping[str, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
  """Logits `[B, P, C]` and labels int64 `[B, P]` of a sample's one or two predictions."""
  logits, label = outputs[task], tf.cast(labels[label_name(task)], tf.int64)
  if task in PAIR_TASKS:
    logits = logits[:, None]
  if label.shape.rank == 1:
    label = label[:, None]
  return logits, tf.broadcast_to(label, tf.shape(logits)[:2])


def _hits(logits: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
  return tf.cast(tf.argmax(logits, -1) == label, tf.float32)


def hits(
  outputs: Mapping[str, tf.Tensor], labels: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
  """'<task>_hit' float32 and '<task>_true_class' int64 of every prediction, `[B, P]`.

  Arguments as of `per_sample`.
  """
  found: dict[str, tf.Tensor] = {}
  for task in TASKS:
    logits, label = _by_prediction(task, outputs, labels)
    found |= {f'{task}_hit': _hits(logits, label), f'{task}_true_class': label}
  return found


def balanced_accuracy(hits: np.ndarray, classes: np.ndarray) -> float:
  """The mean over the classes that occur of the share of hits."""
  return float(np.mean([hits[classes == c].mean() for c in np.unique(classes)]))


def chance(classes: Mapping[str, int], weights: Sequence[float] = WEIGHTS) -> float:
  """`total` of orthogonal vectors, and of classes that are all as likely.

  Args:
    classes: of each of `TASKS`.
    weights: see there.
  """
  terms = {'byol': 4.0} | {
    task: math.log(classes[task]) * (2 if task in VIEW_TASKS else 1) for task in TASKS
  }
  shares = dict(zip(('byol', *TASKS), weights, strict=True))
  return sum(share * terms[name] for name, share in shares.items())


def total(
  terms: Mapping[str, tf.Tensor], weights: Sequence[float] = WEIGHTS
) -> tf.Tensor:
  """The weighted sum of 'byol' and the tasks' terms; a weight of 0 leaves a term out.

  Args:
    terms: of `per_sample`, or means of them.
    weights: of BYOL and of `TASKS`, in their order.
  """
  named = zip(('byol', *TASKS), weights, strict=True)
  weighted = [weight * terms[name] for name, weight in named if weight]
  return tf.add_n(weighted) if weighted else tf.zeros_like(terms['byol'])

"""The protocols on features: nearest neighbours, retrieval, linear probes, classifier."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from official.video.errors import UserError
from official.video.evaluation import (
  baselines,
  blocks,
  classification,
  coverage,
  knn,
  linear,
  multi_label,
  retrieval,
)

# In a protocol's place of the scores: why it has none.
NOT_SCORED = 'not_scored'
# Beside a probe's scores where it did not come to its minimum: see `linear.Fit`.
GRADIENT = 'gradient'
# Of a classifier: whether a label is among so many of the highest scores.
_TOP = (1, 5)
# Seconds between lines about a fit that takes long.
_TELL_EVERY = 60.0
# Rows of unit length that differ by less are one.
_ALIKE = 1e-6


def score(protocols: Sequence[str], train, test, table, train_table) -> dict[str, Any]:
  """Scores of encoded training and test data by protocol.

  Where clips have several labels each, kNN and linear probes score each class by itself,
  a neighbour is a hit if it shares a label, and scores are mean average precision and the
  shares of clips that have their likeliest class, or one of the five likeliest.

  Args:
    protocols: names of them, see `scoring`.
    train: `extract.Encoded` training data.
    test: `extract.Encoded` test data.
    table: index of the test data.
    train_table: index of the training data.

  Raises:
    UserError: a clip has no label, or no classifier was trained.
  """
  for encoded, records in ((train, train_table), (test, table)):
    # Of several labels a clip may have none.
    if encoded.labels.ndim == 1 and len(encoded.labels) and encoded.labels.min() < 0:
      raise UserError(
        f'{records.files[0]}: holds clips without a label; convert the data with labels'
      )
  scores = _covered(test, table) | {'gallery': _covered(train, train_table)}
  classes = max(len(table.label_names), *(_classes(e.labels) for e in (train, test)))
  targets = _targets(train.labels, classes), _targets(test.labels, classes)
  for name, encoded in (('training', train), ('test', test)):
    if told := told_nothing(encoded.feature):
      print(f'note: {name} features: {told}', file=sys.stderr)
  if targets[1].ndim == 2:
    scores |= {'classes': int(targets[1].any(0).sum()), 'classes_expected': classes}
  scores |= _of_neighbors(protocols, train, test, *targets, classes)
  if 'linear' in protocols:
    scores['linear'] = _linear(train, test, *targets)
  if 'linear_sgd' in protocols:
    fit = linear.train(train.feature, targets[0], classes, watch=_telling('linear_sgd'))
    scores['linear_sgd'] = _of_scores(targets[1], fit.probabilities(test.feature))
  if 'classify' in protocols:
    result = classification.evaluate(predictions(test, table), table.names())
    scores['classify'] = {
      **{f'top{k}': value for k, value in result.topk.items()},
      'mean_class_accuracy': result.mean_class_accuracy,
    }
  return scores


def told_nothing(features: np.ndarray) -> str:
  """What is to be said of features that tell no clip from another; '' where they do.

  Args:
    features: [N, D], in memory or memory-mapped.
  """
  zeros, alike, first = 0, len(features) > 1, None
  for rows in blocks.ranges(len(features)):
    block = blocks.unit(features, rows)
    zeros += int(np.count_nonzero(~block.any(axis=1)))
    first = block[:1] if first is None else first
    alike = alike and float(np.abs(block - first).max()) < _ALIKE
  if alike:
    what = 'all are zero' if zeros else 'all rows are one'
    return (
      f'{what}, so neighbours are in the order of the rows and no score means a thing'
    )
  return (
    f'{zeros} of {len(features)} rows are zero, and alike to nothing' if zeros else ''
  )


def _classes(labels: np.ndarray) -> int:
  """How many classes labels tell of."""
  if labels.dtype == bool:
    return labels.shape[1]
  return int(labels.max(initial=0)) + 1


def _targets(labels: np.ndarray, classes: int) -> np.ndarray:
  """[N] class ids as they are; of several labels [N, C] bool, which classes each has."""
  if labels.ndim == 1 or labels.dtype == bool:
    return labels
  return multi_label.multi_hot(labels, classes)


def _of_scores(targets: np.ndarray, scores: np.ndarray) -> dict[str, float]:
  """What scores [Q, C] of classes are worth."""
  if targets.ndim == 2:
    found = multi_label.evaluate(targets, scores)
    tops = {f'top{k}': multi_label.hits(targets, scores, k) for k in _tops(len(scores.T))}
    return {'map': float(found['map']), 'accuracy': tops.pop('top1'), **tops}
  return _of_ranks(classification.label_ranks(scores, targets), scores.shape[1])


def _of_ranks(ranks: np.ndarray, classes: int) -> dict[str, float]:
  """Shares of the labels [Q] whose place among the classes is among the first."""
  return {f'top{k}': float(np.mean(ranks < k)) for k in _tops(classes)}


def _tops(classes: int) -> list[int]:
  """Those of `_TOP` that not every clip reaches."""
  return [k for k in _TOP if k == 1 or k < classes]


def _telling(protocol: str) -> linear.Watch:
  """Tells how far a fit is, now and then."""
  last = time.monotonic()

  def tell(text: str) -> None:
    nonlocal last
    if time.monotonic() - last >= _TELL_EVERY:
      last = time.monotonic()
      print(f'{protocol}: {text}', file=sys.stderr)

  return tell


def _of_neighbors(
  protocols: Sequence[str],
  train,
  test,
  train_targets: np.ndarray,
  test_targets: np.ndarray,
  classes: int,
) -> dict[str, Any]:
  """The scores of 'knn' and 'retrieval', for which neighbours are found once."""
  # Where all of the gallery are looked at, every clip finds one of its class.
  ks = [k for k in retrieval.KS if k == 1 or k < len(train.labels)]
  most = {'knn': knn.NEIGHBORS, 'retrieval': max(ks)}
  if not (wanted := [most[name] for name in protocols if name in most]):
    return {}
  several = test_targets.ndim == 2
  ranks = np.zeros(len(test.labels), np.int64)
  votes = np.zeros((len(test.labels) if several else 0, classes), np.float32)
  recalled = np.zeros((len(test.labels), len(ks)), bool)
  for some, rows, near in knn.neighbors(test.feature, train.feature, max(wanted)):
    if 'knn' in protocols:
      voters = slice(knn.NEIGHBORS)
      scored = knn.vote(train_targets, rows[:, voters], near[:, voters], classes)
      if several:
        votes[some] = scored
      else:
        ranks[some] = classification.label_ranks(scored, test_targets[some])
    if 'retrieval' in protocols:
      hits = retrieval.hits(test_targets[some], train_targets, rows, near)
      for column, k in enumerate(ks):
        recalled[some, column] = hits[:, :k].any(axis=1)
  scores: dict[str, Any] = {}
  if 'knn' in protocols:
    scores['knn'] = (
      _of_scores(test_targets, votes) if several else _of_ranks(ranks, classes)
    )
  if 'retrieval' in protocols:
    shares = zip(ks, recalled.mean(axis=0), strict=True)
    scores['retrieval'] = {f'R@{k}': float(share) for k, share in shares}
  return scores


def _covered(encoded, table) -> dict[str, Any]:
  """How many records and sources of a data set were encoded, of how many."""
  found = {'evaluated': len(encoded.labels), 'expected': encoded.expected}
  return coverage.with_sources(found, table.skipped)


def _linear(
  train, test, train_targets: np.ndarray, test_targets: np.ndarray
) -> dict[str, Any]:
  """The linear probe's score, or why these clips give it nothing to choose among."""
  sizes = (
    np.bincount(train_targets) if train_targets.ndim == 1 else train_targets.sum(axis=0)
  )
  if np.count_nonzero(sizes) < 2:
    return {NOT_SCORED: '1 class'}
  if sizes.max() < 2:
    return {NOT_SCORED: 'no class has 2 training clips'}
  probe = baselines.linear_probe(
    *(train.feature, train_targets, test.feature, test_targets),
    watch=_telling('linear'),
  )
  found: dict[str, Any] = _of_scores(test_targets, probe.probabilities)
  return found if probe.converged else found | {GRADIENT: probe.gradient}


def predictions(test, table):
  """The classifier's predictions, named by record.

  Raises:
    UserError: the model has no classifier.
  """
  scores = probabilities(test)
  if scores is None:
    raise UserError(
      'protocol classify: the model has no trained classifier; score a classification '
      "experiment's checkpoint or leave the protocol out"
    )
  names = table.names()
  return classification.Predictions(
    tuple(names[row] for row in test.records),
    test.labels,
    scores,
    tuple(table.label_names),
  )


def probabilities(test) -> np.ndarray | None:
  """[N, C] class probabilities of records; None where the model has no classifier."""
  return class_probabilities(test.outputs)


def class_probabilities(outputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
  """[N, C] class probabilities, given means over views; None without a classifier."""
  if 'log_probability' in outputs:
    return classification.softmax(outputs['log_probability'])
  return outputs.get('probability')

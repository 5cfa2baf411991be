"""The protocols on features: nearest neighbours, retrieval, linear probe, classifier."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from official.video.errors import UserError
from official.video.evaluation import (
  baselines,
  classification,
  coverage,
  knn,
  retrieval,
)

# In a protocol's place of the scores: why it has none.
NOT_SCORED = 'not_scored'
FEATURES = ('knn', 'retrieval', 'linear', 'classify')


def score(protocols: Sequence[str], train, test, table, train_table) -> dict[str, Any]:
  """Scores of encoded training and test data by protocol.

  Args:
    protocols: names out of `PROTOCOLS`.
    train: `extract.Encoded` training data.
    test: `extract.Encoded` test data.
    table: index of the test data.
    train_table: index of the training data.

  Raises:
    UserError: a clip has no label, or no classifier was trained.
  """
  for encoded, records in ((train, train_table), (test, table)):
    if len(encoded.labels) and encoded.labels.min() < 0:
      raise UserError(
        f'{records.files[0]}: holds clips without a label; convert the data with labels'
      )
  scores = _covered(test, table) | {'gallery': _covered(train, train_table)}
  classes = len(table.label_names) or int(max(train.labels.max(), test.labels.max())) + 1
  if 'knn' in protocols:
    votes = knn.knn_predict(train.feature, train.labels, test.feature, classes)
    scores['knn'] = {'top1': float(np.mean(votes.argmax(1) == test.labels))}
  if 'retrieval' in protocols:
    recalls = retrieval.class_retrieval(
      test.feature, test.labels, train.feature, train.labels
    )
    scores['retrieval'] = {f'R@{k}': value for k, value in recalls.items()}
  if 'linear' in protocols:
    scores['linear'] = _linear(train, test)
  if 'classify' in protocols:
    result = classification.evaluate(predictions(test, table), table.names())
    scores['classify'] = {
      'top1': result.top1,
      'mean_class_accuracy': result.mean_class_accuracy,
    }
  return scores


def _covered(encoded, table) -> dict[str, Any]:
  """How many records and sources of a data set were encoded, of how many."""
  found = {'evaluated': len(encoded.labels), 'expected': encoded.expected}
  return coverage.with_sources(found, table.skipped)


def _linear(train, test) -> dict[str, Any]:
  """The linear probe's score, or why these clips give it nothing to choose among."""
  sizes = np.unique(train.labels, return_counts=True)[1]
  if len(sizes) < 2:
    return {NOT_SCORED: '1 class'}
  if sizes.max() < 2:
    return {NOT_SCORED: 'no class has 2 training clips'}
  probe = baselines.linear_probe(train.feature, train.labels, test.feature, test.labels)
  return {'top1': probe.top1}


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

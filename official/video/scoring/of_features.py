"""Scores an encoder by its features of both splits, whatever it was trained for."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from official.video import files
from official.video.errors import UserError
from official.video.evaluation import coverage, encoding, extract, protocols
from official.video.scoring import OF_FEATURES
from official.video.serving import encoders

# What of the training data tells which videos make the gallery; the rest, how views are
# taken, is the test's.
_GALLERY_FIELDS = (
  'input_path',
  'tfds_name',
  'tfds_split',
  'tfds_data_dir',
  'label_fraction',
)


def run(
  params,
  task,
  names: Sequence[str],
  encoder_of: Callable[[bool], encoding.Encoder],
  folder: str,
) -> dict[str, Any]:
  """Scores an encoder, and prints and writes what came of it.

  Args:
    params: resolved experiment.
    task: of it.
    names: of `OF_FEATURES`.
    encoder_of: makes the encoder, see `serving.encoders`, once the data was found; it is
      told whether the classifier is scored.
    folder: where scores and predictions are written; nowhere if empty.

  Returns:
    Scores by protocol.

  Raises:
    UserError: the data does not go with the protocols.
  """
  if task.multi_label:
    raise UserError(
      f'--protocols={",".join(names)} with task.multi_label: they score one label a clip; '
      'use --protocols=task, or set task.multi_label to false for those of the features by '
      'the first label'
    )
  needs_gallery = set(names) != {'classify'}
  task.check_data(False)
  if needs_gallery:
    task.check_gallery()
  encoder = encoders.averaging(encoder_of('classify' in names), task.average)
  test_config = extract.test_config(params.task.validation_data)
  fields = {name: getattr(params.task.train_data, name) for name in _GALLERY_FIELDS}
  train_config = dataclasses.replace(test_config, **fields)
  test = extract.encode(test_config, task.validation_index, encoder, description='test')
  train, train_table = test, task.validation_index
  if needs_gallery:
    train_table = task.train_index
    train = extract.encode(train_config, train_table, encoder, description='gallery')
  scores = protocols.score(names, train, test, task.validation_index, train_table)
  report(scores)
  if folder:
    save(scores, test, task.validation_index, folder)
  return scores


def report(scores: Mapping[str, Any]) -> None:
  """Prints one line a protocol."""
  for protocol in OF_FEATURES:
    if protocol in scores:
      values = '  '.join(
        f'{name} {100 * v:.1f} %' if name != protocols.NOT_SCORED else f'not scored, {v}'
        for name, v in scores[protocol].items()
      )
      print(f'{protocol:10s} {values}')
  for line in coverage.lines(scores):
    print(line)


def save(scores: Mapping[str, Any], test, table, folder: str) -> None:
  """Writes scores.json and, from a classifier, predictions.npz."""
  with files.storage_errors(folder):
    os.makedirs(folder, exist_ok=True)
    coverage.write(scores, folder)
    if protocols.probabilities(test) is not None:
      path = os.path.join(folder, 'predictions.npz')
      protocols.predictions(test, table).save(path)

"""The page with plots to hover over and to zoom, of five megabytes: `demo --interactive`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from official.video.demonstration import common, conclusion
from official.video.evaluation import classification
from official.video.report import html, plots

NAME = 'interactive.html'


def panels(folder: str, batch: int):
  """Curves of the pretraining run in a demo's folder, on batches of so many videos."""
  from official.video.report import curves as event_curves
  from official.video.report import plots

  parts = [os.path.join(folder, 'pretrain', part) for part in ('train', 'validation')]
  train, validation = (
    event_curves.read_scalars(part) if os.path.isdir(part) else {} for part in parts
  )

  def curves(tag: str):
    both = {'training': train.get(tag), 'validation': validation.get(tag)}
    return {name: curve for name, curve in both.items() if curve is not None}

  candidates = [
    plots.Panel(
      'Contrastive loss',
      curves('loss/contrastive'),
      {'chance': 2 * np.log(2 * batch - 1)},
    ),
    plots.Panel(
      'Contrastive top-1', curves('pretext/top1'), {'chance': 1 / (2 * batch - 1)}
    ),
    plots.Panel('Online kNN accuracy', curves('probe/knn_accuracy')),
    plots.Panel('Effective rank of the features', curves('collapse/effective_rank')),
    plots.Panel('Learning rate', curves('optimizer/learning_rate')),
  ]
  return [panel for panel in candidates if panel.curves]


def labelled(
  options: common.Options,
  params: Any,
  method: Any,
  rows: Mapping[str, conclusion.Row],
  names: Sequence[str],
  facts: Mapping[str, object],
) -> None:
  """Writes it, of videos with labels.

  Args:
    options: of the demo.
    params: the pretraining experiment.
    method: `probes.Probed` of its encoder.
    rows: of the score table.
    names: of the classes.
    facts: of what was run.
  """
  labels, predicted = method.test.labels, method.probe.probabilities.argmax(1)
  matrix = classification.confusion_matrix(labels, predicted, len(names))
  enough = len(labels) >= plots.LEAST_MAPPED
  html.write_report(
    os.path.join(options.output_dir, NAME),
    html.Report(
      title='Self-supervised video features',
      scores=[
        html.Score(name, 100 * row.value, row.note, highlight=name == conclusion.METHOD)
        for name, row in rows.items()
      ],
      panels=panels(options.output_dir, params.task.train_data.global_batch_size),
      confusion=plots.Confusion(matrix, names),
      embedding_map=plots.embedding_map(method.test.feature, labels, names)
      if enough
      else None,
      facts=facts,
    ),
    interactive=True,
  )


def unlabelled(
  options: common.Options,
  params: Any,
  features: np.ndarray,
  names: Sequence[str],
  folders: Sequence[str],
  facts: Mapping[str, object],
) -> None:
  """Writes it, of videos without labels.

  Args:
    options: of the demo.
    params: the pretraining experiment.
    features: [N, D].
    names: of the videos.
    folders: that they lie in.
    facts: of what was run.
  """
  kinds = sorted(set(folders))
  ids = np.array([kinds.index(name) for name in folders])
  enough = len(names) >= plots.LEAST_MAPPED
  html.write_report(
    os.path.join(options.output_dir, NAME),
    html.Report(
      title='What is like what',
      panels=panels(options.output_dir, params.task.train_data.global_batch_size),
      embedding_map=plots.embedding_map(features, ids, kinds, names, colored_by='folder')
      if enough
      else None,
      facts=facts,
    ),
    interactive=True,
  )

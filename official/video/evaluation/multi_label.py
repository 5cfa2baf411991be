"""Scores of clips that have several labels each: average precision by class."""

import dataclasses
import io
import os
from collections.abc import Mapping, Sequence

import numpy as np

from official.video import files
from official.video.errors import UserError
from official.video.evaluation import classification, knn


def multi_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
  """[N, C] bool of [N, L] class ids, below 0 where there is none."""
  rows, places = np.nonzero(labels >= 0)
  targets = np.zeros((len(labels), num_classes), bool)
  targets[rows, labels[rows, places]] = True
  return targets


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
  """Mean over the positives of the precision among the samples that score as high.

  That is the area under the steps of precision over recall, without interpolation; equal
  scores count as one step, so their order does not matter.

  Args:
    scores: [N] of one class.
    positive: [N] bool.

  Returns:
    NaN where nothing is positive.
  """
  order = np.argsort(-scores, kind='stable')
  hits = np.cumsum(positive[order])
  if not len(hits) or not hits[-1]:
    return float('nan')
  ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
  gained = np.diff(hits[ends], prepend=0)
  return float(np.sum(gained * hits[ends] / (ends + 1)) / hits[-1])


@dataclasses.dataclass(frozen=True)
class Predictions:
  """Class scores of named clips, one row a clip.

  Attributes:
    names: N names.
    targets: [N, C] bool, which classes a clip has.
    scores: [N, C] probabilities, each class by itself.
    class_names: C names, or empty.
  """

  names: tuple[str, ...]
  targets: np.ndarray
  scores: np.ndarray
  class_names: tuple[str, ...] = ()

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes an .npz file (arrays names, targets, scores, class_names), atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(
      buffer,
      names=np.array(self.names, str),
      targets=self.targets,
      scores=self.scores,
      class_names=np.array(self.class_names, str),
    )
    files.write_atomically(path, buffer.getvalue())


def average_views(
  rows: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, average: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Averages the probabilities, or the logits, of all views of a clip.

  Args:
    rows: [V] which clip a view is of.
    labels: [V, L] class ids, below 0 where there is none; the same for all its views.
    probabilities: [V, C], each class by itself.
    average: of `classification.AVERAGES`.

  Returns:
    [N] rows ascending, [N, L] labels, [N, C] float64 probabilities.
  """
  clips, first, of = np.unique(rows, return_index=True, return_inverse=True)
  values = probabilities.astype(np.float64)
  if average == 'logit':
    logs = classification.log_probabilities(probabilities)
    values = logs - classification.log_probabilities(1 - probabilities)
  total = np.zeros((len(clips), values.shape[1]))
  np.add.at(total, of, values)
  means = total / np.bincount(of)[:, None]
  return clips, labels[first], 1 / (1 + np.exp(-means)) if average == 'logit' else means


def evaluate(targets: np.ndarray, scores: np.ndarray) -> dict[str, float | int]:
  """Mean average precision and what goes with it.

  Args:
    targets: [N, C] bool.
    scores: [N, C] probabilities.

  Returns:
    'map', the mean over the classes that a clip has, with 'classes', how many those are,
    of 'classes_expected'; 'accuracy', the share of the labelled clips whose likeliest
    class is one of theirs (hit at 1); 'cross_entropy', the mean over clips and classes.

  Raises:
    UserError: no clip has a label.
  """
  if not targets.any():
    raise UserError('none of the scored clips has a label; convert the data with labels')
  precisions = [average_precision(s, t) for s, t in zip(scores.T, targets.T, strict=True)]
  right = np.where(targets, scores, 1 - scores)
  return {
    'map': float(np.nanmean(precisions)),
    'classes': int(np.isfinite(precisions).sum()),
    'classes_expected': targets.shape[1],
    'accuracy': hits(targets, scores, 1),
    'cross_entropy': float(-np.log(np.maximum(right, 1e-12)).mean()),
  }


def hits(targets: np.ndarray, scores: np.ndarray, k: int) -> float:
  """Share of the labelled clips that have one of their k likeliest classes (hit at k).

  Args:
    targets: [N, C] bool, some of them true.
    scores: [N, C]; of equal ones the lower class counts as likelier.
    k: 1 to C.
  """
  found = [
    np.take_along_axis(targets[some], knn.largest(scores[some], k), 1).any(1)
    for some in knn.chunks(len(scores), scores.shape[1])
  ]
  return float(np.concatenate(found)[targets.any(1)].mean())


def named(
  names: Sequence[str],
  outputs: Mapping[str, np.ndarray],
  average: str,
  class_names: Sequence[str] = (),
) -> Predictions:
  """The predictions of a validation's outputs.

  Args:
    names: of all records.
    outputs: 'record' [V], 'labels' [V, L] and 'probability' [V, C] of its views.
    average: see `average_views`.
    class_names: by class id, or none.
  """
  rows, labels, scores = average_views(
    outputs['record'], outputs['labels'], outputs['probability'], average
  )
  targets = multi_hot(labels, scores.shape[1])
  return Predictions(
    tuple(names[row] for row in rows), targets, scores, tuple(class_names)
  )

"""Temporal action localization: segments, soft suppression, and ActivityNet's mAP."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence

import numpy as np

from official.video import files
from official.video.errors import UserError

TIOU_THRESHOLDS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2))


@dataclasses.dataclass(frozen=True)
class Segments:
  """Labelled spans of videos; predictions have scores too.

  Attributes:
    video: [N] names.
    label: [N] class names.
    span: [N, 2] float64, first and last second.
    score: [N] float64; 1 for annotations.
  """

  video: np.ndarray
  label: np.ndarray
  span: np.ndarray
  score: np.ndarray

  @classmethod
  def of(cls, rows: Sequence[tuple[str, str, float, float, float]]) -> 'Segments':
    """From (video, label, start, end, score) rows."""
    video, label, start, end, score = zip(*rows, strict=True) if rows else ((),) * 5
    return cls(
      np.array(video, dtype=object),
      np.array(label, dtype=object),
      np.array([start, end], np.float64).T.reshape(-1, 2),
      np.array(score, np.float64),
    )

  def __len__(self) -> int:
    """How many there are."""
    return len(self.score)


def temporal_iou(span: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Intersection over union of one span with others.

  Args:
    span: [2] start and end.
    others: [N, 2].

  Returns:
    [N] in [0, 1].
  """
  shared = np.minimum(span[1], others[:, 1]) - np.maximum(span[0], others[:, 0])
  shared = np.maximum(shared, 0)
  union = (span[1] - span[0]) + (others[:, 1] - others[:, 0]) - shared
  return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def soft_nms(
  spans: np.ndarray,
  scores: np.ndarray,
  sigma: float = 0.5,
  keep: int = 200,
  threshold: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
  """Gaussian soft non-maximum suppression.

  The best span is taken, the scores of all others fall by exp(-tIoU^2 / sigma), and so
  on (arXiv 1704.04503).

  Args:
    spans: [N, 2] start and end.
    scores: [N].
    sigma: width of the suppression.
    keep: how many spans are returned at most.
    threshold: spans whose score falls below it are not returned.

  Returns:
    Rows [K] of the spans that are kept, best first, and their scores [K].
  """
  left = np.array(scores, np.float64)
  rows, values = [], []
  for _ in range(min(keep, len(left))):
    best = int(left.argmax())
    if left[best] < threshold or left[best] == -np.inf:
      break
    rows.append(best)
    values.append(left[best])
    left *= np.exp(-np.square(temporal_iou(spans[best], spans)) / sigma)
    left[rows] = -np.inf
  return np.array(rows, np.int64), np.array(values, np.float64)


def _average_precision(hits: np.ndarray, positives: int) -> float:
  """Area under the monotone envelope of precision over recall; hits by falling score."""
  true = np.cumsum(hits)
  precision = true / np.arange(1, len(hits) + 1)
  recall = np.concatenate([[0], true / positives, [1]])
  precision = np.concatenate([[0], precision, [0]])
  envelope = np.maximum.accumulate(precision[::-1])[::-1]
  steps = np.flatnonzero(recall[1:] != recall[:-1])
  return float(((recall[steps + 1] - recall[steps]) * envelope[steps + 1]).sum())


def _class_precision(
  truth: Segments, predicted: Segments, thresholds: Sequence[float]
) -> np.ndarray:
  """Average precision of one class at each tIoU."""
  order = np.argsort(-predicted.score, kind='stable')
  hits = np.zeros((len(thresholds), len(predicted)), bool)
  taken = np.zeros((len(thresholds), len(truth)), bool)
  rows_of = {name: np.flatnonzero(truth.video == name) for name in set(truth.video)}
  for place, number in enumerate(order):
    rows = rows_of.get(predicted.video[number])
    if rows is None:
      continue
    overlap = temporal_iou(predicted.span[number], truth.span[rows])
    nearest = np.argsort(-overlap, kind='stable')
    for level, threshold in enumerate(thresholds):
      free = [
        rows[i] for i in nearest if overlap[i] >= threshold and not taken[level, rows[i]]
      ]
      if free:
        taken[level, free[0]] = hits[level, place] = True
  return np.array([_average_precision(row, len(truth)) for row in hits])


def _of_class(segments: Segments, name: str) -> Segments:
  rows = segments.label == name
  return Segments(
    *(getattr(segments, f.name)[rows] for f in dataclasses.fields(Segments))
  )


@dataclasses.dataclass(frozen=True)
class LocalizationMetrics:
  """What `evaluate` returns.

  Attributes:
    class_names: of the annotations, sorted.
    average_precision: [tIoU, class].
    thresholds: tIoU of each row.
  """

  class_names: Sequence[str]
  average_precision: np.ndarray
  thresholds: Sequence[float]

  @property
  def by_threshold(self) -> np.ndarray:
    """Mean average precision at each tIoU."""
    return self.average_precision.mean(1)

  @property
  def average(self) -> float:
    """The mean of mAP over all tIoU."""
    return float(self.average_precision.mean())

  def scores(self) -> dict[str, float]:
    """The mAP at tIoU .5, .75, .95 where they were asked for, and the average."""
    named = {
      f'mAP@{threshold:g}': float(value)
      for threshold, value in zip(self.thresholds, self.by_threshold, strict=True)
      if round(float(threshold), 2) in (0.5, 0.75, 0.95)
    }
    return named | {'mAP_average': self.average}


def evaluate(
  truth: Segments,
  predicted: Segments,
  thresholds: Sequence[float] = TIOU_THRESHOLDS,
) -> LocalizationMetrics:
  """Mean average precision by ActivityNet's rules.

  By falling score, a prediction hits if an annotation of its class and video overlaps by
  the tIoU and is not taken yet; where the best is taken it may have the next best.
  Predictions in videos without annotations count as wrong; a class without predictions
  counts 0; predictions of a class that is not annotated are left out.

  Args:
    truth: annotations of the subset that is scored.
    predicted: predictions.
    thresholds: tIoU.

  Raises:
    ValueError: there is no annotation.

  Source: the public ActivityNet evaluation.
  """
  names = sorted(set(truth.label))
  if not names:
    raise ValueError('there are no annotations to score')
  columns = [
    _class_precision(_of_class(truth, n), _of_class(predicted, n), thresholds)
    for n in names
  ]
  return LocalizationMetrics(names, np.stack(columns, 1), tuple(thresholds))


# --- ActivityNet's JSON ---------------------------------------------------------------


def _load(path: str) -> dict:
  try:
    with open(path, encoding='utf-8') as file:
      content = json.load(file)
  except OSError as error:
    raise UserError(f'{path}: {error.strerror}') from error
  except ValueError as error:
    raise UserError(f'{path}: is not JSON: {error}') from error
  if not isinstance(content, dict):
    raise UserError(f'{path}: expected a JSON object')
  return content


def read_annotations(path: str, subset: str | None = None) -> Segments:
  """Annotations of a subset ('training', 'validation'), or of all, of a `database`.

  Raises:
    UserError: the file is not of ActivityNet's format, or has no such subset.
  """
  try:
    database = _load(path)['database']
    rows = [
      (video, a['label'], float(a['segment'][0]), float(a['segment'][1]), 1.0)
      for video, entry in database.items()
      if subset is None or entry['subset'] == subset
      for a in entry['annotations']
    ]
    subsets = sorted({entry['subset'] for entry in database.values()})
  except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
    raise UserError(
      f"{path}: expected 'database' by video with subset and annotations of label and "
      'segment'
    ) from error
  if not rows:
    raise UserError(f'{path}: no annotation of subset {subset!r}; there are {subsets}')
  return Segments.of(rows)


def read_predictions(path: str) -> Segments:
  """Predictions of a file of ActivityNet's `results`.

  Raises:
    UserError: the file is not of that format.
  """
  content = _load(path)
  try:
    rows = [
      (video, p['label'], *map(float, p['segment']), float(p['score']))
      for video, listed in content['results'].items()
      for p in listed
    ]
    return Segments.of(rows)
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise UserError(
      f"{path}: expected 'results' by video of label, score and segment"
    ) from error


def write_predictions(path: str | os.PathLike[str], predicted: Segments) -> None:
  """Writes predictions in ActivityNet's format; the file appears whole or not at all."""
  results: dict[str, list[Mapping]] = {}
  for video, label, span, score in zip(
    predicted.video, predicted.label, predicted.span, predicted.score, strict=True
  ):
    entry = {'label': label, 'score': float(score), 'segment': [float(x) for x in span]}
    results.setdefault(video, []).append(entry)
  content = {'version': 'VERSION 1.3', 'results': results, 'external_data': {}}
  files.write_atomically(path, (json.dumps(content) + '\n').encode())

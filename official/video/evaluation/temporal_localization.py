"""Temporal action localization: segments, their overlap, and ActivityNet's mAP."""

import dataclasses
from collections.abc import Sequence

import numpy as np

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

  def __getitem__(self, rows: np.ndarray) -> 'Segments':
    """Those of some rows."""
    return Segments(self.video[rows], self.label[rows], self.span[rows], self.score[rows])


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
  rows_of = _rows_by(truth.video)
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


def _rows_by(names: np.ndarray) -> dict[str, np.ndarray]:
  """Rows of each name."""
  rows: dict[str, list[int]] = {}
  for row, name in enumerate(names):
    rows.setdefault(name, []).append(row)
  return {name: np.array(found) for name, found in rows.items()}


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
    """The mAP at each of up to five tIoU, of more at .5, .75, .95, and the average."""
    named = {
      f'mAP@{threshold:g}': float(value)
      for threshold, value in zip(self.thresholds, self.by_threshold, strict=True)
      if len(self.thresholds) <= 5 or round(float(threshold), 2) in (0.5, 0.75, 0.95)
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
  of_class, found = _rows_by(truth.label), _rows_by(predicted.label)
  names = sorted(of_class)
  if not names:
    raise ValueError('there are no annotations to score')
  nothing = np.zeros(0, np.int64)
  columns = [
    _class_precision(truth[of_class[n]], predicted[found.get(n, nothing)], thresholds)
    for n in names
  ]
  return LocalizationMetrics(names, np.stack(columns, 1), tuple(thresholds))

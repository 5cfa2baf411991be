"""Tracking: OTB's success and precision.

Boxes are left, top, width, height in pixels.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

IOU_THRESHOLDS = np.linspace(0, 1, 21)
ERROR_THRESHOLDS = np.arange(51)


@dataclasses.dataclass(frozen=True)
class Tracked:
  """How well a sequence was followed, or the mean over sequences.

  Attributes:
    success: [21] share of frames whose overlap is above each threshold.
    precision: [51] share of frames whose centre is off by at most each threshold.
    frames: that were scored.
  """

  success: np.ndarray
  precision: np.ndarray
  frames: int

  @property
  def success_score(self) -> float:
    """Area under the success curve."""
    return float(self.success.mean())

  @property
  def precision_score(self) -> float:
    """Share of frames whose centre is off by at most 20 pixels."""
    return float(self.precision[20])

  @property
  def success_rate(self) -> float:
    """Share of frames whose overlap is above 0.5."""
    return float(self.success[len(self.success) // 2])


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
  """[T] intersection over union of [T, 4] boxes, pair by pair."""
  low = np.maximum(boxes[:, :2], others[:, :2])
  high = np.minimum(boxes[:, :2] + boxes[:, 2:], others[:, :2] + others[:, 2:])
  shared = np.prod(np.maximum(high - low, 0), axis=1)
  union = np.prod(boxes[:, 2:], axis=1) + np.prod(others[:, 2:], axis=1) - shared
  tiny = np.finfo(float).eps
  return np.clip(shared / (union + tiny), 0, 1)


def center_errors(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
  """[T] distances of the boxes' centres in pixels."""
  centers = [b[:, :2] + (b[:, 2:] - 1) / 2 for b in (boxes, others)]
  return np.sqrt(((centers[0] - centers[1]) ** 2).sum(1))


def evaluate(boxes: np.ndarray, annotation: np.ndarray) -> Tracked:
  """Scores one sequence; its first box is given, not predicted.

  Args:
    boxes: [T, 4] predicted.
    annotation: [T, 4].

  Source: got10k toolkit, ExperimentOTB.
  """
  boxes = np.array(boxes, np.float64)
  annotation = np.asarray(annotation, np.float64)
  boxes[0] = annotation[0]
  found, errors = overlaps(boxes, annotation), center_errors(boxes, annotation)
  return Tracked(
    (found[:, None] > IOU_THRESHOLDS).mean(0),
    (errors[:, None] <= ERROR_THRESHOLDS).mean(0),
    len(boxes),
  )


def average(sequences: Sequence[Tracked]) -> Tracked:
  """The mean over sequences, each counting the same."""
  return Tracked(
    np.mean([s.success for s in sequences], 0),
    np.mean([s.precision for s in sequences], 0),
    sum(s.frames for s in sequences),
  )

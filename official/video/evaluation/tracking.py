"""Tracking: OTB's success and precision, and the result files of the got10k toolkit.

Boxes are left, top, width, height in pixels.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence

import numpy as np

from official.video import files

IOU_THRESHOLDS = np.linspace(0, 1, 21)
ERROR_THRESHOLDS = np.arange(51)


@dataclasses.dataclass(frozen=True)
class Tracked:
  """How well a sequence was followed, or the mean over sequences.

  Attributes:
    success: [21] share of frames whose overlap is above each threshold.
    precision: [51] share of frames whose centre is off by at most each threshold.
  """

  success: np.ndarray
  precision: np.ndarray

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
  )


def average(sequences: Sequence[Tracked]) -> Tracked:
  """The mean over sequences, each counting the same."""
  return Tracked(
    np.mean([s.success for s in sequences], 0),
    np.mean([s.precision for s in sequences], 0),
  )


def save_results(
  folder: str,
  benchmark: str,
  tracker: str,
  sequence: str,
  boxes: np.ndarray,
  seconds: np.ndarray,
) -> str:
  """Writes a sequence's boxes and times where the got10k toolkit looks for them.

  Args:
    folder: above 'results'.
    benchmark: 'OTB2015' or 'GOT-10k', whose files lie in a folder a sequence.
    tracker: name.
    sequence: name.
    boxes: [T, 4].
    seconds: [T] that each frame took.

  Returns:
    The path of the boxes.
  """
  base = os.path.join(folder, 'results', benchmark, tracker)
  if benchmark.startswith('GOT-10k'):
    path = os.path.join(base, sequence, f'{sequence}_001.txt')
    times = os.path.join(base, sequence, f'{sequence}_time.txt')
  else:
    path = os.path.join(base, f'{sequence}.txt')
    times = os.path.join(base, 'times', f'{sequence}_time.txt')
  rows = [','.join(f'{side:.3f}' for side in box) for box in boxes]
  for name, lines in ((path, rows), (times, [f'{s:.8f}' for s in seconds])):
    os.makedirs(os.path.dirname(name), exist_ok=True)
    files.write_atomically(name, ('\n'.join(lines) + '\n').encode())
  return path


def save_performance(
  folder: str, benchmark: str, tracker: str, sequences: Mapping[str, Tracked]
) -> None:
  """Writes all scores as the toolkit's report does."""

  def entry(tracked: Tracked) -> dict:
    return {
      'success_curve': tracked.success.tolist(),
      'precision_curve': tracked.precision.tolist(),
      'success_score': tracked.success_score,
      'precision_score': tracked.precision_score,
      'success_rate': tracked.success_rate,
    }

  report = {
    tracker: {
      'overall': entry(average(list(sequences.values()))),
      'seq_wise': {name: entry(tracked) for name, tracked in sequences.items()},
    }
  }
  path = os.path.join(folder, 'reports', benchmark, tracker, 'performance.json')
  os.makedirs(os.path.dirname(path), exist_ok=True)
  files.write_atomically(path, (json.dumps(report, indent=2) + '\n').encode())

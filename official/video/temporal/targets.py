"""What the detector shall say of a video, from its annotated spans.

Source: the ActivityNet branch of the public code of arXiv 1911.11462; written anew.
"""

import numpy as np

from official.video.evaluation.temporal_localization import temporal_iou
from official.video.temporal import spans

REGION = 3.0
"""Steps around an annotated border that count as it."""
WINDOW = 2.0
"""Steps around a step's centre that it answers for."""


def border_shares(borders: np.ndarray, steps: int) -> np.ndarray:
  """float32 `[T]`: the share of each step's window that lies in a border's region.

  Above a half the step is positive: the two or three whose centres are within 1.5 steps.

  Args:
    borders: `[N]` shares of the video.
    steps: T.
  """
  centres = np.arange(steps) + 0.5
  distance = np.abs(centres[:, None] - borders * steps)
  shared = np.clip((REGION + WINDOW) / 2 - distance, 0, WINDOW)
  return (shared / WINDOW).max(1, initial=0).astype(np.float32)


def targets(truth: np.ndarray, steps: int) -> dict[str, np.ndarray]:
  """Labels of a video.

  Args:
    truth: `[N, 2]` annotated spans, as shares of the video.
    steps: T.

  Returns:
    float32 'start' and 'end' `[T]`, see `border_shares`, and 'overlap' `[spans]`, each
    span's largest tIoU.
  """
  bounds = spans.bounds(steps)
  overlaps = [temporal_iou(span, bounds) for span in truth]
  return {
    'start': border_shares(truth[:, 0], steps),
    'end': border_shares(truth[:, 1], steps),
    'overlap': np.max(overlaps, 0, initial=0).astype(np.float32)
    if overlaps
    else np.zeros(len(bounds), np.float32),
  }

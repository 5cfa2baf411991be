"""The spans that begin and end on a video's time steps, and where they are read.

They are listed by length, and by start among equals: of three steps (0, 1), (1, 2), (2, 3),
(0, 2), (1, 3), (0, 3). Every array over spans has this order.
"""

import numpy as np


def cells(steps: int) -> tuple[np.ndarray, np.ndarray]:
  """First step and length of every span within a video: int64 `[spans]` each.

  There are steps * (steps + 1) / 2.
  """
  starts = [np.arange(steps - length + 1) for length in range(1, steps + 1)]
  return np.concatenate(starts), np.repeat(np.arange(1, steps + 1), [*map(len, starts)])


def bounds(steps: int) -> np.ndarray:
  """float64 `[spans, 2]`: starts and ends, as shares of the video."""
  start, length = cells(steps)
  return np.stack([start, start + length], -1) / steps


def interpolation(places: np.ndarray, steps: int) -> np.ndarray:
  """Weights `[..., steps]` of the steps at places `[...]`, step i lying at i.

  Up to one step outside, the first or last step is read; beyond that, zero.
  """
  inside = (places >= -1) & (places <= steps)
  nearest = np.clip(places, 0, steps - 1)
  distance = np.abs(nearest[..., None] - np.arange(steps))
  return np.maximum(1 - distance, 0) * inside[..., None]


def reading_matrix(steps: int, bins: int, widening: float) -> np.ndarray:
  """SGAlign: how every span is read from the steps, bin by bin.

  A span is widened on both sides and cut into bins of equal width; a bin is the mean of
  points at distances of one step or less.

  Args:
    steps: T.
    bins: of a span.
    widening: share of a span's length that is added on either side.

  Returns:
    float32 `[spans, bins * steps]`, the weight of each step in each bin.

  Source: Algorithm 1 of arXiv 1911.11462, as in its public code.
  """
  rows = []
  # Spans of one length differ by a shift alone, and have equally many points.
  for length in range(1, steps + 1):
    # A span of L steps holds L of their places, the first and the last L - 1 apart.
    width = max(length - 1 + 2 * widening * length, 1)
    points = bins * int(np.ceil(width / bins))
    start = np.arange(steps - length + 1)[:, None] - widening * length
    weights = interpolation(start + width * (np.arange(points) + 0.5) / points, steps)
    rows.append(weights.reshape(len(start), bins, -1, steps).mean(2))
  return np.concatenate(rows).reshape(-1, bins * steps).astype(np.float32)

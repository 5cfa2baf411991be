"""From the detector's scores to detections: peaks, products, suppression, classes.

Source: the ActivityNet branch of the public code of arXiv 1911.11462; written anew.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from official.video.evaluation.temporal_localization import Segments, temporal_iou
from official.video.temporal import spans
from official.video.temporal.config import Gtad
from official.video.temporal.features import VideoFeatures


class Scores(NamedTuple):
  """Probabilities of videos.

  Attributes:
    start: `[V, T]`.
    end: `[V, T]`.
    span: `[V, spans]`, classification times regression.
  """

  start: np.ndarray
  end: np.ndarray
  span: np.ndarray


class Detections(NamedTuple):
  """What is left of the spans.

  Attributes:
    segments: labelled, in seconds.
    kept: spans that were kept, over all videos.
    proposed: those that suppression chose them from.
  """

  segments: Segments
  kept: int
  proposed: int


def scores(model, features: np.ndarray) -> Scores:
  """Scores of videos `[V, T, D]` by a trained `gtad.GtadModel`."""
  import tensorflow as tf

  @tf.function(reduce_retracing=True, autograph=False)
  def infer(x):
    outputs = {name: tf.sigmoid(logits) for name, logits in model(x).items()}
    span = outputs['regression'] * outputs['classification']
    return outputs['start'], outputs['end'], span

  size = model.config.batch_size
  parts = [
    infer(tf.constant(features[start : start + size], tf.float32))
    for start in range(0, len(features), size)
  ]
  return Scores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def peaks(probability: np.ndarray, edge: int) -> np.ndarray:
  """Bool `[T]`: steps above both neighbours, or above half of the highest.

  Args:
    probability: `[T]`.
    edge: the one of the first and last step that always counts; the other never does.
  """
  inner = probability[1:-1]
  local = (inner > probability[:-2]) & (inner > probability[2:])
  found = np.zeros(len(probability), bool)
  found[1:-1] = local | (inner > 0.5 * probability.max())
  found[edge] = True
  return found


def between_peaks(start: np.ndarray, end: np.ndarray) -> np.ndarray:
  """Bool `[spans]`: those that begin at a peak of starts and end at one of ends.

  The end of a span lies at the step after its last; so none reaches the video's end, as in
  the public code.

  Args:
    start: `[T]` probabilities.
    end: `[T]`.
  """
  first, length = spans.cells(len(start))
  last = first + length
  # One more than there are steps: no end can lie there.
  ends = np.append(peaks(end, edge=-1), False)
  return peaks(start, edge=0)[first] & ends[last]


def soft_nms(
  bounds: np.ndarray, values: np.ndarray, sigma: float, keep: int
) -> tuple[np.ndarray, np.ndarray]:
  """Gaussian soft non-maximum suppression.

  The best span is taken, the scores of all others fall by exp(-tIoU^2 / sigma), and so
  on (arXiv 1704.04503).

  Args:
    bounds: [N, 2] start and end.
    values: [N] scores.
    sigma: width of the suppression.
    keep: how many spans are returned at most.

  Returns:
    Rows [K] of the spans that are kept, best first, and their scores [K].
  """
  left = np.array(values, np.float64)
  free = np.ones(len(left), bool)
  rows: list[int] = []
  while len(rows) < keep and free.any():
    best = int(np.where(free, left, -np.inf).argmax())
    if left[best] <= 0:  # Suppressed below what a float holds.
      break
    rows.append(best)
    free[best] = False
    left[free] *= np.exp(-np.square(temporal_iou(bounds[best], bounds[free])) / sigma)
  return np.array(rows, np.int64), left[rows]


def detections(
  config: Gtad,
  scored: Scores,
  videos: VideoFeatures,
  class_scores: Mapping[str, Mapping[str, float]],
) -> Detections:
  """The best spans of every video, each with the video's likeliest classes.

  Args:
    config: the detector's; peaks, suppression, counts.
    scored: of `scores`.
    videos: their names and durations.
    class_scores: by video and label.
  """
  bounds = spans.bounds(scored.start.shape[1])
  rows, kept, proposed = [], 0, 0
  for name, duration, start, end, span in zip(
    videos.names, videos.durations, *scored, strict=True
  ):
    candidates = (
      np.flatnonzero(between_peaks(start, end))
      if config.border_peaks
      else np.arange(len(bounds))
    )
    best, values = soft_nms(
      bounds[candidates], span[candidates], config.nms_sigma, config.max_proposals
    )
    kept, proposed = kept + len(best), proposed + len(candidates)
    seconds = bounds[candidates[best]] * duration
    classes = sorted(class_scores[name].items(), key=lambda item: -item[1])
    rows += [
      (name, label, *second, value * probability)
      for label, probability in classes[: config.top_classes]
      for second, value in zip(seconds.tolist(), values.tolist(), strict=True)
    ]
  return Detections(Segments.of(rows), kept, proposed)

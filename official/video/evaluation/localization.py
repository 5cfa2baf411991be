"""Action localization: frame mAP as AVA's evaluator counts it, and its CSV files."""

import csv
import dataclasses
import io
from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from official.video.errors import UserError

# The evaluator reads this many detections of a frame, those of the highest scores.
MAX_DETECTIONS = 50


@dataclasses.dataclass(frozen=True)
class Boxes:
  """Labelled boxes of frames, one row each.

  Attributes:
    frames: [M] str, names of the frames.
    boxes: [M, 4] float64, in any order of sides that both sides of a comparison share,
      as long as it is two lower bounds, then the two upper ones.
    labels: [M] int64.
    scores: [M] float64; ones for annotations.
  """

  frames: np.ndarray
  boxes: np.ndarray
  labels: np.ndarray
  scores: np.ndarray

  def __len__(self) -> int:
    return len(self.labels)

  def take(self, rows: np.ndarray) -> 'Boxes':
    """Some of the rows."""
    return Boxes(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))


def boxes_of(frames, boxes, labels, scores=None) -> Boxes:
  """Makes `Boxes` of sequences; scores are 1 where None."""
  labels = np.asarray(labels, np.int64).reshape(-1)
  scores = np.ones(len(labels)) if scores is None else np.asarray(scores, np.float64)
  coordinates = np.asarray(boxes, np.float64).reshape(len(labels), 4)
  return Boxes(np.asarray(frames, dtype=object), coordinates, labels, scores)


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
  """[A, B] intersection over union of [A, 4] and [B, 4] boxes; 0 of empty ones."""
  low = np.maximum(boxes[:, None, :2], others[None, :, :2])
  high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
  shared = np.prod(np.maximum(high - low, 0), axis=-1)
  areas = [np.prod(np.maximum(b[:, 2:] - b[:, :2], 0), axis=-1) for b in (boxes, others)]
  union = areas[0][:, None] + areas[1][None] - shared
  return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def highest(detections: Boxes, limit: int = MAX_DETECTIONS) -> Boxes:
  """The rows of the highest scores of each frame, all classes together."""
  order = np.argsort(-detections.scores, kind='stable')
  taken: dict[str, int] = defaultdict(int)
  kept = []
  for row in order:
    taken[detections.frames[row]] += 1
    if taken[detections.frames[row]] <= limit:
      kept.append(row)
  return detections.take(np.sort(np.asarray(kept, np.int64)))


def _hits(truth: np.ndarray, found: np.ndarray, scores: np.ndarray, least: float):
  """Which detections of one frame and class hit, those of higher scores first.

  A detection is compared with the box that it overlaps most, and with no other one.
  """
  hits = np.zeros(len(found), bool)
  if not len(truth) or not len(found):
    return hits
  overlap = iou(found, truth)
  taken = np.zeros(len(truth), bool)
  for row in np.argsort(-scores, kind='stable'):
    best = overlap[row].argmax()
    if overlap[row, best] >= least and not taken[best]:
      hits[row] = taken[best] = True
  return hits


def average_precision(scores: np.ndarray, hits: np.ndarray, positives: int) -> float:
  """Area under the monotone envelope of precision over recall.

  Args:
    scores: [D] of all detections of a class.
    hits: [D] bool.
    positives: annotated boxes.

  Returns:
    NaN where nothing is annotated, 0 where nothing was detected.
  """
  if not positives:
    return float('nan')
  order = np.argsort(-scores, kind='stable')
  true = np.cumsum(hits[order])
  recall = np.concatenate([[0], true / positives, [1]])
  precision = np.concatenate([[0], true / np.arange(1, len(true) + 1), [0]])
  envelope = np.maximum.accumulate(precision[::-1])[::-1]
  return float(np.sum(np.diff(recall) * envelope[1:]))


@dataclasses.dataclass(frozen=True)
class FrameMap:
  """What `frame_map` found.

  Attributes:
    mean: over the classes that are annotated.
    per_class: [K] average precision, NaN where a class is not annotated.
    ranked: detections that were ranked, a row a box and class, of `found`.
    found: detections in the annotated frames, of the classes that count.
  """

  mean: float
  per_class: np.ndarray
  ranked: int
  found: int


def frame_map(
  truth: Boxes,
  detections: Boxes,
  frames: Collection[str],
  classes: Sequence[int],
  threshold: float = 0.5,
) -> FrameMap:
  """Mean average precision of boxes in single frames.

  Args:
    truth: annotated boxes.
    detections: scored boxes.
    frames: all annotated frames, those without boxes included; others do not count.
    classes: labels that count.
    threshold: smallest intersection over union of a hit.

  Source: ActivityNet's Evaluation/ava.
  """
  known, wanted = set(frames), set(classes)

  def counted(boxes: Boxes) -> Boxes:
    pairs = zip(boxes.frames, boxes.labels, strict=True)
    return boxes.take(np.asarray([f in known and c in wanted for f, c in pairs], bool))

  truth, given = counted(truth), counted(detections)
  detections = highest(given)
  annotated, found = _by_frame(truth), _by_frame(detections)
  hits = np.zeros(len(detections), bool)
  nothing = np.zeros(0, np.int64)
  for key, rows in found.items():
    boxes = truth.boxes[annotated.get(key, nothing)]
    hits[rows] = _hits(boxes, detections.boxes[rows], detections.scores[rows], threshold)
  per_class = []
  for label in classes:
    of_class = detections.labels == label
    positives = int((truth.labels == label).sum())
    per_class.append(
      average_precision(detections.scores[of_class], hits[of_class], positives)
    )
  values = np.asarray(per_class)
  seen = values[~np.isnan(values)]
  mean = float(seen.mean()) if len(seen) else float('nan')
  return FrameMap(mean, values, len(detections), len(given))


def _by_frame(boxes: Boxes) -> dict[tuple[str, int], np.ndarray]:
  rows = defaultdict(list)
  for row, key in enumerate(zip(boxes.frames, boxes.labels, strict=True)):
    rows[key].append(row)
  return {key: np.asarray(found) for key, found in rows.items()}


# --- The official CSV format ----------------------------------------------------------


def write_predictions(detections: Boxes, action_ids: Sequence[int]) -> str:
  """The official CSV text: video, timestamp, x1, y1, x2, y2, action id, score.

  Args:
    detections: frames named '<video>,<timestamp>'; boxes x1, y1, x2, y2.
    action_ids: official id of each label.

  Returns:
    The rows that the evaluator would read, frame by frame, the highest scores first.
  """
  kept = highest(detections)
  order = sorted(range(len(kept)), key=lambda r: (kept.frames[r], -kept.scores[r]))
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  for row in order:
    video, _, timestamp = kept.frames[row].rpartition(',')
    box = [f'{side:.6g}' for side in kept.boxes[row]]
    score = f'{kept.scores[row]:.8g}'
    writer.writerow([video, timestamp, *box, action_ids[kept.labels[row]], score])
  return text.getvalue()


def read_predictions(path: str, action_ids: Sequence[int]) -> Boxes:
  """Reads `write_predictions`' files; rows of unknown actions are left out.

  Raises:
    UserError: a row is not of that form.
  """
  labels = {action: label for label, action in enumerate(action_ids)}
  frames, boxes, found, scores = [], [], [], []
  with open(path, newline='', encoding='utf-8') as file:
    for number, row in enumerate(csv.reader(file), start=1):
      try:
        video, timestamp, *sides, action, score = row
        values = [float(x) for x in sides]
        label, confidence = labels.get(int(action)), float(score)
      except ValueError:
        values = []
      if len(values) != 4:
        raise UserError(
          f'{path}, line {number}: {row}, expected video, timestamp, x1, y1, x2, y2, '
          'action id, score'
        )
      if label is not None:
        frames.append(f'{video},{timestamp}')
        boxes.append(values)
        found.append(label)
        scores.append(confidence)
  return boxes_of(frames, boxes, found, scores)


def action_ids(label_names: Sequence[str]) -> list[int]:
  """Official ids: what class names begin with ('17: swim'), else the label plus 1."""
  heads = [name.partition(':')[0] for name in label_names]
  return [int(head) if head.isdigit() else i + 1 for i, head in enumerate(heads)]

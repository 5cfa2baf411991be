"""Classification: saved predictions, and the scores computed from them."""

import dataclasses
import io
import json
import os
from collections.abc import Sequence

import numpy as np

from official.video import files
from official.video.errors import UserError
from official.video.evaluation import knn


def softmax(logits: np.ndarray) -> np.ndarray:
  """Probabilities [..., C] float64 of logits [..., C]."""
  logits = np.asarray(logits, np.float64)
  exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return exponentials / exponentials.sum(axis=-1, keepdims=True)


def label_ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Place of each row's label among its scores, 0 for the highest.

  Of equal scores the lower class id comes first, as in argmax: a constant output is
  right for one class only, not for all.

  Args:
    scores: [N, C].
    labels: [N] class ids.

  Returns:
    [N] int64.
  """
  own = np.take_along_axis(scores, labels[:, None], 1)
  before = np.arange(scores.shape[1])[None] < labels[:, None]
  return ((scores > own) | ((scores == own) & before)).sum(axis=1)


def confusion_matrix(
  labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> np.ndarray:
  """Counts [C, C] int64 of samples; row: label, column: predicted class."""
  pairs = np.asarray(labels) * num_classes + np.asarray(predictions)
  counts = np.bincount(pairs, minlength=num_classes**2)
  return counts.reshape(num_classes, num_classes)


def mean_class_accuracy(confusion: np.ndarray) -> float:
  """Mean over the classes that have samples of the share predicted right."""
  confusion = np.asarray(confusion)
  totals = confusion.sum(axis=1)
  return float(np.mean(np.diag(confusion)[totals > 0] / totals[totals > 0]))


@dataclasses.dataclass(frozen=True)
class Predictions:
  """Class scores of named samples, one row a sample.

  Attributes:
    names: N sample names, unique.
    labels: [N] class ids.
    scores: [N, C] probabilities or other scores, higher is likelier, all finite.
    class_names: C names, or empty.
  """

  names: tuple[str, ...]
  labels: np.ndarray
  scores: np.ndarray
  class_names: tuple[str, ...] = ()

  def __post_init__(self):
    if self.scores.ndim != 2 or len(self.scores) != len(self.names):
      raise ValueError(
        f'scores have shape {self.scores.shape}, expected [{len(self.names)}, classes]'
      )
    if len(set(self.names)) != len(self.names):
      raise ValueError('sample names repeat; average their views first (average_views)')
    if self.class_names and len(self.class_names) != self.scores.shape[1]:
      raise ValueError(
        f'{len(self.class_names)} class names for {self.scores.shape[1]} classes'
      )
    knn.check_labels(self.labels, len(self.names), self.scores.shape[1])
    bad = ~np.isfinite(self.scores).all(axis=1)
    if bad.any():
      raise ValueError(
        f'scores of {bad.sum()} samples are not finite, first that of '
        f'{self.names[bad.argmax()]!r}'
      )

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes an .npz file (arrays names, labels, scores, class_names), atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(
      buffer,
      names=np.array(self.names, str),
      labels=self.labels,
      scores=self.scores,
      class_names=np.array(self.class_names, str),
    )
    files.write_atomically(path, buffer.getvalue())

  @classmethod
  def load(cls, path: str | os.PathLike[str]) -> 'Predictions':
    """Reads what `save` wrote.

    Raises:
      UserError: if the file cannot be read or is no predictions file.
    """
    try:
      with np.load(path, allow_pickle=False) as arrays:
        return cls(
          tuple(arrays['names'].tolist()),
          arrays['labels'],
          arrays['scores'],
          tuple(arrays['class_names'].tolist()),
        )
    except files.NPZ_ERRORS as error:
      raise UserError(
        f'{path}: not a predictions file ({error}); expected the .npz file that an '
        'evaluation saved'
      ) from error


AVERAGES = ('probability', 'logit')


def check_average(average: str) -> None:
  """Raises `UserError` where views can't be averaged so."""
  if average not in AVERAGES:
    raise UserError(
      f'task.average {average!r}: expected {" or ".join(map(repr, AVERAGES))}'
    )


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
  """Logits up to a constant a row, of float32 probabilities that may be 0."""
  return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))


def average_views(
  names: Sequence[str],
  labels: np.ndarray,
  probabilities: np.ndarray,
  class_names: Sequence[str] = (),
  average: str = 'probability',
) -> Predictions:
  """Averages the probabilities, or the logits, of all views of a sample.

  Args:
    names: V sample names; the views of a sample share its name, in any order.
    labels: [V] class ids.
    probabilities: [V, C] softmax outputs.
    class_names: C names, or none.
    average: of `AVERAGES`; the softmax of mean logits is that of mean log probabilities.

  Returns:
    One row a sample, in the order of first appearance, float64.

  Raises:
    ValueError: if two views of a sample disagree on its label.
  """
  labels = knn.check_labels(labels, len(names))
  order = {name: row for row, name in enumerate(dict.fromkeys(names))}
  rows = np.array([order[name] for name in names], np.int64)
  counts = np.bincount(rows, minlength=len(order))
  sample_labels = np.zeros(len(order), np.int64)
  sample_labels[rows] = labels
  disagree = sample_labels[rows] != labels
  if disagree.any():
    raise ValueError(f'views of {names[disagree.argmax()]!r} have different labels')
  total = np.zeros((len(order), np.shape(probabilities)[1]))
  logits = average == 'logit'
  np.add.at(total, rows, log_probabilities(probabilities) if logits else probabilities)
  means = total / counts[:, None]
  scores = softmax(means) if logits else means
  return Predictions(tuple(order), sample_labels, scores, tuple(class_names))


@dataclasses.dataclass(frozen=True)
class ClassificationResult:
  """Scores of a classifier.

  Attributes:
    topk: {k: share of evaluated samples whose label is among the k highest scores},
      shares in [0, 1]; always has k = 1.
    mean_class_accuracy: mean of the accuracies of the classes that have samples.
    evaluated: number of samples scored.
    expected: number of samples there should have been.
    missing: names of expected samples without a prediction, where names are known.
    confusion: [C, C] counts; row: label, column: predicted class.
    class_names: C names, or empty.
  """

  topk: dict[int, float]
  mean_class_accuracy: float
  evaluated: int
  expected: int
  missing: tuple[str, ...]
  confusion: np.ndarray
  class_names: tuple[str, ...] = ()

  @property
  def top1(self) -> float:
    """Share of evaluated samples whose highest-scored class is their label."""
    return self.topk[1]

  def summary(self) -> str:
    """One line: every score in percent, and how many samples it rests on."""
    tops = ''.join(f'top-{k} {100 * value:.2f}%, ' for k, value in self.topk.items())
    return (
      f'{tops}mean class accuracy {100 * self.mean_class_accuracy:.2f}%; '
      f'evaluated {self.evaluated} of {self.expected}'
    )

  def to_json(self) -> str:
    """All attributes as indented JSON."""
    values = dataclasses.asdict(self) | {'confusion': self.confusion.tolist()}
    return json.dumps(values, indent=2)


def _missing(names: Sequence[str], expected: Sequence[str] | int) -> tuple[str, ...]:
  if isinstance(expected, int):
    if expected < len(names):
      raise UserError(
        f'predictions hold {len(names)} samples, expected at most {expected}: are they '
        'of another split?'
      )
    return ()
  unknown = set(names) - set(expected)
  if unknown:
    raise UserError(
      f'predictions hold {len(unknown)} samples that are not expected, such as '
      f'{min(unknown)!r}: are they of another split?'
    )
  have = set(names)
  return tuple(name for name in expected if name not in have)


def evaluate(
  predictions: Predictions,
  expected: Sequence[str] | int | None = None,
  ks: Sequence[int] = (1, 5),
) -> ClassificationResult:
  """Scores predictions and counts what is missing from them.

  Args:
    predictions: of at least one sample.
    expected: names of all samples of the split, or their number; by default those that
      have a prediction. Samples without one are named and counted, and accuracies are
      over the rest.
    ks: values of k for top-k; 1 is always there, a k that is not below the number of
      classes is left out.

  Raises:
    UserError: if there are no predictions, or some for samples that are not expected.
  """
  if not predictions.names:
    raise UserError('there are no predictions to score; was every sample unreadable?')
  expected = len(predictions.names) if expected is None else expected
  missing = _missing(predictions.names, expected)
  scores, labels = predictions.scores, predictions.labels
  ranks = label_ranks(scores, labels)
  counted = sorted({1, *(k for k in ks if k < scores.shape[1])})
  confusion = confusion_matrix(labels, scores.argmax(axis=1), scores.shape[1])
  return ClassificationResult(
    topk={k: float(np.mean(ranks < k)) for k in counted},
    mean_class_accuracy=mean_class_accuracy(confusion),
    evaluated=len(labels),
    expected=expected if isinstance(expected, int) else len(expected),
    missing=missing,
    confusion=confusion,
    class_names=predictions.class_names,
  )

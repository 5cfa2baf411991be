"""Features that need no learning, and the linear probe that scores features."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from official.video.evaluation import blocks, knn, linear, multi_label


def _check_clips(clips: np.ndarray) -> None:
  if clips.ndim != 5 or clips.shape[-1] != 3 or clips.dtype != np.uint8:
    raise ValueError(
      f'clips are {clips.dtype} of shape {clips.shape}, expected uint8 [N, T, H, W, 3]'
    )


def _area_weights(source: int, target: int) -> np.ndarray:
  """[target, source] shares of source pixels in each target pixel; rows sum to 1."""
  edges = np.linspace(0, source, target + 1)
  low, high = edges[:-1, None], edges[1:, None]
  pixels = np.arange(source)[None]
  overlap = np.minimum(high, pixels + 1) - np.maximum(low, pixels)
  return (np.maximum(overlap, 0) / (high - low)).astype(np.float32)


def raw_pixels(clips: np.ndarray, size: int = 16, frames: int = 4) -> np.ndarray:
  """Downscaled frames, stacked.

  Args:
    clips: [N, T, H, W, 3] uint8.
    size: height and width that frames are averaged down to, in pixels.
    frames: how many, evenly spaced from the first to the last; at most T.

  Returns:
    [N, frames * size * size * 3] float32 in [0, 1].

  Raises:
    ValueError: if clips are not uint8 RGB.
  """
  _check_clips(clips)
  count, length, height, width, _ = clips.shape
  picked = np.linspace(0, length - 1, min(frames, length)).round().astype(int)
  rows, columns = _area_weights(height, size), _area_weights(width, size)
  features = np.empty((count, len(picked) * size * size * 3), np.float32)
  for index, clip in enumerate(clips):
    pixels = clip[picked].astype(np.float32) / 255
    small = np.einsum('yh,thwc,xw->tyxc', rows, pixels, columns, optimize=True)
    features[index] = small.ravel()
  return features


def color_histogram(clips: np.ndarray, bins: int = 4) -> np.ndarray:
  """Joint colour histogram of all pixels of a clip.

  Args:
    clips: [N, T, H, W, 3] uint8.
    bins: intervals a channel, equally wide.

  Returns:
    [N, bins ** 3] float32 shares of pixels, red slowest; rows sum to 1.

  Raises:
    ValueError: if clips are not uint8 RGB.
  """
  _check_clips(clips)
  features = np.empty((len(clips), bins**3), np.float32)
  for index, clip in enumerate(clips):
    levels = clip.reshape(-1, 3).astype(np.int64) * bins // 256
    cells = (levels[:, 0] * bins + levels[:, 1]) * bins + levels[:, 2]
    features[index] = np.bincount(cells, minlength=bins**3) / len(cells)
  return features


@dataclasses.dataclass(frozen=True)
class LinearProbe:
  """Result of a linear probe.

  Attributes:
    top1: share of test samples classified right; of those with several labels the share
      whose likeliest class is one of theirs.
    held_out_score: of the held-out part of the training set, with the chosen
      regularisation, before the last fit: the share classified right, or the mean average
      precision of several labels.
    inverse_regularization: the chosen value of the grid (scikit-learn's C).
    probabilities: [Q, C] float64 of the test samples; classes that the training set
      lacks have probability 0.
    kernel: [D, C] float64; features @ kernel + bias are the logits.
    bias: [C] float64.
    gradient: where the last fit ended, see `linear.Fit`.
  """

  top1: float
  held_out_score: float
  inverse_regularization: float
  probabilities: np.ndarray
  kernel: np.ndarray
  bias: np.ndarray
  gradient: float

  @property
  def converged(self) -> bool:
    """Whether the last fit ended at a minimum."""
    return self.gradient <= linear.TOLERANCE


def _held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
  """Mask [N] of the samples held out: of each class `fraction`, never all of them."""
  generator = np.random.default_rng(seed)
  mask = np.zeros(len(labels), bool)
  for label in np.unique(labels):
    rows = generator.permutation(np.flatnonzero(labels == label))
    mask[rows[: min(max(1, round(fraction * len(rows))), len(rows) - 1)]] = True
  return mask


def _hits(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
  """[N] bool: whether the highest-scored class is a sample's label, or one of them."""
  chosen = scores.argmax(axis=1)
  if labels.ndim == 1:
    return chosen == labels
  return np.take_along_axis(labels, chosen[:, None], 1)[:, 0]


def linear_probe(
  train_features: np.ndarray,
  train_labels: np.ndarray,
  test_features: np.ndarray,
  test_labels: np.ndarray,
  grid: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
  held_out: float = 0.2,
  seed: int = 0,
  watch: linear.Watch | None = None,
) -> LinearProbe:
  """Multinomial logistic regression on standardised features.

  The regularisation is the value of the grid that scores best on a part of the training
  set that is held out class by class; of equal scores the stronger one. The last fit is
  on the whole training set. The test set is looked at once. Deterministic. Features are
  read in blocks, so they may be memory-mapped.

  Args:
    train_features: [N, D].
    train_labels: [N] class ids of at least two classes, one of them with at least two
      samples; or [N, C] bool, which classes each has: a regression a class.
    test_features: [Q, D], Q of at least 1.
    test_labels: [Q] class ids, or [Q, C] bool.
    grid: inverse strengths of the L2 penalty (scikit-learn's C).
    held_out: share of each class held out; of several labels by the first of them.
    seed: of the choice of the samples held out.
    watch: see `linear.Watch`.

  Raises:
    ValueError: if the training set has one class only or one sample of each, or the
      test set is empty.
  """
  first = np.asarray(train_labels)
  several = first.ndim == 2
  if several:
    train_labels, test_labels = first.astype(bool), np.asarray(test_labels).astype(bool)
    first, num_classes = first.argmax(axis=1), first.shape[1]
    present, sizes = np.flatnonzero(train_labels.any(axis=0)), train_labels.sum(axis=0)
  else:
    train_labels = first = knn.check_labels(train_labels, len(train_features))
    test_labels = knn.check_labels(test_labels, len(test_features))
    present, sizes = np.unique(train_labels, return_counts=True)
    num_classes = int(max([*train_labels, *test_labels], default=0)) + 1
  if len(present) < 2 or sizes.max() < 2 or not len(test_labels):
    raise ValueError(
      f'{len(train_labels)} training samples of {len(present)} classes, '
      f'{len(test_labels)} test samples: too few to fit, choose and score'
    )
  mask = _held_out(first, held_out, seed)
  path = linear.Path(train_features, train_labels, num_classes, ~mask)
  best, chosen, start = -1.0, 0.0, path.weights
  for strength in sorted(grid):
    fit = path.fit(strength, watch=watch)
    score = _score(fit, train_features, train_labels, mask)
    if score > best:
      best, chosen, start = score, strength, path.weights
  path = linear.Path(train_features, train_labels, num_classes, start=start)
  fit = path.fit(chosen, watch=watch)
  probabilities = fit.probabilities(test_features)
  return LinearProbe(
    float(_hits(test_labels, probabilities).mean()),
    best,
    float(chosen),
    probabilities,
    fit.kernel,
    fit.bias,
    fit.gradient,
  )


def _score(
  fit: linear.Fit, features: np.ndarray, labels: np.ndarray, mask: np.ndarray
) -> float:
  """What a fit reaches on some rows; see `LinearProbe.held_out_score`."""
  right, kept = 0, []
  for rows in blocks.ranges(len(features)):
    own = labels[rows][mask[rows]]
    scores = fit.probabilities(blocks.take(features, rows)[mask[rows]])
    if labels.ndim == 2:
      kept.append(scores)
    else:
      right += int(_hits(own, scores).sum())
  if labels.ndim == 1:
    return right / int(mask.sum())
  return float(multi_label.evaluate(labels[mask], np.concatenate(kept))['map'])

"""Features that need no learning, and the linear probe that scores features."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from official.video.evaluation import knn

# Below this many training numbers a fit takes seconds on one thread, and on a busy
# machine BLAS threads waiting for each other make it many times slower.
_ONE_THREAD_ELEMENTS = 1 << 22


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
    top1: share of test samples classified right.
    held_out_top1: share of the held-out part of the training set classified right,
      with the chosen regularisation, before the last fit.
    inverse_regularization: the chosen value of the grid (scikit-learn's C).
    probabilities: [Q, C] float64 of the test samples; classes that the training set
      lacks have probability 0.
    kernel: [D, C] float64; features @ kernel + bias are the logits.
    bias: [C] float64.
  """

  top1: float
  held_out_top1: float
  inverse_regularization: float
  probabilities: np.ndarray
  kernel: np.ndarray
  bias: np.ndarray


def _held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
  """Mask [N] of the samples held out: of each class `fraction`, never all of them."""
  generator = np.random.default_rng(seed)
  mask = np.zeros(len(labels), bool)
  for label in np.unique(labels):
    rows = generator.permutation(np.flatnonzero(labels == label))
    mask[rows[: min(max(1, round(fraction * len(rows))), len(rows) - 1)]] = True
  return mask


def _fit(features: np.ndarray, labels: np.ndarray, inverse_regularization: float):
  import threadpoolctl
  from sklearn import linear_model, pipeline, preprocessing

  model = pipeline.make_pipeline(
    preprocessing.StandardScaler(),
    linear_model.LogisticRegression(C=inverse_regularization, max_iter=2000),
  )
  threads = 1 if features.size < _ONE_THREAD_ELEMENTS else None
  with threadpoolctl.threadpool_limits(threads, 'blas'):
    return model.fit(features, labels)


def linear_probe(
  train_features: np.ndarray,
  train_labels: np.ndarray,
  test_features: np.ndarray,
  test_labels: np.ndarray,
  grid: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
  held_out: float = 0.2,
  seed: int = 0,
) -> LinearProbe:
  """Multinomial logistic regression on standardised features.

  The regularisation is the value of the grid that scores best on a part of the training
  set that is held out class by class; of equal scores the stronger one. The last fit is
  on the whole training set. The test set is looked at once. Deterministic.

  Args:
    train_features: [N, D].
    train_labels: [N] class ids of at least two classes, one of them with at least two
      samples.
    test_features: [Q, D], Q of at least 1.
    test_labels: [Q] class ids.
    grid: inverse strengths of the L2 penalty (scikit-learn's C).
    held_out: share of each class held out.
    seed: of the choice of the samples held out.

  Raises:
    ValueError: if the training set has one class only or one sample of each, or the
      test set is empty.
  """
  train_features = np.asarray(train_features, np.float64)
  train_labels = knn.check_labels(train_labels, len(train_features))
  test_labels = knn.check_labels(test_labels, len(test_features))
  present, sizes = np.unique(train_labels, return_counts=True)
  if len(present) < 2 or sizes.max() < 2 or not len(test_labels):
    raise ValueError(
      f'{len(train_labels)} training samples of {len(present)} classes, '
      f'{len(test_labels)} test samples: too few to fit, choose and score'
    )
  mask = _held_out(train_labels, held_out, seed)
  best, chosen = -1.0, 0.0
  for strength in sorted(grid):
    model = _fit(train_features[~mask], train_labels[~mask], strength)
    score = float(model.score(train_features[mask], train_labels[mask]))
    if score > best:
      best, chosen = score, strength
  model = _fit(train_features, train_labels, chosen)
  num_classes = int(max(train_labels.max(), test_labels.max())) + 1
  probabilities = np.zeros((len(test_labels), num_classes))
  probabilities[:, model.classes_] = model.predict_proba(np.asarray(test_features))
  top1 = float(np.mean(probabilities.argmax(axis=1) == test_labels))
  kernel, bias = _weights(model, num_classes)
  return LinearProbe(top1, best, float(chosen), probabilities, kernel, bias)


# The logit of a class that the training set lacks.
_NEVER = -1e4


def _weights(model, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
  """Kernel [D, C] and bias [C] on features as they are, standardisation folded in."""
  scaler, regression = model[0], model[-1]
  weights, offsets = regression.coef_, regression.intercept_
  if len(model.classes_) == 2:  # One row, which tells the second class from the first.
    weights = np.concatenate([np.zeros_like(weights), weights])
    offsets = np.concatenate([np.zeros_like(offsets), offsets])
  weights = weights / scaler.scale_
  kernel = np.zeros((weights.shape[1], num_classes))
  bias = np.full(num_classes, _NEVER)
  kernel[:, model.classes_] = weights.T
  bias[model.classes_] = offsets - weights @ scaler.mean_
  return kernel, bias

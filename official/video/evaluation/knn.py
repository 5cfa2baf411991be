"""Nearest neighbours of features, and the weighted k-nearest-neighbour classifier.

The classifier follows Wu et al. 2018 (arXiv 1805.01978, section 3.4): cosine
similarity, 200 neighbours, votes weighted by exp(similarity / 0.07).
"""

from collections.abc import Iterator

import numpy as np

NEIGHBORS = 200
TEMPERATURE = 0.07

# Similarities held at a time: 16 MiB of float32 whatever the size of the gallery, and
# about five times that while the largest are picked.
_CHUNK_ELEMENTS = 1 << 22


def normalize(features: np.ndarray) -> np.ndarray:
  """Scales rows to unit length.

  Args:
    features: [N, D] numbers, all finite. A row of zeros stays zero.

  Returns:
    [N, D] float32.

  Raises:
    ValueError: if the array is not two-dimensional or a row is not finite.
  """
  features = np.asarray(features, np.float32)
  if features.ndim != 2:
    raise ValueError(f'features have shape {features.shape}, expected [N, D]')
  bad = ~np.isfinite(features).all(axis=1)
  if bad.any():
    raise ValueError(
      f'features of {bad.sum()} rows, first {bad.argmax()}, are not finite'
    )
  norms = np.linalg.norm(features, axis=1, keepdims=True)
  return features / np.maximum(norms, np.finfo(np.float32).tiny)


def chunks(queries: int, candidates: int) -> Iterator[slice]:
  """Cuts `queries` rows so that a chunk's [rows, candidates] array stays small."""
  rows = max(1, _CHUNK_ELEMENTS // max(1, candidates))
  for start in range(0, queries, rows):
    yield slice(start, min(start + rows, queries))


def largest(values: np.ndarray, k: int) -> np.ndarray:
  """Columns of the k largest values of each row.

  Args:
    values: [Q, N] numbers without NaN.
    k: how many, 1 to N.

  Returns:
    [Q, k] int64, the largest first; of equal values the lower column comes first.
  """
  bound = -np.partition(-values, k - 1, axis=1)[:, k - 1 : k]
  above, equal = values > bound, values == bound
  free = k - above.sum(axis=1, keepdims=True)
  chosen = above | (equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= free))
  columns = np.nonzero(chosen)[1].reshape(len(values), k)
  order = np.argsort(-np.take_along_axis(values, columns, 1), axis=1, kind='stable')
  return np.take_along_axis(columns, order, 1)


def nearest(
  queries: np.ndarray,
  gallery: np.ndarray,
  k: int,
  query_groups: np.ndarray | None = None,
  gallery_groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Finds the k gallery rows of highest cosine similarity to each query.

  Memory is bounded: the [Q, N] similarities are never held at once.

  Args:
    queries: [Q, D] features.
    gallery: [N, D] features.
    k: neighbours a query; no more than the gallery holds are returned.
    query_groups: [Q] ids, such as the video a clip was cut from. A query does not see
      gallery rows of its own group. Needs `gallery_groups`.
    gallery_groups: [N] ids.

  Returns:
    ([Q, k] int64 gallery rows, [Q, k] float32 similarities), nearest first; of equal
    similarities the lower row comes first. Where a query has fewer than k rows to see,
    the similarity of the rest is -inf.

  Raises:
    ValueError: on features that are not finite or of unequal width, an empty gallery
      or k below 1.
  """
  queries, gallery = normalize(queries), normalize(gallery)
  if queries.shape[1] != gallery.shape[1]:
    raise ValueError(
      f'queries have {queries.shape[1]} features, the gallery {gallery.shape[1]}'
    )
  if k < 1 or not len(gallery):
    raise ValueError(f'k = {k} neighbours of a gallery of {len(gallery)}: need 1 or more')
  if (query_groups is None) != (gallery_groups is None):
    raise ValueError('query_groups and gallery_groups: give both or neither')
  k = min(k, len(gallery))
  indices = np.empty((len(queries), k), np.int64)
  similarities = np.empty((len(queries), k), np.float32)
  for rows in chunks(len(queries), len(gallery)):
    values = queries[rows] @ gallery.T
    if query_groups is not None:
      same = np.asarray(query_groups)[rows, None] == np.asarray(gallery_groups)[None]
      values[same] = -np.inf
    indices[rows] = largest(values, k)
    similarities[rows] = np.take_along_axis(values, indices[rows], 1)
  return indices, similarities


def check_labels(
  labels: np.ndarray, count: int, num_classes: int | None = None
) -> np.ndarray:
  """Returns labels as [N] int64.

  Args:
    labels: [N] class ids.
    count: the N that is expected.
    num_classes: ids must lie below it, where given.

  Raises:
    ValueError: if there are not `count` integers in the range.
  """
  labels = np.asarray(labels)
  if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(
      f'labels are {labels.dtype} of shape {labels.shape}, expected integers [{count}]'
    )
  top = np.inf if num_classes is None else num_classes
  if count and (labels.min() < 0 or labels.max() >= top):
    raise ValueError(
      f'labels span {labels.min()} to {labels.max()}, expected 0 to below {top}'
    )
  return labels.astype(np.int64)


def _vote(
  neighbor_labels: np.ndarray,
  similarities: np.ndarray,
  num_classes: int,
  temperature: float,
) -> np.ndarray:
  """Sums weights exp(similarity / temperature) a class, scaled to sum to 1 a row."""
  # The nearest neighbour's weight is 1: small temperatures do not overflow.
  logits = similarities.astype(np.float64)
  weights = np.exp((logits - logits[:, :1]) / temperature)
  rows = np.arange(len(neighbor_labels))[:, None]
  scores = np.bincount(
    (rows * num_classes + neighbor_labels).ravel(),
    weights.ravel(),
    minlength=len(rows) * num_classes,
  ).reshape(len(rows), num_classes)
  return scores / scores.sum(axis=1, keepdims=True)


def knn_predict(
  train_features: np.ndarray,
  train_labels: np.ndarray,
  test_features: np.ndarray,
  num_classes: int,
  k: int = NEIGHBORS,
  temperature: float = TEMPERATURE,
) -> np.ndarray:
  """Scores classes by the weighted votes of the nearest training features.

  Args:
    train_features: [N, D] the bank.
    train_labels: [N] class ids.
    test_features: [Q, D].
    num_classes: number of classes C.
    k: neighbours that vote, at most N.
    temperature: of the weights exp(cosine / temperature).

  Returns:
    [Q, C] float64, rows sum to 1.

  Raises:
    ValueError: on features or labels that `nearest` or `check_labels` refuse.
  """
  labels = check_labels(train_labels, len(train_features), num_classes)
  indices, similarities = nearest(test_features, train_features, k)
  return _vote(labels[indices], similarities, num_classes, temperature)


def leave_one_out(
  features: np.ndarray,
  labels: np.ndarray,
  groups: np.ndarray | None = None,
  k: int = NEIGHBORS,
  temperature: float = TEMPERATURE,
) -> float:
  """Accuracy of the kNN classifier with each row in turn as the query.

  Args:
    features: [N, D].
    labels: [N] class ids.
    groups: [N] ids of what rows were cut from. A query sees neither itself nor another
      row of its group, so clips of one video do not vote for each other.
    k: neighbours that vote.
    temperature: of the weights exp(cosine / temperature).

  Returns:
    Share of rows whose highest-scored class is their own; of equal scores the lower
    class id wins.

  Raises:
    ValueError: if all rows are of one group, so that no query has a neighbour.
  """
  labels = check_labels(labels, len(features))
  groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
  if groups.shape != labels.shape or len(np.unique(groups)) < 2:
    raise ValueError(
      f'groups of shape {groups.shape} hold {len(np.unique(groups))} ids, expected '
      f'[{len(labels)}] with at least two'
    )
  indices, similarities = nearest(features, features, k, groups, groups)
  scores = _vote(labels[indices], similarities, int(labels.max()) + 1, temperature)
  return float(np.mean(scores.argmax(axis=1) == labels))

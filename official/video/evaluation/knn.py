"""Nearest neighbours of features, and the weighted k-nearest-neighbour classifier.

The classifier follows Wu et al. 2018 (arXiv 1805.01978, section 3.4): cosine
similarity, 200 neighbours, votes weighted by exp(similarity / 0.07).

Features may be memory-mapped: a block of queries meets a block of the gallery at a time, so
memory does not grow with either.
"""

from collections.abc import Iterator

import numpy as np

from official.video.evaluation import blocks

NEIGHBORS = 200
TEMPERATURE = 0.07

# Queries and rows of the gallery that meet at a time: 64 MiB of similarities.
_QUERIES, _GALLERY = 4096, 4096
# Numbers that votes and ranks take at a time: 16 MiB of float32.
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
  return blocks.unit(blocks.check(features))


def chunks(queries: int, candidates: int) -> Iterator[slice]:
  """Cuts `queries` rows so that a chunk's [rows, candidates] array stays small."""
  return blocks.ranges(queries, max(1, _CHUNK_ELEMENTS // max(1, candidates)))


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


class _Best:
  """The k nearest of what was seen of a gallery so far, for a block of queries.

  Attributes:
    rows: [Q, k] int64 of the gallery, nearest first.
    values: [Q, k] float32 similarities.
  """

  def __init__(self, values: np.ndarray, k: int):
    """Takes in the similarities [Q, n] of the first n rows, at least k."""
    self.rows = largest(values, k)
    self.values = np.take_along_axis(values, self.rows, 1)

  def add(self, values: np.ndarray, first: int) -> None:
    """Takes in the similarities [Q, n] of the rows from `first` on."""
    # One that is only as near as the last comes too late: its row is the higher.
    query, column = np.nonzero(values > self.values[:, -1:])
    if not len(query):
      return
    counts = np.bincount(query, minlength=len(values))
    place = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = np.full((len(values), counts.max()), -np.inf, np.float32)
    rows = np.zeros(found.shape, np.int64)
    found[query, place], rows[query, place] = values[query, column], column + first
    found = np.concatenate([self.values, found], 1)
    rows = np.concatenate([self.rows, rows], 1)
    order = largest(found, self.rows.shape[1])
    self.rows = np.take_along_axis(rows, order, 1)
    self.values = np.take_along_axis(found, order, 1)


def _on_host(
  queries: np.ndarray,
  gallery: Iterator[tuple[int, np.ndarray, np.ndarray | None]],
  k: int,
) -> tuple[np.ndarray, np.ndarray]:
  """The k nearest of a block of queries, ranked by NumPy; see `_on_device`."""
  best, left = None, blocks.padded(queries)
  for first, block, hidden in gallery:
    values = blocks.products(left, blocks.padded(block))[: len(queries), : len(block)]
    if hidden is not None:
      values[hidden] = -np.inf
    if best is None:
      best = _Best(values, k)
    else:
      best.add(values, first)
  assert best is not None
  return best.rows, best.values


def _on_device(
  queries: np.ndarray,
  gallery: Iterator[tuple[int, np.ndarray, np.ndarray | None]],
  k: int,
  device: str,
) -> tuple[np.ndarray, np.ndarray]:
  """The k nearest of a block of queries, by TensorFlow.

  Args:
    queries: [Q, D] of unit length.
    gallery: number of the first row, rows [n, D] of unit length, and which of them each
      query does not see, [Q, n], for each block; the first has k rows or more.
    k: how many.
    device: that computes.

  Returns:
    [Q, k] int64 rows and [Q, k] float32 similarities, nearest first.
  """
  import tensorflow as tf

  with tf.device(device), blocks.full_precision():
    left = tf.constant(blocks.padded(queries))
    rows = tf.zeros([len(left), 0], tf.int64)
    found = tf.zeros([len(left), 0], tf.float32)
    for first, block, hidden in gallery:
      right = blocks.padded(block)
      unseen = np.zeros((len(left), len(right)), bool)
      unseen[:, len(block) :] = True
      if hidden is not None:
        unseen[: len(queries), : len(block)] |= hidden
      values = tf.matmul(left, right, transpose_b=True)
      values = tf.where(unseen, -np.inf, values)
      # Of equal ones top_k takes the first, which are those of the lower rows.
      found, order = tf.math.top_k(tf.concat([found, values], 1), k)
      numbers = tf.range(first, first + len(right), dtype=tf.int64)
      numbers = tf.broadcast_to(numbers, [len(left), len(right)])
      rows = tf.gather(tf.concat([rows, numbers], 1), order, batch_dims=1)
  return rows.numpy()[: len(queries)], found.numpy()[: len(queries)]


def neighbors(
  queries: np.ndarray,
  gallery: np.ndarray,
  k: int,
  query_groups: np.ndarray | None = None,
  gallery_groups: np.ndarray | None = None,
  device: str | None = None,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
  """`nearest`, a block of queries at a time: which, their rows and similarities.

  Args:
    queries: see `nearest`; so the next four.
    gallery: see there.
    k: see there.
    query_groups: see there.
    gallery_groups: see there.
    device: name of a device of TensorFlow's; '' computes by NumPy. By default the first GPU,
      and NumPy where there is none.
  """
  queries, gallery = blocks.check(queries), blocks.check(gallery)
  if queries.shape[1] != gallery.shape[1]:
    raise ValueError(
      f'queries have {queries.shape[1]} features, the gallery {gallery.shape[1]}'
    )
  if k < 1 or not len(gallery):
    raise ValueError(f'k = {k} neighbours of a gallery of {len(gallery)}: need 1 or more')
  if (query_groups is None) != (gallery_groups is None):
    raise ValueError('query_groups and gallery_groups: give both or neither')
  k = min(k, len(gallery))
  device = blocks.accelerator() if device is None else device

  def parts(some: slice) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    for rows in blocks.ranges(len(gallery), max(k, _GALLERY)):
      hidden = None
      if query_groups is not None:
        own = np.asarray(query_groups)[some, None]
        hidden = own == np.asarray(gallery_groups)[None, rows]
      yield rows.start, blocks.unit(gallery, rows), hidden

  for some in blocks.ranges(len(queries), _QUERIES):
    block = blocks.unit(queries, some)
    if device:
      yield some, *_on_device(block, parts(some), k, device)
    else:
      yield some, *_on_host(block, parts(some), k)


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
  found = list(neighbors(queries, gallery, k, query_groups, gallery_groups))
  if not found:  # Of no queries.
    shape = (0, min(k, len(gallery)))
    return np.empty(shape, np.int64), np.empty(shape, np.float32)
  _, rows, similarities = zip(*found, strict=True)
  return np.concatenate(rows), np.concatenate(similarities)


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


def vote(
  labels: np.ndarray,
  rows: np.ndarray,
  similarities: np.ndarray,
  num_classes: int,
  temperature: float = TEMPERATURE,
) -> np.ndarray:
  """Sums weights exp(similarity / temperature) a class, over all weights.

  Args:
    labels: [N] class ids of the gallery, or [N, C] bool, which classes each has.
    rows: [Q, k] of the gallery, nearest first.
    similarities: [Q, k] float32.
    num_classes: C.
    temperature: of the weights.

  Returns:
    [Q, C] float64, shares of the votes; of one label each they sum to 1 a row.
  """
  # The nearest neighbour's weight is 1: small temperatures do not overflow.
  logits = similarities.astype(np.float64)
  weights = np.exp((logits - logits[:, :1]) / temperature)
  total = weights.sum(axis=1, keepdims=True)
  if labels.ndim == 2:
    scores = np.empty((len(rows), num_classes))
    for some in chunks(len(rows), rows.shape[1] * num_classes):
      scores[some] = np.einsum('qk,qkc->qc', weights[some], labels[rows[some]])
    return scores / total
  numbers = np.arange(len(rows))[:, None]
  votes = np.bincount(
    (numbers * num_classes + labels[rows]).ravel(),
    weights.ravel(),
    minlength=len(rows) * num_classes,
  )
  return votes.reshape(len(rows), num_classes) / total


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
  scores = np.empty((len(test_features), num_classes))
  for some, rows, similarities in neighbors(test_features, train_features, k):
    scores[some] = vote(labels, rows, similarities, num_classes, temperature)
  return scores


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
  right, classes = 0, int(labels.max()) + 1
  for some, rows, similarities in neighbors(features, features, k, groups, groups):
    scores = vote(labels, rows, similarities, classes, temperature)
    right += int((scores.argmax(axis=1) == labels[some]).sum())
  return right / len(labels)

"""Retrieval: nearest neighbours by class, and paired retrieval by rank."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from official.video import registry
from official.video.evaluation import knn

# Of clip retrieval.
KS = (1, 5, 10, 20, 50)

Convention = Literal['optimistic', 'average', 'pessimistic']


def class_retrieval(
  query_features: np.ndarray,
  query_labels: np.ndarray,
  gallery_features: np.ndarray,
  gallery_labels: np.ndarray,
  ks: Sequence[int] = KS,
  query_groups: np.ndarray | None = None,
  gallery_groups: np.ndarray | None = None,
) -> dict[int, float]:
  """Recall of nearest-neighbour retrieval by class.

  The protocol of clip retrieval on UCF101 and HMDB51 (Xu et al., CVPR 2019): test clips
  query the training clips, and a query is a hit at k if any of its k nearest neighbours
  by cosine similarity has its label.

  Args:
    query_features: [Q, D].
    query_labels: [Q] class ids.
    gallery_features: [N, D].
    gallery_labels: [N] class ids.
    ks: values of k. A k above N counts the whole gallery.
    query_groups: [Q] ids; a query does not see gallery rows of its own group.
    gallery_groups: [N] ids.

  Returns:
    {k: share of queries that hit}, shares in [0, 1].

  Raises:
    ValueError: on an empty query set, or arrays that `knn.nearest` refuses.
  """
  query_labels = knn.check_labels(query_labels, len(query_features))
  gallery_labels = knn.check_labels(gallery_labels, len(gallery_features))
  if not len(query_labels):
    raise ValueError('there are no queries to retrieve with')
  count = dict.fromkeys(ks, 0)
  for some, rows, similarities in knn.neighbors(
    query_features, gallery_features, max(ks), query_groups, gallery_groups
  ):
    found = hits(query_labels[some], gallery_labels, rows, similarities)
    for k in ks:
      count[k] += int(found[:, :k].any(axis=1).sum())
  return {k: number / len(query_labels) for k, number in count.items()}


def hits(
  query_labels: np.ndarray,
  gallery_labels: np.ndarray,
  rows: np.ndarray,
  similarities: np.ndarray,
) -> np.ndarray:
  """Which neighbours have a query's label, or one of its labels.

  Args:
    query_labels: [Q] class ids, or [Q, C] bool, which classes each has.
    gallery_labels: [N] or [N, C], alike.
    rows: [Q, k] of the gallery.
    similarities: [Q, k]; -inf where the query does not see the row.

  Returns:
    [Q, k] bool.
  """
  if query_labels.ndim == 1:
    same = gallery_labels[rows] == query_labels[:, None]
  else:
    same = np.empty(rows.shape, bool)
    for some in knn.chunks(len(rows), rows.shape[1] * query_labels.shape[1]):
      same[some] = (gallery_labels[rows[some]] & query_labels[some, None]).any(-1)
  return same & (similarities > -np.inf)


def paired_ranks(
  similarity: np.ndarray,
  correct: np.ndarray | None = None,
  convention: Convention = 'average',
) -> np.ndarray:
  """Rank of each query's correct candidate, 1 for the best.

  rank = 1 + (candidates above the correct one) + share * (others equal to it), with
  share 0 (optimistic), 1/2 (average) or 1 (pessimistic). The average is the expected
  rank under random tie breaks, so a constant similarity scores at chance.

  Args:
    similarity: [Q, N] one row a query, higher is more similar, all finite. Transpose it
      to query by column.
    correct: [Q] the correct column of each row; the diagonal by default, which needs
      N = Q.
    convention: how ties count.

  Returns:
    [Q] float64.

  Raises:
    ValueError: if a similarity is not finite, shapes do not fit or the convention is
      not known.
  """
  similarity = np.asarray(similarity)
  shares = {'optimistic': 0.0, 'average': 0.5, 'pessimistic': 1.0}
  registry.check_choice('convention', convention, shares)
  if similarity.ndim != 2 or (correct is None and len(set(similarity.shape)) != 1):
    raise ValueError(
      f'similarity has shape {similarity.shape}, expected [n, n], or [q, n] and `correct`'
    )
  count, candidates = similarity.shape
  columns = np.arange(count) if correct is None else np.asarray(correct)
  columns = knn.check_labels(columns, count, candidates)
  ranks = np.empty(count, np.float64)
  for rows in knn.chunks(count, candidates):
    values = similarity[rows]
    # NaN compares false with everything: it would rank first.
    if not np.isfinite(values).all():
      raise ValueError(f'similarity of queries {rows.start} to {rows.stop} is not finite')
    own = np.take_along_axis(values, columns[rows, None], 1)
    ties = (values == own).sum(axis=1) - 1
    ranks[rows] = 1 + (values > own).sum(axis=1) + shares[convention] * ties
  return ranks


@dataclasses.dataclass(frozen=True)
class RankMetrics:
  """Summary of the ranks of paired retrieval.

  Attributes:
    recall: {k: share of queries whose rank is at most k}, shares in [0, 1].
    median_rank: MedR, the mean of the two middle ranks for an even number.
    mean_rank: MeanR.
    queries: how many ranks there were.
  """

  recall: dict[int, float]
  median_rank: float
  mean_rank: float
  queries: int


def rank_metrics(ranks: np.ndarray, ks: Sequence[int] = (1, 5, 10)) -> RankMetrics:
  """Recall at k, median and mean of 1-based ranks [Q].

  Raises:
    ValueError: if there are no ranks.
  """
  ranks = np.asarray(ranks, np.float64)
  if not ranks.size:
    raise ValueError('there are no ranks to summarize')
  recall = {k: float(np.mean(ranks <= k)) for k in ks}
  return RankMetrics(recall, float(np.median(ranks)), float(ranks.mean()), len(ranks))

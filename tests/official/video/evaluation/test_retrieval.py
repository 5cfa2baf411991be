"""Retrieval by class and by pair: hand-worked numbers and golden arrays."""

import numpy as np
import pytest

from official.video.evaluation import retrieval
from tests.goldens import golden


def on_circle(*degrees):
  angles = np.deg2rad(degrees)
  return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_class_retrieval_by_hand():
  gallery, labels = on_circle(0, 10, 20, 90), np.array([0, 1, 1, 2])
  # 1 degree: classes 0, 1, 1, 2. 89 degrees: 2, 1, 1, 0.
  recalls = retrieval.class_retrieval(
    on_circle(1, 1, 89), np.array([0, 2, 0]), gallery, labels, ks=(1, 2, 3, 4, 50)
  )
  assert recalls == {1: 1 / 3, 2: 1 / 3, 3: 1 / 3, 4: 1, 50: 1}


def test_class_retrieval_skips_the_own_group_even_at_large_k():
  recalls = retrieval.class_retrieval(
    on_circle(0), np.array([0]), on_circle(0, 90), np.array([0, 1]), (1, 2),
    query_groups=np.array([3]), gallery_groups=np.array([3, 4]),
  )  # fmt: skip
  assert recalls == {1: 0, 2: 0}


def test_class_retrieval_needs_queries():
  with pytest.raises(ValueError, match='no queries'):
    retrieval.class_retrieval(np.ones((0, 2)), np.zeros(0, int), np.ones((1, 2)), [0])


@pytest.mark.parametrize(
  'convention, ranks',
  [
    ('optimistic', [1, 1, 3]),
    ('average', [1, 2, 3]),
    ('pessimistic', [1, 3, 3]),
  ],
)
def test_ranks_by_hand(convention, ranks):
  similarity = np.array([[0.9, 0.1, 0.2], [0.4, 0.4, 0.4], [0.8, 0.7, 0.1]])
  assert retrieval.paired_ranks(similarity, convention=convention).tolist() == ranks


def test_ranks_of_named_columns():
  similarity = np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])
  assert retrieval.paired_ranks(similarity, np.array([0, 1])).tolist() == [3, 2]


def test_constant_similarity_is_at_chance_by_default():
  metrics = retrieval.rank_metrics(retrieval.paired_ranks(np.ones((101, 101))))
  assert metrics.recall == {1: 0, 5: 0, 10: 0}
  assert metrics.median_rank == metrics.mean_rank == 51


def test_median_of_an_even_number_is_the_mean_of_the_middle_two():
  metrics = retrieval.rank_metrics(np.array([1, 9, 2, 5]), ks=(1, 2))
  assert metrics == retrieval.RankMetrics({1: 0.25, 2: 0.5}, 3.5, 4.25, 4)


def test_not_finite_is_refused():
  similarity = np.eye(3)
  similarity[1, 1] = np.nan
  with pytest.raises(ValueError, match='not finite'):
    retrieval.paired_ranks(similarity)


def test_bad_requests_are_refused():
  with pytest.raises(ValueError, match='lenient'):
    retrieval.paired_ranks(np.eye(3), convention='lenient')
  with pytest.raises(ValueError, match=r'\[n, n\]'):
    retrieval.paired_ranks(np.ones((2, 3)))
  with pytest.raises(ValueError, match='no ranks'):
    retrieval.rank_metrics(np.zeros(0))


def test_paired_retrieval_matches_the_goldens():
  arrays = golden('eval_retrieval.npz')
  outputs = [key.split('/') for key in arrays if '/out/' in key]
  assert outputs
  for case, _, way, what in outputs:
    similarity = arrays[f'{case}/similarity']
    similarity = similarity if way == 'query_row' else similarity.T
    expected = arrays[f'{case}/out/{way}/{what}']
    if what == 'rank_average':
      actual = retrieval.paired_ranks(similarity)
    else:
      metrics = retrieval.rank_metrics(
        retrieval.paired_ranks(similarity, convention=what)
      )
      actual = [*metrics.recall.values(), metrics.median_rank, metrics.mean_rank]
    np.testing.assert_allclose(actual, expected, rtol=1e-6, err_msg=f'{case}/{way}')


def test_a_neighbour_that_shares_a_label_is_a_hit():
  gallery = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]], bool)
  queries = np.array([[0, 0, 1], [1, 1, 0]], bool)
  rows = np.array([[0, 1, 2], [2, 1, 0]])
  near = np.array([[0.9, 0.8, 0.7], [0.9, 0.8, -np.inf]])
  found = retrieval.hits(queries, gallery, rows, near)
  assert found.tolist() == [[False, True, False], [False, True, False]]

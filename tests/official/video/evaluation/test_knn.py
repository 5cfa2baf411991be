"""Nearest neighbours and the kNN classifier against numbers worked out by hand."""

import sys

import numpy as np
import pytest

from official.video.evaluation import blocks, knn


def on_circle(*degrees):
  angles = np.deg2rad(degrees)
  return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_normalize_keeps_zero_rows():
  unit = knn.normalize(np.array([[3.0, 4.0], [0.0, 0.0]]))
  np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_normalize_refuses_nan():
  with pytest.raises(ValueError, match='1 rows, first 1'):
    knn.normalize(np.array([[1.0, 0.0], [np.nan, 0.0]]))


def test_largest_breaks_ties_by_column():
  values = np.array([[1.0, 3.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
  assert knn.largest(values, 2).tolist() == [[1, 2], [0, 1]]
  assert knn.largest(values, 4).tolist() == [[1, 2, 4, 3], [0, 1, 2, 3]]
  # One above the bound, of those at the bound the first.
  assert knn.largest(np.array([[2.0, 2.0, 5.0, 2.0]]), 2).tolist() == [[2, 0]]


def test_nearest_is_by_angle_not_by_length():
  gallery = on_circle(0, 20, 90) * [[1], [100], [0.01]]
  indices, similarities = knn.nearest(on_circle(80), gallery, k=2)
  assert indices.tolist() == [[2, 1]]
  np.testing.assert_allclose(
    similarities, [[np.cos(np.pi / 18), np.cos(np.pi / 3)]], rtol=1e-6
  )


def test_chunks_hold_a_bounded_number_of_values(monkeypatch):
  monkeypatch.setattr(knn, '_CHUNK_ELEMENTS', 3 * 40)
  parts = list(knn.chunks(23, 40))
  assert len(parts) == 8 and parts[-1] == slice(21, 23)
  assert len(list(knn.chunks(2, 1000))) == 2


def test_nearest_skips_the_own_group():
  gallery = on_circle(0, 10, 20)
  indices, similarities = knn.nearest(
    on_circle(1), gallery, 3, np.array([7]), np.array([7, 8, 9])
  )
  assert indices.tolist() == [[1, 2, 0]]
  assert similarities[0, 2] == -np.inf


def test_nearest_refuses_what_does_not_fit():
  with pytest.raises(ValueError, match='2 features, the gallery 3'):
    knn.nearest(np.ones((1, 2)), np.ones((1, 3)), 1)
  with pytest.raises(ValueError, match='gallery of 0'):
    knn.nearest(np.ones((1, 2)), np.ones((0, 2)), 1)
  with pytest.raises(ValueError, match='both or neither'):
    knn.nearest(np.ones((1, 2)), np.ones((1, 2)), 1, query_groups=np.zeros(1))


def test_predict_weights_votes_by_similarity():
  # Cosines 1, .5 and .5; at temperature .5 the weights are e^2 : e : e.
  scores = knn.knn_predict(
    on_circle(0, 60, -60), np.array([0, 1, 1]), on_circle(0), 3, temperature=0.5
  )
  share = np.e / (np.e + 2)
  np.testing.assert_allclose(scores, [[share, 1 - share, 0]], rtol=1e-6)


def test_defaults_are_those_of_the_paper():
  # 201 neighbours, the farthest of another class; the next of all at cosine 1 - .07.
  near = np.rad2deg(np.arccos(1 - 0.07))
  bank = on_circle(0, *[near] * 199, 90)
  labels = np.array([0] + [1] * 199 + [2])
  scores = knn.knn_predict(bank, labels, on_circle(0), 3)
  votes = np.array([[1, 199 / np.e, 0]])
  np.testing.assert_allclose(scores, votes / votes.sum(), rtol=1e-5)


def test_each_query_has_its_own_votes():
  bank, labels = on_circle(0, 90, 180), np.array([0, 1, 1])
  scores = knn.knn_predict(bank, labels, on_circle(0, 180), 2, k=2, temperature=1.0)
  share = np.e / (np.e + 1)
  np.testing.assert_allclose(scores, [[share, 1 - share], [0, 1]], rtol=1e-6)


def test_predict_counts_k_neighbours_only():
  bank, labels = on_circle(10, 30, 30, 30, 31), np.array([0, 1, 1, 1, 1])
  one = knn.knn_predict(bank, labels, on_circle(0), 2, k=1)
  all_of_them = knn.knn_predict(bank, labels, on_circle(0), 2, temperature=1.0)
  assert one.tolist() == [[1, 0]]
  assert all_of_them.argmax() == 1


def test_predict_survives_a_tiny_temperature():
  scores = knn.knn_predict(
    on_circle(0, 90), np.array([0, 1]), on_circle(5), 2, temperature=1e-4
  )
  np.testing.assert_allclose(scores, [[1, 0]], atol=1e-12)


@pytest.mark.parametrize(
  'labels', [np.array([0, 2]), np.array([-1, 0]), np.array([0.0, 1.0]), np.array([0])]
)
def test_predict_refuses_labels(labels):
  with pytest.raises(ValueError, match='labels'):
    knn.knn_predict(on_circle(0, 90), labels, on_circle(5), 2)


def test_leave_one_out_does_not_see_itself():
  # Neighbours of each: 0 <-> 10 (labels 0, 1) and 90 <-> 100 (labels 1, 1).
  accuracy = knn.leave_one_out(on_circle(0, 10, 90, 100), np.array([0, 1, 1, 1]), k=1)
  assert accuracy == 0.5


def test_leave_one_out_does_not_see_its_group():
  features, labels = on_circle(0, 1, 20, 180, 181, 160), np.array([0, 0, 1, 1, 1, 1])
  groups = np.array([0, 0, 1, 2, 2, 3])
  assert knn.leave_one_out(features, labels, k=1) == 5 / 6
  # Without its twin, 0 and 1 find 20, which is of class 1; 20 finds 1, of class 0.
  assert knn.leave_one_out(features, labels, groups, k=1) == 3 / 6


def test_leave_one_out_of_collapsed_features_is_at_chance():
  labels = np.repeat(np.arange(4), 5)
  assert knn.leave_one_out(np.ones((20, 3)), labels) <= 0.25


def test_leave_one_out_takes_k_and_temperature():
  # The nearest of 0 is of its class, two farther ones are not.
  features, labels = on_circle(0, 10, 80, 80, 10), np.array([0, 0, 1, 1, 0])
  assert knn.leave_one_out(features, labels, k=1, temperature=100.0) == 1.0
  # All four vote. Sharply: each has a twin of its class. Evenly: classes are 2 to 2 for
  # those of class 0 and 1 to 3 against those of class 1.
  assert knn.leave_one_out(features, labels, temperature=0.01) == 1.0
  assert knn.leave_one_out(features, labels, temperature=100.0) == 3 / 5


def test_leave_one_out_needs_two_groups():
  with pytest.raises(ValueError, match=r'shape \(3,\)'):
    knn.leave_one_out(on_circle(0, 1), np.array([0, 0]), np.array([0, 1, 2]))
  with pytest.raises(ValueError, match='at least two'):
    knn.leave_one_out(on_circle(0, 1), np.array([0, 0]), np.array([5, 5]))


def whole(queries, gallery, k, hidden=None):
  """All similarities at once, in float64, each sorted: of equal ones the lower row first."""
  values = knn.normalize(queries).astype(np.float64) @ knn.normalize(gallery).T
  values = np.where(False if hidden is None else hidden, -np.inf, values)
  order = np.argsort(-values, axis=1, kind='stable')[:, :k]
  return order, np.take_along_axis(values, order, 1)


@pytest.fixture
def small_blocks(monkeypatch):
  monkeypatch.setattr(knn, '_QUERIES', 16)
  monkeypatch.setattr(knn, '_GALLERY', 32)


DEVICES = ('', '/cpu:0')


def found(queries, gallery, k, *groups, device):
  parts = list(knn.neighbors(queries, gallery, k, *groups, device=device))
  assert [part.start for part, _, _ in parts] == list(range(0, len(queries), 16))
  return tuple(np.concatenate(arrays) for arrays in list(zip(*parts, strict=True))[1:])


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('k', [1, 7, 50, 300])
def test_blocks_rank_as_the_whole_does(small_blocks, device, k):
  rng = np.random.default_rng(k)
  queries, gallery = rng.normal(size=(37, 20)), rng.normal(size=(203, 20))
  rows, values = found(queries, gallery, k, device=device)
  order, expected = whole(queries, gallery, k)
  np.testing.assert_array_equal(rows, order)
  np.testing.assert_allclose(values, expected, atol=1e-6)


@pytest.mark.parametrize('device', DEVICES)
def test_ties_across_blocks_go_to_the_lower_row(small_blocks, device):
  # Directions of which products are exact, so that equal ones are equal.
  rng = np.random.default_rng(0)
  unit = np.eye(8)[rng.integers(0, 8, 203)] * rng.choice([-1, 1], (203, 1))
  queries = np.eye(8)[rng.integers(0, 8, 37)]
  for k in (1, 40, 203):
    rows, values = found(queries, unit, k, device=device)
    order, expected = whole(queries, unit, k)
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(values, expected.astype(np.float32))


@pytest.mark.parametrize('device', DEVICES)
def test_copies_far_apart_are_equally_near(small_blocks, device):
  # The last block has one row, and so has the last block of queries.
  rng = np.random.default_rng(1)
  gallery = np.tile(rng.normal(size=(1, 50)), (65, 1))
  queries = rng.normal(size=(17, 50))
  rows, values = found(queries, gallery, 65, device=device)
  np.testing.assert_array_equal(rows, np.tile(np.arange(65), (17, 1)))
  assert (values == values[:, :1]).all()


@pytest.mark.parametrize('has_tensorflow', [False, True])
def test_products_do_not_depend_on_the_place_in_a_block(has_tensorflow, monkeypatch):
  import tensorflow  # noqa: F401

  if not has_tensorflow:
    monkeypatch.delitem(sys.modules, 'tensorflow')
  rng = np.random.default_rng(2)
  for width in (50, 64, 513):
    row, queries = (rng.normal(size=(n, width)).astype(np.float32) for n in (1, 64))
    found = blocks.products(queries, np.tile(row, (192, 1)))
    assert found.dtype == np.float32 and (found == found[:, :1]).all()
    np.testing.assert_allclose(found[:, 0], queries @ row[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('device', DEVICES)
def test_groups_are_hidden_in_every_block(small_blocks, device):
  rng = np.random.default_rng(2)
  features, groups = rng.normal(size=(90, 6)), rng.integers(0, 3, 90)
  hidden = groups[:, None] == groups
  rows, values = found(features, features, 80, groups, groups, device=device)
  order, expected = whole(features, features, 80, hidden)
  np.testing.assert_array_equal(rows, order)
  assert (np.isinf(values) == np.isinf(expected)).all() and np.isinf(values).any()


def test_features_on_disk_are_those_in_memory(small_blocks, tmp_path):
  features = np.random.default_rng(3).normal(size=(100, 6)).astype(np.float16)
  np.save(tmp_path / 'f.npy', features)
  mapped = np.load(tmp_path / 'f.npy', mmap_mode='r')
  for a, b in zip(
    knn.nearest(mapped, mapped, 9), knn.nearest(features, features, 9), strict=True
  ):
    np.testing.assert_array_equal(a, b)
  assert knn.leave_one_out(mapped, np.arange(100) % 2) == knn.leave_one_out(
    features, np.arange(100) % 2
  )


def test_a_row_that_is_not_finite_is_named_whichever_block_it_is_in(small_blocks):
  features = np.ones((100, 2))
  features[77, 1] = np.inf
  with pytest.raises(ValueError, match='of 1 rows, first 77,'):
    knn.nearest(np.ones((1, 2)), features, 1)
  with pytest.raises(ValueError, match='first 77,'):
    knn.nearest(features, np.ones((1, 2)), 1)


def test_no_query_has_no_neighbour():
  rows, values = knn.nearest(np.ones((0, 2)), np.ones((5, 2)), 3)
  assert rows.shape == values.shape == (0, 3)


def test_votes_of_several_labels_are_shares_of_the_weights():
  has = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0]], bool)
  rows, near = np.array([[0, 1, 2]]), np.log([[1.0, 0.5, 0.5]])
  scores = knn.vote(has, rows, near, 3, temperature=1.0)
  np.testing.assert_allclose(scores, [[0.5, 0.25, 0.75]])
  # One label each is the same thing.
  labels = np.array([2, 0, 1])
  hot = np.eye(3, dtype=bool)[labels]
  one = knn.vote(labels, rows, near, 3)
  np.testing.assert_allclose(one, knn.vote(hot, rows, near, 3))

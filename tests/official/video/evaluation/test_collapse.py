"""Collapse measures: hand-worked numbers and the degenerate cases."""

import numpy as np
import pytest

from official.video.evaluation import collapse, knn


def gaussian(count, dims):
  return np.random.default_rng(0).normal(size=(count, dims))


def test_std_by_hand():
  # Normalised rows (1, 0) and (0, 1): each dimension is {1, 0}, deviation 1/2.
  assert collapse.embedding_std(np.array([[5.0, 0], [0, 0.1]])) == pytest.approx(0.5)
  # Dimensions {1, 0, 0} and {0, 1, 1}: deviation sqrt(2) / 3.
  three = np.array([[5.0, 0], [0, 0.1], [0, 2]])
  assert collapse.embedding_std(three) == pytest.approx(2**0.5 / 3)


def test_std_of_collapsed_and_of_isotropic():
  assert collapse.embedding_std(np.ones((10, 4))) == pytest.approx(0, abs=1e-12)
  isotropic = collapse.embedding_std(gaussian(4000, 64))
  assert isotropic == pytest.approx(1 / 8, rel=0.01)


def test_effective_rank_by_hand():
  # Singular values 3 and 1: p = (3/4, 1/4), entropy 2 ln 2 - (3/4) ln 3.
  expected = 4 / 3**0.75
  assert collapse.effective_rank(np.diag([3.0, 1.0])) == pytest.approx(expected)


def test_effective_rank_of_collapsed_and_of_isotropic():
  assert collapse.effective_rank(np.ones((10, 4))) == pytest.approx(1, abs=1e-6)
  assert collapse.effective_rank(np.zeros((10, 4))) == 0
  assert collapse.effective_rank(np.eye(6)) == pytest.approx(6)
  assert 31.5 < collapse.effective_rank(gaussian(4000, 32)) <= 32


def test_effective_rank_sees_dimensional_collapse():
  embeddings = gaussian(500, 3) @ gaussian(3, 32)
  assert collapse.effective_rank(embeddings) < 3.001


def test_alignment_by_hand():
  first = np.array([[1.0, 0], [1, 0], [1, 0]])
  second = np.array([[2.0, 0], [0, 3], [-1, 0]])
  assert collapse.alignment(first, second) == pytest.approx((0 + 2 + 4) / 3)
  assert collapse.alignment(first, second, alpha=1) == pytest.approx((2**0.5 + 2) / 3)
  with pytest.raises(ValueError, match='shapes'):
    collapse.alignment(first, second[:2])


def test_uniformity_by_hand():
  # Squared distances of the three pairs: 2, 4, 2.
  embeddings = np.array([[1.0, 0], [0, 2], [-3, 0]])
  expected = np.log((2 * np.exp(-4) + np.exp(-8)) / 3)
  assert collapse.uniformity(embeddings) == pytest.approx(expected)
  narrow = np.log((2 * np.exp(-1) + np.exp(-2)) / 3)
  assert collapse.uniformity(embeddings, t=0.5) == pytest.approx(narrow)
  assert collapse.uniformity(np.ones((5, 2))) == pytest.approx(0, abs=1e-12)


def test_uniformity_in_chunks_equals_whole(monkeypatch):
  embeddings = gaussian(30, 4)
  whole = collapse.uniformity(embeddings)
  monkeypatch.setattr(knn, '_CHUNK_ELEMENTS', 4 * 30)
  assert collapse.uniformity(embeddings) == pytest.approx(whole)


def test_all_measures():
  embeddings = gaussian(50, 16)
  measures = collapse.collapse_measures(embeddings, embeddings + 0.01)
  assert measures['embedding_std_ideal'] == 0.25
  assert 0 < measures['alignment'] < 0.01
  assert 'alignment' not in collapse.collapse_measures(embeddings)


@pytest.mark.parametrize('bad', [np.ones(3), np.ones((1, 3)), np.full((2, 2), np.nan)])
def test_what_cannot_be_measured_is_refused(bad):
  with pytest.raises(ValueError, match='at least 2'):
    collapse.effective_rank(bad)

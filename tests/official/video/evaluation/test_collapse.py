"""Collapse measures: hand-worked numbers and the degenerate cases."""

import tracemalloc

import numpy as np
import pytest

from official.video.evaluation import collapse


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


@pytest.mark.parametrize('block', [1, 4, 7, 30])
def test_blocks_measure_what_the_whole_does(monkeypatch, block):
  embeddings = gaussian(30, 4) + np.array([3, 0, 0, 1])
  unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
  pairs = [
    np.exp(-2 * np.sum((unit[i] - unit[j]) ** 2)) for i in range(30) for j in range(i)
  ]
  shares = np.linalg.svd(embeddings, compute_uv=False)
  shares /= shares.sum()
  monkeypatch.setattr(collapse, '_BLOCK', block)
  found = collapse.collapse_measures(embeddings, 2 * embeddings[::-1])
  assert found == pytest.approx(
    {
      'embedding_std': unit.std(axis=0).mean(),
      'embedding_std_ideal': 0.5,
      'effective_rank': np.exp(-np.sum(shares * np.log(shares))),
      'uniformity': np.log(np.mean(pairs)),
      'alignment': np.mean(np.sum((unit - unit[::-1]) ** 2, axis=1)),
    },
    rel=1e-12,
  )


def test_a_rank_that_is_not_full_is_told_in_blocks(monkeypatch):
  monkeypatch.setattr(collapse, '_BLOCK', 16)
  assert collapse.effective_rank(np.ones((100, 64))) == pytest.approx(1, abs=1e-9)
  few = collapse.effective_rank(gaussian(100, 3) @ gaussian(3, 64))
  assert 2.5 < few < 3 + 1e-9


def test_memory_does_not_grow_with_their_number(tmp_path, monkeypatch):
  monkeypatch.setattr(collapse, '_BLOCK', 64)
  peaks = []
  for count in (256, 2048):
    np.save(tmp_path / 'x.npy', gaussian(count, 32).astype(np.float32))
    embeddings = np.load(tmp_path / 'x.npy', mmap_mode='r')
    tracemalloc.start()
    collapse.collapse_measures(embeddings)
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert peaks[1] < 1.1 * peaks[0]


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

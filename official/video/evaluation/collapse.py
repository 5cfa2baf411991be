"""Measures of collapse: how much of the space a set of embeddings fills.

Embeddings may be memory-mapped: they are read in blocks, so memory does not grow with them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from official.video.evaluation import blocks

_BLOCK = blocks.ROWS

# What `collapse_measures` gives of embeddings alone.
MEASURES = ('embedding_std', 'embedding_std_ideal', 'effective_rank', 'uniformity')


def _checked(embeddings: np.ndarray) -> np.ndarray:
  embeddings = np.asanyarray(embeddings)
  if (
    embeddings.ndim != 2
    or len(embeddings) < 2
    or not all(np.isfinite(block).all() for block in _rows(embeddings))
  ):
    raise ValueError(
      f'embeddings have shape {embeddings.shape}, expected [N, D] with N of at least 2 '
      'and all numbers finite'
    )
  return embeddings


def _rows(embeddings: np.ndarray) -> Iterator[np.ndarray]:
  """Blocks [n, D] float64 of embeddings, one after the other."""
  for rows in blocks.ranges(len(embeddings), _BLOCK):
    yield np.asarray(blocks.take(embeddings, rows), np.float64)


def _unit(embeddings: np.ndarray) -> Iterator[np.ndarray]:
  """The same, of unit length."""
  for block in _rows(embeddings):
    norms = np.linalg.norm(block, axis=1, keepdims=True)
    yield block / np.maximum(norms, np.finfo(np.float64).tiny)


def embedding_std(embeddings: np.ndarray) -> float:
  """Mean over dimensions of the standard deviation of L2-normalised embeddings.

  0 when all point the same way; 1 / sqrt(D) when directions are uniform on the sphere.
  Source: Chen and He 2021 (SimSiam, arXiv 2011.10566, section 4.1).

  Args:
    embeddings: [N, D], N of at least 2.
  """
  embeddings = _checked(embeddings)
  count = len(embeddings)
  mean = sum(block.sum(axis=0) for block in _unit(embeddings)) / count
  squares = sum(((block - mean) ** 2).sum(axis=0) for block in _unit(embeddings))
  return float(np.sqrt(squares / count).mean())


def effective_rank(embeddings: np.ndarray) -> float:
  """exp(-sum_i p_i ln p_i) with p_i = s_i / sum_j s_j, s the singular values.

  1 when all embeddings are multiples of one vector, min(N, D) when all singular values
  are equal. Embeddings are taken as they are, neither centred nor normalised. Sources:
  Roy and Vetterli 2007; Garrido et al. 2023 (RankMe, arXiv 2210.02885).

  Args:
    embeddings: [N, D], N of at least 2. Costs O(N D min(N, D)).

  Returns:
    A number in [1, min(N, D)], or 0 where all embeddings are zero.
  """
  embeddings = _checked(embeddings)
  # The triangle of a QR decomposition has the singular values of what is decomposed, and of
  # rows below one another that of their triangles has them too.
  triangle: Any = np.empty((0, embeddings.shape[1]))
  for block in _rows(embeddings):
    triangle = np.linalg.qr(np.concatenate([triangle, block]), mode='r')
  singular = np.linalg.svd(triangle, compute_uv=False)
  if not singular[0]:
    return 0.0
  p = singular / singular.sum()
  p = p[p > 0]
  return float(np.exp(-np.sum(p * np.log(p))))


def alignment(first: np.ndarray, second: np.ndarray, alpha: float = 2.0) -> float:
  """Mean of |x - y|^alpha over positive pairs of L2-normalised embeddings.

  0 when the two views of every pair coincide; 2 (alpha 2) when they are orthogonal.
  Source: Wang and Isola 2020 (arXiv 2005.10242, section 4).

  Args:
    first: [N, D] one view of each sample, N of at least 2.
    second: [N, D] the other view.
    alpha: exponent of the distance.

  Raises:
    ValueError: if the shapes differ.
  """
  if np.shape(first) != np.shape(second):
    raise ValueError(f'views have shapes {np.shape(first)} and {np.shape(second)}')
  pairs = zip(_unit(_checked(first)), _unit(_checked(second)), strict=True)
  total = sum(float((np.linalg.norm(x - y, axis=1) ** alpha).sum()) for x, y in pairs)
  return total / len(first)


def uniformity(embeddings: np.ndarray, t: float = 2.0) -> float:
  """Logarithm of the mean of exp(-t |x_i - x_j|^2) over pairs i < j, L2-normalised.

  0 when all embeddings coincide; lower is more uniform, near -2 t for directions that
  are uniform in many dimensions. Source: Wang and Isola 2020
  (arXiv 2005.10242, section 4).

  Args:
    embeddings: [N, D], N of at least 2. Memory is bounded, time is O(N^2 D).
    t: scale of the Gaussian kernel.
  """
  embeddings = _checked(embeddings)
  count, total = len(embeddings), 0.0
  for number, rows in enumerate(_unit(embeddings)):
    norms = np.sum(rows**2, axis=1)
    later = embeddings[number * _BLOCK :]
    for place, others in enumerate(_unit(later)):
      squared = norms[:, None] + np.sum(others**2, axis=1) - 2 * rows @ others.T
      found = float(np.exp(-t * np.maximum(squared, 0)).sum())
      total += 2 * found if place else found - len(rows)
  # Every pair was counted twice; a row with itself, which adds exp(0), was left out.
  return float(np.log(total / (count * (count - 1))))


def collapse_measures(
  embeddings: np.ndarray, positives: np.ndarray | None = None
) -> dict[str, float]:
  """All measures by name.

  Args:
    embeddings: [N, D], N of at least 2.
    positives: [N, D] the other view of each sample; without it there is no alignment.

  Returns:
    'embedding_std', 'embedding_std_ideal' (1 / sqrt(D)), 'effective_rank', 'uniformity',
    and 'alignment' where positives are given.
  """
  measures = {
    'embedding_std': embedding_std(embeddings),
    'embedding_std_ideal': float(1 / np.sqrt(np.shape(embeddings)[1])),
    'effective_rank': effective_rank(embeddings),
    'uniformity': uniformity(embeddings),
  }
  if positives is not None:
    measures['alignment'] = alignment(embeddings, positives)
  return measures

"""Measures of collapse: how much of the space a set of embeddings fills."""

import numpy as np

from official.video.evaluation import knn

# What `collapse_measures` gives of embeddings alone.
MEASURES = ('embedding_std', 'embedding_std_ideal', 'effective_rank', 'uniformity')


def _matrix(embeddings: np.ndarray) -> np.ndarray:
  embeddings = np.asarray(embeddings, np.float64)
  if embeddings.ndim != 2 or len(embeddings) < 2 or not np.isfinite(embeddings).all():
    raise ValueError(
      f'embeddings have shape {embeddings.shape}, expected [N, D] with N of at least 2 '
      'and all numbers finite'
    )
  return embeddings


def _unit(embeddings: np.ndarray) -> np.ndarray:
  embeddings = _matrix(embeddings)
  norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
  return embeddings / np.maximum(norms, np.finfo(np.float64).tiny)


def embedding_std(embeddings: np.ndarray) -> float:
  """Mean over dimensions of the standard deviation of L2-normalised embeddings.

  0 when all point the same way; 1 / sqrt(D) when directions are uniform on the sphere.
  Source: Chen and He 2021 (SimSiam, arXiv 2011.10566, section 4.1).

  Args:
    embeddings: [N, D], N of at least 2.
  """
  return float(_unit(embeddings).std(axis=0).mean())


def effective_rank(embeddings: np.ndarray) -> float:
  """exp(-sum_i p_i ln p_i) with p_i = s_i / sum_j s_j, s the singular values.

  1 when all embeddings are multiples of one vector, min(N, D) when all singular values
  are equal. Embeddings are taken as they are, neither centred nor normalised. Sources:
  Roy and Vetterli 2007; Garrido et al. 2023 (RankMe, arXiv 2210.02885).

  Args:
    embeddings: [N, D], N of at least 2. Costs one SVD, O(N D min(N, D)).

  Returns:
    A number in [1, min(N, D)], or 0 where all embeddings are zero.
  """
  singular = np.linalg.svd(_matrix(embeddings), compute_uv=False)
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
  distances = np.linalg.norm(_unit(first) - _unit(second), axis=1)
  return float(np.mean(distances**alpha))


def uniformity(embeddings: np.ndarray, t: float = 2.0) -> float:
  """Logarithm of the mean of exp(-t |x_i - x_j|^2) over pairs i < j, L2-normalised.

  0 when all embeddings coincide; lower is more uniform, near -2 t for directions that
  are uniform in many dimensions. Source: Wang and Isola 2020
  (arXiv 2005.10242, section 4).

  Args:
    embeddings: [N, D], N of at least 2. Memory is bounded, time is O(N^2 D).
    t: scale of the Gaussian kernel.
  """
  unit = _unit(embeddings)
  count = len(unit)
  norms = np.sum(unit**2, axis=1)
  total = 0.0
  for rows in knn.chunks(count, count):
    squared = norms[rows, None] + norms - 2 * unit[rows] @ unit.T
    total += float(np.exp(-t * np.maximum(squared, 0)).sum())
  # The total has every pair twice, and each row with itself, which adds exp(0).
  return float(np.log((total - count) / (count * (count - 1))))


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

"""Features in blocks of rows, and products of them that no block's size has a part in."""

import contextlib
import mmap
import sys
from collections.abc import Iterator

import numpy as np

# Rows of a block: 16 MiB of 2048 float32 features.
ROWS = 2048
# Sides of a product are filled up to a multiple of this with zeros: products of a single row
# or column are summed in another order, and so are the last few of an odd number.
_MULTIPLE = 64


def ranges(count: int, rows: int = ROWS) -> Iterator[slice]:
  """Cuts `count` rows into blocks, in order."""
  for start in range(0, count, rows):
    yield slice(start, min(start + rows, count))


def check(features: np.ndarray) -> np.ndarray:
  """Features [N, D] as an array, which may lie on disk; nothing is read but what is a list.

  Raises:
    ValueError: they are not two-dimensional.
  """
  array = features if isinstance(features, np.ndarray) else np.asarray(features)
  if array.ndim != 2:
    raise ValueError(f'features have shape {array.shape}, expected [N, D]')
  return array


def take(features: np.ndarray, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
  """A copy of some rows, whose pages of a mapped file no longer count as this process's.

  Args:
    features: [N, D], in memory or memory-mapped.
    rows: which; a slice, or their numbers.
  """
  block = np.array(features[rows])
  # What is mapped to be read only is read again where it is looked at again.
  if isinstance(features, np.memmap) and features.mode == 'r':
    features._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
  return block


def unit(features: np.ndarray, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
  """Some rows of features, scaled to unit length.

  Args:
    features: [N, D] numbers, in memory or memory-mapped. A row of zeros stays zero.
    rows: which; a slice, or their numbers.

  Returns:
    [n, D] float32.

  Raises:
    ValueError: if a row is not finite.
  """
  block = np.asarray(take(features, rows), np.float32)
  norms = np.linalg.norm(block, axis=1, keepdims=True)
  bad = ~np.isfinite(block).all(axis=1)
  if bad.any():
    first = np.arange(len(features))[rows][bad.argmax()]
    raise ValueError(f'features of {bad.sum()} rows, first {first}, are not finite')
  return block / np.maximum(norms, np.finfo(np.float32).tiny)


def padded(block: np.ndarray) -> np.ndarray:
  """A block with rows of zeros up to a multiple of 64."""
  missing = -len(block) % _MULTIPLE
  return np.pad(block, [[0, missing], [0, 0]]) if missing else block


def products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
  """[M, N] products of rows [M, D] and [N, D] of one type: equal rows have equal ones.

  BLAS rounds by the place in a block where some processors' kernels differ at its edges, so
  that of two copies one would be nearer. TensorFlow's product of whole multiples of 64 rows
  does not; where it is not at hand, sums are float64.
  """
  if 'tensorflow' in sys.modules:
    import tensorflow as tf

    with tf.device('/cpu:0'):
      return tf.matmul(left, right, transpose_b=True).numpy()
  return (left.astype(np.float64) @ right.T.astype(np.float64)).astype(left.dtype)


def similarities(left: np.ndarray, right: np.ndarray) -> np.ndarray:
  """`products` of any numbers of rows."""
  whole = products(padded(left), padded(right))
  return whole[: len(left), : len(right)]


def accelerator() -> str:
  """Name of the first GPU that TensorFlow sees; empty without one."""
  import tensorflow as tf

  found = tf.config.list_logical_devices('GPU')
  return found[0].name if found else ''


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
  """Products of float32 in float32 inside of a `with` statement, also on a GPU."""
  import tensorflow as tf

  before = tf.config.experimental.tensor_float_32_execution_enabled()
  tf.config.experimental.enable_tensor_float_32_execution(False)
  try:
    yield
  finally:
    tf.config.experimental.enable_tensor_float_32_execution(before)

"""The one exchange between replicas that contrastive losses need."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

# Types that every collective takes.
_EXCHANGED = (tf.float16, tf.float32, tf.float64, tf.int32, tf.int64)


def carrier_of(dtype: tf.DType) -> tf.DType:
  """The type that values are exchanged in between replicas or hosts, without loss."""
  if dtype in _EXCHANGED:
    return dtype
  return tf.float32 if dtype.is_floating else tf.int32


def own_rows(whole: tf.Tensor, mine: tf.Tensor) -> tf.Tensor:
  """This replica's part of what was computed of gathered tensors.

  Args:
    whole: rows of all replicas.
    mine: any tensor with a row for each of this replica's samples.
  """
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return whole
  count = tf.shape(mine)[0]
  begin = context.replica_id_in_sync_group * count
  part = whole[begin : begin + count]
  return tf.ensure_shape(part, [mine.shape[0], *whole.shape[1:]])


def part_of(whole: tf.Tensor) -> tuple[tf.Tensor, int | tf.Tensor]:
  """This replica's equal part of rows of all replicas, and the number of its first row.

  Of a loss of pairs of rows, each replica computes those of its part with all others, and
  `gather` joins what came of the parts: memory and arithmetic fall with the number of
  replicas, and the gradients stay those of the whole.

  Args:
    whole: of `gather`.
  """
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return whole, 0
  replicas, rows = context.num_replicas_in_sync, whole.shape[0]
  count = rows // replicas if rows else tf.shape(whole)[0] // replicas
  begin = context.replica_id_in_sync_group * count
  part = whole[begin : begin + count]
  return tf.ensure_shape(part, [rows and count, *whole.shape[1:]]), begin


# Bytes that the pairs of a replica's rows take at once; what is more comes in several
# parts, each computed again for its gradient.
CHUNK_BYTES = 2**26


def by_rows(
  function: Callable[..., Sequence[tf.Tensor]],
  rows: Sequence[tf.Tensor],
  whole: Sequence[tf.Tensor],
  row_bytes: int,
) -> tuple[tf.Tensor, ...]:
  """What a function of pairs tells of each row, each replica computing its own rows.

  So memory and arithmetic of a matrix of all rows by all rows are shared out among the
  replicas, and the gradient is that of the whole one. On a replica the rows come in chunks.

  Args:
    function: of the number of the first row among all, then of some of the rows
      `[b, ...]` and of all of `whole`; returns tensors `[b, ...]`. What it takes otherwise
      has no gradient.
    rows: floating tensors `[B, ...]` of `gather`.
    whole: floating tensors that each row is paired with.
    row_bytes: of the pairs of one row.

  Returns:
    The tensors `[B, ...]`, of the rows of all replicas.
  """
  mine, (begin, *_) = zip(*map(part_of, rows), strict=True)
  number = _chunks(mine[0].shape[0], row_bytes)
  if number == 1:
    made = [function(begin, *mine, *whole)]
  else:
    size, made = -(-mine[0].shape[0] // number), []  # The last part may be smaller.
    for first in range(0, mine[0].shape[0], size):
      part = tf.recompute_grad(functools.partial(function, begin + first))
      made.append(part(*(x[first : first + size] for x in mine), *whole))
  joined: Any = [tf.concat(x, 0) if number > 1 else x[0] for x in zip(*made, strict=True)]
  return tuple(map(gather, joined))


def _chunks(count: int | None, row_bytes: int) -> int:
  """In how few parts so many rows come, None being unknown."""
  if not count:
    return 1
  return -(-count // max(1, CHUNK_BYTES // max(1, row_bytes)))


def gather(tensor: tf.Tensor, axis: int = 0) -> tf.Tensor:
  """Concatenates a tensor over all replicas, in replica order, differentiably.

  Every replica receives the whole. The gradient of a replica's part sums what all
  replicas' losses contribute to it, so a loss that every replica computes from gathered
  tensors is to be divided by the number of replicas; gradients summed over replicas then
  equal those of one replica with the whole batch.

  Args:
    tensor: this replica's part; all replicas agree in every other axis.
    axis: the axis to concatenate along.

  Returns:
    The whole; the tensor itself where there is one replica or in cross-replica context.
  """
  tensor = tf.convert_to_tensor(tensor)
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return tensor
  if (carrier := carrier_of(tensor.dtype)) != tensor.dtype:
    return tf.cast(gather(tf.cast(tensor, carrier), axis), tensor.dtype)
  whole = context.all_gather(tensor, axis)
  shape = tensor.shape.as_list()
  shape[axis] = shape[axis] and shape[axis] * context.num_replicas_in_sync
  whole.set_shape(shape)  # The exchange itself forgets it.
  return whole

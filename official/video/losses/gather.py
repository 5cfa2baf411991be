"""The one exchange between replicas that contrastive losses need."""

import tensorflow as tf


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
  if tensor.dtype == tf.bool:  # Not every collective takes those.
    return tf.cast(gather(tf.cast(tensor, tf.int32), axis), tf.bool)
  whole = context.all_gather(tensor, axis)
  shape = tensor.shape.as_list()
  shape[axis] = None
  whole.set_shape(shape)  # The exchange itself forgets it.
  return whole

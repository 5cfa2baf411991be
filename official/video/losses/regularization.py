"""Weight decay as a term of the loss."""

from collections.abc import Iterable

import tensorflow as tf


def kernel_l2(variables: Iterable[tf.Variable], weight: float) -> tf.Tensor:
  """Half the squared norm of all trainable kernels, times `weight`.

  Convolution and dense kernels count, of backbone and heads; biases and batch norm do
  not.

  Args:
    variables: of the model; those count that are trainable and have 'kernel' in their
      name.
    weight: the decay.

  Returns:
    A float32 scalar, 0 where the weight is 0 or no variable counts.
  """
  if not weight:
    return tf.constant(0.0)
  norms = [
    tf.nn.l2_loss(tf.cast(variable, tf.float32))
    for variable in variables
    if variable.trainable and 'kernel' in variable.name
  ]
  return weight * tf.add_n(norms) if norms else tf.constant(0.0)

"""The loss of a response map: which cells are the target's, both kinds weighing the same.

Source: SiamFC, arXiv 1606.09549, section 3.2; the balance is of its public successors.
"""

import numpy as np
import tensorflow as tf


def response_labels(size: int, stride: float, radius: float) -> np.ndarray:
  """[size, size] float32: 1 where a cell is at most `radius` pixels (L1) off the centre.

  Args:
    size: cells a side.
    stride: pixels between two cells.
    radius: pixels.
  """
  offset = np.abs(np.arange(size) - (size - 1) / 2)
  return (offset[:, None] + offset[None] <= radius / stride).astype(np.float32)


def _balanced(labels: np.ndarray) -> np.ndarray:
  """[r, r] weights: half for all positive cells, half for all others."""
  positive = labels.sum()
  others = max(1.0, labels.size - positive)
  return np.where(labels > 0, 0.5 / positive, 0.5 / others).astype(np.float32)


def balanced_cross_entropy(responses: tf.Tensor, labels: np.ndarray) -> tf.Tensor:
  """Cross entropy of the cells, `[B]`; a response of 0 costs log 2.

  Args:
    responses: `[B, r, r]` logits.
    labels: `[r, r]` of `response_labels`, with a positive cell.
  """
  losses = tf.nn.sigmoid_cross_entropy_with_logits(
    labels=tf.broadcast_to(labels, tf.shape(responses)), logits=responses
  )
  return tf.reduce_sum(losses * _balanced(labels), [1, 2])


def balanced_accuracy(responses: tf.Tensor, labels: np.ndarray) -> tf.Tensor:
  """Share of cells on the right side of 0, `[B]`; arguments as above."""
  right = tf.cast((responses > 0) == (labels > 0), tf.float32)
  return tf.reduce_sum(right * _balanced(labels), [1, 2])

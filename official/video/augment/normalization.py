"""From pixels to what a model is fed: the one function for training and serving."""

import tensorflow as tf


def normalize(clip: tf.Tensor, zero_centering: bool = False) -> tf.Tensor:
  """Scales pixels to the range of a model's input.

  Args:
    clip: uint8 pixels, or floats already in [0, 1]; any shape.
    zero_centering: map to [-1, 1] rather than [0, 1].

  Returns:
    float32 (or the dtype of a float input) of the same shape.
  """
  if clip.dtype == tf.uint8:
    clip = tf.cast(clip, tf.float32) * (1 / 255)
  return 2.0 * clip - 1.0 if zero_centering else clip

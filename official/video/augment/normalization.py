"""From pixels to what a model is fed: the one function for training and serving."""

import tensorflow as tf

# Of the pixels in [0, 1] of ImageNet's training set, by channel.
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


def standardize(images: tf.Tensor) -> tf.Tensor:
  """Takes pixels to mean 0 and deviation 1 in ImageNet, as nets for images are fed.

  Args:
    images: as the clip of `normalize`, channels last.

  Returns:
    As of `normalize`.
  """
  return (normalize(images) - IMAGENET_MEAN) / IMAGENET_DEVIATION

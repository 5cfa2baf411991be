"""Squares about a target: what pairs of frames are trained on, and a tracker looks at.

Points are row and column in pixels; the first pixel's centre is 0, 0.
"""

import tensorflow as tf

# Share of the target's sides that surrounds it; a tracker may take another.
CONTEXT = 0.5


def exemplar_size(search_size: int) -> int:
  """Pixels of the exemplar that go with a search image: 127 with 255."""
  return (search_size + 1) // 2 - 1


def context_side(height: tf.Tensor, width: tf.Tensor, context: float) -> tf.Tensor:
  """Side of the square about a target and its context, in pixels."""
  margin = context * (height + width)
  return tf.sqrt((height + margin) * (width + margin))


def square_crops(
  image: tf.Tensor, center: tf.Tensor, sides: tf.Tensor, size: int
) -> tf.Tensor:
  """Cuts squares about a point and scales them; outside is the image's mean colour.

  Args:
    image: `[H, W, 3]` uint8.
    center: float32 [2].
    sides: float32 `[S]` in pixels.
    size: of the result in pixels.

  Returns:
    uint8 `[S, size, size, 3]`.
  """
  image = tf.cast(image, tf.float32)
  mean = tf.reduce_mean(image, [0, 1])
  last = tf.cast(tf.shape(image)[:2] - 1, tf.float32)
  half = (sides[:, None] - 1) / 2
  boxes = tf.concat([(center - half) / last, (center + half) / last], 1)
  crops = tf.image.crop_and_resize(
    (image - mean)[None], boxes, tf.zeros_like(sides, tf.int32), [size, size]
  )
  return tf.cast(tf.clip_by_value(tf.round(crops + mean), 0, 255), tf.uint8)

"""Crop windows and boxes.

A window is int32 [4]: top, left, height and width in pixels of the stored frame. Crops
are drawn as windows and cut while decoding, so a frame is resampled once.
"""

from typing import TypeAlias

import tensorflow as tf

from official.video import draws
from official.video.errors import UserError

Scalar: TypeAlias = int | tf.Tensor


def random_resized_crop_window(
  key: tf.Tensor,
  height: Scalar,
  width: Scalar,
  area_range: tuple[float, float] = (0.3, 1.0),
  aspect_range: tuple[float, float] = (0.5, 2.0),
) -> tf.Tensor:
  """Draws a window of random area and aspect ratio, the whole frame as its object.

  Runs on the host only: TensorFlow has no XLA kernel for the draw.

  Args:
    key: key of the view.
    height: of the frame, in pixels.
    width: of the frame, in pixels.
    area_range: share of the frame's area.
    aspect_range: width over height of the window, in pixels.

  Returns:
    int32 [4] window; the whole frame if 100 attempts found none.
  """
  begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
    tf.stack([height, width, 3]),
    bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
    seed=draws.fold(key, 'crop'),
    min_object_covered=0.1,
    aspect_ratio_range=aspect_range,
    area_range=area_range,
    max_attempts=100,
  )
  return tf.cast(tf.concat([begin[:2], size[:2]], 0), tf.int32)


def center_crop_window(height: Scalar, width: Scalar, size: tuple[int, int]) -> tf.Tensor:
  """The largest central window with the shape of `size` (height, width), int32 [4]."""
  return test_windows(height, width, size, 1)[0]


def test_windows(
  height: Scalar,
  width: Scalar,
  size: tuple[int, int],
  num_crops: int = 1,
  min_image_size: int = 0,
) -> tf.Tensor:
  """Windows of the test crops, in the stored frame.

  They show what crops of `size` show of a frame whose short side was scaled to
  `min_image_size` pixels. Three crops lie at both ends and in the middle of the longer
  side, and in the middle of the shorter.

  Args:
    height: of the frame, in pixels.
    width: of the frame, in pixels.
    size: height and width of a crop.
    num_crops: 1 or 3.
    min_image_size: short side of the scaled frame; 0 for the largest crop that fits, as
      which also goes a crop that is larger than the scaled frame.

  Returns:
    int32 [num_crops, 4] windows.

  Raises:
    UserError: another number of crops.
  """
  if num_crops not in (1, 3):
    raise UserError(f'num_test_crops {num_crops}: expected 1 or 3')
  frame = tf.cast(tf.stack([height, width]), tf.float32)
  crop = tf.constant(size, tf.float32)
  scale = tf.reduce_min(frame / crop)
  if min_image_size:
    scale = tf.minimum(scale, tf.reduce_min(frame) / min_image_size)
  window = tf.round(crop * scale)
  room = frame - window
  places = tf.constant([0.5] if num_crops == 1 else [0.0, 0.5, 1.0])[:, None]
  along = tf.one_hot(tf.argmax(frame), 2)
  share = places * along + 0.5 * (1 - along)
  offset = tf.floor(share * room + 0.5)
  windows = tf.concat([offset, tf.broadcast_to(window, [num_crops, 2])], 1)
  return tf.cast(windows, tf.int32)


test_windows.__test__ = False  # type: ignore[attr-defined]  # not a test, to pytest


def transform_boxes(
  boxes: tf.Tensor,
  window: tf.Tensor,
  frame_size: tuple[Scalar, Scalar],
  flip: bool | tf.Tensor = False,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Moves boxes along with a crop and a horizontal flip.

  Args:
    boxes: float32 [..., 4], top, left, bottom, right as shares of the frame.
    window: int32 [4] crop window in pixels.
    frame_size: height and width of the frame in pixels.
    flip: whether the crop is mirrored.

  Returns:
    float32 [..., 4] boxes as shares of the window, clipped to it, and bool [...]: whether
    anything of the box is inside. Stays float32: bfloat16 would round .999 to 1.
  """
  window = tf.cast(window, tf.float32)
  height, width = (tf.cast(side, tf.float32) for side in frame_size)
  top, left, bottom, right = tf.unstack(tf.cast(boxes, tf.float32), axis=-1)
  top, bottom = ((y * height - window[0]) / window[2] for y in (top, bottom))
  left, right = ((x * width - window[1]) / window[3] for x in (left, right))
  left, right = tf.where(flip, 1 - right, left), tf.where(flip, 1 - left, right)
  moved = tf.clip_by_value(tf.stack([top, left, bottom, right], -1), 0.0, 1.0)
  valid = tf.reduce_all(moved[..., 2:] > moved[..., :2], -1)
  return moved, valid

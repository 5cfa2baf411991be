"""Crop windows and boxes.

A window is int32 [4]: top, left, height and width in pixels of the stored frame. Crops
are drawn as windows and cut while decoding, so a frame is resampled once. A window of
float32 is one of the frame as scaled in whole, in pixels of the stored one; see
`official.video.data.decoding.decode_clip`.
"""

from collections.abc import Sequence
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


def random_short_side_window(
  key: tf.Tensor,
  height: Scalar,
  width: Scalar,
  size: tuple[int, int],
  short_side_range: Sequence[int],
) -> tf.Tensor:
  """Draws a window that shows objects in their own aspect.

  It shows what a crop of `size`, anywhere in it, shows of the frame whose short side was
  scaled to so many pixels; of one that is too small for the crop, the largest that fits.

  Args:
    key: key of the view.
    height: of the frame, in pixels.
    width: of the frame, in pixels.
    size: height and width of the view.
    short_side_range: least and greatest short side, in pixels.

  Returns:
    int32 [4] window.

  Source: the spatial jitter of PySlowFast, arXiv 1812.03982.
  """
  frame = tf.cast(tf.stack([height, width]), tf.float32)
  view = tf.constant(size, tf.float32)
  low, high = (float(side) for side in short_side_range)
  short = tf.round(draws.uniform(key, 'short_side', (), low, high))
  scale = tf.minimum(tf.reduce_min(frame) / short, tf.reduce_min(frame / view))
  window = tf.cast(tf.maximum(tf.round(view * scale), 1.0), tf.int32)
  room = tf.cast(frame, tf.int32) - window
  begin = [
    draws.integer(key, name, room[i] + 1) for i, name in enumerate(('top', 'left'))
  ]
  return tf.concat([tf.stack(begin), window], 0)


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
  frame = tf.cast(tf.stack([height, width]), tf.float32)
  crop = tf.constant(size, tf.float32)
  scale = tf.reduce_min(frame / crop)
  if min_image_size:
    scale = tf.minimum(scale, tf.reduce_min(frame) / min_image_size)
  window = tf.round(crop * scale)
  offset = tf.floor(_shares(frame, num_crops) * (frame - window) + 0.5)
  windows = tf.concat([offset, tf.broadcast_to(window, [num_crops, 2])], 1)
  return tf.cast(windows, tf.int32)


test_windows.__test__ = False  # type: ignore[attr-defined]  # not a test, to pytest


def _shares(frame: tf.Tensor, num_crops: int) -> tf.Tensor:
  """Shares of the room about a test crop that come before it, float32 [num_crops, 2].

  Raises:
    UserError: neither 1 nor 3 crops.
  """
  if num_crops not in (1, 3):
    raise UserError(f'num_test_crops {num_crops}: expected 1 or 3')
  places = tf.constant([0.5] if num_crops == 1 else [0.0, 0.5, 1.0])[:, None]
  along = tf.one_hot(tf.argmax(frame), 2)
  return places * along + 0.5 * (1 - along)


def scaled_test_windows(
  height: Scalar,
  width: Scalar,
  size: tuple[int, int],
  num_crops: int = 1,
  min_image_size: int = 0,
) -> tf.Tensor:
  """As `test_windows`, float32: exactly the crops of the frame as torchvision scales it.

  That is to whole pixels, the longer side cut down to one, and from a whole pixel on.
  """
  frame, crop = tf.stack([height, width]), tf.constant(size)
  covering = tf.reduce_max(crop[:, None] * frame[None] // frame[:, None], 0)
  scaled = min_image_size * frame // tf.reduce_min(frame)
  scaled = tf.where(tf.reduce_all(scaled >= crop), scaled, covering)
  room = tf.cast(scaled - crop, tf.float32)
  # Like Python's, this rounds halves to even.
  offset = tf.round(_shares(tf.cast(frame, tf.float32), num_crops) * room)
  step = tf.cast(frame, tf.float32) / tf.cast(scaled, tf.float32)
  window = tf.broadcast_to(tf.cast(crop, tf.float32) * step, [num_crops, 2])
  return tf.concat([offset * step, window], 1)


def whole_frame_window(
  height: Scalar, width: Scalar, size: tuple[int, int], min_image_size: int = 0
) -> tf.Tensor:
  """The window that shows the whole frame in its own aspect, in the middle of a view.

  Args:
    height: of the frame, in pixels.
    width: of the frame, in pixels.
    size: height and width of the view.
    min_image_size: short side of the frame in the view, in pixels; less where the view
      is too small for the longer side; 0 for as large as fits.

  Returns:
    float32 [4] window, of which a part lies outside of the frame.
  """
  frame = tf.cast(tf.stack([height, width]), tf.float32)
  view = tf.constant(size, tf.float32)
  scale = tf.reduce_min(view / frame)
  if min_image_size:
    scale = tf.minimum(scale, min_image_size / tf.reduce_min(frame))
  scaled = tf.clip_by_value(tf.round(frame * scale), 1.0, view)
  step = frame / scaled
  return tf.concat([-tf.floor((view - scaled) / 2) * step, view * step], 0)


def transform_boxes(
  boxes: tf.Tensor,
  window: tf.Tensor,
  frame_size: tuple[Scalar, Scalar],
  flip: bool | tf.Tensor = False,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Moves boxes along with a crop and a horizontal flip.

  Args:
    boxes: float32 [..., 4], top, left, bottom, right as shares of the frame.
    window: int32 or float32 [4] crop window in pixels.
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

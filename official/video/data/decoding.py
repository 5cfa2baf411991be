"""From stored frames to a cropped, resized, flipped uint8 clip.

Frames are JPEG or PNG strings [T], or decoded pixels uint8 [T, H, W, 3]; all of one
video have one size.
"""

from collections.abc import Callable

import tensorflow as tf

_PNG_SIGNATURE = b'\x89PNG'


def frame_size(frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Height and width in pixels, read from the first frame's header."""
  if frames.dtype != tf.string:
    shape = tf.shape(frames)
    return shape[1], shape[2]
  first = frames[0]
  size = tf.cond(
    _is_png(first),
    lambda: _png_size(first),
    lambda: tf.image.extract_jpeg_shape(first)[:2],
  )
  return size[0], size[1]


def _is_png(encoded: tf.Tensor) -> tf.Tensor:
  return tf.equal(tf.strings.substr(encoded, 0, 4), _PNG_SIGNATURE)


def _png_size(png: tf.Tensor) -> tf.Tensor:
  # The header chunk, always the first, holds width and height as big-endian words.
  words = tf.io.decode_raw(tf.strings.substr(png, 16, 8), tf.int32, little_endian=False)
  return tf.ensure_shape(words, [2])[::-1]


def decode_clip(
  frames: tf.Tensor,
  window: tf.Tensor,
  size: tuple[int, int],
  flip: bool | tf.Tensor = False,
) -> tf.Tensor:
  """Decodes one crop of a clip.

  Resizing is bilinear with half-pixel centres and without antialiasing, the default of
  `tf.image.resize`, applied to the crop alone; its result is rounded.

  Args:
    frames: [T] JPEG or PNG strings, or uint8 [T, H, W, 3].
    window: int32 [4]: top, left, height, width of the crop in pixels.
    size: height and width of the result.
    flip: mirror left and right.

  Returns:
    uint8 [T, *size, 3].

  Raises:
    tf.errors.InvalidArgumentError: a frame is neither JPEG nor PNG, or is cut off.
  """
  return decode_crops(frames, window[None], size, flip)[0]


def decode_crops(
  frames: tf.Tensor,
  windows: tf.Tensor,
  size: tuple[int, int],
  flip: bool | tf.Tensor = False,
) -> tf.Tensor:
  """Decodes several crops of a clip, each frame once; see `decode_clip`.

  Args:
    frames: [T] JPEG or PNG strings, or uint8 [T, H, W, 3].
    windows: int32 [C, 4], C known statically.
    size: height and width of the result.
    flip: mirror left and right.

  Returns:
    uint8 [C, T, *size, 3].
  """
  count = windows.shape[0]
  flip = tf.cast(flip, tf.bool)
  if frames.dtype == tf.string:
    pixels_of, origin = _part_decoder(frames, windows)
    windows -= tf.concat([origin, [0, 0]], 0)
  else:
    pixels_of = tf.identity

  def crops_of(frame: tf.Tensor) -> tf.Tensor:
    pixels = pixels_of(frame)
    return tf.stack(
      [_crop_and_resize(pixels, windows[i], size, flip) for i in range(count)]
    )

  spec = tf.TensorSpec([count, *size, 3], tf.uint8)
  crops = tf.map_fn(crops_of, frames, fn_output_signature=spec, parallel_iterations=16)
  # One crop needs no copy of the clip to come to the front.
  crops = crops[:, 0][None] if count == 1 else tf.transpose(crops, [1, 0, 2, 3, 4])
  return tf.ensure_shape(crops, [count, frames.shape[0], *size, 3])


def _part_decoder(
  frames: tf.Tensor, windows: tf.Tensor
) -> tuple[Callable[[tf.Tensor], tf.Tensor], tf.Tensor]:
  """What decodes the part of a frame that holds all windows, and that part's origin.

  Of a PNG the part is the whole frame.
  """
  is_png = _is_png(frames[0])
  begin = tf.reduce_min(windows[:, :2], 0)
  end = tf.reduce_max(windows[:, :2] + windows[:, 2:], 0)
  # Decoding a part alone gets the chroma of its outermost columns wrong, so one more
  # column is decoded on either side.
  begin = tf.maximum(begin - tf.constant([0, 1]), 0)
  end = tf.minimum(end + tf.constant([0, 1]), tf.stack(frame_size(frames)))
  part = tf.concat([begin, end - begin], 0)

  def decode(encoded: tf.Tensor) -> tf.Tensor:
    # INTEGER_FAST gives the same pixels as the default, sooner.
    return tf.cond(
      is_png,
      lambda: tf.io.decode_png(encoded, channels=3),
      lambda: tf.image.decode_and_crop_jpeg(
        encoded, part, channels=3, dct_method='INTEGER_FAST'
      ),
    )

  return decode, tf.where(is_png, [0, 0], begin)


def _crop_and_resize(
  image: tf.Tensor, window: tf.Tensor, size: tuple[int, int], flip: tf.Tensor
) -> tf.Tensor:
  top, left, height, width = tf.unstack(window)
  crop = image[top : top + height, left : left + width]
  # The float kernel takes half the time of the uint8 one, with the same result.
  resized = tf.raw_ops.ResizeBilinear(
    images=tf.cast(crop, tf.float32)[None], size=size, half_pixel_centers=True
  )
  pixels = tf.cast(resized[0] + 0.5, tf.uint8)
  # Reversing is fast for a single RGB image only, so it belongs in the loop.
  return tf.cond(flip, lambda: tf.reverse(pixels, [1]), lambda: pixels)

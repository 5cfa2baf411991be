"""From stored frames to a cropped, resized, flipped uint8 clip.

Frames are JPEG or PNG strings [T], or decoded pixels uint8 [T, H, W, 3]; all of one
video have one size.
"""

import tensorflow as tf

_PNG_SIGNATURE = b'\x89PNG'


def frame_size(frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Height and width in pixels, read from the first frame's header."""
  if frames.dtype != tf.string:
    shape = tf.shape(frames)
    return shape[1], shape[2]
  first = frames[0]
  size = tf.cond(
    tf.equal(tf.strings.substr(first, 0, 4), _PNG_SIGNATURE),
    lambda: _png_size(first),
    lambda: tf.image.extract_jpeg_shape(first)[:2],
  )
  return size[0], size[1]


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
    windows: int32 [C, 4] with C known statically.
    size: height and width of the result.
    flip: mirror left and right.

  Returns:
    uint8 [C, T, *size, 3].
  """
  windows = tf.unstack(windows)
  shape = [len(windows), frames.shape[0], *size, 3]
  if frames.dtype != tf.string:
    crops = tf.stack([_crop_and_resize(frames, w, size, flip) for w in windows])
    return tf.ensure_shape(crops, shape)

  def crops_of(encoded: tf.Tensor) -> tf.Tensor:
    # The JPEG kernel reads PNG too. INTEGER_FAST gives the same pixels sooner.
    image = tf.io.decode_jpeg(encoded, channels=3, dct_method='INTEGER_FAST')[None]
    return tf.concat([_crop_and_resize(image, w, size, flip) for w in windows], 0)

  spec = tf.TensorSpec([len(windows), *size, 3], tf.uint8)
  crops = tf.map_fn(crops_of, frames, fn_output_signature=spec, parallel_iterations=16)
  crops = crops[:, 0][None] if len(windows) == 1 else tf.transpose(crops, [1, 0, 2, 3, 4])
  return tf.ensure_shape(crops, shape)


def _crop_and_resize(
  images: tf.Tensor, window: tf.Tensor, size: tuple[int, int], flip: bool | tf.Tensor
) -> tf.Tensor:
  top, left, height, width = tf.unstack(window)
  crop = images[:, top : top + height, left : left + width]
  # The float kernel takes half the time of the uint8 one, with the same result.
  resized = tf.raw_ops.ResizeBilinear(
    images=tf.cast(crop, tf.float32), size=size, half_pixel_centers=True
  )
  pixels = tf.cast(resized + 0.5, tf.uint8)
  return tf.cond(tf.cast(flip, tf.bool), lambda: pixels[:, :, ::-1], lambda: pixels)

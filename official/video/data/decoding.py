"""From stored frames to a cropped, resized, flipped uint8 clip.

Frames are JPEG or PNG strings [T], or decoded pixels uint8 [T, H, W, 3]; all of one
video have one size.
"""

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

_OfFrame: TypeAlias = Callable[[tf.Tensor], list[tf.Tensor]]
_ForEach: TypeAlias = Callable[
  [_OfFrame, tf.Tensor, list[tf.TensorSpec]], list[tf.Tensor]
]

# Largest frame that is decoded.
MAX_PIXELS = 1 << 26

# Longer clips are decoded in a loop, because a graph of all their frames is slow to build.
_MAX_UNROLLED = 64

_PNG_SIGNATURE = b'\x89PNG'


def frame_size(frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Height and width in pixels, read from the first frame's header."""
  if frames.dtype != tf.string:
    shape = tf.shape(frames)
    return shape[1], shape[2]
  first = frames[0]
  size = tf.cond(
    _is_png(first),
    lambda: _png_sizes(first),
    lambda: tf.image.extract_jpeg_shape(first)[:2],
  )
  return size[0], size[1]


def _is_png(encoded: tf.Tensor) -> tf.Tensor:
  return tf.equal(tf.strings.substr(encoded, 0, 4), _PNG_SIGNATURE)


def _png_sizes(frames: tf.Tensor) -> tf.Tensor:
  # The header chunk, always the first, holds width and height as big-endian words.
  words = tf.io.decode_raw(
    tf.strings.substr(frames, 16, 8), tf.int32, little_endian=False
  )
  return tf.ensure_shape(words, [*frames.shape, 2])[..., ::-1]


def _jpeg_sizes(frames: tf.Tensor) -> tf.Tensor:
  def size_of(frame: tf.Tensor) -> list[tf.Tensor]:
    return [tf.image.extract_jpeg_shape(frame)[:2]]

  return _unrolled(size_of, frames, [tf.TensorSpec([2], tf.int32)])[0]


def _checked(frames: tf.Tensor, form: str, sizes: tf.Tensor) -> tf.Tensor:
  """The frames, checked to say that they have one size, and not too large a one.

  A few bytes can stand for gigabytes of pixels, so this has to precede decoding. Reading
  a header takes less than a hundredth of the time of decoding.
  """
  first = sizes[0]
  bearable = tf.reduce_all(first > 0) & (
    tf.reduce_prod(tf.cast(first, tf.int64)) <= MAX_PIXELS
  )
  too_large = tf.strings.format(
    f'{form} frame of {{}} pixels (height, width); expected at most {MAX_PIXELS} in all',
    first,
  )
  differs = tf.reduce_any(sizes != first, 1)
  other = tf.argmax(differs)
  mixed = tf.strings.format(
    f'{form} frame {{}} has {{}} pixels (height, width), the first {{}}; expected one size',
    (other, sizes[other], first),
  )
  checks = [
    tf.debugging.Assert(bearable, [too_large]),
    tf.debugging.Assert(~differs[other], [mixed]),
  ]
  # Eager assertions return None.
  with tf.control_dependencies([check for check in checks if check is not None]):
    return tf.identity(frames)


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
    tf.errors.InvalidArgumentError: a frame is neither JPEG nor PNG, is cut off, has more
      than `MAX_PIXELS` pixels, or another size than the first frame.
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
    flip: mirror left and right; bool scalar, or [C] for each crop.

  Returns:
    uint8 [C, T, *size, 3].
  """
  count = windows.shape[0]
  if frames.dtype == tf.string:
    crops = tf.cond(
      _is_png(frames[0]),
      lambda: _crops_of_pngs(frames, windows, size),
      lambda: _crops_of_jpegs(frames, windows, size),
    )
  else:
    crops = _crops(frames, tf.identity, windows, size, _looped)
  flips = tf.broadcast_to(tf.cast(flip, tf.bool), [count])
  mirrored = [_mirrored_if(flips[i], crops[i]) for i in range(count)]
  return tf.ensure_shape(tf.stack(mirrored), [count, frames.shape[0], *size, 3])


def _crops_of_pngs(
  frames: tf.Tensor, windows: tf.Tensor, size: tuple[int, int]
) -> list[tf.Tensor]:
  def decode(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_png(encoded, channels=3)

  frames = _checked(frames, 'PNG', _png_sizes(frames))
  return _crops(frames, decode, windows, size, _looped)


def _crops_of_jpegs(
  frames: tf.Tensor, windows: tf.Tensor, size: tuple[int, int]
) -> list[tf.Tensor]:
  """See `_crops`; decodes the part of a frame that holds all windows."""
  sizes = _jpeg_sizes(frames)
  begin = tf.reduce_min(windows[:, :2], 0)
  end = tf.reduce_max(windows[:, :2] + windows[:, 2:], 0)
  # Decoding a part alone gets the chroma of its outermost columns wrong, so one more
  # column is decoded on either side.
  begin = tf.maximum(begin - tf.constant([0, 1]), 0)
  end = tf.minimum(end + tf.constant([0, 1]), sizes[0])
  part = tf.concat([begin, end - begin], 0)

  def decode(encoded: tf.Tensor) -> tf.Tensor:
    # INTEGER_FAST gives the same pixels as the default, sooner.
    return tf.image.decode_and_crop_jpeg(
      encoded, part, channels=3, dct_method='INTEGER_FAST'
    )

  frames = _checked(frames, 'JPEG', sizes)
  windows -= tf.concat([begin, [0, 0]], 0)
  return _crops(frames, decode, windows, size, _unrolled)


def _crops(
  frames: tf.Tensor,
  pixels_of: Callable[[tf.Tensor], tf.Tensor],
  windows: tf.Tensor,
  size: tuple[int, int],
  for_each: _ForEach,
) -> list[tf.Tensor]:
  """For each window, its crop of all frames, uint8 [T, *size, 3]."""
  count = windows.shape[0]

  def crops_of(frame: tf.Tensor) -> list[tf.Tensor]:
    pixels = pixels_of(frame)
    return [_crop_and_resize(pixels, windows[i], size) for i in range(count)]

  return for_each(crops_of, frames, [tf.TensorSpec([*size, 3], tf.uint8)] * count)


def _looped(
  function: _OfFrame, frames: tf.Tensor, specs: list[tf.TensorSpec]
) -> list[tf.Tensor]:
  """Stacks what a function makes of each frame."""
  return tf.map_fn(function, frames, fn_output_signature=specs, parallel_iterations=16)


def _unrolled(
  function: _OfFrame, frames: tf.Tensor, specs: list[tf.TensorSpec]
) -> list[tf.Tensor]:
  """As `_looped`, but in a larger graph, without a loop's cost for each frame."""
  if frames.shape[0] is None or frames.shape[0] > _MAX_UNROLLED:
    return _looped(function, frames, specs)
  made = [function(frame) for frame in tf.unstack(frames)]
  return [tf.stack(outputs) for outputs in zip(*made, strict=True)]


def _crop_and_resize(
  image: tf.Tensor, window: tf.Tensor, size: tuple[int, int]
) -> tf.Tensor:
  top, left, height, width = tf.unstack(window)
  crop = image[top : top + height, left : left + width]
  # The float kernel takes half the time of the uint8 one, with the same result.
  resized = tf.raw_ops.ResizeBilinear(
    images=tf.cast(crop, tf.float32)[None], size=size, half_pixel_centers=True
  )
  return tf.cast(resized[0] + 0.5, tf.uint8)


def _mirrored_if(flip: tf.Tensor, clip: tf.Tensor) -> tf.Tensor:
  def mirrored() -> tf.Tensor:
    # Reversing is fast for a single RGB image only, so the frames become one tall image.
    shape = tf.shape(clip)
    tall = tf.reshape(clip, [-1, clip.shape[2], 3])
    return tf.reshape(tf.reverse(tall, [1]), shape)

  return tf.cond(flip, mirrored, lambda: clip)

"""From stored frames to a cropped, resized, flipped uint8 clip.

Frames are JPEG or PNG strings [T], or decoded pixels uint8 [T, H, W, 3]; all of one
video have one size.
"""

from collections.abc import Callable

import tensorflow as tf

# Largest frame that is decoded.
MAX_PIXELS = 1 << 26

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

  return _for_each(size_of, frames, [tf.TensorSpec([2], tf.int32)])[0]


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
  flips = tf.broadcast_to(tf.cast(flip, tf.bool), [count])
  number = tf.shape(frames)[0]
  return decode_each(
    frames,
    tf.broadcast_to(windows, [number, count, 4]),
    size,
    tf.broadcast_to(flips, [number, count]),
  )


def decode_each(
  frames: tf.Tensor, windows: tf.Tensor, size: tuple[int, int], flips: tf.Tensor
) -> tf.Tensor:
  """Decodes several crops of each frame, all of one video; see `decode_clip`.

  Args:
    frames: [N] JPEG or PNG strings, or uint8 [N, H, W, 3].
    windows: int32 [N, C, 4], C known statically.
    size: height and width of the result.
    flips: bool [N, C], mirror left and right.

  Returns:
    uint8 [C, N, *size, 3].
  """
  if frames.dtype == tf.string:
    crops = tf.cond(
      _is_png(frames[0]),
      lambda: _crops_of_pngs(frames, windows, size, flips),
      lambda: _crops_of_jpegs(frames, windows, size, flips),
    )
  else:
    crops = _crops((frames,), lambda frame: frame, windows, size, flips)
  return tf.ensure_shape(tf.stack(crops), [windows.shape[1], frames.shape[0], *size, 3])


def _crops_of_pngs(
  frames: tf.Tensor, windows: tf.Tensor, size: tuple[int, int], flips: tf.Tensor
) -> list[tf.Tensor]:
  def decode(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_png(encoded, channels=3)

  frames = _checked(frames, 'PNG', _png_sizes(frames))
  return _crops((frames,), decode, windows, size, flips)


def _crops_of_jpegs(
  frames: tf.Tensor, windows: tf.Tensor, size: tuple[int, int], flips: tf.Tensor
) -> list[tf.Tensor]:
  """See `_crops`; decodes the part of a frame that holds all windows."""
  sizes = _jpeg_sizes(frames)
  begin = tf.reduce_min(windows[..., :2], 1)
  end = tf.reduce_max(windows[..., :2] + windows[..., 2:], 1)
  # Decoding a part alone gets the chroma of its outermost columns wrong, so one more
  # column is decoded on either side.
  begin = tf.maximum(begin - tf.constant([0, 1]), 0)
  end = tf.minimum(end + tf.constant([0, 1]), sizes[0])
  parts = tf.concat([begin, end - begin], 1)
  windows -= tf.pad(begin, [[0, 0], [0, 2]])[:, None]

  def decode(encoded: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    # INTEGER_FAST gives the same pixels as the default, sooner.
    return tf.image.decode_and_crop_jpeg(
      encoded, part, channels=3, dct_method='INTEGER_FAST'
    )

  frames = _checked(frames, 'JPEG', sizes)
  return _crops((frames, parts), decode, windows, size, flips)


def _crops(
  frames: tuple[tf.Tensor, ...],
  decode: Callable[..., tf.Tensor],
  windows: tf.Tensor,
  size: tuple[int, int],
  flips: tf.Tensor,
) -> list[tf.Tensor]:
  """For each window of a frame, its crop in all frames, uint8 [N, *size, 3].

  `decode` makes pixels of an element of `frames`; windows are relative to these pixels.
  """
  count = windows.shape[1]
  # What doesn't need the pixels is done for all frames at once: so small an operation
  # costs more to start than to run.
  begins = tf.pad(windows[..., :2], [[0, 0], [0, 0], [0, 1]])
  extents = tf.pad(windows[..., 2:], [[0, 0], [0, 0], [0, 1]], constant_values=3)

  def crops_of(elements: tuple) -> list[tf.Tensor]:
    frame, begins, extents, flips = elements
    pixels = decode(*frame)
    return [
      _mirrored_if(flips[i], _resize(tf.slice(pixels, begins[i], extents[i]), size))
      for i in range(count)
    ]

  specs = [tf.TensorSpec([*size, 3], tf.uint8)] * count
  return _for_each(crops_of, (frames, begins, extents, flips), specs)


def _for_each(
  function: Callable[..., list[tf.Tensor]],
  frames: tf.Tensor | tuple[tf.Tensor, ...],
  specs: list[tf.TensorSpec],
) -> list[tf.Tensor]:
  """Stacks what a function makes of each frame."""
  return tf.map_fn(function, frames, fn_output_signature=specs, parallel_iterations=16)


def _resize(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
  # The float kernel takes half the time of the uint8 one, with the same result.
  resized = tf.raw_ops.ResizeBilinear(
    images=tf.cast(image, tf.float32)[None], size=size, half_pixel_centers=True
  )
  return tf.cast(resized[0] + 0.5, tf.uint8)


def _mirrored_if(flip: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
  return tf.cond(flip, lambda: tf.reverse(image, [1]), lambda: image)

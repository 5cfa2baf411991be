"""From stored frames to a cropped, resized, flipped uint8 clip.

Frames are JPEG or PNG strings [T], `Frames` that are read here, or decoded pixels uint8
[T, H, W, 3]; all of one video have one size.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from official.video import registry
from official.video.data import records
from official.video.data.frames import Frames, read

MAX_PIXELS = records.MAX_FRAME_PIXELS
# By how much a JPEG frame may be made smaller while it is decoded.
RATIOS = (1, 2, 4, 8)

_PNG_SIGNATURE = b'\x89PNG'


class Filter(NamedTuple):
  """How pixels are interpolated.

  Attributes:
    kernel: as `tf.raw_ops.ScaleAndTranslate` names it.
    antialias: whether the kernel is as wide as a pixel of a smaller result.
    support: pixels of the larger grid that the kernel reaches to either side.
  """

  kernel: str
  antialias: bool
  support: int


# By the name in `DataConfig.resize`. The last two are PIL's filters BILINEAR and BICUBIC.
FILTERS: registry.Registry[Filter] = registry.Registry(
  'resize',
  {
    'bilinear': Filter('triangle', False, 1),
    'bilinear_antialias': Filter('triangle', True, 1),
    'bicubic_antialias': Filter('keyscubic', True, 2),
  },
)


def frame_size(frames: tf.Tensor | Frames) -> tuple[tf.Tensor, tf.Tensor]:
  """Height and width in pixels, read from the first frame's header."""
  if isinstance(frames, Frames):
    known = tf.debugging.Assert(frames.size[0] > 0, ['the first frame has no size'])
    with tf.control_dependencies([known] if known is not None else []):
      return tf.identity(frames.size[0]), tf.identity(frames.size[1])
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
  return tf.reverse(tf.ensure_shape(words, [*frames.shape, 2]), [-1])


def _bearable(form: str, size: tf.Tensor) -> tf.Tensor:
  """The size of the first frame, checked to say that it is not too large.

  A few bytes can stand for gigabytes of pixels, so this has to precede decoding.
  """
  fits = tf.reduce_all(size > 0) & (tf.reduce_prod(tf.cast(size, tf.int64)) <= MAX_PIXELS)
  too_large = tf.strings.format(
    f'{form} frame of {{}} pixels (height, width); expected at most {MAX_PIXELS} in all',
    size,
  )
  return _after([tf.debugging.Assert(fits, [too_large])], size)


def _of_size(
  form: str, frame: tf.Tensor, number: tf.Tensor, size: tf.Tensor, first: tf.Tensor
) -> tf.Tensor:
  """A frame, checked to have the size of the first one."""

  def refuse() -> tf.Tensor:
    mixed = tf.strings.format(
      f'{form} frame {{}} has {{}} pixels (height, width), the first {{}}; expected one '
      'size',
      (number, size, first),
    )
    return _after([tf.debugging.Assert(False, [mixed])], tf.constant(False))

  # As a condition, so that nothing is formatted for frames that are as they should be.
  same = tf.cond(tf.reduce_all(size == first), lambda: tf.constant(True), refuse)
  return _after([same], frame)


def _after(checks: list, value: tf.Tensor) -> tf.Tensor:
  # Eager assertions return None.
  with tf.control_dependencies([check for check in checks if check is not None]):
    return tf.identity(value)


def decode_clip(
  frames: tf.Tensor,
  window: tf.Tensor,
  size: tuple[int, int],
  flip: bool | tf.Tensor = False,
  resize: str = 'bilinear',
) -> tf.Tensor:
  """Decodes one crop of a clip.

  A window of integers is cut out and then resized, so nothing outside of it is seen. A
  window of floats is cut out of the frame as resized in whole: the filter sees beyond the
  window, and what of it lies outside of the frame is black. Pixel centres are at halves;
  results are rounded.

  Args:
    frames: [T] JPEG or PNG strings, or uint8 [T, H, W, 3].
    window: int32 or float32 [4]: top, left, height, width of the crop in pixels.
    size: height and width of the result.
    flip: mirror left and right.
    resize: name in `FILTERS`; the first is the default of `tf.image.resize`.

  Returns:
    uint8 [T, *size, 3].

  Raises:
    tf.errors.InvalidArgumentError: a frame is neither JPEG nor PNG, is cut off, has more
      than `MAX_PIXELS` pixels, or another size than the first frame.
  """
  return decode_crops(frames, window[None], size, flip, resize)[0]


def decode_crops(
  frames: tf.Tensor,
  windows: tf.Tensor,
  size: tuple[int, int],
  flip: bool | tf.Tensor = False,
  resize: str = 'bilinear',
) -> tf.Tensor:
  """Decodes several crops of a clip, each frame once; see `decode_clip`.

  Args:
    frames: [T] JPEG or PNG strings, or uint8 [T, H, W, 3].
    windows: int32 or float32 [C, 4], C known statically.
    size: height and width of the result.
    flip: mirror left and right; bool scalar, or [C] for each crop.
    resize: name in `FILTERS`.

  Returns:
    uint8 [C, T, *size, 3].
  """
  frames, count = read(frames), windows.shape[0]
  flips = tf.broadcast_to(tf.cast(flip, tf.bool), [count])
  number = tf.shape(frames)[0]
  return decode_each(
    frames,
    tf.broadcast_to(windows, [number, count, 4]),
    size,
    tf.broadcast_to(flips, [number, count]),
    resize,
  )


def decode_each(
  frames: tf.Tensor,
  windows: tf.Tensor,
  size: tuple[int, int],
  flips: tf.Tensor,
  resize: str = 'bilinear',
  scaled: bool = False,
) -> tf.Tensor:
  """Decodes several crops of each frame, all of one video; see `decode_clip`.

  Scaled decoding makes a half, a quarter or an eighth of a JPEG frame, where each of its
  windows is at least so many times `size`: the decoder computes the means of so many
  pixels each way instead of the pixels. Without antialiasing, windows are rounded to whole
  pixels of the smaller frame, by at most half a pixel of the result, and pixels are nearer
  to what an area-averaged frame would show. With it, windows stay as they are. Windows of
  floats, PNG and pixels are not concerned.

  Args:
    frames: [N] JPEG or PNG strings, or uint8 [N, H, W, 3].
    windows: int32 or float32 [N, C, 4], C known statically.
    size: height and width of the result.
    flips: bool [N, C], mirror left and right.
    resize: name in `FILTERS`.
    scaled: whether to make JPEG frames smaller as they are decoded.

  Returns:
    uint8 [C, N, *size, 3].
  """
  frames = read(frames)
  if not windows.dtype.is_integer:
    windows = tf.cast(windows, tf.float32)
  make = _Crops(size, FILTERS.find(resize))
  scaled = scaled and windows.dtype.is_integer
  if frames.dtype == tf.string:
    crops = tf.cond(
      _is_png(frames[0]),
      lambda: _crops_of_pngs(frames, windows, flips, make),
      lambda: _crops_of_jpegs(frames, windows, flips, make, scaled),
    )
  else:
    crops = make((frames,), lambda frame: frame, windows, flips)
  return tf.ensure_shape(tf.stack(crops), [windows.shape[1], frames.shape[0], *size, 3])


def _crops_of_pngs(
  frames: tf.Tensor, windows: tf.Tensor, flips: tf.Tensor, make: '_Crops'
) -> list[tf.Tensor]:
  sizes = _png_sizes(frames)
  first = _bearable('PNG', sizes[0])

  def decode(encoded: tf.Tensor, number: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    checked = _of_size('PNG', encoded, number, size, first)
    return tf.io.decode_png(checked, channels=3)

  return make((frames, tf.range(tf.shape(frames)[0]), sizes), decode, windows, flips)


def _crops_of_jpegs(
  frames: tf.Tensor,
  windows: tf.Tensor,
  flips: tf.Tensor,
  make: '_Crops',
  scaled: bool,
) -> list[tf.Tensor]:
  """See `_Crops`; decodes the part of a frame that its windows need."""
  first = _bearable('JPEG', tf.image.extract_jpeg_shape(frames[0])[:2])
  whole, choice, exact = first, [], None
  if scaled:
    choice = [make.choice(windows)]
    ratios = tf.gather(RATIOS, choice[0])[:, None]
    # Halves, quarters and eighths are exact in floats.
    exact = tf.cast(windows, tf.float32) / tf.cast(ratios[:, None], tf.float32)
    windows = make.of_whole_pixels(exact)
    whole = (first + ratios - 1) // ratios
  begin, end = make.needed(windows)
  # Decoding a part alone gets the chroma of its outermost columns wrong, so one more
  # column is decoded on either side.
  begin = tf.clip_by_value(begin - tf.constant([0, 1]), 0, whole - 1)
  end = tf.clip_by_value(end + tf.constant([0, 1]), begin + 1, whole)
  parts = tf.concat([begin, end - begin], 1)
  windows -= tf.cast(tf.pad(begin, [[0, 0], [0, 2]])[:, None], windows.dtype)

  def decode(
    encoded: tf.Tensor, number: tf.Tensor, part: tf.Tensor, *choice: tf.Tensor
  ) -> tf.Tensor:
    size = tf.image.extract_jpeg_shape(encoded)[:2]
    encoded = _of_size('JPEG', encoded, number, size, first)
    # INTEGER_FAST gives the same pixels as the default, sooner. The ratio has to be known
    # as the graph is made.
    ways = [
      functools.partial(
        tf.io.decode_and_crop_jpeg,
        encoded,
        part,
        channels=3,
        ratio=ratio,
        dct_method='INTEGER_FAST',
      )
      for ratio in RATIOS
    ]
    return tf.switch_case(choice[0], ways) if choice else ways[0]()

  numbers = tf.range(tf.shape(frames)[0])
  return make((frames, numbers, parts, *choice), decode, windows, flips, exact)


class _Crops:
  """Cuts windows out of frames, resizes and mirrors them.

  Args:
    size: height and width of the result.
    kind: the filter.
  """

  def __init__(self, size: tuple[int, int], kind: Filter):
    self._size, self._filter = size, kind

  def needed(self, windows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Begin and end, int32 [N, 2], of what windows [N, C, 4] need of their frames."""
    begin, end = windows[..., :2], windows[..., :2] + windows[..., 2:]
    if not windows.dtype.is_integer:
      step = windows[..., 2:] / tf.constant(self._size, tf.float32)
      margin = self._filter.support * tf.maximum(step, 1.0)
      begin, end = tf.floor(begin - margin), tf.math.ceil(end + margin)
    begin, end = tf.reduce_min(begin, 1), tf.reduce_max(end, 1)
    return tf.cast(begin, tf.int32), tf.cast(end, tf.int32)

  def choice(self, windows: tf.Tensor) -> tf.Tensor:
    """Which of `RATIOS` all windows [N, C, 4] of a frame bear, int32 [N]."""
    times = tf.reduce_min(windows[..., 2:] // tf.constant(self._size), [1, 2])
    bears = times[:, None] >= tf.constant(RATIOS[1:])
    return tf.math.count_nonzero(bears, 1, dtype=tf.int32)

  def __call__(
    self,
    frames: tuple[tf.Tensor, ...],
    decode: Callable[..., tf.Tensor],
    windows: tf.Tensor,
    flips: tf.Tensor,
    exact: tf.Tensor | None = None,
  ) -> list[tf.Tensor]:
    """For each window of a frame, its crop in all frames, uint8 [N, *size, 3].

    `decode` makes pixels of an element of `frames`; windows are relative to these pixels.
    What of windows of whole pixels is resized, `exact` tells of their frames.
    """
    count = windows.shape[1]
    places = self._places(windows, exact)
    resized = self._cut_and_resized if windows.dtype.is_integer else self._translated

    def crops_of(elements: tuple) -> list[tf.Tensor]:
      frame, places, flips = elements
      pixels = decode(*frame)
      return [
        _mirrored_if(flips[i], resized(pixels, *(p[i] for p in places)))
        for i in range(count)
      ]

    specs = [tf.TensorSpec([*self._size, 3], tf.uint8)] * count
    # One frame after the other: samples are made in parallel, and threads that are woken
    # for a frame each cost more than they save.
    return tf.map_fn(
      crops_of,
      (frames, places, flips),
      fn_output_signature=specs,
      parallel_iterations=1,
    )

  def of_whole_pixels(self, windows: tf.Tensor) -> tf.Tensor:
    """The windows of whole pixels, int32, that are cut out for windows of floats.

    A filter that antialiases can read any part of them, so they hold all of the window;
    for others they are the nearest.
    """
    begin, end = windows[..., :2], windows[..., :2] + windows[..., 2:]
    if self._filter.antialias:
      begin, end = tf.floor(begin), tf.math.ceil(end)
    else:
      begin, end = tf.floor(begin + 0.5), tf.floor(end + 0.5)
    return tf.cast(tf.concat([begin, end - begin], -1), tf.int32)

  def _places(self, windows: tf.Tensor, exact: tf.Tensor | None) -> tuple[tf.Tensor, ...]:
    """What is computed of the windows before there are pixels, for each window of each.

    All at once: so small an operation costs more to start than to run.
    """
    begin, extent = windows[..., :2], windows[..., 2:]
    cut: tuple[tf.Tensor, ...] = ()
    if windows.dtype.is_integer:
      cut = (
        tf.pad(begin, [[0, 0], [0, 0], [0, 1]]),
        tf.pad(extent, [[0, 0], [0, 0], [0, 1]], constant_values=3),
      )
      if not self._filter.antialias:
        return cut
      begin, extent = tf.zeros_like(begin, tf.float32), tf.cast(extent, tf.float32)
      if exact is not None:
        begin, extent = exact[..., :2] - tf.floor(exact[..., :2]), exact[..., 2:]
    scale = tf.constant(self._size, tf.float32) / extent
    return *cut, scale, -begin * scale

  def _cut_and_resized(
    self, pixels: tf.Tensor, begin: tf.Tensor, extent: tf.Tensor, *place: tf.Tensor
  ) -> tf.Tensor:
    crop = tf.slice(pixels, begin, extent)
    if self._filter.antialias:
      return self._translated(crop, *place)
    # The float kernel takes half the time of the uint8 one, with the same result; and a
    # third of what `_translated` takes, for which no tap has a fixed place.
    resized = tf.raw_ops.ResizeBilinear(
      images=tf.cast(crop, tf.float32)[None], size=self._size, half_pixel_centers=True
    )
    return tf.cast(resized[0] + 0.5, tf.uint8)

  def _translated(
    self, pixels: tf.Tensor, scale: tf.Tensor, translation: tf.Tensor
  ) -> tf.Tensor:
    """The view of pixels after scaling and moving; black where there are none."""
    resized = tf.raw_ops.ScaleAndTranslate(
      images=tf.cast(pixels, tf.float32)[None],
      size=self._size,
      scale=scale,
      translation=translation,
      kernel_type=self._filter.kernel,
      antialias=self._filter.antialias,
    )
    # Cubic kernels overshoot.
    return tf.cast(tf.clip_by_value(resized[0], 0.0, 255.0) + 0.5, tf.uint8)


def _mirrored_if(flip: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
  return tf.cond(flip, lambda: tf.reverse(image, [1]), lambda: image)

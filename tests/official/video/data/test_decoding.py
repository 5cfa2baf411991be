import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from official.video.configs import data as data_config
from official.video.data import decoding, views
from tests import modes

HEIGHT, WIDTH = 61, 90


def pictures(count=3, seed=0):
  """Smooth uint8 frames with some noise, so that chroma subsampling shows."""
  rng = np.random.default_rng(seed)
  smooth = tf.image.resize(rng.random((count, 6, 8, 3)), (HEIGHT, WIDTH)).numpy()
  return np.clip(255 * smooth + rng.normal(0, 9, smooth.shape), 0, 255).astype(np.uint8)


def encode(frames, form):
  """With the encoder of the Model Garden's test helper."""
  strings = []
  for frame in frames:
    buffer = io.BytesIO()
    PIL.Image.fromarray(frame).save(buffer, format=form)
    strings.append(buffer.getvalue())
  return tf.constant(strings)


def plain(frames, window, size, flip):
  """Decode, crop, resize, round and mirror, one after the other."""
  if frames.dtype == tf.string:
    frames = tf.stack([tf.io.decode_image(f, 3, expand_animations=False) for f in frames])
  top, left, height, width = window
  crop = frames[:, top : top + height, left : left + width]
  pixels = np.floor(tf.image.resize(crop, size).numpy() + 0.5).astype(np.uint8)
  return pixels[:, :, ::-1] if flip else pixels


WINDOWS = [
  (0, 0, HEIGHT, WIDTH),
  (5, 16, 40, 33),
  (13, 31, 48, 59),
  (60, 89, 1, 1),
  (8, 32, 16, 16),
]


@pytest.mark.parametrize('form', ['JPEG', 'PNG', None])
@pytest.mark.parametrize('flip', [False, True])
def test_equals_the_steps_one_by_one(form, flip):
  frames = pictures() if form is None else encode(pictures(), form)
  frames = tf.convert_to_tensor(frames)

  @tf.function
  def decode(window):
    return decoding.decode_clip(frames, window, (24, 32), flip)

  for window in WINDOWS:
    actual = decode(tf.constant(window)).numpy()
    assert actual.shape == (3, 24, 32, 3) and actual.dtype == np.uint8
    np.testing.assert_array_equal(
      actual, plain(frames, window, (24, 32), flip), str(window)
    )


@pytest.mark.parametrize('form', ['JPEG', 'PNG'])
def test_the_same_in_tf_data(form):
  frames, window = encode(pictures(), form), tf.constant(WINDOWS[1])
  shapes = []

  def decode(frames, window):
    clip = decoding.decode_clip(frames, window, (20, 20), window[0] > 3)
    shapes.append(clip.shape.as_list())
    return clip

  modes.assert_same(decode, frames, window, jit=False)
  assert shapes[-1] == [3, 20, 20, 3]


@pytest.mark.parametrize('form', ['JPEG', 'PNG', None])
@pytest.mark.parametrize('flip', [True, [True, False], tf.constant([False, True])])
def test_several_crops_of_one_decoding(form, flip):
  frames = pictures() if form is None else encode(pictures(), form)
  frames, windows = tf.convert_to_tensor(frames), tf.constant(WINDOWS[1:3])
  crops = decoding.decode_crops(frames, windows, (16, 16), flip)
  assert crops.shape == (2, 3, 16, 16, 3)
  flips = np.broadcast_to(flip, 2)
  for crop, window, mirrored in zip(crops, WINDOWS[1:3], flips, strict=True):
    np.testing.assert_array_equal(crop, plain(frames, window, (16, 16), mirrored))


@pytest.mark.parametrize('form', ['JPEG', 'PNG', None])
def test_any_number_of_frames(form):
  frames = pictures() if form is None else encode(pictures(), form)
  windows, flips = tf.constant(WINDOWS[1:3]), [True, False]
  expected = decoding.decode_crops(tf.constant(frames), windows, (16, 16), flips)
  shape = [None, *frames.shape[1:]]
  unknown = tf.TensorSpec(shape, tf.uint8 if form is None else tf.string)

  @tf.function(input_signature=[unknown])
  def decode(frames):
    return decoding.decode_crops(frames, windows, (16, 16), flips)

  np.testing.assert_array_equal(decode(tf.constant(frames)), expected)


@pytest.mark.parametrize('form', ['JPEG', 'PNG', None])
def test_frame_size(form):
  frames = pictures() if form is None else encode(pictures(), form)
  size = modes.assert_same(lambda f: tf.stack(decoding.frame_size(f)), frames, jit=False)
  assert size.tolist() == [HEIGHT, WIDTH]


def test_grey_jpeg_frames_become_rgb():
  grey = [tf.io.encode_jpeg(frame[..., :1]) for frame in pictures()]
  clip = decoding.decode_clip(tf.stack(grey), tf.constant(WINDOWS[0]), (24, 32)).numpy()
  assert np.array_equal(clip[..., 0], clip[..., 2]) and clip.std() > 5


def test_a_cut_off_frame_is_an_error():
  whole = encode(pictures(1), 'JPEG')[0].numpy()
  with pytest.raises(tf.errors.InvalidArgumentError):
    decoding.decode_clip(
      tf.constant([whole[: len(whole) // 2]]), tf.constant(WINDOWS[0]), (8, 8)
    )
  with pytest.raises(tf.errors.InvalidArgumentError):
    decoding.decode_clip(tf.constant([b'not a picture']), tf.constant(WINDOWS[0]), (8, 8))


def refuses(frames, *texts):
  """Asserts that decoding fails with the texts, eagerly and in a graph."""
  for decode in (decoding.decode_clip, tf.function(decoding.decode_clip)):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
      decode(tf.stack(frames), tf.constant([0, 0, 8, 8]), (8, 8))
    assert all(text in str(error.value) for text in texts), str(error.value)


@pytest.mark.parametrize('form', ['JPEG', 'PNG'])
def test_frames_of_several_sizes_are_an_error(form):
  whole = encode(pictures(2), form)
  smaller = encode(pictures(1)[:, :30, :40], form)
  sizes = 'frame 2 has [30 40] pixels', f'[{HEIGHT} {WIDTH}]'
  refuses([*whole, smaller[0]], form, *sizes)


@pytest.mark.parametrize('form', ['JPEG', 'PNG'])
def test_frames_of_too_many_pixels_are_not_decoded(form, monkeypatch):
  buffer = io.BytesIO()
  PIL.Image.new('RGB', (9000, 8000)).save(buffer, format=form)
  bomb = buffer.getvalue()
  assert len(bomb) < 3e6
  refuses([bomb], form, '[8000 9000] pixels', str(1 << 26))
  monkeypatch.setattr(decoding, 'MAX_PIXELS', HEIGHT * WIDTH)
  decoding.decode_clip(encode(pictures(1), form), tf.constant([0, 0, 8, 8]), (8, 8))
  monkeypatch.setattr(decoding, 'MAX_PIXELS', HEIGHT * WIDTH - 1)
  refuses(list(encode(pictures(1), form)), form, f'[{HEIGHT} {WIDTH}] pixels')


def test_a_video_of_both_formats_is_an_error():
  jpeg, png = (encode(pictures(1), form)[0] for form in ('JPEG', 'PNG'))
  refuses([jpeg, png], 'JPEG')
  refuses([png, jpeg], 'PNG')


PIL_FILTERS = {
  'bilinear_antialias': PIL.Image.Resampling.BILINEAR,
  'bicubic_antialias': PIL.Image.Resampling.BICUBIC,
}


def hard_pictures():
  """Noise, and black and white edges, at which cubic kernels overshoot."""
  rng = np.random.default_rng(3)
  noise = rng.integers(0, 256, (1, HEIGHT, WIDTH, 3)).astype(np.uint8)
  edges = np.kron(rng.integers(0, 2, (7, 10, 3)), np.ones((9, 9, 1)))[:HEIGHT, :WIDTH]
  return np.concatenate([pictures(), noise, np.uint8(255 * edges)[None]])


def by_pil(frame, window, size, name):
  top, left, height, width = window
  image = PIL.Image.fromarray(frame[top : top + height, left : left + width])
  return np.asarray(image.resize(size[::-1], PIL_FILTERS[name])).astype(int)


@pytest.mark.parametrize('name', PIL_FILTERS)
@pytest.mark.parametrize('form', ['PNG', None])
def test_antialiased_crops_are_pils(name, form):
  """To one grey level; PIL clips between its two passes, which tells at hard edges."""
  frames = hard_pictures()
  given = tf.constant(frames) if form is None else encode(frames, form)

  @tf.function
  def decode(window):
    return decoding.decode_clip(given, window, (24, 32), resize=name)

  # Downscaling, upscaling, one of each, and a single pixel.
  for window in (*WINDOWS, (0, 3, 20, 80), (40, 20, 12, 11)):
    found = decode(tf.constant(window)).numpy().astype(int)
    expected = np.stack([by_pil(f, window, (24, 32), name) for f in frames])
    difference = np.abs(found - expected)
    assert difference[:-2].max() <= 1 and difference[:-2].mean() < 0.3, window
    assert difference.max() <= 25 and difference.mean() < 0.5, window


@pytest.mark.parametrize('name', PIL_FILTERS)
def test_only_antialiasing_takes_away_what_a_smaller_frame_cannot_show(name):
  stripes = np.zeros((1, 60, 60, 3), np.uint8)
  stripes[:, :, ::2] = 255
  window = tf.constant([0, 0, 60, 60])
  plain_result, smooth = (
    decoding.decode_clip(tf.constant(stripes), window, (28, 28), resize=r).numpy()[0]
    for r in ('bilinear', name)
  )
  assert plain_result[5, 3:-3].std() > 25 and smooth[5, 3:-3].std() < 10


@pytest.mark.parametrize('form', ['JPEG', 'PNG', None])
@pytest.mark.parametrize('name', decoding.FILTERS)
def test_windows_of_floats_are_cut_from_the_whole_resized_frame(name, form):
  """They see beyond their sides, whatever part of a JPEG was decoded for that."""
  frames = pictures() if form is None else encode(pictures(), form)
  pixels = decoding.decode_clip(
    frames, tf.constant([0, 0, HEIGHT, WIDTH]), (HEIGHT, WIDTH)
  ).numpy()
  size, place = (24, 30), (5, 9, 12, 16)  # Of the frame scaled to that size.
  step = np.float32([HEIGHT / size[0], WIDTH / size[1]] * 2)
  found = decoding.decode_clip(
    tf.convert_to_tensor(frames), tf.constant(place * step), (12, 16), resize=name
  )
  if name == 'bilinear':
    whole = np.floor(tf.image.resize(pixels, size).numpy() + 0.5)
  else:
    whole = np.stack([by_pil(f, (0, 0, HEIGHT, WIDTH), size, name) for f in pixels])
  top, left, height, width = place
  expected = whole[:, top : top + height, left : left + width]
  assert np.abs(found.numpy() - expected).max() <= 2


@pytest.mark.parametrize('form', ['JPEG', None])
def test_beyond_the_frame_is_black(form):
  frames = np.full((2, 30, 40, 3), 200, np.uint8)
  frames = tf.constant(frames) if form is None else encode(frames, form)
  window = tf.constant([-15.0, 0.0, 60.0, 40.0])
  for name in decoding.FILTERS:
    view = decoding.decode_clip(frames, window, (30, 20), resize=name).numpy()[0]
    inside = view[8:22] if name == 'bilinear' else view[10:20]
    assert np.abs(inside.astype(int) - 200).max() <= 1
    assert not view[:7].any() and not view[-7:].any()


@pytest.mark.parametrize('name', decoding.FILTERS)
def test_every_filter_in_tf_data(name):
  frames = encode(pictures(), 'JPEG')
  for window in (WINDOWS[1], np.float32([-3.5, 2.25, 50, 70])):
    modes.assert_same(
      lambda f, w: decoding.decode_clip(f, w, (20, 22), True, name),
      frames,
      window,
      jit=False,
    )


@pytest.mark.parametrize('crops', [1, 3])
@pytest.mark.parametrize('resize', ['bilinear', 'bicubic_antialias'])
def test_test_views_decode_each_frame_once_for_all_crops(monkeypatch, crops, resize):
  decoded, decode = [], tf.io.decode_and_crop_jpeg

  def counted(*arguments, **options):
    decoded.append(1)
    return decode(*arguments, **options)

  monkeypatch.setattr(tf.io, 'decode_and_crop_jpeg', counted)
  frame = tf.io.encode_jpeg(np.zeros((40, 60, 3), np.uint8))
  config = data_config.DataConfig(
    feature_shape=(5, 16, 16, 3), num_test_crops=crops, resize=resize
  )
  made = views.test_crops(tf.repeat(frame, 5), config)  # Eagerly, frame by frame.
  assert made.shape == (crops, 5, 16, 16, 3) and len(decoded) == 5


# --- Scaled decoding ------------------------------------------------------------------

SMALL = (12, 16)
# By how much a frame may be made smaller for each: the smaller side's ratio decides.
SCALED_WINDOWS = [
  ((3, 7, 25, 33), 2),
  ((5, 2, 47, 66), 2),
  ((1, 6, 49, 65), 4),
  ((4, 2, 97, 129), 8),
  ((0, 0, 101, 141), 8),
]


def large_jpegs(count=2):
  """Frames of 101 x 141, no multiple of any ratio, smooth but for some noise."""
  rng = np.random.default_rng(5)
  smooth = tf.image.resize(rng.random((count, 9, 12, 3)), (101, 141)).numpy()
  noisy = np.clip(255 * smooth + rng.normal(0, 12, smooth.shape), 0, 255)
  return encode(noisy.astype(np.uint8), 'JPEG')


def scaled_clip(frames, window, flip=False, scaled=True, resize='bilinear'):
  """[T, *SMALL, 3] of one window."""
  count = len(frames)
  windows = tf.constant([[window]] * count)
  flips = tf.fill([count, 1], flip)
  return decoding.decode_each(frames, windows, SMALL, flips, resize, scaled)[0].numpy()


def by_pil_decoder(frames):
  images = [PIL.Image.open(io.BytesIO(frame.numpy())) for frame in frames]
  return np.stack([np.asarray(image) for image in images]).astype(float)


def area_averaged(frames, window, ratio):
  """Means of blocks of the whole frame, cut out and resized, in numpy."""
  pixels = by_pil_decoder(frames)
  missing = [(0, -side % ratio) for side in pixels.shape[1:3]]
  pixels = np.pad(pixels, [(0, 0), *missing, (0, 0)], 'edge')
  count, height, width, _ = pixels.shape
  blocks = pixels.reshape(count, height // ratio, ratio, width // ratio, ratio, 3)
  means = blocks.mean((2, 4))
  sides = []
  for begin, extent, size in zip(window[:2], window[2:], SMALL, strict=True):
    first = np.floor(begin / ratio + 0.5)
    length = np.floor((begin + extent) / ratio + 0.5) - first
    at = (np.arange(size) + 0.5) * length / size - 0.5
    low = np.floor(at)
    near = [np.clip(low + i, 0, length - 1).astype(int) + int(first) for i in (0, 1)]
    sides.append((*near, at - low))
  top, bottom, down = sides[0]
  left, right, across = sides[1]
  rows = (
    means[:, top] * (1 - down)[:, None, None] + means[:, bottom] * down[:, None, None]
  )
  return rows[:, :, left] * (1 - across)[:, None] + rows[:, :, right] * across[:, None]


@pytest.mark.parametrize(('window', 'ratio'), SCALED_WINDOWS)
def test_scaled_decoding_is_near_an_area_averaged_whole_frame(window, ratio):
  """Within 2 grey levels in the mean and 18 anywhere, nearer than whole decoding."""
  frames = large_jpegs()
  expected = area_averaged(frames, window, ratio)
  found, whole = (scaled_clip(frames, window, scaled=s) for s in (True, False))
  error, of_whole = (np.abs(clip - expected) for clip in (found, whole))
  assert error.mean() < 2 and error.max() < 18, (error.mean(), error.max())
  assert error.mean() < of_whole.mean()


@pytest.mark.parametrize(('window', 'ratio'), SCALED_WINDOWS)
@pytest.mark.parametrize('flip', [False, True])
def test_a_scaled_crop_is_cut_out_of_the_whole_frame_as_it_is_scaled(window, ratio, flip):
  frames = large_jpegs()
  pixels = tf.stack([tf.io.decode_jpeg(frame, 3, ratio) for frame in frames])
  top, left, bottom, right = (
    int(np.floor(edge / ratio + 0.5))
    for edge in (*window[:2], window[0] + window[2], window[1] + window[3])
  )
  expected = tf.image.resize(pixels[:, top:bottom, left:right], SMALL).numpy() + 0.5
  expected = expected.astype(np.uint8)
  if flip:
    expected = expected[:, :, ::-1]
  np.testing.assert_array_equal(scaled_clip(frames, window, flip), expected)


@pytest.mark.parametrize('name', decoding.FILTERS)
@pytest.mark.parametrize('window', [window for window, _ in SCALED_WINDOWS])
def test_a_scaled_crop_shows_things_in_their_places(window, name):
  """To half a pixel of the view, mirrored or not; to less with antialiasing."""
  top, left, height, width = window
  rows, columns = np.mgrid[:101, :141]
  centre = top + 0.4 * height, left + 0.3 * width
  spread = height / 8, width / 8
  exponent = ((rows - centre[0]) / spread[0]) ** 2 + (
    (columns - centre[1]) / spread[1]
  ) ** 2
  blob = np.repeat((255 * np.exp(-0.5 * exponent))[..., None], 3, -1).astype(np.uint8)
  frames = encode(blob[None], 'JPEG')
  for flip in (False, True):
    places = []
    for scaled in (True, False):
      light = scaled_clip(frames, window, flip, scaled, name)[0, ..., 0].astype(float)
      light *= light > 40  # JPEG's rings far away would weigh too much.
      axes = np.mgrid[: SMALL[0], : SMALL[1]]
      places.append([(light * axis).sum() / light.sum() for axis in axes])
    assert np.abs(np.subtract(*places)).max() <= (0.5 if name == 'bilinear' else 0.2)
    assert (places[0][1] > SMALL[1] / 2) == flip


def ratios_used(monkeypatch, windows, **options):
  """By which ratio each of some frames is decoded, in their order."""
  used, decode = [], tf.io.decode_and_crop_jpeg

  def noted(*arguments, **chosen):
    used.append(chosen['ratio'])
    return decode(*arguments, **chosen)

  monkeypatch.setattr(tf.io, 'decode_and_crop_jpeg', noted)
  windows = tf.constant(windows)
  flips = tf.zeros(windows.shape[:2], tf.bool)
  frames = large_jpegs(len(windows))
  decoding.decode_each(frames, windows, SMALL, flips, **options)  # Eagerly.
  return used


def test_the_smallest_side_of_all_crops_of_a_frame_says_how_small_it_may_be(monkeypatch):
  (h, w), corner = SMALL, (1, 2)
  alone = [(2 * h, 2 * w), (2 * h - 1, 8 * w), (6 * h, 2 * w - 1), (4 * h, 7 * w)]
  windows = [[(*corner, *side)] for side in [*alone, (8 * h, 8 * w), (h, w), (3, 3)]]
  found = ratios_used(monkeypatch, windows, scaled=True)
  assert found == [2, 1, 1, 4, 8, 1, 1]
  two = [[(*corner, 8 * h, 8 * w), (*corner, 3 * h, 3 * w)]]
  assert ratios_used(monkeypatch, two, scaled=True) == [2]


def test_nothing_is_scaled_unasked_nor_for_windows_of_floats(monkeypatch):
  window = [[(0, 0, 96, 128)]]
  assert ratios_used(monkeypatch, window) == [1]
  assert ratios_used(monkeypatch, np.float32(window), scaled=True) == [1]


@pytest.mark.parametrize('form', ['PNG', None])
def test_scaled_decoding_is_of_jpegs(form):
  frames = pictures() if form is None else encode(pictures(), form)
  frames, window = tf.convert_to_tensor(frames), (0, 0, HEIGHT, WIDTH)
  np.testing.assert_array_equal(
    scaled_clip(frames, window), scaled_clip(frames, window, scaled=False)
  )


@pytest.mark.parametrize('name', decoding.FILTERS)
def test_scaled_decoding_in_tf_data(name):
  def decode(frames, windows):
    flips = tf.constant([[True], [False]])
    return decoding.decode_each(frames, windows, SMALL, flips, name, True)

  windows = tf.constant([[SCALED_WINDOWS[0][0]], [SCALED_WINDOWS[3][0]]])
  modes.assert_same(decode, large_jpegs(), windows, jit=False)


@pytest.mark.parametrize('name', PIL_FILTERS)
@pytest.mark.parametrize(('window', 'ratio'), SCALED_WINDOWS)
def test_antialiased_crops_stay_near_pils_when_scaled(name, window, ratio):
  """Of noisy pictures, within 2.5 grey levels in the mean; 6.5 at an eighth."""
  frames = large_jpegs()
  expected = np.stack(
    [by_pil(np.uint8(f), window, SMALL, name) for f in by_pil_decoder(frames)]
  )
  error = np.abs(scaled_clip(frames, window, resize=name) - expected)
  assert error.mean() < (6.5 if ratio == 8 else 2.5), error.mean()


def test_only_training_views_are_scaled():
  windows, flips = tf.constant([[[1, 6, 49, 65]]]), tf.constant([[False]])
  frames, indices = large_jpegs(1), tf.constant([[0]])

  def decoded(training=True, exactly=False, **crop):
    config = data_config.DataConfig(
      feature_shape=(1, *SMALL, 3),
      num_views=1,
      is_training=training,
      augmentation=data_config.Augmentation(**crop),
    )
    maker = views.build_view_maker(config)
    return maker.decoded(frames, indices, windows, flips, exactly).numpy()[0, 0]

  whole, smaller = (scaled_clip(frames, (1, 6, 49, 65), scaled=s) for s in (False, True))
  assert not np.array_equal(whole, smaller)
  np.testing.assert_array_equal(decoded(), smaller)
  np.testing.assert_array_equal(decoded(scaled_decoding=False), whole)
  np.testing.assert_array_equal(decoded(training=False), whole)
  np.testing.assert_array_equal(decoded(exactly=True), whole)

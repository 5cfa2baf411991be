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
  decoded, decode = [], tf.image.decode_and_crop_jpeg

  def counted(*arguments, **options):
    decoded.append(1)
    return decode(*arguments, **options)

  monkeypatch.setattr(tf.image, 'decode_and_crop_jpeg', counted)
  frame = tf.io.encode_jpeg(np.zeros((40, 60, 3), np.uint8))
  config = data_config.DataConfig(
    feature_shape=(5, 16, 16, 3), num_test_crops=crops, resize=resize
  )
  made = views.test_crops(tf.repeat(frame, 5), config)  # Eagerly, frame by frame.
  assert made.shape == (crops, 5, 16, 16, 3) and len(decoded) == 5

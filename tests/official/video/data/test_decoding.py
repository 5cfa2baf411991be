import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from official.video.data import decoding
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

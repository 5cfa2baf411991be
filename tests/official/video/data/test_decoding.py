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
def test_several_crops_of_one_decoding(form):
  frames = pictures() if form is None else encode(pictures(), form)
  frames, windows = tf.convert_to_tensor(frames), tf.constant(WINDOWS[1:3])
  crops = decoding.decode_crops(frames, windows, (16, 16), True)
  assert crops.shape == (2, 3, 16, 16, 3)
  for crop, window in zip(crops, WINDOWS[1:3], strict=True):
    np.testing.assert_array_equal(crop, plain(frames, window, (16, 16), True))


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

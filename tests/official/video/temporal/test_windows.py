import numpy as np
import pytest
import tensorflow as tf

from official.video.configs import data as data_config
from official.video.data import index
from official.video.errors import UserError
from official.video.evaluation import encoding
from official.video.temporal import windows


@pytest.mark.parametrize(
  ('num_frames', 'window', 'step', 'starts'),
  [
    (10, 16, 4, [0]),
    (16, 16, 4, [0]),
    (17, 16, 4, [0, 1]),
    (24, 16, 4, [0, 4, 8]),
    (26, 16, 4, [0, 4, 8, 10]),
    (100, 63, 16, [0, 16, 32, 37]),
    (1, 16, 4, [0]),
    (40, 4, 30, [0, 30, 36]),
  ],
)
def test_the_last_window_ends_with_the_video(num_frames, window, step, starts):
  assert windows.window_starts(num_frames, window, step).tolist() == starts


@pytest.mark.parametrize('num_frames', [40, 63, 64, 100, 470, 1000])
@pytest.mark.parametrize(('num_steps', 'stride'), [(32, 2), (63, 1)])
def test_no_window_wraps(num_frames, num_steps, stride):
  """Windows of 63 frames every 16: each goes forward, the last frame is in the last."""
  for start in windows.window_starts(num_frames, 63, 16):
    indices = windows.frame_indices(start, num_steps, stride, num_frames)
    assert (np.diff(indices) >= 0).all() and indices[0] == start
    if num_frames >= 63:
      np.testing.assert_array_equal(np.diff(indices), stride)
  assert indices[-1] == num_frames - 1


def test_centres_rise_within_the_video():
  starts = windows.window_starts(100, 63, 16)
  centres = windows.window_centres(starts, 100, 63)
  np.testing.assert_allclose(centres, [0.315, 0.475, 0.635, 0.685])
  np.testing.assert_allclose(windows.window_centres(np.array([0]), 10, 63), [0.5])


@pytest.fixture(scope='module')
def film():
  """100 frames, each of one grey level, its number."""
  grey = [np.full((8, 8, 3), number, np.uint8) for number in range(100)]
  frames = tf.stack([tf.io.encode_png(frame) for frame in grey])
  return windows.Film('film', frames, 25.0, [(10, 49, 1)])


def test_windows_of_a_film_are_taken_at_the_pace_of_the_data(film):
  seen = []

  def encoder(clips):
    seen.append(clips[..., 0, 0, 0].numpy())
    return {'feature': tf.zeros([len(clips), 2])}

  config = data_config.DataConfig(
    feature_shape=(4, 8, 8, 3), global_batch_size=8, stride_seconds=0.4
  )  # 5 frames a second: every fifth.
  windows.WindowEncoder(config, encoding.Encoder(encoder), 13, 10)(film)
  first = np.array([0, 10, 20, 30])
  np.testing.assert_array_equal(np.concatenate(seen), [first, first + 65])
  with pytest.raises(UserError, match='film: its record has no image/frame_rate above 0'):
    windows.WindowEncoder(config, encoding.Encoder(encoder), 13, 10)(
      film._replace(rate=0.0)
    )


def test_windows_of_a_film_show_their_frames(film):
  config = data_config.DataConfig(feature_shape=(32, 8, 8, 3), global_batch_size=3)
  seen = []

  def encoder(clips):
    seen.append(clips[..., 0, 0, 0].numpy())
    mean = tf.reduce_mean(tf.cast(clips, tf.float32), [2, 3, 4])
    return {'feature': mean[:, ::31]}  # Of the first frame and of the last.

  encode = windows.WindowEncoder(config, encoding.Encoder(encoder), 16, 10)
  made = encode(film)
  assert [len(batch) for batch in seen] == [3, 1]
  starts = np.concatenate(seen)[:, 0]
  assert starts.tolist() == [0, 16, 32, 37]
  np.testing.assert_array_equal(
    np.concatenate(seen), starts[:, None] + 2 * np.arange(32)[None]
  )
  # Step 4 of 10 is centred at .45, between the windows at .315 and .475.
  share = (0.45 - 0.315) / 0.16
  np.testing.assert_allclose(made[4], [16 * share, 62 + 16 * share], atol=1e-4)
  np.testing.assert_allclose(made[[0, -1]], [[0, 62], [37, 99]], atol=1e-4)


def test_segments_become_seconds(film):
  entry = windows.database_entry(film, ['run', 'jump'], 'training')
  assert entry == {
    'subset': 'training',
    'duration': 4.0,
    'annotations': [{'label': 'jump', 'segment': [0.4, 2.0]}],
  }
  assert windows.database_entry(film, (), '')['annotations'][0]['label'] == '1'


@pytest.mark.parametrize(('read', 'skipped'), [(2, 0), (1, 0), (2, 3)])
def test_videos_without_features_are_said(
  film, tmp_path, capsys, monkeypatch, read, skipped
):
  values = np.zeros((10, 2), np.float32)
  films = [('r', film._replace(name=f'film{i}'), values) for i in range(read)]
  monkeypatch.setattr(windows, '_encoded', lambda table, encode: films)
  none = np.zeros(2, np.int64)
  table = index.RecordIndex(['x'], none, none, none, none, skipped=skipped)
  config = data_config.DataConfig(feature_shape=(32, 8, 8, 3), global_batch_size=3)
  output = str(tmp_path / 'features.npz')
  windows.extract(config, table, lambda clips: {}, 16, 10, 'training', output)
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == f'features of {read} of 2 videos: {output}'
  if read == 2 and not skipped:
    assert len(lines) == 1
  else:
    left_out = f'{2 - read} videos could not be read, {skipped} sources gave no record'
    assert lines[1].startswith(f'note: {left_out}')

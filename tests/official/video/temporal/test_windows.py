import json
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from official.video.configs import data as data_config
from official.video.data import index, records, views
from official.video.errors import UserError
from official.video.evaluation import encoding, sharing, store
from official.video.temporal import windows
from tests import clips


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


def test_each_frame_of_a_batch_is_decoded_once(film, monkeypatch):
  decoded, crops = [], views.test_crops

  def counted(frames, config):
    decoded.append(int(tf.shape(frames)[0]))
    return crops(frames, config)

  monkeypatch.setattr(views, 'test_crops', counted)
  tf.config.run_functions_eagerly(True)
  try:
    config = data_config.DataConfig(feature_shape=(32, 8, 8, 3), global_batch_size=3)
    zeros = encoding.Encoder(lambda clips: {'feature': tf.zeros([len(clips), 2])})
    windows.WindowEncoder(config, zeros, 8, 10)(film)
  finally:
    tf.config.run_functions_eagerly(False)
  # Windows of 63 frames, every other of which is seen, at 0, 8 and 16, and at 24, 32 and 37:
  # those of the last are others.
  assert decoded == [32 + 4 + 4, 32 + 4 + 32]


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
  films = [(i, film._replace(name=f'film{i}'), values) for i in range(read)]
  monkeypatch.setattr(windows, '_encoded', lambda table, encode, rows: films)
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


class Killed(Exception):
  """What ends an extraction in the middle."""


@pytest.fixture(scope='module')
def films(tmp_path_factory):
  """Five records of two segments each, and the third is damaged."""
  return clips.write_split(
    tmp_path_factory.mktemp('records'),
    'train',
    [0, 1, 2, 0, 1],
    truncate_frames_of=2,
    fields=lambda row: {
      records.SEGMENT_START_INDEX: [row, 10],
      records.SEGMENT_END_INDEX: [row + 5, 20],
      records.SEGMENT_LABEL_INDEX: [0, 2],
    },
  )


def config_of(films):
  return data_config.DataConfig(
    input_path=str(films), feature_shape=(4, 24, 24, 3), global_batch_size=4
  )


def extracted(films, output, hosts=sharing.ALONE, killed_at=None, encoder='x'):
  """Extracts; which records were seen, by their pixels."""
  seen = []

  def encode(views):
    red = tf.reduce_mean(tf.cast(views, tf.float32), [1, 2, 3])
    seen.append(round(float(red[0, 0]) / 8))
    if seen[-1] == killed_at:
      raise Killed
    return {'feature': red}

  config, made = config_of(films), encoding.Encoder(encode)
  table, told = index.load_index(config), {'encoder': encoder}
  windows.extract(config, table, made, 16, 6, 'training', str(output), told, hosts)
  return sorted(set(seen))


def same_files(one, other):
  for a, b in ((one, other), (one.with_suffix('.json'), other.with_suffix('.json'))):
    assert a.read_bytes() == b.read_bytes()


def test_a_killed_extraction_goes_on(films, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(store, '_EVERY', 0)
  whole, part = tmp_path / 'whole.npz', tmp_path / 'part.npz'
  assert extracted(films, whole) == [0, 1, 3, 4]
  with np.load(whole) as made:
    assert made['features'].shape == (4, 6, 3) and made['names'][2] == 'clip_3'
    np.testing.assert_allclose(made['features'][2, :, 0], 8 * 3, atol=1.5)
  database = json.loads(whole.with_suffix('.json').read_text())['database']
  assert database['clip_3'] == {
    'subset': 'training',
    'duration': 1.6,
    'annotations': [
      {'label': 'a', 'segment': [3 / 25, 9 / 25]},
      {'label': 'c', 'segment': [10 / 25, 21 / 25]},
    ],
  }
  with pytest.raises(Killed):
    extracted(films, part, killed_at=3)
  assert not part.exists()
  assert extracted(films, part) == [3, 4]
  assert 'windows: goes on behind 2 of 5 videos' in capsys.readouterr().err
  same_files(whole, part)
  left = {path.name for path in tmp_path.iterdir()}
  assert left == {'part.json', 'part.npz', 'whole.json', 'whole.npz'}
  # Of another encoder it begins anew.
  with pytest.raises(Killed):
    extracted(films, part, killed_at=3)
  assert extracted(films, part, encoder='y') == [0, 1, 3, 4]


def test_hosts_extract_what_one_does(films, tmp_path, capsys):
  one, two = tmp_path / 'one.npz', tmp_path / 'two.npz'
  extracted(films, one)
  assert extracted(films, two, sharing.Hosts(1, 2)) == [3, 4]
  assert 'share 2 of 2 is done; host 1 writes' in capsys.readouterr().out
  assert extracted(films, two, sharing.Hosts(0, 2)) == [0, 1]
  same_files(one, two)


def test_a_video_that_is_there_twice_is_told(tmp_path):
  films = clips.write_split(
    tmp_path / 'records', 'train', [0, 1], fields=lambda row: {records.MEDIA_ID: 'same'}
  )
  extracted(films, tmp_path / 'x.npz', sharing.Hosts(1, 2))
  for output, hosts in (('x', sharing.Hosts(0, 2)), ('y', sharing.ALONE)):
    with pytest.raises(UserError, match='same is there twice; convert whole videos'):
      extracted(films, tmp_path / f'{output}.npz', hosts)


def test_features_are_written_without_being_held(tmp_path, films, film, monkeypatch):
  config, peaks = config_of(films), []
  table, none = index.load_index(config), encoding.Encoder(lambda clips: {})
  for length in (100, 3000):
    wide = np.ones((length, 512), np.float32)
    made = [(row, film._replace(name=str(row)), wide) for row in range(5)]
    monkeypatch.setattr(windows, '_encoded', lambda table, encode, rows, made=made: made)
    tracemalloc.start()
    windows.extract(config, table, none, 16, length, '', str(tmp_path / 'x.npz'))
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  # Of 31 MB what NumPy writes at a time, 16 MiB.
  assert peaks[1] - peaks[0] < 2**24 + 1e6

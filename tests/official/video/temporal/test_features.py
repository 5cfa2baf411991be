import h5py
import numpy as np
import pytest

from official.video.errors import UserError
from official.video.temporal import activitynet, features

DURATIONS = {'a': 20.0, 'b': 40.0, 'v_c': 30.0}


def videos(durations=DURATIONS):
  return {
    name: activitynet.Video(seconds, ['x'], np.array([[0.0, 1.0]]))
    for name, seconds in durations.items()
  }


def arrays(lengths=(6, 12, 9), channels=4):
  rng = np.random.default_rng(0)
  return {
    name: rng.normal(size=(length, channels)).astype(np.float32)
    for name, length in zip(DURATIONS, lengths, strict=True)
  }


def folder_of_npy(path, made):
  path.mkdir()
  for name, values in made.items():
    np.save(path / f'v_{name.removeprefix("v_")}.npy', values)
  return path


def folder_of_h5(path, made):
  path.mkdir()
  for name, values in made.items():
    with h5py.File(path / f'{name}.h5', 'w') as file:
      file[name] = values
  return path


def datasets(path, made):
  with h5py.File(path, 'w') as file:
    for name, values in made.items():
      file[f'v_{name.removeprefix("v_")}'] = values
  return path


def groups(path, made):
  with h5py.File(path, 'w') as file:
    for name, values in made.items():
      file[f'{name.removeprefix("v_")}/c3d_features'] = values
  return path


LAYOUTS = [folder_of_npy, folder_of_h5, datasets, groups]


@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_public_layout_reads_alike(layout, tmp_path):
  made = arrays()
  path = layout(tmp_path / 'features', made | {'other': np.ones((3, 9))})
  got = features.load(str(path), videos(), 6)
  assert list(got.names) == list(DURATIONS)
  assert got.durations.tolist() == list(DURATIONS.values())
  assert got.features.shape == (3, 6, 4) and got.features.dtype == np.float32
  np.testing.assert_allclose(got.features[0], made['a'], rtol=1e-5, atol=1e-6)
  # Of 12 steps to 6: each lies between two.
  np.testing.assert_allclose(
    got.features[1], made['b'].reshape(6, 2, 4).mean(1), rtol=1e-5, atol=1e-6
  )
  assert features.load(str(path), videos()).features.shape[1] == 100


def test_features_are_interpolated_over_the_video():
  values = np.array([[0.0], [10.0]])
  made = features.resampled(values, np.array([0.25, 0.75]), 4)
  np.testing.assert_allclose(made[:, 0], [0, 2.5, 7.5, 10])
  alone = features.resampled(values[:1] + 3, np.array([0.4]), 3)
  np.testing.assert_allclose(alone[:, 0], [3, 3, 3])


def test_names_match_exactly_before_they_match_by_prefix():
  stored = {'v_x': 1, 'x': 2, 'v_y': 3, 'z': 4}
  names = ['x', 'v_x', 'y', 'v_z', 'w']
  assert features.matched(stored, names) == {'x': 2, 'v_x': 1, 'y': 3, 'v_z': 4}


def broken(kind):
  made = arrays((8, 8, 8))
  if kind == 'nan':
    made['b'][5, 2] = np.nan
  elif kind == 'infinity':
    made['b'][5, 2] = np.inf
  elif kind == 'channels':
    made['b'] = made['b'][:, :3]
  elif kind == 'first channels':
    made['a'] = np.ones((8, 5), np.float32)
  elif kind == 'length':
    made['b'] = made['b'][:3]
  elif kind == 'first length':
    made['a'] = np.tile(made['a'], (3, 1))
  elif kind == 'rank':
    made['b'] = made['b'][None]
  elif kind == 'empty':
    made['b'] = made['b'][:0]
  elif kind == 'text':
    made['b'] = np.full((8, 4), b'x')
  elif kind == 'missing':
    del made['b']
  return made


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize(
  ('kind', 'video', 'message'),
  [
    ('nan', 'b', 'NaN or infinity at step 5'),
    ('infinity', 'b', 'NaN or infinity at step 5'),
    ('channels', 'b', '3 channels, others of'),
    ('first channels', 'a', '5 channels, others of'),
    ('length', 'b', '3 steps, 2 of 3 videos have 8, and its 40 s do not explain it'),
    ('first length', 'a', '24 steps, 2 of 3 videos have 8'),
    ('rank', 'b', r'float32 \[1, 8, 4\]; expected numbers \[steps, channels\]'),
    ('empty', 'b', r'\[0, 4\]; expected numbers'),
    ('text', 'b', 'expected numbers'),
    ('missing', 'b', 'one of 1 missing of 3 annotated videos'),
  ],
)
def test_a_broken_video_is_one_line(layout, kind, video, message, tmp_path):
  path = layout(tmp_path / 'features', broken(kind))
  with pytest.raises(UserError, match=message) as caught:
    features.load(str(path), videos())
  assert '\n' not in str(caught.value)
  assert str(path) in str(caught.value) and video in str(caught.value)


def test_a_length_that_the_duration_explains_is_rescaled(tmp_path):
  path = folder_of_npy(tmp_path / 'features', arrays((8, 8, 12)))
  alike = {'a': 20.0, 'b': 20.0, 'v_c': 30.0}
  assert features.load(str(path), videos(alike), 4).features.shape == (3, 4, 4)


def test_videos_without_features_are_left_out_when_asked(tmp_path):
  path = str(folder_of_npy(tmp_path / 'features', broken('missing')))
  got = features.load(path, videos(), 8, leave_out=True)
  assert list(got.names) == ['a', 'v_c'] and got.durations.tolist() == [20, 30]
  with pytest.raises(
    UserError, match=r'has none of the 1 videos .* such as z; it has v_a'
  ):
    features.load(path, videos({'z': 1.0}), 8, leave_out=True)


def test_features_without_durations_are_refused(tmp_path):
  path = folder_of_npy(tmp_path / 'features', arrays())
  unknown = {name: video._replace(duration=None) for name, video in videos().items()}
  with pytest.raises(UserError, match='annotations: a has no duration'):
    features.load(str(path), unknown)


def test_files_that_cant_be_read(tmp_path):
  made = arrays((8, 8, 8))
  path = folder_of_npy(tmp_path / 'npy', made)
  whole = (path / 'v_b.npy').read_bytes()
  (path / 'v_b.npy').write_bytes(whole[:-8])
  with pytest.raises(UserError, match=r"v_b\.npy: can't be read"):
    features.load(str(path), videos())
  np.save(path / 'v_b.npy', np.array([{}]), allow_pickle=True)
  with pytest.raises(UserError, match=r"v_b\.npy: can't be read: Object arrays"):
    features.load(str(path), videos())
  (path / 'v_b.h5').write_bytes(b'x')
  with pytest.raises(UserError, match=r'v_b\.npy: .*v_b\.h5 is of the same video'):
    features.load(str(path), videos())
  path = folder_of_h5(tmp_path / 'h5', made)
  (path / 'b.h5').write_bytes(b'no HDF5')
  with pytest.raises(UserError, match=r"b\.h5: can't be read"):
    features.load(str(path), videos())
  with h5py.File(path / 'b.h5', 'w') as file:
    file['rgb'], file['flow'] = made['a'], made['a']
  with pytest.raises(
    UserError, match=r"b\.h5: .*a group of \['flow', 'rgb'\], expected one"
  ):
    features.load(str(path), videos())
  (tmp_path / 'one.h5').write_bytes(b'no HDF5')
  with pytest.raises(UserError, match=r"one\.h5: can't be read as HDF5"):
    features.load(str(tmp_path / 'one.h5'), videos())
  (tmp_path / 'nothing').mkdir()
  with pytest.raises(UserError, match=r'holds no <video>\.npy'):
    features.load(str(tmp_path / 'nothing'), videos())
  with pytest.raises(UserError, match='No such file or folder'):
    features.load(str(tmp_path / 'none.h5'), videos())


def windows(path, made=None, names=None, durations=None):
  made = np.stack([*(made or arrays((8, 8, 8))).values()])
  names = list(DURATIONS) if names is None else names
  durations = [21.0, 41.0, 31.0] if durations is None else durations
  features.save(features.VideoFeatures(made, names, np.array(durations)), str(path))
  return str(path)


def test_features_of_windows_keep_their_steps_and_durations(tmp_path):
  path = windows(tmp_path / 'deep' / 'train.npz')
  got = features.load(path, videos())
  np.testing.assert_allclose(got.features, np.stack([*arrays((8, 8, 8)).values()]), 1e-6)
  assert got.durations.tolist() == [21, 41, 31]
  picked = got.of(['v_c', 'a'])
  assert picked.names == ['v_c', 'a'] and picked.durations.tolist() == [31, 21]
  np.testing.assert_array_equal(picked.features, got.features[[2, 0]])
  with pytest.raises(UserError, match='8 steps a video, expected 9; extract again'):
    features.load(path, videos(), 9)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'names': ['a', 'b']}, 'of 2 names and 3 durations'),
    ({'durations': [1.0]}, 'of 3 names and 1 durations'),
    ({'names': ['a', 'b', 'b']}, 'b is there twice'),
    ({'durations': [1.0, 0.0, 1.0]}, 'b: a duration of 0.0 s'),
    ({'made': broken('nan')}, 'b: NaN or infinity at step 5'),
    ({'names': ['a', 'x', 'v_c']}, 'has no b, one of 1 missing'),
  ],
)
def test_broken_features_of_windows(fields, message, tmp_path):
  path = windows(tmp_path / 'x.npz', **fields)
  with pytest.raises(UserError, match=message) as caught:
    features.load(path, videos())
  assert path in str(caught.value)


def test_another_npz_is_refused(tmp_path):
  np.savez(tmp_path / 'x.npz', x=1)
  (tmp_path / 'y.npz').write_bytes(b'PK')
  for name in 'xy':
    with pytest.raises(UserError, match='holds no features of'):
      features.load(str(tmp_path / f'{name}.npz'), videos())

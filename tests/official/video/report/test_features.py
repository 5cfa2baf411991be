"""Reading features for a report: files of embed, folders of evaluate, lists of columns."""

import json

import numpy as np
import pytest

from official.video.errors import UserError
from official.video.inference import tables
from official.video.report import features

SUFFIXES = ('.npy', '.h5', '.parquet')


def write(path, rows=12, folders=('a', 'b'), each=1, feature=None):
  """Features of videos that lie in folders by turns, `each` clips of a video."""
  rng = np.random.default_rng(0)
  video = np.arange(rows) // each
  names = [f'/videos/{folders[n % len(folders)]}/{n:03d}.mp4' for n in video]
  start = (np.arange(rows) % each).astype(float)
  made = rng.normal(size=(rows, 4)).astype('f4') if feature is None else feature
  block = tables.Block(names, start, start + 1, {'feature': made})
  table = tables.table(str(path), 'x')
  layout = tables.Layout(rows, max(map(len, names)), {'feature': made.shape[1]}, {})
  table.write(iter([block]), layout, str(path))
  table.write_settings({})
  return str(path), made


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_a_file_of_embed_is_read(tmp_path, suffix):
  path, feature = write(tmp_path / f'x{suffix}', each=2)
  clips = features.read(path)
  assert np.array_equal(clips.feature, feature)
  assert clips.video.tolist() == [n // 2 for n in range(12)] or len(set(clips.video)) == 6
  assert clips.columns['class'].tolist() == ['a', 'a', 'b', 'b'] * 3
  assert set(clips.columns) == {'class', 'length', 'source video'}
  assert clips.columns['length'].tolist() == [2.0] * 12
  assert clips.places[1] == ('/videos/a/000.mp4', 1.0, 2.0)


def test_a_list_names_any_column(tmp_path):
  path, _ = write(tmp_path / 'x.npy')
  lines = ['path,label,room,score']
  lines += [f'{"ab"[n % 2]}/{n:03d}.mp4,{n % 3},{n % 4},{n / 7}' for n in range(12)]
  table = tmp_path / 'list.csv'
  table.write_text('\n'.join(lines))
  clips = features.read(path, str(table))
  assert clips.columns['class'].tolist() == [str(n % 3) for n in range(12)]
  assert clips.columns['room'].dtype == object  # Few values are names.
  assert clips.columns['score'] == pytest.approx([n / 7 for n in range(12)])


def test_a_list_of_evaluate_is_read_as_it_is(tmp_path):
  path, _ = write(tmp_path / 'x.npy')
  table = tmp_path / 'list.csv'
  table.write_text('\n'.join(f'{n:03d}.mp4,c{n % 3}' for n in range(12)))
  assert features.read(path, str(table)).columns['class'][4] == 'c1'


def folder_of(place, labels, done=True, count=6):
  place.mkdir(parents=True)
  np.save(place / 'feature.npy', np.random.default_rng(0).normal(size=(count, 3)))
  np.save(place / 'labels.npy', np.asarray(labels))
  (place / 'about.json').write_text(json.dumps({'done': done}))
  return place


def test_a_folder_of_evaluate_is_read(tmp_path):
  folder_of(tmp_path / 'kept' / 'test', [0, 1, 2, 0, 1, 2])
  clips = features.read(str(tmp_path / 'kept'), class_names=['x', 'y', 'z'])
  assert clips.columns['class'].tolist() == ['x', 'y', 'z'] * 2
  clips = features.read(str(tmp_path / 'kept' / 'test'))
  assert clips.columns['class'][2] == 'class 2' and len(set(clips.video)) == 6


def test_more_rows_than_a_page_looks_at_are_thinned(tmp_path, monkeypatch):
  monkeypatch.setattr(features, 'MOST', 5)
  path, feature = write(tmp_path / 'x.npy')
  clips = features.read(path)
  assert np.array_equal(clips.feature, feature[::3]) and clips.left_out == 8
  folder_of(tmp_path / 'kept', [0, 1, 2, 0, 1, 2])
  clips = features.read(str(tmp_path / 'kept'))
  assert len(clips.feature) == 3 and clips.left_out == 3


@pytest.mark.parametrize(
  ('text', 'told'),
  [
    ('path,label\na/000.mp4,x', 'has no line for /videos/b/001.mp4'),
    ('path,label\na/000.mp4', 'line 2: 1 cells; expected 2: path, label'),
    ('path,room,room\n', "line 1: column 'room' is there twice"),
    ('path,class\n', 'is called label'),
    ('path,\n', 'has no name'),
    ('path,label\n', 'holds no line'),
    ('path,label\nq.mp4,1\nq.mp4,2\n', 'line 3: q.mp4 has other cells before'),
  ],
)
def test_a_list_that_does_not_go_with_the_features_is_refused(tmp_path, text, told):
  path, _ = write(tmp_path / 'x.npy')
  table = tmp_path / 'list.csv'
  table.write_text(text)
  with pytest.raises(UserError, match=told):
    features.read(path, str(table))


def test_features_that_are_none_are_refused(tmp_path):
  with pytest.raises(UserError, match='no such file'):
    features.read(str(tmp_path / 'x.npy'))
  (tmp_path / 'videos').mkdir()
  with pytest.raises(
    UserError, match=r'^--features .*videos: is a folder without feature'
  ):
    features.read(str(tmp_path / 'videos'))
  with pytest.raises(UserError, match='expected a name that ends in'):
    features.read(str(tmp_path / 'x.txt'))
  path, _ = write(tmp_path / 'one.npy', rows=2, each=2)
  with pytest.raises(UserError, match='is of one video'):
    features.read(path)
  bad = np.ones((12, 4), 'f4')
  bad[3, 1] = np.nan
  path, _ = write(tmp_path / 'bad.npy', feature=bad)
  with pytest.raises(UserError, match=r'003\.mp4 are not finite'):
    features.read(path)
  folder = folder_of(tmp_path / 'kept', [0, 1, 2, 0, 1, 2], done=False)
  with pytest.raises(UserError, match='is not complete'):
    features.read(str(folder))
  with pytest.raises(UserError, match='has labels of its own'):
    features.read(str(folder), 'list.csv')
  folder = folder_of(tmp_path / 'other', [0, 1])
  with pytest.raises(UserError, match='expected'):
    features.read(str(folder))

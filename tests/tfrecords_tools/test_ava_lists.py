"""AVA's and AVA-Kinetics' lists."""

import pytest

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.datasets import ava
from tfrecords_tools.datasets.source import SourceRequest

MAP = (
  'item {\n  name: "bend/bow (at the waist)"\n  id: 1\n}\nitem { name: "sit" id: 11 }\n'
)


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'videos').mkdir()
  (tmp_path / 'lists').mkdir()
  (tmp_path / 'lists' / 'classes.pbtxt').write_text(MAP)
  return tmp_path


def write(folder, name, text):
  (folder / 'lists' / name).write_text(text)


def listing(folder):
  request = SourceRequest(str(folder / 'videos'), annotations=str(folder / 'lists'))
  return ava.SOURCE.list_clips(request)


def test_rows_of_a_key_frame_become_one_clip(folder):
  write(
    folder,
    'ava_train_v2.2.csv',
    'vid,0902,0.1,0.2,0.3,0.4,11,7\nvid,0902,0.1,0.2,0.3,0.4,1,7\n'
    'vid,0902,0.5,0.2,0.9,0.4,80,8\nvid,0903,0.5,0.2,0.9,0.4,11,8\n',
  )
  (folder / 'videos' / 'vid.mkv').touch()
  found = listing(folder)
  assert found.label_names == ['1: bend/bow (at the waist)', '11: sit']
  first, second = found.clips
  assert (first.media_id, first.split, first.path) == ('vid,0902', 'train', 'vid.mkv')
  assert (first.start, first.end) == (900.5, 903.5)
  assert first.fields[records.REGION_LABEL_INDEX] == [[1, 0]]
  assert first.fields[records.BBOX_XMIN] == [[0.1, 0.1]]
  assert first.fields[records.BBOX_YMAX] == [[0.4, 0.4]]
  assert first.fields[records.REGION_TRACK_INDEX] == [[7, 7]]
  assert first.fields[records.REGION_TIMESTAMP] == [[902_000_000]]
  assert second.media_id == 'vid,0903'


def test_exclusions_and_detections(folder):
  write(folder, 'ava_val_v2.2.csv', 'v,0902,0,0,1,1,1,0\nv,0903,0,0,1,1,1,0\n')
  write(folder, 'ava_val_excluded_timestamps_v2.2.csv', 'v,0903\n')
  write(
    folder,
    'ava_detection_val_boxes_and_labels.csv',
    'v,0902,0.1,0.1,1.2,0.5,,0.9\nv,0902,0.1,0.1,0.2,0.5,12,0.4\n',
  )
  found = listing(folder)
  assert [clip.media_id for clip in found.clips] == ['v,0902']
  assert '1 on the lists of excluded' in found.notes[0]
  fields = found.clips[0].fields
  assert fields[records.DETECTED_SCORE] == [[0.9, 0.4]]
  assert fields[records.DETECTED_BBOX_XMAX] == [[1.0, 0.2]]
  assert fields[records.DETECTED_TIMESTAMP] == fields[records.REGION_TIMESTAMP]


def test_kinetics_rows_find_their_trimmed_video(folder):
  write(
    folder,
    'kinetics_val_v1.0.csv',
    'abc,85.5,0,0,0.5,1,1,0\nabc,99.0,,,,,\nnone,3.0,0,0,1,1,1,0\n',
  )
  for start in (84, 98):
    (folder / 'videos' / f'abc_{start:06d}_{start + 10:06d}.mp4').touch()
  boxed, empty, missing = listing(folder).clips
  assert (boxed.path, boxed.start, boxed.end) == ('abc_000084_000094.mp4', 0.0, 3.0)
  assert boxed.fields[records.REGION_TIMESTAMP] == [[1_500_000]]
  assert empty.path == 'abc_000098_000108.mp4'
  assert empty.fields[records.REGION_LABEL_INDEX] == [[]]
  assert empty.media_id == 'abc,99.0'
  assert missing.path == 'none.mp4'


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    ('v,abc,0,0,1,1,1,0', "line 1: timestamp is 'abc'"),
    ('v,0902,0,0,1,x,1,0', "a side of the box is 'x'"),
    ('v,0902,0.5,0,0.1,1,1,0', 'line 1: the box is'),
    ('v,0902,0,0,1', 'expected video, timestamp, x1'),
    ('v', 'expected video, timestamp'),
  ],
)
def test_bad_rows_are_named(folder, row, message):
  write(folder, 'ava_train_v2.2.csv', row + '\n')
  with pytest.raises(UserError, match=message):
    listing(folder)


def test_missing_lists_are_named(folder):
  with pytest.raises(UserError, match=r'holds no list such as ava_train_v2\.2\.csv'):
    listing(folder)
  write(folder, 'ava_train_v2.2.csv', 'v,0902,0,0,1,1,1,0\n')
  (folder / 'lists' / 'classes.pbtxt').unlink()
  with pytest.raises(UserError, match='0 label maps'):
    listing(folder)
  write(folder, 'other.pbtxt', 'nothing')
  with pytest.raises(UserError, match='names no class'):
    listing(folder)

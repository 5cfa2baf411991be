"""Lists that contradict each other or themselves are refused, joined or named."""

import json

import pytest

from official.video.data import records
from official.video.errors import UserError
from tests.tfrecords_tools import test_sources
from tests.tfrecords_tools.test_ava_lists import MAP
from tests.tfrecords_tools.test_stored_frames import jpegs, write_store
from tfrecords_tools.datasets import SOURCES
from tfrecords_tools.datasets.source import Listing, SourceClip, SourceRequest
from tfrecords_tools.examine import examine


def listed(source, path, **request):
  values = {key: str(value) for key, value in request.items()}
  return examine(SOURCES[source].list_clips(SourceRequest(str(path), **values)))


def refusal(source, path, **request):
  with pytest.raises(UserError) as error:
    listed(source, path, **request)
  assert '\n' not in str(error.value)
  return str(error.value)


def write(folder, **texts):
  folder.mkdir(parents=True, exist_ok=True)
  for name, text in texts.items():
    (folder / name.replace('__', '.')).write_text(text)
  return folder


# --- Two lists of one kind ------------------------------------------------------------

BOX = 'v,0902,0.1,0.1,0.5,0.5'


def ava(tmp_path, **lists):
  folder = write(tmp_path / 'lists', classes__pbtxt=MAP)
  for name, text in lists.items():
    (folder / f'{name}.csv').write_text(text)
  return folder


@pytest.mark.parametrize(
  ('names', 'rows'),
  [
    (('ava_train_v2.1', 'ava_train_v2.2'), f'{BOX},1,0\n'),
    (
      ('ava_detection_train_boxes_iou75', 'ava_detection_train_boxes_iou90'),
      f'{BOX},,0.9\n',
    ),
    (('ava_train_predicted_boxes', 'person_detected_train'), f'{BOX},,0.9\n'),
    (
      ('ava_train_excluded_timestamps_v2.1', 'ava_train_excluded_timestamps_v2.2'),
      'v,0903\n',
    ),
    (('ava_train_v2.2', 'kinetics_train_v1.0'), f'{BOX},1,0\n'),
  ],
)
def test_two_ava_lists_of_one_kind(tmp_path, names, rows):
  folder = ava(tmp_path, **{'ava_train_v2.2': f'{BOX},1,0\n'})
  for name in names:
    (folder / f'{name}.csv').write_text(rows)
  message = refusal('ava', folder)
  assert all(name in message for name in names)


def test_ava_lists_of_other_videos_go_together(tmp_path):
  folder = ava(
    tmp_path,
    **{
      'ava_train_v2.2': f'{BOX},1,0\n',
      'kinetics_train_v1.0': f'k{BOX},1,0\n',
      'ava_detection_train_boxes': f'{BOX},,0.9\n',
      'kinetics_detection_train_boxes': f'k{BOX},,0.8\n',
      'ava_detection_val_boxes': f'{BOX},,0.7\n',
    },
  )
  clips = {clip.media_id: clip for clip in listed('ava', folder).clips}
  assert clips['v,0902'].fields[records.DETECTED_SCORE] == [[0.9]]
  assert clips['kv,0902'].fields[records.DETECTED_SCORE] == [[0.8]]


def test_what_an_ava_list_says_twice_counts_once(tmp_path):
  other = BOX.replace('0902', '902.0')
  folder = ava(
    tmp_path,
    **{
      'ava_train_v2.2': f'{BOX},1,0\n{BOX},1,0\n{other},11,0\n{BOX},1,1\n',
      'ava_detection_train_boxes': f'{BOX},,0.9\n{other},,0.9\n{BOX},,0.8\n',
    },
  )
  listing = listed('ava', folder)
  (clip,) = listing.clips
  assert clip.fields[records.REGION_LABEL_INDEX] == [[0, 1, 0]]
  assert clip.fields[records.REGION_TRACK_INDEX] == [[0, 0, 1]]
  assert clip.fields[records.DETECTED_SCORE] == [[0.9, 0.8]]
  place = f'{folder / "ava_detection_train_boxes.csv"}, line 2'
  assert (
    f'left out: boxes that repeat another row of their list: 2, such as {place}'
    in listing.notes
  )


def test_kinetics_lists_that_name_a_clip_twice(tmp_path):
  lists = tmp_path / 'lists'
  lists.mkdir()
  for name in ('train', 'kinetics400_train_2019'):
    test_sources.kinetics_list(lists / f'{name}.csv', 'a,xxxxxxxxxxx,10,20,train')
  message = refusal('kinetics400', tmp_path, annotations=lists)
  assert 'kinetics400_train_2019.csv, line 2' in message
  assert 'train.csv, line 2' in message and 'xxxxxxxxxxx_000010_000020' in message


def test_rows_that_repeat_within_a_list(tmp_path):
  path = tmp_path / 'list.csv'
  rows = ['a,xxxxxxxxxxx,10,20,train'] * 3 + ['b,xxxxxxxxxxx,10,20,train']
  test_sources.kinetics_list(path, *rows)
  listing = listed('kinetics400', tmp_path, annotations=path)
  (clip,) = listing.clips
  assert clip.labels == ('a', 'b')
  assert listing.notes == [
    f'left out: rows that repeat another one: 2, such as {path}, line 3',
    'corrected: rows with another label of the same clip, joined: 1, such as '
    f'{path}, line 5',
    'clips of several labels (all are stored; what takes one label takes the first): 1, '
    'such as xxxxxxxxxxx_000010_000020.mp4 [10, 20.0 s]',
  ]


def test_frame_lists_that_say_two_things(tmp_path):
  path = tmp_path / 'list.txt'
  path.write_text('run/a 0 5\nrun/b 0 5\nrun/a 0 6\n')
  message = refusal('frames', tmp_path, annotations=path)
  assert f'{path}, row 1 and {path}, row 3' in message


def test_ucf101_and_hmdb51_rows_count_once(tmp_path):
  test_sources.ucf101(tmp_path)
  path = tmp_path / 'ucfTrainTestlist/trainlist01.txt'
  path.write_text(path.read_text() * 2)
  listing = listed('ucf101', tmp_path)
  assert len(listing.clips) == 2
  assert 'rows that repeat another one: 1' in listing.notes[0]


def test_json_that_has_two_values_for_a_key(tmp_path):
  path = tmp_path / 'list.json'
  video = '"a": {"subset": "training", "annotations": []}'
  path.write_text(f'{{"database": {{{video}, {video}}}}}')
  assert len(listed('activitynet', tmp_path, annotations=path).clips) == 1
  other = video.replace('training', 'testing')
  path.write_text(f'{{"database": {{{video}, {other}}}}}')
  message = refusal('activitynet', tmp_path, annotations=path)
  assert message == f"{path}: names 'a' twice, with different content"


def test_a_store_that_names_a_video_twice(tmp_path):
  store = write_store(
    tmp_path / 'store', {'run/a': jpegs(1)}, order=['run/a', 'b', 'run/a']
  )
  assert "__order__ names 'run/a' twice" in refusal('lmdb', store)


def test_msrvtt_test_list_that_says_two_things(tmp_path):
  lists = write(
    tmp_path / 'lists',
    MSRVTT_data__json=json.dumps({'sentences': [{'video_id': 'video0', 'caption': 'x'}]}),
    MSRVTT_JSFUSION_test__csv='video_id,sentence\nvideo1,x\nvideo1,y\n',
  )
  message = refusal('msrvtt', tmp_path, annotations=lists)
  assert 'line 2 and' in message and 'line 3' in message and "'video1'" in message


# --- Splits that overlap, names that are alike -----------------------------------------


def clip(name, split='train', labels=('a',), **fields):
  return SourceClip(f'{name}.mp4', f'/v/{name}.mp4', split, name, labels, **fields)


def notes(*clips):
  return list(examine(Listing(clips)).notes)


def test_clips_that_splits_share_are_named():
  assert notes(clip('x'), clip('y'), clip('x', 'test'), clip('z', 'test')) == [
    'clips that test and train share: 1, such as x.mp4'
  ]
  # Spans count by the seconds that they have in common.
  first = clip('x', start=0, end=10)
  assert notes(first, clip('x', 'val', start=5, end=15)) == [
    'clips that train and val share: 1, such as x.mp4 [5, 15 s]'
  ]
  assert notes(first, clip('x', 'val', start=10, end=15)) == [
    'videos of which train and val both have clips: 1, such as x'
  ]
  groups = [clip('v_a_g01_c01'), clip('v_a_g01_c02', 'test'), clip('v_a_g02_c01', 'test')]
  assert notes(*groups) == [
    'videos of which test and train both have clips: 1, such as v_a_g01'
  ]


def test_msrvtt_test_videos_in_the_training_list(tmp_path):
  sentences = [{'video_id': f'video{i}', 'caption': 'x'} for i in range(3)]
  lists = write(
    tmp_path / 'lists',
    MSRVTT_data__json=json.dumps({'sentences': sentences}),
    MSRVTT_JSFUSION_test__csv='video_id,sentence\nvideo1,x\n',
    **{'MSRVTT_train.9k__csv': 'video_id\nvideo0\nvideo1\n'},
  )
  listing = listed('msrvtt', tmp_path, annotations=lists)
  assert listing.notes == [
    'splits of the 1K-A protocol',
    'clips that test and train share: 1, such as video1.mp4',
  ]


def test_classes_that_are_almost_the_same_are_named():
  assert notes(clip('x', labels=('Run fast',)), clip('y', labels=('run_fast',))) == [
    'classes whose names are almost the same: 1, such as Run fast and run_fast'
  ]


def test_one_file_under_two_names_is_noticed(tmp_path):
  path = tmp_path / 'list.csv'
  path.write_text('path,label\na.mp4,x\n./a.mp4,x\nb/../a.mp4,y\nc.mp4,x\n')
  assert listed('csv', path).notes == [
    'clips that are listed under two names: 1, such as ./a.mp4'
  ]


def test_sound_lists_get_no_note():
  assert notes(clip('x'), clip('y', labels=('b',)), clip('z', 'test')) == []


def test_names_that_no_list_gives_are_numbered_and_counted(tmp_path):
  test_sources.touch(tmp_path, 'run/a.avi', 'run/a.mp4', 'run/b.mp4')
  listing = listed('folder', tmp_path)
  assert len(listing.clips) == 3
  assert listing.notes == [
    'clips of the same name, numbered #2, #3, ...: 1, such as run/a.avi'
  ]


def test_labels_of_one_clip_in_several_rows_stay_records(tmp_path):
  path = tmp_path / 'list.csv'
  path.write_text('path,label\na.mp4,run\na.mp4,jump\nb.mp4,run|jump\n')
  listing = listed('csv', path)
  assert [c.labels for c in listing.clips] == [('run',), ('jump',), ('run', 'jump')]
  assert 'rows that give a clip another label' in listing.notes[0]
  assert 'clips of several labels' in listing.notes[2]


def test_captions_of_one_clip_in_several_rows_stay_records(tmp_path):
  path = tmp_path / 'list.csv'
  path.write_text('path,caption\na.mp4,one\na.mp4,two\na.mp4,one\n')
  listing = listed('csv', path)
  assert [c.fields[records.TEXT_CONTENT] for c in listing.clips] == ['one', 'two']

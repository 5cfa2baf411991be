"""What lists and folders say that can't be meant: named by file and line, or counted."""

import json
import os

import pytest
import simplejpeg

from official.video.data import records
from official.video.errors import UserError
from tests.clips import read_split
from tests.tfrecords_tools import test_sources
from tests.tfrecords_tools.test_ava_lists import MAP
from tests.tfrecords_tools.test_contradictions import listed
from tests.tfrecords_tools.test_sources import list_clips, refusal, touch
from tests.videos import frame_number, write_video
from tfrecords_tools import convert
from tfrecords_tools.commands import run_command
from tfrecords_tools.datasets import SOURCES, counts
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.source import Listing, SourceClip
from tfrecords_tools.examine import examine


def refused(tmp_path, source, text, name='list', **request):
  path = tmp_path / name
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return refusal(source, path, **request)


def checked(capsys, *flags):
  code = run_command(convert.main, [*map(str, flags), '--check'])
  captured = capsys.readouterr()
  return code, captured.out + captured.err


# --- Folders --------------------------------------------------------------------------


def test_folders_that_cant_be_read_are_refused(tmp_path, monkeypatch):
  touch(tmp_path, 'run/a.mp4', 'jump/b.mp4')
  scandir = os.scandir

  def closed(path):
    if str(path).endswith('jump'):
      raise PermissionError(13, 'Permission denied', path)
    return scandir(path)

  monkeypatch.setattr(os, 'scandir', closed)
  wanted = f"{tmp_path / 'jump'}: can't be read: Permission denied; make it readable"
  assert wanted in refusal('folder', tmp_path)
  with pytest.raises(UserError, match="can't be read"):
    VideoFiles(str(tmp_path))


def test_two_links_to_one_folder_are_both_walked(tmp_path):
  touch(tmp_path, 'pool/a.mp4', 'set/.keep')
  for split in ('train', 'test'):
    (tmp_path / 'set' / split).symlink_to(tmp_path / 'pool')
  (tmp_path / 'pool/up').symlink_to(tmp_path)
  found = {clip.split for clip in list_clips('folder', tmp_path / 'set').clips}
  assert found == {'train', 'test'}
  notes = listed('folder', tmp_path / 'set').notes
  assert any('clips that test and train share: 1' in note for note in notes)


def test_classes_of_which_some_hold_splits(tmp_path):
  touch(tmp_path, 'run/train/a.mp4', 'run/test/b.mp4', 'jump/c.mp4')
  message = refusal('folder', tmp_path)
  assert 'run/test would be a split, but there is jump/c.mp4 in none' in message
  clips = list_clips('folder', tmp_path, split='val').clips
  assert {(clip.split, *clip.labels) for clip in clips} == {
    ('val', 'run'),
    ('val', 'jump'),
  }


def test_classes_that_are_called_as_splits_are_noted(tmp_path):
  touch(tmp_path, 'train1/a.mp4', 'test 2/b.mp4', 'run3/c.mp4')
  (note,) = listed('folder', tmp_path).notes
  assert note == (
    'classes whose names may be those of splits (which are called train, val and test): '
    '2, such as test 2'
  )


# --- Listings -------------------------------------------------------------------------


def test_lists_of_no_clip_are_refused(tmp_path, capsys):
  (tmp_path / 'list.json').write_text('{"database": {}}')
  flags = ['--source=activitynet', f'--path={tmp_path}']
  flags += [f'--annotations={tmp_path / "list.json"}']
  for more in ('--check', f'--output_dir={tmp_path / "out"}'):
    assert run_command(convert.main, [*flags, more]) == 2
    error = capsys.readouterr().err
    assert error == f'error: --annotations={tmp_path / "list.json"}: lists no clip\n'
  (tmp_path / 'classes.pbtxt').write_text(MAP)
  (tmp_path / 'ava_train_v2.2.csv').touch()
  code, shown = checked(capsys, '--source=ava', f'--path={tmp_path}')
  assert code == 2 and 'lists no clip: 0 key frames' in shown


def test_lists_of_hmdb51_that_use_no_video(tmp_path, capsys):
  (tmp_path / 'test_train_splits').mkdir()
  path = tmp_path / 'test_train_splits/wave_test_split1.txt'
  path.write_text('a.avi 0\nb.avi 0\n')
  code, shown = checked(capsys, '--source=hmdb51', f'--path={tmp_path}')
  assert code == 2
  assert 'lists no clip: left out: videos of neither split of the fold' in shown
  assert f': 2, such as {path}, row 1' in shown


def test_several_names_of_validation_are_noted():
  clips = [
    SourceClip(f'{split}.mp4', f'/v/{split}.mp4', split, split, ('a',))
    for split in ('train', 'val', 'validation', 'valid')
  ]
  (note,) = examine(Listing(clips)).notes
  assert (
    note
    == 'splits that may be one by their names: 1, such as val and valid and '
    + ('validation')
  )
  assert examine(Listing(clips[:2])).notes == []


@pytest.mark.parametrize('span', ['2,1', '1,1'])
def test_spans_that_hold_nothing_are_counted(tmp_path, span):
  (tmp_path / 'list.csv').write_text(f'path,start,end\na.mp4,{span}\na.mp4,1,2\n')
  what = 'clips that end where they start or before (they give no record): 1'
  assert any(what in note for note in listed('csv', tmp_path / 'list.csv').notes)
  test_sources.kinetics_list(tmp_path / 'k.csv', f'a,xxxxxxxxxxx,{span},train')
  notes = listed('kinetics400', tmp_path, annotations=tmp_path / 'k.csv').notes
  assert notes == [f'{what}, such as {tmp_path / "k.csv"}, line 2']


# --- Cells ----------------------------------------------------------------------------


def test_zeros_of_json_are_values(tmp_path):
  row = {'path': 'a.mp4', 'split': 0, 'media_id': 0}
  (tmp_path / 'list').write_text(json.dumps(row))
  (clip,) = list_clips('jsonl', tmp_path / 'list').clips
  assert (clip.split, clip.media_id) == ('0', '0')


@pytest.mark.parametrize(
  ('source', 'text', 'message'),
  [
    ('jsonl', '{"path": "a"}\n{"path": "a", "path": "b"}', "line 2: names 'path' twice"),
    ('jsonl', '{"path": ' + '[' * 10**5, 'line 1: its lists and objects are nested'),
    ('jsonl', '{"path": "a", "start": 1' + '0' * 400 + '}', 'line 1: start is 1'),
    ('jsonl', '{"path": "a", "x": 1' + '0' * 5000 + '}', 'line 1: Exceeds the limit'),
    (
      'jsonl',
      '{"path": "a", "region/timestamp": [0], "detected/region/timestamp": [0], '
      '"detected/region/score": [[1' + '0' * 400 + ']]}',
      'line 1: detected/region/score holds 1',
    ),
    (
      'jsonl',
      b'{"path": "a"}\n{"path": "\xe9"}',
      'line 2: is not UTF-8 text; save it as',
    ),
    (
      'csv',
      b'path,label\na,run\nb,\xe9\n',
      'line 3: is not UTF-8 text; save it as UTF-8',
    ),
    ('csv', 'path,label\na,x\n"b,x\nc,x\n', "line 3: can't be cut into cells"),
    ('csv', 'path;start\na.mp4;0,5\n', "line 2: start is '0,5', expected a number of at"),
    ('csv', 'path;start\na.mp4;0,5\n', '; write 0.5'),
    ('csv', 'path,start\na.mp4,1e300\n', "line 2: start is '1e300'"),
    ('csv', 'path,track\n', 'lists no clip'),
    ('csv', '', 'is empty, expected a header'),
    ('csv', '# my list\npath,label\na,b\n', "begins with '# my list', a comment"),
    ('csv', 'path label\na b\n', "begins with 'path label', whose names have blanks"),
  ],
)
def test_lists_that_cant_be_read(tmp_path, source, text, message):
  where = str(tmp_path / 'list')
  assert where in (shown := refused(tmp_path, source, text)) and message in shown


def test_nested_json(tmp_path):
  text = '{"database": ' + '[' * 10**5
  (tmp_path / 'deep.json').write_text(text)
  message = refusal('activitynet', tmp_path, annotations=str(tmp_path / 'deep.json'))
  assert (
    message == f'{tmp_path / "deep.json"}: its lists and objects are nested too deeply'
  )


def test_columns_without_a_name_are_none(tmp_path):
  (tmp_path / 'list.csv').write_text(',path,label,\n0,a.mp4,run,\n1,b.mp4,run,x\n')
  listing = list_clips('csv', tmp_path / 'list.csv')
  assert [clip.fields for clip in listing.clips] == [{}, {}]
  assert listing.notes == []


def test_empty_splits_are_named(tmp_path):
  test_sources.kinetics_list(tmp_path / 'list.csv', 'a,xxxxxxxxxxx,0,10,')
  message = refusal('kinetics400', tmp_path, annotations=str(tmp_path / 'list.csv'))
  assert 'list.csv, line 2: its split is empty; write train, val or test' in message
  for subset in (None, 5):
    path = tmp_path / 'list.json'
    path.write_text(json.dumps({'database': {'a': {'subset': subset}}}))
    message = refusal('activitynet', tmp_path, annotations=str(path))
    assert f'video a: subset is {subset}, expected a text' in message


# --- Classes --------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('map.json', '{"run": 0, "walk": 0}', "'run' and 'walk' both have the id 0"),
    ('map.json', '{"0": "run", "00": "walk"}', "'run' and 'walk' both have the id 00"),
    (
      'map.json',
      '{"run": -1, "walk": 0}',
      "'run' has the id -1, expected ids from 0 or 1",
    ),
    ('map.json', '{"run": 0, "walk": 2}', 'begin at 0 or 1 and leave none out'),
    ('map.txt', 'run 0\nwalk 0\n', "has none of the labels, such as 'run', but 'run 0'"),
  ],
)
def test_label_maps_of_wrong_ids(tmp_path, capsys, name, text, message):
  (tmp_path / name).write_text(text)
  (tmp_path / 'list.csv').write_text('path,label\na.mp4,run\nb.mp4,walk\n')
  flags = ['--source=csv', f'--path={tmp_path / "list.csv"}']
  code, shown = checked(capsys, *flags, f'--label_map={tmp_path / name}')
  assert code == 2 and message in shown


def test_ucf101_classes_that_its_lists_contradict(tmp_path, capsys):
  test_sources.ucf101(tmp_path)
  lists = tmp_path / 'ucfTrainTestlist'
  (lists / 'classInd.txt').write_text('1 ApplyEyeMakeup\n2 ZzLast\n')
  code, shown = checked(capsys, '--source=ucf101', f'--path={tmp_path}')
  assert code == 1
  what = "clips whose labels the list of classes of the set lacks, such as 'Archery': 1"
  assert what in shown
  (lists / 'classInd.txt').write_text('1 ApplyEyeMakeup\n2 Archery\n3 ZzLast\n')
  message = refusal('ucf101', tmp_path)
  assert f'{lists / "trainlist01.txt"}, row 1: ' in message
  assert message.endswith(f'the id of Archery in {lists / "classInd.txt"} is 2')


def test_the_official_counts_are_told(tmp_path, capsys):
  test_sources.ucf101(tmp_path)
  _, shown = checked(capsys, '--source=ucf101', f'--path={tmp_path}')
  assert 'the official list of train has 9537' in shown
  assert 'the official list of test has 3783' in shown
  _, shown = checked(capsys, '--source=ucf101', f'--path={tmp_path}', '--limit=1')
  assert 'official list' not in shown
  assert counts.expected('ucf101', 3) == {'train': 9624, 'test': 3696}
  assert {name for name, _ in counts._COUNTS} <= set(SOURCES)


def ava(tmp_path, *rows, classes=MAP):
  (tmp_path / 'classes.pbtxt').write_text(classes)
  (tmp_path / 'ava_train_v2.2.csv').write_text(''.join(f'{row}\n' for row in rows))


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    (
      'v,0902,0,0,1,1,1,9' + '9' * 22,
      "person id is '99999999999999999999999', expected a",
    ),
    ('v,0902,0,0,1,1,1.7,0', "action id is '1.7', expected a whole number"),
    ('v,-2,0,0,1,1,1,0', "timestamp is '-2', expected a number of at least 0"),
    ('v,1e300,0,0,1,1,1,0', "timestamp is '1e300'"),
    ('v,,0,0,1,1,1,0', "timestamp is ''"),
  ],
)
def test_numbers_of_ava_that_are_none(tmp_path, row, message):
  ava(tmp_path, 'v,0902,0,0,1,1,1.0,0', row)
  assert f'ava_train_v2.2.csv, line 2: {message}' in refusal('ava', tmp_path)


def test_ava_actions_that_the_label_map_lacks_are_counted(tmp_path):
  ava(tmp_path, *(f'v,0902,0,0,1,1,{action},0' for action in (1, 80, 79)))
  listing = list_clips('ava', tmp_path)
  assert listing.clips[0].fields[records.REGION_LABEL_INDEX] == [[0]]
  what = 'left out: boxes of actions that the label map lacks: 2'
  assert any(note.startswith(what) for note in listing.notes)
  ava(tmp_path, 'v,0902,0,0,1,1,1,0', classes=MAP + 'item { name: "run" id: 11 }')
  assert "gives 'sit' and 'run' the id 11" in refusal('ava', tmp_path)


# --- Times that the video doesn't have -------------------------------------------------


def converted(tmp_path, *flags):
  flags = [*map(str, flags), f'--output_dir={tmp_path / "out"}', '--num_workers=1']
  assert run_command(convert.main, flags) == 0
  return read_split(tmp_path / 'out', 'train')


def test_kinetics_keeps_parts_of_seconds(tmp_path):
  videos = tmp_path / 'videos'
  videos.mkdir()
  write_video(videos / 'aaaaaaaaaaa.mp4', num_frames=40, fps=10)
  touch(videos, 'bbbbbbbbbbb_000001_000003.mp4')
  rows = ('a,aaaaaaaaaaa,0.5,2.9,train', 'a,bbbbbbbbbbb,0.6,2.9,train')
  test_sources.kinetics_list(tmp_path / 'list.csv', *rows)
  flags = ['--source=kinetics400', f'--path={videos}', '--max_failed_fraction=1']
  _, clips = converted(tmp_path, *flags, f'--annotations={tmp_path / "list.csv"}')
  (clip,) = clips.values()
  frames = [simplejpeg.decode_jpeg(step[0]) for step in clip[records.IMAGE_ENCODED]]
  assert [frame_number(frame) for frame in frames] == list(range(5, 29))
  request = {'annotations': str(tmp_path / 'list.csv')}
  first, cut = list_clips('kinetics400', videos, **request).clips
  assert (first.media_id, first.excerpt) == ('aaaaaaaaaaa_0000.5_0002.9', (0.5, 2.9))
  assert (cut.path, cut.start, cut.end) == ('bbbbbbbbbbb_000001_000003.mp4', 0.0, None)


def test_clips_that_end_with_the_video_are_noted(tmp_path, capsys):
  write_video(tmp_path / 'a.mp4', num_frames=50, fps=10)
  spans = ['0,14', '1,5.4', '2,4', '3,']
  rows = ''.join(f'a.mp4,{span}\n' for span in spans)
  (tmp_path / 'list.csv').write_text(f'path,start,end\n{rows}')
  manifest, _ = converted(tmp_path, '--source=csv', f'--path={tmp_path / "list.csv"}')
  assert {(entry.source, entry.text) for entry in manifest.notes} == {
    ('a.mp4 [0, 14.0 s]', 'shorter than listed: ends at 5.00 s of the 14 s listed')
  }
  assert 'ends at 5.00 s of the 14 s listed' in capsys.readouterr().out


def test_segments_after_the_video_are_counted(tmp_path, capsys):
  write_video(tmp_path / 'a.mp4', num_frames=50, fps=10)
  write_video(tmp_path / 'b.mp4', num_frames=50, fps=10)
  spans = {
    'a': [('run', 1, 2), ('walk', 90, 99), ('jump', 4, 14), ('wave', 4, 5.3)],
    'b': [('walk', 6, 7)],
  }
  entries = {
    name: {
      'subset': 'training',
      'annotations': [{'label': label, 'segment': [a, b]} for label, a, b in of_video],
    }
    for name, of_video in spans.items()
  }
  (tmp_path / 'list.json').write_text(json.dumps({'database': entries}))
  flags = ['--source=activitynet', f'--path={tmp_path}', '--fps=10']
  flags += [f'--annotations={tmp_path / "list.json"}']
  manifest, clips = converted(tmp_path, *flags)
  labels = {name: clip.get(records.LABEL_STRING, []) for name, clip in clips.items()}
  assert labels == {'a': [b'run', b'jump', b'wave'], 'b': []}
  assert (
    records.SEGMENT_LABEL_INDEX not in clips['b']
    or not (clips['b'][records.SEGMENT_LABEL_INDEX])
  )
  what = {
    'left out: segments outside of their clip, or after the end of its video': 2,
    'corrected: segments that go on outside of their clip or video, cut at its edge': 1,
    'left out: labels of clips that store no segment of them': 2,
  }
  assert manifest.corrected == what
  shown = capsys.readouterr().out
  assert all(f'{key}: {count}' in shown for key, count in what.items())


def test_segments_and_boxes_by_the_ids_of_a_label_map(tmp_path, capsys):
  write_video(tmp_path / 'a.mp4', num_frames=20, fps=10)
  segments = [{'label': label, 'segment': [0, 1]} for label in ('run', 'walk')]
  entry = {'subset': 'training', 'annotations': segments}
  (tmp_path / 'list.json').write_text(json.dumps({'database': {'a': entry}}))
  (tmp_path / 'map.txt').write_text('walk\njump\nrun\n')
  flags = [f'--path={tmp_path}', f'--label_map={tmp_path / "map.txt"}', '--num_workers=1']
  listed_by = f'--annotations={tmp_path / "list.json"}'
  _, clips = converted(tmp_path, '--source=activitynet', *flags, listed_by)
  assert clips['a'][records.LABEL_INDEX] == [2, 0]
  assert clips['a'][records.SEGMENT_LABEL_INDEX] == [2, 0]
  ava(tmp_path, 'a,1,0,0,1,1,1,0', 'a,1,0,0,1,1,11,0')
  code, shown = checked(capsys, '--source=ava', *flags)
  assert code == 2 and "map.txt: lacks the class '1: bend/bow (at the waist)'" in shown
  names = '11: sit\n1: bend/bow (at the waist)\n'
  (tmp_path / 'map.txt').write_text(names)
  _, clips = converted(tmp_path, '--source=ava', *flags, '--overwrite')
  assert clips['a,1'][records.REGION_LABEL_INDEX] == [[1, 0]]


def test_labels_that_are_not_those_of_the_segments_stay(tmp_path):
  write_video(tmp_path / 'a.mp4', num_frames=20, fps=10)
  row = {'path': 'a.mp4', 'label': ['run', 'walk'], 'segment/label/index': [0]}
  row |= {'segment/start/index': [900], 'segment/end/index': [950]}
  (tmp_path / 'list').write_text(json.dumps(row))
  _, clips = converted(tmp_path, '--source=jsonl', f'--path={tmp_path / "list"}')
  assert clips['a'][records.LABEL_STRING] == [b'run', b'walk']

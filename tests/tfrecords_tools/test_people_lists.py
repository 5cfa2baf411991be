"""Lists and folders as people have them: understood and counted, or named with the fix."""

import json
import os
import subprocess

import pytest
import simplejpeg

from official.video.data import records
from official.video.errors import UserError
from tests.tfrecords_tools import test_sources
from tests.tfrecords_tools.test_ava_lists import MAP
from tests.tfrecords_tools.test_convert import REPOSITORY, clips, command, manifest
from tests.tfrecords_tools.test_sources import list_clips, refusal, touch
from tests.tfrecords_tools.test_stored_frames import jpegs
from tests.videos import numbered_frame, write_video
from tfrecords_tools import convert, overview, validate
from tfrecords_tools.commands import run_command
from tfrecords_tools.datasets.source import Listing, SourceClip
from tfrecords_tools.plan import label_names, read_label_map


def table(tmp_path, text, name='list.csv', **request):
  path = tmp_path / name
  path.write_text(text)
  return list_clips('csv', path, **request)


def lines(tmp_path, *rows):
  path = tmp_path / 'list.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return list_clips('jsonl', path)


def labels(listing):
  return [clip.labels for clip in listing.clips]


# --- Cells ----------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('cell', 'found'),
  [
    ('run', ('run',)),
    (' run ', ('run',)),
    ('run|jump | run', ('run', 'jump')),
    ('"[""run"", ""jump""]"', ('run', 'jump')),
    ("\"['run', 'jump']\"", ('run', 'jump')),
    ('"[1, 2]"', ('1', '2')),
    ('[odd', ('[odd',)),
    ('"run, fast"', ('run, fast',)),
    ('0', ('0',)),
    *((cell, ()) for cell in ('', ' ', '-1', '-1.0', 'nan', 'NaN', '<NA>', 'null')),
  ],
)
def test_label_cells(tmp_path, cell, found):
  assert labels(table(tmp_path, f'path,label\na.mp4,{cell}\n')) == [found]


@pytest.mark.parametrize(
  ('value', 'found'),
  [
    (3, ('3',)),
    (2.0, ('2',)),
    (2.5, ('2.5',)),
    (float('nan'), ()),
    (None, ()),
    (-1, ()),
    (['a', None, ' b'], ('a', 'b')),
    ([0, 1], ('0', '1')),
  ],
)
def test_label_values_of_json(tmp_path, value, found):
  assert labels(lines(tmp_path, {'path': 'a.mp4', 'label': value})) == [found]


def test_what_became_of_cells_is_counted(tmp_path):
  listing = table(tmp_path, 'path,label\na.mp4,-1\nb.mp4,-1\nc.mp4, run\n d.mp4,nan\n')
  place = tmp_path / 'list.csv'
  assert listing.notes == [
    f'corrected: labels -1, taken for none: 2, such as {place}, line 2',
    f'corrected: paths with blanks around them, stripped: 1, such as {place}, line 5',
    f'corrected: labels nan, taken for none: 1, such as {place}, line 5',
  ]


@pytest.mark.parametrize(
  ('names', 'order'),
  [
    (['10.0', '2.0', '0.0', '11.0'], ['0.0', '2.0', '10.0', '11.0']),
    (['10', '9', '2'], ['2', '9', '10']),
    (['1e1', '2', '10'], ['10', '1e1', '2']),
    (['-2', '1', '-10'], ['-10', '-2', '1']),
    (['10', '2', 'x'], ['10', '2', 'x']),
  ],
)
def test_numbers_are_in_numeric_order(tmp_path, names, order):
  text = ''.join(f'{name}.mp4,{name}\n' for name in names)
  assert label_names(table(tmp_path, f'path,label\n{text}'), None) == order


@pytest.mark.parametrize(
  ('cell', 'seconds'),
  [('7', 7), ('7.5', 7.5), ('1:05', 65), ('01:02:03.5', 3723.5), ('', 0)],
)
def test_times(tmp_path, cell, seconds):
  (clip,) = table(tmp_path, f'path,start\na.mp4,{cell}\n').clips
  assert clip.start == seconds


@pytest.mark.parametrize(
  ('cell', 'split'),
  [
    ('Train', 'train'),
    ('TRAINING', 'train'),
    (' testing ', 'test'),
    ('dev', 'val'),
    ('Val', 'val'),
    ('Validation', 'validation'),
    ('validate', 'validate'),
    ('Held', 'Held'),
    ('', 'mine'),
  ],
)
def test_splits(tmp_path, cell, split):
  listing = table(tmp_path, f'path,split\na.mp4,{cell}\n', split='mine')
  assert listing.clips[0].split == split


def test_blank_rows_of_spreadsheets(tmp_path):
  listing = table(tmp_path, 'path,label\na.mp4,run\n,\n , \n')
  assert labels(listing) == [('run',)]
  assert listing.notes == [
    f'left out: blank rows: 2, such as {tmp_path / "list.csv"}, line 3'
  ]


def test_times_of_another_unit_are_refused(tmp_path):
  (tmp_path / 'list.csv').write_text('abcdefghij0,1,11,a cat\nabcdefghij1,2,12,a dog\n')
  message = refusal('videocc', tmp_path, annotations=str(tmp_path / 'list.csv'))
  assert 'its latest end is 12, expected microseconds' in message


@pytest.mark.parametrize('row', ['w 1.avi\t1', 'w 1.avi   1', '  w 1.avi 1\r'])
def test_blanks_in_lists_of_hmdb51(tmp_path, row):
  (tmp_path / 'test_train_splits').mkdir()
  (tmp_path / 'test_train_splits/wave_test_split1.txt').write_text(f'{row}\n')
  (clip,) = list_clips('hmdb51', tmp_path).clips
  assert (clip.path, clip.split) == ('wave/w 1.avi', 'train')


# --- Headers --------------------------------------------------------------------------


@pytest.mark.parametrize(
  'header',
  [
    'path,label,start,end,split',
    'video_path,class,start_time,end_time,subset',
    'Video,Class Name,Start Time,End-Time,Partition',
    ' filename , LABEL ,t_start,t_end,SPLIT',
    'path;label;start;end;split',
    'path\tlabel\tstart\tend\tsplit',
  ],
)
def test_header_variants(tmp_path, header):
  delimiter = next(mark for mark in ',;\t' if mark in header)
  row = delimiter.join(('a.mp4', 'run', '1', '2', 'val'))
  (clip,) = table(tmp_path, f'{header}\n{row}\n').clips
  assert (clip.path, clip.labels, clip.split) == ('a.mp4', ('run',), 'val')
  assert (clip.start, clip.end, clip.fields) == (1, 2, {})


def test_header_variants_of_json(tmp_path):
  row = {'video_path': 'a.mp4', 'category': 'run', 'start_time': 1}
  (clip,) = lines(tmp_path, row, {'path': 'b.mp4'}).clips[:1]
  assert (clip.path, clip.labels, clip.start) == ('a.mp4', ('run',), 1)


def test_columns_that_are_taken_or_only_alike_are_noted(tmp_path):
  listing = table(tmp_path, 'video,class,action,sentence\na.mp4,run,go,hi\n')
  place = tmp_path / 'list.csv'
  assert listing.notes == [
    f"{place}: takes the column 'video' for path",
    f"{place}: takes the column 'class' for label",
    f"{place}: has no column caption; call 'sentence' so if it is that",
    f'{place}: columns that are only kept, as extra/<name>: action',
  ]
  (clip,) = listing.clips
  assert clip.labels == ('run',)
  assert clip.fields == {'extra/action': 'go', 'extra/sentence': 'hi'}
  assert table(tmp_path, 'path,target\na.mp4,7\n').notes == [
    f"{place}: has no column label; call 'target' so if it is that"
  ]
  # A column of ours wins over all that are like it.
  (clip,) = table(tmp_path, 'path,class,clip/label/string\na.mp4,x,run\n').clips
  assert (clip.labels, clip.fields) == (('run',), {'extra/class': 'x'})


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('a.mp4,run\nb.mp4,run\n', "begins with ['a.mp4', 'run'], expected a header"),
    ('a.mp4 0\nb.mp4 1\n', "begins with ['a.mp4 0'], expected a header"),
    ('url,label\nx,y\n', 'expected one named path; is it url?'),
    ('', 'is empty, expected a header that names the columns, such as path,label'),
  ],
)
def test_headers_that_are_refused(tmp_path, text, message):
  (tmp_path / 'list.csv').write_text(text)
  assert message in refusal('csv', tmp_path / 'list.csv')


def test_lists_of_spreadsheets(tmp_path):
  path = tmp_path / 'list.txt'
  path.write_bytes('path\tlabel\r\ncafé.mp4\trun\r\n'.encode('utf-16'))
  (clip,) = list_clips('csv', path).clips
  assert (clip.path, clip.labels) == ('café.mp4', ('run',))


def test_kinetics_header_variants(tmp_path):
  path = tmp_path / 'list.csv'
  path.write_text(
    'video_id,start,end,subset,class\nxxxxxxxxxxx,1,11,Training,run\n'
    'yyyyyyyyyyy,1,11,test,nan\n'
  )
  first, second = list_clips('kinetics400', tmp_path, annotations=str(path)).clips
  assert (first.media_id, first.split) == ('xxxxxxxxxxx_000001_000011', 'train')
  assert (first.labels, second.labels) == (('run',), ())


# --- Folders --------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('names', 'splits'),
  [
    (('Train', 'Test'), {'train', 'test'}),
    (('training', 'testing'), {'train', 'test'}),
    (('train', 'Val'), {'train', 'val'}),
    (('TRAIN', 'DEV', 'Tst'), {'train', 'val', 'test'}),
    (('train', 'validation'), {'train', 'validation'}),
  ],
)
def test_split_folders(tmp_path, names, splits):
  touch(tmp_path, *(f'{name}/run/a.mp4' for name in names))
  listing = list_clips('folder', tmp_path)
  assert {clip.split for clip in listing.clips} == splits
  assert {(clip.media_id, clip.labels) for clip in listing.clips} == {('run/a', ('run',))}


def test_split_folders_without_classes(tmp_path):
  touch(tmp_path, 'Train/a.mp4', 'Test/b.mp4')
  found = {(c.split, c.media_id, c.labels) for c in list_clips('folder', tmp_path).clips}
  assert found == {('train', 'a', ()), ('test', 'b', ())}


def test_splits_within_class_folders(tmp_path):
  touch(tmp_path, 'run/Train/a.mp4', 'run/Test/b.mp4', 'jump/Train/c.mp4')
  listing = list_clips('folder', tmp_path)
  assert sorted((c.split, c.media_id, c.labels) for c in listing.clips) == [
    ('test', 'run/b', ('run',)),
    ('train', 'jump/c', ('jump',)),
    ('train', 'run/a', ('run',)),
  ]
  assert 'drop --split' in refusal('folder', tmp_path, split='train')


@pytest.mark.parametrize(
  ('paths', 'named'),
  [
    (('train/run/a.mp4', 'val/run/a.mp4', 'spare/b.mp4'), 'spare'),
    (('train/run/a.mp4', 'val/run/a.mp4', 'b.mp4'), 'b.mp4'),
    (('train/a.mp4', 'bus/b.mp4'), 'if train is a class, name the split by --split'),
    (('Test/a.mp4', 'c.mp4'), 'c.mp4'),
  ],
)
def test_no_video_is_passed_over(tmp_path, paths, named):
  touch(tmp_path, *paths)
  assert named in refusal('folder', tmp_path)


def test_a_class_that_is_called_train(tmp_path):
  touch(tmp_path, 'train/a.mp4', 'bus/b.mp4')
  listing = list_clips('folder', tmp_path, split='test')
  assert {clip.labels for clip in listing.clips} == {('train',), ('bus',)}
  assert {clip.split for clip in listing.clips} == {'test'}


def test_folders_beside_splits_that_hold_no_video_do_not_matter(tmp_path):
  touch(tmp_path, 'train/run/a.mp4', 'lists/train.txt')
  assert [clip.split for clip in list_clips('folder', tmp_path).clips] == ['train']


def test_odd_file_names_of_a_folder(tmp_path):
  touch(tmp_path, 'a.mp4.mkv', 'b.MOV', 'c.divx', 'd.mp4.part', 'e', 'f.xyz', 'g.txt')
  video = (tmp_path / 'x.mp4', tmp_path / 'y.avi')
  write_video(video[0], num_frames=2)
  write_video(video[1], num_frames=2, codec='mpeg4')
  (tmp_path / 'e').write_bytes(video[0].read_bytes())
  (tmp_path / 'f.xyz').write_bytes(video[1].read_bytes())
  listing = list_clips('folder', tmp_path)
  assert sorted(clip.media_id for clip in listing.clips) == ['a.mp4', 'b', 'c', 'x', 'y']
  assert listing.notes == [
    f'2 other files in {tmp_path} ignored',
    'left out: files that hold a video but lack the suffix of one: 2, such as e',
  ]


def test_one_folder_above_the_classes_is_noted(tmp_path):
  touch(tmp_path, 'videos/run/a.mp4', 'videos/jump/b.mp4')
  (note,) = list_clips('folder', tmp_path).notes
  assert 'all videos are below videos, which is taken for their class' in note


def test_flat_unlabelled_folders_are_converted(tmp_path):
  (tmp_path / 'videos').mkdir()
  for name in 'ab':
    write_video(tmp_path / f'videos/{name}.mp4', num_frames=2)
  arguments = ['--source=folder', f'--path={tmp_path / "videos"}', '--num_workers=1']
  assert run_command(convert.main, [*arguments, f'--output_dir={tmp_path / "out"}']) == 0
  assert manifest(tmp_path / 'out').label_names == ()
  assert set(clips(tmp_path / 'out')) == {'a', 'b'}


# --- Files that are called otherwise ---------------------------------------------------


@pytest.mark.parametrize(
  'file', ['a.mp4', 'a.AVI', 'A.avi', 'a.avi.mp4', 'a.mp4.mkv', 'a.f137.mp4']
)
def test_other_containers_than_the_lists(tmp_path, file):
  touch(tmp_path, f'run/{file}')
  listing = table(tmp_path, 'path\nrun/a.avi\nrun/b.avi\n')
  first, second = listing.clips
  assert (first.path, first.media_id) == ('run/a.avi', 'run/a')
  assert first.file == str(tmp_path / 'run' / file)
  assert second.file == str(tmp_path / 'run/b.avi')
  assert listing.notes == [
    'corrected: files called otherwise than listed: 1, such as run/a.avi, which is '
    f'run/{file}'
  ]


def test_lists_without_suffixes(tmp_path):
  touch(tmp_path, 'a.v2.mp4')
  (clip,) = table(tmp_path, 'path\na.v2\n').clips
  assert clip.file == str(tmp_path / 'a.v2.mp4')


def test_paths_of_windows(tmp_path):
  touch(tmp_path, 'run/a.mp4')
  (clip,) = table(tmp_path, 'path\nrun\\a.mp4\n').clips
  assert clip.file == str(tmp_path / 'run/a.mp4')


def test_files_that_are_there_as_listed_win(tmp_path):
  touch(tmp_path, 'a.avi', 'a.mp4', ' b.mp4')
  listing = table(tmp_path, 'path\na.mp4\n b.mp4\n')
  files = [clip.file for clip in listing.clips]
  assert files == [str(tmp_path / 'a.mp4'), str(tmp_path / ' b.mp4')]
  assert listing.notes == []


def test_flat_and_nested_official_sets(tmp_path):
  test_sources.ucf101(tmp_path)
  (tmp_path / 'UCF-101/Archery/v_Archery_g08_c01.avi').rename(
    tmp_path / 'UCF-101/v_Archery_g08_c01.mp4'
  )
  listing = list_clips('ucf101', tmp_path)
  files = {clip.media_id: clip.file for clip in listing.clips}
  assert files['v_Archery_g08_c01'] == str(tmp_path / 'UCF-101/v_Archery_g08_c01.mp4')
  assert 'files called otherwise than listed: 1' in listing.notes[0]
  hmdb = tmp_path / 'hmdb'
  touch(hmdb, 'hmdb51_org/wave/wave/w1.avi', 'test_train_splits/.keep')
  (hmdb / 'test_train_splits/wave_test_split1.txt').write_text('w1.avi 1\n')
  (clip,) = list_clips('hmdb51', hmdb).clips
  assert clip.file == str(hmdb / 'hmdb51_org/wave/wave/w1.avi')


# --- Boxes and segments ----------------------------------------------------------------


def ava(tmp_path, *rows, detected=()):
  (tmp_path / 'classes.pbtxt').write_text(MAP)
  (tmp_path / 'ava_train_v2.2.csv').write_text(''.join(f'{row}\n' for row in rows))
  if detected:
    text = ''.join(f'{row}\n' for row in detected)
    (tmp_path / 'ava_detection_train_boxes.csv').write_text(text)
  return tmp_path


def test_boxes_in_pixels_are_refused(tmp_path):
  folder = ava(tmp_path, 'v,0902,0.1,0.1,0.5,0.5,1,0', 'v,0902,10,20,110,220,1,0')
  message = refusal('ava', folder)
  assert 'line 2: a side of a box is 10, expected shares of the frame' in message
  folder = ava(tmp_path, 'v,0902,0.1,0.1,0.5,0.5,1,0', detected=['v,0902,9,9,99,99,,0.9'])
  assert 'ava_detection_train_boxes.csv, line 1' in refusal('ava', folder)
  row = {'path': 'a.mp4', 'region/timestamp': [0]}
  for key in ('ymin', 'xmin', 'ymax', 'xmax'):
    row[f'region/bbox/{key}'] = [[120.0]]
  with pytest.raises(UserError, match='line 1: a side of a box is 120'):
    lines(tmp_path, row)
  tracked = tmp_path / 'sets/Car/img'
  tracked.mkdir(parents=True)
  (tracked / '0001.jpg').write_bytes(jpegs(1)[0])
  (tmp_path / 'sets/Car/groundtruth_rect.txt').write_text('0.1,0.2,0.3,0.4\n')
  assert 'expected boxes in pixels' in refusal('otb', tmp_path / 'sets')


def test_boxes_are_cut_or_left_out(tmp_path):
  folder = ava(
    tmp_path,
    *('v,0902,-0.1,0.1,0.5,1.2,1,0', 'v,0902,0.2,0.1,0.2,0.5,1,1'),
    'v,0902,1.1,0.1,1.2,0.5,1,2',
  )
  listing = list_clips('ava', folder)
  fields = listing.clips[0].fields
  assert fields[records.BBOX_XMIN] == [[0.0]] and fields[records.BBOX_YMAX] == [[1.0]]
  place = folder / 'ava_train_v2.2.csv'
  assert listing.notes[1:] == [
    'corrected: sides of boxes outside of the frame, cut at its edge: 4, such as '
    f'{place}, line 1',
    f'left out: boxes without area: 2, such as {place}, line 2',
  ]
  row = {'path': 'a.mp4', 'region/timestamp': [0, 1], 'region/bbox/xmax': [[1.1], 0.5]}
  (clip,) = lines(tmp_path, row).clips
  assert clip.fields['region/bbox/xmax'] == [[1.0], 0.5]


def test_validation_knows_boxes_without_area():
  jpeg = jpegs(1)[0]
  box = {key: [[1.0]] for key in (records.BBOX_XMIN, records.BBOX_XMAX)}
  box |= {records.BBOX_YMIN: [[0.5]], records.BBOX_YMAX: [[1.0]]}
  height, width = simplejpeg.decode_jpeg_header(jpeg)[:2]
  clip = {
    records.IMAGE_ENCODED: [jpeg],
    records.IMAGE_TIMESTAMP: [0],
    records.IMAGE_FORMAT: 'JPEG',
    records.IMAGE_HEIGHT: height,
    records.IMAGE_WIDTH: width,
    records.IMAGE_FRAME_RATE: 25.0,
    records.MEDIA_ID: 'a',
    records.DATA_PATH: 'a.mp4',
    records.START_TIMESTAMP: 0,
    records.END_TIMESTAMP: 40_000,
    records.REGION_TIMESTAMP: [[0]],
    **box,
  }
  (problem,) = validate.check_record(records.encode_record(clip), [], 0)
  assert problem == 'box [0.5, 1.0, 1.0, 1.0] of region entry 0 has no area'
  # What is followed through a video may leave the frame.
  clip['extra/annotation'] = '30,2,4,5'
  assert validate.check_record(records.encode_record(clip), [], 0) == []


def activitynet(tmp_path, **videos):
  path = tmp_path / 'list.json'
  path.write_text(json.dumps({'database': videos}))
  return path


def segment(label, *span):
  return {'label': label, 'segment': list(span)}


def test_activitynet_lists_of_people(tmp_path):
  path = activitynet(
    tmp_path,
    a={
      'subset': 'Training',
      'annotations': [segment(10, 4, 1.5), segment(9, 3, 3), segment(9, -1, 2)],
    },
    b={'subset': 'testing'},
    c={
      'subset': 'validation',
      'annotations': [segment(None, 1, 2), segment(' 10', 1, 2)],
    },
  )
  listing = list_clips('activitynet', tmp_path, annotations=str(path))
  assert listing.label_names == ['9', '10']
  found = {clip.media_id: clip for clip in listing.clips}
  fields = found['a'].fields
  assert fields[records.SEGMENT_START_INDEX] == [1500, 0]
  assert fields[records.SEGMENT_END_INDEX] == [3999, 1999]
  assert fields[records.SEGMENT_LABEL_INDEX] == [1, 0]
  assert (found['b'].split, found['b'].labels, found['b'].fields) == ('test', (), {})
  assert found['c'].labels == ('10',)
  assert [note.rpartition(', such as')[0] for note in listing.notes] == [
    'corrected: segments that end before they start, turned round: 1',
    'left out: empty segments: 1',
    'corrected: segments that start before the video, cut: 1',
    'left out: segments without a label: 1',
    'corrected: labels with blanks around them, stripped: 1',
  ]
  assert f'{path}, video a' in listing.notes[0]


@pytest.mark.parametrize(
  'entry',
  [
    {'annotations': []},
    {'subset': 'training', 'annotations': [{'label': 'x'}]},
    {'subset': 'training', 'annotations': [segment('x', 1)]},
    {'subset': 'training', 'annotations': [segment('x', 'a', 'b')]},
    {'subset': 'training', 'annotations': [segment('x', 1, float('nan'))]},
    'training',
  ],
)
def test_activitynet_videos_that_are_wrong_are_named(tmp_path, entry):
  good = {'subset': 'training', 'annotations': [segment('x', 1, 2)]}
  path = activitynet(tmp_path, good=good, bad=entry)
  assert f'{path}, video bad: ' in refusal('activitynet', tmp_path, annotations=str(path))


def test_captions_that_end_before_they_start(tmp_path):
  entry = {'timestamps': [[5, 2], [1, 2]], 'sentences': ['a', 'b']}
  (tmp_path / 'train.json').write_text(json.dumps({'v_a': entry}))
  listing = list_clips('activitynet_captions', tmp_path)
  assert (listing.clips[0].start, listing.clips[0].end) == (2, 5)
  assert 'turned round: 1' in listing.notes[0]


# --- MSR-VTT's divisions ----------------------------------------------------------------


@pytest.fixture
def msrvtt(tmp_path):
  splits = ['train', 'train', 'validate', 'test']
  content = {
    'videos': [{'video_id': f'video{i}', 'split': s} for i, s in enumerate(splits)],
    'sentences': [
      {'video_id': f'video{i}', 'caption': word} for i in range(4) for word in 'xy'
    ],
  }
  (tmp_path / 'MSRVTT_data.json').write_text(json.dumps(content))
  return tmp_path


def splits_of(listing):
  return {clip.media_id: clip.split for clip in listing.clips}


def test_msrvtt_official_division(msrvtt):
  listing = list_clips('msrvtt', msrvtt)
  assert splits_of(listing) == {
    'video0': 'train',
    'video1': 'train',
    'video2': 'val',
    'video3': 'test',
  }
  assert listing.clips[3].fields[records.TEXT_CONTENT] == ['x', 'y']
  assert 'official splits' in listing.notes[0]
  content = json.loads((msrvtt / 'MSRVTT_data.json').read_text())
  del content['videos'][0]['split']
  (msrvtt / 'MSRVTT_data.json').write_text(json.dumps(content))
  message = refusal('msrvtt', msrvtt)
  assert 'states no split' in message and 'MSRVTT_JSFUSION_test.csv' in message


def test_msrvtt_training_lists(msrvtt):
  (msrvtt / 'MSRVTT_JSFUSION_test.csv').write_text('video_id,sentence\nvideo3,x\n')
  (msrvtt / 'MSRVTT_train.7k.csv').write_text('video_id\nvideo1\n')
  listing = list_clips('msrvtt', msrvtt)
  assert splits_of(listing) == {'video1': 'train', 'video3': 'test'}
  assert any('MSRVTT_train.7k.csv' in note for note in listing.notes)
  (msrvtt / 'MSRVTT_train.9k.csv').write_text('video_id\nvideo1\nvideo2\n')
  listing = list_clips('msrvtt', msrvtt)
  assert splits_of(listing) == {'video1': 'train', 'video2': 'train', 'video3': 'test'}
  assert (
    f'{msrvtt}: takes MSRVTT_train.9k.csv, not MSRVTT_train.7k.csv; to take that, remove '
    'the first' in listing.notes
  )


# --- Frames ---------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('rows', 'found'),
  [
    # As documented, then the other way round.
    (['run/a 1 30', 'run/b 1 31', 'jump/c 0 14'], [1, 1, 0]),
    (['run/a 30 1', 'run/b 31 1', 'jump/c 14 0'], [1, 1, 0]),
    (['a 120 0', 'b 98 0', 'c 200 1'], [0, 0, 1]),
    (['run/a 14 0'], [0]),
    (['run/a 5 0', 'jump/b 6 1'], [0, 1]),
    (['a 120 1', 'b 98 1', 'c 200 2'], [1, 1, 2]),
    # An extraction that failed is no class.
    (['run/a 1 30', 'run/b 1 0', 'jump/c 2 25'], [1, 1, 2]),
    (['a 57 30', 'b 99 31'], [57, 99]),
    (['run/a,1,30', 'run/b,1,31'], [1, 1]),
    (['run/a -1 30', 'run/b 1 31'], [-1, 1]),
  ],
)
def test_columns_of_frame_lists(tmp_path, rows, found):
  path = tmp_path / 'train_list.txt'
  path.write_text(''.join(f'{row}\n' for row in rows))
  listing = list_clips('frames', tmp_path, annotations=str(path), frame_rate=25)
  ids = {name: index for index, name in enumerate(listing.label_names)}
  assert [ids[c.labels[0]] if c.labels else -1 for c in listing.clips] == found
  swapped = {'run/a 30 1', 'a 120 0', 'run/a 14 0', 'run/a 5 0', 'a 120 1'}
  assert any('read so' in note for note in listing.notes) == (rows[0] in swapped)


def test_frames_beside_flow(tmp_path, capsys):
  folder = tmp_path / 'frames/run/a'
  folder.mkdir(parents=True)
  for number in range(3):
    data = simplejpeg.encode_jpeg(numbered_frame(number, 64, 48))
    (folder / f'img_{number + 1:05d}.jpg').write_bytes(data)
    for axis in 'xy':
      (folder / f'flow_{axis}_{number + 1:05d}.jpg').write_bytes(data)
  (tmp_path / 'train_list.txt').write_text('run/a 3 0\n')
  arguments = ['--source=frames', f'--path={tmp_path / "frames"}', '--num_workers=1']
  arguments += [f'--annotations={tmp_path / "train_list.txt"}', '--frame_rate=10']
  run = [*arguments, f'--output_dir={tmp_path / "out"}']
  assert run_command(convert.main, run) == 1
  assert 'choose by --frame_prefix' in capsys.readouterr().out
  assert run_command(convert.main, [*run, '--overwrite', '--frame_prefix=img_']) == 0
  assert len(clips(tmp_path / 'out')['run/a'][records.IMAGE_ENCODED]) == 3
  assert manifest(tmp_path / 'out').arguments['frame_prefix'] == 'img_'
  assert run_command(convert.main, [*run, '--overwrite', '--frame_prefix=x']) == 1
  assert 'holds no frame such as x00001.jpg' in capsys.readouterr().out


# --- Names and texts that UTF-8 can't hold ----------------------------------------------


def test_names_are_kept_byte_for_byte(tmp_path):
  root = os.fsencode(tmp_path / 'videos')
  write_video(tmp_path / 'v.mp4', num_frames=2)
  data = (tmp_path / 'v.mp4').read_bytes()
  for folder, name in ((b'caf\xe9', b'\xff1.mp4'), (b'run', b'broken\xfe.mp4')):
    os.makedirs(os.path.join(root, folder))
    with open(os.path.join(root, folder, name), 'wb') as file:
      file.write(data if folder != b'run' else b'nothing')
  arguments = command('--source=folder', '--path', tmp_path / 'videos')
  arguments += [f'--output_dir={tmp_path / "out"}', '--num_workers=1']
  environment = os.environ | {'PYTHONIOENCODING': 'utf-8:strict'}
  done = subprocess.run(
    arguments, cwd=REPOSITORY, capture_output=True, text=True, env=environment
  )
  assert done.returncode == 1, done.stderr
  assert 'skipped train/run/broken\\udcfe.mp4: not a readable video' in done.stdout
  assert 'class names that are no UTF-8, read as Latin-1: 1' in done.stdout
  made = manifest(tmp_path / 'out')
  assert made.label_names == ('café', 'run')
  (shard,) = made.shards
  with open(tmp_path / 'out' / shard.file, 'rb') as file:
    (clip,) = map(records.decode_record, records.read_records(file))
  assert clip[records.DATA_PATH] == [b'caf\xe9/\xff1.mp4']
  assert clip[records.MEDIA_ID] == [b'caf\xe9/\xff1']
  assert clip[records.LABEL_STRING] == ['café'.encode()]
  assert run_command(validate.main, [str(tmp_path / 'out')]) == 0


def test_half_characters_are_replaced(tmp_path, capsys):
  write_video(tmp_path / 'a.mp4', num_frames=2)
  rows = [
    {'path': 'a.mp4', 'caption': ['nice \ud83d', 'whole \ud83d\ude00'], 'x': '\udce9'},
    {'path': '\ud83d.mp4', 'media_id': 'b\ud83d', 'label': '\udfff'},
  ]
  (tmp_path / 'list.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  arguments = ['--source=jsonl', f'--path={tmp_path / "list.jsonl"}', '--num_workers=1']
  arguments += [f'--output_dir={tmp_path / "out"}', '--max_failed_fraction=1']
  assert run_command(convert.main, arguments) == 0
  printed = capsys.readouterr().out
  assert 'corrected: texts with half characters, replaced: 1, such as a.mp4' in printed
  clip = clips(tmp_path / 'out')['a']
  assert [text.decode() for text in clip[records.TEXT_CONTENT]] == [
    'nice \N{REPLACEMENT CHARACTER}',
    'whole \N{GRINNING FACE}',
  ]
  assert manifest(tmp_path / 'out').skipped[0].source == '\N{REPLACEMENT CHARACTER}.mp4'


# --- Looking before converting ----------------------------------------------------------


@pytest.fixture(scope='module')
def small_set(tmp_path_factory):
  root = tmp_path_factory.mktemp('set')
  for split, count in (('Train', 6), ('Test', 3)):
    for index in range(count):
      folder = root / split / ('run', 'jump', 'wave')[index % 3]
      folder.mkdir(parents=True, exist_ok=True)
      write_video(folder / f'v{index}.mp4', num_frames=2)
  return root


def test_check_lists_without_converting(small_set, tmp_path, capsys):
  arguments = ['--source=folder', f'--path={small_set}', '--check']
  assert run_command(convert.main, arguments) == 0
  assert capsys.readouterr().out.splitlines() == [
    'test: 3 clips listed, 3 classes of 1 clips',
    'train: 6 clips listed, 3 classes of 2 clips',
    '  jump: test 1, train 2',
    '  run: test 1, train 2',
    '  wave: test 1, train 2',
    '9 of 9 clips have their files',
  ]
  listed = tmp_path / 'list.csv'
  listed.write_text('path,label\na.mp4,run\nb.mp4,-1\n')
  assert run_command(convert.main, ['--source=csv', f'--path={listed}', '--check']) == 1
  assert capsys.readouterr().out.splitlines() == [
    f'corrected: labels -1, taken for none: 1, such as {listed}, line 3',
    'clips without a label, beside labelled ones: 1, such as b.mp4',
    'train: 2 clips listed, 1 class of 1 clips',
    '  run: train 1',
    '0 of 2 clips have their files',
    '  missing train/a.mp4',
    '  missing train/b.mp4',
  ]
  assert list(tmp_path.iterdir()) == [listed]
  assert run_command(convert.main, ['--source=csv', f'--path={listed}']) == 2
  assert 'required: --output_dir' in capsys.readouterr().err


def test_limit_takes_some_clips_of_each_split(small_set, tmp_path):
  arguments = ['--source=folder', f'--path={small_set}', '--num_workers=1']
  for limit in (2, 99):
    output = f'--output_dir={tmp_path / str(limit)}'
    assert run_command(convert.main, [*arguments, output, f'--limit={limit}']) == 0
  first, whole = manifest(tmp_path / '2'), manifest(tmp_path / '99')
  assert (first.records, whole.records, first.arguments['limit']) == (2, 6, 2)
  # Ids of classes are those of the whole set.
  assert first.label_names == whole.label_names == ('jump', 'run', 'wave')
  assert manifest(tmp_path / '2', 'test').records == 2
  order = [list(clips(tmp_path / name)) for name in ('2', '99')]
  assert order[0] == order[1][:2]


def test_videos_are_held_out_whole(tmp_path, capsys):
  names = [f'run/v_run_g0{g}_c0{i}.avi' for g in range(1, 6) for i in range(1, 5)]
  touch(tmp_path, *names, *(f'jump/v_jump_g01_c0{i}.avi' for i in range(1, 5)))
  flags = ['--source=folder', f'--path={tmp_path}', '--check', '--test_fraction=0.3']
  assert run_command(convert.main, flags) == 0
  shown = capsys.readouterr().out
  assert 'both have clips' not in shown
  assert 'nothing is held out, as all their clips are of one video' in shown
  assert 'such as jump' in shown
  assert 'test: 4 clips' in shown and 'train: 20 clips' in shown


@pytest.mark.parametrize(('backend', 'count'), [('none', 2), ('rules', 1)])
def test_captions_without_nouns_are_counted(tmp_path, capsys, backend, count):
  write_video(tmp_path / 'a.mp4', num_frames=2)
  (tmp_path / 'list.csv').write_text(
    'path,caption,noun_phrases\na.mp4,a red dog,\na.mp4,it is there,\na.mp4,one,cat\n'
    'a.mp4,,\n'
  )
  arguments = ['--source=csv', f'--path={tmp_path / "list.csv"}', '--num_workers=1']
  arguments += [f'--output_dir={tmp_path / "out"}', f'--noun_phrases={backend}']
  assert run_command(convert.main, arguments) == 0
  line = 'captioned clips without a noun phrase (a loss over nouns takes their captions)'
  assert f'{line}: {count}, such as a.mp4' in capsys.readouterr().out


def test_later_flags_leave_manifests_as_they_were(small_set, tmp_path):
  arguments = ['--source=folder', f'--path={small_set}', '--num_workers=1']
  assert run_command(convert.main, [*arguments, f'--output_dir={tmp_path}']) == 0
  assert not {'limit', 'frame_prefix'} & manifest(tmp_path).arguments.keys()


def test_request_of_a_limit_is_a_number(capsys):
  flags = ['--source=csv', '--path=x', '--output_dir=y', '--limit=0']
  assert run_command(convert.main, flags) == 2
  assert '--limit' in capsys.readouterr().err


# --- What looks like something else ---------------------------------------------------


@pytest.mark.parametrize(
  ('cell', 'found'),
  [
    ("\"('run', 'jump')\"", ('run', 'jump')),
    ('"{\'run\'}"', ('run',)),
    ('[1 2]', ('1', '2')),
    ("['run' 'jump']", ('run', 'jump')),
    ('(odd)', ('(odd)',)),
    ('{x', ('{x',)),
  ],
)
def test_lists_in_label_cells_as_libraries_write_them(tmp_path, cell, found):
  assert labels(table(tmp_path, f'path,label\na.mp4,{cell}\n')) == [found]


def test_columns_that_are_only_kept_are_named(tmp_path):
  listing = table(tmp_path, 'path,run,is_train,start_ms\na.mp4,1,True,5\n')
  assert listing.notes == [
    f'{tmp_path}/list.csv: columns that are only kept, as extra/<name>: is_train, run, '
    'start_ms'
  ]


def test_times_of_subtitles(tmp_path):
  listing = table(tmp_path, 'path,start,end\na.mp4,"00:01:00,500","01:01,25"\n')
  assert [(clip.start, clip.end) for clip in listing.clips] == [(60.5, 61.25)]


def test_paths_of_addresses(tmp_path):
  touch(tmp_path, 'a b.mp4', '100%25.mp4')
  text = f'path\nfile://{tmp_path}/a%20b.mp4\na%20b.mp4\n100%25.mp4\n'
  found = [os.path.basename(clip.file) for clip in table(tmp_path, text).clips]
  assert found == ['a b.mp4', 'a b.mp4', '100%25.mp4']


@pytest.mark.parametrize(
  ('name', 'split'),
  [
    ('Train Set', 'train'),
    ('testset', 'test'),
    ('val_split', 'val'),
    ('test_data', 'test'),
    ('training_videos', 'train'),
    ('dataset', 'dataset'),
    ('test1', 'test1'),
  ],
)
def test_words_behind_the_names_of_splits(tmp_path, name, split):
  listing = table(tmp_path, f'path,split\na.mp4,{name}\n')
  assert [clip.split for clip in listing.clips] == [split]


def checked(tmp_path, capsys, *flags):
  code = run_command(convert.main, [*flags, '--check'])
  captured = capsys.readouterr()
  return code, captured.out + captured.err


def csv_flags(tmp_path, text):
  (tmp_path / 'list.csv').write_text(text)
  return '--source=csv', f'--path={tmp_path}/list.csv'


@pytest.mark.parametrize(
  ('text', 'note'),
  [
    ('a.mp4,run;jump\nb.mp4,run\n', 'join those of others (several labels have | betw'),
    ('a.mp4,"run, jump"\nb.mp4,jump\n', 'join those of others'),
    ('a.mp4,unknown\nb.mp4,run\n', 'may mean that there is none'),
    ('a.mp4,run fast\nb.mp4,Run_Fast\n', 'almost the same'),
    ('a.mp4,run\nb.mp4,run.\n', 'almost the same'),
  ],
)
def test_names_of_classes_that_look_wrong_are_noted(tmp_path, capsys, text, note):
  touch(tmp_path, 'a.mp4', 'b.mp4')
  code, shown = checked(tmp_path, capsys, *csv_flags(tmp_path, f'path,label\n{text}'))
  assert code == 0 and note in shown


def test_letters_in_pieces_are_one_class(tmp_path, capsys):
  nfc, nfd = 'Übung', 'U\u0308bung'
  touch(tmp_path, f'train/{nfc}/a.mp4', f'test/{nfd}/b.mp4', 'train/run/c.mp4')
  code, shown = checked(tmp_path, capsys, '--source=folder', f'--path={tmp_path}')
  assert code == 0 and f'  {nfc}: test 1, train 1' in shown
  assert '(Unicode NFD), composed: 1, such as test/' in shown


def test_splits_with_other_names_are_noted(tmp_path, capsys):
  touch(tmp_path, 'a.mp4', 'b.mp4')
  flags = csv_flags(tmp_path, 'path,split\na.mp4,train\nb.mp4,0\n')
  code, shown = checked(tmp_path, capsys, *flags)
  assert code == 0
  assert 'splits called otherwise than train, val and test: 1, such as 0' in shown
  flags = csv_flags(tmp_path, 'path,split\na.mp4,train\nb.mp4,my test\n')
  code, shown = checked(tmp_path, capsys, *flags)
  assert code == 2 and "split 'my test': expected letters" in shown


def test_folders_of_systems_are_no_classes(tmp_path):
  touch(tmp_path, 'run/a.mp4', '__MACOSX/run/a.mp4', '@eaDir/a.mp4')
  assert [clip.path for clip in list_clips('folder', tmp_path).clips] == ['run/a.mp4']


def test_links_to_a_file_of_another_split_are_noted(tmp_path, capsys):
  touch(tmp_path, 'train/run/a.mp4', 'train/jump/c.mp4', 'test/run/d.mp4')
  os.symlink(tmp_path / 'train/run/a.mp4', tmp_path / 'test/run/b.mp4')
  code, shown = checked(tmp_path, capsys, '--source=folder', f'--path={tmp_path}')
  assert code == 0 and 'clips that test and train share: 1' in shown


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('map.txt', 'run\njump\n'),
    ('map.txt', '0 run\n1 jump\n'),
    ('map.txt', '2 jump\n1 run\n'),
    ('map.txt', 'jump 1\nrun 0\n'),
    ('map.txt', 'run: 0\njump: 1\n'),
    ('map.csv', 'id,name\n0,run\n1,jump\n'),
    ('map.json', '["run", "jump"]'),
    ('map.json', '{"jump": 1, "run": 0}'),
    ('map.json', '{"0": "run", "1": "jump"}'),
  ],
)
def test_label_maps_of_people(tmp_path, capsys, name, text):
  touch(tmp_path, 'a.mp4', 'b.mp4')
  (tmp_path / name).write_text(text)
  flags = csv_flags(tmp_path, 'path,label\na.mp4,run\nb.mp4,jump\n')
  code, shown = checked(tmp_path, capsys, *flags, f'--label_map={tmp_path}/{name}')
  assert code == 0, shown
  assert shown.index('  run: train 1') < shown.index('  jump: train 1')


@pytest.mark.parametrize('text', ['100 metres\nrun 5\n', '0 run\n2 jump\n', '5k\n10k\n'])
def test_names_with_numbers_stay_names(tmp_path, text):
  (tmp_path / 'map.txt').write_text(text)
  assert read_label_map(str(tmp_path / 'map.txt')) == text.splitlines()


def test_label_maps_that_lack_labels(tmp_path, capsys):
  touch(tmp_path, 'a.mp4', 'b.mp4')
  (tmp_path / 'map.txt').write_text('run\nwave\n')
  flags = csv_flags(tmp_path, 'path,label\na.mp4,run\nb.mp4,jump\n')
  code, shown = checked(tmp_path, capsys, *flags, f'--label_map={tmp_path}/map.txt')
  assert code == 0
  assert "clips whose labels --label_map lacks, such as 'jump': 1, such as b.mp4" in shown
  flags = csv_flags(tmp_path, 'path,label\na.mp4,0\nb.mp4,1\n')
  code, shown = checked(tmp_path, capsys, *flags, f'--label_map={tmp_path}/map.txt')
  assert code == 2 and "has none of the labels, such as '0', but 'run', 'wave'" in shown


def test_classes_of_boxes_and_segments_are_counted():
  def clip(name, **fields):
    return SourceClip(name, name, 'train', name, fields=fields)

  clips = [
    clip('a', **{records.REGION_LABEL_INDEX: [[0, 2], [2], []]}),
    clip('b', **{records.REGION_LABEL_INDEX: [[2]]}),
    clip('c', **{records.SEGMENT_LABEL_INDEX: [1, 1]}),
  ]
  lines = list(overview.describe(Listing(clips, ['x', 'y', 'z']), ['x', 'y', 'z']))
  assert lines[0] == 'train: 3 clips listed, 3 classes of 1 to 2 clips'
  assert lines[1:] == ['  x: train 1', '  y: train 1', '  z: train 2']

"""Dataset layouts, on tiny fakes: listing opens no video."""

import json

import pytest

from official.video.errors import UserError
from tfrecords_tools.datasets import SOURCES
from tfrecords_tools.datasets.source import SourceRequest


def touch(folder, *paths):
  for path in paths:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).touch()


def list_clips(source, path, **request):
  return SOURCES[source].list_clips(SourceRequest(str(path), **request))


def by_id(listing):
  return {clip.media_id: clip for clip in listing.clips}


def refusal(source, path, **request):
  with pytest.raises(UserError) as error:
    list_clips(source, path, **request)
  assert '\n' not in str(error.value)
  return str(error.value)


def test_folder_of_classes(tmp_path):
  touch(tmp_path, 'run/a.mp4', 'run/deep/b.AVI', 'jump/c.webm', 'd.mkv')
  touch(tmp_path, 'run/notes.txt', '.cache/x.mp4', 'run/.hidden.mp4')
  listing = list_clips('folder', tmp_path, split='val')
  clips = by_id(listing)
  assert {name: clip.labels for name, clip in clips.items()} == {
    'run/a': ('run',),
    'run/deep/b': ('run',),
    'jump/c': ('jump',),
    'd': (),
  }
  assert {clip.split for clip in listing.clips} == {'val'}
  assert clips['run/a'].path == 'run/a.mp4'
  assert clips['run/a'].file == str(tmp_path / 'run/a.mp4')
  assert listing.notes == [f'1 other file in {tmp_path} ignored']


def test_folder_of_splits(tmp_path):
  touch(tmp_path, 'train/run/a.mp4', 'val/run/a.mp4', 'test/jump/c.mp4')
  listing = list_clips('folder', tmp_path)
  assert sorted((c.split, c.media_id, c.labels) for c in listing.clips) == [
    ('test', 'jump/c', ('jump',)),
    ('train', 'run/a', ('run',)),
    ('val', 'run/a', ('run',)),
  ]
  assert 'drop --split' in refusal('folder', tmp_path, split='train')


def test_folder_through_links(tmp_path):
  touch(tmp_path, 'real/a.mp4', 'set/.keep')
  (tmp_path / 'set/run').symlink_to(tmp_path / 'real')
  (tmp_path / 'real/loop').symlink_to(tmp_path / 'real')
  listing = list_clips('folder', tmp_path / 'set')
  assert [clip.media_id for clip in listing.clips] == ['run/a']


def test_folder_refusals(tmp_path):
  assert 'holds no video' in refusal('folder', tmp_path)
  assert 'does not exist, expected a folder' in refusal('folder', tmp_path / 'absent')


def test_csv(tmp_path):
  (tmp_path / 'list.csv').write_text(
    '\ufeffpath,label,start,end,split,text/content,camera\n'
    'a.mp4,run,1.5,2.5,val,"one, two",left\n'
    '/data/b.mp4,,,,,"[""x"", ""y""]",\n'
  )
  listing = list_clips('csv', tmp_path / 'list.csv', root='/videos', split='train')
  first, second = listing.clips
  assert (first.path, first.file, first.split) == ('a.mp4', '/videos/a.mp4', 'val')
  assert (first.labels, first.start, first.end) == (('run',), 1.5, 2.5)
  assert first.media_id == 'a_1.5_2.5'
  assert first.fields == {'text/content': 'one, two', 'extra/camera': 'left'}
  assert (second.file, second.split, second.labels) == ('/data/b.mp4', 'train', ())
  assert (second.start, second.end, second.media_id) == (0.0, None, 'data/b')
  assert second.fields == {'text/content': ['x', 'y']}


def test_tsv_and_default_root(tmp_path):
  (tmp_path / 'list.tsv').write_text('path\tlabel\na b.mp4\trun, fast\n')
  (clip,) = list_clips('csv', tmp_path / 'list.tsv').clips
  assert (clip.file, clip.labels) == (str(tmp_path / 'a b.mp4'), ('run, fast',))


def test_jsonl(tmp_path):
  row = {
    'path': 'a.mp4',
    'label': ['run', 'jump'],
    'media_id': 'first',
    'frame_rate': 25,
    'region/timestamp': [0, 40000],
    'region/bbox/ymin': [[0.1], []],
    'segment/start/index': [3],
    'segment/end/index': [5],
    'meta': {'b': 1, 'a': [2]},
  }
  (tmp_path / 'list.jsonl').write_text(json.dumps(row) + '\n\n')
  (clip,) = list_clips('jsonl', tmp_path / 'list.jsonl').clips
  assert (clip.labels, clip.media_id, clip.frame_rate) == (('run', 'jump'), 'first', 25)
  assert clip.fields['region/bbox/ymin'] == [[0.1], []]
  assert clip.fields['extra/meta'] == '{"a": [2], "b": 1}'


@pytest.mark.parametrize(
  'source, text, message',
  [
    ('csv', 'file,label\na,b\n', "columns ['file', 'label'], expected one named path"),
    ('csv', 'path,path\na,b\n', 'names a column twice'),
    ('csv', 'path,label\na,b,c\n', 'line 2: expected 2 columns'),
    ('csv', 'path,start\na.mp4,x\n', "line 2: start is 'x'"),
    ('csv', 'path,end\na.mp4,-1\n', "line 2: end is '-1'"),
    ('csv', 'path,end\na.mp4,nan\n', "line 2: end is 'nan'"),
    ('csv', 'path,label\n,b\n', "line 2: path is '', expected a file name"),
    ('csv', 'path,image/height\na.mp4,3\n', 'image/height is written by the conversion'),
    ('csv', 'path,segment/start/index\na.mp4,x\n', "segment/start/index holds 'x'"),
    ('csv', 'path\n', 'lists no clip'),
    ('jsonl', '{"path": "a"\n', 'line 1: is not JSON'),
    ('jsonl', '[1]\n', 'line 1: expected a JSON object'),
    ('jsonl', '{"path": "a", "label": {"x": 1}}\n', 'line 1: label is'),
    ('jsonl', '{"path": "a", "text/content": [1]}\n', 'text/content holds 1'),
  ],
)
def test_bad_lists_are_named(tmp_path, source, text, message):
  (tmp_path / 'list').write_text(text)
  assert message in refusal(source, tmp_path / 'list')


def test_unreadable_list(tmp_path):
  assert 'No such file' in refusal('csv', tmp_path / 'absent.csv')
  (tmp_path / 'list').write_bytes(b'path\n\xff\xfe\n')
  assert 'is not UTF-8' in refusal('csv', tmp_path / 'list')


def ucf101(folder):
  lists = folder / 'ucfTrainTestlist'
  lists.mkdir()
  (lists / 'classInd.txt').write_text('1 ApplyEyeMakeup\n2 ZzLast\n3 Archery\n')
  (lists / 'trainlist01.txt').write_text('Archery/v_Archery_g08_c01.avi 3\r\n')
  (lists / 'testlist01.txt').write_text('ApplyEyeMakeup/v_A_g01_c01.avi\n')
  (lists / 'trainlist02.txt').write_text('ZzLast/v_Z_g01_c01.avi 2\n')
  (lists / 'testlist02.txt').write_text('Archery/v_Archery_g08_c01.avi\n')
  touch(folder, 'UCF-101/Archery/v_Archery_g08_c01.avi')


def test_ucf101(tmp_path):
  ucf101(tmp_path)
  listing = list_clips('ucf101', tmp_path)
  # Ids are the official ones, not the sorted names.
  assert listing.label_names == ['ApplyEyeMakeup', 'ZzLast', 'Archery']
  clips = {clip.split: clip for clip in listing.clips}
  assert clips['train'].media_id == 'v_Archery_g08_c01'
  assert clips['train'].labels == ('Archery',)
  assert clips['train'].file == str(tmp_path / 'UCF-101/Archery/v_Archery_g08_c01.avi')
  assert clips['test'].media_id == 'v_A_g01_c01'
  fold = {c.split: c.media_id for c in list_clips('ucf101', tmp_path, fold=2).clips}
  assert fold == {'train': 'v_Z_g01_c01', 'test': 'v_Archery_g08_c01'}
  (tmp_path / 'ucfTrainTestlist/classInd.txt').write_text('1 A\n3 B\n')
  assert "line 2: '3 B', expected '2 <class>'" in refusal('ucf101', tmp_path)


def test_hmdb51(tmp_path):
  lists = tmp_path / 'test_train_splits'
  lists.mkdir()
  (lists / 'wave_test_split1.txt').write_text('w1.avi 1 \nw 2.avi 2 \nw3.avi 0 \n')
  (lists / 'brush_hair_test_split1.txt').write_text('b1.avi 2 \n')
  (lists / 'wave_test_split2.txt').write_text('w3.avi 1 \n')
  listing = list_clips('hmdb51', tmp_path)
  assert listing.label_names == ['brush_hair', 'wave']
  assert sorted((c.split, c.path, c.labels) for c in listing.clips) == [
    ('test', 'brush_hair/b1.avi', ('brush_hair',)),
    ('test', 'wave/w 2.avi', ('wave',)),
    ('train', 'wave/w1.avi', ('wave',)),
  ]
  assert [c.path for c in list_clips('hmdb51', tmp_path, fold=2).clips] == ['wave/w3.avi']
  assert 'holds no <class>_test_split3.txt' in refusal('hmdb51', tmp_path, fold=3)
  (lists / 'wave_test_split1.txt').write_text('w1.avi 7\n')
  assert "'w1.avi 7', expected" in refusal('hmdb51', tmp_path)


def kinetics_list(path, *rows):
  header = 'label,youtube_id,time_start,time_end,split\n'
  path.write_text(header + ''.join(f'{row}\n' for row in rows))


def test_kinetics(tmp_path):
  videos = tmp_path / 'videos'
  touch(videos, 'train/dancing_ballet/aaaaaaaaaaa_000010_000020.mp4')
  touch(videos, 'bbbbbbbbbbb.mkv', 'val/x y/ccccccccccc_000001_000011.mp4')
  touch(videos, 'train/x y/ccccccccccc_000001_000011.mp4')
  lists = tmp_path / 'lists'
  lists.mkdir()
  kinetics_list(
    lists / 'train.csv',
    'dancing ballet,aaaaaaaaaaa,10,20,train',
    'x y,bbbbbbbbbbb,5,15,train',
    'x y,-dddddddddd,3,13,train',
  )
  kinetics_list(lists / 'val.csv', 'x y,ccccccccccc,1,11,val')
  clips = by_id(list_clips('kinetics700', videos, annotations=str(lists)))
  trimmed = clips['aaaaaaaaaaa_000010_000020']
  assert (trimmed.start, trimmed.end, trimmed.labels) == (0.0, None, ('dancing ballet',))
  assert trimmed.path == 'train/dancing_ballet/aaaaaaaaaaa_000010_000020.mp4'
  whole = clips['bbbbbbbbbbb_000005_000015']
  assert (whole.path, whole.start, whole.end) == ('bbbbbbbbbbb.mkv', 5.0, 15.0)
  assert clips['-dddddddddd_000003_000013'].path == '-dddddddddd_000003_000013.mp4'
  assert clips['ccccccccccc_000001_000011'].path.startswith('val/')


def test_kinetics_refusals(tmp_path):
  path = tmp_path / 'list.csv'
  arguments = {'annotations': str(path)}
  path.write_text('label,id\n')
  assert "lacks the columns ['split', 'time_end'," in refusal(
    'kinetics400', tmp_path, **arguments
  )
  kinetics_list(path, 'a,xxxxxxxxxxx,zero,10,train')
  assert "line 2: time_start is 'zero', expected a number" in refusal(
    'kinetics400', tmp_path, **arguments
  )
  kinetics_list(path, 'a,xxxxxxxxxxx,0,10')
  assert 'line 2: lacks values of the columns' in refusal(
    'kinetics400', tmp_path, **arguments
  )
  kinetics_list(path, *(f'c{k},xxxxxxxxxxx,{k},{k + 1},train' for k in range(401)))
  assert '401 classes, expected at most 400' in refusal(
    'kinetics400', tmp_path, **arguments
  )
  assert len(list_clips('kinetics600', tmp_path, **arguments).clips) == 401

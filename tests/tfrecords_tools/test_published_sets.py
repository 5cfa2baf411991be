"""Published data sets in miniature: their layouts, converted, and what contradicts itself."""

import functools
import json

import pytest

from official.video.data import records
from tests.tfrecords_tools.test_convert import clips, manifest, run_here
from tests.tfrecords_tools.test_sources import by_id, list_clips, refusal
from tests.videos import write_video
from tfrecords_tools.datasets import SOURCES, counts
from tfrecords_tools.examine import examine

# Two frames a second, so that ten seconds are soon encoded.
LONG = {'num_frames': 20, 'fps': 2, 'size': (32, 32)}


def videos(folder, *names, codec='libx264', **options):
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write_video(folder / name, codec=codec, **({'num_frames': 6} | options))


def dump(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(content if isinstance(content, str) else json.dumps(content))


# --- Layouts --------------------------------------------------------------------------

SSV2 = ['Pushing something from left to right', 'Holding something', 'Zooming']


def ssv2_entry(name, template):
  return {'id': name, 'label': 'x', 'template': template, 'placeholders': ['cup']}


def ssv2(root, old=True):
  videos(root / 'videos', *(f'{i}.webm' for i in '12345'), codec='libvpx-vp9')
  names = ('{}', 'train', 'validation', 'test', 'labels')
  start = 'something-something-v2-' if old else ''
  train, val, test, labels = (root / f'lists/{start}{n}.json' for n in names[1:])
  dump(labels, {name: str(i) for i, name in enumerate(SSV2)})
  dump(
    train,
    [
      ssv2_entry('1', 'Pushing [something] from left to right'),
      ssv2_entry('2', 'Holding [something]'),
      ssv2_entry('3', 'Zooming'),
    ],
  )
  dump(val, [ssv2_entry('4', 'Holding [something]')])
  dump(test, [{'id': '5'}])


def diving48(root):
  videos(root / 'videos', 'aaaaaaaaaaa_00001.mp4', 'aaaaaaaaaaa_00002.mp4', 'b_00001.mp4')

  def entry(name, label):
    return {'vid_name': name, 'label': label, 'start_frame': 0, 'end_frame': 6}

  dives = [
    ['Back', '15som', '05Twis', 'FREE'],
    ['Back', '15som', 'NoTwis', 'PIKE'],
    ['In'],
  ]
  dump(root / 'lists/Diving48_vocab.json', dives)
  train = [entry('aaaaaaaaaaa_00001', 1), entry('aaaaaaaaaaa_00002', 0)]
  dump(root / 'lists/Diving48_V2_train.json', train)
  dump(root / 'lists/Diving48_V2_test.json', [entry('b_00001', 2)])


CHARADES = 'id,subject,script,actions,length\n'


def charades(root):
  videos(
    root / 'videos', *(f'{name}.mp4' for name in ('46GP8', 'N11GT', '0IH69')), **LONG
  )
  classes = (
    'c000 Holding some clothes\nc001 Putting clothes\nc002 Taking a phone/camera\n'
  )
  dump(root / 'lists/Charades_v1_classes.txt', classes)
  rows = (
    '46GP8,HR43,"A person, sitting.",c002 1.50 4.00;c000 0.00 12.60,10.0\n'
    'N11GT,0KZ7,He said.,c001 20.00 24.00,10.0\n'
  )
  dump(root / 'lists/Charades_v1_train.csv', CHARADES + rows)
  dump(root / 'lists/Charades_v1_test.csv', f'{CHARADES}0IH69,P,Rests.,,10.0\n')


def kinetics700_2020(root):
  for name in ('aaaaaaaaaaa', 'bbbbbbbbbbb', 'ccccccccccc'):
    videos(root / 'videos', f'train/{name}_000001_000011.mp4')
  header = 'label,youtube_id,time_start,time_end,split\n'
  rows = 'a b,aaaaaaaaaaa,1,11,train\nc,bbbbbbbbbbb,1,11,train\n'
  dump(root / 'lists/train.csv', header + rows)
  dump(root / 'lists/val.csv', header + 'd,ccccccccccc,1,11,val\n')


def thumos14(root):
  names = ('validation_0000051', 'validation_0000052', 'test_0000004')
  videos(root / 'videos', *(f'video_{name}.mp4' for name in names), **LONG)
  lists = root / 'lists'
  dump(
    lists / 'val/annotation/Diving_val.txt',
    'video_validation_0000051  0.5 2.5\nvideo_validation_0000051  0.5 2.5\n',
  )
  dump(
    lists / 'val/annotation/Billiards_val.txt',
    'video_validation_0000052 1.0 9.0\nvideo_validation_0000051 4 6\n',
  )
  dump(lists / 'val/annotation/Ambiguous_val.txt', 'video_validation_0000051 7 8\n')
  dump(lists / 'test/annotation/Shotput_test.txt', 'video_test_0000004 2 3\n')


def didemo(root):
  videos(root / 'videos', '1@N00_2.mp4', '3@N00_4.mp4', '5@N00_6.mp4', **LONG)

  def entry(number, video, text, *times):
    return {
      'annotation_id': number,
      'video': video,
      'description': text,
      'times': [list(time) for time in times],
    }

  train = [
    entry(0, '1@N00_2.avi', 'a red dog runs ', (0, 1), (1, 1), (1, 1)),
    entry(1, '1@N00_2.mp4', 'it sits on the lawn', (0, 0), (0, 1)),
    entry(2, '3@N00_4.mov', 'a cat sleeps', (1, 1)),
  ]
  dump(root / 'lists/train_data.json', train)
  dump(root / 'lists/val_data.json', [entry(3, '5@N00_6.m4v', 'a tree', (0, 0))])
  dump(root / 'lists/test_data.json', [entry(4, '5@N00_6.m4v', 'a tree', (0, 0))])


FILMS = [
  '0001_American_Beauty/0001_American_Beauty_00.00.51.926-00.00.54.129',
  '0001_American_Beauty/0001_American_Beauty_00.01.10.000-00.01.12.000',
  '0002_As_Good/0002_As_Good_00.00.01.000-00.00.02.000',
]


def lsmdc(root):
  videos(root / 'videos', *(f'{name}.avi' for name in FILMS), codec='mpeg4')

  def row(film, text):
    return '\t'.join([film.split('/')[1], *['00:00:51.926'] * 4, text]) + '\n'

  train = row(FILMS[0], '"SOMEONE opens a door.') + row(FILMS[1], 'A red car.')
  dump(root / 'lists/LSMDC16_annos_training.csv', train)
  dump(root / 'lists/LSMDC16_annos_val.csv', row(FILMS[2], 'He waits.'))
  test = row(FILMS[2], 'He waits.')
  dump(root / 'lists/LSMDC16_challenge_1000_publictect.csv', test)


def msrvtt(root):
  videos(root / 'videos', *(f'video{i}.mp4' for i in range(4)))
  splits = ('train', 'validate', 'test', 'test')
  content = {
    'videos': [
      {'video_id': f'video{i}', 'split': split} for i, split in enumerate(splits)
    ],
    'sentences': [
      {'video_id': f'video{i}', 'caption': f'a {word} dog'}
      for i in range(4)
      for word in ('red', 'blue')
    ],
  }
  dump(root / 'lists/MSRVTT_data.json', content)
  test = 'key,vid_key,video_id,sentence\nret0,msr2,video3,a blue dog\n'
  dump(root / 'lists/MSRVTT_JSFUSION_test.csv', test)


LAYOUTS = {
  'ssv2': ssv2,
  'diving48': diving48,
  'charades': charades,
  'kinetics700_2020': kinetics700_2020,
  'thumos14': thumos14,
  'didemo': didemo,
  'didemo_moments': didemo,
  'lsmdc': lsmdc,
  'msrvtt_7k': msrvtt,
  'msrvtt_full': msrvtt,
}
LABELS = ('ssv2', 'diving48', 'kinetics700_2020', 'thumos14')
CAPTIONS = ('didemo', 'didemo_moments', 'lsmdc', 'msrvtt_7k', 'msrvtt_full')


@pytest.fixture(scope='module')
def root_of(tmp_path_factory):
  """Writes a miniature once; returns its folder."""

  @functools.cache
  def write(layout):
    root = tmp_path_factory.mktemp(layout.__name__)
    layout(root)
    return root

  return lambda source: write(LAYOUTS[source])


@pytest.fixture(scope='module')
def converted(root_of, tmp_path_factory):
  """Converts a miniature once; returns the folder of its records."""

  @functools.cache
  def convert(source):
    root, output = root_of(source), tmp_path_factory.mktemp(f'{source}_records')
    code = run_here(
      f'--source={source}',
      f'--path={root / "videos"}',
      f'--annotations={root / "lists"}',
      f'--output_dir={output}',
      '--noun_phrases=rules',
      '--short_side=32',
    )
    assert code == 0
    return output

  return convert


def split_of(folder, split):
  """Records by name, of a conversion that left nothing out."""
  made = manifest(folder, split)
  assert made.skipped == ()
  return made, clips(folder, split)


def values(found, key):
  return {name: clip.get(key) for name, clip in found.items()}


# --- Conversion -----------------------------------------------------------------------


def test_ssv2(converted):
  made, train = split_of(converted('ssv2'), 'train')
  assert made.label_names == tuple(SSV2)
  assert values(train, records.LABEL_INDEX) == {'1': [0], '2': [1], '3': [2]}
  assert train['1'][records.LABEL_STRING] == [SSV2[0].encode()]
  assert train['1'][records.DATA_PATH] == [b'1.webm']
  assert values(split_of(converted('ssv2'), 'val')[1], records.LABEL_INDEX) == {'4': [1]}
  _, test = split_of(converted('ssv2'), 'test')
  assert list(test) == ['5'] and not test['5'].get(records.LABEL_INDEX)


def test_diving48(converted):
  made, train = split_of(converted('diving48'), 'train')
  assert made.label_names[:2] == ('Back 15som 05Twis FREE', 'Back 15som NoTwis PIKE')
  assert values(train, records.LABEL_INDEX) == {
    'aaaaaaaaaaa_00001': [1],
    'aaaaaaaaaaa_00002': [0],
  }
  # Dives of one broadcast are of one video.
  assert {name[0] for name in values(train, records.SOURCE_ID).values()} == {
    b'aaaaaaaaaaa'
  }
  _, test = split_of(converted('diving48'), 'test')
  assert values(test, records.LABEL_INDEX) == {'b_00001': [2]}


def test_charades(converted):
  made, train = split_of(converted('charades'), 'train')
  assert made.label_names[2] == 'Taking a phone/camera'
  # All labels of a video, those of actions that lie after its end included.
  assert values(train, records.LABEL_INDEX) == {'46GP8': [2, 0], 'N11GT': [1]}
  clip = train['46GP8']
  assert clip[records.SEGMENT_LABEL_INDEX] == [2, 0]
  assert clip[records.SEGMENT_START_INDEX] == [3, 0]
  assert clip[records.SEGMENT_END_INDEX] == [8, 19]
  assert not train['N11GT'].get(records.SEGMENT_LABEL_INDEX)
  assert list(split_of(converted('charades'), 'test')[1]) == ['0IH69']


def test_kinetics700_2020(converted):
  made, train = split_of(converted('kinetics700_2020'), 'train')
  assert made.label_names == ('a b', 'c', 'd')
  assert values(train, records.LABEL_INDEX) == {
    'aaaaaaaaaaa_000001_000011': [0],
    'bbbbbbbbbbb_000001_000011': [1],
  }


def test_thumos14(converted):
  made, val = split_of(converted('thumos14'), 'val')
  assert made.label_names == ('Billiards', 'Diving', 'Shotput')
  clip = val['video_validation_0000051']
  assert clip[records.SEGMENT_LABEL_INDEX] == [0, 1]
  assert clip[records.SEGMENT_START_INDEX] == [8, 1]
  assert clip[records.SEGMENT_END_INDEX] == [12, 5]
  assert set(val) == {'video_validation_0000051', 'video_validation_0000052'}
  assert set(split_of(converted('thumos14'), 'test')[1]) == {'video_test_0000004'}


def test_what_a_system_left_among_lists_is_none(root_of):
  root = root_of('thumos14')
  before = list_clips('thumos14', root / 'videos', annotations=str(root / 'lists'))
  left = root / 'lists' / '__MACOSX'
  left.mkdir()
  for name in ('._Diving_val.txt', 'Diving_val.txt'):
    (left / name).write_bytes(b'\0\5\26\7')
  after = list_clips('thumos14', root / 'videos', annotations=str(root / 'lists'))
  assert after.clips == before.clips


def test_thumos14_as_json_is_the_same(root_of, tmp_path):
  root = root_of('thumos14')
  of_lists = list_clips('thumos14', root / 'videos', annotations=str(root / 'lists'))
  assert of_lists.notes == [
    'left out: ambiguous segments: 1, such as video_validation_0000051',
    'left out: segments that repeat another one: 1, such as video_validation_0000051',
  ]
  database = {
    clip.media_id: {
      'subset': {'val': 'Validation', 'test': 'Test'}[clip.split],
      'annotations': [
        {
          'label': of_lists.label_names[label],
          'segment': [str(start / 1000), str((end + 1) / 1000)],
        }
        for start, end, label in zip(
          clip.fields[records.SEGMENT_START_INDEX],
          clip.fields[records.SEGMENT_END_INDEX],
          clip.fields[records.SEGMENT_LABEL_INDEX],
          strict=True,
        )
      ],
    }
    for clip in of_lists.clips
  }
  database['video_test_9'] = {'subset': 'Test', 'annotations': []}
  dump(tmp_path / 'thumos14.json', {'database': database})
  listed = list_clips(
    'thumos14', root / 'videos', annotations=str(tmp_path / 'thumos14.json')
  )
  assert listed.clips == of_lists.clips
  # Public code calls them by what it does with them.
  for entry in database.values():
    entry['subset'] = {'Validation': 'training', 'Test': 'validation'}[entry['subset']]
  dump(tmp_path / 'anno.json', {'database': database})
  listed = list_clips(
    'thumos14', root / 'videos', annotations=str(tmp_path / 'anno.json')
  )
  assert listed.clips == of_lists.clips
  assert {note.partition(', such')[0] for note in listed.notes} == {
    "corrected: videos of split 'train', by their names of val: 2",
    "corrected: videos of split 'val', by their names of test: 2",
  }


def test_didemo(converted):
  _, train = split_of(converted('didemo'), 'train')
  assert values(train, records.TEXT_CONTENT) == {
    '1@N00_2': [b'a red dog runs it sits on the lawn'],
    '3@N00_4': [b'a cat sleeps'],
  }
  assert train['1@N00_2'][records.DATA_PATH] == [b'1@N00_2.mp4']
  assert len(train['1@N00_2'][records.IMAGE_ENCODED]) == 20
  assert set(split_of(converted('didemo'), 'val')[1]) == {'5@N00_6'}


def test_didemo_moments(converted):
  _, train = split_of(converted('didemo_moments'), 'train')
  assert values(train, records.TEXT_CONTENT) == {
    '1@N00_2_0': [b'a red dog runs'],
    '1@N00_2_1': [b'it sits on the lawn'],
    '3@N00_4_2': [b'a cat sleeps'],
  }
  # What most annotators say; where none are more, the first.
  assert values(train, records.START_TIMESTAMP) == {
    '1@N00_2_0': [5_000_000],
    '1@N00_2_1': [0],
    '3@N00_4_2': [5_000_000],
  }
  assert {len(clip[records.IMAGE_ENCODED]) for clip in train.values()} == {10}
  assert {name[0] for name in values(train, records.SOURCE_ID).values()} == {
    b'1@N00_2',
    b'3@N00_4',
  }


def test_lsmdc(converted):
  _, train = split_of(converted('lsmdc'), 'train')
  names = [film.split('/')[1] for film in FILMS]
  assert values(train, records.TEXT_CONTENT) == {
    names[0]: [b'"SOMEONE opens a door.'],
    names[1]: [b'A red car.'],
  }
  assert values(train, records.SOURCE_ID)[names[1]] == [b'0001_American_Beauty']
  assert set(split_of(converted('lsmdc'), 'test')[1]) == {names[2]}


def test_divisions_of_msrvtt(converted):
  _, train = split_of(converted('msrvtt_7k'), 'train')
  assert values(train, records.TEXT_CONTENT) == {
    name: [b'a red dog', b'a blue dog'] for name in ('video0', 'video1')
  }
  _, test = split_of(converted('msrvtt_7k'), 'test')
  assert values(test, records.TEXT_CONTENT) == {'video3': [b'a blue dog']}
  full = converted('msrvtt_full')
  assert {split: set(split_of(full, split)[1]) for split in ('train', 'val', 'test')} == {
    'train': {'video0'},
    'val': {'video1'},
    'test': {'video2', 'video3'},
  }


# --- Lists of people ------------------------------------------------------------------


def listing(root, source):
  return list_clips(source, root / 'videos', annotations=str(root / 'lists'))


def refused(root, source):
  return refusal(source, root / 'videos', annotations=str(root / 'lists'))


@pytest.fixture
def bare(tmp_path, monkeypatch):
  """Writes a miniature of empty files."""
  monkeypatch.setattr(
    'tests.tfrecords_tools.test_published_sets.write_video',
    lambda path, *_, **__: path.touch(),
  )

  def write(source, **options):
    LAYOUTS[source](tmp_path, **options)
    return tmp_path

  return write


def test_newer_names_of_ssv2(bare):
  root = bare('ssv2', old=False)
  assert len(listing(root, 'ssv2').clips) == 5
  (root / 'lists/test.json').unlink()
  assert listing(root, 'ssv2').notes == [f'{root / "lists"}: holds no list of test']
  dump(root / 'lists/something-something-v2-train.json', [])
  assert 'are two lists of one kind' in refused(root, 'ssv2')


@pytest.mark.parametrize(
  ('source', 'file', 'content', 'message'),
  [
    ('ssv2', 'something-something-v2-train.json', [{'id': '1'}], 'entry 1: lacks tem'),
    ('ssv2', 'something-something-v2-test.json', [{'label': 1}], 'entry 1: lacks id'),
    ('ssv2', 'something-something-v2-test.json', {}, 'expected a list of objects'),
    ('ssv2', 'something-something-v2-labels.json', {'a': '1'}, 'the numbers 0 to 0'),
    ('ssv2', 'something-something-v2-labels.json', ['a'], 'object of class names'),
    (
      'ssv2',
      'something-something-v2-labels.json',
      {'a': float('inf')},
      "the id of 'a' is inf, expected a whole number",
    ),
    ('diving48', 'Diving48_vocab.json', [['a'], ['a']], 'names a class twice'),
    ('diving48', 'Diving48_vocab.json', [1], 'class 0 is 1, expected a list'),
    ('diving48', 'Diving48_vocab.json', {'0': ['a']}, 'a list of lists of texts'),
    ('diving48', 'Diving48_V2_test.json', [{'vid_name': 'x', 'label': 3}], '0 to 2'),
    ('diving48', 'Diving48_V2_test.json', [{'label': 3}], 'entry 1: lacks vid_name'),
    (
      'charades',
      'Charades_v1_classes.txt',
      'c000 a\nc002 b\n',
      "'c002 b', expected 'c001",
    ),
    ('charades', 'Charades_v1_test.csv', f'{CHARADES}a,,,c003 1 2,3\n', 'is no class of'),
    ('charades', 'Charades_v1_test.csv', f'{CHARADES}a,,,c001 1,3\n', '<class> <start>'),
    ('charades', 'Charades_v1_test.csv', f'{CHARADES}a,,,c001 1 x,3\n', "is 'x', expect"),
    ('charades', 'Charades_v1_test.csv', 'id\na\n', 'expected one named|lacks the col'),
    ('thumos14', 'x/Shotput_test.txt', 'video_test_0000004 2\n', 'two lists of one kind'),
    ('thumos14', 'Run_val.txt', 'video_test_0000004 2 3\n', 'is of val by another'),
    ('thumos14', 'Run_val.txt', 'video_validation_1 2\n', "'<video> <start> <end>'"),
    (
      'didemo',
      'val_data.json',
      [{'video': 'a', 'description': 'b'}],
      'entry 1: lacks times',
    ),
    (
      'didemo',
      'val_data.json',
      [{'video': 'a', 'description': 'b', 'times': [[-1, 0]]}],
      'a first step is -1, expected a whole number from 0',
    ),
    (
      'didemo',
      'val_data.json',
      [{'video': 'a', 'description': 'b', 'times': [[0, float('inf')]]}],
      'a last step is inf, expected a whole number from 0',
    ),
    ('lsmdc', 'LSMDC16_annos_val.csv', 'a\tb\n', 'line 1: has 2 columns'),
  ],
)
def test_what_contradicts_itself_is_named(bare, source, file, content, message):
  root = bare(source)
  dump(root / 'lists' / file, content)
  found = refused(root, source)
  assert any(part in found for part in message.split('|')), found
  assert file in found or 'lists' in found


def test_missing_files_are_called_as_the_lists_do(bare):
  expected = {
    'ssv2': ['1.webm'],
    'lsmdc': [f'{FILMS[0]}.avi'],
    'didemo': ['1@N00_2.avi'],
    'thumos14': ['video_test_0000004.mp4'],
  }
  for source, names in expected.items():
    root = bare(source)
    for path in (root / 'videos').rglob('*.*'):
      if path.is_file():
        path.unlink()
    paths = {clip.path for clip in listing(root, source).clips}
    assert paths >= set(names)
    for path in (root / 'lists').glob('*.csv'):
      path.unlink()


def test_what_is_counted(bare, tmp_path):
  root = bare('lsmdc')
  row = 'a_1\t1\t1\t1\t1\t{}\n'
  dump(root / 'lists/LSMDC16_annos_val.csv', row.format('x') * 2 + row.format('y'))
  found = listing(root, 'lsmdc')
  assert by_id(found)['a_1'].fields[records.TEXT_CONTENT] == ['x', 'y']
  assert any('left out: rows that repeat another one: 1' in n for n in found.notes)
  dump(root / 'lists/LSMDC16_annos_val.csv', row.format('') + row.replace('a_1', 'b_1'))
  found = listing(root, 'lsmdc')
  assert 'a_1' not in by_id(found)
  assert any('left out: rows without a sentence: 1' in n for n in found.notes)
  dump(root / 'lists/LSMDC16_annos_test.csv', row.format('x'))
  assert 'takes LSMDC16_challenge_1000_publictect.csv, not' in ' '.join(
    listing(root, 'lsmdc').notes
  )


def test_what_two_lists_say_of_one_video_is_refused(bare):
  """By the examination that every source passes."""
  root = bare('diving48')
  path = root / 'lists/Diving48_V2_test.json'
  dump(path, [*json.loads(path.read_text()), {'vid_name': 'b_00001', 'label': 0}])
  joined = examine(listing(root, 'diving48'))
  assert by_id(joined)['b_00001'].labels == ('In', 'Back 15som 05Twis FREE')
  assert any('another label of the same clip' in note for note in joined.notes)


def test_the_list_of_7k_is_taken_where_it_is(bare):
  root = bare('msrvtt_7k')
  dump(root / 'lists/MSRVTT_train.7k.csv', 'video_id\nvideo2\n')
  found = listing(root, 'msrvtt_7k')
  assert {c.media_id: c.split for c in found.clips} == {
    'video2': 'train',
    'video3': 'test',
  }
  (root / 'lists/MSRVTT_JSFUSION_test.csv').unlink()
  assert 'MSRVTT_JSFUSION_test.csv' in refused(root, 'msrvtt_7k')


def test_official_counts_are_those_of_the_splits(root_of):
  for source in LAYOUTS:
    root = root_of(source)
    splits = {clip.split for clip in listing(root, source).clips}
    assert set(counts.expected(source, None)) <= splits, source
  assert counts.expected('ssv2', None)['train'] == 168_913
  assert set(LAYOUTS) <= set(SOURCES)


# --- Training -------------------------------------------------------------------------


def batches(converted, experiment, source, split, *overrides):
  """The task of an experiment over a miniature, and two of its batches."""
  from official.video.settings import experiment as settings
  from tests import tiny

  path = converted(source) / f'{split}.manifest.json'
  two = 'task.train_data: {global_batch_size: 2}'
  params = tiny.load(experiment, path, path, two, *overrides)
  task = settings.build_task(params)
  return task, list(task.build_inputs(params.task.train_data).take(2))


def train(made):
  """Steps on the batches of several sets by one compiled function; losses by set."""
  import numpy as np
  import tensorflow as tf
  import tf_keras

  task = next(iter(made.values()))[0]
  model = task.built_model()
  optimizer = tf_keras.optimizers.legacy.SGD(0.1)
  metrics = task.build_metrics(training=True)
  traces = set()
  step = tf.function(lambda inputs: task.train_step(inputs, model, optimizer, metrics))
  for source, (_, inputs) in made.items():
    assert len(inputs) == 2, source
    for batch in inputs:
      before = [v.numpy() for v in model.trainable_variables]
      logs = step(batch)
      assert np.isfinite(float(logs['loss'])), source
      moved = [
        np.abs(v.numpy() - old).max()
        for v, old in zip(model.trainable_variables, before, strict=True)
      ]
      assert max(moved) > 0, source
      traces.add(step.experimental_get_tracing_count())
  # The first call's, whatever the set.
  assert len(traces) == 1


@pytest.mark.slow
def test_labelled_sets_are_trained_on(converted):
  made = {
    source: batches(
      converted,
      'cvrl_finetune_tiny',
      source,
      'val' if source == 'thumos14' else 'train',
    )
    for source in LABELS
  }
  for source, (task, inputs) in made.items():
    assert len(task.label_names()) == 3, source
    assert {int(label) for batch in inputs for label in batch['label']} <= {0, 1, 2}
  train(made)


@pytest.mark.slow
def test_charades_is_trained_on_with_all_labels(converted):
  made = batches(
    converted, 'cvrl_finetune_tiny', 'charades', 'train', 'task.multi_label: true'
  )
  train({'charades': made})


@pytest.mark.slow
def test_captioned_sets_are_trained_on(converted):
  made = {}
  for source in CAPTIONS:
    split = 'test' if source == 'msrvtt_full' else 'train'
    made[source] = batches(converted, 'gvilm_retrieval_tiny', source, split)
  train(made)

"""Odd values in JSON lists: each is one line of a `UserError`, whatever the source."""

import copy
import json
import os

import pytest

from official.video.errors import UserError
from tests.tfrecords_tools.test_sources import list_clips, touch
from tfrecords_tools.datasets import entries

_QA = [{'question': 'what runs', 'answer': 'dog', 'video_id': 0}]
_SPOKEN = {'start': [0, 4], 'end': [4, 9], 'text': ['take', 'the saw']}
_SENTENCES = {'duration': 9.0, 'timestamps': [[0, 4.5]], 'sentences': ['one man']}
_MSRVTT = {
  'videos': [{'video_id': 'video0', 'split': 'train', 'url': 'https://x/?v=abcdefghijk'}],
  'sentences': [{'video_id': 'video0', 'caption': 'a man cooks'}],
}
# Source, its lists, and what is read of them: the path of each value that counts.
LISTS = {
  'ssv2': {
    'labels.json': {'Holding something': '0', 'Moving something': '1'},
    'train.json': [{'id': '1', 'label': 'x', 'template': 'Holding [something]'}],
    'test.json': [{'id': '2'}],
  },
  'diving48': {
    'Diving48_vocab.json': [['Back', '15som'], ['Front', '15som']],
    'Diving48_V2_train.json': [
      {'vid_name': 'a_1', 'label': 1, 'start_frame': 0, 'end_frame': 9}
    ],
    'Diving48_V2_test.json': [{'vid_name': 'b_1', 'label': 0}],
  },
  'didemo': {
    'train_data.json': [
      {'video': 'a.mp4', 'description': 'a cat', 'times': [[0, 1]], 'annotation_id': 3}
    ]
  },
  'didemo_moments': {
    'val_data.json': [
      {'video': 'a.mp4', 'description': 'a cat', 'times': [[0, 1]], 'annotation_id': 3}
    ]
  },
  'activitynet': {
    'activity_net.v1-3.min.json': {
      'database': {
        'a': {
          'subset': 'training',
          'annotations': [{'label': 'run', 'segment': [0.5, 2]}],
        }
      }
    }
  },
  'thumos14': {
    'thumos.json': {
      'database': {
        'video_test_1': {
          'subset': 'test',
          'annotations': [{'label': 'run', 'segment': [0.5, 2]}],
        }
      }
    }
  },
  'activitynet_captions': {'train.json': {'v_a': _SENTENCES}},
  'activitynet_paragraphs': {'val_1.json': {'v_a': _SENTENCES}},
  'howto100m': {'caption.json': {'a': _SPOKEN}},
  'videoqa': {'train_qa.json': _QA},
  'msrvtt': {'MSRVTT_data.json': _MSRVTT},
  'msrvtt_full': {'MSRVTT_data.json': _MSRVTT},
}
# The lists that are named themselves, not by their folder.
_FILES = {'activitynet', 'thumos14', 'howto100m'}
ODD = (
  *(None, True, [], {}, '', ' \t', 'x\ny', -1, -0.5, 1.5, 10**400, float('nan')),
  *(float('inf'), [[]], [None], {'': 1}, ['a', 'b', 'c'], 'x' * 500),
)
# What nothing is read of, and what means something else, though not what the list says.
_FREE = {'label', 'url', 'duration', 'end_frame', 'start_frame', 'annotation_id'}


def written(folder, lists):
  (folder / 'lists').mkdir(exist_ok=True)
  for name, content in lists.items():
    (folder / 'lists' / name).write_text(json.dumps(content))


def clips_of(source, folder):
  lists = folder / 'lists'
  request = {'annotations': str(lists)}
  if source in _FILES:
    request['annotations'] = str(lists / next(iter(LISTS[source])))
  if source == 'videoqa':
    request['answers'] = str(folder / 'answers.txt')
  return list_clips(source, folder / 'videos', **request)


@pytest.fixture
def folder(tmp_path):
  touch(tmp_path / 'videos', 'a.mp4', 'video0.mp4')
  (tmp_path / 'answers.txt').write_text('dog\n')
  return tmp_path


def places(content, path=()):
  """The paths of all values of a JSON content, itself among them."""
  yield path
  if isinstance(content, dict):
    for key in content:
      yield from places(content[key], (*path, key))
  elif isinstance(content, list):
    for number, value in enumerate(content):
      yield from places(value, (*path, number))


def replaced(content, path, value):
  if not path:
    return value
  content = copy.deepcopy(content)
  at = content
  for key in path[:-1]:
    at = at[key]
  at[path[-1]] = value
  return content


@pytest.mark.parametrize('source', LISTS)
def test_every_odd_value_is_understood_or_one_line(source, folder):
  written(folder, LISTS[source])
  assert clips_of(source, folder).clips
  refused = 0
  for name, content in LISTS[source].items():
    for path in places(content):
      for odd in ODD:
        written(folder, {name: replaced(content, path, odd)})
        try:
          clips = clips_of(source, folder).clips
        except UserError as error:
          refused += 1
          assert '\n' not in str(error), (path, odd)
          assert str(folder) in str(error), (path, odd, str(error))
          assert len(str(error)) < 500 + len(str(folder)), (path, odd)
          continue
        for clip in clips:
          assert clip.media_id.strip() and clip.media_id.isprintable(), (path, odd)
          assert 0 <= clip.start < 1e12, (path, odd)
    written(folder, {name: content})
  assert refused > 50


@pytest.mark.parametrize('source', LISTS)
@pytest.mark.parametrize('odd', [True, {}, [], 1.5])
def test_a_value_of_another_kind_is_never_taken(source, odd, folder):
  """Of a text or number that is read, not of lists, which may have more kinds in them."""
  written(folder, LISTS[source])
  for name, content in LISTS[source].items():
    for path in places(content):
      value = content
      for key in path:
        value = value[key]
      number = isinstance(value, (int, float)) and odd == 1.5
      if isinstance(value, (dict, list)) or _FREE & set(path) or number:
        continue
      written(folder, {name: replaced(content, path, odd)})
      with pytest.raises(UserError):
        print(name, path, odd, clips_of(source, folder).clips)
    written(folder, {name: content})


@pytest.mark.parametrize(
  ('source', 'name', 'content', 'message'),
  [
    ('ssv2', 'train.json', [{'id': '', 'template': 'Holding something'}], 'id is '),
    ('ssv2', 'train.json', [{'id': True, 'template': 'Holding something'}], 'id is Tr'),
    ('ssv2', 'train.json', [{'id': -3, 'template': 'Holding something'}], 'id is -3'),
    ('ssv2', 'train.json', [{'id': 1, 'template': 'Eating []'}], "is 'Eating []', expec"),
    ('ssv2', 'train.json', [{'id': 1, 'template': ' '}], 'a text that is not empty'),
    ('ssv2', 'labels.json', {'': '0', 'a': '1'}, "the class of id 0 is ''"),
    ('ssv2', 'labels.json', {'a': '0', 'a ': '1'}, 'names a class twice'),
    ('ssv2', 'labels.json', {'a': True}, "the id of 'a' is True"),
    ('diving48', 'Diving48_V2_test.json', [{'vid_name': ' ', 'label': 1}], 'vid_name is'),
    ('diving48', 'Diving48_V2_test.json', [{'vid_name': 'a', 'label': True}], 'label is'),
    ('diving48', 'Diving48_V2_test.json', [{'vid_name': 'a', 'label': 2}], 'from 0 to 1'),
    (
      'diving48',
      'Diving48_V2_test.json',
      [{'vid_name': 'a', 'label': 1, 'start_frame': -4}],
      'start_frame is -4',
    ),
    (
      'diving48',
      'Diving48_V2_test.json',
      [{'vid_name': 'a', 'label': 1, 'start_frame': 9, 'end_frame': 3}],
      'end_frame is 3, expected a whole number of at least 9',
    ),
    ('diving48', 'Diving48_vocab.json', [['a', 2.5]], 'class 0 is 2.5'),
    ('didemo', 'train_data.json', ['a'], "entry 1: is 'a', expected an object of video"),
  ],
)
def test_the_line_names_the_field(source, name, content, message, folder):
  written(folder, LISTS[source] | {name: content})
  with pytest.raises(UserError) as caught:
    clips_of(source, folder)
  assert message in str(caught.value) and os.path.join('lists', name) in str(caught.value)


def test_fields_by_hand():
  assert entries.name('x', 'k', 12) == '12' and entries.name('x', 'k', ' a ') == 'a'
  assert entries.text('x', 'k', ' ', empty=True) == ''
  assert entries.whole('x', 'k', 3, 3, 3) == 3
  assert entries.seconds('x', 'k', '1.5') == 1.5
  assert entries.seconds('x', 'k', -2, float('-inf')) == -2
  for make, value in (
    (entries.name, 1.0),
    (entries.name, True),
    (entries.whole, '3'),
    (entries.whole, 3.0),
    (entries.seconds, True),
    (entries.seconds, -1e-9),
    (entries.seconds, '1e13'),
    (entries.values, 'ab'),
  ):
    with pytest.raises(UserError, match=r'^x: k is .*, expected a '):
      make('x', 'k', value)

"""Video description sets: MSR-VTT with its 1K-A test, MSVD."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from official.video.errors import UserError
from tfrecords_tools.datasets import entries
from tfrecords_tools.datasets.captions import VIDEO_ID, captioned_clip
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.rows import Column, read_table
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
  SourceRequest,
  existing_folder,
  first_existing,
  read_json,
  read_lines,
)
from tfrecords_tools.summary import Summary

_MSRVTT_CAPTIONS = ('MSRVTT_data.json', 'train_val_videodatainfo.json')
_MSRVTT_MORE = 'test_videodatainfo.json'
_MSRVTT_TEST = 'MSRVTT_JSFUSION_test.csv'
_MSRVTT_TRAIN = ('MSRVTT_train.9k.csv', 'MSRVTT_train.7k.csv')
_OFFICIAL_SPLITS = {'train': 'train', 'validate': 'val', 'test': 'test'}


def _table(
  path: str, columns: Sequence[str], found: Summary
) -> Iterator[tuple[Place, Mapping[str, str]]]:
  """Rows of a CSV with a header; raises `UserError` where a column is missing."""
  wanted = [Column(name, required=True, strip=False) for name in columns]
  return read_table(path, wanted, found)


def _existing(folder: str, names: Sequence[str], found: Summary) -> str | None:
  """Path of the first of some lists of one kind; the others that there are get a note."""
  there = [name for name in names if os.path.exists(os.path.join(folder, name))]
  for other in there[1:]:
    found.note(f'{folder}: takes {there[0]}, not {other}; to take that, remove the first')
  return os.path.join(folder, there[0]) if there else None


class MsrVtt:
  """MSR-VTT by one of its three divisions.

  1K-A tests on 1,000 videos with one caption each; it trains on 9,000 with all captions,
  or on the 7,010 that are training and validation of the official division. That one is of
  6,513, 497 and 2,990 videos with all captions.
  """

  flags = frozenset({'annotations'})

  def __init__(self, division: str = ''):
    """A division by name.

    Args:
      division: '7k', 'full' (the official one), or '': 1K-A where its test list is there,
        else the official one.
    """
    self._division = division
    what = {
      '': 'MSR-VTT, 1K-A: videos video<i>.mp4; --annotations: folder of MSRVTT_data.json, '
      'MSRVTT_JSFUSION_test.csv and (else all others are trained on) MSRVTT_train.9k.csv '
      'or MSRVTT_train.7k.csv; without MSRVTT_JSFUSION_test.csv the official splits',
      '7k': 'MSR-VTT, 1K-A of 7,010 training videos; as msrvtt, by MSRVTT_train.7k.csv, else '
      'by the official splits that MSRVTT_data.json states',
      'full': 'MSR-VTT, the official splits, all captions; as msrvtt',
    }
    self.summary = what[division]

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists videos with all captions; of the test of 1K-A with the one of its list."""
    files = VideoFiles(existing_folder('path', request.path))
    folder = existing_folder('annotations', request.annotations or request.path)
    found = Summary()
    path = _existing(folder, _MSRVTT_CAPTIONS, found) or first_existing(
      'annotations', folder, _MSRVTT_CAPTIONS
    )
    content = read_json(path)
    captions, origins = _captions(path, content), _origins(path, content)
    test_list = os.path.join(folder, _MSRVTT_TEST)
    if self._division == '7k':
      first_existing('annotations', folder, [_MSRVTT_TEST])
      found.note('splits of the 1K-A protocol, 7,010 training videos')
      official = _official(folder, path, content, captions)
      rows = _seven_k(folder, test_list, captions, official, found)
    elif self._division == 'full':
      found.note('official splits')
      rows = _official(folder, path, content, captions)
    elif os.path.exists(test_list):
      found.note('splits of the 1K-A protocol')
      rows = _one_k_a(folder, test_list, captions, found)
    else:
      found.note(f'official splits, since {folder} holds no {_MSRVTT_TEST}')
      rows = _official(folder, path, content, captions)
    clips = [
      captioned_clip(files, name, split, said, listed=where, origin=origins.get(name, ''))
      for where, split, name, said in rows
    ]
    return Listing(clips, notes=found.lines())


_Rows = Iterator[tuple[Place, str, str, list[str]]]


def _one_k_a(
  folder: str, test_list: str, captions: Mapping[str, list[str]], found: Summary
) -> _Rows:
  """Place, split, video and captions of the clips of 1K-A."""
  test = list(_test_of_one_k_a(test_list, found))
  if train_list := _existing(folder, _MSRVTT_TRAIN, found):
    if not train_list.endswith(_MSRVTT_TRAIN[0]):
      found.note(f'trains on the list {train_list}')
    yield from _trained_on(train_list, captions, found)
  else:
    named = {name for _, _, name, _ in test}
    place = Place(test_list, 'not named')
    for name in captions:
      if name not in named:
        yield place, 'train', name, captions[name]
  yield from test


def _seven_k(
  folder: str,
  test_list: str,
  captions: Mapping[str, list[str]],
  official: _Rows,
  found: Summary,
) -> _Rows:
  """The clips of 1K-A's test, and of training and validation of the official division."""
  train_list = os.path.join(folder, _MSRVTT_TRAIN[1])
  if os.path.exists(train_list):
    yield from _trained_on(train_list, captions, found)
  else:
    for where, split, name, said in official:
      if split != 'test':
        yield where, 'train', name, said
  yield from _test_of_one_k_a(test_list, found)


def _trained_on(path: str, captions: Mapping[str, list[str]], found: Summary) -> _Rows:
  for where, row in _table(path, ['video_id'], found):
    name = row['video_id']
    if name not in captions:
      raise UserError(f'{where}: {name} has no caption')
    yield where, 'train', name, captions[name]


def _test_of_one_k_a(path: str, found: Summary) -> _Rows:
  for where, row in _table(path, ('video_id', 'sentence'), found):
    yield where, 'test', row['video_id'], [row['sentence']]


def _official(
  folder: str, path: str, content: Any, captions: Mapping[str, list[str]]
) -> _Rows:
  """Place, split, video and captions of the clips of the official division."""
  parts = [(path, content, captions)]
  more = os.path.join(folder, _MSRVTT_MORE)
  if os.path.basename(path) != _MSRVTT_CAPTIONS[0] and os.path.exists(more):
    other = read_json(more)
    parts.append((more, other, _captions(more, other)))
  for where, part, said in parts:
    videos = list(_videos(where, part))
    stated = [video.content.get('split') for video in videos]
    if not stated or None in stated:
      raise UserError(
        f'{where}: states no split of its videos; put {_MSRVTT_TEST} beside it'
      )
    for video in videos:
      name, split = video.name('video_id'), video.text('split')
      if split not in _OFFICIAL_SPLITS:
        expected = f'one of {", ".join(_OFFICIAL_SPLITS)}'
        entries.refuse(video.where, 'split', split, expected)
      if said.get(name):
        yield Place(where, f'video {name}'), _OFFICIAL_SPLITS[split], name, said[name]


def _videos(path: str, content: Any) -> Iterator[entries.Entry]:
  """The entries of a list's videos; none where it has none."""
  listed = content.get('videos')
  if listed is not None:
    yield from entries.listed(f'{path}, videos', 'video_id and split', listed)


def _captions(path: str, content: Any) -> Mapping[str, list[str]]:
  captions: dict[str, list[str]] = defaultdict(list)
  if not isinstance(content, dict) or 'sentences' not in content:
    raise UserError(f'{path}: expected sentences of video_id and caption')
  sentences = content['sentences']
  expected = 'video_id and caption'
  for sentence in entries.listed(f'{path}, sentences', expected, sentences):
    captions[sentence.name('video_id')].append(sentence.text('caption'))
  return captions


def _origins(path: str, content: Any) -> dict[str, str]:
  """YouTube's id of each clip's video, where the list states its URL."""
  urls = {
    video.name('video_id'): str(video.content.get('url'))
    for video in _videos(path, content)
  }
  found = {name: VIDEO_ID.search(url) for name, url in urls.items()}
  return {name: match[1] for name, match in found.items() if match}


class Msvd:
  """`video_corpus.csv` and the public lists of 1,200, 100 and 670 videos."""

  flags = frozenset({'annotations'})
  summary = (
    'MSVD: videos <id>_<start>_<end>.avi; --annotations: folder of video_corpus.csv, '
    'train_list.txt, val_list.txt, test_list.txt'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the videos of the three lists with their English captions."""
    files = VideoFiles(existing_folder('path', request.path))
    folder = existing_folder('annotations', request.annotations or request.path)
    corpus = first_existing('annotations', folder, ['video_corpus.csv'])
    captions: dict[str, list[str]] = defaultdict(list)
    origins = {}
    found = Summary()
    columns = ('VideoID', 'Start', 'End', 'Language', 'Description')
    for _, row in _table(corpus, columns, found):
      if row['Language'] == 'English' and row['Description'].strip():
        name = f'{row["VideoID"]}_{row["Start"]}_{row["End"]}'
        captions[name].append(row['Description'].strip())
        origins[name] = row['VideoID']
    clips = []
    for split in ('train', 'val', 'test'):
      list_path = first_existing('annotations', folder, [f'{split}_list.txt'])
      for number, name in enumerate(read_lines(list_path), start=1):
        if name not in captions:
          raise UserError(f'{list_path}: {name} has no English caption in {corpus}')
        place = Place(list_path, f'row {number}')
        clips.append(
          captioned_clip(
            files, name, split, captions[name], listed=place, origin=origins[name]
          )
        )
    return Listing(clips, notes=found.lines())


MSRVTT = MsrVtt()
MSRVTT_7K = MsrVtt('7k')
MSRVTT_FULL = MsrVtt('full')
MSVD = Msvd()

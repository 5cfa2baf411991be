"""Video description sets: MSR-VTT with its 1K-A test, MSVD."""

import csv
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from official.video.errors import UserError
from tfrecords_tools.datasets.captions import VIDEO_ID, captioned_clip
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.source import (
  Listing,
  SourceRequest,
  existing_folder,
  first_existing,
  read_json,
  read_lines,
)

_MSRVTT_CAPTIONS = ('MSRVTT_data.json', 'train_val_videodatainfo.json')
_MSRVTT_TEST = 'MSRVTT_JSFUSION_test.csv'
_MSRVTT_TRAIN = 'MSRVTT_train.9k.csv'


def _table(path: str, columns: Sequence[str]) -> list[dict[str, str]]:
  """Rows of a CSV with a header; raises `UserError` where a column is missing."""
  csv.field_size_limit(1 << 27)
  try:
    with open(path, encoding='utf-8-sig', newline='') as file:
      reader = csv.DictReader(file)
      missing = set(columns) - set(reader.fieldnames or ())
      if missing:
        raise UserError(f'{path}: lacks the columns {sorted(missing)}')
      return list(reader)
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise UserError(f'{path}: {error}') from error


class MsrVtt:
  """The 1K-A division: 9,000 videos with all captions, 1,000 with one each."""

  flags = frozenset({'annotations'})
  summary = (
    'MSR-VTT, 1K-A: videos video<i>.mp4; --annotations: folder of MSRVTT_data.json, '
    'MSRVTT_JSFUSION_test.csv and (else all others are trained on) MSRVTT_train.9k.csv'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists train with all captions of a video, test with the one of the test list."""
    files = VideoFiles(existing_folder('path', request.path))
    folder = existing_folder('annotations', request.annotations or request.path)
    captions_list = first_existing('annotations', folder, _MSRVTT_CAPTIONS)
    content = read_json(captions_list)
    captions, origins = _captions(captions_list, content), _origins(content)
    test_list = first_existing('annotations', folder, [_MSRVTT_TEST])
    test = {
      row['video_id']: row['sentence']
      for row in _table(test_list, ('video_id', 'sentence'))
    }
    train_list = os.path.join(folder, _MSRVTT_TRAIN)
    if os.path.exists(train_list):
      train = [row['video_id'] for row in _table(train_list, ('video_id',))]
    else:
      train = [video for video in captions if video not in test]
    if unknown := [video for video in train if video not in captions]:
      raise UserError(f'{train_list}: {unknown[0]} has no caption')
    texts = [('train', name, captions[name]) for name in train]
    texts += [('test', name, [sentence]) for name, sentence in test.items()]
    clips = [
      captioned_clip(files, name, split, said, origin=origins.get(name, ''))
      for split, name, said in texts
    ]
    return Listing(clips, notes=['splits of the 1K-A protocol'])


def _captions(path: str, content: Any) -> Mapping[str, list[str]]:
  captions: dict[str, list[str]] = defaultdict(list)
  try:
    for sentence in content['sentences']:
      captions[sentence['video_id']].append(sentence['caption'].strip())
  except (TypeError, KeyError, AttributeError) as error:
    raise UserError(f'{path}: expected sentences of video_id and caption') from error
  return captions


def _origins(content: Mapping[str, Any]) -> dict[str, str]:
  """YouTube's id of each clip's video, where the list states its URL."""
  urls = {
    str(video.get('video_id')): str(video.get('url'))
    for video in content.get('videos') or ()
    if isinstance(video, dict)
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
    for row in _table(corpus, ('VideoID', 'Start', 'End', 'Language', 'Description')):
      if row['Language'] == 'English' and row['Description'].strip():
        name = f'{row["VideoID"]}_{row["Start"]}_{row["End"]}'
        captions[name].append(row['Description'].strip())
        origins[name] = row['VideoID']
    clips = []
    for split in ('train', 'val', 'test'):
      list_path = first_existing('annotations', folder, [f'{split}_list.txt'])
      for name in read_lines(list_path):
        if name not in captions:
          raise UserError(f'{list_path}: {name} has no English caption in {corpus}')
        clips.append(
          captioned_clip(files, name, split, captions[name], origin=origins[name])
        )
    return Listing(clips)


MSRVTT = MsrVtt()
MSVD = Msvd()

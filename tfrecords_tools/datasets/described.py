"""Video description sets: MSR-VTT with its 1K-A test, MSVD."""

import csv
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence

from official.video.errors import UserError
from tfrecords_tools.datasets.captions import captioned_clip
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
    captions = self._captions(first_existing('annotations', folder, _MSRVTT_CAPTIONS))
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
    clips = [captioned_clip(files, name, 'train', captions[name]) for name in train]
    clips += [captioned_clip(files, name, 'test', [test[name]]) for name in test]
    return Listing(clips, notes=['splits of the 1K-A protocol'])

  def _captions(self, path: str) -> Mapping[str, list[str]]:
    captions: dict[str, list[str]] = defaultdict(list)
    content = read_json(path)
    try:
      for sentence in content['sentences']:
        captions[sentence['video_id']].append(sentence['caption'].strip())
    except (TypeError, KeyError, AttributeError) as error:
      raise UserError(f'{path}: expected sentences of video_id and caption') from error
    return captions


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
    for row in _table(corpus, ('VideoID', 'Start', 'End', 'Language', 'Description')):
      if row['Language'] == 'English' and row['Description'].strip():
        name = f'{row["VideoID"]}_{row["Start"]}_{row["End"]}'
        captions[name].append(row['Description'].strip())
    clips = []
    for split in ('train', 'val', 'test'):
      list_path = first_existing('annotations', folder, [f'{split}_list.txt'])
      for name in read_lines(list_path):
        if name not in captions:
          raise UserError(f'{list_path}: {name} has no English caption in {corpus}')
        clips.append(captioned_clip(files, name, split, captions[name]))
    return Listing(clips)


MSRVTT = MsrVtt()
MSVD = Msvd()

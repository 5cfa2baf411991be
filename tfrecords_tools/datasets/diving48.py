"""Diving48: dives by take-off, somersaults, twists and position, with its second labels."""

import os
from collections.abc import Sequence

from official.video.errors import UserError
from tfrecords_tools.datasets import entries
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.source import (
  Listing,
  SourceClip,
  SourceRequest,
  existing_folder,
  first_existing,
  read_json,
)
from tfrecords_tools.summary import Summary

_VOCABULARY = 'Diving48_vocab.json'


class Diving48:
  """`<vid_name>.mp4`, trimmed, by the lists V2."""

  flags = frozenset({'annotations'})
  summary = (
    'Diving48: videos <vid_name>.mp4; --annotations: folder of Diving48_V2_train.json, '
    'Diving48_V2_test.json and Diving48_vocab.json'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the dives of both splits."""
    files = VideoFiles(existing_folder('path', request.path))
    folder = existing_folder('annotations', request.annotations or request.path)
    names = _class_names(first_existing('annotations', folder, [_VOCABULARY]))
    clips, found = [], Summary()
    for split in ('train', 'test'):
      path = first_existing('annotations', folder, [f'Diving48_V2_{split}.json'])
      for entry in entries.listed(path, 'vid_name and label'):
        clips.append(_clip(entry, split, names, files, found))
    return Listing(clips, names, found.lines())


def _class_names(path: str) -> list[str]:
  """Names by id of a list of the four parts of each."""
  content = read_json(path)
  if not isinstance(content, list):
    raise UserError(f'{path}: expected a list of lists of texts, one a class')
  names = []
  for number, value in enumerate(content):
    key = f'class {number}'
    parts = [value] if isinstance(value, str) else entries.values(path, key, value)
    names.append(' '.join(entries.name(path, key, part) for part in parts))
    entries.name(path, key, names[-1])
  if not names or len(set(names)) < len(names):
    raise UserError(f'{path}: is empty, or names a class twice')
  return names


def _clip(
  entry: entries.Entry,
  split: str,
  names: Sequence[str],
  files: VideoFiles,
  found: Summary,
) -> SourceClip:
  name, label = entry.name('vid_name'), entry.whole('label', 0, len(names) - 1)
  first = entry.whole('start_frame') if entry.has('start_frame') else 0
  if entry.has('end_frame'):
    entry.whole('end_frame', first)
  if first:
    found.noticed('dives that are listed from a later frame on, taken whole', entry.where)
  path = files.first([name])
  return SourceClip(
    path=path,
    file=os.path.join(files.root, path),
    split=split,
    media_id=name,
    labels=(names[label],),
    # `<video>_<number of the dive>`.
    origin=name.rpartition('_')[0] or name,
    listed=entry.where,
  )


SOURCE = Diving48()

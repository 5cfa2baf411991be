"""Diving48: dives by take-off, somersaults, twists and position, with its second labels."""

import os
from collections.abc import Sequence
from typing import Any

from official.video.errors import UserError
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
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
      content = read_json(path)
      if not isinstance(content, list):
        raise UserError(f'{path}: expected a list of objects of vid_name and label')
      for number, entry in enumerate(content, start=1):
        where = Place(path, f'entry {number}')
        clips.append(_clip(where, entry, split, names, files, found))
    return Listing(clips, names, found.lines())


def _class_names(path: str) -> list[str]:
  """Names by id of a list of the four parts of each."""
  content = read_json(path)
  try:
    if not isinstance(content, list):
      raise TypeError(f'it is a {type(content).__name__}')
    names = [' '.join([entry] if isinstance(entry, str) else entry) for entry in content]
  except TypeError as error:
    raise UserError(f'{path}: expected a list of lists of texts, one a class') from error
  if not names or len(set(names)) < len(names):
    raise UserError(f'{path}: is empty, or names a class twice')
  return names


def _clip(
  where: Place,
  entry: Any,
  split: str,
  names: Sequence[str],
  files: VideoFiles,
  found: Summary,
) -> SourceClip:
  name, label = (
    entry.get(key) if isinstance(entry, dict) else None for key in ('vid_name', 'label')
  )
  if not isinstance(name, str) or not name:
    raise UserError(f'{where}: lacks vid_name')
  if type(label) is not int or not 0 <= label < len(names):
    raise UserError(
      f'{where}: label is {label!r}, expected a number of {_VOCABULARY}, '
      f'0 to {len(names) - 1}'
    )
  if entry.get('start_frame'):
    found.noticed('dives that are listed from a later frame on, taken whole', where)
  path = files.first([name])
  return SourceClip(
    path=path,
    file=os.path.join(files.root, path),
    split=split,
    media_id=name,
    labels=(names[label],),
    # `<video>_<number of the dive>`.
    origin=name.rpartition('_')[0] or name,
    listed=where,
  )


SOURCE = Diving48()

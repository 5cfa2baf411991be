"""HMDB51 with its official lists (`<class>_test_split<fold>.txt`)."""

import os
import re

from official.video.errors import UserError
from tfrecords_tools.datasets.files import ListedFiles
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
  SourceClip,
  SourceRequest,
  existing_folder,
  first_existing,
  read_lines,
  stem,
)
from tfrecords_tools.summary import Summary

_LISTS = ('test_train_splits', 'testTrainMulti_7030_splits')
_VIDEOS = ('hmdb51_org', 'videos')
_SPLITS = {'1': 'train', '2': 'test'}
_UNUSED = '0'


class Hmdb51:
  """A list a class: 1 is train, 2 is test, 0 is left out of the fold."""

  flags = frozenset({'annotations', 'fold'})
  summary = (
    '<class>/<video>.avi and test_train_splits/<class>_test_split<fold>.txt; '
    'splits train and test of --fold'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the videos of both splits of `request.fold` (1 to 3, default 1)."""
    root = existing_folder('path', request.path)
    if request.annotations:
      lists = existing_folder('annotations', request.annotations)
    else:
      lists = first_existing('path', root, _LISTS)
    folders = [os.path.join(root, name) for name in _VIDEOS]
    videos = next((path for path in folders if os.path.isdir(path)), root)
    pattern = re.compile(rf'(.+)_test_split{request.fold or 1}\.txt')
    names = sorted(m[1] for name in os.listdir(lists) if (m := pattern.fullmatch(name)))
    if not names:
      raise UserError(f'{lists}: holds no <class>_test_split{request.fold or 1}.txt')
    clips, found = [], Summary()
    files = ListedFiles(videos, found, anywhere=True)
    for label in names:
      list_path = os.path.join(lists, f'{label}_test_split{request.fold or 1}.txt')
      clips += self._class_clips(list_path, files, label, found)
    return Listing(clips, names, found.lines())

  def _class_clips(
    self, list_path: str, files: ListedFiles, label: str, found: Summary
  ) -> list[SourceClip]:
    clips = []
    for number, line in enumerate(read_lines(list_path), start=1):
      name, use = (['', *line.rsplit(None, 1)])[-2:]
      if not name or use not in (*_SPLITS, _UNUSED):
        raise UserError(f"{list_path}: {line!r}, expected '<video>.avi <0, 1 or 2>'")
      place = Place(list_path, f'row {number}')
      if use == _UNUSED:
        found.left_out('videos of neither split of the fold (0 in its lists)', place)
      else:
        path = f'{label}/{name}'
        clips.append(
          SourceClip(
            path, files.path(path), _SPLITS[use], stem(path), (label,), listed=place
          )
        )
    return clips


SOURCE = Hmdb51()

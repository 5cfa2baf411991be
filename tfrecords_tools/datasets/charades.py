"""Charades: videos of everyday activities, each with several of 157 classes."""

import dataclasses
from collections.abc import Iterator, Mapping

from official.video.errors import UserError
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.rows import Column, needed_seconds, read_table
from tfrecords_tools.datasets.segments import Film
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
  SourceClip,
  SourceRequest,
  existing_folder,
  first_existing,
  read_lines,
)
from tfrecords_tools.summary import Summary

_COLUMNS = (Column('id', required=True), Column('actions', required=True))


class Charades:
  """`<id>.mp4`, whole, with all labels of a video and where in it each action is."""

  flags = frozenset({'annotations'})
  summary = (
    'Charades: videos <id>.mp4; --annotations: folder of Charades_v1_train.csv, '
    'Charades_v1_test.csv and Charades_v1_classes.txt; several labels a clip '
    '(task.multi_label), and segments'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the videos of both splits."""
    files = VideoFiles(existing_folder('path', request.path))
    folder = existing_folder('annotations', request.annotations or request.path)
    classes = _classes(first_existing('annotations', folder, ['Charades_v1_classes.txt']))
    ids = {name: number for number, name in enumerate(classes.values())}
    clips, found = [], Summary()
    for split in ('train', 'test'):
      path = first_existing('annotations', folder, [f'Charades_v1_{split}.csv'])
      for where, row in read_table(path, _COLUMNS, found):
        if not row['id']:
          raise UserError(f'{where}: lacks the id of a video')
        clips.append(_clip(where, row, split, classes, ids, files, found))
    return Listing(clips, list(ids), found.lines())


def _classes(path: str) -> dict[str, str]:
  """Names by code, in order, of lines `c<number of three digits> <name>`."""
  classes = {}
  for number, line in enumerate(read_lines(path)):
    code, _, name = line.partition(' ')
    if code != f'c{number:03d}' or not name.strip():
      raise UserError(
        f"{path}, line {number + 1}: {line!r}, expected 'c{number:03d} <class>'"
      )
    classes[code] = name.strip()
  if len(set(classes.values())) < len(classes) or not classes:
    raise UserError(f'{path}: is empty, or names a class twice')
  return classes


def _actions(
  where: Place, cell: str, classes: Mapping[str, str]
) -> Iterator[tuple[str, float, float]]:
  """Class, start and end of each action of a cell `<code> <start> <end>;...`."""
  for action in filter(None, map(str.strip, cell.split(';'))):
    code, *times = action.split()
    if len(times) != 2:
      raise UserError(f"{where}: action {action!r}, expected '<class> <start> <end>'")
    if code not in classes:
      raise UserError(f'{where}: {code} is no class of Charades_v1_classes.txt')
    start, end = (needed_seconds(where, 'time of an action', time) for time in times)
    yield classes[code], start, end


def _clip(
  where: Place,
  row: Mapping[str, str],
  split: str,
  classes: Mapping[str, str],
  ids: Mapping[str, int],
  files: VideoFiles,
  found: Summary,
) -> SourceClip:
  film, labels = Film(split), []
  for label, start, end in _actions(where, row['actions'], classes):
    labels.append(label)
    film.add(where, [label], start, end, found)
  # A video is of its class wherever the action is, and where that is not known.
  return dataclasses.replace(
    film.clip(files, [row['id']], ids),
    labels=tuple(dict.fromkeys(labels)),
    labels_of_segments=False,
    listed=where,
  )


SOURCE = Charades()

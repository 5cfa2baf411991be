"""THUMOS14's temporal annotations: untrimmed videos with segments of twenty actions."""

import os
import re
from collections.abc import Mapping

from official.video.errors import UserError
from tfrecords_tools.datasets.activitynet import read_database
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.folder import walk_files
from tfrecords_tools.datasets.rows import needed_seconds, sorted_labels
from tfrecords_tools.datasets.segments import Film
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
  SourceRequest,
  existing_folder,
  only_lists,
  read_lines,
)
from tfrecords_tools.summary import Summary

_LIST = re.compile(r'(?P<label>.+)_(?P<split>val|test)\.txt')
# Lists call the first train, training or val, and the second val or test.
_SPLITS = {'video_validation_': 'val', 'video_test_': 'test'}
STARTS = tuple(_SPLITS)
# What annotators could not tell, which the protocol counts neither for nor against.
AMBIGUOUS = 'Ambiguous'


class Thumos14:
  """A list a class and split, or one JSON of the ActivityNet format; a record a video."""

  flags = frozenset({'annotations'})
  summary = (
    'THUMOS14, temporal localization: --annotations: folder of <class>_val.txt and '
    '<class>_test.txt, or a JSON of the ActivityNet format; videos '
    'video_validation_<n>.mp4, video_test_<n>.mp4; splits val (which is trained on) and test'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the videos that have segments; ambiguous ones are left out and counted."""
    files, found = VideoFiles(existing_folder('path', request.path)), Summary()
    given = request.annotations or request.path
    films = (
      read_database(given, found) if os.path.isfile(given) else read_lists(given, found)
    )
    for name, film in films.items():
      _set_split(film, name, found)
      clear = [segment for segment in film.segments if segment[0] != AMBIGUOUS]
      found.left_out('ambiguous segments', name, len(film.segments) - len(clear))
      film.segments = clear
      film.drop_repeats(name, found)
    films = {name: film for name, film in films.items() if film.segments}
    names = sorted_labels(
      {label for film in films.values() for label, _, _ in film.segments}
    )
    ids = {name: number for number, name in enumerate(names)}
    clips = [film.clip(files, [name], ids) for name, film in films.items()]
    return Listing(clips, names, found.lines())


def _set_split(film: Film, name: str, found: Summary) -> None:
  """Lets a video be of the split that its name tells, whatever a JSON calls it."""
  for start, split in _SPLITS.items():
    if name.startswith(start) and film.split != split:
      found.corrected(f'videos of split {film.split!r}, by their names of {split}', name)
      film.split = split


def _lists(folder: str) -> list[tuple[tuple[str, str], str]]:
  """Class and split, and path, of the lists below a folder."""
  existing_folder('annotations', folder)
  found = []
  for path in walk_files(folder):
    if match := _LIST.fullmatch(os.path.basename(path)):
      found.append(((match['label'], match['split']), os.path.join(folder, path)))
  if not found:
    raise UserError(
      f'--annotations={folder}: holds no <class>_val.txt or <class>_test.txt'
    )
  only_lists(found)
  return found


def read_lists(folder: str, found: Summary) -> Mapping[str, Film]:
  """Videos with their segments, by name; raises `UserError` for a row that is none."""
  films: dict[str, Film] = {}
  for (label, split), path in _lists(folder):
    for number, line in enumerate(read_lines(path), start=1):
      where, cells = Place(path, f'row {number}'), line.split()
      if len(cells) != 3:
        raise UserError(f"{where}: {line!r}, expected '<video> <start> <end>'")
      film = films.setdefault(cells[0], Film(split))
      if film.split != split:
        raise UserError(
          f'{where}: {cells[0]} is of {film.split} by another list, here of {split}'
        )
      start, end = (
        needed_seconds(where, name, cell)
        for name, cell in zip(('start', 'end'), cells[1:], strict=True)
      )
      film.add(where, [label], start, end, found)
  return films


SOURCE = Thumos14()

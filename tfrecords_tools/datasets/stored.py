"""Videos stored as JPEG frames, and lists of rows `path label frames` over them."""

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Sequence

from official.video.errors import UserError
from tfrecords_tools.datasets.folder import DEFAULT_SPLIT
from tfrecords_tools.datasets.source import (
  VIDEO_SUFFIXES,
  Place,
  SourceClip,
  SourceRequest,
  existing_folder,
  read_lines,
)
from tfrecords_tools.summary import Summary

# Of the frames of UCF101 and HMDB51 as CSTP extracts them; of Kinetics it is 30.
DEFAULT_FRAME_RATE = 25.0
_LIST_NAME = re.compile(r'(train|test|val)_?list(?:0(?P<fold>\d))?(?:_\w+)?_nframe\.txt')


@dataclasses.dataclass(frozen=True)
class StoredClip(SourceClip):
  """A clip whose frames are stored one by one.

  Attributes:
    num_frames: as its list says; None where it doesn't.
    key: of its value in a key-value store; '' where the store has none for it.
    prefix: that the names of its frames begin with; None where all frames have the same.
  """

  num_frames: int | None = None
  key: str = ''
  prefix: str | None = None


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of a list.

  Attributes:
    where: file and line, for messages.
    split: of the list.
    path: as listed.
    label: class id; -1 for none.
    num_frames: number of frames.
  """

  where: Place
  split: str
  path: str
  label: int
  num_frames: int

  @property
  def name(self) -> str:
    """The path without the suffix of the video that the frames came from."""
    name, suffix = os.path.splitext(self.path)
    return name if suffix.lower() in VIDEO_SUFFIXES else self.path

  @property
  def label_name(self) -> str:
    """The folder that the video is in; the id where there is none."""
    return os.path.basename(os.path.dirname(self.path)) or str(self.label)


def _row(where: Place, split: str, line: str) -> Row:
  """Parses a row; class names may hold spaces, so its numbers are taken off the end."""
  match = re.fullmatch(r'(.*[^\s,])[\s,]+(-1|\d+)[\s,]+(-1|\d+)', line, re.ASCII)
  if not match:
    raise UserError(
      f"{where}: {line!r}, expected '<path> <label id from 0> <number of frames>'"
    )
  return Row(where, split, match[1], int(match[2]), int(match[3]))


def _list_files(request: SourceRequest, folder: str) -> Iterator[tuple[str, str]]:
  """Splits and their lists: the file named, or those of the fold in the folder."""
  if os.path.isfile(folder):
    match = re.match('train|test|val', os.path.basename(folder))
    yield request.split or (match[0] if match else DEFAULT_SPLIT), folder
    return
  existing_folder('annotations', folder)
  fold = str(request.fold or 1)
  for name in sorted(os.listdir(folder)):
    match = _LIST_NAME.fullmatch(name)
    if match and match['fold'] in (None, fold):
      yield match[1], os.path.join(folder, name)


def _maps_one_to_one(pairs: Iterable[tuple[str, int]]) -> bool:
  pairs = set(pairs)
  return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def _are_swapped(rows: Sequence[Row]) -> bool:
  """Whether the rows are `path frames label`: other tools write their numbers so."""
  labels, counts = {row.label for row in rows}, {row.num_frames for row in rows}
  # As ids the second numbers would have to be few, and agree with the class folders.
  other = [
    (os.path.basename(os.path.dirname(r.path)) or str(r.num_frames), r) for r in rows
  ]
  if max(counts) >= 4 * len(counts) or not _maps_one_to_one(
    (name, row.num_frames) for name, row in other if row.num_frames >= 0
  ):
    return False
  as_written = _maps_one_to_one((r.label_name, r.label) for r in rows if r.label >= 0)
  impossible = min(counts) < 1 <= min(labels)
  return not as_written or impossible or max(labels) >= 10 * len(labels)


def _in_order(rows: list[Row], found: Summary) -> list[Row]:
  if not rows or not _are_swapped(rows):
    return rows
  found.corrected(
    'rows that name the frames before the label, read so', rows[0].where, len(rows)
  )
  return [
    dataclasses.replace(row, label=row.num_frames, num_frames=row.label) for row in rows
  ]


def read_rows(request: SourceRequest, folder: str, found: Summary) -> list[Row]:
  """Reads lists of `path label frames`, separated by spaces.

  Args:
    request: names the split of a single list and the fold.
    folder: a list, or a folder of lists such as trainlist01_nframe.txt.
    found: where corrections are reported.

  Raises:
    UserError: there is no list, it is empty, or has a row of another form.
  """
  rows: list[Row] = []
  splits: dict[str, str] = {}
  for split, path in _list_files(request, folder):
    if split in splits:
      raise UserError(
        f'{folder}: holds two lists of split {split}, '
        f'{os.path.basename(splits[split])} and {os.path.basename(path)}; name one by '
        '--annotations'
      )
    splits[split] = path
    lines = enumerate(read_lines(path), start=1)
    rows += [_row(Place(path, f'row {number}'), split, line) for number, line in lines]
  if not rows:
    seen = 'lists no clip' if splits else 'holds no list such as trainlist01_nframe.txt'
    raise UserError(f'{folder}: {seen}; name the list by --annotations')
  rows = _in_order(rows, found)
  for row in rows:
    if row.label < 0:
      found.corrected('labels -1, taken for none', row.where)
  return rows


def label_names(rows: Sequence[Row]) -> list[str]:
  """Class names by id, from the folders that the listed videos are in.

  Raises:
    UserError: an id has two names, a name two ids, or an id is past the limit.
  """
  names: dict[int, str] = {}
  ids: dict[str, int] = {}
  for row in rows:
    if row.label < 0:
      continue
    name = names.setdefault(row.label, row.label_name)
    label = ids.setdefault(row.label_name, row.label)
    if name != row.label_name or label != row.label:
      raise UserError(
        f'{row.where}: class {row.label_name} has the id {row.label}, but earlier '
        f'{name} has the id {label if name == row.label_name else row.label}'
      )
  if not names:
    return []
  if max(names) >= 100 * len(names) + 1000:
    raise UserError(
      f'{rows[0].where.file}: has class id {max(names)} among '
      f'{len(names)} classes, expected ids from 0'
    )
  # Ids of classes that these lists do not show keep their places.
  return [names.get(index, f'class {index}') for index in range(max(names) + 1)]


def frame_rate(request: SourceRequest) -> tuple[float, list[str]]:
  """Frames a second, which stored frames do not state, and a note if it is assumed."""
  if request.frame_rate:
    return request.frame_rate, []
  return DEFAULT_FRAME_RATE, [
    f'taking the frames for {DEFAULT_FRAME_RATE:g} a second; say otherwise by '
    '--frame_rate'
  ]

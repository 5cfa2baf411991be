"""Lists with a row a line: opened, cut into cells, their columns and cells understood.

One place for all sources, so that a cell means the same in each of them.
"""

import ast
import contextlib
import csv
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from official.video.errors import UserError
from tfrecords_tools.datasets.source import VIDEO_SUFFIXES, Place, open_list, reading
from tfrecords_tools.summary import Summary

_DELIMITERS = (',', '\t', ';', '|')
# Captions can be long, and csv's own limit is 128 KiB a cell.
_LONGEST_CELL = 1 << 27
# What spreadsheets and pandas write where a label is missing, and what sets without
# labels for their test split write.
_NO_LABEL = frozenset({'', '-1', '-1.0', 'nan', '<na>', 'null', '#n/a'})
_TIMECODE = re.compile(r'(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d*)?)', re.ASCII)
_NUMBER = re.compile(r'[+-]?\d+(\.\d*)?', re.ASCII)
# As half of the world writes 0.5.
_COMMA = re.compile(r'\d+,\d+', re.ASCII)
# Their microseconds still fit into a record.
MOST_SECONDS = 1e12
_SEVERAL = '|'
# A list of texts or of numbers as numpy writes it, without commas.
_ENTRY = r"""'[^']*'|"[^"]*"|[-+]?\d+(?:\.\d*)?"""
_SPACED = re.compile(rf'\[\s*(?:{_ENTRY})(?:\s+(?:{_ENTRY}))+\s*\]')
# What may follow the name of a split.
_SPLIT_WORD = re.compile(r'[\s_-]*(?:set|split|data|videos?)')
_SPLITS = {
  **dict.fromkeys(('train', 'training', 'trn'), 'train'),
  **dict.fromkeys(('val', 'dev'), 'val'),
  # Kept apart from val, as the lists that use them name their files by them.
  **{name: name for name in ('validation', 'valid', 'validate')},
  **dict.fromkeys(('test', 'testing', 'tst'), 'test'),
}


@dataclasses.dataclass(frozen=True)
class Column:
  """A column that a source reads.

  Attributes:
    name: what the source calls it.
    others: names that are taken for it where it isn't there, the first of them first.
    alike: names that a note mentions where it isn't there.
    required: whether a list without it is refused.
    strip: whether blanks around its cells mean nothing.
  """

  name: str
  others: tuple[str, ...] = ()
  alike: tuple[str, ...] = ()
  required: bool = False
  strip: bool = True


START = Column(
  'start', ('start_time', 'time_start', 'start_sec', 'start_seconds', 't_start', 'begin')
)
END = Column('end', ('end_time', 'time_end', 'end_sec', 'end_seconds', 't_end', 'stop'))
SPLIT = Column('split', ('subset', 'partition'), ('set', 'usage'))
LABEL = Column(
  'label',
  ('class', 'class_name', 'label_name', 'labels', 'category', 'action', 'activity'),
  ('target', 'y', 'class_id', 'label_id', 'tag', 'tags', 'verb'),
)


# --- Cells ----------------------------------------------------------------------------


def split_of_name(name: str) -> str | None:
  """The split that a usual name of one means, whatever its capitals; None for others."""
  plain = name.strip().casefold()
  end = _SPLIT_WORD.search(plain)
  return _SPLITS.get(plain) or (
    _SPLITS.get(plain[: end.start()]) if end and end.end() == len(plain) else None
  )


def split_of_cell(
  cell: str, found: Summary, where: object, default: str | None = None
) -> str:
  """The split of a row: usual names in their usual form, others as they are.

  Args:
    cell: what the list says.
    found: where corrections are reported.
    where: file and line, for messages.
    default: of an empty cell.

  Raises:
    UserError: the cell is empty, and there is no default.
  """
  if not (name := cell.strip()):
    if default is None:
      raise UserError(f'{where}: its split is empty; write train, val or test')
    return default
  split = split_of_name(name) or name
  if split != name:
    found.corrected(f'rows of split {name!r}, taken for {split}', where)
  return split


def _is_none(value: Any) -> bool:
  if isinstance(value, float):
    return math.isnan(value) or value == -1
  return value is None or str(value).strip().casefold() in _NO_LABEL


def _list_of_text(text: str) -> Any:
  """A list as JSON, Python, pandas or numpy write it; other texts as they are."""
  if _SPACED.fullmatch(text.strip()):
    return [entry.strip('\'"') for entry in re.findall(_ENTRY, text)]
  with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
    value = ast.literal_eval(text.strip())
    if isinstance(value, (list, tuple, set)):
      return sorted(value, key=str) if isinstance(value, set) else list(value)
  return text


def labels_of_cell(value: Any, found: Summary, where: object) -> tuple[str, ...]:
  """Class names of a row: a text, a number, or a list of both.

  Several in a text stand with | between them, or as a list of JSON, Python or numpy.

  Raises:
    UserError: it is something else.
  """
  if isinstance(value, str) and value.strip().startswith(('[', '(', '{')):
    value = _list_of_text(value)
  values = value if isinstance(value, list) else [value]
  if any(isinstance(v, (bool, dict, list)) for v in values):
    raise UserError(f'{where}: label is {value!r}, expected a name or a list of names')
  names: list[str] = []
  for entry in values:
    parts = entry.split(_SEVERAL) if isinstance(entry, str) else [entry]
    for part in parts:
      if _is_none(part):
        if part not in (None, ''):
          found.corrected(f'labels {str(part).strip()}, taken for none', where)
        continue
      name = f'{part:g}' if isinstance(part, float) else str(part).strip()
      if name != part and isinstance(part, str):
        found.corrected('labels with blanks around them, stripped', where)
      names.append(name)
  return tuple(dict.fromkeys(names))


def sorted_labels(names: Iterable[str]) -> list[str]:
  """Class names in order; where all are numbers, in the order of numbers."""
  names = sorted(names)
  if all(_NUMBER.fullmatch(name) for name in names):
    names.sort(key=float)
  return names


def seconds_of_cell(where: object, column: str, value: Any) -> float | None:
  """A time or rate of a row, also as `[hh:]mm:ss`; None where the cell is empty.

  Raises:
    UserError: it is no number of at least 0, or past all times.
  """
  if value is None or (isinstance(value, str) and not value.strip()):
    return None
  if isinstance(value, str) and (match := _TIMECODE.fullmatch(value.strip())):
    return (
      int(match[1] or 0) * 3600
      + int(match[2]) * 60
      + float(
        match[3].replace(',', '.')  # As subtitles write it.
      )
    )
  try:
    seconds = float(value)
  except (TypeError, ValueError, OverflowError):
    seconds = math.nan
  if not 0 <= seconds < MOST_SECONDS or isinstance(value, bool):
    text = str(value).strip()
    fix = f'; write {text.replace(",", ".")}' if _COMMA.fullmatch(text) else ''
    raise UserError(
      f'{where}: {column} is {value!r}, expected a number of at least 0{fix}'
    )
  return seconds


def needed_seconds(where: object, column: str, value: Any) -> float:
  """A time as `seconds_of_cell` reads it; raises `UserError` for an empty cell too."""
  seconds = seconds_of_cell(where, column, value)
  if seconds is None:
    raise UserError(f'{where}: {column} is {value!r}, expected a number of at least 0')
  return seconds


# --- Rows -----------------------------------------------------------------------------


def read_cells(
  path: str, delimiter: str = ',', strict: bool = False, quoted: bool = True
) -> Iterator[tuple[Place, list[str]]]:
  """Rows of a list that are not blank, as they are, with their lines.

  Args:
    path: the list.
    delimiter: between cells.
    strict: whether quotes must be closed.
    quoted: whether quotes mean anything; else a cell may hold some.

  Raises:
    UserError: the file can't be read, or is no text of this format.
  """
  csv.field_size_limit(_LONGEST_CELL)
  begun = 1
  try:
    with reading(path), open_list(path, newline='') as file:
      options: dict[str, Any] = {} if quoted else {'quoting': csv.QUOTE_NONE}
      reader = csv.reader(file, delimiter=delimiter, strict=strict, **options)
      for cells in reader:
        begun = reader.line_num + 1
        if cells:
          yield Place(path, f'line {reader.line_num}'), cells
  except csv.Error as error:
    place = Place(path, f'line {begun}')
    raise UserError(
      f"{place}: can't be cut into cells: {error}; are its quotes closed?"
    ) from error


def _normal(name: str) -> str:
  return re.sub(r'[\s_-]+', '_', name.strip().casefold())


def _match(header: Sequence[str], column: Column) -> list[str]:
  """Names of the header that may be taken for a column; its own name alone if there."""
  if column.name in header:
    return [column.name]
  names = {_normal(name): name for name in header}
  wanted = (_normal(column.name), *column.others)
  return [names[other] for other in wanted if other in names]


class Header:
  """The columns of a list: which of them is what the source reads."""

  def __init__(
    self, path: str, names: Sequence[str], columns: Sequence[Column], found: Summary
  ):
    """Matches names to columns.

    Raises:
      UserError: a name stands twice, or a required column is not there.
    """
    self.names = [name.strip() for name in names]
    self._taken: dict[str, Column] = {}
    named = [name for name in self.names if name]
    if len(set(named)) < len(named):
      raise UserError(f'{path}: the header names a column twice: {self.names}')
    self._check_required(path, columns)
    for column in columns:
      self._match(path, column, found)

  def _check_required(self, path: str, columns: Sequence[Column]) -> None:
    required = [column for column in columns if column.required]
    missing = [column for column in required if not _match(self.names, column)]
    if not missing:
      return
    if not any(self.names):
      raise UserError(
        f'{path}: is empty, expected a header that names the columns, such as '
        f'{",".join(column.name for column in columns[:2])}'
      )
    if self.names[0].startswith('#'):
      raise UserError(
        f'{path}: begins with {self.names[0]!r}, a comment; expected a header first, '
        'without #'
      )
    words = ' '.join(self.names).lower().split()
    if any(word.endswith(tuple(VIDEO_SUFFIXES)) for word in words):
      raise UserError(
        f'{path}: begins with {self.names}, expected a header that names the columns, '
        f'such as {",".join(column.name for column in columns[:2])}'
      )
    apart = self.names[0].split() if len(self.names) == 1 else []
    if apart and all(_match(apart, column) for column in missing):
      raise UserError(
        f'{path}: begins with {self.names[0]!r}, whose names have blanks between them; '
        'write commas'
      )
    normal = {_normal(name): name for name in self.names}
    alike = [normal[a] for column in missing for a in column.alike if a in normal]
    hint = f'; is it {alike[0]}?' if alike else ''
    if len(required) == 1:
      raise UserError(
        f'{path}: the header has columns {self.names}, expected one named '
        f'{missing[0].name}{hint}'
      )
    raise UserError(
      f'{path}: lacks the columns {sorted(column.name for column in missing)}{hint}'
    )

  def _match(self, path: str, column: Column, found: Summary) -> None:
    free = [name for name in self.names if name not in self._taken]
    matches = _match(free, column)
    if matches:
      self._taken[matches[0]] = column
      if matches[0] != column.name and not matches[0].startswith('clip/'):
        found.note(f'{path}: takes the column {matches[0]!r} for {column.name}')
      return
    normal = {_normal(name): name for name in free}
    for name in (normal[a] for a in column.alike if a in normal):
      found.note(f'{path}: has no column {column.name}; call {name!r} so if it is that')

  def row(self, cells: Iterable[Any]) -> dict[str, Any]:
    """Cells by column: those that the source reads stripped and by its names for them.

    A column without a name is none: an index of pandas, or what a last comma begins.
    """
    row = {}
    for name, cell in zip(self.names, cells, strict=False):
      if not name:
        continue
      column = self._taken.get(name)
      if column and column.strip and isinstance(cell, str):
        cell = cell.strip()
      row[column.name if column else name] = cell
    return row


def _header_delimiter(path: str, columns: Sequence[Column], default: str) -> str:
  """The delimiter under which the header has the required columns."""
  for delimiter in dict.fromkeys((default, *_DELIMITERS)):
    _, names = next(read_cells(path, delimiter), (None, []))
    names = [name.strip() for name in names]
    if all(_match(names, column) for column in columns if column.required):
      return delimiter
  return default


def read_table(
  path: str, columns: Sequence[Column], found: Summary, *, exact: bool = False
) -> Iterator[tuple[Place, Mapping[str, str]]]:
  """Rows of a table with a header, by column.

  Args:
    path: the list; .tsv is cut at tabs, others at commas or what the header shows.
    columns: those that the source reads; others keep their names.
    found: where recognised columns are reported.
    exact: whether every row must have as many cells as the header.

  Raises:
    UserError: the file can't be read, or lacks a column or a cell that is needed.
  """
  default = '\t' if path.lower().endswith('.tsv') else ','
  delimiter = _header_delimiter(path, columns, default)
  rows = read_cells(path, delimiter, strict=exact)
  _, names = next(rows, (None, []))
  header = Header(path, names, columns, found)
  required = [column.name for column in columns if column.required]
  for where, cells in rows:
    if not any(cell.strip() for cell in cells):
      found.left_out('blank rows', where)
      continue
    if exact and len(cells) != len(names):
      raise UserError(
        f'{where}: expected {len(names)} columns as in the header; quote values that '
        'hold the delimiter'
      )
    row = header.row(cells)
    if any(name not in row for name in required):
      raise UserError(f'{where}: lacks values of the columns {required}')
    yield where, row

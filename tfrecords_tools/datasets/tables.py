"""Lists with a row a clip: CSV, TSV and JSON lines."""

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.annotations import boxes_in_frame, check_fields
from tfrecords_tools.datasets.files import ListedFiles
from tfrecords_tools.datasets.folder import DEFAULT_SPLIT
from tfrecords_tools.datasets.rows import (
  END,
  LABEL,
  SPLIT,
  START,
  Column,
  Header,
  labels_of_cell,
  read_table,
  seconds_of_cell,
  split_of_cell,
)
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
  SourceClip,
  SourceRequest,
  open_list,
  parse_json,
  reading,
  stem,
)
from tfrecords_tools.summary import Summary

# A contract key in a list that says the same as one of our columns.
_ALIASES = {records.LABEL_STRING: 'label', records.MEDIA_ID: 'media_id'}
_PATH = Column(
  'path',
  ('video_path', 'file_path', 'filepath', 'video_file', 'filename', 'file_name', 'video'),
  (
    'file',
    'name',
    'clip',
    'video_name',
    'video_id',
    'youtube_id',
    'clip_id',
    'id',
    'url',
  ),
  strip=False,
)
_CAPTION = Column(
  'caption', (), ('sentence', 'description', 'text', 'captions'), strip=False
)
_LABEL = dataclasses.replace(LABEL, others=(records.LABEL_STRING, *LABEL.others))
_COLUMNS = (
  *(_PATH, _LABEL, START, END, SPLIT),
  *(Column('media_id', (records.MEDIA_ID,)), Column('frame_rate')),
)
# Short names of contract keys.
_SHORT = {'caption': records.TEXT_CONTENT, 'noun_phrases': records.TEXT_NOUN_PHRASES}
_WRITTEN_BY_US = frozenset(
  {records.DATA_PATH, records.START_TIMESTAMP, records.END_TIMESTAMP, records.LABEL_INDEX}
)
_SHOWN_COLUMNS = 8
Rows = Callable[[str, Summary], Iterator[tuple[Place, Mapping[str, Any]]]]


def _fields(where: Place, row: Mapping[str, Any]) -> dict[str, Any]:
  fields = {}
  for name, value in row.items():
    key = _SHORT.get(name, name)
    if name == 'noun_phrases' and isinstance(value, str):
      value = [phrase.strip() for phrase in value.split('|') if phrase.strip()]
    if key in _WRITTEN_BY_US or key.startswith('image/'):
      raise UserError(f'{where}: {key} is written by the conversion; drop or rename it')
    # A blank cell says nothing, also where a list would be read from it.
    if row[name] is None or row[name] == '':
      continue
    if key in records.FIELDS:
      fields[key] = value
    else:
      text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
      fields[records.EXTRA_PREFIX + key.removeprefix(records.EXTRA_PREFIX)] = text
  return fields


def _media_id(path: str, start: float, end: float | None) -> str:
  name = stem(path).lstrip('/')
  if not start and end is None:
    return name
  return f'{name}_{start:g}_{"end" if end is None else f"{end:g}"}'


def _text(value: Any) -> str:
  return '' if value is None else str(value)


def clip_of_row(
  row: Mapping[str, Any],
  where: Place,
  files: ListedFiles,
  split: str,
  found: Summary,
) -> SourceClip:
  """Makes a clip of a row.

  Args:
    row: column to value; unknown columns become fields of the record.
    where: file and line, for messages.
    files: finds those of the list.
    split: split of a row that names none.
    found: where corrections are reported.

  Raises:
    UserError: a column has a value it can't have.
  """
  row = {_ALIASES.get(key, key): value for key, value in row.items()}
  known = {column.name: row.pop(column.name, None) for column in _COLUMNS}
  path = known['path']
  if not isinstance(path, str) or not path.strip():
    raise UserError(f'{where}: path is {path!r}, expected a file name')
  if path != path.strip() and not files.has(path):
    found.corrected('paths with blanks around them, stripped', where)
    path = path.strip()
  start = seconds_of_cell(where, 'start', known['start']) or 0.0
  end = seconds_of_cell(where, 'end', known['end'])
  fields = _fields(where, row)
  check_fields(fields, str(where))
  fields = boxes_in_frame(fields, where, found)
  return SourceClip(
    path=path,
    file=files.path(path),
    split=split_of_cell(_text(known['split']), found, where, split),
    media_id=_text(known['media_id']) or _media_id(path, start, end),
    labels=labels_of_cell(known['label'], found, where),
    start=start,
    end=end,
    frame_rate=seconds_of_cell(where, 'frame_rate', known['frame_rate']) or None,
    fields=fields,
  )


def _key_of(column: str) -> str:
  return _SHORT.get(column, _ALIASES.get(column, column))


def _parse_cell(key: str, text: str) -> Any:
  """A cell of a contract column: lists as JSON, numbers as numbers."""
  field = records.FIELDS.get(key)
  if field is None or not text:
    return text
  if field.dtype == 'bytes' and not re.match(r'\s*\[\s*"', text):
    return text
  try:
    return json.loads(text)
  except (ValueError, RecursionError):
    return text


def _csv_rows(path: str, found: Summary) -> Iterator[tuple[Place, dict[str, Any]]]:
  path_column = dataclasses.replace(_PATH, required=True)
  columns = (path_column, *_COLUMNS[1:], _CAPTION)
  for where, row in read_table(path, columns, found, exact=True):
    yield where, {key: _parse_cell(_key_of(key), cell) for key, cell in row.items()}


def _jsonl_rows(path: str, found: Summary) -> Iterator[tuple[Place, dict[str, Any]]]:
  with reading(path), open_list(path) as file:
    for number, line in enumerate(file, start=1):
      where = Place(path, f'line {number}')
      if not line.strip():
        continue
      row = parse_json(line, where)
      if not isinstance(row, dict):
        raise UserError(f'{where}: expected a JSON object')
      yield where, Header(path, list(row), (*_COLUMNS, _CAPTION), found).row(row.values())


def _note_unread(clips: Sequence[SourceClip], path: str, found: Summary) -> None:
  """Notes the columns that no clip is made by, as they may be meant to."""
  extra = {key for clip in clips for key in clip.fields if key not in records.FIELDS}
  names = sorted(key.removeprefix(records.EXTRA_PREFIX) for key in extra)
  said = '\n'.join(found.lines())
  names = [name for name in names if f'call {name!r} so' not in said]
  if names:
    more = (
      f' and {len(names) - _SHOWN_COLUMNS} more' if len(names) > _SHOWN_COLUMNS else ''
    )
    found.note(
      f'{path}: columns that are only kept, as {records.EXTRA_PREFIX}<name>: '
      f'{", ".join(names[:_SHOWN_COLUMNS])}{more}'
    )


class Table:
  """A list with a row a clip; `rows` reads one of the formats."""

  flags = frozenset({'root', 'split'})

  def __init__(self, rows: Rows, summary: str):
    self._rows = rows
    self.summary = summary

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the rows of `request.path`."""
    path = request.path
    root = request.root or os.path.dirname(path)
    split = request.split or DEFAULT_SPLIT
    found = Summary()
    files = ListedFiles(root, found)
    clips = [
      clip_of_row(row, where, files, split, found)
      for where, row in self._rows(path, found)
    ]
    if not clips:
      raise UserError(f'--path={path}: lists no clip')
    _note_unread(clips, path, found)
    return Listing(clips, notes=found.lines())


_COMMON = (
  'columns path, label (several with | between them), start, end (seconds), split, '
  'media_id, frame_rate, caption, noun_phrases (| between them), also under usual names '
  'such as video_path, class, start_time, subset; a column '
  'named as a key of the record contract goes to that key, any other to extra/<name>'
)
CSV_SOURCE = Table(_csv_rows, f'table with a header (.tsv: tab-separated); {_COMMON}')
JSONL_SOURCE = Table(_jsonl_rows, 'one JSON object a line, fields as the columns of csv')

"""Lists with a row a clip: CSV, TSV and JSON lines."""

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.annotations import check_fields
from tfrecords_tools.datasets.folder import DEFAULT_SPLIT
from tfrecords_tools.datasets.source import Listing, SourceClip, SourceRequest, stem

_COLUMNS = ('path', 'label', 'start', 'end', 'split', 'media_id', 'frame_rate')
# A contract key in a list that says the same as one of our columns.
_ALIASES = {records.LABEL_STRING: 'label', records.MEDIA_ID: 'media_id'}
# Short names of contract keys.
_SHORT = {'caption': records.TEXT_CONTENT, 'noun_phrases': records.TEXT_NOUN_PHRASES}
_WRITTEN_BY_US = frozenset(
  {records.DATA_PATH, records.START_TIMESTAMP, records.END_TIMESTAMP, records.LABEL_INDEX}
)


def _seconds(where: str, column: str, value: Any) -> float | None:
  """A time or rate of a row; None where the cell is empty."""
  if value is None or value == '':
    return None
  try:
    seconds = float(value)
  except (TypeError, ValueError):
    seconds = math.nan
  if not 0 <= seconds < math.inf or isinstance(value, bool):
    raise UserError(f'{where}: {column} is {value!r}, expected a number of at least 0')
  return seconds


def _labels(where: str, value: Any) -> tuple[str, ...]:
  if value is None or value == '':
    return ()
  names = value if isinstance(value, list) else [value]
  for name in names:
    if isinstance(name, bool) or not isinstance(name, (str, int)) or name == '':
      raise UserError(f'{where}: label is {value!r}, expected a name or a list of names')
  return tuple(dict.fromkeys(str(name) for name in names))


def _fields(where: str, row: Mapping[str, Any]) -> dict[str, Any]:
  fields = {}
  for name, value in row.items():
    key = _SHORT.get(name, name)
    if name == 'noun_phrases' and isinstance(value, str):
      value = [phrase.strip() for phrase in value.split('|') if phrase.strip()]
    if key in _WRITTEN_BY_US or key.startswith('image/'):
      raise UserError(f'{where}: {key} is written by the conversion; drop or rename it')
    if value is None or value == '':
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


def clip_of_row(row: Mapping[str, Any], where: str, root: str, split: str) -> SourceClip:
  """Makes a clip of a row.

  Args:
    row: column to value; unknown columns become fields of the record.
    where: file and line, for messages.
    root: folder that relative paths start from.
    split: split of a row that names none.

  Raises:
    UserError: a column has a value it can't have.
  """
  row = {_ALIASES.get(key, key): value for key, value in row.items()}
  known = {column: row.pop(column, None) for column in _COLUMNS}
  path = known['path']
  if not isinstance(path, str) or not path:
    raise UserError(f'{where}: path is {path!r}, expected a file name')
  start = _seconds(where, 'start', known['start']) or 0.0
  end = _seconds(where, 'end', known['end'])
  fields = _fields(where, row)
  check_fields(fields, where)
  return SourceClip(
    path=path,
    file=os.path.join(root, path),
    split=str(known['split'] or split),
    media_id=str(known['media_id'] or _media_id(path, start, end)),
    labels=_labels(where, known['label']),
    start=start,
    end=end,
    frame_rate=_seconds(where, 'frame_rate', known['frame_rate']) or None,
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
  except json.JSONDecodeError:
    return text


def _csv_rows(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
  delimiter = '\t' if path.lower().endswith('.tsv') else ','
  # Captions can be long, and csv's own limit is 128 KiB a cell.
  csv.field_size_limit(1 << 27)
  with open(path, encoding='utf-8-sig', newline='') as file:
    reader = csv.DictReader(file, delimiter=delimiter, strict=True)
    columns = [name.strip() for name in reader.fieldnames or ()]
    if 'path' not in columns:
      raise UserError(
        f'{path}: the header has columns {columns}, expected one named path'
      )
    if len(set(columns)) < len(columns):
      raise UserError(f'{path}: the header names a column twice: {columns}')
    reader.fieldnames = columns
    for row in reader:
      if None in row or None in row.values():
        raise UserError(
          f'{path}, line {reader.line_num}: expected {len(columns)} columns as in the '
          'header; quote values that hold the delimiter'
        )
      yield (
        reader.line_num,
        {key: _parse_cell(_key_of(key), row[key]) for key in columns},
      )


def _jsonl_rows(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
  with open(path, encoding='utf-8-sig') as file:
    for number, line in enumerate(file, start=1):
      if not line.strip():
        continue
      try:
        row = json.loads(line)
      except json.JSONDecodeError as error:
        raise UserError(f'{path}, line {number}: is not JSON: {error}') from error
      if not isinstance(row, dict):
        raise UserError(f'{path}, line {number}: expected a JSON object')
      yield number, row


class Table:
  """A list with a row a clip; `rows` reads one of the formats."""

  flags = frozenset({'root', 'split'})

  def __init__(self, rows: Any, summary: str):
    self._rows = rows
    self.summary = summary

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the rows of `request.path`."""
    path = request.path
    root = request.root or os.path.dirname(path)
    split = request.split or DEFAULT_SPLIT
    try:
      clips = [
        clip_of_row(row, f'{path}, line {number}', root, split)
        for number, row in self._rows(path)
      ]
    except OSError as error:
      raise UserError(f'--path={path}: {error.strerror}') from error
    except (UnicodeDecodeError, csv.Error) as error:
      raise UserError(
        f'--path={path}: is not UTF-8 text of this format: {error}'
      ) from error
    if not clips:
      raise UserError(f'--path={path}: lists no clip')
    return Listing(clips)


_COMMON = (
  'columns path, label, start, end (seconds), split, media_id, frame_rate, caption, '
  'noun_phrases (| between them); a column '
  'named as a key of the record contract goes to that key, any other to extra/<name>'
)
CSV_SOURCE = Table(_csv_rows, f'table with a header (.tsv: tab-separated); {_COMMON}')
JSONL_SOURCE = Table(_jsonl_rows, 'one JSON object a line, fields as the columns of csv')

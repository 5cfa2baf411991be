r"""Shows what records hold: a summary, a record's keys, a contact sheet of clips.

  # The split in numbers, and the keys of its first record:
  python -m tfrecords_tools.inspect records/train.manifest.json

  # The keys of record 12:
  python -m tfrecords_tools.inspect records/train.manifest.json --record=12

  # Pictures of 20 clips, 6 frames each, as one page or one picture:
  python -m tfrecords_tools.inspect records/train.manifest.json --output=sheet.html \
      --clips=20 --frames=6

A folder or a TFRecord file may be named in place of a manifest; the records need not be
ours. Of a folder with several splits each is summed up.

Exit codes: 0 shown; 2 the request is wrong or the file can't be read.
"""

import argparse
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools import storage
from tfrecords_tools.commands import (
  EXIT_OK,
  Parser,
  number,
  printable,
  run_command,
  say,
)
from tfrecords_tools.record_sets import RecordSet, find_record_sets
from tfrecords_tools.validate import check_types

_SHEET_SUFFIXES = ('.html', '.png')
_SAMPLE_CHARACTERS = 48


class RecordFiles:
  """Random access to the records of a manifest or of files without one.

  Attributes:
    manifest: the manifest, None where there is none.
  """

  def __init__(self, found: RecordSet):
    self._path = found.path
    self.manifest = found.manifest
    paths = [os.path.join(found.folder, name) for name in found.files]
    if self.manifest:
      sizes = [shard.record_bytes for shard in self.manifest.shards]
    else:
      sizes = [self._scan(file) for file in paths]
    self._lengths: list[tuple[str, Sequence[int]]] = list(zip(paths, sizes, strict=True))

  def _scan(self, path: str) -> list[int]:
    try:
      with storage.open_to_read(path) as file:
        return records.scan_record_bytes(file, storage.size(path))
    except OSError as error:
      raise UserError(f'{path}: {error.strerror}') from error
    except records.RecordError as error:
      raise UserError(f'{path}: {error}') from error

  def frame_index(self) -> str:
    """A line about the indices of frames beside the files."""
    beside = [records.frame_index_name(path) for path, _ in self._lengths]
    sizes = [storage.size(path) for path in beside if storage.exists(path)]
    if not sizes:
      return 'index of frames: none; tfrecords_tools.index makes it'
    return (
      f'index of frames: beside {len(sizes)} of {len(beside)} files, '
      f'{sum(sizes) / 1e6:.1f} MB'
    )

  def __len__(self) -> int:
    return sum(len(lengths) for _, lengths in self._lengths)

  def _place(self, index: int) -> tuple[str, int, int]:
    """The file of a record, its number in there and where it starts."""
    number_in_file = index
    for path, lengths in self._lengths:
      if number_in_file < len(lengths):
        return path, number_in_file, sum(lengths[:number_in_file])
      number_in_file -= len(lengths)
    raise UserError(f'--record={index}: {self._path} has {len(self)} records, from 0')

  def read(self, index: int) -> dict[str, list]:
    """Reads one record; raises `UserError` naming the file if it can't be read."""
    path, number, offset = self._place(index)
    return _parsed(self._read(path, number, offset), f'{path}: record {number}')

  def read_clip(self, index: int) -> dict[str, list]:
    """Reads a record to be shown; raises `UserError` where it holds no frames, too."""
    path, number, offset = self._place(index)
    data, where = self._read(path, number, offset), f'{path}: record {number}'
    clip = _parsed(data, where)
    try:
      records.check_frames(data)
    except records.RecordError as error:
      raise UserError(f'{where} {error}') from error
    if problem := next(check_types(clip), None):
      raise UserError(f'{where}: {problem}')
    return clip

  def _read(self, path: str, index: int, offset: int) -> bytes:
    try:
      with storage.open_to_read(path) as file:
        file.seek(offset)
        left = storage.BoundedReader(file, storage.size(path) - offset)
        data = next(records.read_records(left), None)
      if data is None:
        raise UserError(f'{path}: ends before record {index}')
      return data
    except OSError as error:
      raise UserError(f'{path}: {error.strerror}') from error
    except records.RecordError as error:
      raise UserError(f'{path}: record {index} is damaged: {error}') from error


def _parsed(data: bytes, where: str) -> dict[str, list]:
  try:
    return records.decode_record(data)
  except DecodeError as error:
    raise UserError(f'{where} is not a SequenceExample') from error


def _shown(value: Any) -> str:
  """A value in a few characters, safe for a terminal."""
  if isinstance(value, float):
    return f'{value:g}'
  if not isinstance(value, bytes):
    return str(value)
  if value.startswith(b'\xff\xd8'):
    return f'JPEG of {len(value)} bytes'
  text = printable(value.decode(errors='backslashreplace'))
  return (
    text if len(text) <= _SAMPLE_CHARACTERS else text[: _SAMPLE_CHARACTERS - 3] + '...'
  )


def _describe_key(key: str, values: list) -> tuple[str, str, str, str, str]:
  nested = bool(values) and isinstance(values[0], list)
  leaves = list(itertools.chain.from_iterable(values)) if nested else values
  try:
    dtype = records.field_of(key).dtype
  except KeyError:
    names = {bytes: 'bytes', int: 'int64', float: 'float'}
    dtype = names[type(leaves[0])] if leaves else '?'
  count = f'{len(values)} steps' if nested else str(len(values))
  if nested and len(leaves) != len(values):
    count += f', {len(leaves)} values'
  return key, dtype, count, records.meaning_of(key), _shown(leaves[0]) if leaves else ''


def key_table(clip: Mapping[str, list]) -> list[str]:
  """Lines of a table: key, dtype, count, meaning and first value of each key."""
  header = ('key', 'dtype', 'count', 'meaning', 'first value')
  rows = [header, *(_describe_key(key, clip[key]) for key in sorted(clip))]
  widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
  return [
    '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for row in rows
  ]


def summary(manifest: records.Manifest) -> list[str]:
  """Lines about a split: its size, its arguments, its classes with their records."""
  size = sum(shard.size for shard in manifest.shards)
  labels = Counter(label for shard in manifest.shards for label in shard.labels)
  lines = [
    f'split {manifest.split}: {manifest.records} records in '
    f'{len(manifest.shards)} shards, {size / 1e6:.1f} MB; '
    f'{len(manifest.skipped)} sources skipped',
    f'arguments: {dict(manifest.arguments)}',
  ]
  if manifest.frame_rates:
    rates = [f'{rate:g} in {n} records' for rate, n in manifest.frame_rates.items()]
    lines.append(f'frames a second: {", ".join(rates)}')
  lines += [f'note {note.source}: {note.text}' for note in manifest.notes]
  # The manifest lists the first label only, and records are megabytes long.
  if manifest.label_names:
    lines.append('records of each class, by their first label:')
  lines += [
    f'class {index} {name}: {labels[index]} records'
    for index, name in enumerate(manifest.label_names)
  ]
  return lines


def _spread(total: int, count: int) -> Iterator[int]:
  """`count` of `total` indices, evenly spread from the first."""
  count = min(total, count)
  return ((k * total) // count for k in range(count))


def write_sheet(
  files: RecordFiles, title: str, output: str, clips: int, frames: int, height: int
) -> None:
  """Writes a contact sheet; the suffix of `output` chooses HTML or PNG."""
  # Pillow takes a third of a second that the tables need not wait for.
  from tfrecords_tools import contact_sheet

  rows = [
    contact_sheet.make_row(files.read_clip(index), frames, height)
    for index in _spread(len(files), clips)
  ]
  make = contact_sheet.html_sheet if output.endswith('.html') else contact_sheet.png_sheet
  with storage.whole_file(output) as file:
    file.write(make(printable(title), rows))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
  parser = Parser(prog='python -m tfrecords_tools.inspect', description=__doc__)
  add = parser.add_argument
  add('path', help='a manifest, a folder of records or a TFRecord file')
  add('--record', type=number(int, 0), help='print the keys of this record')
  add('--output', help='write a contact sheet to this .html or .png')
  add('--clips', type=number(int, 1), default=12, help='rows of the sheet; default 12')
  add('--frames', type=number(int, 1), default=6, help='frames of a row; default 6')
  add('--height', type=number(int, 16, 1024), default=128, help='pixels; default 128')
  return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
  r"""Shows what the flags ask for; returns the exit code."""
  flags = _parse(arguments)
  if flags.output and not flags.output.endswith(_SHEET_SUFFIXES):
    raise UserError(f'--output={flags.output}: expected a name ending in .html or .png')
  sets = find_record_sets(flags.path)
  shows = flags.record is not None or bool(flags.output)
  if len(sets) > 1 and shows:
    names = ', '.join(os.path.basename(found.path) for found in sets)
    raise UserError(f'{flags.path}: holds {names}; name one of them')
  if not shows:
    for found in sets:
      files = RecordFiles(found)
      text = summary(files.manifest) if files.manifest else [f'{len(files)} records']
      for line in [*text, files.frame_index()]:
        say(line)
  if len(sets) > 1:
    return EXIT_OK
  files = RecordFiles(sets[0])
  if flags.output:
    if not len(files):
      raise UserError(f'{flags.path}: holds no record to show')
    write_sheet(files, flags.path, flags.output, flags.clips, flags.frames, flags.height)
    say(f'wrote {flags.output}')
  if flags.record is not None or (len(files) and not flags.output):
    for line in key_table(files.read(flags.record or 0)):
      say(line)
  return EXIT_OK


if __name__ == '__main__':
  sys.exit(run_command(main))

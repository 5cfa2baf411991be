"""Done files of an embedding, kept until the output is written."""

import contextlib
import dataclasses
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from official.video import files
from official.video.data import records
from official.video.errors import UserError
from official.video.inference import tables


@dataclasses.dataclass(frozen=True)
class Entry:
  """A done file: where its record begins, how many rows, how wide its outputs are."""

  at: int
  rows: int
  widths: Mapping[str, int]


class Journal:
  """Done files, one TFRecord each: a line of JSON, then the arrays.

  The first record holds the settings. What a kill left behind the last whole record is
  cut off. Nobody else can have it at the same time.

  Attributes:
    failed: path to the reason, of files that turned out to give no rows.
    is_new: whether nobody began it before.
  """

  def __init__(self, path: str, settings: Mapping[str, Any]):
    """Opens the journal, or begins one.

    Raises:
      UserError: another process has it, or it is of other settings.
    """
    self._path, self._settings = path, settings
    self._entries: dict[str, Entry] = {}
    self.failed: dict[str, str] = {}
    self.is_new = False

  def __enter__(self) -> 'Journal':
    files.check_output(self._path, '--output', is_folder=False)
    with files.storage_errors(self._path):
      os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
    while not self._opened():
      self._file.close()
    try:
      self._read_all()
    except BaseException:
      self._file.close()
      raise
    return self

  def _opened(self) -> bool:
    """Opens the file and locks it; false where who had it has removed it meanwhile."""
    taken = f'{self._path}: another process is writing it; wait for its end'
    with files.storage_errors(self._path):
      self._file = files.opened_alone(self._path, 'a+b', taken)
    try:
      return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))
    except FileNotFoundError:
      return False

  def __exit__(self, *exception: object) -> None:
    self._file.close()

  def _read_all(self) -> None:
    self._file.seek(0)
    at = 0
    with contextlib.suppress(records.RecordError):
      for number, data in enumerate(records.read_records(self._file)):
        head = json.loads(data[: data.index(b'\n')])
        if not number:
          check_same(self._path, head, json.loads(json.dumps(self._settings)))
        elif 'failure' in head:
          self.failed[head['path']] = head['failure']
        else:
          self._entries[head['path']] = Entry(at, len(head['start']), head['widths'])
        at = self._file.tell()
    self._file.truncate(at)
    self.is_new = not at
    if self.is_new:
      self._append(json.dumps(self._settings).encode() + b'\n')

  def _append(self, data: bytes) -> int:
    self._file.seek(0, os.SEEK_END)
    at = self._file.tell()
    with files.storage_errors(self._path):
      records.write_record(self._file, data)
      self._file.flush()  # To the kernel, which keeps it when the process is killed.
    return at

  def done(self) -> Mapping[str, Entry]:
    """Entries by path."""
    return self._entries

  def seen(self) -> set[str]:
    """Files that are done, or failed."""
    return self._entries.keys() | self.failed.keys()

  def fail(self, path: str, reason: str) -> None:
    """Keeps that a file gives no rows."""
    if path not in self.failed:
      self._append(json.dumps({'path': path, 'failure': reason}).encode() + b'\n')
    self.failed[path] = reason

  def add(self, block: tables.Block) -> None:
    """Keeps the rows of a file."""
    widths = {name: values.shape[1] for name, values in block.outputs.items()}
    head = {
      'path': block.path[0],
      'start': block.start.tolist(),
      'end': block.end.tolist(),
      'widths': widths,
    }
    arrays = [values.astype('<f4').tobytes() for values in block.outputs.values()]
    at = self._append(json.dumps(head).encode() + b'\n' + b''.join(arrays))
    self._entries[block.path[0]] = Entry(at, len(block.path), widths)

  def take(self, blocks: Iterator[tables.Block]) -> set[str]:
    """Keeps the rows of an earlier output, where a file's follow one another.

    Returns:
      Its files.
    """
    found: set[str] = set()
    waiting: list[tables.Block] = []
    for block in blocks:
      changes = [
        row
        for row, pair in enumerate(itertools.pairwise(block.path), 1)
        if pair[0] != pair[1]
      ]
      for first, behind in itertools.pairwise([0, *changes, len(block.path)]):
        part = tables.part(block, first, behind)
        if waiting and waiting[0].path[0] != part.path[0]:
          self._take(waiting)
          waiting = []
        waiting.append(part)
        found.add(part.path[0])
    if waiting:
      self._take(waiting)
    return found

  def _take(self, parts: list[tables.Block]) -> None:
    if parts[0].path[0] not in self._entries:
      self.add(tables.joined(parts))

  def read(self, path: str) -> tables.Block:
    """The rows of a done file."""
    entry = self._entries[path]
    self._file.seek(entry.at)
    data = next(records.read_records(self._file))
    line, _, rest = data.partition(b'\n')
    head = json.loads(line)
    outputs, at = {}, 0
    for name, width in entry.widths.items():
      size = 4 * entry.rows * width
      values = np.frombuffer(rest[at : at + size], '<f4')
      outputs[name] = values.reshape(entry.rows, width)
      at += size
    start, end = (np.array(head[name], np.float64) for name in ('start', 'end'))
    return tables.Block([path] * entry.rows, start, end, outputs)

  def remove(self) -> None:
    """Removes its file, when the output is there or nothing is to be kept."""
    os.remove(self._path)


def check_same(output: str, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
  """Raises `UserError` where rows would not belong together."""
  folder = found.get(tables.FOLDER)
  if folder and folder != asked.get(tables.FOLDER):
    raise UserError(
      f'{output}: its paths are relative to {folder}; give the same command there, or name a '
      'new output'
    )
  for name, value in asked.items():
    if name in ('model', tables.FOLDER) or found.get(name) == value:
      continue
    if name == 'identity':
      raise UserError(
        f'{output}: holds features of another model, {found.get("model")}; name a new '
        'output, or remove it'
      )
    raise UserError(
      f'{output}: was made with {name} {found.get(name)!r}, here it is {value!r}; name a '
      'new output, or remove it'
    )

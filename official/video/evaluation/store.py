"""Rows of features on disk, appended while they are made and mapped into memory to be read.

A folder holds an .npy file an array, of as many rows each, and about.json: what they were
made of and how far. A process that is killed leaves a folder that the next goes on with.
What is no array, lists of what JSON has, lies in a file of lines, one a row.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, BinaryIO

import numpy as np

from official.video import files
from official.video.errors import UserError

ABOUT = 'about.json'
LOCK = 'lock'
# The kind of what is no array.
_LINES = 'lines'
# Seconds between looks at the disk: what a kill costs at most.
_EVERY = 5.0


class Store:
  """Arrays of as many rows each, by name.

  Attributes:
    folder: of the files.
    settings: what rows that belong together have in common.
    next: where whoever fills it has to go on, in numbers of his own.
    rows: that are there for good.
    done: whether all are.
  """

  def __init__(
    self, folder: str, settings: Mapping[str, Any] | None = None, renew: bool = False
  ):
    """Names a folder; it is looked at on entering a `with` statement.

    Args:
      folder: made where it is missing.
      settings: what rows that belong together have in common, as JSON has it.
      renew: whether rows of other settings are replaced, not refused.
    """
    self.folder, self.settings = folder, json.loads(json.dumps(settings or {}))
    self._renew, self._told = renew, False
    self.next = self.rows = 0
    self.done = False
    self._kinds: dict[str, list] = {}
    self._open: dict[str, BinaryIO] = {}
    self._count, self._kept = 0, time.monotonic()
    self._missing: list[str] = []

  def __enter__(self) -> 'Store':
    """Raises `UserError` where another process has it, or it holds other rows."""
    files.check_output(self.folder, '--features_dir')
    self._missing, parent = [], os.path.abspath(self.folder)
    while not os.path.isdir(parent):
      self._missing.append(parent)
      parent = os.path.dirname(parent)
    with files.storage_errors(self.folder):
      os.makedirs(self.folder, exist_ok=True)
      taken = f'{self.folder}: another process is writing it; wait for its end'
      self._lock = files.opened_alone(self._path(LOCK), 'a+b', taken)
    try:
      self.look()
    except BaseException:
      self._lock.close()
      raise
    return self

  def __exit__(self, *exception: object) -> None:
    for file in self._open.values():
      file.close()
    self._open = {}
    self._lock.close()
    if not self._count and not os.path.exists(self._path(ABOUT)):
      with contextlib.suppress(OSError):  # What was made for nothing goes again.
        os.remove(self._path(LOCK))
        for folder in self._missing:
          os.rmdir(folder)

  def _path(self, name: str) -> str:
    return os.path.join(self.folder, name)

  def look(self) -> None:
    """Sees how far it is, whoever writes it.

    Raises:
      UserError: it is damaged, or holds rows of other settings that are not replaced.
    """
    if not os.path.exists(self._path(ABOUT)):
      return
    about = read_about(self.folder)
    try:
      others = self.differing(about['settings'])
      following, rows = about['next'], about['rows']
      done, kinds = about['done'], about['arrays']
    except KeyError as error:
      raise _damaged(self.folder, f'has no {error}') from error
    for name, found in others.items():
      if self._renew:
        if not self._told:
          print(f'note: {self.folder}: begins anew, for {name} differs', file=sys.stderr)
        self._told = True
        return
      raise UserError(
        f'{self.folder}: holds features made with {name} {found}, here it is '
        f'{_short(self.settings[name])}; name another folder, or remove it'
      )
    self.next, self.rows, self.done, self._kinds = following, rows, done, kinds
    self._count = self.rows
    for name in self._kinds:
      if not os.path.exists(self._array(name)):
        raise _damaged(self.folder, f'lacks {os.path.basename(self._array(name))}')
      if os.path.getsize(self._array(name)) < self._at(name, self.rows):
        raise _damaged(self.folder, f'{os.path.basename(self._array(name))} is cut off')

  def differing(self, found: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What other rows were made with, those on disk by default, where it differs: by name."""
    found = read_about(self.folder).get('settings', {}) if found is None else found
    return {
      name: _short(found.get(name))
      for name, value in self.settings.items()
      if found.get(name) != value
    }

  def _array(self, name: str) -> str:
    is_lines = self._kinds[name][0] == _LINES
    return self._path(f'{name}.jsonl' if is_lines else f'{name}.npy')

  def _header(self, name: str, rows: int) -> bytes:
    kind, shape = self._kinds[name]
    if kind == _LINES:
      return b''
    made = npy_header(np.dtype(kind), (rows, *shape))
    assert len(made) == len(npy_header(np.dtype(kind), (0, *shape)))
    return made

  def _at(self, name: str, rows: int) -> int:
    """Bytes before the row of that number."""
    kind, shape = self._kinds[name]
    if kind == _LINES:
      return _behind_lines(self._array(name), rows)
    row = np.dtype(kind).itemsize * int(np.prod(shape, dtype=np.int64))
    return len(self._header(name, 0)) + rows * row

  def append(self, arrays: Mapping[str, np.ndarray | list]) -> None:
    """Adds rows: arrays [n, ...] of the same names, kinds and widths each time."""
    kinds = {name: _kind(array) for name, array in arrays.items()}
    with files.storage_errors(self.folder):
      if not self._kinds:
        self._kinds = kinds
        for name in arrays:
          with open(self._array(name), 'wb') as file:
            file.write(self._header(name, 0))
      if not self._open:
        for name in self._kinds:
          self._open[name] = open(self._array(name), 'r+b')  # noqa: SIM115
          self._open[name].seek(self._at(name, self._count))
          self._open[name].truncate()
      if kinds != self._kinds:
        raise _damaged(self.folder, 'holds other outputs')
      for name, array in arrays.items():
        self._open[name].write(_bytes(array))
    self._count += len(next(iter(arrays.values())))

  def mark(self, following: int, at_once: bool = False) -> None:
    """Tells that who goes on with all rows so far begins with `following`.

    It is written down now and then, or at once.
    """
    if at_once or time.monotonic() - self._kept >= _EVERY:
      self._keep(following, False)

  def finish(self) -> None:
    """Tells that all rows are there."""
    for name, file in self._open.items():
      with files.storage_errors(self.folder):
        file.seek(0)
        file.write(self._header(name, self._count))
    self._keep(self.next, True)

  def _keep(self, following: int, done: bool) -> None:
    with files.storage_errors(self.folder):
      for file in self._open.values():
        file.flush()
        os.fsync(file.fileno())  # The rows are there before they are counted.
      self.next, self.rows, self.done = following, self._count, done
      about = {
        'settings': self.settings,
        'next': following,
        'rows': self.rows,
        'done': done,
        'arrays': self._kinds,
      }
      text = json.dumps(about, indent=1) + '\n'
      files.write_atomically(self._path(ABOUT), text.encode())
    self._kept = time.monotonic()

  def arrays(self) -> dict[str, Any]:
    """Whole arrays by name, mapped into memory, and lists; they outlive the folder."""
    return {
      name: _read_lines(self._array(name), self.rows)
      if kind == _LINES
      else read_array(self._array(name))
      for name, (kind, _) in self._kinds.items()
    }


class Temporary:
  """Rows as of a `Store`, in files without a name: nothing is left when they are let go.

  Attributes:
    next: see there; so the others.
    rows: see there.
    done: see there.
  """

  def __init__(self):
    self.next = self.rows = 0
    self.done = False
    self._kinds: dict[str, list] = {}
    self._files: dict[str, IO[bytes]] = {}
    self._lines: dict[str, list] = {}

  def append(self, arrays: Mapping[str, np.ndarray | list]) -> None:
    """See `Store`."""
    kinds = {name: _kind(array) for name, array in arrays.items()}
    self._kinds = self._kinds or kinds
    if kinds != self._kinds:
      raise ValueError(f'rows of {kinds} behind rows of {self._kinds}')
    with files.storage_errors(tempfile.gettempdir()):
      for name, array in arrays.items():
        if isinstance(array, list):
          self._lines.setdefault(name, []).extend(array)
          continue
        if name not in self._files:
          self._files[name] = tempfile.TemporaryFile()  # noqa: SIM115
        self._files[name].write(_bytes(array))
        self._files[name].flush()
    self.rows += len(next(iter(arrays.values())))

  def mark(self, following: int) -> None:
    """Nobody can go on."""

  def finish(self) -> None:
    """See `Store`."""
    self.done = True

  def arrays(self) -> dict[str, Any]:
    """See `Store`; rows that come later are not in them."""
    made: dict[str, Any] = {}
    for name, (kind, shape) in self._kinds.items():
      whole = (self.rows, *shape)
      if kind == _LINES:
        made[name] = list(self._lines[name])
      elif 0 in whole:  # What is empty can't be mapped.
        made[name] = np.zeros(whole, kind)
      else:
        made[name] = np.memmap(self._files[name], np.dtype(kind), 'r', 0, whole)
    return made


def _kind(array: np.ndarray | list) -> list:
  """What rows that follow one another have in common."""
  if isinstance(array, list):
    return [_LINES, []]
  return [array.dtype.str, list(array.shape[1:])]


def _bytes(array: np.ndarray | list) -> Any:
  if isinstance(array, list):
    return ''.join(json.dumps(row) + '\n' for row in array).encode()
  return np.ascontiguousarray(array).data


def _behind_lines(path: str, count: int) -> int:
  """Bytes of the first lines of a file; more than it has where it has fewer lines."""
  if not count:
    return 0
  with open(path, 'rb') as file:
    for number, _ in enumerate(iter(file.readline, b''), 1):
      if number == count:
        return file.tell()
  return sys.maxsize


def _read_lines(path: str, count: int) -> list:
  with open(path, 'rb') as file:
    return [json.loads(file.readline()) for _ in range(count)]


def npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
  """The head of an .npy file; its length does not depend on the number of rows."""
  buffer = io.BytesIO()
  described = {
    'descr': np.lib.format.dtype_to_descr(dtype),
    'fortran_order': False,
    'shape': shape,
  }
  np.lib.format.write_array_header_1_0(buffer, described)
  return buffer.getvalue()


def check_folder(flag: str, folder: str, names: Sequence[str]) -> None:
  """Raises `UserError` where a folder that a flag names lacks arrays of these names."""
  for name in names:
    if not os.path.exists(os.path.join(folder, f'{name}.npy')):
      raise UserError(
        f'{flag} {folder}: is a folder without {name}.npy; give a file that embed wrote, '
        'or a folder of features that evaluate --features_dir kept'
      )


def read_array(path: str) -> np.ndarray:
  """An .npy file, mapped into memory.

  Raises:
    UserError: it can't be read.
  """
  try:
    array = np.load(path, mmap_mode='r', allow_pickle=False)
  except FileNotFoundError as error:
    raise UserError(f'{path}: no such file') from error
  except files.NPZ_ERRORS as error:
    # What is empty can't be mapped.
    with contextlib.suppress(*files.NPZ_ERRORS):
      return np.load(path, allow_pickle=False)
    raise UserError(f'{path}: no whole .npy file ({error}); make it again') from error
  return array


def read_about(folder: str) -> dict[str, Any]:
  """What a folder's about.json holds.

  Raises:
    UserError: it can't be read.
  """
  try:
    with open(os.path.join(folder, ABOUT), 'rb') as file:
      about = json.loads(file.read())
  except (OSError, ValueError, RecursionError) as error:
    raise _damaged(folder, f'{ABOUT} cannot be read') from error
  if not isinstance(about, dict):
    raise _damaged(folder, f'{ABOUT} holds no mapping')
  return about


def _damaged(folder: str, reason: str) -> UserError:
  return UserError(f'{folder}: {reason}; remove the folder, to encode again')


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 60 else f'{text[:57]}...'

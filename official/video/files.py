"""Paths as people write them, and writing result files whole or not at all.

A path is bytes: what exists is meant by its name, whatever characters that holds.
"""

import contextlib
import errno
import glob
import itertools
import os
import pathlib
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO

from official.video.errors import UserError

# In the environment: the folder of downloaded weights; the flag --zoo sets it.
ZOO = 'VIDGARDEN_ZOO'


def is_remote(path: str | os.PathLike[str]) -> bool:
  """Whether a path is a URL such as gs://bucket/run."""
  return '://' in os.fspath(path)


# Folders opened here: their descriptors are the names that TensorFlow is given.
_opened: dict[str, int] = {}
# In the name of one path, and on either side of it; each costs a look at the disk for
# each path of a list.
_MOST_COMMAS = 7
_MOST_BLANKS = 2
_PATTERN = frozenset('*?[]{}\\')


def _is_text(path: str) -> bool:
  """Whether UTF-8 can write it; Python marks the bytes of other names by surrogates."""
  try:
    path.encode()
  except UnicodeEncodeError:
    return False
  return True


def literal(path: str | os.PathLike[str]) -> str:
  r"""A name of a local path that TensorFlow takes as it is, never as a pattern.

  Where TensorFlow looks for checkpoints it expands `*`, `?`, `[` and `\`, and knows no
  way to write them. A path without them is returned unchanged; else its folder is opened,
  and named by the descriptor.

  Args:
    path: a file, a checkpoint's prefix or a folder; it need not exist, its folder must.

  Raises:
    UserError: the system has no names for descriptors, or the file's own name is none.
  """
  path = os.fspath(path)
  if is_remote(path) or (not _PATTERN & set(path) and _is_text(path)):
    return path
  return _through_descriptor(path, lambda part: not _PATTERN & set(part))


def encodable(path: str | os.PathLike[str], make: bool = False) -> str:
  """As `literal`, but for paths whose bytes are no UTF-8 only: TensorFlow writes no other.

  Args:
    path: see there.
    make: whether such a path is a folder, to be made where there is none.

  Raises:
    UserError: as there.
  """
  path = os.fspath(path)
  if is_remote(path) or _is_text(path):
    return path
  if make:
    with contextlib.suppress(OSError):  # Said by who writes to it.
      os.makedirs(path, exist_ok=True)
  return _through_descriptor(path, lambda part: True)


def _through_descriptor(path: str, fits: Callable[[str], bool]) -> str:
  folder, rest = os.path.abspath(path), ''
  while not os.path.isdir(folder):
    folder, name = os.path.split(folder)
    rest = os.path.join(name, rest) if rest else name
  if not os.path.isdir('/proc/self/fd') or not (fits(rest) and _is_text(rest)):
    wrong = next((repr(c) for c in sorted(_PATTERN & set(path))), '')
    reason = (
      f'takes {wrong} for a pattern' if _is_text(path) else 'reads UTF-8 names only'
    )
    raise UserError(f'{path}: TensorFlow {reason}; rename the file or its folder')
  descriptor = _opened.get(folder)
  # A folder of the same name may have taken its place.
  if descriptor is None or not os.path.samestat(os.fstat(descriptor), os.stat(folder)):
    descriptor = _opened[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
  return f'/proc/self/fd/{descriptor}' + (f'/{rest}' if rest else '')


def shown(text: str) -> str:
  """A text in which folders have their own names again; see `literal`."""
  names = {str(descriptor): folder for folder, descriptor in _opened.items()}
  return re.sub(r'/proc/self/fd/(\d+)', lambda match: names.get(match[1], match[0]), text)


def matches(path: str) -> list[str]:
  """The files or folders that a path or a pattern names, sorted.

  What exists is taken by its name, and so are the folders in front of a pattern, whatever
  characters they hold. Nothing is found by a path that is not there.
  """
  if is_remote(path):
    import tensorflow as tf

    return sorted(tf.io.gfile.glob(path))
  if os.path.exists(path):
    return [path]
  there, rest = path, ''
  while there and not os.path.exists(there):
    head, name = os.path.split(there)
    if head == there:
      break
    there, rest = head, os.path.join(name, rest) if rest else name
  pattern = os.path.join(glob.escape(there), rest)
  return sorted(glob.glob(pattern, include_hidden=True))


def _trimmed(text: str) -> list[str]:
  """A text without some of the blanks around it, those with most of them first."""
  before = len(text) - len(text.lstrip())
  after = len(text.rstrip()) if text.strip() else len(text)
  begins = [*range(min(before, _MOST_BLANKS) + 1), before]
  ends = [*range(len(text), max(after, len(text) - _MOST_BLANKS) - 1, -1), after]
  pairs = sorted(itertools.product(begins, ends), key=lambda p: p[0] - p[1])
  return list(dict.fromkeys(text[begin:end] for begin, end in pairs))


def split_paths(text: str) -> list[str]:
  """The paths and patterns of a list with commas.

  A comma belongs to a path where one that holds it is there, the longest first. Blanks
  around a path that are no part of it are dropped.
  """
  parts = text.split(',')
  found, begin = [], 0
  while begin < len(parts):
    last = min(len(parts), begin + _MOST_COMMAS + 1)
    joined = [','.join(parts[begin:end]) for end in range(last, begin, -1)]
    names = [name for part in joined for name in _trimmed(part)]
    known = (name for name in names if name and not is_remote(name) and _is_named(name))
    path = next(known, parts[begin].strip())
    if path:
      found.append(path)
    begin += path.count(',') + 1
  return found


def is_there(text: str) -> bool:
  """Whether a text names local files: a path, a pattern, a checkpoint, or a list of them."""
  paths = split_paths(text)
  return bool(paths) and all(not is_remote(path) and _is_named(path) for path in paths)


def _is_named(path: str) -> bool:
  """Whether something is there; a checkpoint's prefix is only part of its files' names."""
  return bool(matches(path)) or os.path.exists(f'{path}.index')


# What reading a damaged .npz raises, wherever the damage is.
NPZ_ERRORS = (
  *(OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, SyntaxError),
  *(RuntimeError, MemoryError, OverflowError, struct.error, zlib.error),
  zipfile.BadZipFile,
)


def check_output(
  path: str | os.PathLike[str],
  flag: str,
  is_folder: bool = True,
  inputs: Iterable[str] = (),
) -> None:
  """Looks whether a result can be written, before the work for it; makes nothing.

  Args:
    path: that will be written; its folders need not exist. A remote one is not looked at.
    flag: that named it, for the message.
    is_folder: whether it is a folder for files, else a file.
    inputs: what is read, which it may not take the place of.

  Raises:
    UserError: something else is there, or its file system is full or read-only.
  """
  path = os.fspath(path)
  if is_remote(path):
    return
  place = os.path.abspath(path)
  for given in inputs:
    if is_same(path, given):
      raise UserError(f'{flag} {path}: is what is read; name another file')
  if os.path.lexists(place) and os.path.isdir(place) != is_folder:
    found, wanted = ('a file', 'folder') if is_folder else ('a folder', 'file')
    raise UserError(f'{flag} {path}: is {found}; name a {wanted}')
  if not is_folder and os.path.exists(place) and not os.path.isfile(place):
    # A file would take the place of the device.
    raise UserError(f'{flag} {path}: is no ordinary file; name another')
  if not is_folder:
    place = os.path.dirname(place)
  while not os.path.lexists(place):
    place = os.path.dirname(place)
  reason = None
  if not os.path.isdir(place):
    reason = f'{place} is no folder'
  elif os.statvfs(place).f_flag & os.ST_RDONLY:
    reason = os.strerror(errno.EROFS)
  elif not os.access(place, os.W_OK | os.X_OK):
    reason = os.strerror(errno.EACCES)
  elif not os.statvfs(place).f_bavail:
    reason = os.strerror(errno.ENOSPC)
  if reason:
    raise UserError(f"{flag} {path}: can't be written: {reason}; name another place")


def is_same(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
  """Whether two paths lead to one file, whatever they are called."""
  try:
    return os.path.samefile(path, other)
  except OSError:
    return os.path.abspath(path) == os.path.abspath(other)


def opened_alone(path: str, mode: str, taken: str) -> IO:
  """A file that no other process has, as long as it is open or its process lives.

  Args:
    path: of a local file.
    mode: as of `open`.
    taken: what to say where another process has it.

  Raises:
    UserError: another one has it.
  """
  import fcntl

  file = open(path, mode)  # noqa: SIM115
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    file.close()
    raise UserError(taken) from error
  return file


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
  """Writes a file so that a reader sees the old content or the new, never a part.

  Args:
    path: the file; its folder is made where it does not exist. On a remote file system
      (gs://, s3://) objects appear when they are whole.
    data: the content.
  """
  if is_remote(path):
    import tensorflow as tf

    with tf.io.gfile.GFile(os.fspath(path), 'wb') as file:
      file.write(data)
    return
  path = pathlib.Path(path)
  if path.exists() and not path.is_file():  # A device or a pipe is never replaced.
    raise OSError(errno.EINVAL, 'is no ordinary file', str(path))
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    # mkstemp makes files that only their owner can read.
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)
    os.replace(temporary, path)
  except BaseException:
    pathlib.Path(temporary).unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def storage_errors(folder: str) -> Iterator[None]:
  """Turns what a full disk or a missing permission raises into a `UserError`.

  Args:
    folder: where is written, for the message.
  """
  try:
    yield
  except OSError as error:
    raise UserError(
      f"{error.filename or folder}: can't be written: {error.strerror or error}"
    ) from error
  except Exception as error:
    if type(error).__module__.partition('.')[0] != 'tensorflow':
      raise
    import tensorflow as tf

    kinds = (
      tf.errors.ResourceExhaustedError,
      tf.errors.PermissionDeniedError,
      tf.errors.FailedPreconditionError,
      tf.errors.UnknownError,
    )
    if not isinstance(error, kinds):
      raise
    reason = next(
      (sign for sign in _STORAGE_SIGNS if sign.lower() in error.message.lower()), None
    )
    if reason is None:
      raise
    raise UserError(f"{folder}: can't be written: {reason}") from error


_STORAGE_SIGNS = (
  'No space left on device',
  'Read-only file system',
  'Permission denied',
  'Disk quota exceeded',
  'Input/output error',
)

"""Writing result files whole or not at all, here or on a remote file system."""

import contextlib
import errno
import os
import pathlib
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator

from official.video.errors import UserError


def is_remote(path: str | os.PathLike[str]) -> bool:
  """Whether a path is a URL such as gs://bucket/run."""
  return '://' in os.fspath(path)


# Folders opened by `literal`: their descriptors are the names that TensorFlow is given.
_opened: dict[str, int] = {}
_PATTERN = frozenset('*?[]{}\\')


def literal(path: str | os.PathLike[str]) -> str:
  r"""A name of a local path that TensorFlow takes as it is, never as a pattern.

  Where TensorFlow looks for checkpoints it expands `*`, `?`, `[` and `\`, and knows no
  way to write them. A path without them is returned unchanged; else its folder is opened,
  and named by the descriptor.

  Args:
    path: a file, a checkpoint's prefix or a folder; it need not exist, its folder must.

  Raises:
    UserError: the system has no names for descriptors.
  """
  path = os.fspath(path)
  if is_remote(path) or not _PATTERN & set(path):
    return path
  folder, name = os.path.split(os.path.abspath(path))
  if not os.path.isdir('/proc/self/fd') or _PATTERN & set(name):
    wrong = sorted(_PATTERN & set(path))[0]
    raise UserError(
      f'{path}: TensorFlow takes {wrong!r} for a pattern; rename the file or its folder'
    )
  descriptor = _opened.get(folder)
  # A folder of the same name may have taken its place.
  if descriptor is None or not os.path.samestat(os.fstat(descriptor), os.stat(folder)):
    descriptor = _opened[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
  return f'/proc/self/fd/{descriptor}/{name}'


# What reading a damaged .npz raises, wherever the damage is.
NPZ_ERRORS = (
  *(OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, SyntaxError),
  *(RuntimeError, MemoryError, OverflowError, struct.error, zlib.error),
  zipfile.BadZipFile,
)


def check_output(path: str | os.PathLike[str], flag: str, is_folder: bool = True) -> None:
  """Looks whether a result can be written, before the work for it; makes nothing.

  Args:
    path: that will be written; its folders need not exist. A remote one is not looked at.
    flag: that named it, for the message.
    is_folder: whether it is a folder for files, else a file.

  Raises:
    UserError: something else is there, or its file system is full or read-only.
  """
  path = os.fspath(path)
  if is_remote(path):
    return
  place = os.path.abspath(path)
  if os.path.lexists(place) and os.path.isdir(place) != is_folder:
    found, wanted = ('a file', 'folder') if is_folder else ('a folder', 'file')
    raise UserError(f'{flag} {path}: is {found}; name a {wanted}')
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
  import tensorflow as tf

  try:
    yield
  except OSError as error:
    raise UserError(
      f"{error.filename or folder}: can't be written: {error.strerror or error}"
    ) from error
  except (
    tf.errors.ResourceExhaustedError,
    tf.errors.PermissionDeniedError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnknownError,
  ) as error:
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

"""Where conversions are kept: the local file system, or what Beam reaches (`gs://`, ...).

Beam's file systems come with its extras, such as `apache-beam[gcp]`, and are imported for
paths with a scheme only. Local files are written through the system's own calls, which
give what object stores don't: a sync to disk and a lock.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from official.video.errors import UserError
from tfrecords_tools.commands import describe_os_error
from tfrecords_tools.optional import import_beam

TEMPORARY_SUFFIX = '.tmp'
_FIXES = {
  errno.ENOSPC: 'free space there; the same command then goes on from here',
  errno.EDQUOT: 'free space there; the same command then goes on from here',
  errno.EFBIG: 'use a file system that takes larger files, or smaller shards',
  errno.EROFS: 'choose a folder that can be written',
  errno.EACCES: 'choose a folder that you may write to, or have its permissions changed',
  errno.EPERM: 'choose a folder that you may write to, or have its permissions changed',
  errno.ENOTDIR: 'a file stands where a folder has to be; choose another folder',
  errno.EEXIST: 'a file stands where a folder has to be; choose another folder',
}
# A remote lock is renewed this often, and void when it is older than the second.
_RENEW_SECONDS = 30.0
_VOID_SECONDS = 300.0
_BLOCK = 1 << 20


def is_remote(path: str) -> bool:
  """Whether a path has a scheme, such as gs://."""
  return '://' in path


def describe_write_error(error: OSError) -> str:
  """One line for a full disk, a read-only folder and the like, with the remedy."""
  fix = _FIXES.get(error.errno or 0)
  return f'{describe_os_error(error)}{f"; {fix}" if fix else ""}'


def _file_systems(path: str) -> Any:
  """Beam's file systems; raises `UserError` where none is installed for the scheme."""
  import_beam(path)
  from apache_beam.io.filesystems import FileSystems

  try:
    FileSystems.get_filesystem(path)
  except ValueError as error:
    scheme = path.partition('://')[0]
    raise UserError(
      f'{path}: no file system is installed for {scheme}://; for gs:// install '
      'apache-beam[gcp], for s3:// apache-beam[aws], or mount it as a folder'
    ) from error
  return FileSystems


def exists(path: str) -> bool:
  """Whether there is a file or folder."""
  return _file_systems(path).exists(path) if is_remote(path) else os.path.exists(path)


def size(path: str) -> int:
  """Bytes of a file; raises `OSError` where there is none."""
  if not is_remote(path):
    return os.path.getsize(path)
  systems = _file_systems(path)
  if not systems.exists(path):
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
  return systems.get_filesystem(path).size(path)


def open_to_read(path: str) -> BinaryIO:
  """Opens a file that can be read and sought; raises `OSError` where there is none."""
  if not is_remote(path):
    return open(path, 'rb')
  size(path)
  return _file_systems(path).open(path, compression_type='uncompressed')


class BoundedReader:
  """Reads no further than a file goes, whatever number of bytes is asked for."""

  def __init__(self, file: BinaryIO, size: int):
    """Reads `size` bytes of `file` at most."""
    self._file = file
    self._left = size

  def read(self, size: int) -> bytes:
    """Reads `size` bytes, fewer at the end."""
    # A damaged record can state more bytes than any memory has.
    data = self._file.read(min(size, self._left))
    self._left -= len(data)
    return data


class HashingReader(BoundedReader):
  """A file that hashes what is read of it."""

  def __init__(self, file: BinaryIO, size: int):
    """Reads `size` bytes of `file` at most."""
    super().__init__(file, size)
    self._hash = hashlib.sha256()

  def read(self, size: int) -> bytes:
    """Reads `size` bytes, fewer at the end."""
    data = super().read(size)
    self._hash.update(data)
    return data

  def hexdigest(self) -> str:
    """Digest of the whole file; reads what is left."""
    while self.read(_BLOCK):
      pass
    return self._hash.hexdigest()


def read_text(path: str) -> str:
  """Reads a UTF-8 file; raises `OSError` or `UnicodeDecodeError`."""
  with open_to_read(path) as file:
    return file.read().decode('utf-8')


def list_folder(path: str) -> list[str]:
  """Sorted names of the files in a folder; empty where there is none."""
  if not is_remote(path):
    return sorted(os.listdir(path or '.')) if os.path.isdir(path or '.') else []
  prefix = path.rstrip('/') + '/'
  pattern = re.sub(r'[\[*?]', r'[\g<0>]', prefix) + '*'
  found = _file_systems(path).match([pattern])[0].metadata_list
  return sorted({entry.path.removeprefix(prefix) for entry in found})


def is_folder(path: str) -> bool:
  """Whether there is a folder; on an object store, whether there is anything in it."""
  return bool(list_folder(path)) if is_remote(path) else os.path.isdir(path)


def make_folder(path: str) -> None:
  """Makes a folder where there is none; object stores need none."""
  if not is_remote(path):
    os.makedirs(path, exist_ok=True)
  elif not exists(path):
    _file_systems(path).mkdirs(path)


def remove(path: str) -> None:
  """Removes a file where there is one."""
  if not is_remote(path):
    with contextlib.suppress(FileNotFoundError):
      os.remove(path)
  elif exists(path):
    _file_systems(path).delete([path])


def rename(path: str, target: str) -> None:
  """Renames a file, over one of that name if there is one."""
  if is_remote(path):
    remove(target)
    _file_systems(path).rename([path], [target])
  else:
    os.replace(path, target)
    _sync_folder(os.path.dirname(target))


# --- Writing --------------------------------------------------------------------------


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
  """Opens a file for writing that gets its name once it is complete and on disk.

  Raises:
    UserError: the disk is full, the folder read-only, ...; nothing stays behind.
  """
  temporary = f'{path}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}'
  write = _write_remote if is_remote(path) else _write_local
  try:
    with write(temporary, path) as file:
      yield file
  except OSError as error:
    raise UserError(f"can't write {path}: {describe_write_error(error)}") from error
  finally:
    with contextlib.suppress(OSError):
      remove(temporary)


@contextlib.contextmanager
def _write_local(temporary: str, path: str) -> Iterator[BinaryIO]:
  with open(temporary, 'wb') as file:
    yield file
    file.flush()
    os.fsync(file.fileno())
  rename(temporary, path)


@contextlib.contextmanager
def _write_remote(temporary: str, path: str) -> Iterator[BinaryIO]:
  file = _file_systems(path).create(temporary, compression_type='uncompressed')
  # Closing it commits it, half-written or not, so only then is it named.
  with contextlib.closing(file):
    yield cast(BinaryIO, file)
  rename(temporary, path)


def _sync_folder(path: str) -> None:
  """Makes a rename last through a power cut; some file systems can't."""
  descriptor = os.open(path or '.', os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):
      os.fsync(descriptor)
  finally:
    os.close(descriptor)


# --- Locks ----------------------------------------------------------------------------


class Locked(Exception):
  """Another process holds the lock."""


@contextlib.contextmanager
def lock(path: str) -> Iterator[None]:
  """Holds a lock that ends with its process, however that ends.

  A local lock is the system's. Object stores have none; there a file is renewed while
  the lock is held and void some minutes after, which leaves a moment in which two
  processes may both take it.

  Raises:
    Locked: another process holds it.
    OSError: the file can't be written.
  """
  with (_remote_lock if is_remote(path) else _local_lock)(path):
    yield


@contextlib.contextmanager
def _local_lock(path: str) -> Iterator[None]:
  with open(path, 'w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise Locked from None
    # The one who held it may have removed it since it was opened here.
    if not os.path.exists(path) or not os.path.samestat(
      os.fstat(file.fileno()), os.stat(path)
    ):
      raise Locked
    try:
      yield
    finally:
      remove(path)


def _read_remote_lock(path: str) -> dict[str, Any]:
  try:
    return dict(json.loads(read_text(path)))
  except (OSError, ValueError, TypeError):
    return {}


@contextlib.contextmanager
def _remote_lock(path: str) -> Iterator[None]:
  if time.time() - _read_remote_lock(path).get('renewed', 0) < _VOID_SECONDS:
    raise Locked
  owner = f'{socket.gethostname()} {os.getpid()} {secrets.token_hex(6)}'

  def renew():
    content = json.dumps({'owner': owner, 'renewed': time.time()})
    with whole_file(path) as file:
      file.write(content.encode())

  def keep() -> float:
    # The next time may work; a conversion goes on meanwhile.
    with contextlib.suppress(UserError):
      renew()
    return _RENEW_SECONDS

  renew()
  if _read_remote_lock(path).get('owner') != owner:
    raise Locked
  try:
    with repeatedly(keep, _RENEW_SECONDS):
      yield
  finally:
    remove(path)


@contextlib.contextmanager
def repeatedly(work: Callable[[], float], seconds: float) -> Iterator[None]:
  """Calls `work` in a thread again and again while the context lasts.

  Args:
    work: returns the seconds until its next call.
    seconds: until its first.
  """
  ended = threading.Event()

  def run() -> None:
    pause = seconds
    while not ended.wait(pause):
      pause = work()

  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()

"""Reads videos out of an LMDB whose values are MessagePack lists of JPEG frames.

The layout is CoCLR's: under '__order__' the names of all videos; the video at position i
of it is under the key '%09d' % i.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

from official.video import extras
from official.video.errors import UserError
from tfrecords_tools.datasets.source import SourceClip
from tfrecords_tools.datasets.stored import DEFAULT_FRAME_RATE, StoredClip
from tfrecords_tools.decode import SourceError
from tfrecords_tools.frame_folder import check_count
from tfrecords_tools.jpegs import JpegFootage

ORDER_KEY = '__order__'

# An environment may be open only once in a process, and is safe to share by threads.
_ENVIRONMENTS: dict[tuple[int, str], Any] = {}
_LOCK = threading.Lock()


class _StoreError(Exception):
  """The store can't be read; the message is the reason."""


def _environment(path: str) -> Any:
  """The open LMDB at `path`, a folder or a file; raises `_StoreError`."""
  extras.require('lmdb', path)
  import lmdb

  key = os.getpid(), os.path.realpath(path)
  with _LOCK:
    if key not in _ENVIRONMENTS:
      if not os.path.exists(path):
        raise _StoreError('does not exist')
      try:
        # As bytes: a name that is no UTF-8 is one all the same.
        environment = lmdb.open(
          os.fsencode(path),
          subdir=os.path.isdir(path),
          readonly=True,
          lock=False,
          readahead=False,
        )
      except (lmdb.Error, OSError) as error:
        raise _StoreError(f'is not a readable LMDB: {error}') from error
      try:
        _check_whole(path, environment)
      except _StoreError:
        environment.close()
        raise
      _ENVIRONMENTS[key] = environment
    return _ENVIRONMENTS[key]


def _check_whole(path: str, environment: Any) -> None:
  """Raises `_StoreError` for a cut file, a read of which would kill the process."""
  file = os.path.join(path, 'data.mdb') if os.path.isdir(path) else path
  used = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
  if (size := os.path.getsize(file)) < used:
    raise _StoreError(f'is cut: {size} of {used} bytes')


def _get(path: str, key: str) -> Any:
  """The decoded value of a key, texts as bytes; raises `_StoreError`."""
  import lmdb
  import msgpack

  environment = _environment(path)
  try:
    with environment.begin(buffers=True) as transaction:
      value = transaction.get(key.encode())
      if value is None:
        raise _StoreError(f'has no key {key}')
      # Writers before MessagePack had a type for bytes wrote them as text.
      return msgpack.unpackb(value, raw=True)
  except lmdb.Error as error:
    raise _StoreError(f"key {key} can't be read: {error}") from error
  except (ValueError, msgpack.UnpackException) as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise _StoreError(f'key {key} is not MessagePack: {reason}') from error


def read_order(path: str) -> list[str]:
  """Names of the videos in a store by position.

  Raises:
    UserError: it is no LMDB of this layout.
  """
  try:
    names = _get(path, ORDER_KEY)
    if not isinstance(names, list) or not names:
      raise _StoreError(f'key {ORDER_KEY} holds no list of names')
    names = [os.fsdecode(name) for name in names]
    if len(set(names)) < len(names):
      twice = next(name for i, name in enumerate(names) if name in names[:i])
      raise UserError(f'--path={path}: {ORDER_KEY} names {twice!r} twice')
    return names
  except TypeError as error:
    raise UserError(f'--path={path}: key {ORDER_KEY} holds more than names') from error
  except _StoreError as error:
    raise UserError(
      f'--path={path}: {error}; expected an LMDB of MessagePack lists of JPEG frames and '
      f'their names under {ORDER_KEY}'
    ) from error


@contextlib.contextmanager
def read_lmdb(clip: SourceClip, max_pixels: int) -> Iterator[JpegFootage]:
  """Opens a video of a store.

  Args:
    clip: a `StoredClip`; its `file` is the LMDB.
    max_pixels: largest frame to accept.

  Raises:
    SourceError: the store lacks the video, or its value is damaged.
  """
  assert isinstance(clip, StoredClip)
  if not clip.key:
    raise SourceError(f'not in the LMDB: {ORDER_KEY} does not name it')
  try:
    images = _get(clip.file, clip.key)
  except _StoreError as error:
    raise SourceError(f'the LMDB {error}') from error
  if not isinstance(images, list) or not all(isinstance(i, bytes) for i in images):
    raise SourceError(f'key {clip.key} of the LMDB holds no list of JPEG frames')
  check_count(len(images), clip)
  if not images:
    raise SourceError(f'key {clip.key} of the LMDB holds no frame')

  def read(index: int) -> tuple[str, bytes]:
    return f'frame {index} (from 0)', images[index]

  rate = clip.frame_rate or DEFAULT_FRAME_RATE
  yield JpegFootage(len(images), read, rate, max_pixels)

"""The index of frames beside a file of records: made, compared, found."""

import hashlib
from typing import BinaryIO

from official.video.data import records
from tfrecords_tools import storage


class HashingWriter:
  """A file that hashes what is written to it."""

  def __init__(self, file: records.Writable):
    self._file = file
    self._hash = hashlib.sha256()

  def write(self, data: bytes) -> int:
    """Appends bytes and returns their number."""
    self._hash.update(data)
    return self._file.write(data)

  def hexdigest(self) -> str:
    """Digest of all that was written."""
    return self._hash.hexdigest()


class _Nowhere:
  """A file that forgets."""

  def write(self, data: bytes) -> int:
    return len(data)


def digest_of(rows: records.FrameIndexWriter, sha256: str) -> str:
  """Hex digest of the index that a writer would write of a file with a digest."""
  file = HashingWriter(_Nowhere())
  rows.write(file, sha256)
  return file.hexdigest()


def write_beside(path: str, rows: records.FrameIndexWriter, sha256: str) -> str:
  """Writes the index of a file; returns its hex digest.

  Raises:
    UserError: it can't be written.
  """
  with storage.whole_file(records.frame_index_name(path)) as file:
    writer = HashingWriter(file)
    rows.write(writer, sha256)
  return writer.hexdigest()


def make(path: str) -> str:
  """Makes the index of a file of records, which is read whole; returns its hex digest.

  Raises:
    OSError: it can't be read.
    records.RecordError: a record is damaged, or its frames can't be read one by one.
    UserError: the index can't be written.
  """
  with storage.open_to_read(path) as file, records.FrameIndexWriter() as rows:
    reader = storage.HashingReader(file, storage.size(path))
    records.make_index(records.read_records(reader), rows)
    return write_beside(path, rows, reader.hexdigest())


def header_beside(path: str) -> records.FrameIndexHeader | None:
  """Header of the index of a file; None where there is no whole one that can be read."""
  beside = records.frame_index_name(path)
  try:
    with storage.open_to_read(beside) as file:
      header = records.FrameIndexHeader.read(file)
    return header if storage.size(beside) == header.size else None
  except (OSError, records.RecordError):
    return None


def is_current(path: str) -> bool:
  """Whether the index of a file is there and of what it holds; reads only headers.

  Raises:
    OSError: the file of records can't be read.
    records.RecordError: the file of records is damaged.
  """
  header = header_beside(path)
  if header is None:
    return False
  with storage.open_to_read(path) as file:
    return _told(file, storage.size(path)) == (header.record_bytes, header.checksums)


def _told(file: BinaryIO, size: int) -> tuple[list[int], list[int]]:
  return records.scan_records(file, size)

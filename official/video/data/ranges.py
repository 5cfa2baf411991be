"""Byte ranges of files: the frames of a clip in as few requests as they lie together.

TensorFlow has no operation that reads a range of a file without framing, so this is Python
that operations call. Local files are read by the system's own call, others through
TensorFlow's file systems; both leave other threads alone while they wait.
"""

import itertools
import os
import sys
import threading

import google_crc32c
import numpy as np
import tensorflow as tf
from tensorflow.python.lib.io import _pywrap_file_io

from official.video import files
from official.video.data import records

# Ranges that lie at most so many bytes apart are read as one: a request to a store takes
# as long as some hundred kilobytes of an answer.
MAX_GAP = 1 << 18

_told: set[str] = set()
_lock = threading.Lock()


def read_range(path: str, begin: int, size: int) -> bytes:
  """Bytes of a file, fewer where it ends, in one request.

  Raises:
    OSError, tf.errors.OpError: it can't be read.
  """
  if files.is_remote(path):
    # A `GFile` would read half a megabyte at a time.
    stream = _pywrap_file_io.BufferedInputStream(path, max(1, size))
    stream.seek(begin)
    return stream.read(size)
  descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
  try:
    parts: list[bytes] = []
    while size and (part := os.pread(descriptor, size, begin)):
      parts.append(part)
      begin, size = begin + len(part), size - len(part)
    return parts[0] if len(parts) == 1 else b''.join(parts)
  finally:
    os.close(descriptor)


def spans(begins: np.ndarray, ends: np.ndarray, gap: int = MAX_GAP) -> list[slice]:
  """Which of some ranges, in rising order, one request each reads.

  Args:
    begins: [N] first bytes.
    ends: [N] bytes behind the last ones.
    gap: bytes that are read for nothing at most, between two ranges.
  """
  apart = np.flatnonzero(begins[1:] - ends[:-1] > gap) + 1
  edges = [0, *apart.tolist(), len(begins)]
  return [slice(a, b) for a, b in itertools.pairwise(edges) if a < b]


def read_frames(
  path: str,
  numbers: np.ndarray,
  begins: np.ndarray,
  sizes: np.ndarray,
  checksums: np.ndarray,
) -> list[bytes]:
  """Frames of a record; one that is wanted several times is read once.

  Args:
    path: of the file.
    numbers: [N] of the frames in their record.
    begins: [N] where each starts in the file.
    sizes: [N] bytes.
    checksums: [N] uint32 CRC-32C.

  Raises:
    records.RecordError: the file ends before a frame, or a checksum is wrong.
    OSError, tf.errors.OpError: it can't be read.
  """
  wanted, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
  begins, sizes, checksums = begins[first], sizes[first], checksums[first]
  ends = begins + sizes
  order = np.argsort(begins, kind='stable')
  found: list[bytes] = [b''] * len(wanted)
  for span in spans(begins[order], ends[order]):
    rows = order[span].tolist()
    start = int(begins[rows[0]])
    data = read_range(path, start, int(ends[rows].max()) - start)
    for row in rows:
      at = int(begins[row]) - start
      frame = data[at : at + int(sizes[row])]
      if google_crc32c.value(frame) != checksums[row]:
        what = 'its checksum is wrong'
        if len(frame) < sizes[row]:
          what = f'the file ends after {len(frame)} of its {sizes[row]} bytes'
        raise records.RecordError(
          f'{path}: frame {wanted[row]}, at byte {begins[row]}: {what}'
        )
      found[row] = frame
  return [found[row] for row in inverse]


def read_row(
  file: str, begin: int, size: int, record_file: str, offset: int, record_size: int
) -> bytes:
  """A row of an index of frames; made of its record, which is named, where it is damaged.

  Args:
    file: of the index.
    begin: where the framed row starts.
    size: its framed bytes.
    record_file: of the record.
    offset: where the framed record starts.
    record_size: its framed bytes.

  Raises:
    records.RecordError: the record is damaged too.
    OSError, tf.errors.OpError: it can't be read.
  """
  try:
    return _framed(file, begin, size)
  except (records.RecordError, OSError, tf.errors.OpError) as error:
    tell_once(
      f'note: {file}: a row of {record_file} at byte {offset} {error}; read whole'
    )
  return records.index_row(_framed(record_file, offset, record_size))


def _framed(path: str, begin: int, size: int) -> bytes:
  """The TFRecord that some bytes of a file are."""
  data = read_range(path, begin, size)
  body = data[records.HEADER_BYTES : size - records.FRAMING_BYTES + records.HEADER_BYTES]
  expected = records.record_header(size - records.FRAMING_BYTES) + body
  if data != expected + records.masked_crc(body).to_bytes(4, 'little'):
    raise records.RecordError('is damaged')
  return body


def tell_once(line: str) -> None:
  """Prints a line to stderr the first time."""
  with _lock:
    if line in _told:
      return
    _told.add(line)
  print(line, file=sys.stderr, flush=True)

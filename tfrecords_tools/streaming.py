"""Records that are written frame by frame, so that a film needn't fit into memory.

A record's length and its context stand before its frames in the file, and both are known
only after the last frame. So encoded frames wait in a spool, which is a file once they
are many, and are copied from there. The bytes are those of `records.encode_record`.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import google_crc32c

from official.video.data import records
from official.video.data.records import wire

# What waits in memory, at most; most clips never touch the disk.
_SPOOLED_BYTES = 32 << 20
_FRAMES_ENTRY = records.IMAGE_ENCODED.encode()
# Tags of the only wire type that occurs here, length-delimited, by field number.
_FIELD_1, _FIELD_2 = b'\x0a', b'\x12'


class FrameStore(Protocol):
  """Where the encoded frames of a clip are kept until its record is written."""

  def append(self, frame: bytes, /) -> None:
    """Adds the next frame."""

  def __len__(self) -> int:
    """Number of frames."""

  def __iter__(self) -> Iterator[bytes]:
    """The frames in order."""


class FrameSpool:
  """A `FrameStore` that holds 32 MiB in memory and the rest in a file without a name."""

  def __init__(self, folder: str | None = None):
    """Opens an empty spool.

    Args:
      folder: where its file is made, once there has to be one; the system's by default,
        which may be memory.
    """
    # Closed by `close`; without a name nothing stays behind, however the process ends.
    self._file = tempfile.SpooledTemporaryFile(_SPOOLED_BYTES, dir=folder)  # noqa: SIM115
    self._sizes: list[int] = []

  def append(self, frame: bytes) -> None:
    """Adds the next frame; raises `OSError` where the disk is full."""
    self._file.seek(0, os.SEEK_END)
    self._file.write(frame)
    self._sizes.append(len(frame))

  def __len__(self) -> int:
    return len(self._sizes)

  def __iter__(self) -> Iterator[bytes]:
    self._file.seek(0)
    for size in self._sizes:
      yield self._file.read(size)

  def __enter__(self) -> 'FrameSpool':
    return self

  def __exit__(self, *exception: object) -> None:
    self._file.close()


class NoFrames:
  """A `FrameStore` that forgets, for finding out whether a clip can be converted."""

  def append(self, frame: bytes) -> None:
    """Forgets a frame."""

  def __len__(self) -> int:
    return 0

  def __iter__(self) -> Iterator[bytes]:
    return iter(())


# --- Protocol buffers by hand ---------------------------------------------------------


def _delimited(tag: bytes, size: int) -> bytes:
  """What stands before `size` bytes of a field."""
  return tag + wire.varint(size)


def _fields(data: bytes) -> Iterator[tuple[bytes, bytes]]:
  """Tag and content of each field of a message, all of which are length-delimited."""
  for _, begin, content, end in wire.fields(data, 0, len(data)):
    yield data[begin : begin + 1], data[content:end]


def _feature_head(size: int) -> bytes:
  """What stands before a frame: a feature, its list of bytes, the list's one value."""
  value = _delimited(_FIELD_1, size)
  values = _delimited(_FIELD_1, len(value) + size)
  return _delimited(_FIELD_1, len(values) + len(value) + size) + values + value


class _Counter:
  """Checksum and number of the bytes that pass to a file."""

  def __init__(self, file: records.Writable):
    self._file = file
    self.crc = self.count = 0

  def write(self, data: bytes) -> None:
    self._file.write(data)
    self.crc = google_crc32c.extend(self.crc, data)
    self.count += len(data)


class Record:
  """A clip to be serialized, its frames streamed."""

  def __init__(self, fields: Mapping[str, Any], frames: FrameStore, sizes: Sequence[int]):
    """Serializes all but the frames.

    Args:
      fields: contract keys to values, as `records.encode_record` takes them, without
        `records.IMAGE_ENCODED`.
      frames: the encoded frames, read when the record is.
      sizes: bytes of each frame.

    Raises:
      KeyError: as `records.encode_record` says.
    """
    self._frames = frames
    self._frames_size = sum(len(_feature_head(size)) + size for size in sizes)
    empty = records.encode_record({**fields, records.IMAGE_ENCODED: []})
    self._rest = records.SequenceExample.FromString(empty)
    del self._rest.feature_lists.feature_list[records.IMAGE_ENCODED]
    (_, context), (_, lists) = _fields(empty)
    before, after = self._around_frames(list(_fields(lists)))
    entry = _delimited(_FIELD_1, len(_FRAMES_ENTRY)) + _FRAMES_ENTRY
    entry += _delimited(_FIELD_2, self._frames_size)
    before += _delimited(_FIELD_1, len(entry) + self._frames_size) + entry
    size = len(before) + self._frames_size + len(after)
    context = _delimited(_FIELD_1, len(context)) + context
    self._head = context + _delimited(_FIELD_2, size) + before
    self._tail = after

  @staticmethod
  def _around_frames(entries: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """The feature lists before that of the frames, and those after it."""
    names = [next(content for _, content in _fields(entry)) for _, entry in entries]
    raw = [_delimited(tag, len(entry)) + entry for tag, entry in entries]
    index = names.index(_FRAMES_ENTRY)
    return b''.join(raw[:index]), b''.join(raw[index + 1 :])

  def __len__(self) -> int:
    """Bytes of the serialized record."""
    return len(self._head) + self._frames_size + len(self._tail)

  def chunks(self) -> Iterator[bytes]:
    """The serialized record, in pieces of about a frame."""
    for _, piece in self._pieces():
      yield piece

  def _pieces(self) -> Iterator[tuple[bool, bytes]]:
    """The same, and whether each is a frame."""
    yield False, self._head
    for frame in self._frames:
      yield False, _feature_head(len(frame))
      yield True, frame
    yield False, self._tail

  def write(
    self, file: records.Writable, index: records.FrameIndexWriter | None = None
  ) -> int:
    """Appends the record, framed as TFRecord; returns the bytes written.

    Args:
      file: what it is appended to.
      index: of the file's frames, to which its row is added.

    Raises:
      RuntimeError: the frames are not of the sizes that were stated.
    """
    file.write(records.record_header(len(self)))
    counter = _Counter(file)
    frames, end = records.FrameList(), -records.HEADER_BYTES
    for is_frame, chunk in self._pieces():
      if index and is_frame:
        frames.append(counter.count - end, chunk)
        end = counter.count + len(chunk)
      counter.write(chunk)
    if counter.count != len(self):
      raise RuntimeError(f'a record of {len(self)} bytes became {counter.count}')
    file.write(records.record_footer(counter.crc))
    size = len(self) + records.FRAMING_BYTES
    if index:
      index.add(frames.row(self._rest), size, records.mask(counter.crc))
    return size

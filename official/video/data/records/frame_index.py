"""The index of frames beside a file of records: what makes a few frames readable alone.

`<file>.frames` is a TFRecord file of its own. Its first record is a header that says of
which file it is; then comes one row a record: the record without its frames, and of every
frame its place, size and CRC-32C. A row is a `SequenceExample` too, so what is parsed of a
record is parsed of its row. An index follows from the bytes of its file alone.
"""

import dataclasses
import json
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import google_crc32c
from google.protobuf.message import DecodeError

from official.video.data.records import wire
from official.video.data.records.framing import (
  FRAMING_BYTES,
  HEADER_BYTES,
  Readable,
  RecordError,
  Writable,
  masked_crc,
  read_records,
  write_record,
)
from official.video.data.records.messages import SequenceExample

FRAME_INDEX_SUFFIX = '.frames'
FRAME_INDEX_VERSION = 1
# Context keys that a row has beside its record's. A gap is from the end of one frame to the
# begin of the next, that of the first from the begin of the framed record.
ROW_GAP = 'vidgarden/frames/gap'
ROW_SIZE = 'vidgarden/frames/size'
ROW_CRC = 'vidgarden/frames/crc32c'
ROW_SHAPE = 'vidgarden/frames/shape'
_FRAMES_KEY = b'image/encoded'
_SPOOLED_BYTES = 32 << 20


def frame_index_name(file: str) -> str:
  """Name or path of the index of a file."""
  return file + FRAME_INDEX_SUFFIX


# --- Where a record holds its frames --------------------------------------------------


def _only(data: bytes, begin: int, end: int, number: int) -> tuple[int, int] | None:
  """Content of the one field of a number; None where there is none, or several."""
  found = [(at, stop) for n, _, at, stop in wire.fields(data, begin, end) if n == number]
  return found[0] if len(found) == 1 else None


def _frame_places(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
  """Begin and size of each frame of a feature list."""
  steps = [(at, stop) for n, _, at, stop in wire.fields(data, begin, end) if n == 1]
  for number, place in enumerate(steps):
    found: tuple[int, int] | None = place
    for _ in range(2):  # A list of bytes in the feature, and the one value in that.
      found = found and _only(data, *found, 1)
    if found is None:
      raise RecordError(
        f'holds other than one frame at step {number} of {_FRAMES_KEY.decode()!r}'
      )
    yield found[0], found[1] - found[0]


def _without_frames(data: bytes) -> tuple[Any, list[tuple[int, int]]]:
  """A record as a message without its frames, and where those are in its bytes.

  Raises:
    RecordError: it holds no frames, or in another way than the contract says.
  """
  rest = SequenceExample()
  places: list[tuple[int, int]] | None = None
  for number, _, begin, end in wire.fields(data, 0, len(data)):
    if number == 1:
      rest.context.MergeFromString(data[begin:end])
    elif number == 2:
      kept = begin
      for entry, at, inner, stop in wire.fields(data, begin, end):
        key = _only(data, inner, stop, 1)
        if entry != 1 or key is None or data[slice(*key)] != _FRAMES_KEY:
          continue
        value = _only(data, inner, stop, 2)
        if places is not None or value is None:
          raise RecordError(f'holds {_FRAMES_KEY.decode()!r} in several parts')
        places = list(_frame_places(data, *value))
        rest.feature_lists.MergeFromString(data[kept:at])
        kept = stop
      rest.feature_lists.MergeFromString(data[kept:end])
  if places is None:
    raise RecordError(f'lacks the feature list {_FRAMES_KEY.decode()!r}')
  return rest, places


# --- Rows -----------------------------------------------------------------------------


def frame_shape(frame: bytes) -> tuple[int, int]:
  """Height and width in a JPEG's or PNG's header; 0, 0 where none tells."""
  if frame.startswith(b'\x89PNG') and len(frame) >= 24:
    width, height = struct.unpack_from('>II', frame, 16)
    return height, width
  at = 2 if frame.startswith(b'\xff\xd8') else len(frame)
  while at + 9 <= len(frame) and frame[at] == 0xFF:
    marker = frame[at + 1]
    if marker == 0xFF:  # Any number of these may stand before a marker.
      at += 1
    elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
      return struct.unpack_from('>HH', frame, at + 5)
    elif marker == 0x01 or 0xD0 <= marker <= 0xD9:
      at += 2  # It stands alone.
    else:
      at += 2 + struct.unpack_from('>H', frame, at + 2)[0]
  return 0, 0


@dataclasses.dataclass
class FrameList:
  """What an index keeps of a record's frames.

  Attributes:
    gaps: bytes before each, see `ROW_GAP`.
    sizes: bytes of each.
    checksums: CRC-32C of each.
    shape: height and width in pixels, as the first frame's header says; 0, 0 where it
      says none.
  """

  gaps: list[int] = dataclasses.field(default_factory=list)
  sizes: list[int] = dataclasses.field(default_factory=list)
  checksums: list[int] = dataclasses.field(default_factory=list)
  shape: tuple[int, int] = (0, 0)

  def append(self, gap: int, frame: bytes) -> None:
    """Adds the next frame, `gap` bytes behind the last.

    Raises:
      RecordError: it says to have another size in pixels than the first.
    """
    shape = frame_shape(frame)
    number = len(self.sizes)
    if not number:
      self.shape = shape
    elif (0, 0) not in (shape, self.shape) and shape != self.shape:
      raise RecordError(
        f'has frame 0 of {self.shape} pixels and frame {number} of {shape}'
      )
    self.gaps.append(gap)
    self.sizes.append(len(frame))
    self.checksums.append(google_crc32c.value(frame))

  def row(self, rest: Any) -> bytes:
    """The row of a record, given as the message of all but its frames."""
    made = SequenceExample()
    made.CopyFrom(rest)
    feature = made.context.feature
    feature[ROW_GAP].int64_list.value.extend(self.gaps)
    feature[ROW_SIZE].int64_list.value.extend(self.sizes)
    packed = struct.pack(f'<{len(self.checksums)}I', *self.checksums)
    feature[ROW_CRC].bytes_list.value.append(packed)
    feature[ROW_SHAPE].int64_list.value.extend(self.shape)
    return made.SerializeToString(deterministic=True)


def index_row(data: bytes) -> bytes:
  """The row of a serialized record.

  Raises:
    RecordError: its frames can't be read one by one.
  """
  try:
    rest, places = _without_frames(data)
  except DecodeError:
    raise RecordError(wire.NO_EXAMPLE) from None
  if any(key in rest.context.feature for key in (ROW_GAP, ROW_SIZE, ROW_CRC, ROW_SHAPE)):
    raise RecordError('is a row of an index of frames itself')
  frames, end = FrameList(), -HEADER_BYTES
  for begin, size in places:
    frames.append(begin - end, data[begin : begin + size])
    end = begin + size
  return frames.row(rest)


# --- Files ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class FrameIndexHeader:
  """Of which file an index is, and where its rows are.

  Attributes:
    sha256: hex digest of the file of records.
    record_bytes: framed length of each record.
    checksums: what stands behind each record in the file: the masked CRC-32C of its bytes.
    row_bytes: framed length of each row.
    begin: where the first row starts, in bytes.
  """

  sha256: str
  record_bytes: Sequence[int]
  checksums: Sequence[int]
  row_bytes: Sequence[int]
  begin: int = 0

  @property
  def size(self) -> int:
    """Bytes of the whole index."""
    return self.begin + sum(self.row_bytes)

  def to_json(self) -> bytes:
    """The header's record; equal headers give equal bytes."""
    value = dataclasses.asdict(self) | {'frame_index_version': FRAME_INDEX_VERSION}
    del value['begin']
    return json.dumps(value, sort_keys=True).encode()

  @classmethod
  def read(cls, file: Readable) -> 'FrameIndexHeader':
    """Reads it from the begin of an index.

    Raises:
      RecordError: there is none, or it is damaged.
    """
    data = next(read_records(file), b'')
    try:
      value = dict(json.loads(data))
      version = value.pop('frame_index_version')
      header = cls(**value, begin=len(data) + FRAMING_BYTES)
      lists = (header.record_bytes, header.checksums, header.row_bytes)
      sound = isinstance(header.sha256, str) and len({len(x) for x in lists}) == 1
      sound &= all(type(number) is int and number >= 0 for x in lists for number in x)
      sound &= all(x >= FRAMING_BYTES for x in (*header.record_bytes, *header.row_bytes))
    except (KeyError, TypeError, ValueError, RecursionError):
      raise RecordError('is no index of frames') from None
    if version != FRAME_INDEX_VERSION:
      raise RecordError(
        f'is of version {version!r:.40}, expected {FRAME_INDEX_VERSION}'
      ) from None
    if not sound:
      raise RecordError('has a header whose numbers contradict each other')
    return header


class FrameIndexWriter:
  """Collects the rows of a file, then writes its index, whose header stands before them."""

  def __init__(self, folder: str | None = None):
    """Opens an empty one.

    Args:
      folder: where rows are kept once they are many; the system's by default.
    """
    # Closed by `close`.
    self._rows: IO[bytes] = tempfile.SpooledTemporaryFile(_SPOOLED_BYTES, dir=folder)  # noqa: SIM115
    self._record_bytes: list[int] = []
    self._checksums: list[int] = []
    self._row_bytes: list[int] = []

  def add(self, row: bytes, record_bytes: int, checksum: int) -> None:
    """Adds the row of the next record.

    Args:
      row: of `index_row` or `FrameList.row`.
      record_bytes: framed length of the record.
      checksum: masked, as it stands behind the record.
    """
    self._row_bytes.append(write_record(self._rows, row))
    self._record_bytes.append(record_bytes)
    self._checksums.append(checksum)

  def write(self, file: Writable, sha256: str) -> None:
    """Writes the index of the file with a digest."""
    header = FrameIndexHeader(
      sha256, self._record_bytes, self._checksums, self._row_bytes
    )
    write_record(file, header.to_json())
    self._rows.seek(0)
    shutil.copyfileobj(self._rows, file)

  def __enter__(self) -> 'FrameIndexWriter':
    return self

  def __exit__(self, *exception: object) -> None:
    self._rows.close()


def make_index(data: Iterable[bytes], writer: FrameIndexWriter) -> None:
  """Adds the rows of records to a writer.

  Raises:
    RecordError: one can't be indexed; its number is named.
  """
  for number, record in enumerate(data):
    try:
      row = index_row(record)
    except RecordError as error:
      raise RecordError(f'record {number} {error}') from None
    writer.add(row, len(record) + FRAMING_BYTES, masked_crc(record))

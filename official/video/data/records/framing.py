"""The framing of records in TFRecord files, without TensorFlow."""

import struct
from collections.abc import Iterator
from typing import BinaryIO, Protocol

import google_crc32c

_HEADER = struct.Struct('<QI')
_FOOTER = struct.Struct('<I')
HEADER_BYTES = _HEADER.size
FRAMING_BYTES = HEADER_BYTES + _FOOTER.size


class Readable(Protocol):
  """What records are read from."""

  def read(self, size: int, /) -> bytes:
    """Reads `size` bytes, fewer at the end of the file."""


class Writable(Protocol):
  """What records are written to."""

  def write(self, data: bytes, /) -> int:
    """Appends bytes and returns their number."""


class RecordError(ValueError):
  """A TFRecord file is damaged; the message names the record and what is wrong."""


def mask(crc: int) -> int:
  """A CRC-32C as TFRecord files hold it."""
  return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def masked_crc(data: bytes) -> int:
  """The masked CRC-32C of bytes, which stands behind a record of them."""
  return mask(google_crc32c.value(data))


def record_header(size: int) -> bytes:
  """What stands in a file before a record of `size` bytes."""
  length = struct.pack('<Q', size)
  return length + _FOOTER.pack(masked_crc(length))


def record_footer(crc: int) -> bytes:
  """What stands in a file after a record whose CRC-32C is `crc`."""
  return _FOOTER.pack(mask(crc))


def write_record(file: Writable, data: bytes) -> int:
  """Appends one framed record; returns the bytes written."""
  file.write(record_header(len(data)))
  file.write(data)
  file.write(record_footer(google_crc32c.value(data)))
  return len(data) + FRAMING_BYTES


_COMPRESSIONS = {
  b'\x1f\x8b': 'gzip',
  b'\x78\x01': 'zlib',
  b'\x78\x9c': 'zlib',
  b'\x78\xda': 'zlib',
  b'BZh': 'bzip2',
  b'\x28\xb5\x2f\xfd': 'Zstandard',
  b'\xfd7zXZ': 'xz',
  b'PK\x03\x04': 'ZIP',
}


def _wrong_header(header: bytes, index: int) -> RecordError:
  """What is wrong with a header whose checksum is."""
  for signature, name in _COMPRESSIONS.items():
    if index == 0 and header.startswith(signature):
      return RecordError(f'is compressed ({name}); decompress it first')
  if len(header) < _HEADER.size:
    return RecordError(f'record {index}: cut inside its header')
  first = f'; is it a TFRecord file? It begins with {header!r}' if index == 0 else ''
  return RecordError(f'record {index}: checksum of the length is wrong{first}')


def _read(file: Readable, length: int) -> bytes:
  """Up to `length` bytes, for memory that the file fills: a length may be absurd."""
  parts = []
  while length and (part := file.read(min(length, 1 << 24))):
    parts.append(part)
    length -= len(part)
  return b''.join(parts)


def read_records(file: Readable) -> Iterator[bytes]:
  """Yields the records of a TFRecord file, checking both checksums of each.

  Raises:
    RecordError: at the first damaged or cut record.
  """
  index = 0
  while header := file.read(_HEADER.size):
    if len(header) < _HEADER.size or header != record_header(_HEADER.unpack(header)[0]):
      raise _wrong_header(header, index)
    length = _HEADER.unpack(header)[0]
    data = _read(file, length)
    footer = file.read(_FOOTER.size)
    if len(data) < length or len(footer) < _FOOTER.size:
      raise RecordError(f'record {index}: cut after {len(data)} of {length} bytes')
    if masked_crc(data) != _FOOTER.unpack(footer)[0]:
      raise RecordError(f'record {index}: checksum of the data is wrong')
    yield data
    index += 1


def scan_records(file: BinaryIO, file_size: int) -> tuple[list[int], list[int]]:
  """Framed length in bytes of each record, and the masked checksum that stands behind it.

  Headers only are read: a checksum stands right before the next one.

  Raises:
    RecordError: a header is damaged or the file ends inside a record.
  """
  lengths: list[int] = []
  checksums: list[int] = []
  position = 0
  while position < file_size:
    before = _FOOTER.size if position else 0
    file.seek(position - before)
    header = file.read(before + HEADER_BYTES)
    checksums += _FOOTER.unpack(header[:before]) if before else ()
    header = header[before:]
    if len(header) < HEADER_BYTES or header != record_header(_HEADER.unpack(header)[0]):
      raise _wrong_header(header, len(lengths))
    lengths.append(_HEADER.unpack(header)[0] + FRAMING_BYTES)
    position += lengths[-1]
  if position > file_size:
    raise RecordError(f'record {len(lengths) - 1}: cut, the file ends inside it')
  if lengths:
    file.seek(file_size - _FOOTER.size)
    checksums += _FOOTER.unpack(file.read(_FOOTER.size))
  return lengths, checksums


def scan_record_bytes(file: BinaryIO, file_size: int) -> list[int]:
  """Framed length in bytes of each record; see `scan_records`."""
  return scan_records(file, file_size)[0]

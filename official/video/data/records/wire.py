"""Protocol buffers byte by byte, for what is read or written without whole messages."""

from collections.abc import Iterator

from official.video.data.records.framing import RecordError

NO_EXAMPLE = 'is not a SequenceExample'


def varint(value: int) -> bytes:
  """A number of 0 or more, seven bits a byte, the lowest first."""
  parts = bytearray()
  while value > 0x7F:
    parts.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes([*parts, value])


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
  """The number at `at`, and where it ends; raises `RecordError` beyond `end`."""
  value = shift = 0
  while at < end and shift < 64:
    byte = data[at]
    at += 1
    value |= (byte & 0x7F) << shift
    shift += 7
    if byte < 0x80:
      return value, at
  raise RecordError(NO_EXAMPLE)


def fields(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
  """Number, begin, begin of its content and end of each field of a message.

  The content of a field that is not length-delimited is empty, and its number 0.

  Raises:
    RecordError: the bytes are no message.
  """
  while begin < end:
    tag, at = read_varint(data, begin, end)
    number, kind = tag >> 3, tag & 7
    if kind == 2:
      size, at = read_varint(data, at, end)
      stop = at + size
    else:
      if kind == 0:
        at = read_varint(data, at, end)[1]
      elif kind in (1, 5):
        at += 8 if kind == 1 else 4
      else:
        raise RecordError(NO_EXAMPLE)
      number, stop = 0, at
    if stop > end:
      raise RecordError(NO_EXAMPLE)
    yield number, begin, at, stop
    begin = stop

"""The record contract: one `tf.train.SequenceExample` a clip, and the manifest beside it.

Shared by the conversion tools and by training, so it imports no TensorFlow. Keys are
those of MediaSequence, which the Model Garden, DMVR and MediaPipe read and write too.
`FIELDS` is the contract; encoding, parsing, validation and inspection all derive from
it.
"""

import dataclasses
import hashlib
import json
import os
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Protocol

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

IMAGE_ENCODED = 'image/encoded'
IMAGE_FORMAT = 'image/format'
IMAGE_HEIGHT = 'image/height'
IMAGE_WIDTH = 'image/width'
IMAGE_FRAME_RATE = 'image/frame_rate'
IMAGE_TIMESTAMP = 'image/timestamp'
LABEL_INDEX = 'clip/label/index'
LABEL_STRING = 'clip/label/string'
MEDIA_ID = 'clip/media_id'
DATA_PATH = 'clip/data_path'
SOURCE_ID = 'clip/source/id'
START_TIMESTAMP = 'clip/start/timestamp'
END_TIMESTAMP = 'clip/end/timestamp'
BBOX_YMIN = 'region/bbox/ymin'
BBOX_XMIN = 'region/bbox/xmin'
BBOX_YMAX = 'region/bbox/ymax'
BBOX_XMAX = 'region/bbox/xmax'
REGION_TIMESTAMP = 'region/timestamp'
REGION_LABEL_INDEX = 'region/label/index'
REGION_TRACK_INDEX = 'region/track/index'
# Boxes of a detector, beside the annotated ones; MediaSequence's prefixed regions.
DETECTED_BBOX_YMIN = 'detected/region/bbox/ymin'
DETECTED_BBOX_XMIN = 'detected/region/bbox/xmin'
DETECTED_BBOX_YMAX = 'detected/region/bbox/ymax'
DETECTED_BBOX_XMAX = 'detected/region/bbox/xmax'
DETECTED_TIMESTAMP = 'detected/region/timestamp'
DETECTED_SCORE = 'detected/region/score'
SEGMENT_START_INDEX = 'segment/start/index'
SEGMENT_END_INDEX = 'segment/end/index'
SEGMENT_LABEL_INDEX = 'segment/label/index'
TEXT_CONTENT = 'text/content'
TEXT_NOUN_PHRASES = 'text/noun_phrases'
TEXT_NOUN_CAPTION = 'text/noun_phrases/caption'
TEXT_QUESTION = 'text/question'
TEXT_ANSWER_INDEX = 'text/answer/index'
# Columns of a source list that the contract does not name are kept under this prefix.
EXTRA_PREFIX = 'extra/'


@dataclasses.dataclass(frozen=True)
class Field:
  """One key of the contract.

  Attributes:
    dtype: 'bytes', 'int64' or 'float'.
    per_step: True for a feature list (one entry a frame or a region time), False for
      a context feature (one list a clip).
    required: whether every record of ours has it.
    meaning: what it holds, with its unit.
  """

  dtype: str
  per_step: bool
  required: bool
  meaning: str


FIELDS: Mapping[str, Field] = {
  IMAGE_ENCODED: Field('bytes', True, True, 'JPEG frames in order'),
  IMAGE_TIMESTAMP: Field('int64', True, True, "microseconds from the clip's start"),
  IMAGE_FORMAT: Field('bytes', False, True, "'JPEG'"),
  IMAGE_HEIGHT: Field('int64', False, True, 'pixels, of the stored frames'),
  IMAGE_WIDTH: Field('int64', False, True, 'pixels, of the stored frames'),
  IMAGE_FRAME_RATE: Field('float', False, True, 'frames a second, of the stored frames'),
  LABEL_INDEX: Field('int64', False, False, 'class ids'),
  LABEL_STRING: Field('bytes', False, False, 'class names'),
  MEDIA_ID: Field('bytes', False, True, 'name of the clip, unique in its split'),
  DATA_PATH: Field('bytes', False, True, 'source file, as the source list names it'),
  SOURCE_ID: Field('bytes', False, False, 'video that the clip was cut from'),
  START_TIMESTAMP: Field('int64', False, True, 'microseconds in the source'),
  END_TIMESTAMP: Field('int64', False, True, 'microseconds in the source'),
  BBOX_YMIN: Field('float', True, False, 'top edges, normalized to [0, 1]'),
  BBOX_XMIN: Field('float', True, False, 'left edges, normalized to [0, 1]'),
  BBOX_YMAX: Field('float', True, False, 'bottom edges, normalized to [0, 1]'),
  BBOX_XMAX: Field('float', True, False, 'right edges, normalized to [0, 1]'),
  REGION_TIMESTAMP: Field('int64', True, False, "microseconds from the clip's start"),
  REGION_LABEL_INDEX: Field('int64', True, False, 'class ids of the boxes'),
  REGION_TRACK_INDEX: Field('int64', True, False, 'identity of the boxes over time'),
  DETECTED_BBOX_YMIN: Field('float', True, False, 'top edges of detected boxes'),
  DETECTED_BBOX_XMIN: Field('float', True, False, 'left edges of detected boxes'),
  DETECTED_BBOX_YMAX: Field('float', True, False, 'bottom edges of detected boxes'),
  DETECTED_BBOX_XMAX: Field('float', True, False, 'right edges of detected boxes'),
  DETECTED_TIMESTAMP: Field('int64', True, False, "microseconds from the clip's start"),
  DETECTED_SCORE: Field('float', True, False, 'confidence of the detector, 0 to 1'),
  SEGMENT_START_INDEX: Field('int64', False, False, 'first frame of each segment'),
  SEGMENT_END_INDEX: Field('int64', False, False, 'last frame of each segment'),
  SEGMENT_LABEL_INDEX: Field('int64', False, False, 'class ids of the segments'),
  TEXT_CONTENT: Field('bytes', False, False, 'captions'),
  TEXT_NOUN_PHRASES: Field('bytes', False, False, 'noun phrases of the captions'),
  TEXT_NOUN_CAPTION: Field(
    'int64', False, False, 'caption of each noun phrase; all of the first where absent'
  ),
  TEXT_QUESTION: Field('bytes', False, False, 'questions'),
  TEXT_ANSWER_INDEX: Field(
    'int64', False, False, 'answer ids, one a question; -1 outside of the vocabulary'
  ),
}


def field_of(key: str) -> Field:
  """The contract's field for `key`; raises `KeyError` for a key outside it."""
  if key.startswith(EXTRA_PREFIX):
    return Field('bytes', False, False, 'extra column of the source list')
  return FIELDS[key]


# --- SequenceExample without TensorFlow -----------------------------------------------


def _sequence_example_class() -> Any:
  """Builds the public SequenceExample messages in a descriptor pool of their own."""
  types = descriptor_pb2.FieldDescriptorProto
  file = descriptor_pb2.FileDescriptorProto(
    name='vidgarden/sequence_example.proto', package='vidgarden', syntax='proto3'
  )

  def message(name, *fields):
    proto = file.message_type.add(name=name)
    for number, (field, kind, repeated) in enumerate(fields, start=1):
      scalar = isinstance(kind, int)
      proto.field.add(
        name=field,
        number=number,
        label=types.LABEL_REPEATED if repeated else types.LABEL_OPTIONAL,
        type=kind if scalar else types.TYPE_MESSAGE,
        type_name=None if scalar else f'.vidgarden.{kind}',
      )
    return proto

  def map_message(name, field, value):
    proto = message(name, (field, f'{name}.{field.title().replace("_", "")}Entry', True))
    entry = proto.nested_type.add(name=f'{field.title().replace("_", "")}Entry')
    entry.options.map_entry = True
    entry.field.add(
      name='key', number=1, label=types.LABEL_OPTIONAL, type=types.TYPE_STRING
    )
    entry.field.add(
      name='value',
      number=2,
      label=types.LABEL_OPTIONAL,
      type=types.TYPE_MESSAGE,
      type_name=f'.vidgarden.{value}',
    )

  message('BytesList', ('value', types.TYPE_BYTES, True))
  message('FloatList', ('value', types.TYPE_FLOAT, True))
  message('Int64List', ('value', types.TYPE_INT64, True))
  feature = message(
    'Feature',
    ('bytes_list', 'BytesList', False),
    ('float_list', 'FloatList', False),
    ('int64_list', 'Int64List', False),
  )
  feature.oneof_decl.add(name='kind')
  for field in feature.field:
    field.oneof_index = 0
  map_message('Features', 'feature', 'Feature')
  message('FeatureList', ('feature', 'Feature', True))
  map_message('FeatureLists', 'feature_list', 'FeatureList')
  message(
    'SequenceExample',
    ('context', 'Features', False),
    ('feature_lists', 'FeatureLists', False),
  )
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(
    pool.FindMessageTypeByName('vidgarden.SequenceExample')
  )


SequenceExample = _sequence_example_class()


def _encode(text: str) -> bytes:
  # File names need not be UTF-8; Python marks their other bytes, which come back here.
  return text.encode('utf-8', 'surrogateescape')


def _fill(feature: Any, dtype: str, values: Any) -> None:
  if isinstance(values, (bytes, str, int, float)):
    values = [values]
  if dtype == 'bytes':
    values = [_encode(v) if isinstance(v, str) else v for v in values]
  getattr(feature, f'{dtype}_list').value.extend(values)


def encode_record(clip: Mapping[str, Any]) -> bytes:
  """Serializes a clip; equal clips give equal bytes.

  Args:
    clip: contract key (or `extra/...`) to value. A context key takes a scalar or a
      list; a per-step key takes a list with one scalar or list a step.

  Returns:
    The serialized `SequenceExample`.

  Raises:
    KeyError: a key is not in the contract, or a required one is missing.
  """
  missing = [k for k, f in FIELDS.items() if f.required and k not in clip]
  if missing:
    raise KeyError(f'record lacks required keys {missing}')
  example = SequenceExample()
  for key, values in clip.items():
    field = field_of(key)
    if field.per_step:
      steps = example.feature_lists.feature_list[key].feature
      for step in values:
        _fill(steps.add(), field.dtype, step)
    else:
      _fill(example.context.feature[key], field.dtype, values)
  return example.SerializeToString(deterministic=True)


def decode_record(serialized: bytes) -> dict[str, list]:
  """Parses a `SequenceExample`: context keys to lists, per-step keys to lists of lists.

  Raises:
    google.protobuf.message.DecodeError: the bytes are not a SequenceExample.
  """
  example = SequenceExample.FromString(serialized)

  def values(feature):
    kind = feature.WhichOneof('kind')
    return list(getattr(feature, kind).value) if kind else []

  clip = {key: values(feature) for key, feature in example.context.feature.items()}
  for key, steps in example.feature_lists.feature_list.items():
    clip[key] = [values(step) for step in steps.feature]
  return clip


# --- TFRecord framing -----------------------------------------------------------------

_HEADER = struct.Struct('<QI')
_FOOTER = struct.Struct('<I')
FRAMING_BYTES = _HEADER.size + _FOOTER.size


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


def _mask(crc: int) -> int:
  return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _masked_crc(data: bytes) -> int:
  return _mask(google_crc32c.value(data))


def record_header(size: int) -> bytes:
  """What stands in a file before a record of `size` bytes."""
  length = struct.pack('<Q', size)
  return length + _FOOTER.pack(_masked_crc(length))


def record_footer(crc: int) -> bytes:
  """What stands in a file after a record whose CRC-32C is `crc`."""
  return _FOOTER.pack(_mask(crc))


def write_record(file: Writable, data: bytes) -> int:
  """Appends one framed record; returns the bytes written."""
  file.write(record_header(len(data)))
  file.write(data)
  file.write(record_footer(google_crc32c.value(data)))
  return len(data) + FRAMING_BYTES


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
    if len(header) < _HEADER.size:
      raise RecordError(f'record {index}: cut inside its header')
    length, crc = _HEADER.unpack(header)
    if _masked_crc(header[:8]) != crc:
      raise RecordError(f'record {index}: checksum of the length is wrong')
    data = _read(file, length)
    footer = file.read(_FOOTER.size)
    if len(data) < length or len(footer) < _FOOTER.size:
      raise RecordError(f'record {index}: cut after {len(data)} of {length} bytes')
    if _masked_crc(data) != _FOOTER.unpack(footer)[0]:
      raise RecordError(f'record {index}: checksum of the data is wrong')
    yield data
    index += 1


def scan_record_bytes(file: BinaryIO, file_size: int) -> list[int]:
  """Framed length in bytes of each record, reading the headers only.

  Raises:
    RecordError: a header is damaged or the file ends inside a record.
  """
  lengths: list[int] = []
  position = 0
  while position < file_size:
    file.seek(position)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or _masked_crc(header[:8]) != _HEADER.unpack(header)[1]:
      raise RecordError(f'record {len(lengths)}: header is damaged or cut')
    lengths.append(_HEADER.unpack(header)[0] + FRAMING_BYTES)
    position += lengths[-1]
  if position > file_size:
    raise RecordError(f'record {len(lengths) - 1}: cut, the file ends inside it')
  return lengths


# --- Manifest -------------------------------------------------------------------------

MANIFEST_SUFFIX = '.manifest.json'
MANIFEST_VERSION = 1
NO_LABEL = -1
_SHARD_NAME = re.compile(
  r'^(?P<split>.+)-(?P<shard>\d{5})-of-(?P<shards>\d{5})\.tfrecord$'
)


def shard_name(split: str, shard: int, num_shards: int) -> str:
  """File name of a shard, as TFDS and the Model Garden write it."""
  return f'{split}-{shard:05d}-of-{num_shards:05d}.tfrecord'


def source_number(source_id: str) -> int:
  """A number for a value of `SOURCE_ID`, the same in every manifest; 48 bits."""
  digest = hashlib.sha256(_encode(source_id)).digest()
  return int.from_bytes(digest[:6], 'big')


def manifest_name(split: str) -> str:
  """File name of a split's manifest."""
  return f'{split}{MANIFEST_SUFFIX}'


def manifest_beside(shard_path: str) -> str | None:
  """Path of the manifest that would describe a shard; None if it isn't named as ours."""
  folder, name = os.path.split(shard_path)
  match = _SHARD_NAME.match(name)
  return os.path.join(folder, manifest_name(match['split'])) if match else None


@dataclasses.dataclass(frozen=True)
class Shard:
  """One TFRecord file of a split.

  Attributes:
    file: name, relative to the manifest's folder.
    sha256: hex digest of the file.
    record_bytes: framed length of each record, in order; they add up to the file's
      size, and their running sum is where each record starts.
    labels: first class id of each record, `NO_LABEL` where it has none.
    sources: `source_number` of each record's video; empty where they are not known.
    corrected: what was corrected in how many of the records.
  """

  file: str
  sha256: str
  record_bytes: Sequence[int]
  labels: Sequence[int]
  sources: Sequence[int] = ()
  corrected: Mapping[str, int] = dataclasses.field(default_factory=dict)

  @property
  def records(self) -> int:
    """Number of records in the file."""
    return len(self.record_bytes)

  @property
  def size(self) -> int:
    """Size of the file in bytes."""
    return sum(self.record_bytes)


@dataclasses.dataclass(frozen=True)
class Skipped:
  """A source that gave no record: where it was and why."""

  source: str
  reason: str


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What a conversion made of one split.

  Attributes:
    split: name of the split, the prefix of its files.
    label_names: class names by class id; empty for unlabelled data.
    shards: the files, in order.
    skipped: the sources that gave no record.
    tool_version: version of the library that wrote it.
    arguments: what the conversion was asked for.
  """

  split: str
  label_names: Sequence[str]
  shards: Sequence[Shard]
  skipped: Sequence[Skipped] = ()
  tool_version: str = ''
  arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def records(self) -> int:
    """Number of records in the split."""
    return sum(shard.records for shard in self.shards)

  @property
  def corrected(self) -> dict[str, int]:
    """What was corrected in how many records of the split."""
    total: Counter[str] = Counter()
    for shard in self.shards:
      total.update(shard.corrected)
    return dict(total)

  def to_json(self) -> str:
    """The manifest as JSON text; equal manifests give equal text."""
    value = dataclasses.asdict(self)
    for shard, entry in zip(self.shards, value['shards'], strict=True):
      entry |= {'records': shard.records, 'bytes': shard.size}
      for name in ('sources', 'corrected'):
        if not entry[name]:
          del entry[name]
    value |= {'manifest_version': MANIFEST_VERSION, 'records': self.records}
    text = json.dumps(value, indent=1, sort_keys=True)
    # One line a list of numbers keeps the file readable; only a list can hold a newline.
    return re.sub(r'\[\n[\s\d,-]+\]', lambda m: re.sub(r'\s+', ' ', m[0]), text) + '\n'

  @classmethod
  def from_json(cls, text: str) -> 'Manifest':
    """Reads `to_json`'s text.

    Raises:
      ValueError: not a manifest, or one of a newer version.
    """
    value = json.loads(text)
    if not isinstance(value, dict) or value.get('manifest_version') != MANIFEST_VERSION:
      found = value.get('manifest_version') if isinstance(value, dict) else None
      raise ValueError(f'manifest_version is {found}, expected {MANIFEST_VERSION}')
    try:
      return cls(
        split=value['split'],
        label_names=tuple(value['label_names']),
        shards=tuple(
          Shard(
            s['file'],
            s['sha256'],
            tuple(s['record_bytes']),
            tuple(s['labels']),
            tuple(s.get('sources', ())),
            s.get('corrected', {}),
          )
          for s in value['shards']
        ),
        skipped=tuple(Skipped(s['source'], s['reason']) for s in value['skipped']),
        tool_version=value['tool_version'],
        arguments=value['arguments'],
      )
    except (KeyError, TypeError) as error:
      raise ValueError(f'manifest lacks or misuses the field {error}') from error

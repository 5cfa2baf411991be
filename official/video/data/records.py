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
from google.protobuf.message import DecodeError

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
# Largest frame that is stored, decoded or shown: a few bytes can stand for gigabytes.
MAX_FRAME_PIXELS = 1 << 26
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


# Keys by which DMVR writes what a context key holds; read where that is not there.
SYNONYMS: Mapping[str, Sequence[str]] = {
  LABEL_STRING: ('clip/label/text',),
  TEXT_CONTENT: ('caption/string',),
}
# Context keys that MediaSequence writes as feature lists, which are read too.
LISTED = frozenset({TEXT_CONTENT})


def field_of(key: str) -> Field:
  """The contract's field for `key`; raises `KeyError` for a key outside it."""
  if key.startswith(EXTRA_PREFIX):
    return Field('bytes', False, False, 'extra column of the source list')
  return FIELDS[key]


def meaning_of(key: str) -> str:
  """What a key of anybody's record holds, as far as it is read."""
  for own, others in SYNONYMS.items():
    if key in others:
      return f'read as {own}: {FIELDS[own].meaning}'
  try:
    return field_of(key).meaning
  except KeyError:
    return 'not in the contract'


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


def encode_text(text: str) -> bytes:
  """A text as records hold it.

  File names need not be UTF-8; Python marks their other bytes, which come back here. Half
  of a pair of surrogates, as in a caption that was cut, becomes a replacement character.
  """
  whole = re.sub('[\ud800-\udc7f\udd00-\udfff]', '\ufffd', text)
  return whole.encode('utf-8', 'surrogateescape')


def _fill(feature: Any, dtype: str, values: Any) -> None:
  if isinstance(values, (bytes, str, int, float)):
    values = [values]
  if dtype == 'bytes':
    values = [encode_text(v) if isinstance(v, str) else v for v in values]
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


def check_frames(serialized: bytes) -> None:
  """Raises `RecordError` where a record of anybody's lacks what every reader needs.

  Those are frames in a feature list; a `tf.train.Example` parses as a record without.
  """
  try:
    example = SequenceExample.FromString(serialized)
  except DecodeError:
    raise RecordError('is not a SequenceExample') from None
  if steps := example.feature_lists.feature_list[IMAGE_ENCODED].feature:
    for number, step in enumerate(steps):
      if (count := len(step.bytes_list.value)) > 1:
        raise RecordError(
          f'holds {count} values at step {number} of {IMAGE_ENCODED!r}; expected a frame '
          'a step'
        )
    return
  lists = set(example.feature_lists.feature_list) - {IMAGE_ENCODED}
  keys = sorted({*lists, *example.context.feature})
  found = ', '.join(map(repr, keys[:8])) + (', ...' if len(keys) > 8 else '')
  kind = 'its keys are' if lists else 'it is a tf.train.Example of the keys'
  raise RecordError(f'lacks the feature list {IMAGE_ENCODED!r}; {kind} {found or "none"}')


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
    if len(header) < _HEADER.size or header != record_header(_HEADER.unpack(header)[0]):
      raise _wrong_header(header, len(lengths))
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
  digest = hashlib.sha256(encode_text(source_id)).digest()
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
class Note:
  """What a user may want to know of a source that gave a record, such as damage."""

  source: str
  text: str


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
    frame_rates: stored frames a second of each record, to three digits, 0 where unknown;
      empty where none is known.
    notes: what is worth knowing of sources that gave a record.
  """

  file: str
  sha256: str
  record_bytes: Sequence[int]
  labels: Sequence[int]
  sources: Sequence[int] = ()
  corrected: Mapping[str, int] = dataclasses.field(default_factory=dict)
  frame_rates: Sequence[float] = ()
  notes: Sequence[Note] = ()

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


def _checked(value: Any, kind: type, what: str) -> Any:
  # JSON's true is an int to Python.
  if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
    raise ValueError(f'{what} is of type {type(value).__name__}, not {kind.__name__}')
  return value


def _checked_list(value: Any, kind: type, what: str) -> tuple:
  """A list whose entries are all of one type, as a tuple."""
  entries = tuple(_checked(value, list, what))
  return tuple(_checked(entry, kind, f'an entry of {what}') for entry in entries)


def _check_bounds(values: Sequence[float], least: int, end: int, what: str) -> None:
  for value in values:
    if not least <= value < end:
      raise ValueError(f'{what} holds {value!r:.40}, expected {least} to {end - 1}')


def _check_unique(values: Sequence[str], what: str) -> None:
  repeated = next((value for value, n in Counter(values).items() if n > 1), None)
  if repeated is not None:
    raise ValueError(f'{what} holds {repeated!r:.40} twice')


def _checked_entries(value: Any, kind: type, what: str) -> tuple:
  """Dataclasses of texts, such as `Skipped`."""
  names = [field.name for field in dataclasses.fields(kind)]
  entries = _checked_list(value, dict, what)
  return tuple(
    kind(*(_checked(e[n], str, f'{n} in {what}') for n in names)) for e in entries
  )


def _checked_shard(value: Mapping[str, Any], num_classes: int) -> Shard:
  """A shard of a manifest, refused where its numbers can't be true."""
  name = _checked(value['file'], str, 'file')
  if not name or os.path.basename(name) != name:
    raise ValueError(
      f'file is {name!r:.40}, expected a name in the folder of the manifest'
    )

  def lists(key: str, kind: type, least: int, end: int) -> tuple:
    entries = _checked_list(value.get(key, []), kind, f'{key} of {name}')
    _check_bounds(entries, least, end, f'{key} of {name}')
    return entries

  corrected = _checked(value.get('corrected', {}), dict, f'corrected of {name}')
  shard = Shard(
    name,
    _checked(value['sha256'], str, f'sha256 of {name}'),
    lists('record_bytes', int, FRAMING_BYTES, 2**40),
    lists('labels', int, NO_LABEL, num_classes or 2**31),
    lists('sources', int, 0, 2**48),
    {k: _checked(v, int, f'corrected of {name}') for k, v in corrected.items()},
    lists('frame_rates', float, 0, 2**31),
    _checked_entries(value.get('notes', []), Note, f'notes of {name}'),
  )
  count = shard.records
  for key, given, found in (
    ('records', value.get('records', count), count),
    ('bytes', value.get('bytes', shard.size), shard.size),
    ('labels', len(shard.labels), count),
    ('sources', len(shard.sources) or count, count),
    ('frame rates', len(shard.frame_rates) or count, count),
  ):
    if given != found:
      raise ValueError(f'{name} has {given!r:.40} {key}, its record_bytes say {found}')
  return shard


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

  @property
  def frame_rates(self) -> dict[float, int]:
    """Number of records by their stored frames a second, the most common first."""
    rates = Counter(rate for shard in self.shards for rate in shard.frame_rates if rate)
    return dict(rates.most_common())

  @property
  def notes(self) -> list[Note]:
    """What is worth knowing of sources of the split that gave a record."""
    return [note for shard in self.shards for note in shard.notes]

  def to_json(self) -> str:
    """The manifest as JSON text; equal manifests give equal text."""
    value = dataclasses.asdict(self)
    for shard, entry in zip(self.shards, value['shards'], strict=True):
      entry |= {'records': shard.records, 'bytes': shard.size}
      for name in ('sources', 'corrected', 'frame_rates', 'notes'):
        if not entry[name]:
          del entry[name]
    value |= {'manifest_version': MANIFEST_VERSION, 'records': self.records}
    text = json.dumps(value, indent=1, sort_keys=True)
    # One line a list of numbers keeps the file readable; only a list can hold a newline.
    return re.sub(r'\[\n[\s\d.,-]+\]', lambda m: re.sub(r'\s+', ' ', m[0]), text) + '\n'

  @classmethod
  def from_json(cls, text: str) -> 'Manifest':
    """Reads `to_json`'s text.

    Raises:
      ValueError: not a manifest, one of a newer version, or one whose numbers contradict
        each other.
    """
    try:
      value = json.loads(text)
    except RecursionError:
      raise ValueError('manifest is nested too deeply') from None
    if not isinstance(value, dict) or value.get('manifest_version') != MANIFEST_VERSION:
      found = value.get('manifest_version') if isinstance(value, dict) else None
      raise ValueError(f'manifest_version is {found!r:.40}, expected {MANIFEST_VERSION}')
    try:
      names = _checked_list(value['label_names'], str, 'label_names')
      shards = _checked_list(value['shards'], dict, 'shards')
      _check_unique(names, 'label_names')
      manifest = cls(
        split=_checked(value['split'], str, 'split'),
        label_names=names,
        shards=tuple(_checked_shard(shard, len(names)) for shard in shards),
        skipped=_checked_entries(value['skipped'], Skipped, 'skipped'),
        tool_version=_checked(value['tool_version'], str, 'tool_version'),
        arguments=_checked(value['arguments'], dict, 'arguments'),
      )
      _check_unique([shard.file for shard in manifest.shards], 'shards')
    except KeyError as error:
      raise ValueError(f'manifest lacks the field {error}') from error
    except ValueError as error:
      raise ValueError(f'manifest: {error}') from error
    if value.get('records', manifest.records) != manifest.records:
      raise ValueError(
        f'manifest states {value["records"]!r:.40} records, its shards {manifest.records}'
      )
    return manifest

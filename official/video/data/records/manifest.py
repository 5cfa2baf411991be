"""The manifest beside a split's shards: what they hold, and the names of all of them."""

import codecs
import dataclasses
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from official.video.data.records.framing import FRAMING_BYTES
from official.video.data.records.messages import encode_text

MANIFEST_SUFFIX = '.manifest.json'
MANIFEST_VERSION = 1
NO_LABEL = -1
_LEFT_OUT_EMPTY = ('sources', 'corrected', 'frame_rates', 'notes', 'frame_index')
# Rates that differ by more are worth a warning, with the most common ones.
_MIXED_RATES, _SHOWN_RATES = 1.1, 6
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
    frame_index: hex digest of the index of its frames; empty where the conversion wrote
      none.
  """

  file: str
  sha256: str
  record_bytes: Sequence[int]
  labels: Sequence[int]
  sources: Sequence[int] = ()
  corrected: Mapping[str, int] = dataclasses.field(default_factory=dict)
  frame_rates: Sequence[float] = ()
  notes: Sequence[Note] = ()
  frame_index: str = ''

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


def _checked_name(value: Any, what: str) -> str:
  """A name that leads nowhere else than into the manifest's folder."""
  name: str = _checked(value, str, what)
  if not name or os.path.basename(name) != name or name in ('.', '..'):
    raise ValueError(
      f'{what} is {name!r:.40}, expected a name in the folder of the manifest'
    )
  return name


def _decoded(data: bytes) -> str:
  try:
    return data.decode('utf-8')
  except UnicodeDecodeError:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
      raise ValueError('it is UTF-16 text; save it as UTF-8') from None
    raise ValueError('it is no UTF-8 text') from None


def mixed_rates(rates: Mapping[float, int]) -> str:
  """That records are stored at different rates, and how many; '' where they are not.

  Args:
    rates: of `Manifest.frame_rates`.
  """
  if not rates or max(rates) <= _MIXED_RATES * min(rates):
    return ''
  common = [f'{rate:g} in {n} records' for rate, n in rates.items()][:_SHOWN_RATES]
  more = ', ...' if len(rates) > _SHOWN_RATES else ''
  return (
    f'frames are stored at {min(rates):g} to {max(rates):g} a second '
    f'({", ".join(common)}{more})'
  )


def _checked_shard(value: Mapping[str, Any], num_classes: int) -> Shard:
  """A shard of a manifest, refused where its numbers can't be true."""
  name = _checked_name(value['file'], 'file')

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
    _checked(value.get('frame_index', ''), str, f'frame_index of {name}'),
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
      for name in _LEFT_OUT_EMPTY:
        if not entry[name]:
          del entry[name]
    value |= {'manifest_version': MANIFEST_VERSION, 'records': self.records}
    text = json.dumps(value, indent=1, sort_keys=True)
    # One line a list of numbers keeps the file readable; only a list can hold a newline.
    return re.sub(r'\[\n[\s\d.,-]+\]', lambda m: re.sub(r'\s+', ' ', m[0]), text) + '\n'

  @classmethod
  def from_json(cls, text: str | bytes) -> 'Manifest':
    """Reads `to_json`'s text, or the file of it; a byte-order mark may stand before it.

    Raises:
      ValueError: not a manifest, one of a newer version, or one whose numbers contradict
        each other.
    """
    if isinstance(text, bytes):
      text = _decoded(text)
    try:
      value = json.loads(text.removeprefix('\ufeff'))
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
        split=_checked_name(value['split'], 'split'),
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

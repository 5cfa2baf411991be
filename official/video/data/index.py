"""Where every record of a data set starts: what makes reading random-access.

A video record is megabytes long, so reading one by its offset costs no more than reading
it in sequence. With the offsets known, the sample that step `s` takes is arithmetic, and
resuming, sharding and padding need no state.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from official.video import files
from official.video.configs import data as data_config
from official.video.data import ranges, records, tempo
from official.video.errors import FieldError, UserError

if TYPE_CHECKING:
  from official.video.data import tfds

READ_BATCH = 1 << 16
# Arguments of a conversion that say what is stored of a frame.
_OF_FRAMES = ('fps', 'short_side', 'quality')


@dataclasses.dataclass(frozen=True)
class RecordIndex:
  """Every record of a data set, in order.

  Attributes:
    files: paths of the TFRecord files.
    file_id: [N] int32, which file holds the record.
    number: [N] int64, which record of the file it is, from 0.
    offset: [N] int64, where it starts, in bytes.
    size: [N] int64, framed bytes.
    labels: [N] int64 first class id, `records.NO_LABEL` where none; None where the files
      do not tell without being decoded.
    sources: [N] int64 `records.source_number` of the video that each was cut from; None
      where the files do not tell without being decoded.
    label_names: class names by class id; empty where unknown.
    skipped: sources that the conversion could not use.
    digests: SHA-256 of each file, '' where no manifest tells; empty where none does.
    checksums: [N] int64, what stands behind each record in its file, 0 where a manifest
      tells of the file; None where one tells of all.
    prepared: the set of TensorFlow Datasets whose examples the records are; None where
      they are of the contract.
  """

  files: Sequence[str]
  file_id: np.ndarray
  number: np.ndarray
  offset: np.ndarray
  size: np.ndarray
  labels: np.ndarray | None = None
  sources: np.ndarray | None = None
  label_names: Sequence[str] = ()
  skipped: int = 0
  digests: Sequence[str] = ()
  checksums: np.ndarray | None = None
  prepared: 'tfds.Prepared | None' = None

  def __len__(self) -> int:
    return len(self.file_id)

  def names(self) -> list[str]:
    """A name for every record: its file and its place in bytes; no two are the same."""
    files = [os.path.basename(file) for file in self.files]
    if len(set(files)) < len(files):
      files = list(self.files)
    return [
      f'{files[file]}@{offset}'
      for file, offset in zip(self.file_id, self.offset, strict=True)
    ]

  def take(self, rows: np.ndarray) -> 'RecordIndex':
    """The index of some records only, in the order of `rows`."""
    return dataclasses.replace(
      self,
      file_id=self.file_id[rows],
      number=self.number[rows],
      offset=self.offset[rows],
      size=self.size[rows],
      labels=None if self.labels is None else self.labels[rows],
      sources=None if self.sources is None else self.sources[rows],
      checksums=None if self.checksums is None else self.checksums[rows],
    )


def _index_of(
  files: Sequence[str], sizes: Sequence[Sequence[int]], **kwargs
) -> RecordIndex:
  per_file = [np.asarray(s, np.int64) for s in sizes]
  empty = np.zeros(0, np.int64)
  return RecordIndex(
    files=tuple(files),
    file_id=np.repeat(np.arange(len(files), dtype=np.int32), [len(s) for s in per_file]),
    number=np.concatenate([empty, *(np.arange(len(s)) for s in per_file)]),
    offset=np.concatenate([empty, *(np.cumsum(s) - s for s in per_file)]),
    size=np.concatenate([empty, *per_file]),
    **kwargs,
  )


def _read_manifest(path: str) -> records.Manifest:
  try:
    with tf.io.gfile.GFile(path, 'rb') as file:
      return records.Manifest.from_json(file.read())
  except ValueError as error:
    raise UserError(
      f'{path}: {error}; convert the data again with tfrecords_tools.convert'
    ) from error


def _index_of_manifest(path: str) -> RecordIndex:
  manifest = _read_manifest(path)
  folder = os.path.dirname(path)
  files = [os.path.join(folder, shard.file) for shard in manifest.shards]
  for file, shard in zip(files, manifest.shards, strict=True):
    if not tf.io.gfile.exists(file):
      raise UserError(f'{file}: named by {path} but missing; run the conversion again')
    found = tf.io.gfile.stat(file).length
    if found != shard.size:
      raise UserError(
        f'{file}: {found} bytes, but {path} says {shard.size}; find the damage with '
        f'python -m tfrecords_tools.validate {path}'
      )
  return _index_of(
    files,
    [shard.record_bytes for shard in manifest.shards],
    labels=np.asarray([i for s in manifest.shards for i in s.labels], np.int64),
    sources=_sources_of(manifest),
    label_names=tuple(manifest.label_names),
    skipped=len(manifest.skipped),
    digests=tuple(shard.sha256 for shard in manifest.shards),
  )


def _sources_of(manifest: records.Manifest) -> np.ndarray | None:
  numbers = [number for shard in manifest.shards for number in shard.sources]
  # Manifests of earlier versions do not tell.
  return np.asarray(numbers, np.int64) if len(numbers) == manifest.records else None


def _scan(files: Sequence[str]) -> RecordIndex:
  sizes, checksums = [], []
  for path in files:
    with tf.io.gfile.GFile(path, 'rb') as file:
      try:
        found = records.scan_records(file, tf.io.gfile.stat(path).length)
      except records.RecordError as error:
        raise UserError(f'{path}: not a readable TFRecord file: {error}') from error
    sizes.append(found[0])
    checksums += found[1]
  return _index_of(files, sizes, checksums=np.asarray(checksums, np.int64))


def _check_foreign(path: str) -> None:
  """Raises `UserError` where the first record of a file is not one that training reads."""
  with tf.io.gfile.GFile(path, 'rb') as file:
    try:
      record = next(records.read_records(file), None)
    except records.RecordError:
      # The reader names damage, and bears some.
      return
  try:
    if record is not None:
      records.check_frames(record)
  except records.RecordError as error:
    raise UserError(f'{path}: record 0 {error}') from error


def _join(parts: Sequence[RecordIndex]) -> RecordIndex:
  if len(parts) == 1:
    return parts[0]
  counts = Counter(
    file if '://' in file else os.path.realpath(file)
    for part in parts
    for file in part.files
  )
  file, times = counts.most_common(1)[0]
  if times > 1:
    raise UserError(
      f'{file}: is named {times} times, so that its records would count as often; name '
      'each file once'
    )
  names = parts[0].label_names
  for part in parts[1:]:
    if tuple(part.label_names) != tuple(names):
      raise UserError(
        f'{part.files[0]}: its class names differ from those of {parts[0].files[0]}; '
        'convert both with the same --label_map'
      )
  starts = np.cumsum([0] + [len(part.files) for part in parts[:-1]])
  labels = [part.labels for part in parts if part.labels is not None]
  sources = [part.sources for part in parts if part.sources is not None]
  checksums = [part.checksums for part in parts if part.checksums is not None]
  told = [
    np.zeros(len(p), np.int64) if p.checksums is None else p.checksums for p in parts
  ]
  return RecordIndex(
    files=tuple(file for part in parts for file in part.files),
    file_id=np.concatenate(
      [part.file_id + start for part, start in zip(parts, starts, strict=True)]
    ).astype(np.int32),
    number=np.concatenate([part.number for part in parts]),
    offset=np.concatenate([part.offset for part in parts]),
    size=np.concatenate([part.size for part in parts]),
    labels=np.concatenate(labels) if len(labels) == len(parts) else None,
    sources=np.concatenate(sources) if len(sources) == len(parts) else None,
    label_names=names,
    skipped=sum(part.skipped for part in parts),
    digests=tuple(
      digest for part in parts for digest in part.digests or [''] * len(part.files)
    ),
    checksums=np.concatenate(told) if checksums else None,
  )


def _manifest_in(folder: str, shown: str) -> str:
  """The only manifest in a folder; `shown` is what the user called it."""
  names = sorted(tf.io.gfile.listdir(folder))
  names = [name for name in names if name.endswith(records.MANIFEST_SUFFIX)]
  if len(names) != 1:
    example = os.path.join(shown, min(names, default=records.manifest_name('train')))
    raise FieldError(
      f'input_path {shown!r}: a folder with {len(names)} manifests, expected 1; '
      f'name one, for example {example}'
    )
  return os.path.join(folder, names[0])


def input_files(path: str) -> list[str]:
  """The manifests and record files that a part of an `input_path` names.

  Raises:
    UserError: nothing is there, or a folder leaves open which manifest is meant.
  """
  found = [files.encodable(name) for name in files.matches(path)]
  if not found:
    raise FieldError(f'input_path {path!r}: no file matches; check the path or pattern')
  if len(found) == 1 and tf.io.gfile.isdir(found[0]):
    return [_manifest_in(found[0], path)]
  # A pattern of records takes in the indices of their frames, which are beside them.
  beside = {records.frame_index_name(name) for name in found}
  return [name for name in found if name not in beside]


def _check_splits(path: str, is_training: bool) -> None:
  """Tells of a pattern that takes several splits; refuses it for evaluation."""
  found = input_files(path)
  manifests = [
    name if name.endswith(records.MANIFEST_SUFFIX) else records.manifest_beside(name)
    for name in found
  ]
  splits = sorted(
    {
      os.path.basename(name).removesuffix(records.MANIFEST_SUFFIX): None
      for name in manifests
      if name
    }
  )
  if len(splits) < 2:
    return
  line = f'input_path {path!r}: takes the splits {", ".join(splits)} together'
  if not is_training:
    raise FieldError(
      f'{line}, so that their score would be one; name one, such as '
      f'{os.path.join(os.path.dirname(path), records.manifest_name(splits[0]))}, or '
      'several with commas between them'
    )
  ranges.tell_once(f'note: {line}')


def _index_of_path(path: str) -> list[RecordIndex]:
  found = input_files(path)
  parts = [_index_of_manifest(f) for f in found if f.endswith(records.MANIFEST_SUFFIX)]
  found = [f for f in found if not f.endswith(records.MANIFEST_SUFFIX)]
  return parts + ([_index_of_files(found)] if found else [])


def _index_of_files(files: Sequence[str]) -> RecordIndex:
  """Index of TFRecord files: from their manifest if one stands beside, else by a scan."""
  manifests = {records.manifest_beside(file) for file in files}
  path = manifests.pop() if len(manifests) == 1 else None
  if path is None or not tf.io.gfile.exists(path):
    whole = _scan(files)
    _check_foreign(files[0])
    return whole
  whole = _index_of_manifest(path)
  wanted = [i for i, file in enumerate(whole.files) if file in set(files)]
  return whole.take(np.flatnonzero(np.isin(whole.file_id, wanted)))


def frame_rate(config: data_config.DataConfig) -> float | None:
  """Frames a second that clips of a data config are taken of.

  With `stride_seconds` it says so itself; else they are the stored ones of most records, to
  three digits, and None where no manifest tells.
  """
  return tempo.rate(config) or next(iter(frame_rates(config)), None)


def frame_rates(config: data_config.DataConfig) -> dict[float, int]:
  """Stored frames a second of a data config, the most common first: of how many records.

  Only manifests are read; empty where there is none, or none tells.
  """
  rates: Counter[float] = Counter()
  try:
    for path in _manifests(config.input_path):
      rates.update(_read_manifest(path).frame_rates)
  except (UserError, tf.errors.OpError):
    return {}  # Who reads the data says what is wrong with it.
  return dict(rates.most_common())


def conversion(config: data_config.DataConfig) -> Mapping[str, Any]:
  """How frames were stored in the first records of a data config, as it was asked for.

  Empty where no manifest tells.
  """
  try:
    for path in _manifests(config.input_path):
      asked = _read_manifest(path).arguments
      return {name: asked[name] for name in _OF_FRAMES if name in asked}
  except (UserError, tf.errors.OpError):
    pass
  return {}


def class_names(config: data_config.DataConfig) -> Sequence[str]:
  """Class names by id, as the first manifest of a data config tells; empty where none does."""
  try:
    for path in _manifests(config.input_path):
      return _read_manifest(path).label_names
  except (UserError, tf.errors.OpError):
    pass  # Who reads the data says what is wrong with it.
  return ()


def _manifests(input_path: str) -> list[str]:
  """The manifests that are named, and those beside the record files that are."""
  found = set()
  for part in files.split_paths(input_path):
    for path in input_files(part):
      is_one = path.endswith(records.MANIFEST_SUFFIX)
      found.add(path if is_one else records.manifest_beside(path))
  return sorted(path for path in found if path and tf.io.gfile.exists(path))


def _index_of_tfds(config: data_config.DataConfig) -> RecordIndex:
  from official.video.data import tfds

  name, split, folder = config.tfds_name, config.tfds_split, config.tfds_data_dir
  files, spans = tfds.record_files(name, split, folder)
  whole = _scan(files)
  keep = [
    rows[start:stop]
    for file, (start, stop) in enumerate(spans)
    for rows in [np.flatnonzero(whole.file_id == file)]
  ]
  return dataclasses.replace(
    whole.take(np.concatenate(keep)),
    label_names=tfds.label_names(name, folder),
    skipped=tfds.num_skipped(name, split, folder),
    prepared=tfds.Prepared(name, folder),
  )


def _mixed(numbers: np.ndarray, seed: int) -> np.ndarray:
  """[N] uint64 that look drawn, each of its number and the seed alone (SplitMix64)."""
  with np.errstate(over='ignore'):
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(
      seed + 1
    )
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
      mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def label_subset(index: RecordIndex, fraction: float, seed: int) -> RecordIndex:
  """A share of each class's records, at least one a class, the same ones for a seed.

  Where the manifest tells sources, each video's number decides, whatever others are there:
  copies of a set that lack other videos, or store them in other shards, share all that they
  have in common but for what one more or less makes of the share.

  Raises:
    UserError: the labels are not known without decoding (no manifest).
  """
  if index.labels is None:
    raise FieldError(
      f'label_fraction {fraction}: the labels of {index.files[0]} are unknown without a '
      'manifest; convert the data with tfrecords_tools.convert'
    )
  if index.sources is None:
    order = np.random.default_rng(seed).permutation(len(index))
  else:
    order = np.argsort(_mixed(index.sources, seed), kind='stable')
  keep = []
  for label in np.unique(index.labels):
    rows = order[index.labels[order] == label]
    keep.append(rows[: max(1, round(fraction * len(rows)))])
  return index.take(np.sort(np.concatenate(keep)))


def load_index(config: data_config.DataConfig) -> RecordIndex:
  """Index of the records that a data config names.

  Raises:
    UserError: nothing is found, or what is found is damaged or inconsistent.
  """
  if config.input_path and config.tfds_name:
    raise FieldError(
      f'input_path {config.input_path!r}: tfds_name {config.tfds_name!r} is set too; set '
      'one of them to the empty text'
    )
  if not (config.input_path or config.tfds_name):
    raise FieldError(
      'input_path: names no data; set it to a manifest, such as /data/train.manifest.json'
    )
  if config.tfds_name:
    index = _index_of_tfds(config)
  else:
    paths = files.split_paths(config.input_path)
    if not paths:
      raise FieldError(f'input_path {config.input_path!r}: names no path')
    for path in paths:
      _check_splits(path, config.is_training)
    index = _join([part for path in paths for part in _index_of_path(path)])
  if not len(index):
    raise UserError(f'{config.input_path or config.tfds_name}: holds no records')
  if config.label_fraction < 1:
    index = label_subset(index, config.label_fraction, config.seed)
  return index

"""Proves records against their manifest, and names the file and record of each problem.

For example

  python -m tfrecords_tools.validate records --frames=2

Checks of every shard that it exists, and its size, SHA-256 and number of records; of
every record its checksums, required keys, labels, boxes, segments and the header of every
frame; of the index of frames beside a shard that it is the one which its records give.
--frames decodes that many frames of each record in full, --full all. TFRecord files without
a manifest are checked too, for what training needs of them.

Exit codes: 0 no problem; 1 problems, one a line; 2 the request is wrong.
"""

import argparse
import itertools
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import tqdm
from google.protobuf.message import DecodeError

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools import frame_index, storage
from tfrecords_tools.commands import (
  EXIT_OK,
  EXIT_PROBLEMS,
  Parser,
  number,
  run_command,
  say,
)
from tfrecords_tools.datasets.tracking import ANNOTATION
from tfrecords_tools.record_sets import RecordSet, find_record_sets
from tfrecords_tools.state import STATE_SUFFIX
from tfrecords_tools.stored_frame import FrameError, decode_frame, frame_size

_BOX_KEYS = (
  records.BBOX_YMIN,
  records.BBOX_XMIN,
  records.BBOX_YMAX,
  records.BBOX_XMAX,
)
_TYPES = {'bytes': bytes, 'int64': int, 'float': float}
# Of a problem that many records of a file share, this many are printed.
_SHOWN_ALIKE = 10
_RECORD_PROBLEM = re.compile(r'(.*): record \d+: (.*)', re.DOTALL)


# --- One record -----------------------------------------------------------------------


def check_types(clip: Mapping[str, list]) -> Iterator[str]:
  """Yields the keys of the contract that hold something else than it says."""
  for key, field in records.FIELDS.items():
    values = clip.get(key, [])
    nested = bool(values) and isinstance(values[0], list)
    if values and nested != field.per_step and not (nested and key in records.LISTED):
      yield f'{key} is a {"feature list" if nested else "context feature"}, not the other'
      continue
    leaves = list(itertools.chain.from_iterable(values)) if nested else values
    if any(not isinstance(leaf, _TYPES[field.dtype]) for leaf in leaves):
      yield f'{key} holds {type(leaves[0]).__name__} values, expected {field.dtype}'


def _check_keys(clip: Mapping[str, list]) -> Iterator[str]:
  required = [key for key, field in records.FIELDS.items() if field.required]
  yield from (f'lacks the required key {key}' for key in required if key not in clip)
  yield from check_types(clip)
  for key in required:
    if key in clip and not any(step != [] for step in clip[key]):
      yield f'the required key {key} is empty'


def _frame_problem(
  data: bytes, expected: tuple[int, int] | None, full: bool
) -> str | None:
  try:
    size = frame_size(data)
    if full:
      decode_frame(data)
  except FrameError as error:
    return str(error)
  if expected and size != expected:
    return 'is {}x{}, the record says {}x{}'.format(*size, *expected)
  return None


def _sampled(count: int, wanted: int) -> set[int]:
  """`wanted` of `count` indices, evenly spread."""
  wanted = min(count, wanted)
  return {(2 * k + 1) * count // (2 * wanted) for k in range(wanted)}


def _check_frames(clip: Mapping[str, list], decode: int) -> Iterator[str]:
  frames = [step[0] for step in clip[records.IMAGE_ENCODED]]
  if times := [step[0] for step in clip.get(records.IMAGE_TIMESTAMP, [])]:
    if len(frames) != len(times):
      yield f'{len(frames)} frames but {len(times)} timestamps'
    if any(b <= a for a, b in itertools.pairwise(times)) or times[0] < 0:
      yield f'{records.IMAGE_TIMESTAMP} does not increase from 0'
  for rate in clip.get(records.IMAGE_FRAME_RATE, []):
    # A single frame of a source that states no rate has none.
    if not 0 < rate < math.inf and (rate or len(frames) > 1):
      yield f'{records.IMAGE_FRAME_RATE} is {rate}, expected a positive number'
  stated = [clip.get(key, []) for key in (records.IMAGE_WIDTH, records.IMAGE_HEIGHT)]
  size = (stated[0][0], stated[1][0]) if all(stated) else None
  full = _sampled(len(frames), decode)
  for index, data in enumerate(frames):
    if problem := _frame_problem(data, size, index in full):
      yield f'frame {index} {problem}'


def _check_labels(clip: Mapping[str, list], names: Sequence[str] | None) -> Iterator[str]:
  ids = clip.get(records.LABEL_INDEX, [])
  strings = clip.get(records.LABEL_STRING, [])
  end = 2**31 if names is None else len(names)
  for label in ids:
    if not 0 <= label < end:
      yield f'{records.LABEL_INDEX} {label} is outside of the {end} classes'
      return
  expected = strings if names is None else [records.encode_text(names[i]) for i in ids]
  if strings != expected:
    found, wanted = (
      [name.decode(errors='replace') for name in texts] for texts in (strings, expected)
    )
    yield f'{records.LABEL_STRING} is {found}, the manifest calls {ids} {wanted}'


def _check_box(box: Sequence[float], may_be_empty: bool) -> str | None:
  ymin, xmin, ymax, xmax = box
  if not all(math.isfinite(side) and -1e-6 <= side <= 1 + 1e-6 for side in box):
    return 'is not in [0, 1]'
  if ymin > ymax or xmin > xmax:
    return 'ends before it starts'
  if (ymin == ymax or xmin == xmax) and not may_be_empty:
    return 'has no area'
  return None


def _check_regions(clip: Mapping[str, list]) -> Iterator[str]:
  for prefix in ('', 'detected/'):
    yield from _check_regions_of(clip, prefix)


def _check_regions_of(clip: Mapping[str, list], prefix: str) -> Iterator[str]:
  """What is wrong with the annotated regions, or with those under a prefix."""
  regions = {
    k: v
    for k, v in clip.items()
    if k.startswith(f'{prefix}region/') and k in records.FIELDS
  }
  lengths = {key: len(steps) for key, steps in regions.items()}
  if len(set(lengths.values())) > 1:
    yield f'{prefix}regions have different numbers of entries: {lengths}'
    return
  time_key = prefix + records.REGION_TIMESTAMP
  yield from _check_times(clip, regions.pop(time_key, []), time_key)
  box_keys = [prefix + key for key in _BOX_KEYS]
  # A target that is followed through a video may leave the frame.
  tracked = ANNOTATION in clip
  for step in range(min(lengths.values(), default=0)):
    if len({len(steps[step]) for steps in regions.values()}) > 1:
      yield f'{prefix}region entry {step} has different numbers of boxes, labels or tracks'
    elif set(box_keys) <= regions.keys():
      for box in zip(*(regions[key][step] for key in box_keys), strict=True):
        if problem := _check_box(box, tracked):
          yield f'box {list(box)} of {prefix}region entry {step} {problem}'


def _check_times(
  clip: Mapping[str, list], steps: Sequence[list], key: str
) -> Iterator[str]:
  """Which times of regions are not within the clip."""
  begin, end = (clip.get(k) for k in (records.START_TIMESTAMP, records.END_TIMESTAMP))
  # A record of anybody's need not say how long its clip is.
  span = end[0] - begin[0] if begin and end else math.inf
  for row, step in enumerate(steps):
    time = step[0] if step else -1
    if not 0 <= time <= span:
      yield f'{key} {row} is {time}, the clip lasts {span} us'


def _check_segments(clip: Mapping[str, list]) -> Iterator[str]:
  starts = clip.get(records.SEGMENT_START_INDEX, [])
  ends = clip.get(records.SEGMENT_END_INDEX, [])
  frames = len(clip[records.IMAGE_ENCODED])
  if len(starts) != len(ends):
    yield f'{len(starts)} segment starts but {len(ends)} ends'
    return
  for start, end in zip(starts, ends, strict=True):
    if not 0 <= start <= end < frames:
      yield f'segment {start} to {end} is not within the {frames} frames'


def check_record(
  data: bytes, label_names: Sequence[str] | None, decode: int
) -> list[str]:
  """Problems of a serialized record; empty for a sound one.

  Args:
    data: the serialized `SequenceExample`.
    label_names: class names by id; None for a record of anybody's, which need not have
      the contract's keys but must have frames.
    decode: frames to decode in full; of the others only the header is read.
  """
  return _check_parsed(data, label_names, decode)[0]


def _check_parsed(
  data: bytes, label_names: Sequence[str] | None, decode: int
) -> tuple[list[str], Mapping[str, list]]:
  """As `check_record`, and the record's keys as far as it can be parsed."""
  try:
    clip = records.decode_record(data)
  except DecodeError:
    return ['is not a SequenceExample'], {}
  if label_names is None:
    try:
      records.check_frames(data)
    except records.RecordError as error:
      return [str(error)], clip
  check_keys = check_types if label_names is None else _check_keys
  if problems := list(check_keys(clip)):
    return problems, clip
  if not all(clip[records.IMAGE_ENCODED]) or not all(
    clip.get(records.IMAGE_TIMESTAMP, [])
  ):
    return ['has a frame or timestamp without a value'], clip
  problems = [
    *_check_frames(clip, decode),
    *_check_labels(clip, label_names),
    *_check_regions(clip),
    *_check_segments(clip),
  ]
  return problems, clip


# --- One shard ------------------------------------------------------------------------


class _IndexCheck:
  """Compares the index of frames beside a file with the one that its records give."""

  def __init__(self, path: str, shard: records.Shard | None):
    self._path, self._beside = path, records.frame_index_name(path)
    self._named = shard.frame_index if shard else ''
    self._there = storage.exists(self._beside)
    self._rows = records.FrameIndexWriter()
    self._reason = ''

  def __enter__(self) -> '_IndexCheck':
    return self

  def __exit__(self, *exception: object) -> None:
    self._rows.__exit__(*exception)

  def add(self, data: bytes) -> None:
    """Takes the next record."""
    if self._there and not self._reason:
      try:
        records.make_index([data], self._rows)
      except records.RecordError as error:
        self._reason = str(error)

  def problems(self, sha256: str) -> Iterator[str]:
    """What is wrong with the index of the file, which has this digest."""
    fix = f'python -m tfrecords_tools.index {self._path} makes it'
    if not self._there:
      if self._named:
        yield f'{self._beside}: is missing; {fix}'
      return
    if self._reason:
      yield f'{self._beside}: can not be of {os.path.basename(self._path)}; remove it'
      return
    with storage.open_to_read(self._beside) as file:
      found = storage.HashingReader(file, storage.size(self._beside)).hexdigest()
    if found != frame_index.digest_of(self._rows, sha256):
      yield f'{self._beside}: is damaged, or of another file; {fix} again'


class SetChecker:
  """Checks the files of one set.

  Attributes:
    num_records: records that were read.
    index_problems: of the indices of frames beside the files, each beginning with a path.
  """

  def __init__(self, record_set: RecordSet, decode: int):
    self._set = record_set
    manifest = record_set.manifest
    self._shards = {shard.file: shard for shard in manifest.shards} if manifest else {}
    self._label_names = manifest.label_names if manifest else None
    self._decode = decode
    self._media: dict[bytes, str] = {}
    self.num_records = 0
    self.index_problems: list[str] = []

  def check(self, name: str) -> Iterator[str]:
    """Yields the problems of a file, each beginning with its path and the record."""
    path = os.path.join(self._set.folder, name)
    try:
      with storage.open_to_read(path) as file:
        for problem in self._check_file(name, file, storage.size(path)):
          yield f'{path}: {problem}'
    except OSError as error:
      yield f'{path}: {error.strerror}'

  def _check_file(self, name: str, file: BinaryIO, size: int) -> Iterator[str]:
    shard = self._shards.get(name)
    if shard and size != shard.size:
      yield f'has {size} bytes, the manifest says {shard.size}'
    reader = storage.HashingReader(file, size)
    found = 0
    with _IndexCheck(os.path.join(self._set.folder, name), shard) as index_check:
      try:
        for index, data in enumerate(records.read_records(reader)):
          found += 1
          index_check.add(data)
          for problem in self._check_entry(name, index, data):
            yield f'record {index}: {problem}'
      except records.RecordError as error:
        yield f'{error}; the rest of the file was not read'
      else:
        if shard and found != shard.records:
          yield f'has {found} records, the manifest says {shard.records}'
        self.index_problems += index_check.problems(reader.hexdigest())
    self.num_records += found
    if shard and size == shard.size and reader.hexdigest() != shard.sha256:
      yield "its SHA-256 is not the manifest's"

  def _check_entry(self, name: str, index: int, data: bytes) -> Iterator[str]:
    shard = self._shards.get(name)
    listed = shard is not None and index < shard.records
    if shard and listed:
      expected = shard.record_bytes[index] - records.FRAMING_BYTES
      if len(data) != expected:
        yield f'has {len(data)} bytes, the manifest says {expected}'
    problems, clip = _check_parsed(data, self._label_names, self._decode)
    yield from problems
    if problems:
      return
    label = [*clip.get(records.LABEL_INDEX, []), records.NO_LABEL][0]
    if shard and listed and label != shard.labels[index]:
      yield f'has label {label}, the manifest says {shard.labels[index]}'
    if shard:
      yield from self._check_source(shard, index, clip)
    for media_id in clip.get(records.MEDIA_ID, [])[:1]:
      yield from self._check_media_id(media_id, f'{name} {index}')

  def _check_source(
    self, shard: records.Shard, index: int, clip: Mapping[str, list]
  ) -> Iterator[str]:
    found = [*clip.get(records.SOURCE_ID, []), b''][0].decode('utf-8', 'surrogateescape')
    if index < len(shard.sources) and (
      records.source_number(found) != shard.sources[index]
    ):
      yield f'has the source {found!r}, the manifest says another one'

  def _check_media_id(self, media_id: bytes, where: str) -> Iterator[str]:
    first = self._media.setdefault(media_id, where)
    if first != where:
      yield f'{records.MEDIA_ID} {media_id!r} is that of {first}'


def _stray_files(record_set: RecordSet) -> Iterator[str]:
  """Files that look like the split's but are not in its manifest."""
  manifest = record_set.manifest
  if manifest is None:
    return
  for name in storage.list_folder(record_set.folder):
    path = os.path.join(record_set.folder, name)
    beside = records.manifest_beside(path)
    if (
      name not in record_set.files
      and beside
      and os.path.basename(beside) == records.manifest_name(manifest.split)
    ):
      yield f'{path}: is not in the manifest'


def check_set(record_set: RecordSet, decode: int, bar: Any) -> tuple[list[str], int]:
  """Checks all files of a set, against its manifest if it has one.

  Args:
    record_set: what to check.
    decode: frames of each record to decode in full.
    bar: progress to advance by one a record.

  Returns:
    The problems, and the number of records read.
  """
  checker = SetChecker(record_set, decode)
  problems = list(_stray_files(record_set))
  for name in record_set.files:
    before = checker.num_records
    problems += checker.check(name)
    problems += checker.index_problems
    checker.index_problems.clear()
    bar.update(checker.num_records - before)
  return problems, checker.num_records


def _condensed(problems: Sequence[str]) -> Iterator[str]:
  """The problems, but of those that many records of a file share the first only."""
  seen: Counter[tuple[str, ...]] = Counter()
  for problem in problems:
    match = _RECORD_PROBLEM.fullmatch(problem)
    key = match.groups() if match else (problem,)
    seen[key] += 1
    if seen[key] <= _SHOWN_ALIKE:
      yield problem
  for key, count in seen.items():
    if count > _SHOWN_ALIKE:
      path, text = key
      yield f'{path}: {count - _SHOWN_ALIKE} more records: {text}'


def _unfinished(path: str) -> list[str]:
  return [
    f'{os.path.join(path, name)}: the conversion of this split is unfinished; run its '
    'command again'
    for name in storage.list_folder(path)
    if name.endswith(STATE_SUFFIX)
  ]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
  parser = Parser(prog='python -m tfrecords_tools.validate', description=__doc__)
  parser.add_argument(
    'path', help='a manifest, a folder with manifests or TFRecord files, or one such file'
  )
  decode = parser.add_mutually_exclusive_group()
  decode.add_argument(
    '--frames',
    type=number(int, 0),
    default=1,
    help='frames of each record to decode in full; default 1',
  )
  decode.add_argument('--full', action='store_true', help='decode every frame in full')
  return parser.parse_args(arguments)


def _describe(found: int, sets: Sequence[RecordSet], problems: int) -> str:
  outcome = f'{problems} problems' if problems else 'no problem'
  manifests = [record_set.manifest for record_set in sets if record_set.manifest]
  if sets and not manifests:
    files = sum(len(record_set.files) for record_set in sets)
    return f'{found} records read in {files} files without a manifest: {outcome}'
  total = sum(manifest.records for manifest in manifests)
  return f'{found} of {total} records read in {len(sets)} splits: {outcome}'


def main(arguments: Sequence[str]) -> int:
  """Checks what the flags name; returns the exit code."""
  flags = _parse(arguments)
  decode = sys.maxsize if flags.full else flags.frames
  problems, found = _unfinished(flags.path), 0
  sets = find_record_sets(flags.path, required=not problems)
  if problems:
    # What an unfinished conversion has written is still its own affair.
    sets = [record_set for record_set in sets if record_set.manifest]
  total = sum(s.manifest.records for s in sets if s.manifest)
  bar = tqdm.tqdm(total=total or None, unit=' records', disable=None, file=sys.stderr)
  with bar:
    for record_set in sets:
      more, count = check_set(record_set, decode, bar)
      problems += more
      found += count
  if not found and not problems:
    raise UserError(f'{flags.path}: holds no record')
  for problem in _condensed(problems):
    say(problem)
  print(_describe(found, sets, len(problems)))
  return EXIT_PROBLEMS if problems else EXIT_OK


if __name__ == '__main__':
  sys.exit(run_command(main))

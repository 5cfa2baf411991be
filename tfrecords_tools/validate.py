"""Proves records against their manifest, and names the file and record of each problem.

For example

  python -m tfrecords_tools.validate records --frames=2

Checks of every shard that it exists, and its size, SHA-256 and number of records; of
every record its checksums, required keys, labels, boxes, segments and the JPEG header of
every frame. --frames decodes that many frames of each record in full, --full all.

Exit codes: 0 no problem; 1 problems, one a line; 2 the request is wrong.
"""

import argparse
import itertools
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import simplejpeg
import tqdm
from google.protobuf.message import DecodeError

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools import storage
from tfrecords_tools.commands import EXIT_OK, EXIT_PROBLEMS, Parser, number, run_command
from tfrecords_tools.datasets.tracking import ANNOTATION
from tfrecords_tools.state import STATE_SUFFIX, read_manifest

_BOX_KEYS = (
  records.BBOX_YMIN,
  records.BBOX_XMIN,
  records.BBOX_YMAX,
  records.BBOX_XMAX,
)
_TYPES = {'bytes': bytes, 'int64': int, 'float': float}


def find_manifests(path: str, required: bool = True) -> list[str]:
  """Manifests at `path`, a manifest or a folder.

  Raises:
    UserError: there is none, and it is `required`.
  """
  if not storage.is_folder(path) and storage.exists(path):
    if path.endswith(records.MANIFEST_SUFFIX):
      return [path]
    raise UserError(f'{path}: expected a *{records.MANIFEST_SUFFIX} file or a folder')
  found = [
    os.path.join(path, name)
    for name in storage.list_folder(path)
    if name.endswith(records.MANIFEST_SUFFIX)
  ]
  if not found and required:
    seen = 'has no manifest in it' if storage.is_folder(path) else 'does not exist'
    raise UserError(f'{path}: {seen}; expected the --output_dir of a conversion')
  return found


# --- One record -----------------------------------------------------------------------


def _check_keys(clip: Mapping[str, list]) -> Iterator[str]:
  for key, field in records.FIELDS.items():
    if key not in clip:
      if field.required:
        yield f'lacks the required key {key}'
      continue
    values = clip[key]
    nested = bool(values) and isinstance(values[0], list)
    if values and nested != field.per_step:
      yield f'{key} is a {"feature list" if nested else "context feature"}, not the other'
      continue
    leaves = list(itertools.chain.from_iterable(values)) if nested else values
    if any(not isinstance(leaf, _TYPES[field.dtype]) for leaf in leaves):
      yield f'{key} holds {type(leaves[0]).__name__} values, expected {field.dtype}'
    if field.required and not leaves:
      yield f'the required key {key} is empty'


def _decode_problem(data: bytes, height: int, width: int, full: bool) -> str | None:
  try:
    size = simplejpeg.decode_jpeg_header(data)[:2]
    if full:
      simplejpeg.decode_jpeg(data)
  except ValueError as error:
    return f'is not a readable JPEG: {error}'
  if not data.rstrip(b'\0').endswith(b'\xff\xd9'):
    return 'is a cut JPEG, without its end marker'
  if size != (height, width):
    return f'is {size[1]}x{size[0]}, the record says {width}x{height}'
  return None


def _sampled(count: int, wanted: int) -> set[int]:
  """`wanted` of `count` indices, evenly spread."""
  wanted = min(count, wanted)
  return {(2 * k + 1) * count // (2 * wanted) for k in range(wanted)}


def _check_frames(clip: Mapping[str, list], decode: int) -> Iterator[str]:
  frames = [step[0] for step in clip[records.IMAGE_ENCODED]]
  times = [step[0] for step in clip[records.IMAGE_TIMESTAMP]]
  if len(frames) != len(times):
    yield f'{len(frames)} frames but {len(times)} timestamps'
  if any(b <= a for a, b in itertools.pairwise(times)) or times[0] < 0:
    yield f'{records.IMAGE_TIMESTAMP} does not increase from 0'
  height, width = clip[records.IMAGE_HEIGHT][0], clip[records.IMAGE_WIDTH][0]
  full = _sampled(len(frames), decode)
  for index, data in enumerate(frames):
    if problem := _decode_problem(data, height, width, index in full):
      yield f'frame {index} {problem}'


def _check_labels(clip: Mapping[str, list], names: Sequence[str]) -> Iterator[str]:
  ids = clip.get(records.LABEL_INDEX, [])
  strings = [
    name.decode('utf-8', 'surrogateescape') for name in clip.get(records.LABEL_STRING, [])
  ]
  for label in ids:
    if not 0 <= label < len(names):
      yield f'{records.LABEL_INDEX} {label} is outside of the {len(names)} classes'
      return
  expected = [names[label] for label in ids]
  if strings != expected:
    yield f'{records.LABEL_STRING} is {strings}, the manifest calls {ids} {expected}'


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
  regions = {
    k: v
    for k, v in clip.items()
    if k.startswith(f'{prefix}region/') and k in records.FIELDS
  }
  lengths = {key: len(steps) for key, steps in regions.items()}
  if len(set(lengths.values())) > 1:
    yield f'{prefix}regions have different numbers of entries: {lengths}'
    return
  time_key, box_keys = (
    prefix + records.REGION_TIMESTAMP,
    [prefix + key for key in _BOX_KEYS],
  )
  times = [step[0] if step else -1 for step in regions.get(time_key, [])]
  span = clip[records.END_TIMESTAMP][0] - clip[records.START_TIMESTAMP][0]
  for step, time in enumerate(times):
    if not 0 <= time <= span:
      yield f'{time_key} {step} is {time}, the clip lasts {span} us'
  boxes = regions.keys() - {time_key}
  # A target that is followed through a video may leave the frame.
  tracked = ANNOTATION in clip
  for step in range(min(lengths.values(), default=0)):
    if len({len(regions[key][step]) for key in boxes}) > 1:
      yield f'{prefix}region entry {step} has different numbers of boxes, labels or tracks'
    elif set(box_keys) <= boxes:
      for box in zip(*(regions[key][step] for key in box_keys), strict=True):
        if problem := _check_box(box, tracked):
          yield f'box {list(box)} of {prefix}region entry {step} {problem}'


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


def check_record(data: bytes, label_names: Sequence[str], decode: int) -> list[str]:
  """Problems of a serialized record; empty for a sound one.

  Args:
    data: the serialized `SequenceExample`.
    label_names: class names by id.
    decode: frames to decode in full; of the others only the header is read.
  """
  try:
    clip = records.decode_record(data)
  except DecodeError:
    return ['is not a SequenceExample']
  if problems := list(_check_keys(clip)):
    return problems
  if not all(clip[records.IMAGE_ENCODED]) or not all(clip[records.IMAGE_TIMESTAMP]):
    return ['has a frame or timestamp without a value']
  return [
    *_check_frames(clip, decode),
    *_check_labels(clip, label_names),
    *_check_regions(clip),
    *_check_segments(clip),
  ]


# --- One shard ------------------------------------------------------------------------


class ShardChecker:
  """Checks the shards of one manifest.

  Attributes:
    num_records: records that were read.
  """

  def __init__(self, manifest: records.Manifest, folder: str, decode: int):
    self._manifest = manifest
    self._folder = folder
    self._decode = decode
    self._media: dict[bytes, str] = {}
    self.num_records = 0

  def check(self, shard: records.Shard) -> Iterator[str]:
    """Yields the problems of a shard, each beginning with the file and the record."""
    path = os.path.join(self._folder, shard.file)
    try:
      with storage.open_to_read(path) as file:
        for problem in self._check_file(shard, file, storage.size(path)):
          yield f'{path}: {problem}'
    except OSError as error:
      yield f'{path}: {error.strerror}'

  def _check_file(self, shard: records.Shard, file: BinaryIO, size: int) -> Iterator[str]:
    if size != shard.size:
      yield f'has {size} bytes, the manifest says {shard.size}'
    reader = storage.HashingReader(file, size)
    found = 0
    try:
      for index, data in enumerate(records.read_records(reader)):
        found += 1
        for problem in self._check_entry(shard, index, data):
          yield f'record {index}: {problem}'
    except records.RecordError as error:
      yield f'{error}; the rest of the file was not read'
    else:
      if found != shard.records:
        yield f'has {found} records, the manifest says {shard.records}'
    self.num_records += found
    if size == shard.size and reader.hexdigest() != shard.sha256:
      yield "its SHA-256 is not the manifest's"

  def _check_entry(self, shard: records.Shard, index: int, data: bytes) -> Iterator[str]:
    if index < shard.records:
      expected = shard.record_bytes[index] - records.FRAMING_BYTES
      if len(data) != expected:
        yield f'has {len(data)} bytes, the manifest says {expected}'
    problems = check_record(data, self._manifest.label_names, self._decode)
    yield from problems
    if problems:
      return
    clip = records.decode_record(data)
    label = [*clip.get(records.LABEL_INDEX, []), records.NO_LABEL][0]
    if index < shard.records and label != shard.labels[index]:
      yield f'has label {label}, the manifest says {shard.labels[index]}'
    yield from self._check_source(shard, index, clip)
    yield from self._check_media_id(clip[records.MEDIA_ID][0], f'{shard.file} {index}')

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


def _stray_files(manifest: records.Manifest, folder: str) -> Iterator[str]:
  """Files that look like the split's but are not in its manifest."""
  listed = {shard.file for shard in manifest.shards}
  for name in storage.list_folder(folder):
    path = os.path.join(folder, name)
    beside = records.manifest_beside(path)
    if (
      name not in listed
      and beside
      and (os.path.basename(beside) == records.manifest_name(manifest.split))
    ):
      yield f'{path}: is not in the manifest'


def check_manifest(path: str, decode: int, bar: Any) -> tuple[list[str], int]:
  """Checks all that a manifest describes.

  Args:
    path: the manifest.
    decode: frames of each record to decode in full.
    bar: progress to advance by one a record.

  Returns:
    The problems, and the number of records read.
  """
  folder = os.path.dirname(path)
  manifest = read_manifest(path)
  checker = ShardChecker(manifest, folder, decode)
  problems = list(_stray_files(manifest, folder))
  for shard in manifest.shards:
    before = checker.num_records
    problems += checker.check(shard)
    bar.update(checker.num_records - before)
  return problems, checker.num_records


def _unfinished(path: str) -> list[str]:
  return [
    f'{os.path.join(path, name)}: the conversion of this split is unfinished; run its '
    'command again'
    for name in storage.list_folder(path)
    if name.endswith(STATE_SUFFIX)
  ]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
  parser = Parser(prog='python -m tfrecords_tools.validate', description=__doc__)
  parser.add_argument('path', help='a manifest, or a folder with manifests')
  decode = parser.add_mutually_exclusive_group()
  decode.add_argument(
    '--frames',
    type=number(int, 0),
    default=1,
    help='frames of each record to decode in full; default 1',
  )
  decode.add_argument('--full', action='store_true', help='decode every frame in full')
  return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
  """Checks what the flags name; returns the exit code."""
  flags = _parse(arguments)
  decode = sys.maxsize if flags.full else flags.frames
  problems, found = _unfinished(flags.path), 0
  paths = find_manifests(flags.path, required=not problems)
  total = sum(read_manifest(path).records for path in paths)
  with tqdm.tqdm(total=total, unit=' records', disable=None, file=sys.stderr) as bar:
    for path in paths:
      more, count = check_manifest(path, decode, bar)
      problems += more
      found += count
  for problem in problems:
    print(problem)
  outcome = f'{len(problems)} problems' if problems else 'no problem'
  print(f'{found} of {total} records read in {len(paths)} splits: {outcome}')
  return EXIT_PROBLEMS if problems else EXIT_OK


if __name__ == '__main__':
  sys.exit(run_command(main))

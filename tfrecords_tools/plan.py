"""What a conversion will write, fixed before anything is decoded."""

import dataclasses
import hashlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.datasets.files import RealFiles
from tfrecords_tools.datasets.origins import origin_of
from tfrecords_tools.datasets.rows import sorted_labels
from tfrecords_tools.datasets.source import Listing, SourceClip, read_json, read_lines
from tfrecords_tools.frames import FrameOptions
from tfrecords_tools.summary import Summary

CLIPS_A_SHARD = 100
_CLASS_KEYS = (records.SEGMENT_LABEL_INDEX, records.REGION_LABEL_INDEX)
MENDED_SUFFIX = '.mended'
_MAX_SHARDS = 99_999
_SPLIT_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]*')


@dataclasses.dataclass(frozen=True)
class ShardTask:
  """A work item: one shard, whole.

  Attributes:
    output_dir: folder to write to.
    split: split of the shard.
    shard: number of the shard.
    num_shards: shards of the split.
    clips: clips in the order of their records.
    label_ids: class name to class id.
    options: which frames to store, and how.
    earlier: the shard as it was written before some of its sources gave a record; its
      records are kept. None for a shard that is new.
  """

  output_dir: str
  split: str
  shard: int
  num_shards: int
  clips: Sequence[SourceClip]
  label_ids: Mapping[str, int]
  options: FrameOptions
  earlier: records.Shard | None = None

  @property
  def path(self) -> str:
    """Path of the shard."""
    name = records.shard_name(self.split, self.shard, self.num_shards)
    return os.path.join(self.output_dir, name)

  @property
  def written_path(self) -> str:
    """Where it is written: beside an earlier one, which stays until all are there."""
    return self.path + (MENDED_SUFFIX if self.earlier else '')

  @property
  def num_to_convert(self) -> int:
    """Number of clips whose records aren't there yet."""
    return len(self.clips) - (self.earlier.records if self.earlier else 0)


@dataclasses.dataclass(frozen=True)
class SplitPlan:
  """One split of a conversion.

  Attributes:
    split: its name.
    label_names: class names by id.
    tasks: its shards.
    arguments: everything the bytes depend on, as the manifest records it.
  """

  split: str
  label_names: Sequence[str]
  tasks: Sequence[ShardTask]
  arguments: Mapping[str, Any]

  @property
  def num_clips(self) -> int:
    """Number of listed clips."""
    return sum(len(task.clips) for task in self.tasks)


# `<id> <name>` and `<name> <id>`, as sets and frameworks write their lists.
_NUMBERED_NAME = re.compile(r'(?P<id>\d+)\s*[\s,;:=]\s*(?P<name>\S.*)', re.ASCII)
_NAME_NUMBERED = re.compile(r'(?P<name>.*[^\s,;:=])[\s,;:=]+(?P<id>\d+)', re.ASCII)


_ID = re.compile(r'-?\d{1,18}', re.ASCII)


def _in_order(names: Mapping[int, str]) -> list[str] | None:
  """Names by id; None where the ids don't begin at 0 or 1, or leave one out."""
  ids = sorted(names)
  if not ids or ids[0] not in (0, 1) or ids[-1] - ids[0] >= len(ids):
    return None
  return [names[number] for number in ids]


def _by_id(lines: Sequence[str]) -> list[str] | None:
  """Names of lines that number them, by number; None where not all do, each once."""
  # The first may be a header, which has no number.
  header = bool(lines) and not re.search(r'\d', lines[0])
  for rows in (lines, lines[1:]) if header else (lines,):
    for pattern in (_NUMBERED_NAME, _NAME_NUMBERED):
      found = [pattern.fullmatch(line.strip()) for line in rows]
      numbered = {int(match['id']): match['name'] for match in found if match}
      if len(numbered) == len(rows) and (names := _in_order(numbered)):
        return names
  return None


def _names_of_object(path: str, pairs: Mapping[str, Any]) -> list[str] | None:
  """Names by id of an object of names and ids, either way round; None of any other.

  Raises:
    UserError: an id stands twice, or is negative.
  """
  if not all(map(_is_plain, pairs.values())):
    return None
  rows = [(str(key), str(value)) for key, value in pairs.items()]
  for numbered in (rows, [(value, key) for key, value in rows]):
    if not all(_ID.fullmatch(number) for number, _ in numbered):
      continue
    names: dict[int, str] = {}
    for number, name in numbered:
      if int(number) < 0:
        raise UserError(
          f'--label_map={path}: {name!r} has the id {number}, expected ids from 0 or 1'
        )
      if (other := names.setdefault(int(number), name)) is not name:
        raise UserError(
          f'--label_map={path}: {other!r} and {name!r} both have the id {number}'
        )
    return _in_order(names)
  return None


def _names_of_json(path: str) -> list[str]:
  """Names of a JSON list, or of an object of names and ids, either way round."""
  value = read_json(path)
  if isinstance(value, dict):
    value = _names_of_object(path, value)
  if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
    raise UserError(
      f'--label_map={path}: expected a list of class names, or an object of names and '
      'ids that begin at 0 or 1 and leave none out'
    )
  return value


def _is_plain(value: Any) -> bool:
  return isinstance(value, (str, int)) and not isinstance(value, bool)


def read_label_map(path: str) -> list[str]:
  """Class names by id: one a line, with or without numbers, or JSON.

  Raises:
    UserError: the file can't be read, or a name stands twice.
  """
  if path.lower().endswith('.json'):
    names = _names_of_json(path)
  else:
    lines = read_lines(path)
    names = _by_id(lines) or list(lines)
  if not names:
    raise UserError(f'--label_map={path}: is empty, expected a class name a line')
  repeated = [name for name, count in Counter(names).items() if count > 1]
  if repeated:
    raise UserError(f'--label_map={path}: names {repeated[0]!r} twice')
  return names


def check_names(listing: Listing, names: Sequence[str], label_map: str | None) -> Listing:
  """The listing, with a note of the clips whose labels are not among the names.

  Raises:
    UserError: none of the labels is.
  """
  lacking = [clip for clip in listing.clips if set(clip.labels) - set(names)]
  if not lacking:
    return listing
  given = f'--label_map={label_map}' if label_map else 'the list of classes of the set'
  unknown = sorted({name for clip in lacking for name in clip.labels} - set(names))
  if not any(set(clip.labels) & set(names) for clip in listing.clips):
    raise UserError(
      f'{given}: has none of the labels, such as {unknown[0]!r}, but '
      f'{", ".join(map(repr, names[:3]))}'
    )
  found = Summary()
  found.noticed(
    f'clips whose labels {given.partition("=")[0]} lacks, such as {unknown[0]!r}',
    lacking[0].name,
    len(lacking),
  )
  return dataclasses.replace(listing, notes=[*listing.notes, *found.lines()])


def renumbered(listing: Listing, names: Sequence[str], label_map: str | None) -> Listing:
  """The listing, with the class ids of its segments and boxes as --label_map has them.

  Raises:
    UserError: it lacks the class of one, whose clip would be converted all the same.
  """
  own = listing.label_names
  if not label_map or own is None:
    return listing
  ids = {name: index for index, name in enumerate(names)}

  def new_id(old: Any) -> Any:
    if isinstance(old, list):
      return [new_id(entry) for entry in old]
    if old == records.NO_LABEL:
      return old
    if own[old] not in ids:
      raise UserError(f'--label_map={label_map}: lacks the class {own[old]!r}')
    return ids[own[old]]

  def with_ids(clip: SourceClip) -> SourceClip:
    found = {key: clip.fields[key] for key in _CLASS_KEYS if key in clip.fields}
    if not found or set(clip.labels) - ids.keys():
      return clip
    changed = {key: new_id(value) for key, value in found.items()}
    return dataclasses.replace(clip, fields={**clip.fields, **changed})

  return dataclasses.replace(listing, clips=[with_ids(clip) for clip in listing.clips])


def check_splits(listing: Listing) -> None:
  """Raises `UserError` where a split has a name that files can't have."""
  for split in sorted({clip.split for clip in listing.clips}):
    if not _SPLIT_NAME.fullmatch(split):
      raise UserError(
        f'split {split!r}: expected letters, digits, dots, dashes and underscores'
      )


def label_names(listing: Listing, label_map: str | None) -> list[str]:
  """Class names by id: of the label map, else the dataset's own, else the sorted names.

  Names that are all numbers sort as numbers.
  """
  if label_map:
    return read_label_map(label_map)
  if listing.label_names is not None:
    return list(listing.label_names)
  return sorted_labels({name for clip in listing.clips for name in clip.labels})


def _content(clip: SourceClip) -> str:
  """What a clip is listed as: not where its file is, nor what follows from the rest."""
  content = dataclasses.asdict(clip)
  for name in ('file', 'origin', 'excerpt', 'labels_of_segments', 'listed'):
    del content[name]
  if content.get('prefix', '') is None:
    del content['prefix']
  return json.dumps(content, sort_keys=True)


def _with_unique_ids(clips: Sequence[SourceClip]) -> list[SourceClip]:
  """Appends `#2`, `#3`, ... to the ids of clips that have the id of an earlier one."""
  taken = {clip.media_id for clip in clips}
  uses: Counter[str] = Counter()
  result = []
  for clip in clips:
    uses[clip.media_id] += 1
    name = clip.media_id
    while uses[clip.media_id] > 1 and name in taken:
      name = f'{clip.media_id}#{uses[clip.media_id]}'
      uses[clip.media_id] += name in taken
    taken.add(name)
    result.append(dataclasses.replace(clip, media_id=name))
  return result


def _permuted(clips: Sequence[SourceClip], seed: int) -> tuple[list[SourceClip], str]:
  """Clips in seeded random order, and a digest of the list.

  The order is that of hashes, so it is the same on every machine and Python, and clips
  keep their order when others are added.
  """
  keyed = sorted((_content(clip), index) for index, clip in enumerate(clips))
  digest = hashlib.sha256('\n'.join(key for key, _ in keyed).encode()).hexdigest()
  ordered = _with_unique_ids([clips[index] for _, index in keyed])

  def rank(clip):
    text = f'{seed}/{clip.media_id}/{clip.name}'
    # File names need not be UTF-8; Python marks their other bytes, which come back here.
    return hashlib.sha256(text.encode('utf-8', 'surrogateescape')).digest()

  return sorted(ordered, key=rank), digest


def limited(listing: Listing, limit: int, seed: int) -> Listing:
  """Some clips of each split: the first in the seeded order.

  Args:
    listing: clips of all splits.
    limit: of each at most.
    seed: of the choice, which is the same on every machine.
  """
  clips = []
  for split in sorted({clip.split for clip in listing.clips}):
    own = [clip for clip in listing.clips if clip.split == split]
    clips += _permuted(own, seed)[0][:limit]
  return dataclasses.replace(listing, clips=clips)


def _by_video(clips: Sequence[SourceClip]) -> list[list[SourceClip]]:
  """The clips by the video that they show, in the order of their first ones.

  Clips of one file belong together too, whatever their names say.
  """
  group_of: dict[tuple[str, str], list[SourceClip]] = {}
  real = RealFiles()
  for clip in clips:
    keys = (
      ('video', origin_of(clip)),
      ('file', f'{real(clip.file)}|{getattr(clip, "key", "")}'),
    )
    known = [group_of[key] for key in keys if key in group_of]
    group = known[0] if known else []
    group.append(clip)
    if len(known) == 2 and known[1] is not group:
      group += known[1]
      group_of |= {key: group for key, of in group_of.items() if of is known[1]}
    group_of |= dict.fromkeys(keys, group)
  return list({id(group): group for group in group_of.values()}.values())


class _HoldOut:
  """Chooses the videos that are held out, class by class."""

  def __init__(self, clips: Sequence[SourceClip], fraction: float):
    self._sizes = Counter(clip.labels for clip in clips)
    self._wanted = {
      labels: max(round(fraction * size), size > 1)
      for labels, size in self._sizes.items()
    }
    self._held: Counter[tuple[str, ...]] = Counter()

  def _fits(self, counts: Counter, most: Mapping[tuple[str, ...], int]) -> bool:
    return all(self._held[key] + n <= most[key] for key, n in counts.items())

  def choose(self, groups: Sequence[list[SourceClip]]) -> Iterator[list[SourceClip]]:
    """Yields groups: as many as the shares hold, at least one a class if it has two."""
    left = []
    for group in groups:
      counts = Counter(clip.labels for clip in group)
      if self._fits(counts, self._wanted):
        self._held += counts
        yield group
      else:
        left.append((counts, group))
    # Nothing is held out of a class to its last clip.
    most = {labels: size - 1 for labels, size in self._sizes.items()}
    for counts, group in sorted(left, key=lambda entry: len(entry[1])):
      if any(not self._held[key] for key in counts) and self._fits(counts, most):
        self._held += counts
        yield group

  def untouched(self) -> list[tuple[str, ...]]:
    """Classes of several clips of which none is held out."""
    return [key for key, n in self._wanted.items() if n and not self._held[key]]


def hold_out(listing: Listing, fraction: float, seed: int) -> Listing:
  """Moves a share of each class's clips into a split 'test', whole videos at a time.

  Clips of one video show the same people and places: a class of which all clips are of
  one video stays, and is noted.

  Args:
    listing: clips of one split.
    fraction: share that is moved, in (0, 1); less where videos don't fit into it.
    seed: of the choice, which is the same on every machine.

  Raises:
    UserError: the clips are split already, or no video can be moved.
  """
  splits = {clip.split for clip in listing.clips}
  if len(splits) > 1 or 'test' in splits:
    raise UserError(
      f'--test_fraction={fraction:g}: the source has the splits {sorted(splits)} already; '
      'drop the flag'
    )
  ordered = _permuted(listing.clips, seed)[0]
  groups = _by_video(ordered)
  choice = _HoldOut(ordered, fraction)
  held = {id(clip) for group in choice.choose(groups) for clip in group}
  found = Summary()
  for labels in choice.untouched():
    found.noticed(
      'classes of which nothing is held out, as all their clips are of one video by their '
      f'names (a list may name others, by a column {records.SOURCE_ID})',
      '|'.join(labels) or 'unlabelled',
    )
  if not held:
    raise UserError(
      f'--test_fraction={fraction:g}: the {len(ordered)} clips are of {len(groups)} videos '
      'by their names, and no class has two; split them in a list, by a column split, or '
      f'name their videos there, by a column {records.SOURCE_ID}'
    )
  clips = [
    dataclasses.replace(clip, split='test') if id(clip) in held else clip
    for clip in ordered
  ]
  return dataclasses.replace(listing, clips=clips, notes=[*listing.notes, *found.lines()])


def _shards(clips: Sequence[SourceClip], num_shards: int) -> list[Sequence[SourceClip]]:
  """Cuts into `num_shards` runs whose lengths differ by one at most."""
  bounds = [len(clips) * shard // num_shards for shard in range(num_shards + 1)]
  return [clips[a:b] for a, b in itertools.pairwise(bounds)]


def count_shards(num_clips: int, num_shards: int) -> int:
  """The shards of a split: as asked, at most one a clip; 0 asks for 100 clips a shard."""
  wanted = num_shards or round(num_clips / CLIPS_A_SHARD)
  return min(max(1, wanted), num_clips, _MAX_SHARDS)


def make_plan(
  listing: Listing,
  output_dir: str,
  names: Sequence[str],
  options: FrameOptions,
  *,
  num_shards: int,
  seed: int,
  arguments: Mapping[str, Any],
) -> list[SplitPlan]:
  """Assigns every clip to a shard.

  Args:
    listing: all clips of all splits.
    output_dir: folder to write to.
    names: class names by id.
    options: which frames to store, and how.
    num_shards: shards a split; 0 chooses by the number of clips.
    seed: of the permutation.
    arguments: the request, to be recorded in the manifests.

  Returns:
    The splits, by name.

  Raises:
    UserError: a split has a name that files can't have.
  """
  ids = {name: index for index, name in enumerate(names)}
  check_splits(listing)
  plans = []
  for split in sorted({clip.split for clip in listing.clips}):
    clips, digest = _permuted([c for c in listing.clips if c.split == split], seed)
    count = count_shards(len(clips), num_shards)
    tasks = [
      ShardTask(output_dir, split, shard, count, run, ids, options)
      for shard, run in enumerate(_shards(clips, count))
    ]
    # A split is finished or resumed only with the list and the labels it began with.
    own = {**arguments, 'clips': len(clips), 'source_list_sha256': digest}
    plans.append(SplitPlan(split, names, tasks, own))
  return plans

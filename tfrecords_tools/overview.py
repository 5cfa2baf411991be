"""What a listing holds, in a few lines: clips of each split and class, and their files."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from official.video.data import records
from tfrecords_tools.datasets.source import Listing, SourceClip
from tfrecords_tools.datasets.stored import StoredClip

# Classes that are counted one by one, unless all of them are asked for.
_MOST_CLASSES = 30
_MOST_MISSING = 20


# Where the classes of a clip's parts stand, by their ids.
_OF_PARTS = (records.REGION_LABEL_INDEX, records.SEGMENT_LABEL_INDEX)


def _classes_of(clip: SourceClip, names: Sequence[str]) -> Iterator[str]:
  """The classes of a clip, of its boxes and of its segments, each once."""
  yield from dict.fromkeys(clip.labels)
  if not clip.labels:
    ids: set[int] = set()
    for key in _OF_PARTS:
      for value in clip.fields.get(key, ()):
        ids |= set(value if isinstance(value, (list, tuple)) else (value,))
    yield from (names[number] for number in sorted(ids) if 0 <= number < len(names))


def _class_counts(clips: Sequence[SourceClip], names: Sequence[str]) -> Counter[str]:
  return Counter(label for clip in clips for label in _classes_of(clip, names))


def _split_line(split: str, clips: Sequence[SourceClip], names: Sequence[str]) -> str:
  counts = _class_counts(clips, names)
  if not counts:
    return f'{split}: {len(clips)} clips listed, without labels'
  least, most = min(counts.values()), max(counts.values())
  each = f'{least}' if least == most else f'{least} to {most}'
  plural = 'es' if len(counts) > 1 else ''
  return (
    f'{split}: {len(clips)} clips listed, {len(counts)} class{plural} of {each} clips'
  )


def describe(
  listing: Listing,
  names: Sequence[str],
  all_classes: bool = False,
  expected: Mapping[str, int] = {},
) -> Iterator[str]:
  """Lines that count the clips of each split, and of each class where they are few.

  Args:
    listing: clips of all splits.
    names: class names by id.
    all_classes: whether to name every class, however many there are.
    expected: clips of splits in the data set's official lists.
  """
  splits: dict[str, list[SourceClip]] = {}
  for clip in listing.clips:
    splits.setdefault(clip.split, []).append(clip)
  for split, clips in sorted(splits.items()):
    yield _split_line(split, clips, names)
    if expected.get(split, len(clips)) != len(clips):
      yield f'  the official list of {split} has {expected[split]}'
  counts = {split: _class_counts(clips, names) for split, clips in sorted(splits.items())}
  if len(names) <= _MOST_CLASSES or all_classes:
    for name in names:
      each = ', '.join(f'{split} {count[name]}' for split, count in counts.items())
      yield f'  {name}: {each}'
  elif empty := [name for name in names if not any(c[name] for c in counts.values())]:
    yield f'  {len(empty)} of {len(names)} classes have no clip, such as {empty[0]}'


def _is_there(clip: SourceClip) -> bool:
  if clip.reader == 'frames':
    return os.path.isdir(clip.file)
  if isinstance(clip, StoredClip) and clip.reader == 'lmdb':
    return bool(clip.key)
  return os.path.isfile(clip.file)


def missing(listing: Listing) -> tuple[int, Iterator[str]]:
  """Number of clips whose files are not there, and lines that name the first of them."""
  absent = [clip for clip in listing.clips if not _is_there(clip)]

  def lines() -> Iterator[str]:
    found = len(listing.clips) - len(absent)
    yield f'{found} of {len(listing.clips)} clips have their files'
    for clip in absent[:_MOST_MISSING]:
      yield f'  missing {clip.split}/{clip.name}'
    if len(absent) > _MOST_MISSING:
      yield f'  and {len(absent) - _MOST_MISSING} more'

  return len(absent), lines()

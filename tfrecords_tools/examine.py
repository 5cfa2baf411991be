"""What is asked of every source's listing: that its rows don't contradict each other."""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from official.video.errors import UserError
from tfrecords_tools.datasets.origins import origin_of
from tfrecords_tools.datasets.source import Listing, SourceClip
from tfrecords_tools.summary import Summary


def examine(listing: Listing) -> Listing:
  """Joins what is listed twice, and notes what the user should know of the whole list.

  Raises:
    UserError: two rows contradict each other.
  """
  found = Summary()
  clips = _without_shared_excerpts(_without_repeats(listing.clips, found))
  _note_overlaps(clips, found)
  _note_labels(clips, found)
  return dataclasses.replace(listing, clips=clips, notes=[*listing.notes, *found.lines()])


# --- The same clip twice --------------------------------------------------------------


def _without_repeats(clips: Sequence[SourceClip], found: Summary) -> list[SourceClip]:
  groups: dict[tuple[str, str], list[SourceClip]] = {}
  for clip in clips:
    groups.setdefault((clip.split, clip.media_id), []).append(clip)
  return [
    clip
    for group in groups.values()
    for clip in (group if len(group) == 1 else _joined(group, found))
  ]


def _joined(group: Sequence[SourceClip], found: Summary) -> Iterator[SourceClip]:
  """The clips of one name: one for each content, where a list may give it but once."""
  first = group[0]
  _check_lists(group)
  kept: list[SourceClip] = []
  for clip in group:
    place = clip.listed or clip.name
    twins = [i for i, other in enumerate(kept) if _same_but_labels(clip, other)]
    if any(set(clip.labels) <= set(kept[i].labels) for i in twins):
      found.left_out('rows that repeat another one', place)
    elif clip.listed and twins:
      labels = tuple(dict.fromkeys(kept[twins[0]].labels + clip.labels))
      kept[twins[0]] = dataclasses.replace(kept[twins[0]], labels=labels)
      found.corrected('rows with another label of the same clip, joined', place)
    elif clip.listed and kept:
      raise UserError(
        f'{first.listed} and {clip.listed}: say different things of '
        f'{first.media_id!r}, split {first.split}; keep one of the rows'
      )
    else:
      if twins:
        found.noticed(
          'rows that give a clip another label (a record each; one of several labels has '
          'them in one row, as a|b)',
          place,
        )
      kept.append(clip)
  found.noticed('clips of the same name, numbered #2, #3, ...', first.name, len(kept) - 1)
  yield from kept


def _check_lists(group: Sequence[SourceClip]) -> None:
  by_file = {clip.listed.file: clip for clip in group if clip.listed}
  if len(by_file) > 1:
    one, other, *_ = by_file.values()
    raise UserError(
      f'{one.listed} and {other.listed}: both name {one.media_id!r} for split '
      f'{one.split}; keep one of the two lists'
    )


def _same_but_labels(one: SourceClip, other: SourceClip) -> bool:
  return dataclasses.replace(one, labels=other.labels) == other


def _without_shared_excerpts(clips: Sequence[SourceClip]) -> list[SourceClip]:
  """A file can be cut to one excerpt only: where rows ask for several it is the whole."""
  excerpts: dict[str, set] = collections.defaultdict(set)
  for clip in clips:
    if clip.excerpt:
      excerpts[clip.file].add(clip.excerpt)
  several = {file for file, wanted in excerpts.items() if len(wanted) > 1}
  return [
    dataclasses.replace(clip, excerpt=None) if clip.file in several else clip
    for clip in clips
  ]


# --- Splits and classes that look wrong -----------------------------------------------


def _end(clip: SourceClip) -> float:
  return math.inf if clip.end is None else clip.end


def _shared(clips: Iterable[SourceClip]) -> Iterator[tuple[SourceClip, SourceClip]]:
  """Pairs of clips of one file that show the same seconds in different splits."""
  latest: dict[str, SourceClip] = {}
  for clip in sorted(clips, key=lambda clip: clip.start):
    for split, other in latest.items():
      if split != clip.split and clip.start < _end(other):
        yield other, clip
    if clip.split not in latest or _end(clip) > _end(latest[clip.split]):
      latest[clip.split] = clip


def _note_overlaps(clips: Sequence[SourceClip], found: Summary) -> None:
  if len({clip.split for clip in clips}) < 2:
    return
  files: dict[tuple[str, str], list[SourceClip]] = collections.defaultdict(list)
  origins: dict[str, set[str]] = collections.defaultdict(set)
  for clip in clips:
    files[clip.file, getattr(clip, 'key', '')].append(clip)
    origins[origin_of(clip)].add(clip.split)
  for group in files.values():
    for one, other in _shared(group):
      splits = ' and '.join(sorted((one.split, other.split)))
      found.noticed(f'clips that {splits} share', other.name)
      origins.pop(origin_of(other), None)
  for origin, splits_of in origins.items():
    for pair in itertools.combinations(sorted(splits_of), 2):
      found.noticed(f'videos of which {" and ".join(pair)} both have clips', origin)


def _note_labels(clips: Sequence[SourceClip], found: Summary) -> None:
  several = [clip for clip in clips if len(clip.labels) > 1]
  if several:
    found.noticed(
      'clips of several labels (all are stored; what takes one label takes the first)',
      several[0].name,
      len(several),
    )
  names = sorted({name for clip in clips for name in clip.labels})
  alike = collections.defaultdict(list)
  for name in names:
    alike[name.casefold().replace('_', ' ')].append(name)
  for group in alike.values():
    if len(group) > 1:
      found.noticed('classes whose names are almost the same', ' and '.join(group))

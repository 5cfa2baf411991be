"""What is asked of every source's listing: that its rows don't contradict each other."""

import collections
import dataclasses
import itertools
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.datasets.files import RealFiles
from tfrecords_tools.datasets.origins import origin_of
from tfrecords_tools.datasets.rows import split_of_name
from tfrecords_tools.datasets.source import Listing, SourceClip
from tfrecords_tools.summary import Summary


def examine(listing: Listing) -> Listing:
  """Joins what is listed twice, and notes what the user should know of the whole list.

  Raises:
    UserError: two rows contradict each other.
  """
  found = Summary()
  clips = [_with_sound_texts(clip, found) for clip in listing.clips]
  clips = _without_shared_excerpts(_without_repeats(clips, found))
  _note_spans(clips, found)
  _note_twins(clips, found)
  _note_splits(clips, found)
  _note_overlaps(clips, found)
  _note_labels(clips, found)
  return dataclasses.replace(listing, clips=clips, notes=[*listing.notes, *found.lines()])


def note_phrases(listing: Listing) -> Listing:
  """The listing, with a note of the captioned clips that have no noun phrase."""
  found = Summary()
  for clip in listing.clips:
    if records.TEXT_CONTENT in clip.fields and not (
      clip.fields.get(records.TEXT_NOUN_PHRASES)
    ):
      found.noticed(
        'captioned clips without a noun phrase (a loss over nouns takes their captions)',
        clip.name,
      )
  return dataclasses.replace(listing, notes=[*listing.notes, *found.lines()])


def note_overlaps(listing: Listing) -> Listing:
  """The listing, with notes of what its splits share."""
  found = Summary()
  _note_overlaps(listing.clips, found)
  return dataclasses.replace(listing, notes=[*listing.notes, *found.lines()])


# --- Texts ----------------------------------------------------------------------------


def _is_text(value: str) -> bool:
  """Whether UTF-8 can hold it; Python marks the bytes of other names by surrogates."""
  try:
    value.encode()
  except UnicodeEncodeError:
    return False
  return True


def _mended(value: str) -> str:
  """A text whose half characters are replaced, as half of an emoji."""
  return value.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')


def _file_name(value: str) -> str:
  """A name with all bytes that it has on a disk, of which half characters are none."""
  return re.sub('[\ud800-\udc7f\udd00-\udfff]', '\N{REPLACEMENT CHARACTER}', value)


def _composed(value: str) -> str:
  """A name in one of the two forms that Unicode has for letters with marks."""
  return unicodedata.normalize('NFC', value)


def _class_name(value: str) -> str:
  """A name whose bytes are no UTF-8, read as Latin-1."""
  return _mended(re.sub('[\udc80-\udcff]', lambda m: chr(ord(m[0]) - 0xDC00), value))


def _sound(value: Any, mend: Callable[[str], str]) -> Any:
  if isinstance(value, str):
    return value if _is_text(value) else mend(value)
  return [_sound(entry, mend) for entry in value] if isinstance(value, list) else value


def _with_sound_texts(clip: SourceClip, found: Summary) -> SourceClip:
  """Names byte for byte, and texts that can be written."""
  place = clip.listed or clip.name
  changes: dict[str, Any] = {
    name: _sound(getattr(clip, name), _file_name)
    for name in ('path', 'media_id', 'origin')
  }
  labels = tuple(_sound(label, _class_name) for label in clip.labels)
  changes['labels'] = tuple(map(_composed, labels))
  changes['fields'] = {key: _sound(value, _mended) for key, value in clip.fields.items()}
  if changes['labels'] != labels:
    found.corrected('class names with letters in pieces (Unicode NFD), composed', place)
  if labels != clip.labels:
    found.corrected('class names that are no UTF-8, read as Latin-1', place)
  if changes['fields'] != clip.fields:
    found.corrected('texts with half characters, replaced', place)
  same = all(getattr(clip, name) == value for name, value in changes.items())
  return clip if same else dataclasses.replace(clip, **changes)


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


def _by_file(clips: Iterable[SourceClip]) -> list[list[SourceClip]]:
  files: dict[tuple[str, str], list[SourceClip]] = collections.defaultdict(list)
  real = RealFiles()
  for clip in clips:
    files[real(clip.file), getattr(clip, 'key', '')].append(clip)
  return list(files.values())


def _note_spans(clips: Sequence[SourceClip], found: Summary) -> None:
  for clip in clips:
    if _end(clip) <= clip.start:
      found.noticed(
        'clips that end where they start or before (they give no record)',
        clip.listed or clip.name,
      )


def _note_twins(clips: Sequence[SourceClip], found: Summary) -> None:
  """Notes clips that differ by nothing but their names."""
  for group in _by_file(clips):
    same: dict[tuple, list] = collections.defaultdict(list)
    for clip in group if len(group) > 1 else ():
      contents = same[clip.split, clip.start, clip.end, clip.labels]
      if clip.fields in contents:
        found.noticed('clips that are listed under two names', clip.name)
      contents.append(clip.fields)


def _note_overlaps(clips: Sequence[SourceClip], found: Summary) -> None:
  if len({clip.split for clip in clips}) < 2:
    return
  origins: dict[str, set[str]] = collections.defaultdict(set)
  for clip in clips:
    origins[origin_of(clip)].add(clip.split)
  for group in _by_file(clips):
    for one, other in _shared(group):
      splits = ' and '.join(sorted((one.split, other.split)))
      found.noticed(f'clips that {splits} share', other.name)
      origins.pop(origin_of(other), None)
  for origin, splits_of in origins.items():
    for pair in itertools.combinations(sorted(splits_of), 2):
      found.noticed(f'videos of which {" and ".join(pair)} both have clips', origin)


# Between several labels, in the lists of others.
_JOINTS = re.compile(r'[;,/+&]')
# Each kept as its list calls it; see `rows.split_of_name`.
_VALIDATION = frozenset({'val', 'validation', 'valid', 'validate'})
_NO_NAMES = frozenset({'none', 'unknown', '?', 'n/a', 'na', 'unlabeled', 'unlabelled'})


def _note_names(names: Sequence[str], found: Summary) -> None:
  """Notes names that may stand for several classes, or for none."""
  known = set(names)
  for name in names:
    parts = [part.strip() for part in _JOINTS.split(name)]
    if len(parts) > 1 and known & set(parts):
      found.noticed(
        'classes whose names join those of others (several labels have | between them)',
        name,
      )
    if name.casefold() in _NO_NAMES and len(names) > 1:
      found.noticed(
        'classes whose names may mean that there is none (such cells are to be empty)',
        name,
      )
    numbered = re.fullmatch(r'(.*[^\d\s_-])[\s_-]*\d+', name)
    if numbered and split_of_name(numbered[1]):
      found.noticed(
        'classes whose names may be those of splits (which are called train, val and test)',
        name,
      )


def _note_splits(clips: Sequence[SourceClip], found: Summary) -> None:
  splits = {clip.split for clip in clips}
  odd = sorted(split for split in splits if split_of_name(split) is None)
  # A list with none of the usual names has its own.
  if odd and len(odd) < len(splits):
    found.noticed('splits called otherwise than train, val and test', odd[0], len(odd))
  if len(alike := sorted(splits & _VALIDATION)) > 1:
    found.noticed('splits that may be one by their names', ' and '.join(alike))


def _note_labels(clips: Sequence[SourceClip], found: Summary) -> None:
  several = [clip for clip in clips if len(clip.labels) > 1]
  if several:
    found.noticed(
      'clips of several labels (all are stored; what takes one label takes the first)',
      several[0].name,
      len(several),
    )
  unlabelled = [clip for clip in clips if not clip.labels]
  if len(unlabelled) < len(clips):
    for clip in unlabelled:
      found.noticed('clips without a label, beside labelled ones', clip.name)
  names = sorted({name for clip in clips for name in clip.labels})
  _note_names(names, found)
  alike = collections.defaultdict(list)
  for name in names:
    plain = unicodedata.normalize('NFKC', name).casefold()
    alike[' '.join(re.split(r'[\s_-]+', plain.strip(' .')))].append(name)
  for group in alike.values():
    if len(group) > 1:
      found.noticed('classes whose names are almost the same', ' and '.join(group))

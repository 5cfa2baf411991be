"""AVA actions and AVA-Kinetics: labelled boxes of key frames, with their official lists."""

import dataclasses
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.annotations import box_in_frame
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.rows import needed_seconds, read_cells
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
  SourceClip,
  SourceRequest,
  existing_folder,
  only_lists,
  open_list,
  reading,
)
from tfrecords_tools.decode import MICROSECONDS
from tfrecords_tools.summary import Summary

# Seconds before and after a key frame that its clip shows.
SPAN = 1.5
# What is annotated of a film, in seconds of it. Films are often cut to this, under their
# own names; downloads that end at second 1800 are within what lengths may differ by.
ANNOTATED = (900.0, 1801.0)
_BOXES = re.compile(r'(?P<set>ava|kinetics)_(?P<split>train|val|test)_v[\d.]+\.csv')
_EXCLUDED = re.compile(
  r'(?P<set>.*)_(?P<split>train|val|test)_excluded_timestamps\w*[\d.]*\.csv'
)
_DETECTED = re.compile(
  r'(?=.*(?:detect|predicted)).*(?P<split>train|val|test)(?![a-z]).*\.csv'
)
_CLASS = re.compile(r'name:\s*"(?P<name>[^"]*)"\s*(?:label_id|id):\s*(?P<id>\d+)')
_ANNOTATED_KEYS = (
  records.BBOX_XMIN,
  records.BBOX_YMIN,
  records.BBOX_XMAX,
  records.BBOX_YMAX,
)
_DETECTED_KEYS = tuple(f'detected/{key}' for key in _ANNOTATED_KEYS)


@dataclasses.dataclass(frozen=True)
class KeyFrame:
  """Where a row belongs; equal ones may be written in several ways, as 0902 and 902.

  Attributes:
    video: name of the video.
    seconds: from the video's beginning.
    timestamp: the seconds, as the list writes them.
  """

  video: str
  seconds: float
  timestamp: str = dataclasses.field(compare=False)


class _Row(NamedTuple):
  """A box: x1, y1, x2, y2; its action, its person, or the detector's score."""

  box: tuple[float, ...]
  action: int | None
  person: int
  score: float


def _lists(folder: str, pattern: re.Pattern) -> Iterator[tuple[re.Match, str]]:
  for name in sorted(os.listdir(folder)):
    if match := pattern.fullmatch(name):
      yield match, os.path.join(folder, name)


def _number(where: Place, column: str, text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not math.isfinite(value):
    raise UserError(f'{where}: {column} is {text!r}, expected a number')
  return value


def _id(where: Place, column: str, text: str) -> int:
  value = _number(where, column, text)
  if value != int(value) or not abs(value) < 2**63:
    raise UserError(f'{where}: {column} is {text!r}, expected a whole number of 64 bits')
  return int(value)


def _rows(path: str) -> Iterator[tuple[Place, KeyFrame, list[str]]]:
  """Where each row of a list is, its key frame, and its other cells."""
  for where, cells in read_cells(path):
    if len(cells) < 2:
      raise UserError(f'{where}: {cells}, expected video, timestamp, ...')
    video, timestamp = cells[0].strip(), cells[1].strip()
    seconds = needed_seconds(where, 'timestamp', timestamp)
    yield (
      where,
      KeyFrame(video, seconds, timestamp),
      [cell.strip() for cell in cells[2:]],
    )


def _box(where: Place, cells: Sequence[str], found: Summary) -> tuple[float, ...] | None:
  """The box of a row, within the frame; None where nothing of it is there."""
  sides = [_number(where, 'a side of the box', cell) for cell in cells[:4]]
  if len(sides) < 4 or sides[0] > sides[2] or sides[1] > sides[3]:
    raise UserError(f'{where}: the box is {cells[:4]}, expected x1, y1, x2, y2')
  return box_in_frame(where, sides, found)


def _annotated(path: str, found: Summary) -> dict[KeyFrame, tuple[Place, list[_Row]]]:
  """Place and boxes by key frame; one that is listed without a box has none."""
  frames: dict[KeyFrame, tuple[Place, list[_Row]]] = {}
  for where, frame, cells in _rows(path):
    _, rows = frames.setdefault(frame, (where, []))
    if not any(cells):
      continue
    if len(cells) < 5:
      raise UserError(
        f'{where}: {len(cells) + 2} columns, expected video, timestamp, x1, y1, x2, y2, '
        'action id and person id'
      )
    action = _id(where, 'action id', cells[4])
    person = _id(where, 'person id', cells[5]) if len(cells) > 5 else -1
    if box := _box(where, cells, found):
      _append(rows, _Row(box, action, person, 1.0), where, found)
  return frames


def _detected(path: str, found: Summary) -> dict[KeyFrame, list[_Row]]:
  frames: dict[KeyFrame, list[_Row]] = defaultdict(list)
  for where, frame, cells in _rows(path):
    score = _number(where, 'score', cells[-1]) if len(cells) > 4 else 1.0
    if box := _box(where, cells, found):
      _append(frames[frame], _Row(box, None, -1, score), where, found)
  return frames


def _append(rows: list[_Row], row: _Row, where: Place, found: Summary) -> None:
  if row in rows:
    found.left_out('boxes that repeat another row of their list', where)
  else:
    rows.append(row)


def read_label_map(path: str) -> dict[int, str]:
  """Class names by official action id, of a .pbtxt label map.

  Raises:
    UserError: it can't be read or names nothing.
  """
  with reading(path), open_list(path) as file:
    entries = [(int(m['id']), m['name']) for m in _CLASS.finditer(file.read())]
  found: dict[int, str] = {}
  for number, name in entries:
    if found.setdefault(number, name) != name:
      raise UserError(f'{path}: gives {found[number]!r} and {name!r} the id {number}')
  if not found:
    raise UserError(f'{path}: names no class; expected entries of name and id')
  return dict(sorted(found.items()))


def _label_map(folder: str) -> dict[int, str]:
  found = sorted(name for name in os.listdir(folder) if name.endswith('.pbtxt'))
  # The classes that the challenge is scored on, where both lists are there.
  chosen = [name for name in found if 'for_activitynet' in name] or found
  if len(chosen) != 1:
    raise UserError(
      f'--annotations={folder}: holds {len(chosen)} label maps (.pbtxt), expected one, '
      'such as ava_action_list_v2.2_for_activitynet_2019.pbtxt'
    )
  return read_label_map(os.path.join(folder, chosen[0]))


class Ava:
  """A record for every annotated key frame, with three seconds about it."""

  flags = frozenset({'annotations'})
  summary = (
    'AVA v2.2 or AVA-Kinetics: --annotations holds ava_train_v2.2.csv, ava_val_v2.2.csv '
    '(or kinetics_*_v1.0.csv), the label map (.pbtxt), and if there are any the '
    '*_excluded_timestamps_*.csv and lists of detected boxes (*detect*train*.csv, ...); '
    'videos <id>.mp4, also such as hold seconds 900 to 1800 only, or parts of them '
    '<id>_<start>_<end>.mp4'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the key frames; one without its video is listed all the same."""
    root = existing_folder('path', request.path)
    folder = existing_folder('annotations', request.annotations or request.path)
    found = Summary()
    lists = list(_lists(folder, _BOXES))
    if not lists:
      raise UserError(f'--annotations={folder}: holds no list such as ava_train_v2.2.csv')
    excluded_lists = list(_lists(folder, _EXCLUDED))
    for paths in (lists, excluded_lists):
      only_lists(((match['set'], match['split']), path) for match, path in paths)
    names = _label_map(folder)
    labels = {action: index for index, action in enumerate(names)}
    excluded = {
      (match['split'], frame)
      for match, path in excluded_lists
      for _, frame, _ in _rows(path)
    }
    detected = self._detections(folder, found)
    videos = _Videos(root, found)
    clips, left_out = [], 0
    for match, path in lists:
      split = match['split']
      for frame, (place, rows) in _annotated(path, found).items():
        if (split, frame) in excluded:
          left_out += 1
          continue
        boxes = detected.get((split, frame), [])
        clips.append(videos.clip(split, frame, place, rows, boxes, labels))
    notes = [
      f'{len(clips)} key frames, {left_out} on the lists of excluded ones left out',
      *found.lines(),
    ]
    return Listing(clips, [f'{i}: {name}' for i, name in names.items()], notes)

  def _detections(
    self, folder: str, found: Summary
  ) -> dict[tuple[str, KeyFrame], list[_Row]]:
    boxes: dict[tuple[str, KeyFrame], list[_Row]] = {}
    lists: dict[tuple[str, KeyFrame], str] = {}
    for match, path in _lists(folder, _DETECTED):
      for frame, rows in _detected(path, found).items():
        key = match['split'], frame
        # AVA and Kinetics may each have a list; two of one key frame are two detectors'.
        only_lists([(key, lists.setdefault(key, path)), (key, path)])
        boxes[key] = rows
    return boxes


class _Videos:
  """Finds the file of a key frame: of the whole video, or of a part that holds it."""

  def __init__(self, root: str, found: Summary):
    self._files, self._found = VideoFiles(root), found

  def _find(self, split: str, frame: KeyFrame) -> tuple[str, float]:
    """Path of the file, and the second of the video that it begins at."""
    if part := self._files.part_with(frame.video, frame.seconds, (split,)):
      return part
    path = self._files.find(frame.video, (split,))
    if path is None and self._files.has_parts(frame.video):
      self._found.noticed(
        'key frames of videos whose files hold other seconds',
        f'{frame.video}, second {frame.timestamp}',
      )
    return path or f'{frame.video}.mp4', 0.0

  def clip(
    self,
    split: str,
    frame: KeyFrame,
    listed: Place,
    rows: Sequence[_Row],
    detected: Sequence[_Row],
    labels: Mapping[int, int],
  ) -> SourceClip:
    """The clip about a key frame, with its boxes of known actions."""
    path, begin = self._find(split, frame)
    time = frame.seconds - begin
    unknown = [row for row in rows if row.action not in labels]
    self._found.left_out(
      'boxes of actions that the label map lacks', listed, len(unknown)
    )
    known = [
      (row, labels[row.action])
      for row in rows
      if row.action is not None and row.action in labels
    ]
    stamp = round(time * MICROSECONDS)
    fields: dict[str, Any] = {
      key: [[row.box[side] for row, _ in known]]
      for side, key in enumerate(_ANNOTATED_KEYS)
    }
    fields |= {
      records.REGION_TIMESTAMP: [[stamp]],
      records.REGION_LABEL_INDEX: [[label for _, label in known]],
      records.REGION_TRACK_INDEX: [[row.person for row, _ in known]],
    }
    if detected:
      fields |= {
        key: [[row.box[side] for row in detected]]
        for side, key in enumerate(_DETECTED_KEYS)
      }
      fields[records.DETECTED_TIMESTAMP] = [[stamp]]
      fields[records.DETECTED_SCORE] = [[row.score for row in detected]]
    return SourceClip(
      path=path,
      file=os.path.join(self._files.root, path),
      split=split,
      media_id=f'{frame.video},{frame.timestamp}',
      start=max(0.0, time - SPAN),
      end=time + SPAN,
      fields=fields,
      origin=frame.video,
      excerpt=None if begin else ANNOTATED,
      listed=listed,
    )


SOURCE = Ava()

"""AVA actions and AVA-Kinetics: labelled boxes of key frames, with their official lists."""

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.source import (
  Listing,
  SourceClip,
  SourceRequest,
  existing_folder,
)
from tfrecords_tools.decode import MICROSECONDS

# Seconds before and after a key frame that its clip shows.
SPAN = 1.5
_BOXES = re.compile(r'(?:ava|kinetics)_(?P<split>train|val|test)_v[\d.]+\.csv')
_EXCLUDED = re.compile(r'.*_(?P<split>train|val|test)_excluded_timestamps\w*[\d.]*\.csv')
_DETECTED = re.compile(
  r'(?=.*(?:detect|predicted)).*(?P<split>train|val|test)(?![a-z]).*\.csv'
)
_CLASS = re.compile(r'name:\s*"(?P<name>[^"]*)"\s*(?:label_id|id):\s*(?P<id>\d+)')
_TRIMMED = re.compile(r'(?P<video>.+)_(?P<start>\d{6})_\d{6}')
_ANNOTATED_KEYS = (
  records.BBOX_XMIN,
  records.BBOX_YMIN,
  records.BBOX_XMAX,
  records.BBOX_YMAX,
)
_DETECTED_KEYS = tuple(f'detected/{key}' for key in _ANNOTATED_KEYS)


class KeyFrame(NamedTuple):
  """Where a row belongs.

  Attributes:
    video: name of the video.
    timestamp: seconds, as the list writes them.
  """

  video: str
  timestamp: str

  @property
  def seconds(self) -> float:
    """Seconds from the video's beginning."""
    return float(self.timestamp)


class _Row(NamedTuple):
  """A box: x1, y1, x2, y2; its action, its person, or the detector's score."""

  box: tuple[float, ...]
  action: int | None
  person: int
  score: float


def _lists(folder: str, pattern: re.Pattern) -> Iterator[tuple[str, str]]:
  for name in sorted(os.listdir(folder)):
    if match := pattern.fullmatch(name):
      yield match['split'], os.path.join(folder, name)


def _number(where: str, column: str, text: str) -> float:
  try:
    return float(text)
  except ValueError:
    raise UserError(f'{where}: {column} is {text!r}, expected a number') from None


def _rows(path: str) -> Iterator[tuple[str, KeyFrame, list[str]]]:
  """Where each row of a list is, its key frame, and its other cells."""
  try:
    with open(path, encoding='utf-8-sig', newline='') as file:
      for number, cells in enumerate(csv.reader(file), start=1):
        where = f'{path}, line {number}'
        if not cells:
          continue
        if len(cells) < 2:
          raise UserError(f'{where}: {cells}, expected video, timestamp, ...')
        _number(where, 'timestamp', cells[1])
        yield where, KeyFrame(cells[0].strip(), cells[1].strip()), cells[2:]
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise UserError(f'{path}: {error}') from error


def _box(where: str, cells: Sequence[str]) -> tuple[float, ...]:
  sides = [_number(where, 'a side of the box', cell) for cell in cells[:4]]
  if len(sides) < 4 or sides[0] > sides[2] or sides[1] > sides[3]:
    raise UserError(f'{where}: the box is {cells[:4]}, expected x1, y1, x2, y2')
  return tuple(min(max(side, 0.0), 1.0) for side in sides)


def _annotated(path: str) -> dict[KeyFrame, list[_Row]]:
  """Boxes by key frame; one that is listed without a box has none."""
  found: dict[KeyFrame, list[_Row]] = {}
  for where, frame, cells in _rows(path):
    rows = found.setdefault(frame, [])
    if any(cell.strip() for cell in cells):
      if len(cells) < 5:
        raise UserError(
          f'{where}: {len(cells) + 2} columns, expected video, timestamp, x1, y1, x2, y2, '
          'action id and person id'
        )
      action = int(_number(where, 'action id', cells[4]))
      person = int(_number(where, 'person id', cells[5])) if len(cells) > 5 else -1
      rows.append(_Row(_box(where, cells), action, person, 1.0))
  return found


def _detected(path: str) -> dict[KeyFrame, list[_Row]]:
  found: dict[KeyFrame, list[_Row]] = defaultdict(list)
  for where, frame, cells in _rows(path):
    score = _number(where, 'score', cells[-1]) if len(cells) > 4 else 1.0
    found[frame].append(_Row(_box(where, cells), None, -1, score))
  return found


def read_label_map(path: str) -> dict[int, str]:
  """Class names by official action id, of a .pbtxt label map.

  Raises:
    UserError: it can't be read or names nothing.
  """
  try:
    with open(path, encoding='utf-8') as file:
      found = {int(m['id']): m['name'] for m in _CLASS.finditer(file.read())}
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'{path}: {error}') from error
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
    'videos <id>.mp4, or trimmed ones <id>_<start:06d>_<end:06d>.mp4'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the key frames; one without its video is listed all the same."""
    root = existing_folder('path', request.path)
    folder = existing_folder('annotations', request.annotations or request.path)
    lists = list(_lists(folder, _BOXES))
    if not lists:
      raise UserError(f'--annotations={folder}: holds no list such as ava_train_v2.2.csv')
    names = _label_map(folder)
    labels = {action: index for index, action in enumerate(names)}
    excluded = {
      (split, frame.video, frame.seconds)
      for split, path in _lists(folder, _EXCLUDED)
      for _, frame, _ in _rows(path)
    }
    detected = self._detections(folder)
    videos = _Videos(root)
    clips, left_out = [], 0
    for split, path in lists:
      for frame, rows in _annotated(path).items():
        if (split, frame.video, frame.seconds) in excluded:
          left_out += 1
          continue
        boxes = detected.get((split, frame.video, frame.seconds), [])
        clips.append(videos.clip(split, frame, rows, boxes, labels))
    notes = [
      f'{len(clips)} key frames, {left_out} on the lists of excluded ones left out'
    ]
    return Listing(clips, [f'{i}: {name}' for i, name in names.items()], notes)

  def _detections(self, folder: str) -> dict[tuple[str, str, float], list[_Row]]:
    found: dict[tuple[str, str, float], list[_Row]] = defaultdict(list)
    for split, path in _lists(folder, _DETECTED):
      for frame, rows in _detected(path).items():
        found[split, frame.video, frame.seconds] += rows
    return found


class _Videos:
  """Finds the file of a key frame: of the whole video, or of a part that holds it."""

  def __init__(self, root: str):
    self._root = root
    self._files = VideoFiles(root)
    self._trimmed = defaultdict(list)
    for name in self._files.names():
      if match := _TRIMMED.fullmatch(name):
        self._trimmed[match['video']].append((int(match['start']), name))

  def _find(self, split: str, frame: KeyFrame) -> tuple[str, float]:
    """Path of the file, and the second of the video that it begins at."""
    begun = [part for part in self._trimmed[frame.video] if part[0] <= frame.seconds]
    if begun:
      start, name = max(begun)
      return self._files.find(name, (split,)) or f'{name}.mp4', float(start)
    return self._files.find(frame.video, (split,)) or f'{frame.video}.mp4', 0.0

  def clip(
    self,
    split: str,
    frame: KeyFrame,
    rows: Sequence[_Row],
    detected: Sequence[_Row],
    labels: Mapping[int, int],
  ) -> SourceClip:
    """The clip about a key frame, with its boxes of known actions."""
    path, begin = self._find(split, frame)
    time = frame.seconds - begin
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
      file=os.path.join(self._root, path),
      split=split,
      media_id=f'{frame.video},{frame.timestamp}',
      start=max(0.0, time - SPAN),
      end=time + SPAN,
      fields=fields,
      origin=frame.video,
    )


SOURCE = Ava()

"""Tracking sets, folders of frames with a box a frame: OTB and GOT-10k."""

import glob
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import simplejpeg

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.datasets.folder import DEFAULT_SPLIT
from tfrecords_tools.datasets.source import (
  Listing,
  SourceRequest,
  existing_folder,
  read_lines,
)
from tfrecords_tools.datasets.stored import StoredClip, frame_rate
from tfrecords_tools.decode import MICROSECONDS
from tfrecords_tools.summary import Summary

# The frames that the benchmark annotates, where they are not all: first and last, from 1.
OTB_SPANS = {
  'david': (300, 770),
  'diving': (1, 215),
  'football1': (1, 74),
  'freeman3': (1, 460),
  'freeman4': (1, 283),
}
# Sequences of several targets are told apart by the number in `groundtruth_rect.1.txt`.
_NUMBERED = re.compile(r'groundtruth_rect\.(\d+)\.txt')
ANNOTATION = f'{records.EXTRA_PREFIX}annotation'
WIDTH = f'{records.EXTRA_PREFIX}width'
COVER = f'{records.EXTRA_PREFIX}cover'

Box = tuple[float, float, float, float]


def read_boxes(path: str) -> list[Box]:
  """Reads a box a line: left, top, width, height in pixels.

  Raises:
    UserError: a line has no four numbers, or a size below 0. What is 0 wide and high is a
      target that can't be seen.
  """
  boxes = []
  for number, line in enumerate(read_lines(path), start=1):
    cells = re.split(r'[,\s]+', line.strip().strip(','))
    try:
      left, top, width, height = box = tuple(float(cell) for cell in cells)
    except ValueError:
      raise UserError(
        f'{path}, line {number}: {line!r}, expected left, top, width, height'
      ) from None
    if not all(map(math.isfinite, box)) or min(width, height) < 0:
      raise UserError(
        f'{path}, line {number}: {line!r}, expected left, top, and a width and height of '
        "at least 0; a target that can't be seen is 0,0,0,0"
      )
    boxes.append((left, top, width, height))
  if not boxes:
    raise UserError(f'{path}: holds no box')
  if max(max(box) for box in boxes) <= 1:
    raise UserError(f'{path}: its boxes lie within one pixel, expected boxes in pixels')
  return boxes


def read_cover(path: str, count: int) -> str:
  """How many eighths of the target each frame shows, as GOT-10k has it: a line each.

  Raises:
    UserError: it is not `count` integers.
  """
  lines = [line.strip() for line in read_lines(path)]
  if len(lines) != count or not all(re.fullmatch('[0-8]', line) for line in lines):
    raise UserError(
      f'{path}: expected {count} lines of an integer from 0 to 8, a box each'
    )
  return '\n'.join(lines)


def _frames(folder: str) -> list[str]:
  return sorted(glob.glob(os.path.join(glob.escape(folder), '*.jpg')))


def _frame_size(names: Sequence[str]) -> tuple[int, int] | None:
  """Width and height of a frame; None where it can't be read, which conversion tells."""
  try:
    with open(names[0], 'rb') as file:
      height, width, _, _ = simplejpeg.decode_jpeg_header(file.read())
  except (IndexError, OSError, ValueError):
    return None
  return width, height


def _fields(
  boxes: Sequence[Box], size: tuple[int, int], first: int, rate: float
) -> dict[str, Any]:
  """The contract's boxes, cut at the frame's edges, and the annotation word for word."""
  width, height = size

  def share(value: float, whole: int) -> float:
    # The annotation counts pixels from 1.
    return min(max((value - 1) / whole, 0.0), 1.0)

  sides: dict[str, Any] = {
    records.BBOX_XMIN: [[share(b[0], width)] for b in boxes],
    records.BBOX_YMIN: [[share(b[1], height)] for b in boxes],
    records.BBOX_XMAX: [[share(b[0] + b[2], width)] for b in boxes],
    records.BBOX_YMAX: [[share(b[1] + b[3], height)] for b in boxes],
  }
  times = [[round((first + i) / rate * MICROSECONDS)] for i in range(len(boxes))]
  return sides | {
    records.REGION_TIMESTAMP: times,
    records.REGION_TRACK_INDEX: [[0]] * len(boxes),
    ANNOTATION: '\n'.join(','.join(f'{x:.10g}' for x in box) for box in boxes),
    WIDTH: str(width),
  }


def _note_count(
  path: str,
  boxes: int,
  frames: int,
  span: tuple[int, int] | None,
  found: Summary,
) -> None:
  """Notes boxes that have no frame, and frames that should have a box and don't."""
  first, last = span or (1, frames)
  end = first - 1 + boxes
  if frames and (end > frames or end < last):
    found.noticed(
      'sequences that have another number of boxes than of frames (what both have is '
      'stored)',
      f'{path}, {boxes} boxes, {min(frames, last) - first + 1} frames',
    )


Sequences = Callable[[str], Iterator[tuple[str, str, str, tuple[int, int] | None]]]


def _otb(root: str) -> Iterator[tuple[str, str, str, tuple[int, int] | None]]:
  """Name, frame folder, annotation and span of every sequence and target."""
  for name in sorted(os.listdir(root)):
    folder = os.path.join(root, name)
    found = sorted(glob.glob(os.path.join(glob.escape(folder), 'groundtruth_rect*.txt')))
    for path in found:
      number = _NUMBERED.fullmatch(os.path.basename(path))
      target = f'{name}.{number[1]}' if number and len(found) > 1 else name
      yield target, os.path.join(folder, 'img'), path, OTB_SPANS.get(name.lower())


def _got10k(root: str) -> Iterator[tuple[str, str, str, tuple[int, int] | None]]:
  for name in sorted(os.listdir(root)):
    folder = os.path.join(root, name)
    path = os.path.join(folder, 'groundtruth.txt')
    if os.path.exists(path):
      yield name, folder, path, None


class Tracking:
  """A record a target: the frames and its box in each."""

  flags = frozenset({'split', 'frame_rate'})

  def __init__(self, name: str, sequences: Sequences, summary: str):
    """Initializes the source.

    Args:
      name: of the source.
      sequences: finds the sequences of a folder.
      summary: for `--help`.
    """
    self._name, self._sequences, self.summary = name, sequences, summary

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the sequences; raises `UserError` where an annotation can't be read."""
    root = existing_folder('path', request.path)
    rate, notes = frame_rate(request)
    split = request.split or DEFAULT_SPLIT
    clips, found = [], Summary()
    for name, folder, path, span in self._sequences(root):
      boxes = read_boxes(path)
      first = span[0] - 1 if span else 0
      frames = _frames(folder)
      _note_count(path, len(boxes), len(frames), span, found)
      size = _frame_size(frames)
      fields = _fields(boxes, size, first, rate) if size else {}
      cover = os.path.join(os.path.dirname(path), 'cover.label')
      if os.path.exists(cover):
        fields[COVER] = read_cover(cover, len(boxes))
      clips.append(
        StoredClip(
          path=os.path.relpath(folder, root),
          file=folder,
          split=split,
          media_id=name,
          start=first / rate,
          end=(first + len(boxes)) / rate,
          frame_rate=rate,
          fields=fields,
          reader='frames',
          origin=os.path.relpath(folder, root).removesuffix(f'{os.sep}img'),
        )
      )
    if not clips:
      raise UserError(f'--path={root}: holds no sequence of --source={self._name}')
    return Listing(clips, notes=[*notes, *found.lines()])


OTB_SOURCE = Tracking(
  'otb', _otb, 'OTB sequences, <name>/img/0001.jpg and <name>/groundtruth_rect.txt'
)
GOT10K_SOURCE = Tracking(
  'got10k',
  _got10k,
  'GOT-10k sequences, <name>/00000001.jpg and <name>/groundtruth.txt; --path is the '
  "folder of a split, such as train, and --split its records' name",
)

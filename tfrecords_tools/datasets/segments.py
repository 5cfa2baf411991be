"""Untrimmed videos with labelled segments, as lists of temporal localization have them."""

import math
import os
from collections.abc import Mapping, Sequence

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.source import SourceClip
from tfrecords_tools.summary import Summary

# Segments are kept as indices of so many frames a second.
_RATE = 1000.0


class Film:
  """A whole video; a record.

  Attributes:
    split: that it belongs to.
    segments: label, first and last second of each action.
  """

  def __init__(self, split: str):
    self.split = split
    self.segments: list[tuple[str, float, float]] = []

  def add(
    self, where: object, labels: Sequence[str], start: float, end: float, found: Summary
  ) -> None:
    """Adds an action: a segment for each of its labels.

    Args:
      where: file and row, for messages.
      labels: class names.
      start: first second.
      end: last second.
      found: where corrections are reported.

    Raises:
      UserError: a time is no number.
    """
    if not labels:
      found.left_out('segments without a label', where)
    elif span := _span(where, start, end, found):
      self.segments += [(label, *span) for label in labels]

  def drop_repeats(self, where: object, found: Summary) -> None:
    """Keeps one of equal segments."""
    kept = list(dict.fromkeys(self.segments))
    found.left_out(
      'segments that repeat another one', where, len(self.segments) - len(kept)
    )
    self.segments = kept

  def clip(
    self, files: VideoFiles, names: Sequence[str], ids: Mapping[str, int]
  ) -> SourceClip:
    """The whole video with its segments.

    Args:
      files: where it is looked for.
      names: what its file may be called, without suffix; the last is what the list says.
      ids: class name to class id.
    """
    path = files.first(names)
    return SourceClip(
      path=path,
      file=os.path.join(files.root, path),
      split=self.split,
      media_id=names[-1],
      labels=tuple(dict.fromkeys(label for label, _, _ in self.segments)),
      frame_rate=_RATE,
      fields=_fields(self.segments, ids) if self.segments else {},
      origin=names[-1],
      labels_of_segments=True,
    )


def _span(
  where: object, start: float, end: float, found: Summary
) -> tuple[float, float] | None:
  """A segment with its seconds in order; None for an empty one."""
  if not (math.isfinite(start) and math.isfinite(end)):
    raise UserError(f'{where}: a segment is [{start}, {end}], expected seconds')
  if end < start:
    found.corrected('segments that end before they start, turned round', where)
    start, end = end, start
  if start < 0 <= end:
    found.corrected('segments that start before the video, cut', where)
    start = 0.0
  if end <= start or start < 0:
    found.left_out('empty segments', where)
    return None
  return start, end


def _fields(
  segments: Sequence[tuple[str, float, float]], ids: Mapping[str, int]
) -> dict[str, list[int]]:
  starts = [round(start * _RATE) for _, start, _ in segments]
  ends = [round(end * _RATE) - 1 for _, _, end in segments]
  return {
    records.SEGMENT_START_INDEX: starts,
    records.SEGMENT_END_INDEX: list(map(max, starts, ends)),
    records.SEGMENT_LABEL_INDEX: [ids[label] for label, _, _ in segments],
  }

"""ActivityNet v1.3: untrimmed videos with labelled segments."""

import math
import os
from collections.abc import Mapping
from typing import Any

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.rows import labels_of_cell, sorted_labels, split_of_cell
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
  SourceClip,
  SourceRequest,
  existing_folder,
  read_json,
)
from tfrecords_tools.summary import Summary

_SPLITS = {'training': 'train', 'validation': 'val', 'testing': 'test'}
# Segments are kept as indices of so many frames a second.
_RATE = 1000.0


class ActivityNet:
  """A JSON of the ActivityNet format; a record a video, whole."""

  flags = frozenset({'annotations'})
  summary = (
    'ActivityNet format: --annotations: activity_net.v1-3.min.json; videos v_<id> or <id>; '
    'convert at a low --fps'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the videos of all subsets with their segments."""
    files, found = VideoFiles(existing_folder('path', request.path)), Summary()
    path = request.annotations or os.path.join(request.path, 'activity_net.v1-3.min.json')
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get('database'), dict):
      raise UserError(f"{path}: expected a JSON object with 'database'")
    videos = {
      name: _Video(Place(path, f'video {name}'), entry, found)
      for name, entry in content['database'].items()
    }
    names = sorted_labels(
      {label for video in videos.values() for label, _, _ in video.segments}
    )
    ids = {name: number for number, name in enumerate(names)}
    clips = [video.clip(files, name, ids) for name, video in videos.items()]
    return Listing(clips, names, found.lines())


class _Video:
  """An entry of the list.

  Attributes:
    split: that it belongs to.
    segments: label, first and last second of each action.
  """

  def __init__(self, where: Place, entry: Any, found: Summary):
    self._where = where
    try:
      # Those of the test set have none.
      annotations = entry.get('annotations') or []
      subset = entry['subset']
      if not isinstance(subset, str):
        raise TypeError(f'subset is {subset!r}')
      spans = [(a['label'], *map(float, a['segment'])) for a in annotations]
      spans = [(label, start, end) for label, start, end in spans]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
      raise UserError(
        f'{where}: lacks subset, or annotations of label and segment ({error})'
      ) from error
    self.split = _SPLITS.get(subset.strip().casefold()) or split_of_cell(
      subset, found, where
    )
    self.segments: list[tuple[str, float, float]] = []
    for name, start, end in spans:
      labels = labels_of_cell(name, found, where)
      if not labels:
        found.left_out('segments without a label', where)
      elif span := self._span(start, end, found):
        self.segments += [(label, *span) for label in labels]

  def _span(self, start: float, end: float, found: Summary) -> tuple[float, float] | None:
    """A segment with its seconds in order; None for an empty one."""
    if not (math.isfinite(start) and math.isfinite(end)):
      raise UserError(f'{self._where}: a segment is [{start}, {end}], expected seconds')
    if end < start:
      found.corrected('segments that end before they start, turned round', self._where)
      start, end = end, start
    if start < 0 <= end:
      found.corrected('segments that start before the video, cut', self._where)
      start = 0.0
    if end <= start or start < 0:
      found.left_out('empty segments', self._where)
      return None
    return start, end

  def clip(self, files: VideoFiles, name: str, ids: Mapping[str, int]) -> SourceClip:
    """The whole video with its segments."""
    path = files.first([f'v_{name}', name])
    fields = {
      records.SEGMENT_START_INDEX: [
        round(start * _RATE) for _, start, _ in self.segments
      ],
      records.SEGMENT_END_INDEX: [
        max(round(start * _RATE), round(end * _RATE) - 1)
        for _, start, end in self.segments
      ],
      records.SEGMENT_LABEL_INDEX: [ids[label] for label, _, _ in self.segments],
    }
    return SourceClip(
      path=path,
      file=os.path.join(files.root, path),
      split=self.split,
      media_id=name,
      labels=tuple(dict.fromkeys(label for label, _, _ in self.segments)),
      frame_rate=_RATE,
      fields=fields if self.segments else {},
      origin=name,
      labels_of_segments=True,
    )


SOURCE = ActivityNet()

"""ActivityNet v1.3: untrimmed videos with labelled segments."""

import os
from typing import Any

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.source import (
  Listing,
  SourceClip,
  SourceRequest,
  existing_folder,
  read_json,
)

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
    files = VideoFiles(existing_folder('path', request.path))
    path = request.annotations or os.path.join(request.path, 'activity_net.v1-3.min.json')
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get('database'), dict):
      raise UserError(f"{path}: expected a JSON object with 'database'")
    database = content['database']
    try:
      names = sorted(
        {a['label'] for video in database.values() for a in video['annotations']}
      )
      ids = {name: number for number, name in enumerate(names)}
      clips = [_clip(files, name, entry, ids) for name, entry in database.items()]
    except (KeyError, TypeError, ValueError) as error:
      raise UserError(
        f'{path}: a video lacks subset, or annotations of label and segment ({error})'
      ) from error
    return Listing(clips, names)


def _clip(files: VideoFiles, name: str, entry: Any, ids: dict[str, int]) -> SourceClip:
  path = files.first([f'v_{name}', name])
  spans = [(a['label'], *map(float, a['segment'])) for a in entry['annotations']]
  fields = {
    records.SEGMENT_START_INDEX: [round(start * _RATE) for _, start, _ in spans],
    records.SEGMENT_END_INDEX: [
      max(round(start * _RATE), round(end * _RATE) - 1) for _, start, end in spans
    ],
    records.SEGMENT_LABEL_INDEX: [ids[label] for label, _, _ in spans],
  }
  return SourceClip(
    path=path,
    file=os.path.join(files.root, path),
    split=_SPLITS.get(entry['subset'], entry['subset']),
    media_id=name,
    labels=tuple(dict.fromkeys(label for label, _, _ in spans)),
    frame_rate=_RATE,
    fields=fields if spans else {},
    origin=name,
  )


SOURCE = ActivityNet()

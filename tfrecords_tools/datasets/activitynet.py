"""ActivityNet v1.3: untrimmed videos with labelled segments."""

import math
import os
from collections.abc import Mapping

from official.video.errors import UserError
from tfrecords_tools.datasets import entries
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.rows import labels_of_cell, sorted_labels, split_of_cell
from tfrecords_tools.datasets.segments import Film
from tfrecords_tools.datasets.source import (
  Listing,
  SourceRequest,
  existing_folder,
  read_json,
)
from tfrecords_tools.summary import Summary

_SPLITS = {'training': 'train', 'validation': 'val', 'testing': 'test'}


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
    films = read_database(path, found)
    names = sorted_labels(
      {label for film in films.values() for label, _, _ in film.segments}
    )
    ids = {name: number for number, name in enumerate(names)}
    clips = [film.clip(files, [f'v_{name}', name], ids) for name, film in films.items()]
    return Listing(clips, names, found.lines())


def read_database(path: str, found: Summary) -> Mapping[str, Film]:
  """Videos with their segments, by name, of a JSON of the ActivityNet format.

  Raises:
    UserError: it is of another format.
  """
  content = read_json(path)
  if not isinstance(content, dict) or not isinstance(content.get('database'), dict):
    raise UserError(f"{path}: expected a JSON object with 'database'")
  videos = entries.by_video(path, content['database'], 'subset and annotations')
  return {name: _film(entry, found) for name, entry in videos}


def _film(entry: entries.Entry, found: Summary) -> Film:
  where, subset = entry.where, entry.text('subset', empty=True)
  film = Film(_SPLITS.get(subset.casefold()) or split_of_cell(subset, found, where))
  # Those of the test set have none.
  annotations = entry.values('annotations') if entry.has('annotations') else []
  for value in annotations:
    action = entries.Entry(where, value, 'label and segment')
    # What begins before the video is cut, and counted.
    start, end = (
      entries.seconds(where, 'a time of a segment', time, -math.inf)
      for time in action.values('segment', 2)
    )
    label = labels_of_cell(action.content.get('label'), found, where)
    film.add(where, label, start, end, found)
  return film


SOURCE = ActivityNet()

"""ActivityNet's JSON: annotations by video, and results."""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from official.video import files
from official.video.errors import UserError
from official.video.evaluation.temporal_localization import Segments
from tfrecords_tools import summary
from tfrecords_tools.datasets import thumos14


class Video(NamedTuple):
  """A video of a `database`.

  Attributes:
    duration: seconds; None where the file does not say.
    labels: `[N]` of its annotations.
    spans: float64 `[N, 2]`, their first and last second.
  """

  duration: float | None
  labels: list[str]
  spans: np.ndarray


def read_videos(paths: Sequence[str], subset: str) -> dict[str, Video]:
  """Videos of a subset by name, with and without annotations.

  Args:
    paths: files of a `database` each, or folders of THUMOS14's lists; some may lack the
      subset.
    subset: such as 'training' or 'validation'; 'val' or 'test' of lists.

  Raises:
    UserError: a file is not of ActivityNet's format, two have the same video, or none has an
      annotation of the subset.
  """
  videos: dict[str, Video] = {}
  origin: dict[str, str] = {}
  subsets = set()
  for path in paths:
    database = _of_lists(path) if os.path.isdir(path) else _member(path, 'database')
    for name, entry in database.items():
      if name in origin:
        raise UserError(f'{path}: {name} is in {origin[name]} too; give every video once')
      origin[name] = path
      found, video = _video(path, name, entry)
      subsets.add(found)
      if found == subset:
        videos[name] = video
  if not any(video.labels for video in videos.values()):
    raise UserError(
      f'{", ".join(paths)}: no annotation of subset {subset!r}; there are {sorted(subsets)}'
    )
  return videos


def of_thumos14(name: str) -> bool:
  """Whether a video is called as those of THUMOS14 are."""
  return name.startswith(thumos14.STARTS)


def _of_lists(folder: str) -> dict[str, dict[str, Any]]:
  """A `database` of THUMOS14's lists; what is ambiguous counts neither as an action."""
  found = summary.Summary()
  films = thumos14.read_lists(folder, found)
  for line in found.lines():
    print(f'note: {folder}: {line}', file=sys.stderr)
  return {
    name: {
      'subset': film.split,
      'annotations': [
        {'label': label, 'segment': [start, end]}
        for label, start, end in film.segments
        if label != thumos14.AMBIGUOUS
      ],
    }
    for name, film in films.items()
  }


def _video(path: str, name: str, entry: Mapping) -> tuple[str, Video]:
  """Subset and content of an entry of the database."""
  try:
    subset, duration = str(entry['subset']), entry.get('duration')
    labels = [str(row['label']) for row in entry['annotations']]
    spans = np.array(
      [[float(second) for second in row['segment']] for row in entry['annotations']]
    ).reshape(len(labels), 2)
    duration = None if duration is None else float(duration)
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise UserError(
      f'{path}: {name}: expected subset, duration and annotations of label and segment '
      '[start, end]'
    ) from error
  if not np.isfinite(spans).all() or (
    duration is not None and not (math.isfinite(duration) and duration > 0)
  ):
    raise UserError(f'{path}: {name}: duration and segments are to be seconds')
  return subset, Video(duration, labels, spans)


def segments(videos: Mapping[str, Video]) -> Segments:
  """All annotations of videos."""
  return Segments.of(
    [
      (name, label, start, end, 1.0)
      for name, video in videos.items()
      for label, (start, end) in zip(video.labels, video.spans, strict=True)
    ]
  )


def read_predictions(path: str) -> Segments:
  """Predictions of a file of `results`.

  Raises:
    UserError: the file is not of that format.
  """
  try:
    rows = [
      (video, p['label'], *map(float, p['segment']), float(p['score']))
      for video, listed in _member(path, 'results').items()
      for p in listed
    ]
    predicted = Segments.of(rows)
  except (KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f"{path}: expected 'results' by video of label, score and segment"
    ) from error
  except ValueError as error:
    if isinstance(error, UserError):
      raise
    raise UserError(f'{path}: {error}') from error
  if not (np.isfinite(predicted.span).all() and np.isfinite(predicted.score).all()):
    raise UserError(f'{path}: segments and scores are to be finite numbers')
  return predicted


def write_predictions(path: str | os.PathLike[str], predicted: Segments) -> None:
  """Writes predictions as `results`; the file appears whole or not at all."""
  results: dict[str, list[Mapping]] = {}
  for video, label, span, score in zip(
    predicted.video, predicted.label, predicted.span, predicted.score, strict=True
  ):
    entry = {'label': label, 'score': float(score), 'segment': [float(x) for x in span]}
    results.setdefault(video, []).append(entry)
  content = {'version': 'VERSION 1.3', 'results': results, 'external_data': {}}
  files.write_atomically(path, (json.dumps(content) + '\n').encode())


def read_json(path: str, where: str) -> Any:
  """What a JSON file holds.

  Args:
    path: of the file.
    where: what to call it in the message.

  Raises:
    UserError: it can't be read, or is not JSON.
  """
  try:
    with open(path, encoding='utf-8') as file:
      return json.load(file)
  except OSError as error:
    raise UserError(f'{where}: {error.strerror}') from error
  except ValueError as error:
    raise UserError(f'{where}: is not JSON: {error}') from error


def _member(path: str, key: str) -> dict:
  """The object under a key of a JSON file."""
  content = read_json(path, path)
  if not isinstance(content, dict) or not isinstance(content.get(key), dict):
    raise UserError(f'{path}: expected a JSON object with {key!r} by video')
  return content[key]

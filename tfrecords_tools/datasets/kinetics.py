"""Kinetics-400, -600, -700 and -700-2020 with their official CSV lists."""

import os
from collections.abc import Mapping

from official.video.errors import UserError
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.rows import (
  END,
  LABEL,
  SPLIT,
  START,
  Column,
  labels_of_cell,
  needed_seconds,
  read_table,
  split_of_cell,
)
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
  SourceClip,
  SourceRequest,
  existing_folder,
)
from tfrecords_tools.summary import Summary

_COLUMNS = (
  Column('youtube_id', ('youtubeid', 'yt_id', 'video_id'), ('id', 'url'), required=True),
  Column('time_start', ('start', *START.others), required=True),
  Column('time_end', ('end', *END.others), required=True),
  Column('split', SPLIT.others, required=True),
  LABEL,
)


def _list_files(request: SourceRequest) -> list[str]:
  """The CSV lists: the one named, or all in the folder named or in `path`."""
  given = request.annotations or request.path
  if os.path.isfile(given):
    return [given]
  folder = existing_folder('annotations' if request.annotations else 'path', given)
  names = sorted(name for name in os.listdir(folder) if name.endswith('.csv'))
  if not names:
    raise UserError(f'{folder}: holds no .csv list; name it by --annotations')
  return [os.path.join(folder, name) for name in names]


class Kinetics:
  """Trimmed files `<id>_<start>_<end>`, or whole videos `<id>` that are trimmed here."""

  flags = frozenset({'annotations'})

  def __init__(self, num_classes: int, edition: str = ''):
    self._num_classes = num_classes
    self.summary = (
      f'official CSV lists of {num_classes} classes{edition} (--annotations: a file or a '
      'folder); videos <id>_<start>_<end>.mp4, or <id>.mp4, whole or cut; flat or in folders'
    )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the rows of the CSV files; a row without a file is listed all the same."""
    root = existing_folder('path', request.path)
    files, found = VideoFiles(root), Summary()
    clips = [
      self._clip(where, row, files, found)
      for path in _list_files(request)
      for where, row in read_table(path, _COLUMNS, found)
    ]
    names = sorted({label for clip in clips for label in clip.labels})
    if len(names) > self._num_classes:
      raise UserError(
        f'{request.annotations or root}: the lists have {len(names)} classes, expected '
        f'at most {self._num_classes}; use --source of the right Kinetics'
      )
    return Listing(clips, notes=found.lines())

  def _clip(
    self, where: Place, row: Mapping[str, str], files: VideoFiles, found: Summary
  ) -> SourceClip:
    start, end = (
      needed_seconds(where, key, row[key]) for key in ('time_start', 'time_end')
    )
    labels = labels_of_cell(row.get('label'), found, where)
    split = split_of_cell(row['split'], found, where)
    label = labels[0] if labels else ''
    video = row['youtube_id']
    # Whole seconds, as files are called; lists may have parts of seconds.
    name = f'{video}_{round(start):06d}_{round(end):06d}'
    folders = (split, label, label.replace(' ', '_'))
    trimmed = files.find(name, folders) or files.cut_to(video, start, end, folders)
    path = trimmed or files.find(video, folders) or f'{name}.mp4'
    return SourceClip(
      path=path,
      file=os.path.join(files.root, path),
      split=split,
      media_id=f'{video}_{start:06.10g}_{end:06.10g}',
      labels=labels,
      start=0.0 if trimmed else start,
      end=None if trimmed else end,
      origin=video,
      excerpt=None if trimmed else (start, end),
      listed=where,
    )

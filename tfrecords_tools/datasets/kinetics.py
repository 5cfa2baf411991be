"""Kinetics-400, -600 and -700 with their official CSV lists."""

import csv
import os
from collections.abc import Iterator, Mapping

from official.video.errors import UserError
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.source import (
  Listing,
  SourceClip,
  SourceRequest,
  existing_folder,
)

_COLUMNS = ('youtube_id', 'time_start', 'time_end', 'split')


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


def _rows(path: str) -> Iterator[tuple[str, dict[str, str]]]:
  try:
    with open(path, encoding='utf-8-sig', newline='') as file:
      reader = csv.DictReader(file)
      missing = set(_COLUMNS) - set(reader.fieldnames or ())
      if missing:
        raise UserError(f'{path}: lacks the columns {sorted(missing)} of a Kinetics list')
      for row in reader:
        if None in (row[column] for column in _COLUMNS):
          raise UserError(
            f'{path}, line {reader.line_num}: lacks values of the columns {list(_COLUMNS)}'
          )
        yield f'{path}, line {reader.line_num}', row
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise UserError(f'{path}: {error}') from error


def _span(where: str, row: Mapping[str, str]) -> tuple[int, int]:
  try:
    start, end = (int(float(row[key])) for key in ('time_start', 'time_end'))
  except (TypeError, ValueError, OverflowError):
    start, end = -1, -1
  if start < 0 or end < 0:
    raise UserError(
      f'{where}: time_start, time_end are {row["time_start"]!r}, {row["time_end"]!r}, '
      'expected seconds of at least 0'
    )
  return start, end


class Kinetics:
  """Trimmed files `<id>_<start>_<end>`, or whole videos `<id>` that are trimmed here."""

  flags = frozenset({'annotations'})

  def __init__(self, num_classes: int):
    self._num_classes = num_classes
    self.summary = (
      f'official CSV lists of {num_classes} classes (--annotations: a file or a folder); '
      'videos <id>_<start:06d>_<end:06d>.mp4 or <id>.mp4, flat or in folders'
    )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the rows of the CSV files; a row without a file is listed all the same."""
    root = existing_folder('path', request.path)
    files = VideoFiles(root)
    clips = [
      self._clip(where, row, root, files)
      for path in _list_files(request)
      for where, row in _rows(path)
    ]
    names = sorted({label for clip in clips for label in clip.labels})
    if len(names) > self._num_classes:
      raise UserError(
        f'{request.annotations or root}: the lists have {len(names)} classes, expected '
        f'at most {self._num_classes}; use --source of the right Kinetics'
      )
    return Listing(clips)

  def _clip(
    self, where: str, row: Mapping[str, str], root: str, files: VideoFiles
  ) -> SourceClip:
    start, end = _span(where, row)
    label, split = row.get('label') or '', row['split']
    media_id = f'{row["youtube_id"]}_{start:06d}_{end:06d}'
    folders = (split, label, label.replace(' ', '_'))
    trimmed = files.find(media_id, folders)
    path = trimmed or files.find(row['youtube_id'], folders) or f'{media_id}.mp4'
    return SourceClip(
      path=path,
      file=os.path.join(root, path),
      split=split,
      media_id=media_id,
      labels=(label,) if label else (),
      start=0.0 if trimmed else float(start),
      end=None if trimmed else float(end),
      origin=row['youtube_id'],
    )

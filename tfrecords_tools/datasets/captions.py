"""Lists of captioned spans of web videos: VideoCC, ActivityNet Captions, HowTo100M."""

import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.datasets import entries
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.folder import DEFAULT_SPLIT
from tfrecords_tools.datasets.rows import MOST_SECONDS, read_cells
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
  SourceClip,
  SourceRequest,
  existing_folder,
  first_existing,
  read_json,
)
from tfrecords_tools.summary import Summary

_MICROSECONDS = 1_000_000
# Seconds that the latest end of a list is beyond, unless its unit is another one.
_LEAST_END = 0.1
VIDEO_ID = re.compile(r'(?:v=|youtu\.be/|/embed/|/shorts/|/v/|^)([\w-]{11})(?![\w-])')
# Spoken lines of HowTo100M are joined until a clip lasts so many seconds.
_SPOKEN_SECONDS = 5.0


def captioned_clip(
  files: VideoFiles,
  name: str,
  split: str,
  captions: Sequence[str],
  span: tuple[float, float] | None = None,
  *,
  origin: str = '',
  listed: Place | None = None,
  missing: str = '',
) -> SourceClip:
  """A clip of a video that is called `<name>`, or of its trimmed file `<name>_<start>`.

  Args:
    files: of the source.
    name: of the video, without suffix.
    split: of the clip.
    captions: what is said of it.
    span: first and last second; None for the whole video.
    origin: video that a whole file was cut from, where its name does not tell.
    listed: where it is named, if it may be but once.
    missing: what its file would be called if there is none; default `<name>.mp4`.
  """
  start, end = span or (0.0, None)
  media_id = name if span is None else f'{name}_{start:g}_{end:g}'
  cut = files.cut_to(name, start, end) if span else None
  path = cut or files.first([name, f'v_{name}'], missing)
  return SourceClip(
    path=path,
    file=os.path.join(files.root, path),
    split=split,
    media_id=media_id,
    start=0.0 if cut else start,
    end=None if cut else end,
    excerpt=None if cut else span,
    fields={records.TEXT_CONTENT: list(captions)} if captions else {},
    origin=origin or (name if span else ''),
    listed=listed,
  )


def _number(where: object, text: Any) -> float:
  try:
    value = float(text)
  except (TypeError, ValueError, OverflowError):
    value = -1.0
  if not 0 <= value < MOST_SECONDS:
    raise UserError(f'{where}: time is {text!r}, expected a number of at least 0')
  return value


def _annotation_file(request: SourceRequest, suffixes: Sequence[str]) -> str:
  """The list that --annotations names, or the only one of a suffix in its folder."""
  given = request.annotations or request.path
  if os.path.isfile(given):
    return given
  folder = existing_folder('annotations' if request.annotations else 'path', given)
  names = [n for n in sorted(os.listdir(folder)) if n.lower().endswith(tuple(suffixes))]
  if len(names) != 1:
    raise UserError(
      f'{folder}: holds {len(names)} {" or ".join(suffixes)} lists; name one by --annotations'
    )
  return os.path.join(folder, names[0])


class VideoCC:
  """A CSV of video URL, start and end in microseconds, and caption."""

  flags = frozenset({'annotations', 'split'})
  summary = (
    'CSV of url, start and end (microseconds), caption (--annotations); videos named by '
    'their ids below --path, or parts of them <id>_<start>_<end> or <id>_<start>'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the rows; a first row without times is a header."""
    files = VideoFiles(existing_folder('path', request.path))
    path = _annotation_file(request, ('.csv', '.tsv'))
    split = request.split or DEFAULT_SPLIT
    clips = [self._clip(files, where, row, split) for where, row in _rows(path)]
    if not clips:
      raise UserError(f'{path}: lists no clip')
    if (last := max(clip.end or math.inf for clip in clips)) < _LEAST_END:
      raise UserError(
        f'{path}: its latest end is {last * _MICROSECONDS:g}, expected microseconds; '
        'multiply seconds by 1000000'
      )
    return Listing(clips)

  def _clip(
    self, files: VideoFiles, where: Place, row: Sequence[str], split: str
  ) -> SourceClip:
    match = VIDEO_ID.search(row[0].strip())
    if not match:
      raise UserError(f'{where}: {row[0]!r} names no video, expected its URL or id')
    start, end = (_number(where, cell) / _MICROSECONDS for cell in row[1:3])
    return captioned_clip(files, match[1], split, [row[3].strip()], (start, end))


def _rows(path: str) -> Iterator[tuple[Place, list[str]]]:
  for where, row in read_cells(path, '\t' if path.lower().endswith('.tsv') else ','):
    if where.row == 'line 1' and not re.match(r'\d', ''.join(row[1:2]).strip()):
      continue
    if len(row) != 4:
      raise UserError(
        f'{where}: has {len(row)} columns, expected url, start, end, caption'
      )
    yield where, row


class ActivityNetCaptions:
  """`train.json`, `val_1.json`, `val_2.json`: sentences of spans, or joined by video."""

  flags = frozenset({'annotations'})

  def __init__(self, paragraphs: bool):
    self._paragraphs = paragraphs
    unit = 'a clip a video, its sentences joined' if paragraphs else 'a clip a sentence'
    self.summary = (
      f'ActivityNet Captions, {unit}; --annotations: folder of train.json ...'
    )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the videos of every split whose list there is."""
    files = VideoFiles(existing_folder('path', request.path))
    folder = existing_folder('annotations', request.annotations or request.path)
    names = ('train.json', 'val_1.json', 'val_2.json')
    first_existing('annotations', folder, names)
    clips, found = [], Summary()
    for name in names:
      if os.path.exists(path := os.path.join(folder, name)):
        expected = 'timestamps and sentences'
        for video, entry in entries.by_video(path, read_json(path), expected):
          clips += self._clips(files, entry, video, name[:-5], found)
    return Listing(clips, notes=found.lines())

  def _clips(
    self, files: VideoFiles, entry: entries.Entry, video: str, split: str, found: Summary
  ) -> list[SourceClip]:
    where, spans = entry.where, entry.values('timestamps')
    sentences = entry.values('sentences', len(spans))
    pairs = [
      (
        self._span(where, entries.values(where, 'one of timestamps', span, 2), found),
        entries.text(where, 'a sentence', text, empty=True),
      )
      for span, text in zip(spans, sentences, strict=True)
    ]
    if silent := sum(not text for _, text in pairs):
      found.left_out('sentences without a word', where, silent)
      pairs = [(span, text) for span, text in pairs if text]
    if not pairs:
      return []
    if self._paragraphs:
      text = ' '.join(sentence for _, sentence in pairs)
      return [captioned_clip(files, video, split, [text])]
    return [captioned_clip(files, video, split, [text], span) for span, text in pairs]

  def _span(
    self, where: object, times: Sequence[Any], found: Summary
  ) -> tuple[float, float]:
    span = [entries.seconds(where, 'a time', time) for time in times]
    if span[1] < span[0] and not self._paragraphs:
      found.corrected('sentences that end before they start, turned round', where)
    return min(span), max(span)


class HowTo100M:
  """`caption.json`: the spoken lines of each video with their times in seconds."""

  flags = frozenset({'annotations', 'split'})
  summary = (
    'HowTo100M, caption.json or raw_caption.json (--annotations); spoken lines, joined to '
    'clips of at least 5 seconds'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the clips of every video that is below `request.path`.

    The list names a million videos; those that are not there are counted in a note.
    """
    files = VideoFiles(existing_folder('path', request.path))
    path = _annotation_file(request, ('.json',))
    split = request.split or DEFAULT_SPLIT
    clips, absent = [], 0
    for video, lines in entries.by_video(path, read_json(path), 'start, end and text'):
      if files.find(video) is None and not files.has_parts(video):
        absent += 1
        continue
      for span, text in _joined(lines):
        clips.append(captioned_clip(files, video, split, [text], span))
    if not clips:
      raise UserError(f'{path}: none of its videos is below {request.path}')
    notes = [f'{absent} listed videos are not below {request.path}'] if absent else []
    return Listing(clips, notes=notes)


def _joined(lines: entries.Entry) -> list[tuple[tuple[float, float], str]]:
  """Spans of at least `_SPOKEN_SECONDS` with what is said in them."""
  where, starts = lines.where, lines.values('start')
  others = [lines.values(key, len(starts)) for key in ('end', 'text')]
  rows = [
    (
      entries.seconds(where, 'one of start', start),
      entries.seconds(where, 'one of end', end),
      # A line without a word is null, or NaN, in the public file.
      entries.text(where, 'one of text', text, empty=True) if _spoken(text) else '',
    )
    for start, end, text in zip(starts, *others, strict=True)
  ]
  result = []
  texts: list[str] = []
  first = 0.0
  for start, end, text in rows:
    first = start if not texts else first
    texts.append(text)
    if end - first >= _SPOKEN_SECONDS:
      result.append(((first, end), ' '.join(filter(None, texts))))
      texts = []
  if texts and result:
    (start, _), spoken = result[-1]
    result[-1] = ((start, rows[-1][1]), ' '.join(filter(None, [spoken, *texts])))
  elif texts and rows[-1][1] > first:
    result.append(((first, rows[-1][1]), ' '.join(filter(None, texts))))
  return [(span, text) for span, text in result if text]


def _spoken(text: Any) -> bool:
  return text is not None and not (isinstance(text, float) and math.isnan(text))


VIDEOCC = VideoCC()
HOWTO100M = HowTo100M()

"""DiDeMo: Flickr videos of half a minute with sentences about moments of them."""

import collections
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

from tfrecords_tools.datasets import entries
from tfrecords_tools.datasets.captions import captioned_clip
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
  SourceClip,
  SourceRequest,
  existing_folder,
  first_existing,
)
from tfrecords_tools.summary import Summary

_SPLITS = ('train', 'val', 'test')
# Moments are told in steps of so many seconds.
_STEP = 5.0
_MOST_STEPS = 10**6


@dataclasses.dataclass(frozen=True)
class _Moment:
  """A sentence.

  Attributes:
    where: file and entry.
    video: file name.
    text: what is said.
    number: of the annotation.
    span: first and last second that most annotators named; of several the first.
  """

  where: Place
  video: str
  text: str
  number: str
  span: tuple[float, float]


class DiDeMo:
  """`train_data.json`, `val_data.json`, `test_data.json`: by moment, or joined by video."""

  flags = frozenset({'annotations'})

  def __init__(self, paragraphs: bool):
    self._paragraphs = paragraphs
    unit = (
      'a clip a video, its sentences joined, as retrieval has it'
      if paragraphs
      else 'a clip a sentence, of the seconds that most annotators named'
    )
    self.summary = (
      f'DiDeMo, {unit}; --annotations: folder of train_data.json, val_data.json, '
      'test_data.json; videos as listed, of any suffix'
    )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the clips of every split whose list there is."""
    files = VideoFiles(existing_folder('path', request.path))
    folder = existing_folder('annotations', request.annotations or request.path)
    first_existing('annotations', folder, [f'{split}_data.json' for split in _SPLITS])
    clips: list[SourceClip] = []
    found = Summary()
    for split in _SPLITS:
      path = os.path.join(folder, f'{split}_data.json')
      if not os.path.exists(path):
        found.note(f'{folder}: holds no list of {split}')
      elif self._paragraphs:
        clips += _videos(files, split, _moments(path, found))
      else:
        clips += [_clip(files, split, moment) for moment in _moments(path, found)]
    return Listing(clips, notes=found.lines())


def _moments(path: str, found: Summary) -> Iterator[_Moment]:
  expected = 'video, description, and times of first and last steps'
  for number, entry in enumerate(entries.listed(path, expected), start=1):
    where = entry.where
    video, text = entry.name('video'), entry.text('description', empty=True)
    times = [_steps(where, value) for value in entry.values('times')]
    if not times:
      entries.refuse(where, 'times', [], 'a list of pairs of first and last steps')
    known = entry.name('annotation_id') if entry.has('annotation_id') else str(number)
    if not text:
      found.left_out('sentences without a word', where)
      continue
    ((first, last), _), *_ = collections.Counter(times).most_common()
    if last < first:
      found.corrected('moments that end before they start, turned round', where)
      first, last = last, first
    span = first * _STEP, (last + 1) * _STEP
    yield _Moment(where, video, text, known, span)


def _steps(where: object, value: Any) -> tuple[int, int]:
  """First and last step that an annotator named."""
  first, last = entries.values(where, 'one of times', value, 2)
  return (
    entries.whole(where, 'a first step', first, 0, _MOST_STEPS),
    entries.whole(where, 'a last step', last, 0, _MOST_STEPS),
  )


def _videos(
  files: VideoFiles, split: str, moments: Iterator[_Moment]
) -> Iterator[SourceClip]:
  """A clip a video with its sentences in the order of the list.

  The lists name some videos by two suffixes.
  """
  by_video: dict[str, list[_Moment]] = {}
  for moment in moments:
    by_video.setdefault(os.path.splitext(moment.video)[0], []).append(moment)
  for own in by_video.values():
    text = ' '.join(moment.text for moment in own)
    yield _captioned(files, own[0].video, split, [text], listed=own[0].where)


def _clip(files: VideoFiles, split: str, moment: _Moment) -> SourceClip:
  clip = _captioned(files, moment.video, split, [moment.text], moment.span)
  name = os.path.splitext(moment.video)[0]
  return dataclasses.replace(clip, media_id=f'{name}_{moment.number}')


def _captioned(
  files: VideoFiles,
  video: str,
  split: str,
  texts: Sequence[str],
  *span: Any,
  **known: Any,
) -> SourceClip:
  """The clip of a file that may have another suffix than is listed."""
  name = os.path.splitext(video)[0]
  return captioned_clip(files, name, split, texts, *span, missing=video, **known)


DIDEMO = DiDeMo(paragraphs=True)
DIDEMO_MOMENTS = DiDeMo(paragraphs=False)

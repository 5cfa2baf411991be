"""MSRVTT-QA and MSVD-QA: questions of videos, and answers out of a vocabulary."""

import os
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.datasets import entries
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.source import (
  Listing,
  SourceClip,
  SourceRequest,
  existing_folder,
  first_existing,
  read_lines,
)

SPLITS = ('train', 'val', 'test')
OUTSIDE = -1


class Row(NamedTuple):
  """A question of a video, and its answer."""

  video: str
  question: str
  answer: str


def qa_rows(path: str) -> list[Row]:
  """Entries of a `<split>_qa.json`; raises `UserError` for anything else."""
  return [
    Row(entry.name('video_id'), entry.text('question'), entry.name('answer'))
    for entry in entries.listed(path, 'question, answer, video_id')
  ]


class VideoQa:
  """`train_qa.json`, `val_qa.json`, `test_qa.json`: a record a video, all its questions."""

  flags = frozenset({'annotations', 'answers'})
  summary = (
    'MSRVTT-QA, MSVD-QA: --annotations: folder of train_qa.json, val_qa.json, test_qa.json '
    "and MSVD's youtube_mapping.txt; --answers: of tfrecords_tools.answers"
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the videos of the splits with questions and answer ids."""
    if not request.answers:
      raise UserError(
        '--answers: is needed; write it by python -m tfrecords_tools.answers'
      )
    files = VideoFiles(existing_folder('path', request.path))
    folder = existing_folder('annotations', request.annotations or request.path)
    first_existing('annotations', folder, [f'{split}_qa.json' for split in SPLITS])
    ids = {answer: number for number, answer in enumerate(read_lines(request.answers))}
    names = _mapped_names(os.path.join(folder, 'youtube_mapping.txt'))
    clips, outside = [], 0
    for split in SPLITS:
      if not os.path.exists(path := os.path.join(folder, f'{split}_qa.json')):
        continue
      videos: dict[str, list] = defaultdict(list)
      for row in qa_rows(path):
        answer = ids.get(row.answer, OUTSIDE)
        outside += answer == OUTSIDE
        videos[row.video].append((row.question, answer))
      for video, pairs in videos.items():
        clips.append(_clip(files, names, video, split, pairs))
    note = f'{outside} answers are outside of the vocabulary and count as wrong'
    return Listing(clips, notes=[note] if outside else [])


def _clip(
  files: VideoFiles,
  names: Mapping[str, str],
  video: str,
  split: str,
  pairs: list[tuple[str, int]],
) -> SourceClip:
  known = names.get(f'vid{video}')
  candidates = [f'video{video}', f'vid{video}', video]
  path = files.first([known, *candidates] if known else candidates)
  return SourceClip(
    path=path,
    file=os.path.join(files.root, path),
    split=split,
    media_id=video,
    fields={
      records.TEXT_QUESTION: [question for question, _ in pairs],
      records.TEXT_ANSWER_INDEX: [answer for _, answer in pairs],
    },
  )


def _mapped_names(path: str) -> dict[str, str]:
  """MSVD's file names by `vid<i>`; empty where there is no mapping."""
  if not os.path.exists(path):
    return {}
  pairs = [line.split() for line in read_lines(path)]
  if bad := [pair for pair in pairs if len(pair) != 2]:
    raise UserError(f"{path}: {' '.join(bad[0])!r}, expected '<name> vid<i>'")
  return {number: name for name, number in pairs}


SOURCE = VideoQa()

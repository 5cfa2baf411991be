"""Looking at a folder of videos before anything is done with it, and converting it."""

import dataclasses
import os
from collections import Counter

from official.video.demonstration import common
from official.video.errors import UserError

# Fewer teach nothing; of the videos held out for a test, two at least are asked for.
LEAST_VIDEOS, LEAST_TRAINING, LEAST_TESTS = 4, 4, 2
TEST_FRACTION = 0.2
_TESTS = ('test', 'val', 'validation', 'valid', 'validate')


@dataclasses.dataclass(frozen=True)
class Found:
  """What a folder of videos allows.

  Attributes:
    count: videos.
    splits: names of those that it has.
    test: the split that is tested on; '' where one has to be held out.
    without_labels: why nothing that needs labels can be done; '' where it can.
  """

  count: int
  splits: tuple[str, ...]
  test: str
  without_labels: str


def look(folder: str, seed: int) -> Found:
  """Lists a folder; no video is opened.

  Raises:
    UserError: it is none, or holds too few videos.
  """
  from tfrecords_tools import plan
  from tfrecords_tools.datasets import folder as source
  from tfrecords_tools.datasets.source import SourceRequest

  if not os.path.isdir(folder):
    raise UserError(f'--videos {folder}: not a folder; name one with videos in it')
  listing = source.SOURCE.list_clips(SourceRequest(folder))
  clips, splits = listing.clips, sorted({clip.split for clip in listing.clips})
  if len(clips) < LEAST_VIDEOS:
    raise UserError(
      f'--videos {folder}: holds {len(clips)} videos; expected at least {LEAST_VIDEOS} to '
      'learn from'
    )
  test = next((name for name in _TESTS if name in splits), '')
  train = source.DEFAULT_SPLIT
  without = _without_labels(clips)
  if not without and splits == [train]:
    try:
      clips = plan.hold_out(listing, TEST_FRACTION, seed).clips
    except UserError as error:
      without = f'no video can be held out for a test ({error})'
    without = without or _too_few(clips, train, 'test')
  elif not without:
    without = (
      _too_few(clips, train, test)
      if test and train in splits
      else f'the folders are of {", ".join(splits)}, not of train and test'
    )
  return Found(len(clips), tuple(splits), '' if splits == [train] else test, without)


def _without_labels(clips) -> str:
  outside = sum(not clip.labels for clip in clips)
  if outside:
    return f'{outside} of {len(clips)} videos are in no class folder'
  classes = {label for clip in clips for label in clip.labels}
  return f'all videos are of one class, {min(classes)}' if len(classes) < 2 else ''


def _too_few(clips, train: str, test: str) -> str:
  counts = Counter(clip.split for clip in clips)
  classes = {label for clip in clips if clip.split == train for label in clip.labels}
  if len(classes) < 2:
    return f'the training videos are of {len(classes)} class'
  if counts[train] < LEAST_TRAINING or counts[test] < LEAST_TESTS:
    return (
      f'{counts[train]} videos to train on and {counts[test]} to test on are too few for '
      f'scores; {LEAST_TRAINING} and {LEAST_TESTS} are the least'
    )
  return ''


def synthesize(options: common.Options) -> str:
  """Renders the synthetic set; returns its folder."""
  folder = os.path.join(options.output_dir, 'videos')
  common.run_tool(
    'synthesize',
    f'--output_dir={folder}',
    f'--splits=train={options.train_videos},test={options.test_videos}',
    f'--seed={options.seed}',
  )
  return folder


def convert(options: common.Options, folder: str, found: Found | None) -> list[str]:
  """Converts videos; returns the manifests of training and test, or of all splits."""
  records = os.path.join(options.output_dir, 'records')
  scored = found is None or not found.without_labels
  splits = ('train', 'test') if found is None else found.splits
  held_out = [f'--test_fraction={TEST_FRACTION}'] if scored and len(splits) == 1 else []
  # Some unreadable videos are named in the summary and do not end the demo.
  common.run_tool(
    'convert',
    '--source=folder',
    f'--path={folder}',
    f'--output_dir={records}',
    '--short_side=72',
    f'--seed={options.seed}',
    *held_out,
    allowed=(0, 1),
  )
  if scored:
    splits = ('train', (found.test if found else '') or 'test')
  return [os.path.join(records, f'{split}.manifest.json') for split in splits]

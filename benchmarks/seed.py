"""What the programs share that run one seed of a learning benchmark."""

import argparse
import os
import pathlib
import platform
from collections.abc import Sequence
from typing import NamedTuple


class Sizes(NamedTuple):
  """What a seed costs.

  Attributes:
    steps: of each training.
    train: training videos.
    test: test videos.
  """

  steps: int
  train: int
  test: int


def flags(about: str, usual: Sizes) -> argparse.ArgumentParser:
  """The command line of a program, with its usual sizes."""
  parser = argparse.ArgumentParser(description=about.split('\n')[0])
  parser.add_argument('--output_dir', type=pathlib.Path, required=True)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--steps', type=int, default=usual.steps, help='of each training')
  parser.add_argument('--train_videos', type=int, default=usual.train)
  parser.add_argument('--test_videos', type=int, default=usual.test)
  return parser


def begin(arguments: argparse.Namespace) -> tuple[pathlib.Path, int, Sizes]:
  """Makes the output folder; returns it, the seed and the sizes."""
  arguments.output_dir.mkdir(parents=True)
  sizes = Sizes(arguments.steps, arguments.train_videos, arguments.test_videos)
  return arguments.output_dir, arguments.seed, sizes


def facts(
  sizes: Sizes, batch: int, shape: Sequence[int], data: str, **more: str
) -> dict[str, str]:
  """What the scores hold for.

  Args:
    sizes: of the run.
    batch: videos a step.
    shape: of a clip.
    data: what the videos are, behind their numbers.
    **more: 'about' and 'backbone'.
  """
  import tensorflow as tf

  from official.video.version import __version__

  return more | {
    'clips': 'x'.join(map(str, shape)),
    'data': f'{sizes.train} training and {sizes.test} test videos{data}',
    'budget': f'{sizes.steps} steps of {batch} videos',
    'machine': f'{platform.machine()}, {os.cpu_count()} cores',
    'versions': f'vidgarden {__version__}, TensorFlow {tf.__version__}',
  }


def make_records(
  folder: pathlib.Path,
  seed: int,
  sizes: Sizes,
  videos: Sequence[str] = (),
  records: Sequence[str] = (),
) -> list[str]:
  """Renders videos of one action each and converts them; returns both manifests.

  Args:
    folder: gets `videos` and `records`.
    seed: of the drawing.
    sizes: how many of each split.
    videos: more flags of the synthesis.
    records: more flags of the conversion.
  """
  from official.video.demonstration import common

  source, output = folder / 'videos', folder / 'records'
  common.run_tool(
    'synthesize',
    f'--output_dir={source}',
    f'--splits=train={sizes.train},test={sizes.test}',
    f'--seed={seed}',
    *videos,
  )
  common.run_tool(
    'convert',
    '--source=folder',
    f'--path={source}',
    f'--output_dir={output}',
    f'--seed={seed}',
    *records,
  )
  return [str(output / f'{split}.manifest.json') for split in ('train', 'test')]

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

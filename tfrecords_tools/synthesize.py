"""Renders and encodes a labelled set of short action videos.

A set that needs no download and stands in for Kinetics, AVA, a tracking set and a
captioned one: every video shows objects that act, with classes, boxes, segments and
captions. For example

  python -m tfrecords_tools.synthesize --output_dir=videos --splits=train=960,test=240

writes `videos/<split>/<class>/<video>.mp4`, `videos/<split>.jsonl` (one JSON object a
video: path, label, split and keys of the record contract) and `videos/label_map.txt`
(the class names by id). The same arguments give the same set, whatever the number of
workers, and a larger set begins with the smaller one.
"""

import argparse
import contextlib
import functools
import itertools
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import cv2
import tqdm

from official.video.errors import UserError
from tfrecords_tools import pool
from tfrecords_tools.commands import EXIT_OK, run_command
from tfrecords_tools.synthesis.annotate import CLASS_NAMES, annotate
from tfrecords_tools.synthesis.encode import CODECS, encode_video
from tfrecords_tools.synthesis.render import render
from tfrecords_tools.synthesis.scene import COLORS, TEXTURES, Config, draw_scene

LABEL_MAP_NAME = 'label_map.txt'
_DEFAULT_SPLITS = {'train': 960, 'test': 240}
_TRAIN_SHARE = 0.8


def write_video(
  output_dir: str, config: Config, video: tuple[str, int]
) -> dict[str, Any]:
  """Renders and encodes one video.

  Args:
    output_dir: folder of the set; the class folders are made as needed.
    config: what all videos have in common.
    video: its split and its index in the split.

  Returns:
    Its annotations, see `annotate`, with `path` (relative to `output_dir`) and `split`.
  """
  split, index = video
  scene = draw_scene(config, split, index)
  name = f'{split}_{index:06d}.{config.container}'
  path = '/'.join((split, scene.actors[0].action.name, name))
  target = os.path.join(output_dir, path)
  os.makedirs(os.path.dirname(target), exist_ok=True)
  encode_video(target, render(scene, config), scene.fps, config.container)
  return {'path': path, 'split': split, **annotate(scene, config)}


def _start_worker() -> None:
  cv2.setNumThreads(1)


def _write_task(
  output_dir: str,
  config: Config,
  video: tuple[str, int],
  tell: Callable[[Any], None],
) -> dict[str, Any]:
  """`write_video`, as the pool calls it."""
  return write_video(output_dir, config, video)


def _in_order(
  tasks: Sequence[Any], results: Iterable[tuple[Any, dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
  """Results in the order of their tasks, which must differ."""
  early: dict[Any, dict[str, Any]] = {}
  pairs = iter(results)
  for task in tasks:
    while task not in early:
      done, result = next(pairs)
      early[done] = result
    yield early.pop(task)


@contextlib.contextmanager
def _whole_file(path: str) -> Iterator[Any]:
  """Opens a text file that gets its name only once it is complete."""
  with open(f'{path}.tmp', 'w', encoding='utf-8') as file:
    yield file
  os.replace(f'{path}.tmp', path)


def synthesize(
  output_dir: str, splits: Mapping[str, int], config: Config, num_workers: int = 1
) -> int:
  """Writes a set of videos with its annotations.

  Args:
    output_dir: a folder that is new or empty.
    splits: number of videos of each split.
    config: what all videos have in common.
    num_workers: processes; 1 works in this one.

  Returns:
    Number of videos written.

  Raises:
    UserError: the folder holds something, or can't be written.
  """
  try:
    os.makedirs(output_dir, exist_ok=True)
    occupied = os.listdir(output_dir)
  except OSError as error:
    raise UserError(
      f'--output_dir={output_dir}: {error.strerror}; expected a folder that can be '
      'written, name another'
    ) from error
  if occupied:
    raise UserError(
      f'--output_dir={output_dir}: holds {len(occupied)} entries, expected a new or '
      'empty folder; remove it or name another'
    )
  with _whole_file(os.path.join(output_dir, LABEL_MAP_NAME)) as file:
    file.writelines(f'{name}\n' for name in CLASS_NAMES)
  work = functools.partial(_write_task, output_dir, config)
  videos = [(split, index) for split, count in splits.items() for index in range(count)]
  try:
    with (
      pool.results(work, videos, num_workers, initializer=_start_worker) as results,
      tqdm.tqdm(total=len(videos), unit='video') as progress,
    ):
      rows = _in_order(videos, results)
      for split, count in splits.items():
        with _whole_file(os.path.join(output_dir, f'{split}.jsonl')) as file:
          for row in itertools.islice(rows, count):
            file.write(json.dumps(row, separators=(',', ':')) + '\n')
            progress.update()
  except pool.WorkerDied as error:
    split, index = error.task
    raise UserError(
      f'a worker process died while rendering video {index} of {split} ({error}: out of '
      'memory, killed or crashed); remove --output_dir and run this again, with fewer '
      '--num_workers if memory is short'
    ) from error
  return len(videos)


# --- Command line ---------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
  def error(self, message: str) -> NoReturn:
    raise UserError(f'{message}; see --help')


def parse_splits(text: str) -> dict[str, int]:
  """Reads `train=960,test=240`.

  Raises:
    UserError: not of that form, or a split is named twice.
  """
  splits: dict[str, int] = {}
  for part in text.split(','):
    match = re.fullmatch(r'([A-Za-z][A-Za-z0-9_-]*)=([1-9]\d*)', part.strip())
    if not match or match[1] in splits:
      raise UserError(
        f'--splits={text}: {part!r} is not a new name=videos; '
        'expected for example train=960,test=240'
      )
    splits[match[1]] = int(match[2])
  return splits


def parse_range(flag: str, text: str, kind: type, least: float) -> tuple[Any, Any]:
  """Reads a number, or two with a comma between: the least and the greatest.

  Raises:
    UserError: not of that form, out of order or below `least`.
  """
  try:
    values = [kind(value) for value in text.split(',')]
  except ValueError:
    values = []
  if len(values) not in (1, 2) or not least <= values[0] <= values[-1] < 1e5:
    raise UserError(
      f'--{flag}={text}: expected a number of at least {least:g}, or least,greatest'
    )
  return values[0], values[-1]


def _at_least(least: int) -> Callable[[str], int]:
  def number(text: str) -> int:
    if not re.fullmatch(r'\d+', text) or int(text) < least:
      raise argparse.ArgumentTypeError(f'{text!r} is not an integer of at least {least}')
    return int(text)

  return number


def _between(least: float, most: float) -> Callable[[str], float]:
  def number(text: str) -> float:
    try:
      value = float(text)
    except ValueError:
      value = math.nan
    if not least <= value <= most:
      raise argparse.ArgumentTypeError(
        f'{text!r} is not a number from {least:g} to {most:g}'
      )
    return value

  return number


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(
    prog='python -m tfrecords_tools.synthesize',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  add = parser.add_argument
  add('--output_dir', required=True, help='folder to write, new or empty')
  sizes = parser.add_mutually_exclusive_group()
  sizes.add_argument('--splits', help='name=videos,...; default train=960,test=240')
  sizes.add_argument(
    '--num_videos', type=_at_least(2), help='videos in all: 80 %% train, the rest test'
  )
  add('--seed', type=_at_least(0), default=0, help='of every random draw')
  add('--objects', type=int, choices=(1, 2), default=1, help='moving objects a video')
  add('--segments', action='store_true', help='objects rest, act, then rest again')
  add('--short_side', default='120,180', help='pixels: a number, or least,greatest')
  add('--seconds', default='2,3', help='length: a number, or least,greatest')
  _add_scene_flags(parser)
  add('--container', choices=sorted(CODECS), default='mp4', help='file format')
  add(
    '--num_workers',
    type=_at_least(1),
    default=os.cpu_count() or 1,
    help='processes; default one a core',
  )
  return parser


def _add_scene_flags(parser: argparse.ArgumentParser) -> None:
  """Adds what videos differ in besides their actions."""
  add = parser.add_argument
  add(
    '--num_backgrounds',
    type=_at_least(1),
    default=Config.num_backgrounds,
    help='surfaces shared by all',
  )
  add(
    '--num_colors',
    type=int,
    choices=range(1, len(COLORS) + 1),
    metavar='N',
    default=Config.num_colors,
    help=f'colours of objects, of {len(COLORS)}',
  )
  add(
    '--num_textures',
    type=int,
    choices=range(1, len(TEXTURES) + 1),
    metavar='N',
    default=Config.num_textures,
    help=f'textures of objects, of {len(TEXTURES)}',
  )
  add(
    '--daylight',
    type=_between(0, 1),
    default=Config.daylight,
    help='how much darker the lower edge is than the upper one, 0 to 1',
  )
  add(
    '--light_cycle',
    type=_between(0, 3600),
    default=Config.light_cycle,
    help="seconds in which the light's colour goes round once; 0: white light",
  )


def _splits(args: argparse.Namespace) -> dict[str, int]:
  if args.splits:
    return parse_splits(args.splits)
  if args.num_videos:
    train = min(round(_TRAIN_SHARE * args.num_videos), args.num_videos - 1)
    return {'train': train, 'test': args.num_videos - train}
  return dict(_DEFAULT_SPLITS)


def run(argv: Sequence[str]) -> int:
  """Runs the command with the given arguments; returns the exit code.

  Raises:
    UserError: an argument is wrong, or the output folder is taken.
  """
  args = _parser().parse_args(argv)
  config = Config(
    seed=args.seed,
    short_side=parse_range('short_side', args.short_side, int, 32),
    seconds=parse_range('seconds', args.seconds, float, 0.1),
    num_backgrounds=args.num_backgrounds,
    objects=args.objects,
    segments=args.segments,
    container=args.container,
    num_colors=args.num_colors,
    num_textures=args.num_textures,
    daylight=args.daylight,
    light_cycle=args.light_cycle,
  )
  started = time.monotonic()
  total = synthesize(args.output_dir, _splits(args), config, args.num_workers)
  seconds = time.monotonic() - started
  print(
    f'{total} videos of {len(CLASS_NAMES)} classes in {args.output_dir}: '
    f'{seconds:.1f} s, {total / seconds:.1f} videos/s'
  )
  return EXIT_OK


def main() -> None:
  """The command line: exits with 2 and one line where the user can mend it."""
  sys.exit(run_command(run))


if __name__ == '__main__':
  main()

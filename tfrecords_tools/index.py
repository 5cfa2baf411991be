r"""Makes the index of frames of records, so that training reads the frames that it takes.

  python -m tfrecords_tools.index /data/records

Writes <file>.frames beside each TFRecord file, about 8 bytes a frame and the record without
its frames; the records stay as they are, and may be anybody's. tfrecords_tools.convert
writes it along with the records. An index that is there and of its file is left, so a
command that was stopped goes on where it was. The file system needs room for a few
thousandths of the records.

Exit codes: 0 every file has its index; 1 one has a record that is damaged or whose frames
can't be read one by one, which is named: training reads that set whole; 2 the request is
wrong or the index can't be written.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tqdm

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools import frame_index, pool, storage
from tfrecords_tools.commands import (
  EXIT_OK,
  EXIT_PROBLEMS,
  Parser,
  describe_os_error,
  number,
  run_command,
  say,
)
from tfrecords_tools.record_sets import find_record_sets


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
  parser = Parser(prog='python -m tfrecords_tools.index', description=__doc__)
  add = parser.add_argument
  add(
    'path', help='a manifest, a folder with manifests or TFRecord files, or one such file'
  )
  add('--overwrite', action='store_true', help='make those anew that are there')
  add(
    '--num_workers',
    type=number(int, 1),
    default=os.cpu_count() or 1,
    help='processes; default one a processor',
  )
  return parser.parse_args(arguments)


def _index(task: tuple[str, bool], tell: Callable[[Any], None]) -> tuple[bool, str]:
  """Whether the index of a file was made now, and why it can't be; '' where it can."""
  del tell
  path, overwrite = task
  try:
    if not overwrite and frame_index.is_current(path):
      return False, ''
    frame_index.make(path)
  except records.RecordError as error:
    return False, f'{path}: {error}'
  except OSError as error:
    return False, describe_os_error(error)
  return True, ''


def main(arguments: Sequence[str]) -> int:
  """Makes what the flags name; returns the exit code."""
  flags = _parse(arguments)
  paths = [
    os.path.join(found.folder, name)
    for found in find_record_sets(flags.path)
    for name in found.files
  ]
  made, problems = 0, []
  bar = tqdm.tqdm(total=len(paths), unit=' files', disable=None, file=sys.stderr)
  tasks = [(path, flags.overwrite) for path in paths]
  try:
    with bar, pool.results(_index, tasks, flags.num_workers) as results:
      for _, (is_new, problem) in results:
        made += is_new
        problems += [problem] if problem else []
        bar.update()
  except pool.WorkerDied as error:
    raise UserError(
      f'a worker process died at {error.task[0]} ({error}: out of memory, killed or '
      'crashed); run the same command again to go on, with fewer --num_workers if memory '
      'is short'
    ) from error
  for problem in sorted(problems):
    say(problem)
  left = len(paths) - made - len(problems)
  size = sum(
    storage.size(records.frame_index_name(path))
    for path in paths
    if storage.exists(records.frame_index_name(path))
  )
  say(
    f'{made} indices made, {left} were there: {size / 1e6:.1f} MB beside {len(paths)} files'
  )
  return EXIT_PROBLEMS if problems else EXIT_OK


if __name__ == '__main__':
  sys.exit(run_command(main))

"""Shows how far a conversion is."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

import tqdm

from tfrecords_tools import storage
from tfrecords_tools.plan import ShardTask
from tfrecords_tools.shards import RESULT_SUFFIX, Step, read_result

_SECONDS_A_LINE = 5.0
_POLL_SECONDS = 0.25
# Looking for finished shards takes at most this share of the time.
_POLL_SHARE = 0.02


class ProgressBar:
  """A bar on a terminal, a line every few seconds elsewhere, on stderr."""

  def __init__(self, total: int, initial: int = 0, file: TextIO | None = None):
    """Begins at `initial` of `total` clips."""
    self._file = file or sys.stderr
    self._total, self._initial = total, initial
    self._done, self._failed = initial, 0
    self._began = self._line_time = time.monotonic()
    self._bar = None
    if self._file.isatty():
      self._bar = tqdm.tqdm(
        total=total, initial=initial, unit=' videos', file=self._file, dynamic_ncols=True
      )

  def note(self, step: Step) -> None:
    """Counts a clip at its end."""
    if step.converted is not None:
      self.add(1, not step.converted)

  def add(self, done: int, failed: int) -> None:
    """Counts clips that are done, and those among them that gave no record."""
    self._done += done
    self._failed += failed
    if self._bar is not None:
      self._bar.set_postfix(failed=self._failed, refresh=False)
      self._bar.update(done)
    elif time.monotonic() - self._line_time >= _SECONDS_A_LINE:
      self._line_time = time.monotonic()
      print(self._line(), file=self._file, flush=True)

  def _line(self) -> str:
    rate = (self._done - self._initial) / (time.monotonic() - self._began)
    left = f'{(self._total - self._done) / rate:.0f} s left' if rate else 'starting'
    return (
      f'{self._done} of {self._total} videos, {rate:.2f} videos/s, {left}, '
      f'{self._failed} failed'
    )

  def close(self) -> None:
    """Ends the bar's line."""
    if self._bar is not None:
      self._bar.close()


def _count_finished(tasks: Sequence[ShardTask], bar: ProgressBar) -> list[ShardTask]:
  """Counts the clips of shards that are there now; returns the tasks still to do."""
  names = set(storage.list_folder(tasks[0].output_dir)) if tasks else set()
  left = []
  for task in tasks:
    there = os.path.basename(task.written_path) + RESULT_SUFFIX in names
    if result := read_result(task.written_path) if there else None:
      bar.add(task.num_to_convert, len(result.skipped))
    else:
      left.append(task)
  return left


@contextlib.contextmanager
def finished_shards_shown(tasks: Sequence[ShardTask], bar: ProgressBar) -> Iterator[None]:
  """Shows which shards appear while the context lasts, whoever writes them, anywhere."""
  left = tasks

  def look() -> float:
    nonlocal left
    began = time.monotonic()
    # Only for show: the conversion goes on without it.
    with contextlib.suppress(OSError):
      left = _count_finished(left, bar)
    return max(_POLL_SECONDS, (time.monotonic() - began) / _POLL_SHARE)

  with storage.repeatedly(look, _POLL_SECONDS):
    yield

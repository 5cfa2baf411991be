"""Shows how far a conversion is, from the small files that its workers keep."""

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from typing import TextIO

import tqdm

from tfrecords_tools.plan import ShardTask
from tfrecords_tools.shards import progress_path, read_result

_SECONDS_A_LINE = 5.0


class ShardWatch:
  """Counts what is done of the shards still to write.

  Attributes:
    done: clips converted or skipped.
    failed: clips skipped.
  """

  def __init__(self, tasks: Sequence[ShardTask]):
    self._open = {task.path: task for task in tasks}
    self._closed_done = self._closed_failed = 0
    self._workers: dict[str, tuple[int, str]] = {}
    self.done = self.failed = 0

  def poll(self) -> None:
    """Reads the workers' files again."""
    done, failed = 0, 0
    for path, task in list(self._open.items()):
      try:
        with open(progress_path(path), encoding='utf-8', errors='replace') as file:
          events = file.read().splitlines()
      except OSError:
        self._workers.pop(path, None)
        self._close(path, task)
        continue
      self._note_worker(path, events)
      # The first line is a process id, the others begin with what happened.
      ends = [event[0] for event in events[1:] if event in ('+', '-')]
      done += len(ends)
      failed += ends.count('-')
    self.done = max(self.done, self._closed_done + done)
    self.failed = max(self.failed, self._closed_failed + failed)

  def _close(self, path: str, task: ShardTask) -> None:
    if result := read_result(task):
      del self._open[path]
      self._closed_done += len(task.clips)
      self._closed_failed += len(result.skipped)

  def _note_worker(self, path: str, events: list[str]) -> None:
    if events and events[0].isdigit():
      clips = [event[2:] for event in events if event.startswith('> ')]
      self._workers[path] = int(events[0]), clips[-1] if clips else ''

  def dead_worker(self) -> str | None:
    """The clip that a worker of this machine was at when it died; None if none did."""
    for path, (process, clip) in self._workers.items():
      with contextlib.suppress(PermissionError):
        try:
          os.kill(process, 0)
        except ProcessLookupError:
          # It may have finished this shard and left since the file was read.
          if os.path.exists(progress_path(path)):
            return clip or os.path.basename(path)
    return None


class ProgressBar:
  """A bar on a terminal, a line every few seconds elsewhere, on stderr."""

  def __init__(self, total: int, initial: int = 0, file: TextIO | None = None):
    self._file = file or sys.stderr
    self._total, self._initial, self._shown = total, initial, initial
    self._began = self._line_time = time.monotonic()
    self._bar = None
    if self._file.isatty():
      self._bar = tqdm.tqdm(
        total=total, initial=initial, unit=' videos', file=self._file, dynamic_ncols=True
      )

  def update(self, done: int, failed: int) -> None:
    """Shows the numbers of clips done and failed, of all."""
    if self._bar is not None:
      self._bar.set_postfix(failed=failed, refresh=False)
      self._bar.update(done - self._shown)
      self._bar.refresh()
    elif time.monotonic() - self._line_time >= _SECONDS_A_LINE:
      self._line_time = time.monotonic()
      print(self._line(done, failed), file=self._file, flush=True)
    self._shown = done

  def _line(self, done: int, failed: int) -> str:
    rate = (done - self._initial) / (time.monotonic() - self._began)
    left = f'{(self._total - done) / rate:.0f} s left' if rate else 'starting'
    return f'{done} of {self._total} videos, {rate:.2f} videos/s, {left}, {failed} failed'

  def close(self) -> None:
    """Ends the bar's line."""
    if self._bar is not None:
      self._bar.close()

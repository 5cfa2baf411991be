"""Works shard tasks off: in processes of this machine, or by a runner of Apache Beam."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from official.video.errors import UserError
from tfrecords_tools import pool
from tfrecords_tools.plan import ShardTask
from tfrecords_tools.progress import ProgressBar
from tfrecords_tools.shards import Step, write_shard

LOCAL_RUNNER = 'local'


def run_here(
  work: Callable[[ShardTask, Callable[[Step], None]], Any],
  tasks: Sequence[ShardTask],
  num_workers: int,
  bar: ProgressBar,
) -> list[tuple[ShardTask, Any]]:
  """Does work on this machine.

  Args:
    work: what to do with a task; tells of each clip.
    tasks: shards.
    num_workers: processes.
    bar: where to show progress.

  Returns:
    The tasks with the results of `work`, in the order in which they were done.

  Raises:
    UserError: `work` raised it, or a worker process died.
  """
  try:
    with pool.results(work, tasks, num_workers, bar.note) as results:
      return list(results)
  except pool.WorkerDied as error:
    clip = error.told.clip if error.told else os.path.basename(error.task.path)
    raise UserError(
      f'a worker process died while converting {clip} ({error}: out of memory, killed or '
      'crashed); run the same command again to go on, with fewer --num_workers if memory '
      'is short, or without that source'
    ) from error


def run_tasks(
  tasks: Sequence[ShardTask],
  *,
  runner: str,
  options: Sequence[str],
  num_workers: int,
  bar: ProgressBar,
) -> None:
  """Writes shards, and returns when all are written.

  Args:
    tasks: the shards.
    runner: `LOCAL_RUNNER` or a name that Beam knows.
    options: `name=value` pipeline options of Beam's runners.
    num_workers: processes of the local runner.
    bar: where to show progress.

  Raises:
    UserError: the output can't be written, the runner can't be had, or a worker died.
  """
  if runner == LOCAL_RUNNER:
    run_here(write_shard, tasks, num_workers, bar)
    return
  from tfrecords_tools import beam

  beam.run_tasks(tasks, runner, options, bar)

"""Runs shard tasks: here in one process, or on Apache Beam in several or by any runner."""

import os
import re
import shlex
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from official.video.errors import UserError
from tfrecords_tools.beam import import_beam
from tfrecords_tools.plan import ShardTask
from tfrecords_tools.progress import ProgressBar, ShardWatch
from tfrecords_tools.shards import write_shard

LOCAL_RUNNER = 'local'
_POLL_SECONDS = 0.25
_GRACE_SECONDS = 5.0
# Looking at the workers' files takes at most this share of the time.
_POLL_SHARE = 0.02
PARENT_VARIABLE = 'TFRECORDS_TOOLS_PARENT'
_USER_ERROR = re.compile(r'UserError: (.+?)(?: \[while running .*)?$', re.MULTILINE)


class WorkerDied(UserError):
  """A worker process is gone; Beam would wait for it for ever."""


def _local_runner(num_workers: int) -> tuple[Any, list[str]]:
  """Beam's own runner with a process a worker.

  Named explicitly since Beam's default would download a server first.
  """
  from apache_beam.runners.portability.fn_api_runner import FnApiRunner
  from apache_beam.transforms.environments import SubprocessSDKEnvironment

  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  paths = [root, *filter(None, [os.environ.get('PYTHONPATH')])]
  os.environ['PYTHONPATH'] = os.pathsep.join(paths)
  os.environ[PARENT_VARIABLE] = str(os.getpid())
  command = f'{shlex.quote(sys.executable)} -m tfrecords_tools.beam_worker'
  environment = SubprocessSDKEnvironment.from_command_string(command)
  return FnApiRunner(environment), [
    f'--direct_num_workers={num_workers}',
    '--default_sdk_harness_log_level=CRITICAL',
  ]


def _user_message(error: BaseException) -> str | None:
  """The line of a `UserError` that a worker raised, out of the trace Beam wraps it in."""
  match = _USER_ERROR.search(f'{type(error).__name__}: {error}')
  return match[1] if match else None


class _Run(threading.Thread):
  """A pipeline run in the background; `error` is what it raised."""

  def __init__(self, run: Callable[[], None]):
    super().__init__(daemon=True)
    self._run_pipeline = run
    self.error: BaseException | None = None

  def run(self) -> None:
    try:
      self._run_pipeline()
    except BaseException as error:
      self.error = error


def _check_options(runner: str, options: Sequence[str]) -> list[str]:
  for option in options:
    if not re.fullmatch(r'[A-Za-z_]\w*(=.*)?', option, re.DOTALL):
      raise UserError(f'--beam_option={option}: expected name=value')
  if options and runner == LOCAL_RUNNER:
    raise UserError('--beam_option: is for other runners, name one by --runner')
  return [f'--{option}' for option in options]


def _run_here(tasks: Sequence[ShardTask]) -> None:
  """Writes shards in this process; Beam would only add its start-up time."""
  for task in tasks:
    write_shard(task)


def _pipeline_run(
  tasks: Sequence[ShardTask], runner: str, options: Sequence[str], num_workers: int
) -> Callable[[], None]:
  """Makes the pipeline; calling the result runs it."""
  flags = _check_options(runner, options)
  num_workers = min(num_workers, len(tasks))
  if runner == LOCAL_RUNNER and num_workers == 1:
    return lambda: _run_here(tasks)
  beam = import_beam()
  from apache_beam.options.pipeline_options import PipelineOptions

  if runner == LOCAL_RUNNER:
    beam_runner, flags = _local_runner(num_workers)
  else:
    beam_runner = runner
  try:
    pipeline = beam.Pipeline(runner=beam_runner, options=PipelineOptions(flags))
  except (ValueError, ImportError, AttributeError, SystemExit) as error:
    raise UserError(f'--runner={runner}: Beam refuses it: {error}') from error

  def run():
    work = pipeline | 'Shards' >> beam.Create(list(tasks), reshuffle=False)
    # The element is a whole shard: without a reshuffle all would fuse into one bundle.
    work | beam.Reshuffle() | 'WriteShard' >> beam.Map(write_shard)
    pipeline.run().wait_until_finish()

  return run


def _watch(
  run: _Run, watch: ShardWatch, bar: ProgressBar, local: bool, done: int
) -> None:
  """Shows progress until the run ends; raises `WorkerDied` if it can't end."""
  failed = watch.failed
  pause = _POLL_SECONDS
  while run.is_alive():
    run.join(pause)
    began = time.monotonic()
    watch.poll()
    pause = max(_POLL_SECONDS, (time.monotonic() - began) / _POLL_SHARE)
    bar.update(done + watch.done, failed + watch.failed)
    clip = watch.dead_worker() if local and run.is_alive() else None
    if clip is not None:
      # Beam also ends the workers when one of them reports a failure.
      run.join(_GRACE_SECONDS)
    if clip is not None and run.is_alive():
      raise WorkerDied(
        f'a worker process died while converting {clip} (out of memory, or killed); '
        'run the same command again to go on, with fewer --num_workers if memory is '
        'short, or without that source'
      )


def run_tasks(
  tasks: Sequence[ShardTask],
  *,
  runner: str,
  options: Sequence[str],
  num_workers: int,
  bar: ProgressBar,
  done: int,
) -> None:
  """Writes shards, and returns when all are written.

  Args:
    tasks: the shards.
    runner: `LOCAL_RUNNER` or a name that Beam knows.
    options: `name=value` pipeline options of other runners.
    num_workers: processes of the local runner.
    bar: where to show progress.
    done: clips done before, of those that the bar counts.

  Raises:
    UserError: the output can't be written, or the runner can't be had.
    WorkerDied: a local worker was killed. Beam's threads still wait for it, so the
      process has to be left by `os._exit`.
  """
  run = _Run(_pipeline_run(tasks, runner, options, num_workers))
  hook = threading.excepthook
  # A worker that dies would otherwise be reported by a trace of each of Beam's threads.
  threading.excepthook = lambda _: None
  try:
    run.start()
    _watch(run, ShardWatch(tasks), bar, runner == LOCAL_RUNNER, done)
  finally:
    threading.excepthook = hook
  if run.error is None:
    return
  if message := _user_message(run.error):
    raise UserError(message) from run.error
  trace = ''.join(traceback.format_exception(run.error))
  raise RuntimeError(f'the conversion failed:\n{trace}')

"""Apache Beam, which is imported only where a runner is named or a path has a scheme."""

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from official.video.errors import UserError
from tfrecords_tools.optional import import_beam
from tfrecords_tools.plan import ShardTask
from tfrecords_tools.progress import ProgressBar, finished_shards_shown
from tfrecords_tools.shards import write_shard

_EVERY_INTERFACE = re.compile(r'(\[::\]|0\.0\.0\.0)(?=:)')
_USER_ERROR = re.compile(r'UserError: (.+?)(?: \[while running .*)?$', re.MULTILINE)


@contextlib.contextmanager
def _reached_from_here_only() -> Iterator[None]:
  """Binds servers to the loopback interface that Beam would bind to every one.

  Whoever reaches them can read files. Beam tells their clients `localhost` whatever they
  are bound to, so none of these is on another machine.
  """
  import grpc

  make_server = grpc.server

  def server(*arguments: Any, **options: Any) -> Any:
    made = make_server(*arguments, **options)
    add_port = made.add_insecure_port
    made.add_insecure_port = lambda address: add_port(
      _EVERY_INTERFACE.sub('localhost', address)
    )
    return made

  grpc.server = server
  try:
    yield
  finally:
    grpc.server = make_server


@contextlib.contextmanager
def _temporaries_removed() -> Iterator[None]:
  """Has Beam make its temporary folders in a private one: it leaves some behind."""
  before, variable = tempfile.tempdir, os.environ.get('TMPDIR')
  with tempfile.TemporaryDirectory(
    prefix='tfrecords_tools_', ignore_cleanup_errors=True
  ) as folder:
    tempfile.tempdir = os.environ['TMPDIR'] = folder
    try:
      yield
    finally:
      tempfile.tempdir = before
      del os.environ['TMPDIR']
      if variable is not None:
        os.environ['TMPDIR'] = variable


def _make_pipeline(runner: str, options: Sequence[str]) -> Any:
  beam = import_beam(f'--runner={runner}')
  from apache_beam.options.pipeline_options import PipelineOptions

  flags = [f'--{option}' for option in options]
  try:
    return beam.Pipeline(runner=runner, options=PipelineOptions(flags))
  except (ValueError, ImportError, AttributeError, SystemExit) as error:
    raise UserError(f'--runner={runner}: Beam refuses it: {error}') from error


def check_runner(runner: str, options: Sequence[str]) -> None:
  """Looks whether a runner can be had.

  Args:
    runner: a name that Beam knows.
    options: pipeline options as `name=value`.

  Raises:
    UserError: Beam is not installed, or refuses the runner or an option.
  """
  with _temporaries_removed():
    _make_pipeline(runner, options)


def _user_message(error: BaseException) -> str | None:
  """The line of a `UserError` that a worker raised, out of the trace Beam wraps it in."""
  match = _USER_ERROR.search(f'{type(error).__name__}: {error}')
  return match[1] if match else None


def run_tasks(
  tasks: Sequence[ShardTask], runner: str, options: Sequence[str], bar: ProgressBar
) -> None:
  """Writes shards by a runner; see `pipeline.run_tasks`."""
  with finished_shards_shown(tasks, bar):
    run(tasks, write_shard, runner, options)


def run(
  tasks: Sequence[Any], work: Callable[[Any], Any], runner: str, options: Sequence[str]
) -> None:
  """Does work by a runner.

  Args:
    tasks: what to do, anything that can be pickled; each takes a while.
    work: a function of a module, which does one.
    runner: see `check_runner`.
    options: see there.

  Raises:
    UserError: `work` raised it, or the runner fails.
  """
  with _reached_from_here_only(), _temporaries_removed():
    pipeline = _make_pipeline(runner, options)
    import apache_beam as beam

    made = pipeline | 'Tasks' >> beam.Create(list(tasks), reshuffle=False)
    # An element takes long: without a reshuffle all would fuse into one bundle.
    made | beam.Reshuffle() | 'Work' >> beam.Map(work)
    try:
      pipeline.run().wait_until_finish()
    except Exception as error:
      if message := _user_message(error):
        raise UserError(message) from error
      if 'Traceback' in str(error):
        raise  # Of a worker: what failed there is our code.
      reason = ' '.join(str(error).split())
      raise UserError(f'--runner={runner}: {type(error).__name__}: {reason}') from error

"""Runs a driver's command line in this process."""

import contextlib
import dataclasses
import io
import sys
from unittest import mock

import gin
from absl import flags, logging

from official.video.settings import command_line


@dataclasses.dataclass(frozen=True)
class Result:
  """What a command line did."""

  code: int
  stdout: str
  stderr: str


def run(driver, *arguments: str) -> Result:
  """Runs a driver's `main` under its own flags, as a shell would."""
  known = set(flags.FLAGS)
  stdout, stderr = io.StringIO(), io.StringIO()
  verbosity = logging.get_verbosity()
  code = 0
  try:
    with (
      mock.patch.object(sys, 'argv', [driver.__name__, *arguments]),
      contextlib.redirect_stdout(stdout),
      contextlib.redirect_stderr(stderr),
    ):
      driver.define_flags()
      command_line.run(driver.main)
  except SystemExit as stop:
    code = stop.code or 0
  finally:
    for name in set(flags.FLAGS) - known:
      delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    logging.set_verbosity(verbosity)
    gin.clear_config()
  return Result(code, stdout.getvalue(), stderr.getvalue())


def read_flags(driver, arguments: list[str]) -> tuple[dict[str, object], list[str]]:
  """Values of a driver's own flags, and what is left of its arguments; runs nothing."""
  known = set(flags.FLAGS)
  try:
    driver.define_flags()
    own = set(flags.FLAGS) - known
    for flag in ('--list', '--fit'):
      arguments = command_line._with_values(arguments, flag)
    flags.FLAGS.set_gnu_getopt(getattr(driver.main, 'takes_arguments', False))
    rest = flags.FLAGS([driver.__name__, *arguments])[1:]
    return {name: flags.FLAGS[name].value for name in own}, rest
  finally:
    for name in set(flags.FLAGS) - known:
      delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    flags.FLAGS.set_gnu_getopt(False)

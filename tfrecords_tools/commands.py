"""What the command lines share: flags that fail in one line, and exit codes."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TextIO

from official.video.errors import UserError, printable

EXIT_OK = 0
EXIT_PROBLEMS = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
  """An `ArgumentParser` whose errors are `UserError`s, and that guesses no flag."""

  def __init__(self, **options: Any):
    super().__init__(
      formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options
    )

  def parse_args(self, args=None, namespace=None):
    """As argparse does, but what begins with a dash and is there is a file, no flag."""
    args = sys.argv[1:] if args is None else args
    return super().parse_args([self._path_or_flag(arg) for arg in args], namespace)

  def _path_or_flag(self, argument: str) -> str:
    flag = argument.partition('=')[0] in self._option_string_actions
    if argument.startswith('-') and not flag and os.path.lexists(argument):
      return os.path.join(os.curdir, argument)
    return argument

  def error(self, message: str) -> NoReturn:
    """Raises `UserError` in place of printing the usage."""
    raise UserError(f'{message}; see --help')


def number(
  kind: Callable[[str], Any], least: float, most: float = math.inf
) -> Callable[[str], Any]:
  """A flag type: an `int` or `float` from `least` to `most`."""

  def parse(text: str) -> Any:
    wanted = f'at least {least:g}' if most == math.inf else f'{least:g} to {most:g}'
    try:
      value = kind(text)
    except ValueError:
      value = math.nan
    if not least <= value <= most or math.isinf(value):
      raise argparse.ArgumentTypeError(f'{text!r} is not a number of {wanted}')
    return value

  return parse


def describe_os_error(error: OSError) -> str:
  """One line for a full disk, a read-only folder and the like."""
  where = f'{error.filename}: ' if error.filename else ''
  return f'{where}{error.strerror or error}'


def say(line: str, file: TextIO | None = None) -> None:
  """Prints a line that may hold names from anybody's files."""
  file = file or sys.stdout
  line = printable(line)
  encoding = getattr(file, 'encoding', None) or 'utf-8'
  print(line.encode(encoding, 'backslashreplace').decode(encoding), file=file, flush=True)


def run_command(
  main: Callable[[Sequence[str]], int], arguments: Sequence[str] | None = None
) -> int:
  """Runs a command; what its user can mend is printed as one line with exit code 2."""
  try:
    code = main(sys.argv[1:] if arguments is None else arguments)
    sys.stdout.flush()
    return code
  except UserError as error:
    say(f'error: {error}', sys.stderr)
  except BrokenPipeError:
    # The reader of our output left; a second complaint at interpreter exit helps nobody.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  except OSError as error:
    say(f'error: {describe_os_error(error)}', sys.stderr)
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    return EXIT_INTERRUPTED
  return EXIT_USAGE

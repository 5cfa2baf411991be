"""The process a contender lives in; started by `benchmarks.harness`.

  python -m benchmarks.worker module:function <cores> '{"argument": 1}'

prepares the contender and then answers each line of its input with the figures of one
round, as one line of JSON.

  python -m benchmarks.worker --command <cores> <folder> <timeout> <program> <argument>...

runs a program once and prints its time, processor time, memory and output.
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from typing import TextIO

from benchmarks import harness


def private_stdout() -> TextIO:
  """The real standard output, for answers; what libraries print goes to stderr."""
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  return answers


def serve(function: str, cores: int, arguments: dict) -> None:
  """Prepares a contender and answers one line a round."""
  answers = private_stdout()
  harness.pin(cores)
  module, _, name = function.partition(':')
  run = getattr(importlib.import_module(module), name)(**arguments)
  for _ in sys.stdin:
    print(json.dumps(dict(run())), file=answers, flush=True)
  # Iterators of unfinished input pipelines can hang in the interpreter's own end.
  os._exit(0)


def run_program(cores: int, folder: str, timeout: float, command: list[str]) -> int:
  """Runs a program and prints what it cost; returns its exit code."""
  harness.pin(cores)
  started, start = time.time(), time.perf_counter()
  done = subprocess.run(
    command, cwd=folder, stdout=subprocess.PIPE, text=True, timeout=timeout
  )
  wall = time.perf_counter() - start
  usage = resource.getrusage(resource.RUSAGE_CHILDREN)
  if done.returncode:
    return done.returncode
  unit = 1 if sys.platform == 'darwin' else 1024
  figures = {
    'wall': wall,
    'cpu': usage.ru_utime + usage.ru_stime,
    'peak_memory': usage.ru_maxrss * unit / 1e6,
    'started': started,
    'stdout': done.stdout,
  }
  print(json.dumps(figures))
  return 0


def main(arguments: list[str]) -> None:
  """Dispatches on the first argument."""
  if arguments[0] == '--command':
    cores, folder, timeout, *command = arguments[1:]
    sys.exit(run_program(int(cores), folder, float(timeout), command))
  function, cores, values = arguments
  serve(function, int(cores), json.loads(values))


if __name__ == '__main__':
  main(sys.argv[1:])

"""Runs every benchmark, one after the other.

  python -m benchmarks --quick

`--only=input,startup` picks some. Exits with 1 where a contender failed.
"""

import argparse
import importlib
import pathlib
import sys
import tempfile

from benchmarks import harness, report


def chosen(only: str) -> list[str]:
  """The benchmarks to run.

  Raises:
    SystemExit: a name is unknown.
  """
  names = only.split(',') if only else list(report.BENCHMARKS)
  if unknown := sorted(set(names) - set(report.BENCHMARKS)):
    sys.exit(f'--only: unknown {unknown[0]!r}; known: {", ".join(report.BENCHMARKS)}')
  return names


def main() -> None:
  """The command line."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  harness.add_flags(parser)
  parser.add_argument('--only', default='', help='comma-separated names')
  arguments = parser.parse_args()
  failed = []
  with tempfile.TemporaryDirectory(prefix='benchmark_') as folder:
    # One folder for all: most read the same records.
    arguments.data_dir = arguments.data_dir or folder
    pathlib.Path(arguments.data_dir).mkdir(parents=True, exist_ok=True)
    for name in chosen(arguments.only):
      print(f'\n=== {name}', flush=True)
      module = importlib.import_module(f'benchmarks.{name}')
      document = harness.run(module.benchmark, arguments)
      failed += [f'{name}: {contender}' for contender in harness.failures(document)]
  if failed:
    sys.exit('failed: ' + '; '.join(failed))


if __name__ == '__main__':
  main()

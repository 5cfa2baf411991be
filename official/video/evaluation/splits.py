r"""Mean score of the runs on a data set's official splits.

  python -m official.video.evaluation.splits /runs/ucf_1 /runs/ucf_2 /runs/ucf_3

Takes the last validation of each run's scores.jsonl, prints a line a run, and the mean and
standard deviation of --metric.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence

from official.video import scalars
from official.video.errors import UserError
from official.video.evaluation import coverage


def last_validation(run: str) -> dict:
  """The last validation report of a run's folder, by published names.

  Raises:
    UserError: it has none.
  """
  path = os.path.join(run, 'scores.jsonl')
  try:
    with open(path, 'rb') as file:
      lines = [_parsed(line) for line in file if line.endswith(b'\n')]
  except OSError as error:
    raise UserError(f'{path}: {error.strerror}; expected the folder of a run') from error
  reports = [line for line in lines if line.get('kind') == 'validation']
  if not reports:
    raise UserError(f'{path}: holds no validation yet')
  if 'failed' in reports[-1]:
    raise UserError(f'{path}: the last validation failed: {reports[-1]["failed"]}')
  return scalars.read_line(reports[-1])


def _parsed(line: bytes) -> dict:
  """A report; empty where the line is none, which a run sets aside when it goes on."""
  try:
    value = json.loads(line)
  except (ValueError, RecursionError):
    return {}
  return value if isinstance(value, dict) else {}


def mean_of(runs: Sequence[str], metric: str) -> tuple[list[float], float, float]:
  """Values of a metric, their mean and their standard deviation (0 of one run).

  Raises:
    UserError: a run has no such metric.
  """
  values = []
  for run in runs:
    report = last_validation(run)
    value = report.get(scalars.published(metric))
    if value is None:
      known = sorted(key for key, value in report.items() if isinstance(value, float))
      raise UserError(f'--metric={metric}: {run} has {", ".join(known)}')
    values.append(float(value))
  spread = statistics.stdev(values) if len(values) > 1 else 0.0
  return values, statistics.fmean(values), spread


def main(arguments: Sequence[str]) -> int:
  """Prints the mean; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('runs', nargs='+', help='folders of the runs, one a split')
  parser.add_argument('--metric', default='accuracy', help='of the validation')
  flags = parser.parse_args(arguments)
  try:
    values, mean, spread = mean_of(flags.runs, flags.metric)
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  left_out: dict[str, None] = {}
  for run, value in zip(flags.runs, values, strict=True):
    counts = scalars.counts(last_validation(run))
    left_out |= dict.fromkeys(coverage.missing(counts))
    counted = f'evaluated {counts.get("evaluated")} of {counts.get("expected")}'
    print(f'{run}  {flags.metric} {value:.4f}  {counted}')
  print(f'mean of {len(values)}  {flags.metric} {mean:.4f} +- {spread:.4f}')
  if left_out:
    print(
      f'note: the mean is of runs that leave out {", ".join(left_out)}; it does not '
      'compare with that of whole sets'
    )
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))

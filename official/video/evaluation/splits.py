r"""Mean score over a data set's official splits: of runs, or of a command for each split.

  python -m official.video.evaluation.splits /runs/ucf_1 /runs/ucf_2 /runs/ucf_3
  python -m official.video.evaluation.splits --splits=1,2,3 -- train \
    --experiment=cvrl_linear_eval_ucf101 --model_dir=/runs/ucf_{split} --params_override=...

Takes the last validation of each run's scores.jsonl, or what `evaluate` left in scores.json
(--metric=linear.top1), prints a line a run, and the mean and standard deviation of --metric.

With --splits what stands behind -- is run for each, one after the other: `train` with a
--model_dir or `evaluate` with an --output_dir, any method's; {split} in its arguments is the
split. The same command again goes on where one was stopped.

The mean is a line of a ledger too, beside the runs' folders if --ledger names none: `results`
sets it beside the figures published for the experiment that the runs' own ledgers name.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from official.video import scalars
from official.video.errors import UserError
from official.video.evaluation import coverage, ledger

# Commands that are run for each split, and the flag of the folder that has their scores.
_FOLDERS = {'train': '--model_dir', 'evaluate': '--output_dir'}
_SPLIT = '{split}'
# What published figures of protocols with splits are.
_JUDGED = ('accuracy', 'top1', 'top_1')


def folder_of(command: Sequence[str]) -> str:
  """Where a command for each split leaves its scores, {split} in it.

  Raises:
    UserError: it is none of those that are run, or the same for all splits.
  """
  name = command[0] if command else ''
  if name not in _FOLDERS:
    raise UserError(
      f'-- {name}: expected {" or ".join(_FOLDERS)} and its flags behind --'
    )
  flag = _FOLDERS[name]
  folders = [x.partition('=')[2] for x in command if x.startswith(f'{flag}=')]
  if not folders or _SPLIT not in folders[-1]:
    raise UserError(f'-- {name}: takes {flag}=<folder>_{_SPLIT}, a folder a split')
  if not any(_SPLIT in x for x in command if not x.startswith(f'{flag}=')):
    raise UserError(
      f'-- {name}: {_SPLIT} is in {flag} alone, so that all would be of one split; put it '
      'into the paths of the data too'
    )
  return folders[-1]


def run_each(splits: Sequence[str], command: Sequence[str]) -> int:
  """Runs a command for each split, until one fails; returns its exit code, or 0."""
  for split in splits:
    name, *given = [part.replace(_SPLIT, split) for part in command]
    print(f'split {split}', flush=True)
    code = subprocess.run(
      [sys.executable, '-m', f'official.video.{name}', *given]
    ).returncode
    if code:
      print(f'error: split {split}: {name} ended with {code}', file=sys.stderr)
      return code if code > 0 else 128 - code
  return 0


def _of_evaluate(run: str) -> dict | None:
  """The scores that `evaluate` left in a folder, nested ones as 'linear.top1'."""
  path = os.path.join(run, 'scores.json')
  if not os.path.exists(path):
    return None
  try:
    with open(path, encoding='utf-8') as file:
      scores = json.load(file)
  except (OSError, ValueError) as error:
    raise UserError(f'{path}: {error}; evaluate again') from error
  flat: dict[str, Any] = {}
  for key, value in scores.items() if isinstance(scores, dict) else ():
    nested = value if isinstance(value, dict) else {None: value}
    flat |= {f'{key}.{n}' if n else key: x for n, x in nested.items()}
  # What parts of the scores count is called after them.
  for what, (k, n) in coverage.counts(scores).items() if flat else ():
    flat |= _counted(what, k, n)
  return flat


def _counted(what: str, k: int, n: int) -> dict[str, int]:
  """As scores count: 'evaluated' of 'expected' records, or of something else."""
  if what == 'records':
    return {'evaluated': k, 'expected': n}
  return {what: k, f'{what}_expected': n}


def last_validation(run: str) -> dict:
  """The last scores in the folder of a run or of `evaluate`, by published names.

  Raises:
    UserError: it has none.
  """
  path = os.path.join(run, 'scores.jsonl')
  evaluated = None if os.path.exists(path) else _of_evaluate(run)
  if evaluated is not None:
    return evaluated
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


def _last_entries(runs: Sequence[str]) -> list[dict[str, Any]]:
  """The last line of each run's ledger; none at all where a run has no ledger."""
  told = []
  for run in runs:
    path = os.path.join(run, ledger.NAME)
    told += list(ledger.read(path))[-1:] if os.path.exists(path) else []
  return told if len(told) == len(runs) else []


def entry(runs: Sequence[str], metric: str, mean: float, spread: float) -> dict[str, Any]:
  """The mean as a ledger keeps it, with what all runs together counted."""
  parts = _last_entries(runs)
  names = {made['experiment'] for made in parts}
  protocols = {tuple(made['protocols']) for made in parts}
  part, _, leaf = metric.rpartition('.')
  scores: dict[str, Any] = {metric: mean, 'standard deviation': spread}
  for run in runs:
    for what, (k, n) in _counts_of(run).items():
      for key, value in _counted(what, k, n).items():
        scores[key] = scores.get(key, 0) + value
  if leaf not in _JUDGED or not protocols:
    shown = [metric]
  elif part:
    shown = [part]
  else:
    shown = list(protocols.pop()) if len(protocols) == 1 else [metric]
  name = names.pop() if len(names) == 1 else ''
  made = ledger.plain(name, f'mean of {len(runs)}: {" ".join(runs)}', shown, scores)
  told = ('source', 'source_sha256', 'config_sha256', 'step', 'data')
  return made | {
    'data': ' '.join(dict.fromkeys(str(one.get('data') or '') for one in parts)),
    'parts': [{key: one.get(key) for key in told} for one in parts],
  }


def _counts_of(run: str) -> dict[str, tuple[int, int]]:
  """What a run's last validation or an evaluation counted."""
  report = last_validation(run)
  # A run's are published by names of a group.
  plain = {name: x for name, x in report.items() if '/' not in name}
  return coverage.counts(plain | scalars.counts(report))


def mean_of(runs: Sequence[str], metric: str) -> tuple[list[float], float, float]:
  """Values of a metric, their mean and their standard deviation (0 of one run).

  Raises:
    UserError: a run has no such metric.
  """
  values = []
  for run in runs:
    report = last_validation(run)
    value = report.get(metric, report.get(scalars.published(metric)))
    # What is counted is a whole number, and no score.
    if not isinstance(value, float):
      known = sorted(key for key, value in report.items() if isinstance(value, float))
      raise UserError(f'--metric={metric}: {run} has {", ".join(known)}')
    if not math.isfinite(value):
      raise UserError(f'--metric={metric}: {run} has {value}, which has no mean')
    values.append(value)
  spread = statistics.stdev(values) if len(values) > 1 else 0.0
  return values, statistics.fmean(values), spread


def _parted(arguments: list[str]) -> tuple[list[str], list[str]]:
  """What is before -- and what is behind it."""
  if '--' not in arguments:
    return arguments, []
  at = arguments.index('--')
  return arguments[:at], arguments[at + 1 :]


def main(arguments: Sequence[str]) -> int:
  """Prints the mean; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('runs', nargs='*', help='folders of the runs, one a split')
  parser.add_argument('--metric', default='accuracy', help='of the validation')
  parser.add_argument('--splits', help='such as 1,2,3: what is behind -- is run for each')
  parser.add_argument(
    '--ledger', help="file that gets a line; by default the runs' parent's"
  )
  own, command = _parted(list(arguments))
  flags = parser.parse_args(own)
  try:
    if flags.splits is not None:
      if flags.runs:
        raise UserError(
          f'--splits with {flags.runs[0]}: give the folders of runs, or both '
          '--splits and a command behind --'
        )
      splits = [name.strip() for name in flags.splits.split(',')]
      if not all(splits) or len(set(splits)) < len(splits):
        raise UserError(f'--splits={flags.splits}: expected different names, as in 1,2,3')
      folder = folder_of(command)
      if code := run_each(splits, command):
        return code
      flags.runs = [folder.replace(_SPLIT, name) for name in splits]
    elif command or not flags.runs:
      raise UserError(
        'give the folders of runs, or --splits=1,2,3 and a command behind --'
      )
    places = [os.path.realpath(run) for run in flags.runs]
    if twice := next(
      (r for r, p in zip(flags.runs, places, strict=True) if places.count(p) > 1), ''
    ):
      raise UserError(f'{twice}: is named twice, so that the mean would count it so')
    values, mean, spread = mean_of(flags.runs, flags.metric)
    made = entry(flags.runs, flags.metric, mean, spread)
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  left_out: dict[str, None] = {}
  for run, value in zip(flags.runs, values, strict=True):
    counts = _counts_of(run)
    left_out |= dict.fromkeys(what for what, (k, n) in counts.items() if k != n)
    evaluated, expected = counts.get('records', (None, None))
    counted = f'evaluated {evaluated} of {expected}'
    print(f'{run}  {flags.metric} {value:.4f}  {counted}')
  print(f'mean of {len(values)}  {flags.metric} {mean:.4f} +- {spread:.4f}')
  steps = {step for run in flags.runs if (step := last_validation(run).get('step'))}
  if len(steps) > 1:
    print(f'note: the runs were scored at steps {", ".join(map(str, sorted(steps)))}')
  if left_out:
    print(
      f'note: the mean is of runs that leave out {", ".join(left_out)}; it does not '
      'compare with that of whole sets'
    )
  written = flags.ledger or os.path.join(os.path.dirname(places[0]), ledger.NAME)
  try:
    ledger.append(written, made)
  except UserError as error:
    # Whoever reads others' runs asked for a mean alone.
    print(f'{"error" if flags.ledger else "note"}: {error}', file=sys.stderr)
    return 2 if flags.ledger else 0
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))

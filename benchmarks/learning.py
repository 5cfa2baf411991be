"""Does pretraining learn? A method's scores over several seeds, with its baselines.

  python -m benchmarks.learning --seeds=0,1,2
  python -m benchmarks.learning --method=cstp --seeds=0,1,2
  python -m benchmarks.learning --method=const_cl --seeds=0,1,2
  python -m benchmarks.learning --method=gvilm --seeds=0,1,2

Each seed renders its own videos, draws its own weights and runs to the end. Prints the
score of every seed and the median, keeps them under benchmarks/results/ and writes the
README of the benchmarks anew.
"""

import argparse
import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent import futures

from benchmarks import methods, report


def run_seed(
  method: methods.Method, seed: int, steps: int, folder: str, cores: queue.Queue
) -> dict:
  """Runs the method's program with one seed on a set of cores; returns its scores.json."""
  output = pathlib.Path(folder) / f'seed_{seed}'
  command = [sys.executable, '-m', method.module, f'--output_dir={output}']
  mine = cores.get()
  try:
    subprocess.run(
      [*command, f'--seed={seed}', f'--steps={steps}', *method.flags],
      check=True,
      preexec_fn=lambda: os.sched_setaffinity(0, mine),
    )
  finally:
    cores.put(mine)
  return json.loads((output / 'scores.json').read_text())


def run_seeds(
  method: methods.Method, seeds: Sequence[int], steps: int, jobs: int
) -> dict[int, dict]:
  """The scores.json of every seed; so many run at a time, each on its share of the cores."""
  every = sorted(os.sched_getaffinity(0))
  cores: queue.Queue[list[int]] = queue.Queue()
  for job in range(jobs):
    cores.put(every[job::jobs])
  with tempfile.TemporaryDirectory() as folder, futures.ThreadPoolExecutor(jobs) as pool:
    found = pool.map(lambda seed: run_seed(method, seed, steps, folder, cores), seeds)
    return dict(zip(seeds, found, strict=True))


def main(argv: Sequence[str] | None = None) -> None:
  """Runs all seeds, prints the table and keeps the scores."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--method', choices=sorted(methods.METHODS), default='cvrl')
  parser.add_argument('--seeds', default='0,1,2', help='comma-separated')
  parser.add_argument('--steps', type=int, default=0, help='of pretraining')
  parser.add_argument('--jobs', type=int, default=1, help='seeds at a time')
  arguments = parser.parse_args(argv)
  method = methods.METHODS[arguments.method]
  steps = arguments.steps or method.steps
  seeds = [int(seed) for seed in arguments.seeds.split(',')]
  runs = run_seeds(method, seeds, steps, arguments.jobs)
  print(methods.table(runs, method))
  report.keep(method.result, runs, report.RESULTS)


if __name__ == '__main__':
  main()

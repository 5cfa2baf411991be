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
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import NamedTuple


class Method(NamedTuple):
  """How a method's learning is measured.

  Attributes:
    title: of its section.
    result: stem of the files that keep the scores.
    module: the program that runs one seed and writes scores.json.
    steps: of pretraining.
    gains: by name, the two scores whose difference it is.
    flags: of the program.
  """

  title: str
  result: str
  module: str
  steps: int
  gains: Mapping[str, tuple[str, str]]
  flags: Sequence[str] = ()


METHODS = {
  'cvrl': Method(
    'Learning',
    'learning',
    'official.video.demo',
    600,
    {
      'gain of pretraining, points': (
        'CVRL, linear probe',
        'random weights, linear probe',
      )
    },
  ),
  'cstp': Method(
    'Learning, CSTP',
    'learning_cstp',
    'benchmarks.cstp_learning',
    500,
    {
      'gain of pretraining, points': (
        'both, linear probe',
        'random weights, linear probe',
      ),
      'gain of the mended views in rotation, points': (
        'both, rotation',
        'both, as the reference, rotation',
      ),
      'gain of the mended views in spatial overlap, points': (
        'both, spatial',
        'both, as the reference, spatial',
      ),
    },
  ),
  'cstp_control': Method(
    'Learning, CSTP: are clips compared?',
    'learning_cstp_control',
    'benchmarks.cstp_learning',
    500,
    {
      'what the other video takes from the spatial overlap, points': (
        'both, spatial',
        'both, spatial, second clip of another video',
      ),
    },
    ('--only=both',),
  ),
  'const_cl': Method(
    'Learning, ConST-CL',
    'learning_const_cl',
    'benchmarks.const_cl_learning',
    600,
    {
      'gain of pretraining in the region probe, points': (
        'local and global, global branch, region probe',
        'random weights, region probe',
      ),
      'gain of pretraining in frame mAP, points': (
        'local and global, global branch, frame mAP',
        'random weights, frame mAP',
      ),
      'gain of the local loss in region retrieval, points': (
        'local and global, region retrieval',
        'global alone, region retrieval',
      ),
      'gain of the local loss in frame mAP, points': (
        'local and global, global branch, frame mAP',
        'global alone, frame mAP',
      ),
    },
  ),
  'gvilm': Method(
    'Learning, G-ViLM',
    'learning_gvilm',
    'benchmarks.gvilm_learning',
    1200,
    {
      'pointing above chance, points': ('noun pointing', 'noun pointing by chance'),
      'gain of all losses in R@1, points': (
        'text to video R@1, all losses',
        'text to video R@1, contrast alone',
      ),
    },
  ),
}


def run_seed(
  method: Method, seed: int, steps: int, folder: str, cores: queue.Queue
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
  method: Method, seeds: Sequence[int], steps: int, jobs: int
) -> dict[int, dict]:
  """The scores.json of every seed; so many run at a time, each on its share of the cores."""
  every = sorted(os.sched_getaffinity(0))
  cores: queue.Queue[list[int]] = queue.Queue()
  for job in range(jobs):
    cores.put(every[job::jobs])
  with tempfile.TemporaryDirectory() as folder, futures.ThreadPoolExecutor(jobs) as pool:
    found = pool.map(lambda seed: run_seed(method, seed, steps, folder, cores), seeds)
    return dict(zip(seeds, found, strict=True))


def table(runs: Mapping[int, dict], method: Method) -> str:
  """Markdown table of the scores, one column a seed, and the gains."""
  names = list(next(iter(runs.values()))['scores'])
  lines = [
    '| % | ' + ' | '.join(f'seed {seed}' for seed in runs) + ' | median |',
    '|---' * (len(runs) + 2) + '|',
  ]
  rows = {name: [run['scores'][name] for run in runs.values()] for name in names}
  for name, (more, less) in method.gains.items():
    rows[name] = [a - b for a, b in zip(rows[more], rows[less], strict=True)]
  for name, values in rows.items():
    cells = ' | '.join(f'{value:.1f}' for value in values)
    lines.append(f'| {name} | {cells} | {statistics.median(values):.1f} |')
  minutes = ' | '.join(f'{run["seconds"] / 60:.1f}' for run in runs.values())
  lines.append(f'| minutes | {minutes} | |')
  return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
  """Runs all seeds, prints the table and keeps the scores."""
  # It needs the methods of this module.
  from benchmarks import harness, report

  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--method', choices=sorted(METHODS), default='cvrl')
  parser.add_argument('--seeds', default='0,1,2', help='comma-separated')
  parser.add_argument('--steps', type=int, default=0, help='of pretraining')
  parser.add_argument('--jobs', type=int, default=1, help='seeds at a time')
  arguments = parser.parse_args(argv)
  method = METHODS[arguments.method]
  steps = arguments.steps or method.steps
  seeds = [int(seed) for seed in arguments.seeds.split(',')]
  runs = run_seeds(method, seeds, steps, arguments.jobs)
  print(table(runs, method))
  report.keep(method.result, runs, harness.RESULTS)


if __name__ == '__main__':
  main()

"""Does pretraining learn? The demo's scores over several seeds, with its baselines.

  python -m benchmarks.learning --seeds=0,1,2

Each seed renders its own videos, draws its own weights and runs to the end. Prints the
score of every seed and the median, and keeps them under benchmarks/results/.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

RESULTS = pathlib.Path(__file__).parent / 'results'
PRETRAINED = 'CVRL, linear probe'
RANDOM = 'random weights, linear probe'


def run_seed(seed: int, steps: int, folder: str) -> dict:
  """Runs the demo with one seed; returns its scores.json."""
  output = pathlib.Path(folder) / f'seed_{seed}'
  command = [sys.executable, '-m', 'official.video.demo', f'--output_dir={output}']
  subprocess.run([*command, f'--seed={seed}', f'--steps={steps}'], check=True)
  return json.loads((output / 'scores.json').read_text())


def table(runs: dict[int, dict]) -> str:
  """Markdown table of the scores, one column a seed, and the gain over random weights."""
  names = list(next(iter(runs.values()))['scores'])
  lines = [
    '| top-1, % | ' + ' | '.join(f'seed {seed}' for seed in runs) + ' | median |',
    '|---' * (len(runs) + 2) + '|',
  ]
  rows = {name: [run['scores'][name] for run in runs.values()] for name in names}
  rows['gain of pretraining, points'] = [
    a - b for a, b in zip(rows[PRETRAINED], rows[RANDOM], strict=True)
  ]
  for name, values in rows.items():
    cells = ' | '.join(f'{value:.1f}' for value in values)
    lines.append(f'| {name} | {cells} | {statistics.median(values):.1f} |')
  minutes = ' | '.join(f'{run["seconds"] / 60:.1f}' for run in runs.values())
  lines.append(f'| minutes | {minutes} | |')
  return '\n'.join(lines)


def main() -> None:
  """Runs all seeds, prints the table and keeps it."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--seeds', default='0,1,2', help='comma-separated')
  parser.add_argument('--steps', type=int, default=600, help='of pretraining')
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    runs = {
      seed: run_seed(seed, arguments.steps, folder)
      for seed in map(int, arguments.seeds.split(','))
    }
  text = table(runs)
  RESULTS.mkdir(exist_ok=True)
  (RESULTS / 'learning.json').write_text(json.dumps(runs, indent=2) + '\n')
  (RESULTS / 'learning.md').write_text(text + '\n')
  print(text)


if __name__ == '__main__':
  main()

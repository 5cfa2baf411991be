"""Does a long run keep its memory flat? A week in small: very many steps of a tiny net.

python -m benchmarks.endurance
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping

from benchmarks import data, harness

ABOUT = """One run of `python -m official.video.train`, {steps} steps of CVRL on a tiny R3D-10,
{cores} cores, with a report every {report} steps, a checkpoint every {checkpoint} and an
evaluation every {evaluation}: the resident memory of its process, as the median between
two checkpoints."""
INTERVALS = 20
SHAPE, BATCH = (4, 32, 32, 3), 4


def overrides(made: data.Made, steps: int) -> dict:
  """Smallest data and net, everything that a run does at its usual rhythm."""
  sizes = {
    'input_path': made.manifest,
    'global_batch_size': BATCH,
    'feature_shape': list(SHAPE),
  }
  every = steps // INTERVALS
  return {
    'task': {
      'train_data': sizes,
      'validation_data': sizes,
      'model': {
        'backbone': {'resnet_3d': {'width_multiplier': 0.125}},
        'head': {'hidden_dim': 16, 'num_hidden_layers': 1, 'output_dim': 8},
      },
    },
    'trainer': {
      'train_steps': steps,
      'steps_per_loop': every // 10,
      'summary_interval': every // 10,
      'checkpoint_interval': every,
      'validation_interval': 2 * every,
    },
    'runtime': {'distribution_strategy': 'one_device'},
  }


def last_checkpoint(folder: pathlib.Path) -> int:
  """Step of the newest checkpoint; 0 where there is none."""
  names = (
    re.fullmatch(r'ckpt-(\d+)\.index', path.name) for path in folder.glob('ckpt-*')
  )
  return max((int(name[1]) for name in names if name), default=0)


def resident(pid: int) -> float:
  """Resident memory of a process, in MB; 0 where it has ended."""
  status = pathlib.Path(f'/proc/{pid}/status').read_text()
  found = re.search(r'VmRSS:\s+(\d+) kB', status)
  return int(found[1]) / 1024 if found else 0.0


def samples(process: subprocess.Popen, folder: pathlib.Path) -> Iterator[tuple]:
  """(step of the newest checkpoint, resident MB), ten times a second, until it ends."""
  while process.poll() is None:
    if memory := resident(process.pid):
      yield last_checkpoint(folder), memory
    time.sleep(0.1)


def long_run(options: harness.Options, made: data.Made, steps: int) -> harness.Run:
  """A round: the whole run."""

  def run() -> Mapping[str, float]:
    with tempfile.TemporaryDirectory(dir=options.data_dir) as name:
      folder = pathlib.Path(name) / 'run'
      command = [sys.executable, '-m', 'official.video.train', f'--model_dir={folder}']
      command += ['--experiment=cvrl_pretrain_tiny']
      command += [f'--params_override={json.dumps(overrides(made, steps))}']
      begin = time.perf_counter()
      with (pathlib.Path(name) / 'log').open('w') as log:
        process = subprocess.Popen(
          command,
          cwd=harness.REPOSITORY,
          env=harness.environment(options.cores),
          stdout=log,
          stderr=log,
        )
        seen = list(samples(process, folder))
      if process.returncode:
        raise RuntimeError((pathlib.Path(name) / 'log').read_text()[-500:])
    every = steps // INTERVALS
    between = {
      step: statistics.median(memory for at, memory in seen if at == step)
      for step in range(2 * every, steps, every)
    }
    return {
      'early': between[2 * every],
      'late': between[steps - every],
      'highest': max(between.values()),
      'seconds': time.perf_counter() - begin,
    }

  return run


def benchmark(options: harness.Options) -> harness.Benchmark:
  """One contender: there is nobody to compare with but its own beginning."""
  made = data.make(options.data_dir, data.Videos(16, 24, 64, 80))
  steps = 400 if options.quick else 20000
  every = steps // INTERVALS
  return harness.Benchmark(
    name='endurance',
    title='Memory of a long run',
    about=ABOUT.format(
      steps=f'{steps:,}',
      cores=options.cores,
      report=every // 10,
      checkpoint=f'{every:,}',
      evaluation=f'{2 * every:,}',
    ),
    metrics=(
      harness.Metric('early', f'MB after step {2 * every:,}'),
      harness.Metric('late', f'MB after step {steps - every:,}'),
      harness.Metric('highest', 'MB at most'),
      harness.Metric('seconds', 's in all'),
    ),
    contenders=(harness.Contender('CVRL', long_run(options, made, steps), warm_up=0),),
    rival='CVRL',
  )


if __name__ == '__main__':
  harness.main(benchmark)

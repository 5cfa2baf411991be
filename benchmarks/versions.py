"""This tree against an earlier commit of it: train steps, input and start-up, in one run.

python -m benchmarks.versions --other=<commit>
"""

import argparse
import functools
import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile

from benchmarks import data, harness, startup, train_step
from benchmarks import input as input_benchmark

ABOUT = """Each figure of this tree beside that of commit {commit}, whose own files run it, on
{cores} cores in turns; records and sizes are the same.

- **CVRL step**, **CSTP step**: `task.train_step` of the Kinetics-400 pretrainings, R3D-50
  and R(2+1)D, {pairs} pairs of {shape}.
- **input**: pairs of two augmented clips of {input_shape}, the host's part.
- **start-up**: the driver, `cvrl_pretrain_tiny`, two steps.
"""
PARTS = ('CVRL step', 'CSTP step', 'input', 'start-up')


def check_out(commit: str, folder: pathlib.Path) -> pathlib.Path:
  """Puts a commit's files into a folder, which it returns.

  Raises:
    SystemExit: this is no checkout, or it has no such commit.
  """
  done = subprocess.run(
    ['git', 'archive', commit], cwd=harness.REPOSITORY, capture_output=True
  )
  if done.returncode:
    sys.exit(f'--other={commit}: {done.stderr.decode().strip()}')
  with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
    archive.extractall(folder, filter='data')
  return folder


def contenders(
  options: harness.Options, made: data.Made, version: str, root: pathlib.Path
) -> list[harness.Contender]:
  """All parts, by the files of one version."""
  sizes = train_step.settings(options)
  reading = input_benchmark.settings(options)
  rivals = {part: f'{part}, other' for part in PARTS}
  found = [
    harness.in_worker(
      f'{part}, {version}',
      'benchmarks.train_step:ours',
      options,
      rival=rivals[part],
      root=root,
      experiment_name=experiment,
      **sizes,
    )
    for part, experiment in zip(
      PARTS, ('cvrl_pretrain_kinetics400', 'cstp_pretrain_kinetics400'), strict=False
    )
  ]
  found.append(
    harness.in_worker(
      f'input, {version}',
      'benchmarks.input:ours',
      options,
      rival=rivals['input'],
      root=root,
      manifest=made.manifest,
      shape=reading['shape'],
      batch=reading['batch'],
      seconds=reading['seconds'],
      augment_on='device',
    )
  )
  drive = startup.run_driver(
    options,
    'official.video.train',
    'cvrl_pretrain_tiny',
    startup.ours_overrides(made),
    root,
  )
  found.append(harness.Contender(f'start-up, {version}', drive, rival=rivals['start-up']))
  return found


def benchmark(
  options: harness.Options, commit: str, other: pathlib.Path
) -> harness.Benchmark:
  """This tree against the other one's files."""
  sizes = train_step.settings(options)
  reading = input_benchmark.settings(options)
  made = data.make(options.data_dir, reading['videos'])
  versions = {'this': harness.REPOSITORY, 'other': other}
  return harness.Benchmark(
    name='versions',
    title='Versions',
    about=ABOUT.format(
      commit=commit,
      cores=options.cores,
      pairs=sizes['pairs'],
      shape='x'.join(map(str, sizes['shape'])),
      input_shape='x'.join(map(str, reading['shape'])),
    ),
    metrics=(
      harness.Metric('step', 's a step'),
      harness.Metric('rate', 'pairs/s', higher_is_better=True),
      harness.Metric('first', 's to the first step'),
      harness.Metric('whole', 's in all'),
      harness.Metric('memory', 'peak MB'),
    ),
    contenders=tuple(
      contender
      for name, root in versions.items()
      for contender in contenders(options, made, name, root)
    ),
    rival='CVRL step, other',
  )


def main() -> None:
  """The command line."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  harness.add_flags(parser)
  parser.add_argument('--other', required=True, help='commit to compare with')
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory(prefix='benchmark_other_') as folder:
    other = check_out(arguments.other, pathlib.Path(folder))
    make = functools.partial(benchmark, commit=arguments.other, other=other)
    document = harness.run(make, arguments)
  sys.exit(1 if harness.failures(document) else 0)


if __name__ == '__main__':
  main()

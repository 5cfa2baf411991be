r"""Writes the recipes of real hardware: what `--fit` picks for published pretrainings.

  python -m benchmarks.hardware [cvrl_r3d50 ...]

One YAML a net and kind of GPU, configs/hardware/*.yaml, to be named after the published
one, and the table docs/hardware.md. Nothing is measured: memory is the estimate of
`--dry_run`, host cores and hours are the formulas of docs/scaling.md.
"""
# ruff: noqa: E501

import argparse
import dataclasses
import functools
import json
import math
import pathlib
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import input, report
from official.video.configs import protocols
from official.video.errors import UserError
from official.video.estimate import fit
from official.video.settings import experiment

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / 'configs' / 'hardware'
TABLE = ROOT / 'docs' / 'hardware.md'

# Share of a processor's peak that a step is reckoned to reach.
UTILISATION = 0.3


def _host_seconds(name: str) -> float:
  """CPU seconds a sample of 2 x 16 frames takes on the host, as *Input* is kept."""
  kept = json.loads((report.RESULTS / 'input.json').read_text())['contenders']
  (rounds,) = (one['rounds'] for one in kept if one['name'] == name)
  return statistics.median(one['cpu'] for one in rounds) / 1000


# Of 224 pixels, and what smaller pictures take of it (docs/scaling.md).
HOST_SECONDS = _host_seconds(input.HOST)
SMALL = _host_seconds(input.SMALL) / HOST_SECONDS


@dataclasses.dataclass(frozen=True)
class Machine:
  """What a recipe is for.

  Attributes:
    title: for people.
    runtime: fields of the experiment's.
    gigabytes: memory of a device.
    peak: operations a second of a device in bfloat16, as its vendor publishes.
  """

  title: str
  runtime: Mapping[str, Any]
  gigabytes: float
  peak: float
  devices: int = 8


_GPUS = {
  'distribution_strategy': 'mirrored',
  'num_gpus': 8,
  'mixed_precision_dtype': 'bfloat16',
}
MACHINES = {
  '8x24gb': Machine('8 GPUs of 24 GB', _GPUS, 24, 71e12),
  '8x80gb': Machine('8 GPUs of 80 GB', _GPUS, 80, 312e12),
  # A slice has so many cores that a replica's share of the batch is eight clips.
  'tpu_v3_128': Machine(
    '128 TPU v3 cores of 16 GB',
    {'distribution_strategy': 'tpu', 'mixed_precision_dtype': 'bfloat16'},
    16,
    61.5e12,
    128,
  ),
}


@dataclasses.dataclass(frozen=True)
class Row:
  """A published pretraining.

  Attributes:
    name: of the recipe: method and net.
    experiment: registered name.
    config: recipe of the published run.
    videos: of an epoch, for hours.
    epochs: of the published run.
    host: CPU seconds a sample, in those of 2 x 16 x 224 x 224.
    reads: whether it reads texts, by as many word pieces as BERT has.
  """

  name: str
  experiment: str
  config: str
  videos: int
  epochs: float
  host: float = 1.0
  reads: bool = False


_K400, _K600 = (protocols.DATASETS[f'kinetics{n}'].train for n in (400, 600))
_BIG = ('r3d101', 'r3d152', 'r3d50_4x', 'r3d152_2x')
ROWS = (
  Row(
    'cvrl_r3d50',
    'cvrl_pretrain_kinetics400',
    'cvrl/pretrain_kinetics400_200ep',
    _K400,
    200,
  ),
  *(
    Row(
      f'cvrl_{net}',
      'cvrl_pretrain_kinetics600',
      f'cvrl/pretrain_kinetics600_800ep_{net}',
      _K600,
      800,
    )
    for net in _BIG
  ),
  Row(
    'const_cl',
    'const_cl_pretrain_kinetics400',
    'const_cl/pretrain_kinetics400_200k',
    _K400,
    200_000 * 1024 / _K400,
  ),
  Row(
    'cstp_r2plus1d',
    'cstp_pretrain_kinetics400',
    'cstp/pretrain_kinetics400',
    _K400,
    300,
    SMALL,
  ),
  Row('gvilm', 'gvilm_pretrain', 'gvilm/pretrain', 3_320_000, 10, reads=True),
)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A row on a machine.

  Attributes:
    row: what is trained.
    machine: on what.
    fields: of the experiment, beside those of the published run.
    gigabytes: memory of a device, estimated.
    samples: a second, reckoned.
  """

  row: Row
  machine: Machine
  fields: Mapping[str, Any]
  gigabytes: float
  samples: float

  @property
  def cores(self) -> int:
    """Host cores that are busy."""
    return math.ceil(self.samples * HOST_SECONDS * self.row.host)

  @property
  def days(self) -> float:
    """Of the published epochs."""
    return self.row.videos * self.row.epochs / self.samples / 86_400


@functools.cache
def _vocabulary() -> str:
  """A file of as many word pieces as BERT's."""
  with tempfile.NamedTemporaryFile('w', suffix='.txt', delete=False) as file:
    special = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
    file.write('\n'.join([*special, *(f'piece{i}' for i in range(30_522 - 5))]))
  return file.name


def recipe(row: Row, machine: Machine, seen: fit.Estimates) -> Recipe:
  """Works out what a row takes on a machine.

  Args:
    row: what is trained.
    machine: on what.
    seen: estimates of the row's, which are used and added to.

  Raises:
    UserError: not even one sample fits.
  """
  params = experiment.load(row.experiment, [row.config])
  if row.reads:
    params = params.replace(task={'text': {'vocab_file': _vocabulary()}})
  # `--fit` counts GPUs; a TPU's replicas share the batch alike.
  counted = params.replace(runtime={**machine.runtime, 'num_gpus': machine.devices})
  made, _ = fit.fitted(counted, machine.gigabytes * 1e9, seen)
  task = made.task
  estimate, weights = seen[task.model.remat]
  contrasts = experiment.build_task(made).contrasts
  size, parts = task.train_data.global_batch_size, task.micro_batches
  samples = -(-size // (machine.devices * parts))
  memory = estimate.training_bytes(samples, weights)
  memory -= samples * estimate.activation_bytes // 2  # bfloat16
  again = (parts > 1 and contrasts) or task.model.remat != 'none'
  flops = estimate.flops * (4 if again else 3)
  fields = {
    'runtime': dict(machine.runtime),
    'task': {
      'micro_batches': parts,
      'model': {'remat': task.model.remat},
    },
  }
  if size != params.task.train_data.global_batch_size:
    raise UserError(f'{row.name} on {machine.title}: its batch of published size')
  speed = machine.devices * machine.peak * UTILISATION / flops
  return Recipe(row, machine, fields, memory / 1e9, speed)


def yaml_of(name: str, found: Recipe) -> str:
  """The recipe's file."""
  row, fields = found.row, found.fields
  task = fields['task']
  runtime = ''.join(f'  {key}: {value}\n' for key, value in fields['runtime'].items())
  paths = ','.join(
    f'task.{data}_data.input_path=<{part}>'
    for data, part in (('train', 'train'), ('validation', 'val'))
  )
  return f"""\
# {row.config} on {found.machine.title}: name it after the published run's file.
#
#   python -m official.video.train --experiment={row.experiment} \\
#     --config_file={row.config} --config_file=hardware/{name} \\
#     --model_dir=<run> --params_override={paths}
#
# The published batch and rate, which is for the gradient of the global-mean loss: micro-batches
# and recomputation give that of the whole batch. Estimated, not run here: {found.gigabytes:.0f} GB a
# device; at {UTILISATION:.0%} of the peak {found.cores} host cores and {found.days:.1f} days (docs/scaling.md).
runtime:
{runtime}task:
  micro_batches: {task['micro_batches']}
  model:
    remat: {task['model']['remat']}
"""


HEAD = f"""\
# The published pretrainings on real hardware

For each published net what `--fit` picks, so that the published batch and its rate stay: with
micro-batches or recomputation a step's gradient is that of the whole batch. Each line is a file, named
after the published one; it leaves batch and rate as they are:

<!-- not run: needs 8 GPUs and Kinetics-400 -->
```bash
python -m official.video.train --experiment=cvrl_pretrain_kinetics400 \\
  --config_file=cvrl/pretrain_kinetics400_200ep \\
  --config_file=hardware/cvrl_r3d50_8x24gb --model_dir=/runs/r3d50 \\
  --params_override=task.train_data.input_path=/data/train,task.validation_data.input_path=/data/val
```

Nothing here was measured: memory is `--dry_run`'s estimate of a device in bfloat16; samples a
second, host cores and days are the formulas of [scaling.md](scaling.md) at {UTILISATION:.0%} of the
vendors' peaks. Written by `python -m benchmarks.hardware`.

| pretraining | hardware | micro-batches | recomputed | GB | samples/s | host cores | days |
|---|---|---|---|---|---|---|---|
"""


def line(name: str, found: Recipe) -> str:
  """A row of the table."""
  task = found.fields['task']
  cells = (
    f'`{found.row.config}`',
    f'{found.machine.title} (`hardware/{name}`)',
    task['micro_batches'],
    task['model']['remat'],
    f'{found.gigabytes:.1f}',
    f'{found.samples:,.0f}',
    found.cores,
    f'{found.days:.1f}',
  )
  return f'| {" | ".join(map(str, cells))} |\n'


def main(argv: Sequence[str] | None = None) -> None:
  """Writes the files of the rows that are named, by default all, and the table."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('rows', nargs='*', help='such as cvrl_r3d50; the others stay')
  named = parser.parse_args(argv).rows
  table = (TABLE.read_text() if TABLE.exists() else '').splitlines(keepends=True)
  lines = {row: [x for x in table if x.startswith(f'| `{row.config}` |')] for row in ROWS}
  for row in ROWS:
    if named and row.name not in named:
      continue
    seen: fit.Estimates = {}
    lines[row] = []
    for key, machine in MACHINES.items():
      name, found = f'{row.name}_{key}', recipe(row, machine, seen)
      (FOLDER / f'{name}.yaml').write_text(yaml_of(name, found))
      lines[row].append(line(name, found))
    print(''.join(lines[row]), end='', flush=True)
    TABLE.write_text(HEAD + ''.join(x for of_row in lines.values() for x in of_row))


if __name__ == '__main__':
  main()

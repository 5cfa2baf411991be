r"""Writes the recipes of real hardware: what `--fit` picks for published pretrainings.

  python -m benchmarks.hardware [cvrl_r3d50 ...]

One YAML a net and kind of machine, configs/hardware/*.yaml, to be named after the published
ones, and the table docs/hardware.md. Nothing is measured: memory is the estimate of
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

import yaml

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
    counts: of devices that a run can take, most first. A strategy for TPUs takes the whole
      slice, and the smallest has 8 cores.
  """

  title: str
  runtime: Mapping[str, Any]
  gigabytes: float
  peak: float
  counts: tuple[int, ...]


_GPUS = {
  'distribution_strategy': 'mirrored',
  'num_gpus': 8,
  'mixed_precision_dtype': 'bfloat16',
}
_EIGHT = (8, 7, 6, 5, 4, 3, 2, 1)
MACHINES = {
  '8x24gb': Machine('8 GPUs of 24 GB', _GPUS, 24, 71e12, _EIGHT),
  '8x80gb': Machine('8 GPUs of 80 GB', _GPUS, 80, 312e12, _EIGHT),
  # A slice has so many cores that a replica's share of the batch is eight clips.
  'tpu_v3_128': Machine(
    '128 TPU v3 cores of 16 GB',
    {'distribution_strategy': 'tpu', 'mixed_precision_dtype': 'bfloat16'},
    16,
    61.5e12,
    (128, 32, 8),
  ),
}


@dataclasses.dataclass(frozen=True)
class Row:
  """A published pretraining.

  Attributes:
    name: of the recipe: method and net.
    experiment: registered name.
    configs: recipes of the published run, in their order.
    videos: of an epoch, for hours.
    epochs: of the published run.
    host: CPU seconds a sample, in those of 2 x 16 x 224 x 224.
    reads: whether it reads texts, by as many word pieces as BERT has.
  """

  name: str
  experiment: str
  configs: tuple[str, ...]
  videos: int
  epochs: float
  host: float = 1.0
  reads: bool = False

  def params(self) -> Any:
    """The published run, resolved."""
    return experiment.load(self.experiment, self.configs)


_K400, _K600 = (protocols.DATASETS[f'kinetics{n}'].train for n in (400, 600))
_VIDEOCC = 3_320_000
_BIG = ('r3d101', 'r3d152', 'r3d50_4x', 'r3d152_2x')
ROWS = (
  Row(
    'cvrl_r3d50',
    'cvrl_pretrain_kinetics400',
    ('cvrl/pretrain_kinetics400_200ep',),
    _K400,
    200,
  ),
  *(
    Row(
      f'cvrl_{net}',
      'cvrl_pretrain_kinetics600',
      (f'cvrl/pretrain_kinetics600_800ep_{net}',),
      _K600,
      800,
    )
    for net in _BIG
  ),
  Row(
    'const_cl',
    'const_cl_pretrain_kinetics400',
    ('const_cl/pretrain_kinetics400_200k',),
    _K400,
    200_000 * 1024 / _K400,
  ),
  Row(
    'cstp_r2plus1d',
    'cstp_pretrain_kinetics400',
    ('cstp/pretrain_kinetics400',),
    _K400,
    300,
    SMALL,
  ),
  Row(
    'cstp_i3d',
    'cstp_pretrain_kinetics400',
    ('cstp/pretrain_kinetics400', 'cstp/i3d_pretrain'),
    _K400,
    300,
    SMALL,
  ),
  Row(
    'cstp_r2plus1d_ucf101',
    'cstp_pretrain_ucf101',
    ('cstp/pretrain_ucf101',),
    protocols.DATASETS['ucf101'].train,
    300,
    SMALL,
  ),
  # Their steps are those of ten epochs of VideoCC, on HowTo100M too.
  Row('gvilm', 'gvilm_pretrain', ('gvilm/pretrain',), _VIDEOCC, 10, reads=True),
  Row(
    'gvilm_howto100m',
    'gvilm_pretrain',
    ('gvilm/pretrain_howto100m',),
    _VIDEOCC,
    10,
    reads=True,
  ),
  Row(
    'gvilm_small',
    'gvilm_pretrain_small',
    ('gvilm/pretrain_small',),
    _VIDEOCC,
    10,
    reads=True,
  ),
)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A row on a machine.

  Attributes:
    row: what is trained.
    machine: on what.
    devices: of the machine, that the batch divides over.
    fields: of the experiment, beside those of the published run.
    gigabytes: memory of a device, estimated.
    samples: a second, reckoned.
  """

  row: Row
  machine: Machine
  devices: int
  fields: Mapping[str, Any]
  gigabytes: float
  samples: float

  @property
  def title(self) -> str:
    """Of the machine, for people."""
    whole = self.devices == self.machine.counts[0]
    return self.machine.title if whole else f'{self.devices} of {self.machine.title}'

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


def devices(batch: int, machine: Machine) -> int:
  """How many devices of a machine a batch divides over; 0 for none."""
  return next((count for count in machine.counts if batch % count == 0), 0)


def recipe(row: Row, machine: Machine, seen: fit.Estimates) -> Recipe | None:
  """Works out what a row takes on a machine.

  Args:
    row: what is trained.
    machine: on what.
    seen: estimates of the row's, which are used and added to.

  Returns:
    The recipe; None where the published batch divides over no devices of the machine.

  Raises:
    UserError: not even one sample fits.
  """
  params = row.params()
  size = params.task.train_data.global_batch_size
  count = devices(size, machine)
  if not count:
    return None
  runtime = dict(machine.runtime)
  if 'num_gpus' in runtime:
    runtime['num_gpus'] = count
  if row.reads:
    params = params.replace(task={'text': {'vocab_file': _vocabulary()}})
  # `--fit` counts GPUs; a TPU's replicas share the batch alike.
  counted = params.replace(runtime={**runtime, 'num_gpus': count})
  made, _ = fit.fitted(counted, machine.gigabytes * 1e9, seen)
  task = made.task
  if size != task.train_data.global_batch_size:
    raise UserError(f'{row.name} on {machine.title}: its batch of published size')
  estimate, weights = seen[task.model.remat]
  contrasts = experiment.build_task(made).contrasts
  parts = task.micro_batches
  samples = -(-size // (count * parts))
  memory = estimate.training_bytes(samples, weights)
  memory -= samples * estimate.activation_bytes // 2  # bfloat16
  again = (parts > 1 and contrasts) or task.model.remat != 'none'
  flops = estimate.flops * (4 if again else 3)
  fields: dict[str, Any] = {
    'runtime': runtime,
    'task': {'micro_batches': parts, 'model': {'remat': task.model.remat}},
  }
  scored = task.validation_data.global_batch_size
  if scored % count:
    whole = -(-scored // count) * count
    fields['task']['validation_data'] = {'global_batch_size': whole}
  speed = count * machine.peak * UTILISATION / flops
  return Recipe(row, machine, count, fields, memory / 1e9, speed)


def _rounded(value: float, digits: int) -> str:
  """To so many digits after the point, or one more where all would be 0."""
  return f'{value:.{digits if round(value, digits) else digits + 1}f}'


def _notes(found: Recipe) -> str:
  """Comment lines on what of the published run or of the machine is left."""
  lines = []
  if found.devices < (most := found.machine.counts[0]):
    lines.append(
      f'The published batch does not divide over {most} devices: {found.devices} of them are '
      'taken.'
    )
  if 'validation_data' in found.fields['task']:
    lines.append(
      'Validation takes larger batches than the published, which divide over the devices.'
    )
  return ''.join(f'# {line}\n' for line in lines)


def yaml_of(name: str, found: Recipe) -> str:
  """The recipe's file."""
  row = found.row
  files = ' '.join(f'--config_file={x}' for x in (*row.configs, f'hardware/{name}'))
  paths = ','.join(
    f'task.{data}_data.input_path=<{part}>'
    for data, part in (('train', 'train'), ('validation', 'val'))
  )
  tpu = ' --tpu=<name, or local>' if 'tpu' in found.machine.runtime.values() else ''
  return f"""\
# {' + '.join(row.configs)} on {found.title}: name it after the published run's \
file{'s' * (len(row.configs) > 1)}.
#
#   python -m official.video.train --experiment={row.experiment} \\
#     {files} \\
#     --model_dir=<run>{tpu} --params_override={paths}
#
# The published batch and rate, which is for the gradient of the global-mean loss: micro-batches
# and recomputation give that of the whole batch. Estimated, not run here: {_rounded(found.gigabytes, 0)} GB a
# device; at {UTILISATION:.0%} of the peak {found.cores} host cores and {_rounded(found.days, 1)} days (docs/scaling.md).
{_notes(found)}{yaml.safe_dump(found.fields, sort_keys=False)}"""


HEAD = f"""\
# The published pretrainings on real hardware

For each published net what `--fit` picks, so that the published batch and its rate stay: with
micro-batches or recomputation a step's gradient is that of the whole batch. Each line is a file, named
after the published one or, where two are, after those; it leaves batch and rate as they are. Where the
published batch does not divide over all devices, the most that it divides over are taken; where over
none that a run can take, there is no file:

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


def _cell(configs: Sequence[str]) -> str:
  """Recipes in the table."""
  return ' + '.join(f'`{config}`' for config in configs)


def line(name: str, found: Recipe) -> str:
  """A row of the table."""
  task = found.fields['task']
  return _line(
    _cell(found.row.configs),
    f'{found.title} (`hardware/{name}`)',
    task['micro_batches'],
    task['model']['remat'],
    f'{found.gigabytes:.1f}',
    f'{found.samples:,.0f}',
    found.cores,
    _rounded(found.days, 1),
  )


def line_of_none(row: Row, machine: Machine) -> str:
  """A row of the table where there is no file."""
  batch = row.params().task.train_data.global_batch_size
  fewest = f'{machine.counts[-1]}, the fewest that a run can take'
  reason = f'none; the batch of {batch} does not divide over {fewest}'
  return _line(_cell(row.configs), f'{machine.title}: {reason}', *[''] * 6)


def _line(*cells: Any) -> str:
  return f'| {" | ".join(map(str, cells))} |\n'


def main(argv: Sequence[str] | None = None) -> None:
  """Writes the files of the rows that are named, by default all, and the table."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('rows', nargs='*', help='such as cvrl_r3d50; the others stay')
  named = parser.parse_args(argv).rows
  table = (TABLE.read_text() if TABLE.exists() else '').splitlines(keepends=True)
  lines = {
    row: [x for x in table if x.startswith(f'| {_cell(row.configs)} |')] for row in ROWS
  }
  for row in ROWS:
    if named and row.name not in named:
      continue
    seen: fit.Estimates = {}
    lines[row] = []
    for key, machine in MACHINES.items():
      name, found = f'{row.name}_{key}', recipe(row, machine, seen)
      if found is None:
        lines[row].append(line_of_none(row, machine))
        continue
      (FOLDER / f'{name}.yaml').write_text(yaml_of(name, found))
      lines[row].append(line(name, found))
    print(''.join(lines[row]), end='', flush=True)
    TABLE.write_text(HEAD + ''.join(x for of_row in lines.values() for x in of_row))


if __name__ == '__main__':
  main()

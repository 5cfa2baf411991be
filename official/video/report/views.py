"""`report --what=views`: what the model sees, before it is trained, and in a run's report."""

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING

from official.video import files
from official.video.errors import UserError

if TYPE_CHECKING:
  from official.video.report.runs import Run
  from official.video.report.views_page import Looked, Sections

WHAT = 'views'
NAME = 'views.html'
# Of a run's report, which shows other clips too.
_CLIPS, _BUDGET = 3, 120_000
# Flags that mean something with `--what=views` alone, and those that do not with it.
_OWN = (
  *('experiment', 'config_file', 'params_override', 'gin_file', 'gin_params'),
  *('imports', 'clips', 'step'),
)
_OTHERS = ('runs', 'features', 'labels')


def add_flags(parser: argparse.ArgumentParser) -> None:
  """The flags of `--what=views`, which are those of `train` where they are called so."""
  add = parser.add_argument
  add(
    '--what',
    choices=[WHAT],
    help=f'{WHAT}: both views of some clips as a training step gets them, the test crops, '
    'and what the data holds; takes the flags below in place of a RUN, and trains nothing',
  )
  add('--experiment', help='as of train')
  add('--config_file', action='append', default=[], help='as of train')
  add('--params_override', default='', help='as of train')
  add('--gin_file', action='append', default=[], help='as of train')
  add('--gin_params', action='append', default=[], help='as of train')
  add('--import', action='append', default=[], dest='imports', help='as of train')
  add('--clips', type=int, help='that are shown; by default 6')
  add('--step', type=int, help='that was reached: 0, the default, shows the first batch')


def check_flags(flags: argparse.Namespace) -> None:
  """Raises `UserError` for a flag that nothing would read."""
  views = flags.what == WHAT
  if not 0 <= flags.look < float('inf'):
    raise UserError(f'--look {flags.look:g}: expected seconds, 0 or more')
  for name in _OTHERS if views else _OWN:
    if getattr(flags, name) not in (None, '', []):
      shown = (
        'RUN' if name == 'runs' else '--import' if name == 'imports' else f'--{name}'
      )
      fix = f'it does not go with --what={WHAT}' if views else f'it needs --what={WHAT}'
      raise UserError(f'{shown}: {fix}; leave it out')
  if not views:
    return
  if not flags.experiment:
    raise UserError('--experiment is missing: of which views are to be shown')
  for name, least, most in (('clips', 1, 24), ('step', 0, None)):
    value = getattr(flags, name)
    if value is not None and (value < least or (most and value > most)):
      range_of = f'{least} to {most}' if most else f'at least {least}'
      raise UserError(f'--{name} {value}: expected {range_of}')


def write(flags: argparse.Namespace, output: str) -> None:
  """Writes the page that the flags ask for.

  Raises:
    UserError: experiment, data or flags don't fit.
  """
  from official.video.settings import command_line  # noqa: F401  (quiets TensorFlow)
  from official.video.report import markup, views_page  # isort: skip

  clips = 6 if flags.clips is None else flags.clips
  looked = look(
    flags.experiment,
    flags.config_file,
    flags.params_override,
    clips,
    flags.step or 0,
    flags.gin_file,
    flags.gin_params,
    flags.imports,
  )
  sections = views_page.sections(looked)
  command = ['python', '-m', 'official.video.train', f'--experiment={flags.experiment}']
  command += [
    f'--{name}={value}'
    for name in ('config_file', 'gin_file', 'gin_params')
    for value in getattr(flags, name)
  ]
  command += [f'--import={module}' for module in flags.imports]
  if flags.params_override:
    command.append(f'--params_override={flags.params_override}')
  orders = {
    'what a run would be and need': shlex.join([*command, '--dry_run']),
    'train': shlex.join([*command, '--model_dir=...']),
  }
  following = markup.card(markup.commands(orders))
  sections['next'] = ('What next', markup.section('next', 'What next', '', following))
  about = f'Of {flags.experiment}, before any training.'
  page = markup.page(
    'What the model sees', about, views_page.headlines(looked), sections, moves=True
  )
  files.write_atomically(output, page)


def look(
  experiment_name: str,
  config_files=(),
  params_override: str = '',
  clips: int = 6,
  step: int = 0,
  gin_files=(),
  gin_params=(),
  imports=(),
) -> 'Looked':
  """Resolves an experiment as `train` does, and makes its first clips.

  Args:
    experiment_name: of a registered one.
    config_files: as of `experiment.load`.
    params_override: likewise.
    clips: of the training batch.
    step: that the batch is of.
    gin_files: as of `experiment.load`.
    gin_params: likewise.
    imports: modules that register methods.

  Raises:
    UserError: settings or data don't fit, or there is no data.
  """
  from official.video.settings import command_line, experiment, fitting, methods, ranges

  methods.register(list(imports))
  params = experiment.load(
    *(experiment_name, config_files, params_override, gin_files, gin_params), trains=True
  )
  command_line.use_gpus(params.runtime)
  params, note = fitting.unflipped(params, config_files, params_override)
  _tell(note)
  from official.video import train
  from official.video.report import views_page
  from official.video.tasks import seen

  mode = train.with_data(params, 'train_and_eval')
  if not mode:
    raise UserError(
      'no data is named: --params_override=task.train_data.input_path=..., or '
      'task.validation_data.input_path=...'
    )
  ranges.check(params, mode)
  strategy = command_line.strategy_of(params)
  params, task = train.checked(params, mode, strategy.num_replicas_in_sync)
  with strategy.scope():
    training = seen.training_clips(task, clips, step) if 'train' in mode else []
    # Some fit on the page; each may have many crops.
    few = max(1, clips // 3)
    has_tests = 'eval' in mode and params.task.validation_data.num_test_clips
    tests = seen.test_clips(task, few) if has_tests else []
  return views_page.Looked(task, training, tests, step)


def looked_of(run: 'Run') -> 'Looked | None':
  """What a run saw first, where its data is at hand; None where it is not, or changed."""
  config = os.path.join(run.path, 'params.yaml')
  path = run.params.get('task.train_data.input_path')
  if not (run.experiment and isinstance(path, str) and os.path.exists(path)):
    return None
  from official.video.settings import command_line  # noqa: F401  (quiets TensorFlow)

  try:
    return look(run.experiment, [config], clips=_CLIPS)
  except UserError as error:
    _tell(f'note: without what the model sees: {error}')
    return None


def of_run(looked: 'Looked') -> 'Sections':
  """Sections of what a run saw."""
  from official.video.report import views_page

  return views_page.sections(looked, _BUDGET)


def _tell(note: str) -> None:
  if note:
    print(note, file=sys.stderr)

"""What the commands predict, embed and search share: flags, inputs, the model."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from official.video import files
from official.video.checkpoints import zoo
from official.video.errors import UserError
from official.video.settings import command_line

STDIN = '-'


def define_model_flags() -> None:
  """Which model."""
  flags.DEFINE_string(
    'model',
    None,
    'Folder of a run, a checkpoint in one, an exported SavedModel, or zoo:NAME.',
    required=True,
  )
  flags.DEFINE_string('zoo', '', f'Folder of downloaded weights; else {files.ZOO} is.')
  flags.DEFINE_string(
    'experiment', '', 'Of the run, where its fields do not tell which task it is of.'
  )
  flags.DEFINE_multi_string('import', [], 'Modules that register methods.')


def define_file_flags() -> None:
  """How files are looked at."""
  flags.DEFINE_float(
    'window_step',
    0.0,
    'Seconds from window to window; 0 takes each file as a whole, by the test clips and '
    "crops of the model's own evaluation.",
    lower_bound=0.0,
  )
  flags.DEFINE_float(
    'window_length',
    0.0,
    'Seconds of a window; 0 makes it as long as one clip of the model.',
    lower_bound=0.0,
  )
  flags.DEFINE_float(
    'fps',
    None,
    "Frames a second to take of a file, 0 for all; by default as the model's training "
    'data was converted. So the next two.',
    lower_bound=0.0,
  )
  flags.DEFINE_integer(
    'short_side', None, 'Pixels that frames are scaled down to.', lower_bound=0
  )
  flags.DEFINE_integer(
    'quality', None, 'Of the JPEGs that frames become.', lower_bound=1, upper_bound=100
  )
  flags.DEFINE_bool(
    'jpeg', True, "Encode frames as JPEG before they are looked at, as training's were."
  )
  flags.DEFINE_integer(
    'num_workers', os.cpu_count() or 1, 'Processes that decode ahead.', lower_bound=1
  )
  flags.DEFINE_integer(
    'batch_size',
    0,
    "Test clips that are computed at once; 0 takes the evaluation's batch, but few enough "
    'for one machine.',
    lower_bound=0,
  )


def load_model(values: flags.FlagValues):
  """The model that the flags name."""
  if values.zoo:
    os.environ[files.ZOO] = values.zoo
  path = zoo.located(values.model)
  if not files.is_remote(path) and not (
    os.path.exists(path) or os.path.exists(f'{path}.index')
  ):
    raise UserError(f'--model {values.model}: no such run, checkpoint or SavedModel')
  from official.video.inference import loading

  with command_line.encoding_strategy().scope():
    return loading.load(values.model, values.experiment, values['import'].value)


def inputs(arguments: Sequence[str], command: str) -> list[str]:
  """The files that arguments mean; '-' reads names from stdin, a line each.

  Raises:
    UserError: there are none.
  """
  from official.video.inference import footage

  named: list[str] = []
  for argument in arguments:
    if argument == STDIN:
      named += [line for line in sys.stdin.read().splitlines() if line]
    else:
      named.append(argument)
  if not named:
    raise UserError(f'no input is named; {command} <video or folder> ...')
  return footage.listed(named)


def options(values: flags.FlagValues, model) -> dict[str, Any]:
  """The options of `Model.answers` that the flags give."""
  given = {name: values[name].value for name in ('fps', 'short_side', 'quality')}
  given = {name: value for name, value in given.items() if value is not None}
  storage = dataclasses.replace(model.storage, jpeg=values.jpeg, **given)
  return {
    'window_step': values.window_step,
    'window_length': values.window_length,
    'storage': storage,
    'num_workers': values.num_workers,
    'batch_size': values.batch_size,
  }

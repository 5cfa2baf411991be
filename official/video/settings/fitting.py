"""What of an experiment gives way to the data at hand: batches, and validation."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from official.video.configs import protocols
from official.video.data import index
from official.video.errors import UserError
from official.video.settings import epochs, experiment, rates


def mode_of(params: Any, mode: str) -> tuple[str, str]:
  """The mode that data is there for, and a note where it is not the one asked for.

  Raises:
    UserError: the run depends on the scores of data that is not there.
  """
  data = params.task.validation_data
  if data.input_path or data.tfds_name or 'train' not in mode or 'eval' not in mode:
    return mode, ''
  metric = params.trainer.best_checkpoint_eval_metric
  if metric:
    raise UserError(
      'task.validation_data.input_path: names no data, and '
      f'trainer.best_checkpoint_eval_metric {metric!r} is a score of it; set it'
    )
  note = 'note: task.validation_data.input_path names no data; nothing is evaluated'
  return 'train', note


def fitted(params: Any, task: Any, mode: str, replicas: int) -> tuple[Any, list[str]]:
  """Makes batches as small as sets that do not fill one.

  A training batch of more clips than there are would hold one twice, and a contrast of
  validation batches counts whole ones only.

  Args:
    params: resolved experiment.
    task: of it.
    mode: one of `train.MODES`.
    replicas: among which a batch is divided.

  Returns:
    The experiment, another one where a batch changed, and a note for each that did.

  Raises:
    UserError: the set is smaller than what must be in a batch.
  """
  config, notes = params.task, []
  if 'train' in mode:
    batch, records = config.train_data.global_batch_size, len(task.train_index)
    if records < batch:
      parts = math.lcm(config.micro_batches, task.batch_multiple) * replicas
      size = _size(task, batch, parts)
      notes.append(
        f'note: task.train_data.global_batch_size {batch}: the data has {records} records; '
        f'a batch is {size}'
      )
      by_epochs = isinstance(params.trainer, protocols.EpochTrainer)
      if not by_epochs and (grown := rates.grown(params, size)):
        notes[-1] += f'; learning rates grown with the batch would be {grown}'
      params = _with_batch(params, 'train_data', size)
    if isinstance(params.trainer, protocols.EpochTrainer):
      params = params.replace()  # An unlocked copy.
      notes += filter(None, [epochs.resolve(params, records)])
  if 'eval' in mode and task.contrasts:
    batch, records = config.validation_data.global_batch_size, len(task.validation_index)
    if records < batch and (size := records // replicas * replicas):
      notes.append(
        f'note: task.validation_data.global_batch_size {batch}: the data has {records} '
        f'records; a batch is {size}'
      )
      params = _with_batch(params, 'validation_data', size)
  return params, notes


def _size(task: Any, batch: int, parts: int) -> int:
  """The largest training batch of the records there are that divides into parts."""
  table = task.train_index
  least = max(parts, 2 if task.contrasts else 1)
  size = len(table) // parts * parts
  if size >= least:
    return size
  needs = f'{parts} replicas and micro-batches take' if parts > 1 else 'a contrast takes'
  raise UserError(
    f'task.train_data.global_batch_size {batch}: the data has only {len(table)} records '
    f'({table.files[0]} ...), and {needs} at least {least}; convert more videos'
  )


def _with_batch(params: Any, name: str, size: int) -> Any:
  return params.replace(task={name: {'global_batch_size': size}})


_FLIP = 'task.train_data.augmentation.flip_probability'
_SIDES = {'left': 'right', 'right': 'left'}


def mirror_image(names: Sequence[str]) -> tuple[str, str] | None:
  """Two classes that a mirror makes of each other, by left and right in their names."""

  def mirrored(name: str) -> str:
    return re.sub(
      r'[^\W\d_]+', lambda word: _SIDES.get(word[0], word[0]), name.casefold()
    )

  known = {name.casefold(): name for name in names}
  pairs = ((name, known.get(mirrored(name), name)) for name in names)
  return next((pair for pair in pairs if pair[0] != pair[1]), None)


def unflipped(
  params: Any, config_files: Sequence[str] = (), params_override: str = ''
) -> tuple[Any, str]:
  """Leaves out the flip where it would make one class of another, unless it is asked for.

  Args:
    params: resolved experiment.
    config_files: as of `experiment.load`, which has accepted them.
    params_override: likewise.

  Returns:
    The experiment, another one where it flips no longer, and a note if it does not.
  """
  probability = params.task.train_data.augmentation.flip_probability
  given = (
    experiment.apply_overrides(params.replace(), text, source)
    for text, source in _layers(config_files, params_override)
  )
  asked = any(_FLIP in fields for fields in given)
  names = index.class_names(params.task.train_data) if probability else []
  if not (pair := mirror_image(names)):
    return params, ''
  if asked:
    return params, (
      f'note: {_FLIP} is {probability:g} as told, although {pair[0]!r} mirrored is '
      f'{pair[1]!r}'
    )
  changed = {'train_data': {'augmentation': {'flip_probability': 0.0}}}
  return params.replace(task=changed), (
    f'note: {_FLIP} is 0 and not {probability:g}, as {pair[0]!r} mirrored is {pair[1]!r}; to '
    'flip all the same, set it'
  )


def linear_note(
  name: str, config_files: Sequence[str] = (), params_override: str = ''
) -> str:
  """What the rates would be if they grew with the global batch; '' where nothing is due.

  A published rate belongs to a published batch. Whoever sets a rate, in the same place as
  the batch or after it, has chosen; a batch that is changed alone is noted.

  Args:
    name: of the experiment.
    config_files: as of `experiment.load`, which has accepted them.
    params_override: likewise.
  """
  params = experiment.load(name)
  if isinstance(params.trainer, protocols.EpochTrainer):
    return ''  # Its rates grow by themselves.
  known = rates.of(params), rates.batch_of(params)
  for text, source in _layers(config_files, params_override):
    given = experiment.apply_overrides(params, text, source)
    if any(field.startswith(rates.RATE) for field in given):
      known = rates.of(params), rates.batch_of(params)
  (known_rates, batch), now = known, rates.batch_of(params)
  if not batch or not now or batch == now:
    return ''
  scaled = rates.factored(known_rates, now / batch)
  return (
    f'note: {rates.BATCH} is {now}, and the learning rate is that of {batch}; grown with the '
    f'batch it would be {scaled}'
    if scaled
    else ''
  )


def _layers(files: Sequence[str], override: str) -> Iterator[tuple[str, str]]:
  for path in files:
    yield experiment.read_text(path), path
  if override:
    is_file = experiment.is_file(override)
    yield (
      (experiment.read_text(override), override)
      if is_file
      else (
        override,
        '--params_override',
      )
    )

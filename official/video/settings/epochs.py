"""Experiments for any data: their steps and rates follow from the records that there are."""

import sys
from collections.abc import Collection
from typing import Any

from official.video.configs import protocols
from official.video.data import index
from official.video.errors import UserError
from official.video.settings import rates, schedule

_REPORTS, _VALIDATIONS = 100, 10


def settle(params: Any, usual_steps: int, chosen: Collection[str]) -> None:
  """Lets steps and rates that the user set stand.

  Args:
    params: changed in place.
    usual_steps: the experiment's own `train_steps`. Beside epochs it says nothing, so that
      a config which was written before its data was known reads back.
    chosen: dotted names of the fields that the user set.

  Raises:
    UserError: both steps and epochs were set.
  """
  trainer = params.trainer
  if not isinstance(trainer, protocols.EpochTrainer):
    return
  both = 'trainer.epochs' in chosen and trainer.epochs
  as_usual = both and trainer.train_steps == usual_steps
  if 'trainer.train_steps' in chosen and not as_usual:
    if both:
      raise UserError(
        f'trainer.epochs {trainer.epochs:g} and trainer.train_steps {trainer.train_steps}: '
        'each says how long to train; set one of them'
      )
    trainer.epochs = 0.0
  if 'trainer.rate_batch' not in chosen and any(
    field.startswith(rates.RATE) for field in chosen
  ):
    trainer.rate_batch = 0


def of_data(params: Any, chosen: Collection[str]) -> None:
  """`resolve` by the training data, where it is named and there.

  What is wrong with it says whoever reads it.
  """
  trainer, data = params.trainer, params.task.train_data
  if not isinstance(trainer, protocols.EpochTrainer) or not (
    data.global_batch_size and (data.input_path or data.tfds_name)
  ):
    return
  try:
    records = len(index.load_index(data))
  except UserError:
    return
  if note := resolve(params, records, chosen):
    print(note, file=sys.stderr)


def resolve(params: Any, records: int, chosen: Collection[str] = ()) -> str:
  """Turns epochs into steps, and rates into those of the batch.

  Afterwards the experiment says by itself what it is: `epochs` is 0, and `rate_batch` the
  batch.

  Args:
    params: changed in place.
    records: of the training data.
    chosen: dotted names of the fields that the user set; they stay.

  Returns:
    A line of what came of it; '' where nothing had to.
  """
  trainer = params.trainer
  if not isinstance(trainer, protocols.EpochTrainer):
    return ''
  batch, told = min(params.task.train_data.global_batch_size, records), []
  if trainer.epochs:
    usual = trainer.train_steps
    trainer.train_steps = protocols.steps_of(records, batch, trainer.epochs) or 1
    told.append(
      f'{trainer.epochs:g} epochs of {records} records in batches of {batch}: '
      f'trainer.train_steps {trainer.train_steps}'
    )
    trainer.epochs = 0.0
    _set_intervals(trainer, chosen)
    schedule.follow(params, usual, {*chosen, 'trainer.train_steps'})
  if trainer.rate_batch and trainer.rate_batch != batch:
    grown = rates.grow(params, batch / trainer.rate_batch)
    told.append(f'for a batch of {batch}, not {trainer.rate_batch}: {grown}')
    trainer.rate_batch = batch
  return f'note: {"; ".join(told)}' if told else ''


def _set_intervals(trainer: Any, chosen: Collection[str]) -> None:
  """About a hundred reports, and a validation at every tenth."""
  every = max(1, trainer.train_steps // _REPORTS)
  between = max(1, trainer.train_steps // (_VALIDATIONS * every)) * every
  wanted = {
    'steps_per_loop': every,
    'summary_interval': every,
    'validation_interval': between,
    'checkpoint_interval': between,
  }
  for name, value in wanted.items():
    if f'trainer.{name}' not in chosen:
      setattr(trainer, name, value)

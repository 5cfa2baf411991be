"""Learning rates and the global batch: what a changed batch would take."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from official.video.settings import experiment

_BATCH = 'task.train_data.global_batch_size'
_RATE = 'trainer.optimizer_config.learning_rate'
# Where falling or rising begins and ends is no rate to scale, unless it is named so.
_NOT_SCALED = ('min_learning_rate', 'end_learning_rate', 'offset')


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
  known = _rates(params), _batch(params)
  for text, source in _layers(config_files, params_override):
    given = experiment.apply_overrides(params, text, source)
    if any(field.startswith(_RATE) for field in given):
      known = _rates(params), _batch(params)
  (rates, batch), now = known, _batch(params)
  if not batch or not now or batch == now:
    return ''
  scaled = ', '.join(
    f'{field}={_written(_scaled(value, now / batch))}' for field, value in rates.items()
  )
  return (
    f'note: {_BATCH} is {now}, and the learning rate is that of {batch}; grown with the '
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


def _batch(params: Any) -> int:
  return params.task.train_data.global_batch_size


def _rates(params: Any) -> Mapping[str, Any]:
  """The rates of the schedule in use, by field."""
  config = params.trainer.optimizer_config
  schedule = getattr(config, 'learning_rate', None)
  if schedule is None or schedule.type is None:
    return {}
  fields = experiment.fields(schedule.get(), f'{_RATE}.{schedule.type}.')
  return {
    name: value
    for name, value in fields.items()
    if (name.endswith('learning_rate') or name.endswith('.values'))
    and not name.endswith(_NOT_SCALED)
    and value
  }


def _scaled(value: Any, factor: float) -> Any:
  if isinstance(value, Sequence):
    return [_scaled(item, factor) for item in value]
  return value * factor


def _written(value: Any) -> str:
  if isinstance(value, list):
    return f'[{",".join(map(_written, value))}]'
  return f'{value:.4g}' if math.isfinite(value) else str(value)

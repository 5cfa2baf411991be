"""Learning rates and the global batch: what a changed batch would take."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from official.video.settings import leaves

BATCH = 'task.train_data.global_batch_size'
RATE = 'trainer.optimizer_config.learning_rate'
# Where falling or rising begins and ends is no rate to scale, unless it is named so.
_NOT_SCALED = ('min_learning_rate', 'end_learning_rate', 'offset')


def grown(params: Any, batch: int) -> str:
  """The rates of an experiment if they grew with the global batch, as assignments."""
  return factored(of(params), batch / batch_of(params))


def grow(params: Any, factor: float) -> str:
  """Multiplies the rates of an experiment, in place; returns what they became."""
  grown = {name: _scaled(value, factor) for name, value in of(params).items()}
  params.override(leaves.nested(grown, 'rates'), is_strict=True)
  return ', '.join(f'{name} {_written(value)}' for name, value in grown.items())


def factored(rates: Mapping[str, Any], factor: float) -> str:
  """Rates by field, each times a factor, as assignments."""
  return ', '.join(
    f'{field}={_written(_scaled(value, factor))}' for field, value in rates.items()
  )


def batch_of(params: Any) -> int:
  """The global training batch."""
  return params.task.train_data.global_batch_size


def of(params: Any) -> Mapping[str, Any]:
  """The rates of the schedule in use, by field."""
  config = params.trainer.optimizer_config
  schedule = getattr(config, 'learning_rate', None)
  if schedule is None or schedule.type is None:
    return {}
  fields = leaves.fields(schedule.get(), f'{RATE}.{schedule.type}.')
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

"""The learning rate over a whole run, and what of a schedule follows its length.

A published experiment's warm-up is longer than many a trial run: left as it is, the run
would train at a rate of zero and nobody would say so. What counts steps therefore follows
`train_steps` where the user set that and not the field itself, and the rates of all steps
are computed before anything else is.
"""

import abc
import dataclasses
import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from official.core import config_definitions as cfg
from official.modeling import optimization
from official.video.errors import UserError

_OPTIMIZER = 'trainer.optimizer_config'
# Above so many steps, that many of them are looked at.
_MOST_STEPS = 1 << 20
# What a schedule that can't be computed for all steps at once is asked.
_FEW_STEPS = 200


class FollowsScores(tf_keras.optimizers.schedules.LearningRateSchedule, abc.ABC):
  """A learning rate that depends on what validations score.

  Attributes:
    state: what it remembers, kept in the checkpoint; its variable `heeded` is the step of
      the last validation that was heeded, or -1.
  """

  state: tf.Module

  @abc.abstractmethod
  def heed(self, step: int, scores: Mapping[str, Any]) -> None:
    """Takes note of the validation at a step; the trainer calls it after each.

    Raises:
      UserError: the score is not among the scores.
    """


def _families(config: cfg.TrainerConfig) -> Iterator[tuple[str, Any]]:
  """Dotted name and config of the schedule and the warm-up that were chosen."""
  for part in ('learning_rate', 'warmup'):
    choice = getattr(config.optimizer_config, part)
    if choice.type is not None:
      yield f'{_OPTIMIZER}.{part}.{choice.type}', getattr(choice, choice.type)


def _scaled_boundaries(boundaries: Collection[int], ratio: float) -> tuple[int, ...]:
  """Boundaries of a shorter or longer run, still rising."""
  scaled: list[int] = []
  for boundary in boundaries:
    scaled.append(max(round(boundary * ratio), scaled[-1] + 1 if scaled else 1))
  return tuple(scaled)


def _scaled(name: str, values: Any, steps: int, ratio: float) -> dict[str, Any]:
  """What a schedule's fields that count steps are in a run of `steps`."""
  found: dict[str, Any] = {}
  known = values.as_dict()
  for field in ('decay_steps', 'total_decay_steps'):
    if field in known:
      usual = known[field]
      found[field] = steps if usual is None else max(1, round(usual * ratio))
  if known.get('boundaries'):
    found['boundaries'] = _scaled_boundaries(values.boundaries, ratio)
  if 'steps_per_epoch' in known:
    each = values.steps_per_epoch * ratio
    found['steps_per_epoch'] = max(1, round(each))
    if each < 1:
      found['epochs'] = max(1, min(values.epochs, steps))
  # A longer run needs no longer warm-up.
  if known.get('warmup_steps') and ratio < 1:
    found['warmup_steps'] = round(values.warmup_steps * ratio)
  return {f'{name}.{field}': value for field, value in found.items()}


_INTERVALS = (
  *('steps_per_loop', 'summary_interval'),
  *('checkpoint_interval', 'validation_interval'),
)


def _intervals(config: cfg.TrainerConfig, chosen: Collection[str]) -> dict[str, int]:
  """Intervals that fit into the run and into each other."""
  steps = max(1, config.train_steps)
  found = {f'trainer.{name}': min(getattr(config, name), steps) for name in _INTERVALS}
  loop, summary = found['trainer.steps_per_loop'], found['trainer.summary_interval']
  if loop > 0 and summary > 0 and summary % loop:
    if 'trainer.summary_interval' in chosen:
      found['trainer.steps_per_loop'] = math.gcd(loop, summary)
    else:
      found['trainer.summary_interval'] = max(1, summary // loop) * loop
  return found


def _too_long(config: cfg.TrainerConfig) -> set[str]:
  """Intervals that never end: of these only the run's end is meant, whoever set them."""
  steps = max(1, config.train_steps)
  return {f'trainer.{name}' for name in _INTERVALS if getattr(config, name) > steps}


def follow(
  params: cfg.ExperimentConfig, usual_steps: int, chosen: Collection[str]
) -> dict[str, tuple[Any, Any]]:
  """Lets what the user did not set follow what was set.

  Decay, boundaries and warm-up keep their shares of `train_steps`; a loop divides the
  summaries' interval. Intervals become no longer than `train_steps`, also those that were
  set.

  Args:
    params: changed in place.
    usual_steps: the experiment's own `train_steps`.
    chosen: dotted names of the fields that the user set.

  Returns:
    New and old value by the dotted name of each field that was changed.
  """
  config = params.trainer
  wanted: dict[str, Any] = {}
  steps = config.train_steps
  if 'trainer.train_steps' in chosen and steps > 0 and usual_steps > 0:
    for name, values in _families(config):
      wanted |= _scaled(name, values, steps, steps / usual_steps)
  wanted |= _intervals(config, chosen)
  fixed = set(chosen) - _too_long(config)
  changed = {}
  for name, value in wanted.items():
    *path, field = name.split('.')
    place = params
    for part in path:
      place = getattr(place, part)
    old = getattr(place, field)
    if name not in fixed and old != value:
      changed[name] = value, old
      place.override({field: value})
  return changed


def told(changed: dict[str, tuple[Any, Any]], steps: int) -> str:
  """One line of what `follow` changed."""
  fields = ', '.join(
    f'{name.removeprefix(_OPTIMIZER + ".")} {new} (was {old})'
    for name, (new, old) in changed.items()
  )
  return f'note: fitted to trainer.train_steps {steps}: {fields}'


@dataclasses.dataclass(frozen=True)
class Rates:
  """The learning rate over a run.

  Attributes:
    steps: [N] steps that were looked at, rising; all of them in runs of up to a million.
    values: [N] float64 rates.
    total: steps of the run.
    warmup: steps of the warm-up.
  """

  steps: np.ndarray
  values: np.ndarray
  total: int
  warmup: int = 0

  def describe(self) -> str:
    """Where the rate begins, peaks and ends, and whether it ends before the run."""
    at = int(self.values.argmax())
    peak, step = self.values[at], self.steps[at]
    text = (
      f'{self.values[0]:.3g} at step 0, peaks at {peak:.3g} at step {step}, '
      f'{self.values[-1]:.3g} at step {self.total - 1}'
    )
    if self.warmup >= self.total:
      text += f'; the warm-up of {self.warmup} steps is not over by then'
    last = self.steps[np.flatnonzero(self.values)[-1]]
    if last < 0.98 * self.total - 2:
      text += f'; 0 from step {last + 1} on'
    return text


def _check_fields(config: cfg.TrainerConfig) -> None:
  """Raises `UserError` where a schedule's own fields can mean nothing."""
  choice = config.optimizer_config
  for part, known in (('optimizer', 'sgd'), ('learning_rate', 'cosine')):
    if getattr(choice, part).type is None:
      raise UserError(
        f'{_OPTIMIZER}.{part}.type None: expected a kind, such as {known!r}'
      )
  for name, values in _families(config):
    least = {'decay_steps': 1, 'total_decay_steps': 1, 'steps_per_epoch': 1, 'epochs': 1}
    for field, smallest in (least | {'warmup_steps': 0}).items():
      value = getattr(values, field, smallest)
      if value is None or value < smallest:
        raise UserError(
          f'{name}.{field} {value}: expected at least {smallest}; trainer.train_steps is '
          f'{config.train_steps}'
        )
    for field in ('initial_learning_rate', 'decay_rate', 'staircase'):
      if getattr(values, field, 0) is None:
        raise UserError(f'{name}.{field} None: is not set; set it')
    if 'boundaries' in values.as_dict():
      _check_boundaries(name, values)


def _check_boundaries(name: str, values: Any) -> None:
  boundaries, rates = values.boundaries or (), values.values or ()
  if any(b >= c for b, c in itertools.pairwise(boundaries)):
    raise UserError(f'{name}.boundaries {list(boundaries)}: expected rising steps')
  expected = len(boundaries) + name.endswith('stepwise')
  if not boundaries or len(rates) != expected:
    raise UserError(
      f'{name}: has {len(boundaries)} boundaries and {len(rates)} values; expected '
      f'{"one value more than boundaries" if name.endswith("stepwise") else "as many"}'
    )


def _computed(schedule: Any, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Steps and rates: of all steps at once, or of some one after the other."""
  if not callable(schedule):
    return steps[[0, -1]], np.full(2, float(schedule))
  with tf.device('/cpu:0'):
    try:
      rates = tf.function(lambda x: tf.vectorized_map(schedule, x), autograph=False)(
        tf.constant(steps, tf.int64)
      )
    except (ValueError, TypeError, tf.errors.OpError):
      steps = steps[np.unique(np.linspace(0, len(steps) - 1, _FEW_STEPS).astype(int))]
      rates = [float(schedule(tf.constant(step, tf.int64))) for step in steps]
  return steps, np.asarray(rates, np.float64)


def rates(config: cfg.TrainerConfig) -> Rates:
  """The learning rate of every step of a run.

  Raises:
    UserError: the schedule's fields don't go together.
  """
  _check_fields(config)
  total = config.train_steps
  steps = (
    np.arange(total)
    if total <= _MOST_STEPS
    else (np.unique(np.linspace(0, total - 1, _MOST_STEPS).astype(np.int64)))
  )
  try:
    schedule = optimization.OptimizerFactory(
      config.optimizer_config
    ).build_learning_rate()
    seen, values = _computed(schedule, steps)
  except (ValueError, TypeError, KeyError) as error:
    if isinstance(error, UserError):
      raise
    message = ' '.join(str(error).split())
    raise UserError(f'{_OPTIMIZER}.learning_rate: {message}') from error
  warmup = config.optimizer_config.warmup.get()
  return Rates(seen, values, total, getattr(warmup, 'warmup_steps', 0) or 0)


def _fields_told(config: cfg.TrainerConfig) -> str:
  return ', '.join(
    f'{name.removeprefix(_OPTIMIZER + ".")}.{field} {value}'
    for name, values in _families(config)
    for field, value in values.as_dict().items()
    if field != 'name' and not isinstance(value, bool)
  )


def check(config: cfg.TrainerConfig) -> Rates:
  """The rates of a run, which train.

  Raises:
    UserError: a rate is negative or not finite, or none is positive.
  """
  found = rates(config)
  wrong = ~np.isfinite(found.values) | (found.values < 0)
  if wrong.any():
    at = int(wrong.argmax())
    state = (
      f'is {found.values[at]:g} at step {found.steps[at]}; expected finite rates, none '
      'below 0'
    )
  elif not found.values.any():
    state = (
      f'is 0 in each of the {config.train_steps} steps of trainer.train_steps; expected '
      'warm-up and decay that fit them'
    )
  else:
    return found
  raise UserError(f'{_OPTIMIZER}: the learning rate {state} ({_fields_told(config)})')


def check_intervals(config: cfg.TrainerConfig) -> None:
  """Raises `UserError` where summaries are asked for at steps that nothing reports."""
  summary, loop = config.summary_interval, config.steps_per_loop
  if summary % loop:
    raise UserError(
      f'trainer.summary_interval {summary}: is no multiple of trainer.steps_per_loop {loop}, '
      f'and reports are made between loops; set steps_per_loop to '
      f'{math.gcd(summary, loop)}, or summary_interval to {-(-summary // loop) * loop}'
    )

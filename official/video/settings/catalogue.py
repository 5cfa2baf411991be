"""Every registered experiment, a line each: what `--list` prints."""

import difflib
import fnmatch
import re
from collections.abc import Iterator
from typing import Any

from official.core import exp_factory
from official.video.errors import UserError
from official.video.settings import experiment, recipes


def lines(pattern: str = '') -> Iterator[str]:
  """What each experiment is, and the recipes of it.

  Args:
    pattern: part of a name, or a pattern with `*`, `?` and `[...]`; empty for all.

  Raises:
    UserError: no experiment has such a name.
  """
  names = experiment.experiment_names()
  chosen = [n for n in names if pattern in n or fnmatch.fnmatchcase(n, pattern)]
  if not chosen:
    close = difflib.get_close_matches(pattern, names, n=3, cutoff=0)
    raise UserError(
      f'--list {pattern}: no experiment has {pattern} in its name; did you mean '
      f'{" or ".join(close)}?'
    )
  width = max(map(len, chosen))
  for name in chosen:
    yield f'{name:{width}}  {about(exp_factory.get_exp_config(name))}'
    for recipe in recipes.by_experiment().get(name, ()):
      yield f'{"":{width}}    --config_file={recipe}'


def about(params: Any) -> str:
  """One line of an experiment: what it trains, of what, for how long."""
  task, trainer = params.task, params.trainer
  doc = (type(task).__doc__ or type(task).__name__).strip().partition('\n')[0]
  parts = [re.sub(r'(;.*)?\.?$', '', doc)]
  backbone = getattr(getattr(task.model, 'backbone', None), 'type', '')
  if backbone:
    frozen = getattr(task.model, 'freeze_backbone', False)
    parts.append(f'frozen {backbone}' if frozen else backbone)
  parts.append('x'.join(map(str, task.train_data.feature_shape[:3])))
  parts.append(f'batch {task.train_data.global_batch_size}')
  epochs = getattr(trainer, 'epochs', 0)
  parts.append(f'{epochs:g} epochs' if epochs else f'{trainer.train_steps:,} steps')
  return ', '.join(parts)

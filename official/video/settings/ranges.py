"""Values of fields that can mean nothing, refused before anything is built."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from official.core import config_definitions as cfg
from official.modeling import hyperparams
from official.video.configs import data as data_config
from official.video.errors import UserError, within

# Above it, float32 knows only infinity.
_LARGEST = 3.4e38
# Seeds that NumPy, Python and TensorFlow all take.
SEEDS = 2**32

_Rule = tuple[Callable[[Any], bool], str]


def _at_least(least: int, meaning: str = '') -> _Rule:
  return lambda value: value >= least, f'at least {least}{meaning}'


_POSITIVE: _Rule = (lambda value: 0 < value < math.inf, 'a positive number')
_NOT_NEGATIVE: _Rule = (lambda value: 0 <= value < math.inf, 'at least 0')
_SHARE: _Rule = (lambda value: 0 <= value <= 1, 'a number from 0 to 1')
_DECAY: _Rule = (lambda value: 0 <= value < 1, 'a number from 0 to below 1')

_TRAINER: dict[str, _Rule] = {
  'steps_per_loop': _at_least(1),
  'summary_interval': _at_least(0, '; 0 writes no summaries'),
  'checkpoint_interval': _at_least(0, '; 0 saves before validations and at the end'),
  'validation_interval': _at_least(0, '; 0 validates at the end'),
  'max_to_keep': _at_least(0, '; 0 keeps all checkpoints'),
  'validation_steps': (
    lambda value: value == -1 or value > 0,
    'at least 1, or -1 for all of the data; --mode=train validates nothing',
  ),
  'continuous_eval_timeout': _at_least(0),
  'loss_upper_bound': (lambda value: value > 0, 'a positive number'),
  'recovery_begin_steps': _at_least(0),
  'recovery_max_trials': _at_least(0),
  'best_checkpoint_metric_comp': (
    lambda value: value in ('higher', 'lower'),
    "'higher' or 'lower'",
  ),
}

# Of every field of the task, the optimizer and the moving average that ends like this.
_BY_NAME: tuple[tuple[str, _Rule], ...] = (
  (r'(\w+_)?temperature', _POSITIVE),
  (r'(norm|target)_momentum', _SHARE),
  (r'momentum|rho|beta_?[12]|average_decay', _DECAY),
  (r'(\w+_)?epsilon(_?[12])?', _POSITIVE),
  (r'\w*clip_?norm|clipvalue|clip(ping)?_threshold', _POSITIVE),
  (r'decay|l2_(weight_)?decay|weight_decay(_rate)?', _NOT_NEGATIVE),
  (r'\w+_weight', _NOT_NEGATIVE),
  (r'start_step|epochs|rate_batch', _at_least(0)),
  (r'dropout_rate|drop_path', _DECAY),
  (r'label_smoothing', _SHARE),
  (r'width_multiplier|scale_step|temperature_bounds', _POSITIVE),
  (r'seed', (lambda value: 0 <= value < SEEDS, f'0 to {SEEDS - 1}')),
)
# Of every field of the task: sizes of nets and views, and numbers of them.
_SIZES: tuple[tuple[str, _Rule], ...] = (
  (r'iou_threshold|window_influence', _SHARE),
  (r'(\w+_)?(dim|hidden_size|vocab_size|channels|samples)', _at_least(1)),
  (r'num_(heads|layers|answers|scales|nouns)', _at_least(1)),
  (r'num_(hidden_layers|classes|groups|labels|captions)', _at_least(0)),
  (r'k|model_id|micro_batches|upsampling|(\w+_)?length|max_positions', _at_least(1)),
  (r'stage_blocks|tubelet|grid', _at_least(1)),
  (r'\w+_(strides?|dilations|kernel_sizes?)', _at_least(1)),
  (r'feature_shape', _at_least(1)),
  (r'num_(views|test_clips)|test_clip_step|min_image_size', _at_least(0)),
  (r'num_test_crops|clips_per_decode|count', _at_least(1)),
  (r'group_size', _at_least(2)),
  (r'alpha', (lambda value: 0 <= value <= 100, 'a number from 0 to 100')),
  (r'layer_decay', (lambda value: 0 < value <= 1, 'a number above 0, up to 1')),
  (r'head', _POSITIVE),
  # 0 where the data is not used; `check` looks at the others.
  (r'global_batch_size', _at_least(0)),
)
# Those that mean 'without' by 0.
_OFF = frozenset({'gradient_clip_norm', 'projection_dim'})
# Those of which infinity is a meaning.
_UNBOUNDED = frozenset({'loss_upper_bound'})


def _active(config: hyperparams.Config, path: str) -> Iterator[tuple[str, Any]]:
  """Dotted names and values of all fields but those of families not chosen."""
  chosen = config.type if isinstance(config, hyperparams.OneOfConfig) else None
  for name, value in vars(config).items():
    if name.startswith('_') or (chosen and name not in ('type', chosen)):
      continue
    if isinstance(value, hyperparams.Config):
      yield from _active(value, f'{path}{name}.')
    else:
      yield f'{path}{name}', value


def _refuse(name: str, value: Any, expected: str) -> None:
  raise UserError(
    f'{name} {value!r}: expected {expected}; set it with --params_override={name}=...'
  )


def _check_numbers(name: str, value: Any) -> None:
  last = name.rpartition('.')[2]
  values = value if isinstance(value, (list, tuple)) else (value,)
  rules = _BY_NAME + (_SIZES if name.startswith('task.') else ())
  for number in values:
    if isinstance(number, bool) or not isinstance(number, (int, float)):
      continue
    if math.isnan(number) or (abs(number) > _LARGEST and last not in _UNBOUNDED):
      _refuse(name, value, 'finite numbers' if values is value else 'a finite number')
    for pattern, (holds, expected) in rules:
      if re.fullmatch(pattern, last) and not (last in _OFF and not number):
        if not holds(number):
          _refuse(name, value, expected)
        break


def check_fields(params: cfg.ExperimentConfig) -> None:
  """Looks at the numbers of an experiment that mean nothing in any mode.

  Raises:
    UserError: a field's value can mean nothing; it names the field and what is expected.
  """
  for group in ('task', 'trainer', 'runtime'):
    for name, value in _active(getattr(params, group), f'{group}.'):
      _check_numbers(name, value)


def _named(config: data_config.DataConfig) -> bool:
  return bool(config.input_path or config.tfds_name)


def check(params: cfg.ExperimentConfig, mode: str = 'train_and_eval') -> None:
  """Looks at every number of an experiment that a run in this mode would use.

  Raises:
    UserError: a field's value can mean nothing; it names the field and what is expected.
  """
  check_fields(params)
  trainer = params.trainer
  for name, (holds, expected) in _TRAINER.items():
    if not holds(getattr(trainer, name)):
      _refuse(f'trainer.{name}', getattr(trainer, name), expected)
  if 'train' in mode and trainer.train_steps < 1:
    _refuse('trainer.train_steps', trainer.train_steps, 'at least 1')
  if params.runtime.num_gpus < 0:
    _refuse('runtime.num_gpus', params.runtime.num_gpus, 'at least 0')
  for name, used in (
    ('train_data', 'train' in mode),
    ('validation_data', 'eval' in mode),
  ):
    if used:
      data = getattr(params.task, name)
      # Without validation data there is no validation.
      if data.global_batch_size < 1 and (name == 'train_data' or _named(data)):
        _refuse(f'task.{name}.global_batch_size', data.global_batch_size, 'at least 1')
      with within(f'task.{name}'):
        data_config.check_ranges(data)

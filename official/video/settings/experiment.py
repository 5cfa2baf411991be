"""Resolving an experiment: registry, config files, overrides, gin; each mistake one line."""

import collections.abc
import dataclasses
import difflib
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
import tensorflow as tf
import yaml

from official.core import config_definitions as cfg
from official.core import exp_factory, task_factory
from official.modeling import hyperparams
from official.video import files, registry
from official.video.errors import UserError
from official.video.settings import (
  epochs,
  leaves,
  methods,
  overrides,
  ranges,
  recipes,
  schedule,
)

# Of many known names, as many are told where none is near.
_MOST_NAMED = 20


def nearest(name: str, known: Sequence[str]) -> str:
  """A clause with the known names nearest to a wrong one."""
  holding = [one for one in known if name and name in one]
  close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or holding[:3]
  if close:
    return f'did you mean {" or ".join(close)}?'
  shown = sorted(known)[:_MOST_NAMED]
  return f'known: {", ".join(shown)}{", ..." if len(known) > len(shown) else ""}'


def experiment_names() -> list[str]:
  """Names of the registered experiments, those of other packages included.

  The Model Garden's own are left out: this library's drivers can't run them.
  """
  methods.register_all()
  return sorted(
    name
    for name, factory in exp_factory._REGISTERED_CONFIGS.items()
    if not _is_model_gardens(getattr(factory, 'func', factory).__module__)
  )


def _is_model_gardens(module: str) -> bool:
  return module.startswith('official.') and not module.startswith('official.video.')


def parse_overrides(text: str, source: str, config: Any = None) -> Mapping[str, Any]:
  """Reads a YAML mapping, nested or with dotted keys, or 'a.b=1,c.d=2'.

  Args:
    text: what to read.
    source: names the file or flag in errors.
    config: whose fields they are. With it, the value of a text field that names a file
      or a checkpoint which is there is taken by the letter, whatever YAML makes of it.

  Raises:
    UserError: not a mapping, or not YAML.
  """

  def takes_path(name: str) -> bool:
    hint = _hint(config, name)
    return hint is not None and _fits('', hint)

  return overrides.parse(text, source, takes_path)


def _hint(config: Any, name: str) -> Any:
  """The annotation of a field by its dotted name; None where there is no such field."""
  hint: Any = None
  for part in name.split('.'):
    if config is None or part not in (hints := typing.get_type_hints(type(config))):
      return None
    hint, config = hints[part], _group(getattr(config, part, None), hints[part])
  return hint


def _check_fields(
  config: Any, overrides: Mapping[str, Any], path: str, source: str
) -> None:
  """Raises `UserError` at the first field that the config does not have."""
  hints = typing.get_type_hints(type(config))
  known = [field.name for field in dataclasses.fields(config)]
  for key, value in overrides.items():
    field = f'{path}{key}'
    if key not in known:
      raise UserError(f'{source}: unknown field {field}; {nearest(key, known)}')
    child = getattr(config, key)
    group = _group(child, hints[key])
    if isinstance(value, Mapping) and group is not None:
      _check_fields(group, value, field + '.', source)
      continue
    _check_value(value, child, group, hints[key], f'{source}: field {field}')
    if key == 'type' and isinstance(config, hyperparams.OneOfConfig):
      families = [name for name in known if name != 'type']
      if value not in (*families, None):
        raise UserError(
          f'{source}: field {field} is {value!r}; {nearest(value, families)}'
        )


def _check_value(value: Any, child: Any, group: Any, hint: Any, where: str) -> None:
  """Raises `UserError` where a field can't be set to a value.

  Args:
    value: to set, as read from YAML; no mapping where the field is a group.
    child: what the field holds.
    group: of the field, see `_group`.
    hint: annotation of the field.
    where: names source and field.
  """
  # A field that is None by default may be set to a mapping, and None to None.
  if isinstance(value, Mapping) and child is not None:
    raise UserError(f'{where} is a value, not a group of fields')
  if _fits(value, hint):
    return
  if group is not None:
    names = ', '.join(group.as_dict())
    raise UserError(f'{where} is a group of fields ({names}), not the value {value!r}')
  if value is not None or child is not None:
    raise UserError(
      f'{where} is {value!r}, expected {_hint_name(hint)}, such as {_plain(child)!r}'
    )


def _group(child: Any, hint: Any) -> Any:
  """The group of fields that a field holds, or may hold where it is None."""
  if hasattr(child, 'as_dict'):
    return child
  kinds = [kind for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type)]
  return next((k() for k in kinds if issubclass(k, hyperparams.Config)), None)


def _fits(value: Any, hint: Any) -> bool:
  """Whether a value read from YAML is of an annotated type."""
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    return any(_fits(value, arg) for arg in args)
  if hint is float:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
  if hint is int:
    return isinstance(value, int) and not isinstance(value, bool)
  if (origin or hint) in (tuple, list, collections.abc.Sequence):
    if not isinstance(value, (tuple, list)):
      return False
    if origin is tuple and Ellipsis not in args:
      return len(value) == len(args) and all(map(_fits, value, args))
    return not args or all(_fits(item, args[0]) for item in value)
  kind = origin or hint
  return isinstance(value, kind) if isinstance(kind, type) else True


def _hint_name(hint: Any) -> str:
  return (
    hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
  )


def _plain(value: Any) -> Any:
  """Mappings and sequences as plain dicts and lists."""
  if isinstance(value, Mapping):
    return {key: _plain(item) for key, item in value.items()}
  return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def apply_overrides(params: cfg.ExperimentConfig, text: str, source: str) -> set[str]:
  """Overrides fields of an experiment.

  Args:
    params: changed in place.
    text: YAML, or 'a.b=1,c.d=2'.
    source: the file or flag that errors name.

  Returns:
    Dotted names of the fields that were set.
  """
  overrides = parse_overrides(text, source, params)
  _check_fields(params, overrides, '', source)
  params.override(_tuples(params, overrides), is_strict=True)
  return set(leaves.flat(overrides))


def _tuples(config: Any, overrides: Mapping[str, Any]) -> dict[str, Any]:
  """Sequences as tuples and integers as floats wherever the config holds such."""
  hints = typing.get_type_hints(type(config))
  return {
    key: _tuples(getattr(config, key), value)
    if isinstance(value, Mapping) and getattr(config, key) is not None
    else tuple(value)
    if isinstance(value, list)
    else float(value)
    if type(value) is int and not _fits_as_integer(hints[key])
    else value
    for key, value in overrides.items()
  }


def _fits_as_integer(hint: Any) -> bool:
  """Whether an annotation takes an integer as what it is; a rate of 1 is one of 1.0."""
  kinds = typing.get_args(hint) or (hint,)
  return float not in kinds or int in kinds


def read_text(path: str) -> str:
  """Text of a config file, or of a recipe by its short name.

  Raises:
    UserError: it can't be read.
  """
  located = recipes.located(path)
  try:
    with tf.io.gfile.GFile(files.encodable(located), 'r') as file:
      return file.read()
  except (tf.errors.OpError, UnicodeDecodeError) as error:
    close = difflib.get_close_matches(path, recipes.found(), n=3, cutoff=0.6)
    hint = f'; did you mean {" or ".join(close)}?' if close else ''
    raise UserError(f'{path}: cannot be read; check the path{hint}') from error


def is_file(params_override: str) -> bool:
  """Whether an override names a file instead of fields."""
  return os.path.exists(params_override)


def texts(config_files: Sequence[str], params_override: str) -> list[tuple[str, str]]:
  """What overrides fields, in order, each with the file or flag that errors name.

  Args:
    config_files: that come first.
    params_override: fields, or a file of them.

  Raises:
    UserError: a file can't be read.
  """
  found = [(read_text(path), path) for path in config_files]
  if params_override and is_file(params_override):
    found.append((read_text(params_override), params_override))
  elif params_override:
    found.append((params_override, '--params_override'))
  return found


def load(
  experiment: str,
  config_files: Sequence[str] = (),
  params_override: str = '',
  gin_files: Sequence[str] = (),
  gin_params: Sequence[str] = (),
  trains: bool = True,
) -> cfg.ExperimentConfig:
  """The resolved experiment: registered defaults, then files in order, then overrides.

  What counts steps follows `trainer.train_steps` where that was set and it was not; a line
  on stderr says what did. With `trains`, steps and rates of an experiment for any data follow
  from the records, where they are there.

  Raises:
    UserError: unknown experiment or field, a value of another type or out of range,
      unreadable files.
  """
  names = experiment_names()
  if experiment not in names:
    raise UserError(
      f'experiment {experiment!r} is not registered; {nearest(experiment, names)}; --list '
      'prints all'
    )
  params = exp_factory.get_exp_config(experiment)
  usual_steps = params.trainer.train_steps
  chosen: set[str] = set()
  for text, source in texts(config_files, params_override):
    chosen |= apply_overrides(params, text, source)
  ranges.check_fields(params)
  epochs.settle(params, usual_steps, chosen)
  if trains:
    epochs.of_data(params, chosen)
  changed = schedule.follow(params, usual_steps, chosen)
  # What has no steps is refused, or does not matter.
  if changed and params.trainer.train_steps > 0:
    print(schedule.told(changed, params.trainer.train_steps), file=sys.stderr)
  parse_gin(gin_files, gin_params)
  params.validate()
  check_effect(params)
  return params


# Fields of the Model Garden's configs that its trainer or these tasks do not read.
_WITHOUT_EFFECT = {
  'runtime': (
    'gpu_thread_mode',
    'per_gpu_thread_count',
    'dataset_num_private_threads',
    'run_eagerly',
    'batchnorm_spatial_persistent',
    'num_cores_per_replica',
    'default_shard_dim',
    'use_tpu_mp_strategy',
  ),
  'trainer': ('preemption_on_demand_checkpoint',),
  'task': ('name', 'differential_privacy_config', 'allow_image_summary'),
}


def _on(*strategies: str) -> Callable[[cfg.ExperimentConfig], bool]:
  return lambda p: p.runtime.distribution_strategy in strategies


# Fields that something reads only where others are set: when, and how to say so.
_WITH_EFFECT_WHERE: Mapping[str, tuple[Callable[[cfg.ExperimentConfig], bool], str]] = {
  'runtime.all_reduce_alg': (
    _on('mirrored', 'multi_worker_mirrored'),
    'runtime.distribution_strategy is mirrored or multi_worker_mirrored',
  ),
  'runtime.num_packs': (
    lambda p: _on('mirrored')(p) and bool(p.runtime.all_reduce_alg),
    'runtime.distribution_strategy is mirrored and runtime.all_reduce_alg set',
  ),
  'runtime.tpu': (_on('tpu'), 'runtime.distribution_strategy is tpu'),
  'runtime.tpu_enable_xla_dynamic_padder': (
    _on('tpu'),
    'runtime.distribution_strategy is tpu',
  ),
  'runtime.task_index': (
    lambda p: bool(p.runtime.worker_hosts),
    'runtime.worker_hosts is set',
  ),
  'runtime.worker_hosts': (
    _on('multi_worker_mirrored'),
    'runtime.distribution_strategy is multi_worker_mirrored',
  ),
  'runtime.loss_scale': (
    lambda p: p.runtime.mixed_precision_dtype == 'float16',
    'runtime.mixed_precision_dtype is float16',
  ),
  'trainer.allow_tpu_summary': (_on('tpu'), 'runtime.distribution_strategy is tpu'),
  'trainer.recovery_begin_steps': (
    lambda p: p.trainer.loss_upper_bound < cfg.TrainerConfig.loss_upper_bound,
    'trainer.loss_upper_bound is lower',
  ),
}


# Of the runtime, values that there are, whatever the machine.
_CHOICES = {
  'distribution_strategy': (
    *('one_device', 'mirrored', 'multi_worker_mirrored', 'tpu', 'off'),
    'parameter_server',
  ),
  'mixed_precision_dtype': (None, 'float32', 'float16', 'bfloat16'),
}


def check_effect(params: cfg.ExperimentConfig) -> None:
  """Refuses fields that nothing reads; a config that uses one declares it anew."""
  for name, known in _CHOICES.items():
    registry.check_choice(f'runtime.{name}', getattr(params.runtime, name), known)
  for part, names in _WITHOUT_EFFECT.items():
    config = getattr(params, part)
    for name in names:
      value, default = getattr(config, name), getattr(type(config)(), name)
      if value != default and not _declares(type(config), name):
        raise UserError(
          f'{part}.{name} {value!r}: nothing reads this field; leave it {default!r}'
        )
  for field, (is_read, where) in _WITH_EFFECT_WHERE.items():
    part, name = field.split('.')
    config = getattr(params, part)
    value, default = getattr(config, name), getattr(type(config)(), name)
    if value != default and not is_read(params):
      raise UserError(
        f'{field} {value!r}: read only where {where}; leave it {default!r}, or set that'
      )


def _declares(kind: type, name: str) -> bool:
  """Whether a config, or one that it extends outside the Model Garden, has the field."""
  return any(
    name in vars(base).get('__annotations__', {})
    for base in kind.__mro__
    if not _is_model_gardens(base.__module__)
  )


def parse_gin(gin_files: Sequence[str], bindings: Sequence[str]) -> None:
  """Parses gin files and bindings.

  Raises:
    UserError: a file is missing, or a binding names nothing configurable.
  """
  try:
    with gin.unlock_config():
      gin.parse_config_files_and_bindings(
        list(map(recipes.located, gin_files)), list(bindings), finalize_config=False
      )
  except (ValueError, SyntaxError, OSError, AttributeError, TypeError) as error:
    message = ' '.join(str(error).split())
    raise UserError(f'--gin_file/--gin_params: {message}') from error


def build_task(params: cfg.ExperimentConfig, model_dir: str = '') -> Any:
  """The task of a resolved experiment."""
  return task_factory.get_task(params.task, logging_dir=model_dir)


def to_yaml(params: cfg.ExperimentConfig) -> str:
  """The resolved experiment as plain YAML, which `--config_file` reads back."""
  return yaml.safe_dump(_plain(params.as_dict()), sort_keys=False)

"""Resolving an experiment: registry, config files, overrides, gin; each mistake one line."""

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import gin
import tensorflow as tf
import yaml

from official.core import config_definitions as cfg
from official.core import exp_factory, task_factory
from official.video import registry_imports
from official.video.errors import UserError


class _ConfigLoader(yaml.SafeLoader):
  """YAML without code: plain values, and tuples as the Model Garden writes them."""


_ConfigLoader.add_constructor(
  'tag:yaml.org,2002:python/tuple',
  lambda loader, node: tuple(loader.construct_sequence(node, deep=True)),
)


def nearest(name: str, known: Sequence[str]) -> str:
  """A clause with the known names nearest to a wrong one."""
  close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
  return (
    f'did you mean {" or ".join(close)}?'
    if close
    else f'known: {", ".join(sorted(known))}'
  )


def experiment_names() -> list[str]:
  """Names of the library's registered experiments."""
  registry_imports.register_all()
  return sorted(exp_factory._REGISTERED_CONFIGS)


def parse_overrides(text: str, source: str) -> Mapping[str, Any]:
  """Reads a YAML mapping, nested or with dotted keys, or 'a.b=1,c.d=2'.

  Raises:
    UserError: not a mapping, or not YAML.
  """
  if '=' in text and ':' not in text.split('=')[0]:
    text = _assignments_to_yaml(text, source)
  try:
    value = yaml.load(text, _ConfigLoader)
  except yaml.YAMLError as error:
    where = ' '.join(str(error).split())
    raise UserError(f'{source}: not readable as YAML: {where}') from error
  if value is None:
    return {}
  if not isinstance(value, Mapping):
    raise UserError(
      f'{source}: holds a {type(value).__name__}, expected field: value pairs'
    )
  return _nest(value)


def _assignments_to_yaml(text: str, source: str) -> str:
  from official.modeling import hyperparams

  del source
  return hyperparams.params_dict.nested_csv_str_to_json_str(text)


def _nest(value: Mapping[str, Any]) -> dict[str, Any]:
  nested: dict[str, Any] = {}
  for key, item in value.items():
    item = _nest(item) if isinstance(item, Mapping) else item
    *parents, leaf = str(key).split('.')
    place = nested
    for parent in parents:
      place = place.setdefault(parent, {})
    if isinstance(item, dict) and isinstance(place.get(leaf), dict):
      place[leaf] |= item
    else:
      place[leaf] = item
  return nested


def _check_fields(
  config: Any, overrides: Mapping[str, Any], path: str, source: str
) -> None:
  """Raises `UserError` at the first field that the config does not have."""
  known = list(config.as_dict())
  for key, value in overrides.items():
    field = f'{path}{key}'
    if key not in known:
      raise UserError(f'{source}: unknown field {field}; {nearest(key, known)}')
    child = getattr(config, key)
    if isinstance(value, Mapping):
      if child is not None and not hasattr(child, 'as_dict'):
        raise UserError(f'{source}: field {field} is a value, not a group of fields')
      if child is not None:
        _check_fields(child, value, field + '.', source)
    elif hasattr(child, 'as_dict') and value is not None:
      raise UserError(
        f'{source}: field {field} is a group of fields ({", ".join(child.as_dict())}), '
        f'not the value {value!r}'
      )
    else:
      _check_type(child, value, field, source)


def _check_type(old: Any, new: Any, field: str, source: str) -> None:
  if (
    old is None
    or new is None
    or (
      isinstance(old, bool) is isinstance(new, bool)
      and (
        isinstance(new, type(old))
        or (isinstance(old, float) and isinstance(new, int))
        or (isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)))
      )
    )
  ):
    return
  raise UserError(
    f'{source}: field {field} is {new!r}, expected a {type(old).__name__} such as {old!r}'
  )


def apply_overrides(params: cfg.ExperimentConfig, text: str, source: str) -> None:
  """Overrides fields of an experiment; `source` names the file or flag in errors."""
  overrides = parse_overrides(text, source)
  _check_fields(params, overrides, '', source)
  params.override(_tuples(params, overrides), is_strict=True)


def _tuples(config: Any, overrides: Mapping[str, Any]) -> dict[str, Any]:
  """Sequences as tuples wherever the config holds one."""
  return {
    key: _tuples(getattr(config, key), value)
    if isinstance(value, Mapping) and getattr(config, key) is not None
    else tuple(value)
    if isinstance(value, list)
    else value
    for key, value in overrides.items()
  }


def read_text(path: str) -> str:
  """Text of a config file.

  Raises:
    UserError: it can't be read.
  """
  try:
    with tf.io.gfile.GFile(path, 'r') as file:
      return file.read()
  except (tf.errors.OpError, UnicodeDecodeError) as error:
    raise UserError(f'{path}: cannot be read; check the path') from error


def load(
  experiment: str,
  config_files: Sequence[str] = (),
  params_override: str = '',
  gin_files: Sequence[str] = (),
  gin_params: Sequence[str] = (),
) -> cfg.ExperimentConfig:
  """The resolved experiment: registered defaults, then files in order, then overrides.

  Raises:
    UserError: unknown experiment or field, a value of another type, unreadable files.
  """
  names = experiment_names()
  if experiment not in names:
    raise UserError(
      f'experiment {experiment!r} is not registered; {nearest(experiment, names)}'
    )
  params = exp_factory.get_exp_config(experiment)
  for path in config_files:
    apply_overrides(params, read_text(path), path)
  if params_override:
    if os.path.exists(params_override):
      apply_overrides(params, read_text(params_override), params_override)
    else:
      apply_overrides(params, params_override, '--params_override')
  parse_gin(gin_files, gin_params)
  params.validate()
  return params


def parse_gin(files: Sequence[str], bindings: Sequence[str]) -> None:
  """Parses gin files and bindings.

  Raises:
    UserError: a file is missing, or a binding names nothing configurable.
  """
  try:
    with gin.unlock_config():
      gin.parse_config_files_and_bindings(
        list(files), list(bindings), finalize_config=False
      )
  except (ValueError, SyntaxError, OSError, AttributeError, TypeError) as error:
    message = ' '.join(str(error).split())
    raise UserError(f'--gin_file/--gin_params: {message}') from error


def build_task(params: cfg.ExperimentConfig, model_dir: str = '') -> Any:
  """The task of a resolved experiment."""
  return task_factory.get_task(params.task, logging_dir=model_dir)


def to_yaml(params: cfg.ExperimentConfig) -> str:
  """The resolved experiment as plain YAML, which `--config_file` reads back."""

  def plain(value):
    if isinstance(value, Mapping):
      return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

  return yaml.safe_dump(plain(params.as_dict()), sort_keys=False)


def fields(config: Any, path: str = '') -> dict[str, Any]:
  """All leaf fields of a config by dotted name."""
  leaves: dict[str, Any] = {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    name = f'{path}{field.name}'
    leaves |= (
      fields(value, name + '.') if dataclasses.is_dataclass(value) else {name: value}
    )
  return leaves

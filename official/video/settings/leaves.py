"""Configs and mappings by the dotted names of their leaves, and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from official.video.errors import UserError


def nested(values: Mapping[str, Any], source: str) -> dict[str, Any]:
  """Values by dotted name as a nested mapping; groups may be given as such too.

  Args:
    values: by name.
    source: names the file or flag in errors.

  Raises:
    UserError: a name is that of a value and of a group.
  """
  found: dict[str, Any] = {}
  for key, item in values.items():
    item = nested(item, source) if isinstance(item, Mapping) else item
    *parents, leaf = str(key).split('.')
    place = found
    for parent in parents:
      place = place.setdefault(parent, {})
      if not isinstance(place, dict):
        raise UserError(f'{source}: {parent} is set both as a value and by {key}')
    if isinstance(item, dict) and isinstance(place.get(leaf), dict):
      place[leaf] |= item
    else:
      place[leaf] = item
  return found


def flat(values: Mapping[str, Any], path: str = '') -> dict[str, Any]:
  """Leaves of a nested mapping by dotted name, sequences as lists."""
  leaves: dict[str, Any] = {}
  for key, value in values.items():
    if isinstance(value, Mapping):
      leaves |= flat(value, f'{path}{key}.')
    else:
      leaves[f'{path}{key}'] = list(value) if isinstance(value, tuple) else value
  return leaves


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

"""Which fields of a config were read: one that is set and read by nobody is a mistake.

A config has fields for all view makers, samplers and policies; most read some of them. To
declare which would be to say everything twice, so what is read is watched.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from official.modeling import hyperparams
from official.video.errors import UserError

Config = TypeVar('Config', bound=hyperparams.Config)


def watched(config: Config, reads: set[str], path: str = '') -> Config:
  """A copy of a config, of a subclass of its type, that notes which fields are read.

  Args:
    config: with groups of fields, which are watched too.
    reads: takes the names, dotted for fields of groups.
    path: of the config in another one, with its dot.
  """
  names = {field.name for field in dataclasses.fields(config)}
  groups = {
    name: watched(value, reads, f'{path}{name}.')
    for name in names
    if isinstance(value := getattr(config, name), hyperparams.Config)
  }

  class Watched(type(config)):  # type: ignore[misc]
    """See `watched`."""

    def __getattribute__(self, name: str) -> Any:
      if name in groups:
        return groups[name]
      if name in names:
        reads.add(path + name)
      return super().__getattribute__(name)

    def as_dict(self) -> dict[str, Any]:
      reads.update(path + name for name in names - set(groups))
      return {name: group.as_dict() for name, group in groups.items()} | {
        name: value for name, value in super().as_dict().items() if name not in groups
      }

  if isinstance(config, hyperparams.OneOfConfig):
    # The Model Garden's goes past the attributes.
    Watched.get = lambda self: self.type and getattr(self, self.type)
  copy = object.__new__(Watched)
  copy.__dict__.update(config.__dict__)
  return copy


@contextlib.contextmanager
def all_used(
  config: Config, path: str, reader: str, elsewhere: Sequence[str] = ()
) -> Iterator[Config]:
  """Gives a config to what reads it, and refuses what is set and was not read.

  Args:
    config: as the user set it.
    path: of the config, for messages: 'task.model.head'.
    reader: what reads it, for messages.
    elsewhere: fields that somebody else reads.

  Raises:
    UserError: it names the first such field, and the value that it would take.
  """
  reads: set[str] = set(elsewhere)
  yield watched(config, reads)
  for name, value, usual in changed(config, type(config)()):
    if name not in reads:
      raise UserError(
        f'{path}.{name} {value!r}: {reader} does not read it; leave it {usual!r}'
      )


def refuse_unread(task_config: Any, unread: Mapping[str, str]) -> None:
  """Refuses fields of a task that are set although what would read them is off.

  Args:
    task_config: as the user set it.
    unread: dotted names of fields that nothing reads, by what would turn them on.

  Raises:
    UserError: it names the first such field, the value that it would take and the switch.
  """
  for name, value, usual in changed(task_config, type(task_config)()):
    if name in unread:
      raise UserError(
        f'task.{name} {value!r}: nothing reads it where {unread[name]} is off; leave it '
        f'{usual!r}, or turn that on'
      )


def changed(config: Any, default: Any, path: str = '') -> Iterator[tuple[str, Any, Any]]:
  """Dotted name, value and default of every field that is not as by default."""
  for field in dataclasses.fields(config):
    value, usual = getattr(config, field.name), getattr(default, field.name)
    if isinstance(value, hyperparams.Config):
      yield from changed(value, usual, f'{path}{field.name}.')
    elif _plain(value) != _plain(usual):
      yield path + field.name, value, usual


def _plain(value: Any) -> Any:
  return list(value) if isinstance(value, tuple) else value

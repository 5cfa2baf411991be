"""Names that configs choose by, with an error that helps."""

import difflib
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from official.video.errors import UserError

T = TypeVar('T')


def find(registry: Mapping[str, T], name: str, field: str) -> T:
  """The entry called `name`.

  Args:
    registry: what there is, by name.
    name: what was asked for.
    field: the config field that asked, for the error.

  Raises:
    UserError: there is no such entry; the message names the nearest one.
  """
  if name in registry:
    return registry[name]
  near = difflib.get_close_matches(name, registry, n=1, cutoff=0.5)
  hint = f'; did you mean {near[0]!r}?' if near else ''
  raise UserError(f'{field} {name!r}: expected one of {sorted(registry)}{hint}')


class Registry(dict[str, T], Generic[T]):
  """What a config field chooses among, by name; anyone may add to it.

  @views.VIEW_MAKERS.register('my_views')
  class MyViewMaker(views.ViewMaker): ...
  """

  def __init__(self, field: str, entries: Mapping[str, T] | None = None):
    """Initializes the registry.

    Args:
      field: the config field that chooses, for errors.
      entries: what there is from the start.
    """
    super().__init__(entries or {})
    self._field = field

  def register(self, name: str) -> Callable[[T], T]:
    """Adds what is decorated under a name.

    Raises:
      ValueError: something else has the name.
    """

    def add(entry: T) -> T:
      if name in self:
        raise ValueError(f'{self._field} {name!r} is registered already; choose another')
      self[name] = entry
      return entry

    return add

  def find(self, name: str) -> T:
    """The entry of a name.

    Raises:
      UserError: there is none; the message names the nearest one.
    """
    return find(self, name, self._field)

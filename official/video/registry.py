"""Names that configs choose by, with one error for all of them."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from official.video.errors import UserError

T = TypeVar('T')


def check_choice(field: str, value: Any, known: Iterable[Any]) -> None:
  """Raises `UserError` where a field's value is none of what there is.

  Args:
    field: for the message, which names the nearest choice too.
    value: what was asked for.
    known: what there is, in the order to tell it.
  """
  choices = list(known)
  if value in choices:
    return
  if not choices:
    raise UserError(f'{field} {value!r}: none is known; name its module by --import')
  near = difflib.get_close_matches(str(value), map(str, choices), n=1, cutoff=0.5)
  hint = f'; did you mean {near[0]!r}?' if near else ''
  raise UserError(
    f'{field} {value!r}: expected one of {", ".join(map(str, choices))}{hint}'
  )


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
    check_choice(self._field, name, self)
    return self[name]

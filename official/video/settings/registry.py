"""Looking a name up among registered ones, with an error that helps."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

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

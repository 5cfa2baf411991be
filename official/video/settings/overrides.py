"""Reading overrides: YAML, or 'a.b=1,c.d=2', as values by field.

What they are of is not asked here, and TensorFlow is not needed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from official.video import files
from official.video.errors import UserError
from official.video.settings import leaves

# A name and '=' at the start of the text or after a comma.
_ASSIGNMENT = re.compile(r'(?:^|,)\s*([A-Za-z_][\w.]*)\s*=')


class _ConfigLoader(yaml.SafeLoader):
  """YAML without code: plain values, and tuples as the Model Garden writes them."""


def _tuple(loader: _ConfigLoader, node: yaml.SequenceNode) -> tuple:
  return tuple(loader.construct_sequence(node, deep=True))


_ConfigLoader.add_constructor('tag:yaml.org,2002:python/tuple', _tuple)
# YAML 1.1 reads 1e-3 as text.
_ConfigLoader.add_implicit_resolver(
  'tag:yaml.org,2002:float',
  re.compile(r'[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$'),
  list('-+.0123456789'),
)

# It reads on, off, yes and no as booleans too; `off` is a distribution strategy.
for _first in 'oOyYnN':
  _ConfigLoader.yaml_implicit_resolvers[_first] = [
    resolver
    for resolver in _ConfigLoader.yaml_implicit_resolvers[_first]
    if resolver[0] != 'tag:yaml.org,2002:bool'
  ]


def parse(
  text: str, source: str, takes_path: Callable[[str], bool] = lambda name: False
) -> Mapping[str, Any]:
  """Reads a YAML mapping, nested or with dotted keys, or 'a.b=1,c.d=2'.

  Args:
    text: what to read.
    source: names the file or flag in errors.
    takes_path: whether the field of a dotted name may name files. The value of one that
      names a file or a checkpoint which is there is taken by the letter, whatever YAML
      makes of it.

  Raises:
    UserError: not a mapping, or not YAML.
  """
  if _ASSIGNMENT.match(text):
    return leaves.nested(_assignments(text, source, takes_path), source)
  value = _parse_yaml(text, source)
  if value is None:
    return {}
  if not isinstance(value, Mapping):
    raise UserError(
      f'{source}: holds {str(value)!r}, expected field: value pairs, a.b=1,c.d=2 or the '
      'name of an existing file'
    )
  return leaves.nested(value, source)


def _parse_yaml(text: str, source: str) -> Any:
  try:
    return yaml.load(text, _ConfigLoader)
  except yaml.YAMLError as error:
    where = ' '.join(str(error).split())
    raise UserError(f'{source}: not readable as YAML: {where}') from error


def _assignments(
  text: str, source: str, takes_path: Callable[[str], bool]
) -> dict[str, Any]:
  """Values by dotted name; a comma belongs to the value unless a name and '=' follow."""
  starts = list(_ASSIGNMENT.finditer(text))
  ends = [match.start() for match in starts[1:]] + [len(text)]
  values: dict[str, Any] = {}
  position = -1
  for match in starts:
    if match.start() < position:
      continue  # A name and '=' within a path.
    following = [end for end in ends if end > match.start()]
    name = match[1]
    position, path = _path_at(text, match.end(), following, takes_path(name))
    value = text[match.end() : position].strip()
    if path is None and value == '...':
      raise UserError(f"{source}: {name}: '...' stands for a value; put yours there")
    if path is None and value:
      path = _parse_yaml(value, f'{source}: {name}')
    values[name] = value if path is None and not value else path
  return values


def _path_at(
  text: str, begin: int, ends: Sequence[int], takes_path: bool
) -> tuple[int, str | None]:
  """Where a value ends, and the value if it names files."""
  for end in reversed(ends) if takes_path else ():
    if files.is_there(text[begin:end]):
      return end, ','.join(files.split_paths(text[begin:end]))
  return ends[0], None

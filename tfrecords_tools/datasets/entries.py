"""Entries of JSON lists: their fields by kind, each refused by one line where it is odd.

One place for all sources, so that a field of a wrong type, an empty name or a negative
number means the same in each of them.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from official.video.errors import UserError
from tfrecords_tools.datasets.rows import MOST_SECONDS
from tfrecords_tools.datasets.source import Place, read_json

_MOST = 2**62
_REQUIRED = object()
# Characters of an odd value that a message shows.
_SHOWN = 60


def shown(value: Any) -> str:
  """A value for a message; of a long one the beginning."""
  text = repr(value)
  return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...'


def refuse(where: object, key: str, value: Any, expected: str) -> NoReturn:
  """Raises `UserError` for a value that is odd."""
  raise UserError(f'{where}: {key} is {shown(value)}, expected {expected}')


def text(where: object, key: str, value: Any, empty: bool = False) -> str:
  """A text without blanks around it, which may only be empty where that is said."""
  if not isinstance(value, str) or not (empty or value.strip()):
    refuse(where, key, value, 'a text' if empty else 'a text that is not empty')
  return value.strip()


def name(where: object, key: str, value: Any) -> str:
  """What a video or a class is called: a text that is not empty, or a whole number."""
  if type(value) is int:
    return str(whole(where, key, value))
  if not isinstance(value, str) or not value.strip():
    refuse(where, key, value, 'a name: a text that is not empty, or a whole number')
  if not value.isprintable():
    refuse(where, key, value, 'a name without line breaks and other control characters')
  return value.strip()


def whole(where: object, key: str, value: Any, least: int = 0, most: int = _MOST) -> int:
  """A whole number of JSON, from `least` to `most`; True, 1.0 and '1' are none."""
  if type(value) is not int or not least <= value <= most:
    limits = f'of at least {least}' if most == _MOST else f'from {least} to {most}'
    refuse(where, key, value, f'a whole number {limits}')
  return value


def seconds(where: object, key: str, value: Any, least: float = 0.0) -> float:
  """A time in seconds, which some lists write as a text."""
  number = math.nan
  if isinstance(value, (int, float, str)) and not isinstance(value, bool):
    with contextlib.suppress(ValueError, OverflowError):
      number = float(value)
  if not least <= number < MOST_SECONDS:
    limits = f' of at least {least:g}' if math.isfinite(least) else ''
    refuse(where, key, value, f'a number{limits}')
  return number


def values(
  where: object, key: str, value: Any, count: int | None = None
) -> Sequence[Any]:
  """A list, of so many values where that is said."""
  if not isinstance(value, list) or (count is not None and len(value) != count):
    refuse(where, key, value, 'a list' if count is None else f'a list of {count} values')
  return value


class Entry:
  """An object of a list, and where it stands.

  Attributes:
    where: file and entry, for messages.
    content: by key.
  """

  def __init__(self, where: Place, content: Any, expected: str):
    """Refuses what is no object.

    Args:
      where: file and entry.
      content: of JSON.
      expected: its keys, for messages.
    """
    self.where, self._expected = where, expected
    if not isinstance(content, dict):
      raise UserError(f'{where}: is {shown(content)}, expected an object of {expected}')
    self.content: Mapping[str, Any] = content

  def has(self, key: str) -> bool:
    """Whether there is a value under a key, which may be null."""
    return self.content.get(key) is not None

  def _value(self, key: str) -> Any:
    if key not in self.content:
      raise UserError(
        f'{self.where}: lacks {key}, expected an object of {self._expected}'
      )
    return self.content[key]

  def text(self, key: str, empty: bool = False) -> str:
    """See the function."""
    return text(self.where, key, self._value(key), empty)

  def name(self, key: str) -> str:
    """See the function."""
    return name(self.where, key, self._value(key))

  def whole(self, key: str, least: int = 0, most: int = _MOST) -> int:
    """See the function."""
    return whole(self.where, key, self._value(key), least, most)

  def values(self, key: str, count: int | None = None) -> Sequence[Any]:
    """See the function."""
    return values(self.where, key, self._value(key), count)


def listed(path: str, expected: str, content: Any = _REQUIRED) -> Iterator[Entry]:
  """The entries of a list of objects.

  Args:
    path: of the list, for messages.
    expected: keys of its objects, for messages.
    content: that was read; the file's by default.

  Raises:
    UserError: it is none.
  """
  content = read_json(path) if content is _REQUIRED else content
  if not isinstance(content, list):
    raise UserError(f'{path}: expected a list of objects of {expected}')
  for number, value in enumerate(content, start=1):
    yield Entry(Place(path, f'entry {number}'), value, expected)


def by_video(path: str, content: Any, expected: str) -> Iterator[tuple[str, Entry]]:
  """The entries of an object by video, with its names.

  Raises:
    UserError: it is none, or names no video.
  """
  if not isinstance(content, dict):
    raise UserError(f'{path}: expected an object of {expected} by video')
  for video, value in content.items():
    where = Place(path, f'video {video}')
    name(path, 'the name of a video', video)
    yield video, Entry(where, value, expected)

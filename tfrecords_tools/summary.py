"""What a source met while it was listed: what was corrected, what was left out and why."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass
class _Count:
  first: str
  number: int = 0


class Summary:
  """Counts what happened to rows, clips and boxes; every source reports to one.

  A kind of event is one line however often it happened, with its first case.
  """

  def __init__(self, counts: Mapping[str, int] | None = None):
    """Begins with what `counts` of an earlier one says, or with nothing."""
    self._notes: list[str] = []
    self._events = {
      what: _Count('an earlier one', number) for what, number in (counts or {}).items()
    }

  def note(self, text: str) -> None:
    """Adds a line as it is, once."""
    if text not in self._notes:
      self._notes.append(text)

  def corrected(self, what: str, where: object, number: int = 1) -> None:
    """Counts things that were taken for what they must mean.

    Args:
      what: plural of the thing and what was done, such as 'reversed segments, swapped'.
      where: file, row or clip.
      number: how many.
    """
    self._count(f'corrected: {what}', where, number)

  def left_out(self, what: str, where: object, number: int = 1) -> None:
    """Counts things that give no clip, or no part of one; see `corrected`."""
    self._count(f'left out: {what}', where, number)

  def noticed(self, what: str, where: object, number: int = 1) -> None:
    """Counts things that stay as they are; see `corrected`."""
    self._count(what, where, number)

  def _count(self, what: str, where: object, number: int) -> None:
    if number:
      self._events.setdefault(what, _Count(str(where))).number += number

  def counts(self) -> dict[str, int]:
    """How often each kind of event was."""
    return {what: count.number for what, count in self._events.items()}

  def lines(self) -> list[str]:
    """The notes, then a line a kind of event."""
    return self._notes + [
      f'{what}: {count.number}, such as {count.first}'.replace('\n', '\\n')
      for what, count in self._events.items()
    ]

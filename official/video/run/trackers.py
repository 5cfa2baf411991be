"""The hook for experiment trackers: three methods, told everything that a run reports.

@trackers.TRACKERS.register('mine')
class Mine(trackers.Tracker):
  def start(self, params, folder): ...
  def scalars(self, step, values): ...
  def end(self): ...

A module with that is named by --import, and the tracker by --tracker=mine.
"""

import abc
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from official.video import registry
from official.video.errors import UserError


class Tracker(abc.ABC):
  """Takes what a run reports to wherever that is kept; made without arguments."""

  @abc.abstractmethod
  def start(self, params: Mapping[str, Any], folder: str) -> None:
    """Begins; a run that goes on begins again, with the same folder.

    Args:
      params: leaves of the resolved experiment by dotted name.
      folder: the run's.
    """

  @abc.abstractmethod
  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Takes the scalars of a report.

    Args:
      step: of the run; one that goes on from a checkpoint repeats the steps after it.
      values: by published name after 'train/' or 'validation/', such as
        'validation/probe/knn_accuracy'.
    """

  @abc.abstractmethod
  def end(self) -> None:
    """Ends, also where the run failed or was stopped."""


TRACKERS: registry.Registry[type[Tracker]] = registry.Registry('--tracker')


class Trackers:
  """All trackers of a run. One that fails on the way is told once, and left alone."""

  def __init__(self, names: Sequence[str] = ()):
    """Makes them.

    Raises:
      UserError: nothing is registered under a name.
    """
    self._made = {name: TRACKERS.find(name)() for name in names}

  def start(self, params: Mapping[str, Any], folder: str) -> None:
    """Starts all.

    Raises:
      UserError: one can't start; the run has taken no step by then.
    """
    waiting, self._made = self._made, {}
    for name, tracker in waiting.items():
      try:
        tracker.start(dict(params), folder)
      except Exception as error:
        raise UserError(
          f"--tracker={name}: can't start: {_line(error)}; mend it, or leave the flag out"
        ) from error
      self._made[name] = tracker  # So what never started is not ended.

  def scalars(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
    """Hands a report's scalars to all.

    Args:
      kind: 'train' or 'validation'.
      step: of the report.
      values: by published name.
    """
    named = {f'{kind}/{name}': float(value) for name, value in values.items()}
    for name, tracker in list(self._made.items()):
      try:
        tracker.scalars(step, dict(named))
      except Exception as error:
        del self._made[name]
        self._tell(name, f'failed at step {step}', error, 'it is told no more')
        self._end(name, tracker)

  def end(self) -> None:
    """Ends all."""
    for name, tracker in self._made.items():
      self._end(name, tracker)
    self._made = {}

  def _end(self, name: str, tracker: Tracker) -> None:
    try:
      tracker.end()
    except Exception as error:
      self._tell(name, "can't end", error, 'the run has all its scores in scores.jsonl')

  def _tell(self, name: str, what: str, error: Exception, then: str) -> None:
    print(f'note: --tracker={name}: {what}: {_line(error)}; {then}', file=sys.stderr)


def _line(error: Exception) -> str:
  return f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'

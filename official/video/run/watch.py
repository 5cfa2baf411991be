"""How a run is watched: what it prints, who else is told, what TensorBoard is given."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from official.video.errors import UserError
from official.video.run import console


@dataclasses.dataclass
class Watch:
  """What of a run is told, and where.

  Attributes:
    out: where its lines go.
    trackers: names in `trackers.TRACKERS`.
    profile: first and last step of a window that TensorFlow's profiler records.
    pictures: whether TensorBoard gets views, confusions, a map of the features and the
      parameters too; scalars it gets in any case.
    experiment: name of the experiment, for the commands that come next; '' if unknown.
    told: what `opening.tell` said; empty where nothing was.
  """

  out: console.Console = dataclasses.field(default_factory=console.Console)
  trackers: Sequence[str] = ()
  profile: tuple[int, int] | None = None
  pictures: bool = False
  experiment: str = ''
  told: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def window(text: str | None) -> tuple[int, int] | None:
  """The steps that `--profile` names; None without it.

  Raises:
    UserError: it does not name any.
  """
  if text is None:
    return None
  match = re.fullmatch(r'(?:steps\s*)?(\d+)(?:\s*-\s*(\d+))?', text.strip())
  first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
  if not 1 <= first <= last:
    raise UserError(f"--profile={text}: expected steps from 1 on, such as '100-110'")
  return first, last

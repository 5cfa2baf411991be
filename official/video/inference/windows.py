"""Which frames of a file an answer is about: all of it, or windows that slide over it."""

import dataclasses
from collections.abc import Sequence

from official.video.configs import data as data_config
from official.video.errors import UserError


@dataclasses.dataclass(frozen=True)
class Windows:
  """How a file is cut up; each part is then seen as a whole file would be.

  Attributes:
    step: seconds from window to window; 0 takes the whole file.
    length: seconds of a window; 0 makes it as long as one clip of the model.
  """

  step: float = 0.0
  length: float = 0.0

  def __post_init__(self):
    """Raises `UserError` for what are no seconds, or a length of no windows."""
    for name in ('step', 'length'):
      value = getattr(self, name)
      if not 0 <= value < float('inf'):
        raise UserError(f'window_{name} {value}: expected seconds, at least 0')
    if self.length and not self.step:
      raise UserError(
        f'window_length {self.length:g} without window_step: the whole file is taken; set '
        'window_step, the seconds from window to window'
      )

  def spans(
    self, num_frames: int, frame_rate: float, config: data_config.DataConfig
  ) -> list[tuple[int, int]]:
    """First frame of each window, and the one behind its last.

    Windows begin `step` apart as long as they fit; the last one ends with the file. A
    file that is no longer than a window is one.

    Args:
      num_frames: stored frames of the file, at least 1.
      frame_rate: stored frames a second; 0 where nobody knows, which is taken for 25.
      config: of the model's clips.
    """
    if not self.step:
      return [(0, num_frames)]
    rate = frame_rate or 25.0
    size = config.feature_shape[0] * config.temporal_stride
    if self.length:
      size = max(1, round(self.length * rate))
    last = max(0, num_frames - size)
    count = int(last / (self.step * rate))
    # Rounded one by one, so that a step of a fraction of a frame does not drift.
    starts = [round(number * self.step * rate) for number in range(count + 1)]
    starts = sorted({min(start, last) for start in (*starts, last)})
    return [(start, min(start + size, num_frames)) for start in starts]


def seconds(
  spans: Sequence[tuple[int, int]], times: Sequence[float], end: float
) -> list[tuple[float, float]]:
  """Start and end of spans of frames in seconds.

  Args:
    spans: of `Windows.spans`.
    times: of each stored frame.
    end: of the file.
  """
  ends = [*times, end]
  return [(times[first], ends[behind]) for first, behind in spans]

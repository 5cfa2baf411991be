"""How fast a run goes, what it waits for, and when it will be over."""

import os
import resource
import sys
from collections import deque

import tensorflow as tf

# Loops whose mean speed tells when the run is over.
_RECENT = 10
_GIGABYTE = 1e9


def memory_gb() -> float:
  """Gigabytes in use: the most of a GPU so far, else what the process holds in memory."""
  gpus = tf.config.list_logical_devices('GPU')
  if gpus:
    names = [gpu.name.removeprefix('/device:') for gpu in gpus]
    return (
      max(tf.config.experimental.get_memory_info(x)['peak'] for x in names) / _GIGABYTE
    )
  try:
    with open('/proc/self/statm') as file:
      return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / _GIGABYTE
  except OSError:  # No Linux: the most so far, in kilobytes, on macOS in bytes.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / _GIGABYTE * (1 if sys.platform == 'darwin' else 1024)


class Pace:
  """Speeds of loops of steps, and the time that is left."""

  def __init__(self, batch: int, train_steps: int, validation_interval: int = 0):
    """Initializes the pace.

    Args:
      batch: clips of a step.
      train_steps: of the whole run.
      validation_interval: steps from one validation to the next; 0 without any.
    """
    self._batch, self._last = batch, train_steps
    self._interval = validation_interval
    self._loops: deque[tuple[int, float]] = deque(maxlen=_RECENT)
    self._validation = 0.0

  def looped(self, steps: int, seconds: float, waited: float | None) -> dict[str, float]:
    """Takes note of a loop; returns its speeds by published name.

    Args:
      steps: that it took.
      seconds: that they took, without building the graph.
      waited: seconds of these in which they waited for input; None where nobody knows.
    """
    seconds = max(seconds, 1e-9)
    self._loops.append((steps, seconds))
    wait = {} if waited is None else {'speed/input_wait': min(1.0, waited / seconds)}
    return {
      'speed/clips_per_second': steps * self._batch / seconds,
      'speed/steps_per_second': steps / seconds,
      **wait,
      'speed/memory_gb': memory_gb(),
    }

  def validated(self, seconds: float) -> None:
    """Takes note of what a validation took."""
    self._validation = seconds

  def left(self, step: int) -> float | None:
    """Seconds from a step to the end; None before anything is known.

    The validation that is due at the step itself is to come.
    """
    steps = sum(steps for steps, _ in self._loops)
    if not steps:
      return None
    each = sum(seconds for _, seconds in self._loops) / steps
    ahead = max(0, self._last - step)
    validations = 0
    if self._interval:
      validations = -(-self._last // self._interval) - max(0, step - 1) // self._interval
    return ahead * each + validations * self._validation

"""The actions: which shape moves how, as functions of time in seconds.

An action is a (motion, shape) pair. Each shape takes part in two actions and half of
the motions in two, so neither the shape nor the motion alone tells the actions apart.
Lengths are in units of the frame's short side, angles in radians, y points down.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Trajectory(NamedTuple):
  """Pose of an object over time, each field `[T]` float64.

  Attributes:
    x: offset from the object's center to the right, in short sides.
    y: offset downwards, in short sides.
    rotation: angle in radians, clockwise on the screen.
    scale: factor on the object's size.
  """

  x: np.ndarray
  y: np.ndarray
  rotation: np.ndarray
  scale: np.ndarray


@dataclasses.dataclass(frozen=True)
class Action:
  """A class of the set.

  Attributes:
    motion: key of `MOTIONS`.
    shape: key of `SHAPES`.
  """

  motion: str
  shape: str

  @property
  def name(self) -> str:
    """Name of the class, also of its folder, as in `orbiting_star`."""
    return f'{MOTIONS[self.motion].participle}_{self.shape}'

  @property
  def verb(self) -> str:
    """What a caption says of the motion, as in `orbits`."""
    return MOTIONS[self.motion].verb


@dataclasses.dataclass(frozen=True)
class Motion:
  """A periodic motion.

  Attributes:
    participle: its name in a class name.
    verb: its name in a caption.
    path: maps the phase in radians and the amplitude in short sides to the pose.
  """

  participle: str
  verb: str
  path: Callable[[np.ndarray, float], Trajectory]


def _pose(phase: np.ndarray, x=0.0, y=0.0, rotation=0.0, scale=1.0) -> Trajectory:
  return Trajectory(*(np.broadcast_to(v, phase.shape) for v in (x, y, rotation, scale)))


def _slide(phase: np.ndarray, amplitude: float) -> Trajectory:
  return _pose(phase, x=1.2 * amplitude * np.sin(phase))


def _bob(phase: np.ndarray, amplitude: float) -> Trajectory:
  return _pose(phase, y=1.1 * amplitude * np.sin(phase))


def _orbit(phase: np.ndarray, amplitude: float) -> Trajectory:
  return _pose(phase, x=amplitude * np.cos(phase), y=amplitude * np.sin(phase))


def _spin(phase: np.ndarray, amplitude: float) -> Trajectory:
  # Half a turn a cycle: a whole one of a four-fold shape would alias at low frame rates.
  del amplitude
  return _pose(phase, rotation=phase / 2)


def _pulse(phase: np.ndarray, amplitude: float) -> Trajectory:
  return _pose(phase, scale=np.exp(1.9 * amplitude * np.sin(phase)))


def _swing(phase: np.ndarray, amplitude: float) -> Trajectory:
  angle = 0.75 * np.sin(phase)
  rod = 2.0 * amplitude
  drop = rod * (np.cos(angle) - 0.8)
  return _pose(phase, x=rod * np.sin(angle), y=drop, rotation=-angle)


def _wobble(phase: np.ndarray, amplitude: float) -> Trajectory:
  return _pose(phase, rotation=4.0 * amplitude * np.sin(phase))


def _figure_eight(phase: np.ndarray, amplitude: float) -> Trajectory:
  return _pose(
    phase, x=1.4 * amplitude * np.sin(phase), y=0.8 * amplitude * np.sin(2 * phase)
  )


MOTIONS: Mapping[str, Motion] = {
  'slide': Motion('sliding', 'slides from side to side', _slide),
  'bob': Motion('bobbing', 'bobs up and down', _bob),
  'orbit': Motion('orbiting', 'orbits', _orbit),
  'spin': Motion('spinning', 'spins', _spin),
  'pulse': Motion('pulsing', 'pulses', _pulse),
  'swing': Motion('swinging', 'swings like a pendulum', _swing),
  'wobble': Motion('wobbling', 'wobbles', _wobble),
  'figure_eight': Motion('looping', 'flies figures of eight', _figure_eight),
}


def trajectory(
  motion: str,
  seconds: np.ndarray,
  *,
  frequency: float,
  phase: float,
  amplitude: float,
  direction: int,
) -> Trajectory:
  """Pose of a motion at the given times.

  Args:
    motion: key of `MOTIONS`.
    seconds: `[T]` times.
    frequency: cycles a second.
    phase: radians at time 0.
    amplitude: in short sides.
    direction: 1, or -1 for the mirror image, so that a flipped video shows the same
      action drawn with the other direction.
  """
  pose = MOTIONS[motion].path(2 * np.pi * frequency * seconds + phase, amplitude)
  return pose._replace(x=direction * pose.x, rotation=direction * pose.rotation)


# --- Shapes ---------------------------------------------------------------------------


def _regular(points: int, radii: Sequence[float] = (1.0,)) -> np.ndarray:
  """Corners of a polygon, one up, with radii taken in turn: `[points, 2]` of (x, y)."""
  angle = 2 * np.pi * np.arange(points) / points
  radius = np.resize(radii, points)
  return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)


def _cross(arm: float) -> np.ndarray:
  quarter = np.array([[-arm, -arm], [-arm, -1.0], [arm, -1.0]])
  turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
  turns = [np.linalg.matrix_power(turn, k) for k in range(4)]
  return np.concatenate([quarter @ t for t in turns])


def _unit_area(corners: np.ndarray) -> np.ndarray:
  """Scales a polygon to area 1/2, so that no colour histogram tells the shape."""
  x, y = corners.T
  area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
  return corners * np.sqrt(0.5 / area)


# Corners of each shape, for a size (the diameter of a disc, about) of 1. All are mirror
# symmetric: a flip changes no shape.
SHAPES: Mapping[str, np.ndarray] = {
  name: _unit_area(corners)
  for name, corners in {
    'disc': _regular(40),
    'square': np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]),
    'triangle': _regular(3),
    'star': _regular(10, (1.0, 0.45)),
    'cross': _cross(0.33),
    'bar': np.array([[-3.0, -1.0], [3.0, -1.0], [3.0, 1.0], [-3.0, 1.0]]),
  }.items()
}

ACTIONS: Sequence[Action] = sorted(
  (
    Action('slide', 'disc'),
    Action('orbit', 'disc'),
    Action('bob', 'square'),
    Action('spin', 'square'),
    Action('swing', 'triangle'),
    Action('pulse', 'triangle'),
    Action('orbit', 'star'),
    Action('wobble', 'star'),
    Action('pulse', 'cross'),
    Action('slide', 'cross'),
    Action('spin', 'bar'),
    Action('figure_eight', 'bar'),
  ),
  key=lambda action: action.name,
)

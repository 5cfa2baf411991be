"""Draws what a video shows. Nothing drawn here but the action says which class it is.

Every quantity has a random stream of its own, keyed by (seed, split, index, name), so a
video depends on nothing but its place in its split, and no two quantities are related.
What two clips of a video share besides the action (surface, colours) comes from small
pools: a surface of its own for every video would tell videos apart without any motion,
and so would many combinations of surface, colour and texture.
"""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from tfrecords_tools.synthesis.actions import ACTIONS, Action

FRAME_RATES: Sequence[int] = (15, 20, 24, 25, 30)
ASPECT_RATIOS: Sequence[float] = (4 / 3, 3 / 2, 16 / 9)
# On dark and on light surfaces; about equally bright, so that a change of hue hides
# which one it was.
COLORS: Mapping[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
  'red': ((246, 112, 104), (176, 30, 36)),
  'orange': ((240, 164, 70), (190, 88, 4)),
  'green': ((120, 200, 96), (34, 112, 40)),
  'cyan': ((84, 200, 214), (6, 112, 130)),
  'blue': ((128, 158, 250), (48, 72, 186)),
  'pink': ((236, 128, 206), (184, 40, 136)),
}
TEXTURES: Sequence[str] = ('plain', 'striped', 'dotted')
CAPTIONS: Sequence[str] = (
  '{who} on {where}',
  '{who} in front of {where}',
  'on {where}, {who}',
)


@dataclasses.dataclass(frozen=True)
class Config:
  """What all videos of a set have in common.

  Attributes:
    seed: of every random draw.
    short_side: least and greatest short side of a video, pixels.
    seconds: least and greatest length.
    num_backgrounds: size of the pool of surfaces.
    objects: moving objects a video, 1 or 2.
    segments: whether objects rest before and after they act.
    container: key of `encode.CODECS`.
    num_colors: how many of `COLORS` objects have.
    num_textures: how many of `TEXTURES` objects have.
    daylight: how much darker the lower edge is than the upper one, in [0, 1]; above 0 a
      picture has an up and a down.
    light_cycle: seconds in which the light's colour goes round once; above 0 pictures
      tell how much later one is than another. 0 keeps it white.
  """

  seed: int = 0
  short_side: tuple[int, int] = (120, 180)
  seconds: tuple[float, float] = (2.0, 3.0)
  num_backgrounds: int = 2
  objects: int = 1
  segments: bool = False
  container: str = 'mp4'
  num_colors: int = 2
  num_textures: int = 2
  daylight: float = 0.0
  light_cycle: float = 0.0


@dataclasses.dataclass(frozen=True)
class Actor:
  """One moving object.

  Attributes:
    action: its class.
    color: key of `COLORS`.
    texture: one of `TEXTURES`.
    size: about the diameter of a disc, in short sides.
    tilt: radians added to the rotation.
    center: (x, y) about which it moves, in widths and heights of the frame.
    amplitude: of the motion, in short sides.
    frequency: cycles a second.
    phase: radians at the start.
    direction: 1 or -1, see `actions.trajectory`.
    first: frame at which it starts to act.
    last: frame at which it comes to rest; it acts in all frames by default.
  """

  action: Action
  color: str
  texture: str
  size: float
  tilt: float
  center: tuple[float, float]
  amplitude: float
  frequency: float
  phase: float
  direction: int
  first: int
  last: int


@dataclasses.dataclass(frozen=True)
class Scene:
  """All that is needed to draw a video.

  Attributes:
    width: pixels, even.
    height: pixels, even.
    fps: frames a second.
    frames: number of frames.
    background: index in the pool.
    zoom: side of the surface shown, relative to the whole.
    corner: (x, y) of what is shown, in [0, 1] of what there is room for.
    drift: amplitude (x, y) of the camera's drift, in short sides.
    drift_frequency: cycles a second of the drift along (x, y).
    drift_phase: radians at the start along (x, y).
    light_phase: radians of the light's colour at the start.
    caption: one of `CAPTIONS`.
    actors: the objects; later ones are drawn over earlier ones.
  """

  width: int
  height: int
  fps: int
  frames: int
  background: int
  zoom: float
  corner: tuple[float, float]
  drift: tuple[float, float]
  drift_frequency: tuple[float, float]
  drift_phase: tuple[float, float]
  light_phase: float
  caption: str
  actors: Sequence[Actor]


def random_stream(*key: int | str) -> np.random.Generator:
  """An independent generator for each key, the same on every machine."""
  words = [zlib.crc32(k.encode()) if isinstance(k, str) else k for k in key]
  return np.random.default_rng(np.random.SeedSequence(words))


class _Draw:
  """Named draws, each from its own stream."""

  def __init__(self, *key: int | str):
    self._key = key

  def under(self, *key: int | str) -> '_Draw':
    return _Draw(*self._key, *key)

  def uniform(self, name: str, low: float, high: float) -> float:
    return float(random_stream(*self._key, name).uniform(low, high))

  def pair(self, name: str, low: float, high: float) -> tuple[float, float]:
    x, y = random_stream(*self._key, name).uniform(low, high, 2)
    return float(x), float(y)

  def integer(self, name: str, low: int, high: int) -> int:
    """An integer in [low, high)."""
    return int(random_stream(*self._key, name).integers(low, high))

  def choice(self, name: str, values: Sequence):
    return values[self.integer(name, 0, len(values))]


def _even(pixels: float) -> int:
  return 2 * round(pixels / 2)


def _acting_frames(draw: _Draw, frames: int, segments: bool) -> tuple[int, int]:
  if not segments:
    return 0, frames - 1
  first = round(draw.uniform('first', 0.15, 0.35) * frames)
  last = round((1 - draw.uniform('last', 0.15, 0.35)) * frames)
  return min(first, frames - 1), max(min(last, frames - 1), first)


def _center(draw: _Draw, place: int, objects: int) -> tuple[float, float]:
  x, y = draw.pair('center', -1, 1)
  if objects == 1:
    return 0.5 + 0.12 * x, 0.5 + 0.06 * y
  return 0.28 + 0.44 * place + 0.04 * x, 0.5 + 0.08 * y


def _actor(draw: _Draw, action: Action, place: int, frames: int, config: Config) -> Actor:
  first, last = _acting_frames(draw, frames, config.segments)
  fit = 1.0 if config.objects == 1 else 0.75
  return Actor(
    action=action,
    color=draw.choice('color', tuple(COLORS)[: config.num_colors]),
    texture=draw.choice('texture', TEXTURES[: config.num_textures]),
    size=fit * draw.uniform('size', 0.38, 0.5),
    tilt=draw.uniform('tilt', -0.12, 0.12),
    center=_center(draw, place, config.objects),
    amplitude=fit * draw.uniform('amplitude', 0.17, 0.23),
    frequency=draw.uniform('frequency', 0.8, 1.6),
    phase=draw.uniform('phase', 0, 2 * np.pi),
    direction=draw.choice('direction', (-1, 1)),
    first=first,
    last=last,
  )


def _actions(draw: _Draw, index: int, objects: int) -> list[Action]:
  """Actions by turns, so that any first n videos are balanced; others are drawn."""
  number = index % len(ACTIONS)
  if objects == 1:
    return [ACTIONS[number]]
  other = number + draw.integer('second action', 1, len(ACTIONS))
  return [ACTIONS[number], ACTIONS[other % len(ACTIONS)]]


def draw_scene(config: Config, split: str, index: int) -> Scene:
  """Draws video `index` of `split`; the result depends on nothing else."""
  draw = _Draw(config.seed, split, index)
  short_side = draw.integer('short side', config.short_side[0], config.short_side[1] + 1)
  fps = draw.choice('fps', FRAME_RATES)
  frames = max(2, round(fps * draw.uniform('seconds', *config.seconds)))
  side = draw.integer('side', 0, 2)
  return Scene(
    width=_even(short_side * draw.choice('aspect ratio', ASPECT_RATIOS)),
    height=_even(short_side),
    fps=fps,
    frames=frames,
    background=draw.integer('background', 0, config.num_backgrounds),
    zoom=draw.uniform('zoom', 0.5, 0.8),
    corner=draw.pair('corner', 0, 1),
    drift=draw.pair('drift', 0.0, 0.03),
    drift_frequency=draw.pair('drift frequency', 0.1, 0.3),
    drift_phase=draw.pair('drift phase', 0, 2 * np.pi),
    light_phase=draw.uniform('light phase', 0, 2 * np.pi),
    caption=draw.choice('caption', CAPTIONS),
    actors=tuple(
      _actor(draw.under('actor', number), action, (side + number) % 2, frames, config)
      for number, action in enumerate(_actions(draw, index, config.objects))
    ),
  )

"""Draws scenes: the pool of surfaces, the objects on them, and their boxes."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import cv2
import numpy as np

from tfrecords_tools.synthesis.actions import SHAPES, Trajectory, trajectory
from tfrecords_tools.synthesis.scene import COLORS, Actor, Config, Scene, random_stream

_SURFACE_SIDE = 512
# Dark objects on light surfaces and light ones on dark: brightness tells no shape.
_TONES: Mapping[str, tuple[int, int, int]] = {
  'brown': (118, 92, 76),
  'teal': (64, 104, 108),
  'navy': (70, 82, 122),
  'black': (62, 62, 66),
  'white': (206, 206, 208),
  'beige': (210, 192, 160),
  'lilac': (196, 182, 214),
  'mint': (172, 208, 190),
}
_LIGHT_TONES = frozenset({'white', 'beige', 'lilac', 'mint'})
_FINE = 4  # Subpixels a pixel, along a side.
_OUTLINE_ON_DARK = (28, 26, 30)
_OUTLINE_ON_LIGHT = (246, 244, 240)


# --- Surfaces -------------------------------------------------------------------------


def _blobs(rng: np.random.Generator, side: int) -> np.ndarray:
  noise = rng.standard_normal((14, 14)).astype(np.float32)
  return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)


def _stripes(rng: np.random.Generator, side: int) -> np.ndarray:
  y, x = np.mgrid[:side, :side] / side
  angle = rng.uniform(0, np.pi)
  along = x * np.cos(angle) + y * np.sin(angle)
  return np.sin(2 * np.pi * rng.uniform(9, 14) * along)


def _tiles(rng: np.random.Generator, side: int) -> np.ndarray:
  y, x = np.mgrid[:side, :side] / side
  tiles = rng.uniform(9, 14)
  return np.where((np.floor(tiles * x) + np.floor(tiles * y)) % 2, 1.0, -1.0)


def _grain(rng: np.random.Generator, side: int) -> np.ndarray:
  noise = rng.standard_normal((side, side)).astype(np.float32)
  grain = cv2.GaussianBlur(noise, (0, 0), 3.0)
  return grain / grain.std()


_PATTERNS: Mapping[str, Callable[[np.random.Generator, int], np.ndarray]] = {
  'wall': _blobs,
  'curtain': _stripes,
  'floor': _tiles,
  'carpet': _grain,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Surface:
  """A background.

  Attributes:
    name: tone and kind, as in 'teal wall'.
    pixels: `[512, 512, 3]` uint8 RGB.
    light: whether objects on it are dark.
  """

  name: str
  pixels: np.ndarray
  light: bool


@functools.lru_cache(maxsize=64)
def surface(seed: int, index: int) -> Surface:
  """Surface `index` of the pool of `seed`; a larger pool starts with the same ones."""
  round_, place = divmod(index, len(_TONES))
  order = random_stream(seed, 'surfaces', round_).permutation(len(_TONES))
  tone = tuple(_TONES)[order[place]]
  kind = tuple(_PATTERNS)[index % len(_PATTERNS)]
  pattern = _PATTERNS[kind](random_stream(seed, 'surface', index), _SURFACE_SIDE)
  relief = np.clip(pattern, -2, 2)[..., None] * 12.0
  pixels = np.clip(np.array(_TONES[tone]) + relief, 0, 255).astype(np.uint8)
  return Surface(f'{tone} {kind}', pixels, tone in _LIGHT_TONES)


# --- Geometry -------------------------------------------------------------------------


def camera_offset(scene: Scene) -> np.ndarray:
  """What the camera's drift adds to every position: `[T, 2]` of (x, y), pixels."""
  seconds = np.arange(scene.frames)[:, None] / scene.fps
  turns = np.array(scene.drift_frequency) * seconds
  angle = 2 * np.pi * turns + np.array(scene.drift_phase)
  return scene.height * np.array(scene.drift) * np.sin(angle)


def actor_trajectory(scene: Scene, actor: Actor) -> Trajectory:
  """Pose over the frames of the video; the object rests outside its acting frames."""
  frames = np.clip(np.arange(scene.frames), actor.first, actor.last)
  return trajectory(
    actor.action.motion,
    (frames - actor.first) / scene.fps,
    frequency=actor.frequency,
    phase=actor.phase,
    amplitude=actor.amplitude,
    direction=actor.direction,
  )


def actor_transforms(scene: Scene, actor: Actor) -> np.ndarray:
  """Maps the corners of `SHAPES` to pixels: `[T, 2, 3]` affine matrices."""
  pose = actor_trajectory(scene, actor)
  offset = np.array(actor.center) * (scene.width, scene.height)
  move = scene.height * np.stack([pose.x, pose.y], axis=1)
  factor = scene.height * actor.size * pose.scale
  cos = factor * np.cos(pose.rotation + actor.tilt)
  sin = factor * np.sin(pose.rotation + actor.tilt)
  linear = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
  shift = offset + move + camera_offset(scene)
  return np.concatenate([linear, shift[..., None]], axis=2)


def actor_boxes(scene: Scene, actor: Actor) -> np.ndarray:
  """Tight boxes: `[T, 4]` of (ymin, xmin, ymax, xmax), pixels, not clipped."""
  transforms = actor_transforms(scene, actor)
  corners = SHAPES[actor.action.shape] @ transforms[:, :, :2].transpose(0, 2, 1)
  corners += transforms[:, None, :, 2]
  low, high = corners.min(axis=1), corners.max(axis=1)
  return np.concatenate([low[:, ::-1], high[:, ::-1]], axis=1)


# --- Drawing --------------------------------------------------------------------------


def _texture(name: str, side: int, color: tuple[int, int, int]) -> np.ndarray:
  y, x = np.mgrid[:side, :side] * (6 * np.pi / side)
  mark = {
    'plain': np.zeros((side, side), bool),
    'striped': np.sin(2 * y) > 0.35,
    'dotted': np.sin(2 * x) * np.sin(2 * y) > 0.4,
  }[name]
  return (np.where(mark[..., None], 0.78, 1.0) * np.array(color)).astype(np.uint8)


@dataclasses.dataclass(frozen=True, eq=False)
class _Sprite:
  """An object's picture: premultiplied `[S, S, 4]` uint8 RGBA, and where its corners lie.

  `to_shape` maps a pixel (x, y, 1) of the picture to the coordinates of `SHAPES`, as a
  `[3, 3]` matrix.
  """

  pixels: np.ndarray
  to_shape: np.ndarray


def _coverage(corners: np.ndarray, side: int) -> np.ndarray:
  """Share of each pixel inside a polygon: `[side, side]` float in [0, 1].

  OpenCV's own antialiased fill spreads a pixel beyond the polygon; this one doesn't.
  """
  fine = np.zeros((_FINE * side, _FINE * side), np.uint8)
  at = _FINE * corners + (_FINE - 1) / 2
  cv2.fillPoly(fine, [np.round(at * 16).astype(np.int32)], (255,), cv2.LINE_8, 4)
  return cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA) / 255.0


def _sprite(actor: Actor, pixels_per_unit: float, dark: bool) -> _Sprite:
  corners = SHAPES[actor.action.shape]
  side = 2 * int(np.ceil(pixels_per_unit * np.abs(corners).max())) + 5
  middle = (side - 1) / 2
  outline = corners * pixels_per_unit + middle
  alpha = _coverage(outline, side)
  inside = _coverage((outline - middle) * 0.84 + middle, side)[..., None]
  color = inside * _texture(actor.texture, side, COLORS[actor.color][dark])
  color += (1 - inside) * np.array(_OUTLINE_ON_LIGHT if dark else _OUTLINE_ON_DARK)
  color *= alpha[..., None]
  unit = 1 / pixels_per_unit
  to_shape = np.array([[unit, 0, -middle * unit], [0, unit, -middle * unit], [0, 0, 1]])
  return _Sprite(np.dstack([color, 255 * alpha]).astype(np.uint8), to_shape)


def _paste(
  frame: np.ndarray, sprite: _Sprite, transform: np.ndarray, box: np.ndarray
) -> None:
  """Draws a sprite into a frame, looking only at the pixels of its box."""
  height, width = frame.shape[:2]
  top, left = np.maximum(np.floor(box[:2]).astype(int) - 1, 0)
  bottom, right = np.minimum(np.ceil(box[2:]).astype(int) + 2, (height, width))
  if top >= bottom or left >= right:
    return
  matrix = transform @ sprite.to_shape
  # Boxes and transforms have pixel edges at integers, images pixel centers.
  matrix[:, 2] -= (left + 0.5, top + 0.5)
  patch = cv2.warpAffine(sprite.pixels, matrix, (int(right - left), int(bottom - top)))
  under = frame[top:bottom, left:right]
  keep = cv2.merge([255 - patch[..., 3]] * 3)
  under[:] = cv2.add(cv2.multiply(under, keep, scale=1 / 255), patch[..., :3].copy())


def _background(scene: Scene, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """The surface at the video's scale, and where its shown part is centered, (x, y)."""
  side = round(scene.width / scene.zoom)
  pixels = surface(seed, scene.background).pixels
  pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
  half = np.array([scene.width, scene.height]) / 2 + 0.05 * scene.height
  return pixels, half + np.array(scene.corner) * np.maximum(side - 2 * half, 0)


def _light(scene: Scene, config: Config) -> np.ndarray | None:
  """Factors of the frames' pixels, broadcast to `[T, H, W, 3]`; None of plain light."""
  if not config.daylight and not config.light_cycle:
    return None
  light = 1 - config.daylight * np.linspace(0, 1, scene.height)[:, None, None]
  if not config.light_cycle:
    return np.broadcast_to(light, (scene.frames, *light.shape))
  turn = 2 * np.pi * np.arange(scene.frames) / (scene.fps * config.light_cycle)
  angle = scene.light_phase + turn[:, None] + 2 * np.pi * np.arange(3) / 3
  return light * (0.7 + 0.3 * np.cos(angle))[:, None, None]


def render(scene: Scene, config: Config) -> Iterator[np.ndarray]:
  """Yields the frames of a video, `[height, width, 3]` uint8 RGB."""
  pixels, middle = _background(scene, config.seed)
  dark = surface(config.seed, scene.background).light
  drawn = []
  for actor in scene.actors:
    scale = actor_trajectory(scene, actor).scale.max()
    sprite = _sprite(actor, scale * actor.size * scene.height, dark)
    drawn.append((sprite, actor_transforms(scene, actor), actor_boxes(scene, actor)))
  light = _light(scene, config)
  for number, offset in enumerate(camera_offset(scene)):
    at = tuple(middle - offset)
    frame = cv2.getRectSubPix(pixels, (scene.width, scene.height), at)
    for sprite, transforms, boxes in drawn:
      _paste(frame, sprite, transforms[number], boxes[number])
    yield frame if light is None else (frame * light[number]).astype(np.uint8)

"""Rival loaders: what a careful PyTorch user writes for CVRL, without TensorFlow.

They read folders of JPEG files, each opened alone, and return the two clips of a video as
[2, T, H, W, 3] float32 in [0, 1].
"""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Load = Callable[[int], np.ndarray]
Shape = tuple[int, ...]
STRIDE = 2
AREA, ASPECT = (0.3, 1.0), (0.5, 2.0)
# Brightness, contrast and saturation by up to 0.8, hue by up to 0.2 of a turn.
STRENGTH, HUE = 0.8, 0.2


def intervals(rng: np.random.Generator, length: int, steps: int) -> tuple[int, int]:
  """Starts of two clips whose distance has CVRL's linearly decreasing density."""
  room = length - (steps - 1) * STRIDE
  distance = int(room * (1 - np.sqrt(1 - rng.random())))
  first = int(rng.integers(max(1, room - distance)))
  pair = (first, first + distance)
  return pair if rng.random() < 0.5 else pair[::-1]


def crop_window(
  rng: np.random.Generator, height: int, width: int
) -> tuple[int, int, int, int]:
  """Top, left, height and width of a random resized crop; ten attempts, then all."""
  for _ in range(10):
    area = height * width * rng.uniform(*AREA)
    aspect = rng.uniform(*ASPECT)
    h, w = round(np.sqrt(area / aspect)), round(np.sqrt(area * aspect))
    if h <= height and w <= width:
      top = int(rng.integers(height - h + 1))
      return top, int(rng.integers(width - w + 1)), h, w
  return 0, 0, height, width


class Files:
  """The videos of a folder and the frames that a sample takes."""

  def __init__(self, folder: pathlib.Path):
    self._videos = [sorted(video.iterdir()) for video in sorted(folder.iterdir())]

  def sample(
    self, rng: np.random.Generator, number: int, steps: int
  ) -> list[list[pathlib.Path]]:
    """Paths of the frames of both clips."""
    frames = self._videos[number % len(self._videos)]
    starts = intervals(rng, len(frames), steps)
    return [
      [frames[(start + STRIDE * i) % len(frames)] for i in range(steps)]
      for start in starts
    ]


def load(
  files: Files,
  shape: Shape,
  augment: Callable[
    [np.random.Generator, Sequence[pathlib.Path], Shape, int], np.ndarray
  ],
  number: int,
) -> np.ndarray:
  """Sample `number` of a stream."""
  rng = np.random.default_rng(number)
  clips = files.sample(rng, number, shape[0])
  return np.stack([augment(rng, clip, shape, view) for view, clip in enumerate(clips)])


# --- OpenCV ---------------------------------------------------------------------------


def opencv_crops(
  rng: np.random.Generator, frames: Sequence[pathlib.Path], shape: Shape
) -> np.ndarray:
  """[T, H, W, 3] uint8 RGB: decoded, cropped, resized, flipped."""
  import cv2

  _, height, width, _ = shape
  flip, window = rng.random() < 0.5, None
  clip = np.empty(shape, np.uint8)
  for target, path in zip(clip, frames, strict=True):
    image: Any = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    window = window or crop_window(rng, *image.shape[:2])
    top, left, h, w = window
    image = cv2.resize(image[top : top + h, left : left + w], (width, height))
    if flip:
      image = cv2.flip(image, 1)
    cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=target)
  return clip


def opencv_float(
  rng: np.random.Generator, frames: Sequence[pathlib.Path], shape: Shape, view: int
) -> np.ndarray:
  """Colour operations in floating point, each clipped, as the Model Garden's are."""
  import cv2

  clip = opencv_crops(rng, frames, shape)
  steps, height, width, _ = shape
  # Frames below each other are one image to the colour operations.
  image: Any = clip.reshape(steps * height, width, 3).astype(np.float32)
  image *= np.float32(1 / 255)
  if rng.random() < 0.8:
    image = _jitter_float(rng, image)
  if rng.random() < 0.2:
    image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
  result = image.reshape(shape)
  if rng.random() < (1.0, 0.1)[view % 2]:
    sigma = rng.uniform(0.1, 2.0)
    # 3 sigma to either side; OpenCV would take 4 of a float image.
    taps = 2 * int(np.ceil(3 * sigma)) + 1
    for frame in result:
      cv2.GaussianBlur(frame, (taps, taps), sigma, dst=frame)
  if view % 2 and rng.random() < 0.2:
    result = np.where(result < 0.5, result, 1 - result)
  return np.clip(result, 0, 1, out=result)


def _jitter_float(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  import cv2

  for operation in rng.permutation(4):
    if operation == 3:
      turn = 360 * rng.uniform(-HUE, HUE)
      hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
      hsv[..., 0] = np.mod(hsv[..., 0] + np.float32(turn), np.float32(360))
      image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
      continue
    factor = np.float32(rng.uniform(1 - STRENGTH, 1 + STRENGTH))
    if operation == 0:
      image *= factor
    elif operation == 1:
      mean = np.array(cv2.mean(image)[:3], np.float32)
      image = cv2.transform(
        image, np.concatenate([np.eye(3) * factor, mean[:, None] * (1 - factor)], 1)
      )
    else:
      hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
      hsv[..., 1] = np.clip(hsv[..., 1] * factor, 0, 1)
      image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    np.clip(image, 0, 1, out=image)
  return image


def opencv_uint8(
  rng: np.random.Generator, frames: Sequence[pathlib.Path], shape: Shape, view: int
) -> np.ndarray:
  """Colour operations on 8 bits, by lookup table where one does."""
  import cv2

  clip = opencv_crops(rng, frames, shape)
  steps, height, width, _ = shape
  image = clip.reshape(steps * height, width, 3)
  if rng.random() < 0.8:
    image = _jitter_uint8(rng, image)
  if rng.random() < 0.2:
    image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
  clip = image.reshape(shape)
  if rng.random() < (1.0, 0.1)[view % 2]:
    sigma = rng.uniform(0.1, 2.0)
    for frame in clip:
      cv2.GaussianBlur(frame, (0, 0), sigma, dst=frame)
  if view % 2 and rng.random() < 0.2:
    levels = np.arange(256)
    table = np.where(levels < 128, levels, 255 - levels).astype(np.uint8)
    clip = cv2.LUT(clip.reshape(image.shape), table).reshape(shape)
  result = clip.astype(np.float32)
  result *= np.float32(1 / 255)
  return result


def _jitter_uint8(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  import cv2

  levels = np.arange(256, dtype=np.float32)
  for operation in rng.permutation(4):
    if operation == 3:
      # OpenCV's 8-bit hue has 180 steps.
      turn = round(180 * rng.uniform(-HUE, HUE))
      tables = np.stack([np.mod(levels + turn, 180), levels, levels], -1)
      image = _through_hsv(image, tables)
      continue
    factor = rng.uniform(1 - STRENGTH, 1 + STRENGTH)
    if operation == 2:
      tables = np.stack([levels, np.clip(levels * factor, 0, 255), levels], -1)
      image = _through_hsv(image, tables)
      continue
    means = np.array(cv2.mean(image)[:3]) if operation == 1 else np.zeros(3)
    tables = np.clip(levels[:, None] * factor + means * (1 - factor), 0, 255)
    image = cv2.LUT(image, tables.astype(np.uint8)[None])
  return image


def _through_hsv(image: np.ndarray, tables: np.ndarray) -> np.ndarray:
  import cv2

  hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
  hsv = cv2.LUT(hsv, tables.astype(np.uint8)[None])
  return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _opencv(augment: Callable) -> Callable[[pathlib.Path, Shape], Load]:
  def make(folder: pathlib.Path, shape: Shape) -> Load:
    one_thread()
    return functools.partial(load, Files(folder), shape, augment)

  return make


def one_thread(worker: int = 0) -> None:
  """Turns OpenCV's own threads off: samples are made in parallel, not frames."""
  import cv2

  del worker
  cv2.setNumThreads(0)


# --- PIL ------------------------------------------------------------------------------


def pil_clip(
  rng: np.random.Generator, frames: Sequence[pathlib.Path], shape: Shape, view: int
) -> np.ndarray:
  """Everything on Pillow images, frame by frame, with the same draws for a clip."""
  from PIL import Image, ImageFilter, ImageOps

  _, height, width, _ = shape
  flip, window = rng.random() < 0.5, None
  images = []
  for path in frames:
    with Image.open(path) as file:
      image = file.convert('RGB')
    window = window or crop_window(rng, image.height, image.width)
    top, left, h, w = window
    box = (left, top, left + w, top + h)
    image = image.resize((width, height), Image.Resampling.BILINEAR, box)
    images.append(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image)
  operations: list[Callable[[Any], Any]] = []
  if rng.random() < 0.8:
    operations += _jitter_pil(rng)
  if rng.random() < 0.2:
    operations.append(lambda image: image.convert('L').convert('RGB'))
  if rng.random() < (1.0, 0.1)[view % 2]:
    blur = ImageFilter.GaussianBlur(rng.uniform(0.1, 2.0))
    operations.append(lambda image: image.filter(blur))
  if view % 2 and rng.random() < 0.2:
    operations.append(ImageOps.solarize)
  for operation in operations:
    images = [operation(image) for image in images]
  clip = np.stack([np.asarray(image) for image in images]).astype(np.float32)
  clip *= np.float32(1 / 255)
  return clip


def _jitter_pil(rng: np.random.Generator) -> list[Callable[[Any], Any]]:
  from PIL import Image, ImageEnhance

  turn = round(255 * rng.uniform(-HUE, HUE))
  table = [(level + turn) % 256 for level in range(256)]

  def hue(image: Any) -> Any:
    h, s, v = image.convert('HSV').split()
    return Image.merge('HSV', (h.point(table), s, v)).convert('RGB')

  operations: list[Callable[[Any], Any]] = []
  enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
  for operation in rng.permutation(4):
    factor = rng.uniform(1 - STRENGTH, 1 + STRENGTH)
    operations.append(
      hue if operation == 3 else functools.partial(_enhance, enhancers[operation], factor)
    )
  return operations


def _enhance(enhancer: Any, factor: float, image: Any) -> Any:
  return enhancer(image).enhance(factor)


def _pil(folder: pathlib.Path, shape: Shape) -> Load:
  return functools.partial(load, Files(folder), shape, pil_clip)


LOADERS: dict[str, Callable[[pathlib.Path, Shape], Load]] = {
  'opencv_float': _opencv(opencv_float),
  'opencv_uint8': _opencv(opencv_uint8),
  'pil': _pil,
}


# --- PyTorch --------------------------------------------------------------------------


class Samples:
  """The float32 OpenCV loader as a PyTorch dataset; draws differ from item to item."""

  def __init__(self, folder: pathlib.Path, shape: Shape, length: int = 1_000_000):
    self._load = LOADERS['opencv_float'](folder, shape)
    self._length = length

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, number: int) -> np.ndarray:
    return self._load(number)


def cpu_seconds(processes: Sequence[int]) -> float:
  """Processor time that running processes have used so far."""
  import psutil

  times = [psutil.Process(process).cpu_times() for process in processes]
  return sum(time.user + time.system for time in times)

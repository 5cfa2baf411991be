"""The loop of a siamese tracker.

Source: SiamFC, arXiv 1606.09549, section 4.
"""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from official.video.augment import squares
from official.video.configs import tasks as task_config
from official.video.tracking import sequences

# A target's sides, in its first ones: it is followed no further.
LEAST_SIZE, MOST_SIZE = 0.2, 5.0


@dataclasses.dataclass
class Target:
  """Where a tracker believes its target to be.

  Attributes:
    center: [2] row and column, in pixels from the first pixel's centre.
    size: [2] height and width in pixels.
    side: of the square about target and context.
  """

  center: np.ndarray
  size: np.ndarray
  side: float

  @classmethod
  def of_box(cls, box: np.ndarray, context: float) -> 'Target':
    """The target in a box: left, top, width, height, the first pixel being 1."""
    left, top, width, height = np.asarray(box, np.float64)
    center = np.array([top - 1 + (height - 1) / 2, left - 1 + (width - 1) / 2])
    side = float(squares.context_side(height, width, context))
    return cls(center, np.array([height, width]), side)

  @property
  def box(self) -> np.ndarray:
    """Left, top, width, height, the first pixel being 1."""
    top_left = self.center + 1 - (self.size - 1) / 2
    return np.array([top_left[1], top_left[0], self.size[1], self.size[0]])


class SiameseTracker:
  """Follows a box: the response to several sizes of search image, smoothed by a window."""

  def __init__(
    self,
    embed: Callable[[tf.Tensor], tf.Tensor],
    respond: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    config: task_config.Tracker,
    search_size: int,
  ):
    """Initializes the tracker.

    Args:
      embed: an exemplar, uint8 `[1, z, z, 3]`, to what `respond` takes of it.
      respond: that and search images uint8 `[S, x, x, 3]` to responses `[S, r, r]`.
      config: of the loop.
      search_size: x in pixels.
    """
    self._embed, self._respond, self._config = embed, respond, config
    self._search = search_size
    self._exemplar_size = squares.exemplar_size(search_size)
    half = config.num_scales // 2
    steps = np.linspace(-half, half, config.num_scales)
    self._scales = np.float64(config.scale_step) ** steps

  def start(self, image: np.ndarray, box: np.ndarray) -> None:
    """Takes the target of the first frame; `box` is left, top, width, height from 1."""
    self.target = Target.of_box(box, self._config.context)
    self._first_size = self.target.size
    crop = self._crops(image, np.array([self.target.side]), self._exemplar_size)
    self._exemplar = self._embed(crop)

  def follow(self, image: np.ndarray) -> np.ndarray:
    """Finds the target in the next frame; returns its box."""
    sides = self.target.side * self._search / self._exemplar_size * self._scales
    crops = self._crops(image, sides, self._search)
    responses = np.asarray(self._respond(self._exemplar, crops), np.float64)
    best, offset = self._strongest(responses)
    center = self.target.center + offset * sides[best] / self._search
    self.target.center = np.clip(center, 0, np.array(image.shape[:2]) - 1)
    self._grow(self._scales[best])
    return self.target.box

  def _crops(self, image: np.ndarray, sides: np.ndarray, size: int) -> tf.Tensor:
    return squares.square_crops(
      tf.constant(image),
      tf.constant(self.target.center, tf.float32),
      tf.constant(sides, tf.float32),
      size,
    )

  def _strongest(self, responses: np.ndarray) -> tuple[int, np.ndarray]:
    """Which scale responds most, and where: pixels from the search image's centre."""
    config, cells = self._config, responses.shape[-1]
    size = cells * config.upsampling
    large = tf.image.resize(responses[..., None], [size, size], 'bicubic')[..., 0].numpy()
    large[np.arange(len(large)) != len(large) // 2] *= config.scale_penalty
    best = int(large.max((1, 2)).argmax())
    from_middle = _peak(large[best], config.window_influence) - (size - 1) / 2
    stride = (self._search - self._exemplar_size) / (cells - 1)
    return best, from_middle * stride / config.upsampling

  def _grow(self, scale: float) -> None:
    """Follows a change of size, as far as the config says and the bounds let it."""
    rate, before = self._config.scale_rate, self.target.size
    bounds = LEAST_SIZE * self._first_size, MOST_SIZE * self._first_size
    self.target.size = np.clip(before * (1 - rate + rate * scale), *bounds)
    self.target.side *= float(np.sqrt(np.prod(self.target.size / before)))


def _peak(response: np.ndarray, influence: float) -> np.ndarray:
  """[2] row and column of the largest response under a cosine window.

  Args:
    response: [N, N].
    influence: share of the window; the response, from its least on, has the rest.
  """
  response = response - response.min()
  response = response / (response.sum() + np.finfo(np.float32).tiny)
  window = np.outer(np.hanning(len(response)), np.hanning(len(response)))
  smooth = (1 - influence) * response + influence * window / window.sum()
  return np.array(np.unravel_index(smooth.argmax(), smooth.shape))


def _scaled(box: np.ndarray, factor: float) -> np.ndarray:
  """A box in an image of another size; the first pixel is 1 in either."""
  return np.concatenate([(box[:2] - 1) * factor + 1, box[2:] * factor])


def follow(
  tracker: SiameseTracker, sequence: sequences.Sequence
) -> tuple[np.ndarray, np.ndarray]:
  """Follows a sequence from its first box.

  Returns:
    [T, 4] boxes in pixels of the source, the first one being the annotated one; and [T]
    seconds that each frame took.
  """
  boxes, seconds = [sequence.boxes[0]], []
  shrunk = 1.0
  for number, encoded in enumerate(sequence.frames):
    began = time.perf_counter()
    image = tf.io.decode_image(encoded, 3, expand_animations=False).numpy()
    if number == 0:
      shrunk = image.shape[1] / (sequence.width or image.shape[1])
      tracker.start(image, _scaled(sequence.boxes[0], shrunk))
    else:
      boxes.append(_scaled(tracker.follow(image), 1 / shrunk))
    seconds.append(time.perf_counter() - began)
  return np.array(boxes), np.array(seconds)

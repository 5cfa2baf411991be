"""Region generators: which boxes of a view a method looks at.

Boxes are float32 `[N, 4]` (top, left, bottom, right) as shares of the view, N fixed, with
a mask of those that hold something. Each draw has a stream of its own. Boxes that are
annotated follow the view's crop and flip; the others are made in the view.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import gin
import numpy as np
import tensorflow as tf

from official.video import draws, extras, registry
from official.video.augment import geometric
from official.video.configs import data as data_config
from official.video.data import records

# Ends of random boxes stay below 1, as they were published.
_LIMIT = 1.0 - 1e-3
ANNOTATION_KEYS = (
  records.BBOX_YMIN,
  records.BBOX_XMIN,
  records.BBOX_YMAX,
  records.BBOX_XMAX,
  records.REGION_TIMESTAMP,
  records.REGION_TRACK_INDEX,
  records.IMAGE_TIMESTAMP,
)


class Shown(NamedTuple):
  """A view of a clip, at its key frame.

  Attributes:
    key: int32 [2], of the view; all views of a clip have another.
    clip_key: int32 [2], the same for all views of a clip.
    image: uint8 `[H, W, 3]`, the key frame of the view.
    window: int32 [4], the crop in the stored frame.
    flip: bool, whether it is mirrored.
    size: height and width of the stored frame in pixels.
    boxes: float32 `[R, 4]`, annotated in the stored frame; R = 0 without annotations.
    tracks: int64 `[R]`, their identities; -1 where not annotated.
  """

  key: tf.Tensor
  clip_key: tf.Tensor
  image: tf.Tensor
  window: tf.Tensor
  flip: tf.Tensor
  size: tuple[tf.Tensor, tf.Tensor]
  boxes: tf.Tensor
  tracks: tf.Tensor


class RegionGenerator(Protocol):
  """Makes the boxes of a view.

  Attributes:
    annotated: whether it takes the record's boxes.
  """

  annotated: bool

  def __call__(self, view: Shown, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 `[count, 4]` boxes and bool `[count]`: which of them hold something."""


@gin.configurable
class RandomRegions:
  """Boxes anywhere in the view, of random size and shape.

  Left and top are uniform in the view, the width is uniform in `width_range` and the
  height over the width in `aspect_range`; what sticks out is cut off.

  Source: arXiv 2112.05181, section 4.1; `reference_compatible` lets one draw stand for
  all four, as the Model Garden's code does: all boxes then begin on the diagonal.
  """

  annotated = False

  def __init__(
    self,
    width_range: tuple[float, float] = (0.1, 0.5),
    aspect_range: tuple[float, float] = (0.5, 2.0),
    reference_compatible: bool = False,
  ):
    self._ranges = {'width': width_range, 'aspect': aspect_range}
    self._reference_compatible = reference_compatible

  def _draw(self, key: tf.Tensor, name: str, count: int) -> tf.Tensor:
    low, high = self._ranges.get(name, (0.0, 1.0))
    name = 'regions' if self._reference_compatible else f'regions/{name}'
    return draws.uniform(key, name, [count], low, high)

  def __call__(self, view: Shown, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws every box by itself; all are valid."""
    left, top, width, aspect = (
      self._draw(view.key, name, count) for name in ('left', 'top', 'width', 'aspect')
    )
    # So that no box is cut down to nothing.
    left, top = (tf.minimum(x, _LIMIT - 1e-3) for x in (left, top))
    bottom = tf.minimum(top + width * aspect, _LIMIT)
    right = tf.minimum(left + width, _LIMIT)
    boxes = tf.stack([top, left, bottom, right], -1)
    return boxes, tf.ones([count], tf.bool)


class GridRegions:
  """The cells of a grid that covers the view, as square as their number allows."""

  annotated = False

  def __call__(self, view: Shown, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Cells row by row; all are valid."""
    del view
    rows = max(r for r in range(1, int(count**0.5) + 1) if count % r == 0)
    columns = count // rows
    top, left = np.divmod(np.arange(count), columns)
    begin = np.stack([top / rows, left / columns], 1)
    boxes = np.concatenate([begin, begin + np.array([1 / rows, 1 / columns])], 1)
    return tf.constant(boxes, tf.float32), tf.ones([count], tf.bool)


def _moved(view: Shown, min_visible: float) -> tuple[tf.Tensor, tf.Tensor]:
  """The annotated boxes in the view, and whether enough of each is seen."""
  boxes, inside = geometric.transform_boxes(view.boxes, view.window, view.size, view.flip)
  height, width = (tf.cast(side, tf.float32) for side in view.size)
  window = tf.cast(view.window, tf.float32)
  share = window[2] * window[3] / (height * width)
  seen = _area(boxes) * share
  return boxes, inside & (seen >= min_visible * _area(view.boxes))


def _area(boxes: tf.Tensor) -> tf.Tensor:
  sides = boxes[..., 2:] - boxes[..., :2]
  return sides[..., 0] * sides[..., 1]


def _in_slots(
  boxes: tf.Tensor, valid: tf.Tensor, order: tf.Tensor, count: int
) -> tuple[tf.Tensor, tf.Tensor]:
  """The first `count` boxes of an order; empty places are whole-view boxes, invalid."""
  boxes, valid = tf.gather(boxes, order[:count]), tf.gather(valid, order[:count])
  missing = count - tf.shape(boxes)[0]
  boxes = tf.pad(tf.where(valid[:, None], boxes, 0.0), [[0, missing], [0, 0]])
  valid = tf.pad(valid, [[0, missing]])
  whole = tf.constant([0.0, 0.0, 1.0, 1.0])
  boxes = tf.where(valid[:, None], boxes, whole)
  return tf.ensure_shape(boxes, [count, 4]), tf.ensure_shape(valid, [count])


@gin.configurable
class AnnotatedRegions:
  """The boxes that the record has for the key frame, those that the view shows.

  Each view takes them in an order of its own; what is too many is left out, other ones
  each time.
  """

  annotated = True

  def __init__(self, min_visible: float = 0.25):
    """Initializes the generator.

    Args:
      min_visible: share of a box that the crop must show.
    """
    self._min_visible = min_visible

  def __call__(self, view: Shown, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Visible boxes first, in random order."""
    boxes, valid = _moved(view, self._min_visible)
    rank = _random_rank(view.key, tf.shape(boxes)[0]) + tf.where(valid, 0.0, 1.0)
    return _in_slots(boxes, valid, tf.argsort(rank), count)


@gin.configurable
class TrackedRegions:
  """Annotated boxes, where place i is the same object in all views of a clip."""

  annotated = True

  def __init__(self, min_visible: float = 0.25):
    """Initializes the generator.

    Args:
      min_visible: share of a box that the crop must show.
    """
    self._min_visible = min_visible

  def __call__(self, view: Shown, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """By identity: object t takes place t, or, if there are many, one drawn for it."""
    boxes, valid = _moved(view, self._min_visible)
    valid &= view.tracks >= 0
    tracks = tf.cast(view.tracks, tf.int32)
    offset = draws.integer(view.clip_key, 'tracks', count)
    place = tf.math.floormod(tracks + offset, count)
    # Where two share a place, the one of the lower number has it.
    taken = (
      (place[:, None] == place[None]) & valid[None] & (tracks[None] < tracks[:, None])
    )
    valid &= ~tf.reduce_any(taken, 1)
    slots = tf.where(valid, place, count)
    order = tf.tensor_scatter_nd_update(
      tf.fill([count + 1], -1), slots[:, None], tf.range(tf.size(slots))
    )[:count]
    found = order >= 0
    whole = tf.constant([0.0, 0.0, 1.0, 1.0])
    padded = tf.concat([boxes, whole[None]], 0)
    chosen = tf.gather(padded, tf.where(found, order, tf.shape(boxes)[0]))
    return tf.ensure_shape(chosen, [count, 4]), found


def _random_rank(key: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
  """A float32 `[count]` random number in [0, 1) for each, `count` being a tensor."""
  keys = tf.map_fn(
    lambda i: draws.uniform(draws.fold(key, i), 'order'),
    tf.range(count),
    fn_output_signature=tf.TensorSpec([], tf.float32),
  )
  return tf.reshape(keys, [-1])


@gin.configurable
class SuperpixelRegions:
  """The boxes around superpixels (SLIC) of the view's key frame.

  Runs on the host, in Python, on the key frame alone; without chance but for the choice
  among superpixels where there are more than asked for.

  Source: SLIC, Achanta et al. 2012, by scikit-image.
  """

  annotated = False

  def __init__(self, segments: int = 16, compactness: float = 10.0, size: int = 64):
    """Initializes the generator.

    Args:
      segments: about how many superpixels the key frame has.
      compactness: weight of distance against colour.
      size: longer side in pixels that the frame is looked at.
    """
    extras.require('regions', 'regions.generator superpixels')
    self._segments, self._compactness, self._size = segments, compactness, size

  def _boxes(self, image: np.ndarray, order: np.ndarray, count: int):
    from skimage import segmentation

    step = max(1, -(-max(image.shape[:2]) // self._size))
    image = image[::step, ::step]
    labels = segmentation.slic(
      image, self._segments, self._compactness, start_label=0, channel_axis=-1
    )
    height, width = labels.shape
    boxes = []
    for label in range(labels.max() + 1):
      rows, columns = np.nonzero(labels == label)
      box = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
      boxes.append(np.divide(box, [height, width, height, width]))
    rank = np.resize(order, len(boxes))
    kept = np.asarray(boxes, np.float32)[np.argsort(rank, kind='stable')[:count]]
    missing = count - len(kept)
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (missing, 1))
    return np.concatenate([kept, whole]), np.arange(count) < len(kept)

  def __call__(self, view: Shown, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Superpixels in random order; those that are missing are invalid."""
    order = draws.uniform(view.key, 'superpixels', [4 * self._segments])
    boxes, valid = tf.numpy_function(
      lambda image, order: self._boxes(image, order, count),
      [view.image, order],
      [tf.float32, tf.bool],
      stateful=False,
    )
    return tf.ensure_shape(boxes, [count, 4]), tf.ensure_shape(valid, [count])


GENERATORS: registry.Registry[Callable[..., RegionGenerator]] = registry.Registry(
  'regions.generator',
  {
    'random': RandomRegions,
    'grid': GridRegions,
    'boxes': AnnotatedRegions,
    'tracks': TrackedRegions,
    'superpixels': SuperpixelRegions,
  },
)


def build_generator(config: data_config.Regions) -> RegionGenerator:
  """The generator that a config names.

  Raises:
    UserError: there is none of that name.
  """
  generator = GENERATORS.find(config.generator)
  if config.generator == 'random' and config.reference_compatible is not None:
    return generator(reference_compatible=config.reference_compatible)
  return generator()


def annotations_at(
  clip: Mapping[str, tf.Tensor], frame: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """The boxes that are annotated next in time to a frame.

  Args:
    clip: a parsed record with `ANNOTATION_KEYS`.
    frame: index of the stored frame.

  Returns:
    float32 `[R, 4]` boxes and int64 `[R]` track numbers, -1 where there are none; R = 0
    where the record has no boxes.
  """
  times = clip[records.REGION_TIMESTAMP].flat_values
  tracks = clip[records.REGION_TRACK_INDEX]

  def none() -> tuple[tf.Tensor, tf.Tensor]:
    return tf.zeros([0, 4]), tf.zeros([0], tf.int64)

  def nearest() -> tuple[tf.Tensor, tf.Tensor]:
    time = clip[records.IMAGE_TIMESTAMP].flat_values[frame]
    step = tf.argmin(tf.abs(times - time))
    sides = [clip[key][step] for key in ANNOTATION_KEYS[:4]]
    boxes = tf.stack(sides, -1)
    known = tf.cond(
      tracks.nrows() > 0,
      lambda: tracks[step],
      lambda: tf.fill(tf.shape(boxes)[:1], tf.constant(-1, tf.int64)),
    )
    return boxes, known

  return tf.cond(tf.size(times) > 0, nearest, none)

"""Views of tracking: a target as it was, and where it is to be found again."""

from collections.abc import Mapping

import tensorflow as tf

from official.video import draws
from official.video.configs import data as data_config
from official.video.data import records, views
from official.video.errors import UserError

VIEWS = 'siamese'
# Frames that may lie between exemplar and search image, as in SiamFC's training.
MAX_GAP = 100
# Share of the target's sides about it; trackers default to the same.
CONTEXT = 0.5
_SIDES = (records.BBOX_YMIN, records.BBOX_XMIN, records.BBOX_YMAX, records.BBOX_XMAX)


def exemplar_size(search_size: int) -> int:
  """Pixels of the exemplar that go with a search image: 127 with 255."""
  return (search_size + 1) // 2 - 1


def context_side(height: tf.Tensor, width: tf.Tensor, context: float) -> tf.Tensor:
  """Side of the square about a target and its context, in pixels."""
  margin = context * (height + width)
  return tf.sqrt((height + margin) * (width + margin))


def square_crops(
  image: tf.Tensor, center: tf.Tensor, sides: tf.Tensor, size: int
) -> tf.Tensor:
  """Cuts squares about a point and scales them; outside is the image's mean colour.

  Args:
    image: `[H, W, 3]` uint8.
    center: float32 [2] row and column; the first pixel's centre is 0, 0.
    sides: float32 `[S]` in pixels.
    size: of the result in pixels.

  Returns:
    uint8 `[S, size, size, 3]`.
  """
  image = tf.cast(image, tf.float32)
  mean = tf.reduce_mean(image, [0, 1])
  last = tf.cast(tf.shape(image)[:2] - 1, tf.float32)
  half = (sides[:, None] - 1) / 2
  boxes = tf.concat([(center - half) / last, (center + half) / last], 1)
  crops = tf.image.crop_and_resize(
    (image - mean)[None], boxes, tf.zeros_like(sides, tf.int32), [size, size]
  )
  return tf.cast(tf.clip_by_value(tf.round(crops + mean), 0, 255), tf.uint8)


@views.VIEW_MAKERS.register(VIEWS)
class SiameseViewMaker(views.ViewMaker):
  """An exemplar and a search image of one target, both centred on it.

  Search images are `feature_shape` large and show twice the exemplar's side. The frames
  lie at most `MAX_GAP` apart; frames without a box are not taken.
  """

  fields = (*_SIDES, records.REGION_TIMESTAMP, records.IMAGE_TIMESTAMP)

  def __init__(self, config: data_config.DataConfig):
    super().__init__(config)
    if config.num_views != 2 or config.num_test_clips:
      raise UserError(
        f'views {VIEWS!r}: num_views {config.num_views}, num_test_clips '
        f'{config.num_test_clips}; expected 2 and 0'
      )

  def training_sample(
    self, clip: Mapping[str, tf.Tensor], key: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Draws two frames and cuts the target out of them.

    Returns:
      'exemplar' uint8 [R, z, z, 3] and 'search' uint8 [R, x, x, 3].
    """
    search = self._config.feature_shape[1]
    size = exemplar_size(search)
    pairs = [self._pair(clip, k, size, search) for k in self.repeat_keys(key)]
    exemplars, searches = zip(*pairs, strict=True)
    return {'exemplar': tf.stack(exemplars), 'search': tf.stack(searches)}

  def _pair(
    self, clip: Mapping[str, tf.Tensor], key: tf.Tensor, size: int, search: int
  ) -> tuple[tf.Tensor, tf.Tensor]:
    boxes = tf.stack([clip[side].to_tensor()[:, 0] for side in _SIDES], -1)
    seen = tf.where(tf.reduce_all(boxes[:, 2:] > boxes[:, :2], -1))[:, 0]
    count = tf.size(seen)
    first = draws.integer(key, 'exemplar', count)
    low = tf.maximum(first - MAX_GAP, 0)
    high = tf.minimum(first + MAX_GAP + 1, count)
    second = low + draws.integer(key, 'search', high - low)
    return (
      self._crop(clip, boxes, seen[first], 1.0, size),
      self._crop(clip, boxes, seen[second], search / size, search),
    )

  def _crop(self, clip, boxes: tf.Tensor, step: tf.Tensor, scale: float, size: int):
    stamps = clip[records.IMAGE_TIMESTAMP].flat_values
    time = clip[records.REGION_TIMESTAMP].flat_values[step]
    frame = tf.argmin(tf.abs(stamps - time))
    image = tf.io.decode_image(clip['frames'][frame], 3, expand_animations=False)
    image.set_shape([None, None, 3])
    sides = tf.cast(tf.tile(tf.shape(image)[:2], [2]), tf.float32)
    box = boxes[step] * sides
    center = (box[:2] + box[2:] - 1) / 2
    side = context_side(box[2] - box[0], box[3] - box[1], CONTEXT) * scale
    crops = square_crops(image, center, side[None], size)
    return tf.ensure_shape(crops[0], [size, size, 3])

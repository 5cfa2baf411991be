"""Views of tracking: a target as it was, and where it is to be found again.

Which frames make a pair and how both are cut is what VINCE's tracker is trained on (arXiv
2003.07990, public code), after SiamFC (1606.09549). Boxes are float32 top, left, bottom,
right.
"""

from collections.abc import Mapping

import tensorflow as tf

from official.video import draws
from official.video.augment import squares
from official.video.configs import data as data_config
from official.video.data import decoding, records, views
from official.video.errors import UserError

VIEWS = 'siamese'
COVER = f'{records.EXTRA_PREFIX}cover'
_SIDES = (records.BBOX_YMIN, records.BBOX_XMIN, records.BBOX_YMAX, records.BBOX_XMAX)

# Annotated frames from the one of a pair to the other are fewer.
MAX_GAP = 100
# Largest change of size, and of place in pixels of the view: half a cell of the response.
STRETCH, SHIFT = 0.05, 4.0

# Targets that are trained on: sides in pixels of the stored frame, and as shares of it,
# the ratio of the sides, and the share of the target that is seen: more than so much, and
# than so much of what the sequence shows of it at best. GOT-10k gives it in eighths.
PIXELS = (20.0, 500.0)
SHARES = (0.01, 0.5)
MAX_ASPECT = 4.0
MIN_COVER, MIN_BEST_COVER = 1.0, 0.3


def plausible(boxes: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
  """Which targets are neither tiny, nor as large as the frame, nor too thin: bool [T].

  Args:
    boxes: `[T, 4]` in pixels.
    frame: float32 [2], height and width in pixels.
  """
  sizes = boxes[:, 2:] - boxes[:, :2]
  shares = sizes / frame
  inside = (sizes >= PIXELS[0]) & (sizes <= PIXELS[1])
  inside &= (shares >= SHARES[0]) & (shares <= SHARES[1])
  aspect = tf.reduce_max(sizes, 1) / tf.reduce_min(sizes, 1)
  return tf.reduce_all(inside, 1) & (aspect <= MAX_ASPECT)


def uncovered(cover: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
  """Which targets are seen well enough: bool `[count]`.

  Args:
    cover: string [1], an integer a line, eighths that are seen; or [0], for unknown.
    count: of targets; those that have no line are taken.
  """
  lines = tf.strings.split(tf.strings.reduce_join(cover))
  eighths = tf.strings.to_number(lines)
  least = tf.maximum(MIN_COVER, MIN_BEST_COVER * tf.reduce_max(eighths))
  return tf.concat([eighths > least, tf.fill([count], True)], 0)[:count]


def draw_pair(key: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Two steps less than `MAX_GAP` apart, the earlier one first.

  All such pairs are as likely. Where there is none, some step twice.

  Args:
    key: int32 [2].
    steps: int64 [N], rising; at least one.
  """
  count = tf.size(steps)
  before_gap = tf.searchsorted(steps, steps + MAX_GAP, out_type=tf.int32)
  partners = before_gap - tf.range(count) - 1  # Each step's, of the later ones.
  ends = tf.cumsum(partners)
  alone = ends[-1] == 0
  drawn = draws.integer(key, 'pair', tf.where(alone, count, ends[-1]))
  first = tf.searchsorted(ends, drawn[None], side='right')[0]
  first = tf.where(alone, drawn, first)
  later = tf.where(alone, 0, drawn - ends[first] + partners[first] + 1)
  return steps[first], steps[first + later]


def draw_square(
  key: tf.Tensor, box: tf.Tensor, scale: float, size: int
) -> tuple[tf.Tensor, tf.Tensor]:
  """The square that a view shows: about the target, stretched and shifted a little.

  Args:
    key: int32 [2].
    box: [4] in pixels.
    scale: side of the square, in sides of the one about target and context.
    size: of the view in pixels.

  Returns:
    Its centre [2], the first pixel's being 0, and its side in pixels.
  """
  height, width = tf.unstack(box[2:] - box[:2])
  stretch = draws.uniform(key, 'stretch', (), 1 - STRETCH, 1 + STRETCH)
  side = scale * squares.context_side(height, width, squares.CONTEXT) / stretch
  shift = draws.uniform(key, 'shift', (2,), -SHIFT, SHIFT)
  return (box[:2] + box[2:] - 1) / 2 + shift * side / size, side


@views.VIEW_MAKERS.register(VIEWS)
class SiameseViewMaker(views.ViewMaker):
  """An exemplar and a search image of one target, both about it.

  Search images are `feature_shape` large and show twice the exemplar's side. Each is
  stretched, shifted and, with `augmentation.flip_probability`, mirrored on its own. Frames
  without a box are not taken, nor those that `plausible` and `uncovered` refuse where two
  others are left.
  """

  fields = (*_SIDES, records.REGION_TIMESTAMP, records.IMAGE_TIMESTAMP, COVER)
  needs = dict.fromkeys(
    (records.BBOX_YMIN, records.REGION_TIMESTAMP),
    'convert with boxes: --source=got10k or --source=otb (docs/data_sets.md)',
  )
  places = True

  def __init__(self, config: data_config.DataConfig):
    super().__init__(config)
    if config.num_views != 2 or config.num_test_clips:
      raise UserError(
        f'views {VIEWS!r}: num_views {config.num_views}, num_test_clips '
        f'{config.num_test_clips}; expected 2 and 0'
      )
    self._search_size = config.feature_shape[1]
    self._exemplar_size = squares.exemplar_size(self._search_size)

  def training_sample(
    self, clip: Mapping[str, tf.Tensor], key: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Draws two frames and cuts the target out of them.

    Returns:
      'exemplar' uint8 [R, z, z, 3] and 'search' uint8 [R, x, x, 3].
    """
    frame = tf.cast(tf.stack(decoding.frame_size(clip['frames'])), tf.float32)
    shares = tf.stack([clip[side].to_tensor()[:, 0] for side in _SIDES], -1)
    boxes = shares * tf.tile(frame, [2])
    steps = self._steps(boxes, frame, clip[COVER])
    pairs = [self._pair(clip, k, boxes, steps) for k in self.repeat_keys(key)]
    exemplars, searches = zip(*pairs, strict=True)
    return {'exemplar': tf.stack(exemplars), 'search': tf.stack(searches)}

  def frames_taken(self, clip: Mapping[str, tf.Tensor], key: tf.Tensor) -> tf.Tensor:
    """None: they are drawn among the annotated steps, and each stands alone."""
    del clip, key
    return tf.zeros([0, 0], tf.int32)

  def _steps(self, boxes: tf.Tensor, frame: tf.Tensor, cover: tf.Tensor) -> tf.Tensor:
    """The annotated steps that pairs are drawn from."""
    present = tf.reduce_all(boxes[:, 2:] > boxes[:, :2], 1)
    good = present & plausible(boxes, frame) & uncovered(cover, tf.shape(boxes)[0])
    enough = tf.math.count_nonzero(good) > 1
    return tf.where(tf.where(enough, good, present))[:, 0]

  def _pair(
    self,
    clip: Mapping[str, tf.Tensor],
    key: tf.Tensor,
    boxes: tf.Tensor,
    steps: tf.Tensor,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    first, second = draw_pair(key, steps)
    sizes = self._exemplar_size, self._search_size
    exemplar, search = (
      self._view(clip, draws.fold(key, name), boxes[step], step, size)
      for name, step, size in zip(
        ('exemplar', 'search'), (first, second), sizes, strict=True
      )
    )
    return exemplar, search

  def _view(
    self,
    clip: Mapping[str, tf.Tensor],
    key: tf.Tensor,
    box: tf.Tensor,
    step: tf.Tensor,
    size: int,
  ) -> tf.Tensor:
    stamps = clip[records.IMAGE_TIMESTAMP].flat_values
    time = clip[records.REGION_TIMESTAMP].flat_values[step]
    number = tf.argmin(tf.abs(stamps - time))
    image = tf.io.decode_image(clip['frames'][number], 3, expand_animations=False)
    image.set_shape([None, None, 3])
    center, side = draw_square(key, box, size / self._exemplar_size, size)
    crop = squares.square_crops(image, center, side[None], size)[0]
    flip = draws.bernoulli(key, 'flip', self._config.augmentation.flip_probability)
    crop = tf.where(flip, tf.reverse(crop, [1]), crop)
    return tf.ensure_shape(crop, [size, size, 3])

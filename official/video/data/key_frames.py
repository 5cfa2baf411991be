"""Views of annotated key frames: a clip about the frame, its boxes and their labels."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from official.video.augment import geometric
from official.video.configs import data as data_config
from official.video.data import decoding, records, views
from official.video.errors import UserError
from official.video.heads.regions import key_frame

VIEWS = 'key_frame'
# Labels of one box; AVA has up to 8 or so.
MAX_LABELS = 16
# Bytes of a key frame's name, which batches carry as numbers.
NAME_BYTES = 64
_SIDES = (records.BBOX_YMIN, records.BBOX_XMIN, records.BBOX_YMAX, records.BBOX_XMAX)
FIELDS = (
  *_SIDES,
  records.REGION_TIMESTAMP,
  records.REGION_LABEL_INDEX,
  *(f'detected/{key}' for key in _SIDES),
  records.DETECTED_SCORE,
  records.IMAGE_TIMESTAMP,
  records.MEDIA_ID,
)


class LabelledBoxes(NamedTuple):
  """Boxes with all their labels.

  Attributes:
    boxes: float32 `[N, 4]` top, left, bottom, right as shares of the frame.
    valid: bool `[N]`.
    labels: int64 `[N, MAX_LABELS]` class ids, -1 where there are no more.
  """

  boxes: tf.Tensor
  valid: tf.Tensor
  labels: tf.Tensor


def grouped(boxes: tf.Tensor, labels: tf.Tensor, count: int) -> LabelledBoxes:
  """Gathers the labels of equal boxes, which lists give a row each.

  Args:
    boxes: float32 `[R, 4]`.
    labels: int64 `[R]`.
    count: boxes to return; the first ones are kept.
  """
  rows = tf.shape(boxes)[0]
  equal = tf.reduce_all(boxes[:, None] == boxes[None], -1)
  first = tf.reduce_min(tf.where(equal, tf.range(rows)[None], rows), 1)
  is_first = first == tf.range(rows)
  slot = tf.gather(tf.cumsum(tf.cast(is_first, tf.int32)) - 1, first)
  before = tf.linalg.band_part(tf.cast(equal, tf.int32), -1, 0) - tf.eye(
    rows, dtype=tf.int32
  )
  place = tf.reduce_sum(before, 1)
  kept = (slot < count) & (place < MAX_LABELS)
  index = tf.boolean_mask(tf.stack([slot, place], 1), kept)
  table = tf.tensor_scatter_nd_update(
    tf.fill([count, MAX_LABELS], tf.constant(-1, tf.int64)),
    index,
    tf.boolean_mask(labels, kept),
  )
  return LabelledBoxes(*padded(tf.boolean_mask(boxes, is_first), count), table)


def padded(boxes: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
  """The first `count` boxes, and which places hold one; the others hold the frame."""
  boxes = boxes[:count]
  found = tf.shape(boxes)[0]
  whole = tf.tile(tf.constant([[0.0, 0.0, 1.0, 1.0]]), [count - found, 1])
  valid = tf.range(count) < found
  return tf.ensure_shape(tf.concat([boxes, whole], 0), [count, 4]), valid


def _middle_step(ragged: tf.RaggedTensor) -> tf.Tensor:
  """The values of the step in the middle, of AVA the only one; none without steps."""
  steps = ragged.nrows()
  padded_rows = tf.concat([ragged, tf.zeros([1, 0], ragged.dtype)], 0)
  return padded_rows[steps // 2]


@views.VIEW_MAKERS.register(VIEWS)
class KeyFrameViewMaker(views.ViewMaker):
  """A clip whose frame after the middle is the annotated one, with that frame's boxes.

  Of several annotated frames it is the one in the middle of the record. Frames beyond the
  stored ones repeat the first or the last. Training crops and flips, and the boxes follow;
  the test shows the whole frame, scaled to the view's shape.
  """

  fields = FIELDS

  def __init__(self, config: data_config.DataConfig):
    super().__init__(config)
    if config.num_views > 1 or config.num_test_clips > 1 or config.num_test_crops > 1:
      raise UserError(
        f'views {VIEWS!r}: num_views {config.num_views}, num_test_clips '
        f'{config.num_test_clips}, num_test_crops {config.num_test_crops}; a key frame has '
        'one view'
      )

  def _frames(self, clip: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The encoded frames of the clip about the key frame."""
    config = self._config
    steps, stride = config.feature_shape[0], config.temporal_stride
    stamps = clip[records.IMAGE_TIMESTAMP].flat_values
    time = _middle_step(clip[records.REGION_TIMESTAMP])[0]
    middle = tf.argmin(tf.abs(stamps - time), output_type=tf.int32)
    indices = middle + stride * (tf.range(steps) - key_frame(steps))
    last = tf.size(clip['frames']) - 1
    return tf.gather(clip['frames'], tf.clip_by_value(indices, 0, last))

  def _boxes(self, clip: Mapping[str, tf.Tensor], prefix: str = '') -> tf.Tensor:
    return tf.stack([_middle_step(clip[prefix + key]) for key in _SIDES], -1)

  def _labelled(self, clip: Mapping[str, tf.Tensor]) -> LabelledBoxes:
    labels = _middle_step(clip[records.REGION_LABEL_INDEX])
    return grouped(self._boxes(clip), labels, self._config.regions.count)

  def training_sample(
    self, clip: Mapping[str, tf.Tensor], key: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """As `ViewMaker.training_sample`, with the boxes that the crop shows.

    Returns:
      Also 'boxes' float32 [R, N, 4] as shares of the view, 'box_valid' bool [R, N] and
      'box_labels' int64 [R, N, MAX_LABELS].
    """
    config, frames = self._config, self._frames(clip)
    keys = self.repeat_keys(key)
    windows, flips = self.placements(frames, keys)
    shown = self.decoded(frames, tf.range(config.feature_shape[0])[None], windows, flips)
    made = self._labelled(clip)
    size = decoding.frame_size(frames)
    boxes, valid = [], []
    for i in range(len(keys)):
      moved, inside = geometric.transform_boxes(
        made.boxes, windows[0, i], size, flips[0, i]
      )
      boxes.append(moved)
      valid.append(made.valid & inside)
    return self.coloured(shown, keys) | {
      'boxes': tf.stack(boxes),
      'box_valid': tf.stack(valid),
      'box_labels': tf.repeat(made.labels[None], len(keys), 0),
    }

  def test_sample(
    self, clip: Mapping[str, tf.Tensor], number: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """The whole frame's view, with annotated and detected boxes.

    Returns:
      'test_views' uint8 [1, 1, T, H, W, 3]; 'boxes', 'box_valid' and 'box_labels' as in
      training; 'detected' float32 [1, N, 4] and 'detected_score' float32 [1, N], the
      boxes of the highest scores, -1 where there are no more; 'frame' uint8
      [1, NAME_BYTES], the name of the key frame.
    """
    del number
    config, frames = self._config, self._frames(clip)
    window = tf.stack([0, 0, *decoding.frame_size(frames)])
    view = decoding.decode_clip(frames, window, config.feature_shape[1:3])
    annotated = self._labelled(clip)
    scores = _middle_step(clip[records.DETECTED_SCORE])
    order = tf.argsort(scores, direction='DESCENDING', stable=True)
    count = config.regions.count
    detected, found = padded(tf.gather(self._boxes(clip, 'detected/'), order), count)
    ranked = tf.gather(scores, order)[:count]
    ranked = tf.pad(ranked, [[0, count - tf.size(ranked)]])
    name = tf.io.decode_raw(clip[records.MEDIA_ID][:1], tf.uint8, fixed_length=NAME_BYTES)
    sample = {
      'test_views': view[None],
      'boxes': annotated.boxes,
      'box_valid': annotated.valid,
      'box_labels': annotated.labels,
      'detected': detected,
      'detected_score': tf.where(found, tf.ensure_shape(ranked, [count]), -1.0),
      'frame': name[0],
    }
    return {key: value[None] for key, value in sample.items()}

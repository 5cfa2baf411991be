"""Views of annotated key frames: a clip about the frame, its boxes and their labels."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from official.video.augment import geometric
from official.video.configs import data as data_config
from official.video.data import decoding, records, samplers, views
from official.video.errors import UserError
from official.video.heads.regions import key_frame

VIEWS = 'key_frame'
# Labels of one box; AVA has up to 8 or so.
MAX_LABELS = 16
# Bytes of a key frame's name, which batches carry as numbers: what any file system allows
# for the file's, and the time.
NAME_BYTES = 288
# Of a longer name, bytes that are kept of its end: the time among them.
_NAME_TAIL = 32
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
    cut: int32, how many boxes there was no place for.
    labels_cut: int32, how many labels there was no place for, theirs included.
  """

  boxes: tf.Tensor
  valid: tf.Tensor
  labels: tf.Tensor
  cut: tf.Tensor
  labels_cut: tf.Tensor


def grouped(boxes: tf.Tensor, labels: tf.Tensor, count: int) -> LabelledBoxes:
  """Gathers the labels of equal boxes, which lists give a row each.

  Args:
    boxes: float32 `[R, 4]`.
    labels: int64 `[R]`.
    count: boxes to return; the first ones are kept, and `cut` says how many are not.
  """
  # Every row is compared with every other: there are few, and a graph has no dictionary.
  order = tf.range(tf.shape(boxes)[0])
  equal = tf.reduce_all(boxes[:, None] == boxes[None], -1)
  earlier = equal & (order[None] < order[:, None])
  # A row is the `place`-th label of its box, and the box the `slot`-th of the boxes.
  place = tf.math.count_nonzero(earlier, 1, dtype=tf.int32)
  is_first = place == 0
  first = tf.reduce_min(tf.where(equal, order[None], order.dtype.max), 1)
  slot = tf.gather(tf.cumsum(tf.cast(is_first, tf.int32)) - 1, first)
  kept = (slot < count) & (place < MAX_LABELS)
  table = tf.tensor_scatter_nd_update(
    tf.fill([count, MAX_LABELS], tf.constant(-1, tf.int64)),
    tf.boolean_mask(tf.stack([slot, place], 1), kept),
    tf.boolean_mask(labels, kept),
  )
  found, valid = padded(tf.boolean_mask(boxes, is_first), count)
  cut = tf.math.count_nonzero(is_first & (slot >= count), dtype=tf.int32)
  labels_cut = tf.math.count_nonzero(~kept, dtype=tf.int32)
  return LabelledBoxes(found, valid, table, cut, labels_cut)


def with_detected(
  annotated: LabelledBoxes, detected: tf.Tensor, least: float
) -> LabelledBoxes:
  """Annotated boxes, and in the places behind them detected ones that lie as one of them.

  Args:
    annotated: of a key frame.
    detected: float32 `[D, 4]`, of the same.
    least: intersection over union with an annotated box from which on its labels hold.

  Returns:
    As many places; `cut` counts the detected boxes without one as well.
  """
  count = annotated.boxes.shape[0]
  overlap = tf.where(
    annotated.valid[None], intersection_over_union(detected, annotated.boxes), -1.0
  )
  alike = tf.argmax(overlap, 1)
  chosen = tf.reduce_max(overlap, 1) >= least
  places = tf.concat([annotated.valid, tf.fill([tf.size(alike)], False)], 0)
  order = tf.concat([tf.where(places), count + tf.where(chosen)], 0)[:, 0]
  boxes, valid = padded(
    tf.gather(tf.concat([annotated.boxes, detected], 0), order), count
  )
  labels = tf.concat([annotated.labels, tf.gather(annotated.labels, alike)], 0)
  labels = tf.gather(labels, order)[:count]
  missing = tf.fill([count - tf.shape(labels)[0], MAX_LABELS], tf.constant(-1, tf.int64))
  cut = tf.maximum(tf.size(order) - count, 0)
  return LabelledBoxes(
    boxes,
    valid,
    tf.ensure_shape(tf.concat([labels, missing], 0), [count, MAX_LABELS]),
    annotated.cut + cut,
    annotated.labels_cut,
  )


def intersection_over_union(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
  """float32 `[A, B]` of boxes `[A, 4]` and `[B, 4]`; 0 where neither has an area."""
  a, b = first[:, None], second[None]
  begin, end = tf.maximum(a[..., :2], b[..., :2]), tf.minimum(a[..., 2:], b[..., 2:])
  shared = tf.reduce_prod(tf.maximum(end - begin, 0.0), -1)
  areas = [tf.reduce_prod(boxes[..., 2:] - boxes[..., :2], -1) for boxes in (a, b)]
  return tf.math.divide_no_nan(shared, areas[0] + areas[1] - shared)


def padded(boxes: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
  """The first `count` boxes, and which places hold one; the others hold the frame."""
  boxes = boxes[:count]
  found = tf.shape(boxes)[0]
  whole = tf.tile(tf.constant([[0.0, 0.0, 1.0, 1.0]]), [count - found, 1])
  valid = tf.range(count) < found
  return tf.ensure_shape(tf.concat([boxes, whole], 0), [count, 4]), valid


def name_bytes(name: tf.Tensor) -> tf.Tensor:
  """A name as uint8 `[NAME_BYTES]`, filled up with zeros; different names stay different.

  A longer one keeps its beginning and its end; a digest stands for what is between.
  """
  digest = tf.strings.join(
    [
      tf.strings.as_string(tf.strings.to_hash_bucket_strong(name, 2**63 - 1, key))
      for key in ([1, 2], [3, 4])
    ],
    separator='-',
  )
  digest = tf.strings.join(['#', digest, '#'])
  head = NAME_BYTES - _NAME_TAIL - tf.strings.length(digest)
  end = tf.maximum(tf.strings.length(name) - _NAME_TAIL, 0)
  tail = tf.strings.substr(name, end, _NAME_TAIL)
  shortened = tf.strings.join([tf.strings.substr(name, 0, head), digest, tail])
  fits = tf.strings.length(name) <= NAME_BYTES
  return tf.io.decode_raw(
    tf.where(fits, name, shortened), tf.uint8, fixed_length=NAME_BYTES
  )


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
  the test shows the whole frame. Objects keep their aspect in the test, and in training
  with a `short_side_range`.
  """

  fields = FIELDS
  needs = {
    records.REGION_TIMESTAMP: 'convert with boxes: --source=ava (docs/data_sets.md)'
  }
  places = True

  def __init__(self, config: data_config.DataConfig):
    super().__init__(config)
    # Nothing else would be of the frame's people; read here, so that it counts as used.
    if self._config.regions.generator != 'boxes':
      raise UserError(
        f'views {VIEWS!r}: regions.generator {config.regions.generator!r}; a key frame has '
        "the record's: set it to 'boxes'"
      )
    if config.num_views > 1 or config.num_test_clips > 1 or config.num_test_crops > 1:
      raise UserError(
        f'views {VIEWS!r}: num_views {config.num_views}, num_test_clips '
        f'{config.num_test_clips}, num_test_crops {config.num_test_crops}; a key frame has '
        'one view'
      )
    if config.num_test_clips and not config.whole_frame:
      raise UserError(
        f'views {VIEWS!r}: whole_frame false; boxes lie anywhere, so the test shows all of '
        'the frame; set whole_frame to true'
      )

  def _indices(self, clip: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """[T] frames of the clip about the key frame."""
    config = self._config
    steps, stride = config.feature_shape[0], config.temporal_stride
    stamps = clip[records.IMAGE_TIMESTAMP].flat_values
    time = _middle_step(clip[records.REGION_TIMESTAMP])[0]
    middle = tf.argmin(tf.abs(stamps - time), output_type=tf.int32)
    indices = middle + stride * (tf.range(steps) - key_frame(steps))
    return tf.clip_by_value(indices, 0, tf.size(clip['frames']) - 1)

  def frames_taken(self, clip: Mapping[str, tf.Tensor], key: tf.Tensor) -> tf.Tensor:
    """See the base."""
    del key
    return self._indices(clip)[None]

  def test_frames_taken(
    self, clip: Mapping[str, tf.Tensor], number: tf.Tensor
  ) -> tf.Tensor:
    """See the base."""
    del number
    return self._indices(clip)

  def _boxes(self, clip: Mapping[str, tf.Tensor], prefix: str = '') -> tf.Tensor:
    return tf.stack([_middle_step(clip[prefix + key]) for key in _SIDES], -1)

  def _labelled(self, clip: Mapping[str, tf.Tensor]) -> LabelledBoxes:
    labels = _middle_step(clip[records.REGION_LABEL_INDEX])
    return grouped(self._boxes(clip), labels, self._config.regions.count)

  def _detected(self, clip: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Detected boxes [D, 4] and scores [D], the highest first."""
    scores = _middle_step(clip[records.DETECTED_SCORE])
    order = tf.argsort(scores, direction='DESCENDING', stable=True)
    return tf.gather(self._boxes(clip, 'detected/'), order), tf.gather(scores, order)

  def training_sample(
    self, clip: Mapping[str, tf.Tensor], key: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """As `ViewMaker.training_sample`, with the boxes that the crop shows.

    Returns:
      Also 'boxes' float32 [R, N, 4] as shares of the view, 'box_valid' bool [R, N],
      'box_labels' int64 [R, N, MAX_LABELS], and 'boxes_cut' int32 [R], how many boxes of
      the key frame had no place.
    """
    config, indices = self._config, self._indices(clip)
    frames, keys = tf.gather(clip['frames'], indices), self.repeat_keys(key)
    windows, flips = self.placements(frames, keys)
    shown = self.decoded(frames, tf.range(config.feature_shape[0])[None], windows, flips)
    made = self._labelled(clip)
    if least := config.regions.detected_iou:
      made = with_detected(made, self._detected(clip)[0], least)
    size = decoding.frame_size(frames)
    boxes, valid = [], []
    for i in range(len(keys)):
      moved, inside = geometric.transform_boxes(
        made.boxes, windows[0, i], size, flips[0, i]
      )
      boxes.append(moved)
      valid.append(made.valid & inside)
    return self.coloured(shown, keys, indices[None]) | {
      'boxes': tf.stack(boxes),
      'box_valid': tf.stack(valid),
      'box_labels': tf.repeat(made.labels[None], len(keys), 0),
      'boxes_cut': tf.repeat(made.cut[None], len(keys)),
    }

  def test_sample(
    self, clip: Mapping[str, tf.Tensor], number: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """The whole frame's view, with annotated and detected boxes.

    Returns:
      'test_views' uint8 [1, 1, T, H, W, 3], and 'shown' float32 [1, 4], the part of it
      that is the frame; 'boxes', 'box_valid', 'box_labels' and 'boxes_cut' as in
      training, 'labels_cut' int32 [1] likewise; 'detected' float32 [1, N, 4] and
      'detected_score' float32 [1, N], the boxes of the highest scores, -1 where there are
      no more, and 'detected_cut' float32 [1], the highest score that had no place, -1
      without one; 'frame' uint8 [1, NAME_BYTES], the name of the key frame. All boxes are
      shares of the view.
    """
    del number
    config, indices = self._config, self._indices(clip)
    frames = tf.gather(clip['frames'], indices)
    size = decoding.frame_size(frames)
    window = views.test_windows(*size, config)[0]

    def in_view(boxes: tf.Tensor) -> tf.Tensor:
      return geometric.transform_boxes(boxes, window, size)[0]

    annotated = self._labelled(clip)
    detected, scores = self._detected(clip)
    count = config.regions.count
    detected, _ = padded(detected, count)
    ranked = tf.concat([scores, tf.fill([count + 1], -1.0)], 0)
    sample = {
      'test_views': views.test_crops(frames, config),
      'wrapped': samplers.begin_anew(indices),
      'shown': in_view(tf.constant([0.0, 0.0, 1.0, 1.0])),
      'boxes': in_view(annotated.boxes),
      'box_valid': annotated.valid,
      'box_labels': annotated.labels,
      'boxes_cut': annotated.cut,
      'labels_cut': annotated.labels_cut,
      'detected': in_view(detected),
      'detected_score': tf.ensure_shape(ranked[:count], [count]),
      'detected_cut': ranked[count],
      'frame': name_bytes(clip[records.MEDIA_ID][0]),
    }
    return {key: value[None] for key, value in sample.items()}

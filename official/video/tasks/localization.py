"""Action localization: sigmoid classification of boxes, scored by frame mAP."""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from official.core import task_factory
from official.video import files
from official.video.augment import normalization
from official.video.backbones import factory
from official.video.configs import tasks as task_config
from official.video.data import index, key_frames
from official.video.errors import UserError
from official.video.evaluation import localization
from official.video.heads import action, regions
from official.video.losses import gather
from official.video.models import encoder
from official.video.tasks import labelled

# What of a batch scoring needs.
_PASSED = (
  *('boxes', 'box_valid', 'box_labels', 'boxes_cut', 'labels_cut', 'shown'),
  *('detected', 'detected_score', 'detected_cut', 'frame'),
)


# Pixels of a clip that is large enough for any net to tell how many a cell stands for.
_PROBE = 512


class LocalizationModel(encoder.VideoModel):
  """A backbone under a head that takes maps and boxes."""

  def logits(
    self,
    clips: tf.Tensor,
    boxes: tf.Tensor,
    shown: tf.Tensor | None = None,
    training: bool = False,
  ) -> tf.Tensor:
    """float32 [B, N, K] of boxes [B, N, 4] in clips [B, T, H, W, 3], normalized.

    Where only a part of the clips, `shown` [B, 4], is frame, the rest is as good as not
    there: zeros, with which convolutions pad, and no place that a box could look at.
    """
    if shown is not None:
      inside = regions.middles_inside(shown, *clips.shape[2:4])
      clips = tf.where(inside[:, None, ..., None], clips, 0.0)
    maps = self.backbone(clips, training=training)[self.endpoint]
    return self.head(maps, boxes, training=training, shown=shown)

  def encode_regions(self, clips: tf.Tensor, boxes: tf.Tensor) -> dict[str, tf.Tensor]:
    """As `VideoModel.encode_regions`, with 'probability' [B, N, K] of the classes."""
    outputs = super().encode_regions(clips, boxes)
    logits = self.head(outputs[self.endpoint], boxes, training=False)
    return outputs | {'probability': tf.sigmoid(logits)}

  def call(self, clips: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
    """{'feature': [B, C], 'output': [B, K]}: the logits of the whole frame as a box."""
    outputs = self.encode(clips, training)
    boxes = tf.tile(tf.constant([[[0.0, 0.0, 1.0, 1.0]]]), [tf.shape(clips)[0], 1, 1])
    logits = self.head(outputs[self.endpoint], boxes, training=training)
    return {'feature': outputs['feature'], 'output': logits[:, 0]}

  def cell(self, steps: int) -> tuple[int, int]:
    """Rows and columns of pixels that a cell of the map stands for, in clips of any size.

    Args:
      steps: frames of a clip.
    """
    traced = tf.function(lambda x: self.encode(x, False)[self.endpoint], autograph=False)
    spec = tf.TensorSpec([1, steps, _PROBE, _PROBE, 3])
    *_, rows, columns, _ = traced.get_concrete_function(spec).structured_outputs.shape
    return _PROBE // rows, _PROBE // columns

  @property
  def serving_items(self) -> dict[str, tf_keras.layers.Layer]:
    """Backbone and head."""
    return self.checkpoint_items


@task_factory.register_task_cls(task_config.LocalizationTask)
class LocalizationTask(labelled.LabelledTask):
  """Trains on annotated boxes; evaluates on annotated and on detected ones."""

  scalar_names = ('boxes', 'boxes_cut')
  later_scalars = ('boxes_cut',)
  takes = {
    'train_data': {'views': key_frames.VIEWS, 'num_views': 1, 'num_test_clips': 0},
    'validation_data': {'views': key_frames.VIEWS, 'num_views': 0, 'num_test_clips': 1},
  }

  @property
  def score_names(self) -> tuple[str, ...]:
    """See the base."""
    return ('frame_map_ground_truth', 'frame_map_detected')

  def chance(self) -> float:
    """That of probabilities of a half."""
    return math.log(2)

  def check_data(self, training: bool, evaluation: bool = True) -> None:
    """See the base."""
    scales = self.task_config.test_scales
    if not scales or not 0.1 <= min(scales) <= max(scales) <= 10:
      raise UserError(
        f'task.test_scales {list(scales)}: expected numbers from 0.1 to 10, as [1.0, 1.25]'
      )
    self._check_whole_cells(training, evaluation)
    super().check_data(training, evaluation)

  def _check_whole_cells(self, training: bool, evaluation: bool) -> None:
    """Raises `UserError` where a transformer would leave out a part of the clips."""
    net = self.task_config.model.backbone.get()
    for used, name in ((training, 'train_data'), (evaluation, 'validation_data')):
      shape = getattr(self.task_config, name).feature_shape
      for side, size in zip(
        shape[1:3], getattr(net, 'tubelet', (1, 1, 1))[1:], strict=True
      ):
        if used and side % size:
          raise UserError(
            f'task.{name}.feature_shape {list(shape)}: {side} is no multiple of {size}, the '
            'pixels of a token, so boxes would lie elsewhere; take '
            f'{max(1, round(side / size)) * size}'
          )

  def check_records(self, table: index.RecordIndex) -> None:
    """Raises `UserError` where the data names more classes than the head has."""
    if len(table.label_names) > self.num_classes:
      raise UserError(
        f'{table.files[0]}: {len(table.label_names)} classes, task.model.num_classes is '
        f'{self.num_classes}; set it to at least that'
      )

  def build_model(self) -> LocalizationModel:
    """Backbone under the head for boxes."""
    config = self.task_config.model
    return LocalizationModel(
      factory.build_encoder(config),
      action.ActionHead(config.head, self.num_classes),
      config.endpoint,
      config.freeze_backbone,
    )

  def _targets(self, labels: tf.Tensor) -> tf.Tensor:
    """[..., K] multi-hot of [..., L] labels, -1 being none."""
    return tf.reduce_max(tf.one_hot(labels, self.num_classes), -2)

  def forward(self, inputs, model, training):
    """{'logits': [B, N, K]} of the boxes of one view a clip."""
    clips = normalization.normalize(
      inputs['views'][:, 0], self.task_config.zero_centering
    )
    return {'logits': model.logits(clips, inputs['boxes'], training=training)}

  def compute_loss(self, outputs, inputs):
    """Binary cross entropy, mean over the classes of all boxes of the global batch.

    'boxes' are those of the batch, 'boxes_cut' those of its key frames that had no place.
    """
    losses = tf.nn.sigmoid_cross_entropy_with_logits(
      labels=self._targets(inputs['box_labels']), logits=outputs['logits']
    )
    valid = tf.cast(inputs['box_valid'], tf.float32)
    of_boxes = gather.gather(tf.reduce_mean(losses, -1) * valid)
    count = tf.reduce_sum(gather.gather(valid))
    loss = tf.math.divide_no_nan(tf.reduce_sum(of_boxes), count)
    cut = tf.reduce_sum(gather.gather(tf.cast(inputs['boxes_cut'], tf.float32)))
    return {'loss': loss, 'boxes': count, 'boxes_cut': cut}

  def boxes_of(self, inputs):
    """The annotated boxes."""
    name = 'views' if 'views' in inputs else 'test_views'
    return {name: (inputs['boxes'][:, None], inputs['box_valid'][:, None])}

  def words_of(self, inputs):
    """What the people in the boxes do."""
    names = self.label_names()
    found = []
    for valid, labels in zip(
      inputs['box_valid'], inputs['box_labels'].numpy(), strict=True
    ):
      told = [
        ', '.join(names[x] if x < len(names) else f'class {x}' for x in row if x >= 0)
        for row in labels[valid.numpy()]
      ]
      found.append({f'box {n + 1}': words for n, words in enumerate(told)})
    return found

  def validation_outputs(self, inputs, model):
    """Probabilities in annotated and detected boxes, with all that scoring needs."""
    clips = normalization.normalize(
      inputs['test_views'][:, 0], self.task_config.zero_centering
    )
    boxes = tf.concat([inputs['boxes'], inputs['detected']], 1)
    config = self.task_config
    seen = []
    for scale in config.test_scales:
      cell = model.cell(clips.shape[1]) if scale != 1.0 else (1, 1)
      shown = scaled(clips, scale, cell)
      seen += [
        tf.sigmoid(model.logits(*mirrored(shown, boxes, inputs['shown'], flip)))
        for flip in ([False, True] if config.test_flip else [False])
      ]
    probability = tf.add_n(seen) / len(seen)
    annotated, detected = tf.split(probability, 2, 1)
    return {name: inputs[name] for name in _PASSED} | {
      'probability': annotated,
      'detected_probability': detected,
    }

  def score(self, outputs):
    """Frame mAP in annotated boxes and, where there are any, in detected ones.

    With 'boxes' and 'labels' that were scored, of as many as are annotated; in how many
    key frames all detections were; and how many had to be shown smaller than was asked.
    """
    frames = frame_names(outputs['frame'])
    self._check_frames(frames, outputs['record'])
    scores: dict[str, Any] = {}
    for name, found in self._predictions(outputs).items():
      result = localization.frame_map(
        annotations(outputs),
        found,
        frames,
        range(self.num_classes),
        self.task_config.iou_threshold,
      )
      scores[f'frame_map_{name}'] = result.mean
      # The evaluator's own limit is no part of `coverage`: it holds for every score.
      scores[f'ranked_{name}'], scores[f'found_{name}'] = result.ranked, result.found
    scores |= self._covered(outputs)
    return scores | {'evaluated': len(frames), 'expected': len(self.validation_index)}

  def protocol_of(self, scores):
    """What counts as a hit, and how many of the detections the evaluator's limit left."""
    ranked = (
      f'{scores[f"ranked_{name}"]} of {scores[f"found_{name}"]} in {what} boxes'
      for name, what in (('ground_truth', 'annotated'), ('detected', 'detected'))
      if f'ranked_{name}' in scores
    )
    config = self.task_config
    looks = [f'scale {scale:g}' for scale in config.test_scales]
    looks += ['mirrored too'] if config.test_flip else []
    several = f'mean of {", ".join(looks)}; ' if looks != ['scale 1'] else ''
    return (
      f'frame mAP at IoU {config.iou_threshold:g}; {several}of each key frame the '
      f'{localization.MAX_DETECTIONS} highest scores of all boxes and classes are ranked, '
      f"as AVA's evaluator does: {', '.join(ranked)}"
    )

  def _check_frames(self, frames: Sequence[str], rows: np.ndarray) -> None:
    """Refuses records of one key frame: each of its people would count twice."""
    first: dict[str, int] = {}
    for frame, row in zip(frames, rows, strict=True):
      if frame in first:
        table = self.validation_index
        one, other = (table.files[table.file_id[r]] for r in (first[frame], row))
        raise UserError(
          f'{one} and {other}: both hold the key frame {frame}, so that its people would '
          'count twice; name in task.validation_data.input_path the one or the other'
        )
      first[frame] = row

  def _covered(self, outputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """How much of what is annotated and detected was scored; hints where it is not all."""
    data, frames = self.task_config.validation_data, len(outputs['shown'])
    boxes = int(outputs['box_valid'].sum())
    labels = int((outputs['box_labels'] >= 0).sum())
    boxes_cut, labels_cut = (
      int(outputs[key].sum()) for key in ('boxes_cut', 'labels_cut')
    )
    least = max(self.task_config.min_detection_score, 0)
    detections_cut = int((outputs['detected_cut'] >= least).sum())
    sides = outputs['shown'][:, 2:] - outputs['shown'][:, :2]
    short = (sides * np.asarray(data.feature_shape[1:3])).min(1)
    small = int((short < data.min_image_size - 0.5).sum())
    if labels_cut or detections_cut:
      print(
        f'hint: a key frame has room for task.validation_data.regions.count '
        f'{data.regions.count} boxes, annotated and detected, of {key_frames.MAX_LABELS} '
        'labels each',
        file=sys.stderr,
      )
    if small:
      print(
        f'note: {small} of {frames} key frames are shown smaller than task.'
        f'validation_data.min_image_size {data.min_image_size}: their longer side would '
        f'not fit into feature_shape {list(data.feature_shape)}',
        file=sys.stderr,
      )
    return {
      'boxes': boxes,
      'boxes_expected': boxes + boxes_cut,
      'labels': labels,
      'labels_expected': labels + labels_cut,
      'frames_with_all_detections': frames - detections_cut,
      'frames_with_all_detections_expected': frames,
      'frames_below_min_image_size': small,
    }

  def _predictions(
    self, outputs: Mapping[str, np.ndarray]
  ) -> dict[str, localization.Boxes]:
    least = self.task_config.min_detection_score
    detected = outputs['detected_score'] >= max(least, 0)
    found = {
      'ground_truth': predictions(
        outputs, 'boxes', outputs['box_valid'], outputs['probability']
      )
    }
    if (outputs['detected_score'] >= 0).any():
      found['detected'] = predictions(
        outputs, 'detected', detected, outputs['detected_probability']
      )
    return found

  def save_predictions(self, outputs: Mapping[str, np.ndarray], folder: str) -> list[str]:
    """Writes the predictions in the official CSV format; returns the paths."""
    ids = localization.action_ids(self.label_names() or [''] * self.num_classes)
    paths = []
    for name, found in self._predictions(outputs).items():
      path = os.path.join(folder, f'predictions_{name}.csv')
      files.write_atomically(path, localization.write_predictions(found, ids).encode())
      paths.append(path)
    return paths


def scaled(clips: tf.Tensor, scale: float, cell: tuple[int, int] = (1, 1)) -> tf.Tensor:
  """Clips [B, T, H, W, 3] of other sides, antialiased.

  Args:
    clips: of the size of the test.
    scale: of the sides.
    cell: what the sides become multiples of, so that the cells of a map are the whole clip
      and boxes lie where they are: a net leaves out what is no whole cell, or fills it up.
  """
  if scale == 1.0:
    return clips
  batch, steps, *sides, channels = clips.shape
  height, width = (
    max(1, int(scale * side / size + 0.5)) * size
    for side, size in zip(sides, cell, strict=True)
  )
  frames = tf.reshape(clips, [-1, *sides, channels])
  frames = tf.image.resize(frames, (height, width), antialias=True)
  return tf.reshape(frames, [batch or -1, steps, height, width, channels])


def mirrored(clips: tf.Tensor, boxes: tf.Tensor, shown: tf.Tensor, flip: bool):
  """Clips, their boxes [B, N, 4] and the part [B, 4] that is frame; mirrored if `flip`."""
  if not flip:
    return clips, boxes, shown

  def turned(sides: tf.Tensor) -> tf.Tensor:
    top, left, bottom, right = tf.unstack(sides, axis=-1)
    return tf.stack([top, 1.0 - right, bottom, 1.0 - left], -1)

  return tf.reverse(clips, [3]), turned(boxes), turned(shown)


def frame_names(names: np.ndarray) -> list[str]:
  """Names of key frames of [M, NAME_BYTES] uint8."""
  # A name that was shortened may have been cut inside of a character.
  return [bytes(row).rstrip(b'\0').decode(errors='backslashreplace') for row in names]


def _sides(boxes: np.ndarray, shown: np.ndarray) -> np.ndarray:
  """x1, y1, x2, y2 as shares of the frame.

  Args:
    boxes: [R, 4] top, left, bottom, right as shares of the view.
    shown: [R, 4], the part of the view that is the frame.
  """
  boxes, shown = (np.asarray(x, np.float64) for x in (boxes, shown))
  begin, extent = shown[:, :2], shown[:, 2:] - shown[:, :2]
  of_frame = (boxes.reshape(-1, 2, 2) - begin[:, None]) / extent[:, None]
  return of_frame.reshape(-1, 4)[:, [1, 0, 3, 2]]


def annotations(outputs: Mapping[str, np.ndarray]) -> localization.Boxes:
  """All labels of all annotated boxes, a row each."""
  names = frame_names(outputs['frame'])
  valid = outputs['box_valid'][..., None] & (outputs['box_labels'] >= 0)
  frame, box, place = np.nonzero(valid)
  return localization.boxes_of(
    [names[i] for i in frame],
    _sides(outputs['boxes'][frame, box], outputs['shown'][frame]),
    outputs['box_labels'][frame, box, place],
  )


def predictions(
  outputs: Mapping[str, np.ndarray], key: str, valid: np.ndarray, scores: np.ndarray
) -> localization.Boxes:
  """All classes of all boxes of one kind, a row each.

  Args:
    outputs: of validation.
    key: of the boxes, [M, N, 4].
    valid: [M, N] bool.
    scores: [M, N, K].
  """
  names = frame_names(outputs['frame'])
  frame, box = np.nonzero(valid)
  classes = scores.shape[-1]
  return localization.boxes_of(
    [names[i] for i in np.repeat(frame, classes)],
    np.repeat(_sides(outputs[key][frame, box], outputs['shown'][frame]), classes, 0),
    np.tile(np.arange(classes), len(frame)),
    scores[frame, box].reshape(-1),
  )

"""Tracking by similarity (SiamFC) on a backbone for clips."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from official.core import task_factory
from official.video.augment import normalization
from official.video.backbones import factory
from official.video.configs import tasks as task_config
from official.video.data import index, reader, records, siamese
from official.video.errors import UserError
from official.video.evaluation import tracking
from official.video.losses import gather
from official.video.models import encoder
from official.video.tasks import base

ANNOTATION = f'{records.EXTRA_PREFIX}annotation'
WIDTH = f'{records.EXTRA_PREFIX}width'


class SiameseHead(tf_keras.layers.Layer):
  """Two linear maps of features, of the exemplar's and of the search image's."""

  def __init__(self, output_dim: int, name: str = 'siamese_head'):
    """Initializes the head.

    Args:
      output_dim: channels.
      name: of the layer.
    """
    super().__init__(name=name, dtype='float32')
    self.exemplar = tf_keras.layers.Dense(output_dim, name='exemplar', dtype='float32')
    self.search = tf_keras.layers.Dense(output_dim, name='search', dtype='float32')

  def call(self, features: tf.Tensor) -> tf.Tensor:
    """Both maps side by side, `[..., 2 * output_dim]`."""
    return tf.concat([self.exemplar(features), self.search(features)], -1)


def cross_correlation(exemplars: tf.Tensor, searches: tf.Tensor) -> tf.Tensor:
  """Slides each exemplar's features over its search image's.

  Args:
    exemplars: `[B, z, z, C]`.
    searches: `[B, x, x, C]`.

  Returns:
    `[B, x - z + 1, x - z + 1]` inner products.
  """
  size, channels = exemplars.shape[1], exemplars.shape[3]
  kernel = tf.reshape(tf.transpose(exemplars, [1, 2, 0, 3]), [size, size, -1, 1])
  flat = tf.transpose(searches, [1, 2, 0, 3])
  width = searches.shape[1]
  flat = tf.reshape(flat, [1, width, width, -1])
  response = tf.nn.depthwise_conv2d(flat, kernel, [1, 1, 1, 1], 'VALID')[0]
  out = width - size + 1
  summed = tf.reduce_sum(tf.reshape(response, [out, out, -1, channels]), -1)
  return tf.transpose(summed, [2, 0, 1])


def response_labels(size: int, stride: float, radius: float) -> np.ndarray:
  """[size, size] float32: 1 where a cell is at most `radius` pixels (L1) off the centre."""
  offset = np.abs(np.arange(size) - (size - 1) / 2)
  return (offset[:, None] + offset[None] <= radius / stride).astype(np.float32)


class TrackingModel(encoder.VideoModel):
  """A backbone that sees an image as a clip that stands still, and the two heads."""

  def __init__(self, config: task_config.TrackingModel, frames: int):
    """Builds the model.

    Args:
      config: backbone and heads.
      frames: that an image is repeated to.
    """
    backbone = factory.build_backbone(
      config.backbone, config.norm_activation, remat=config.remat
    )
    head = SiameseHead(config.output_dim)
    super().__init__(backbone, head, config.endpoint, config.freeze_backbone)
    self._frames, self._scale = frames, config.response_scale

  def maps(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
    """`[B, h, w, C]` of images `[B, H, W, 3]`, normalized: the mean over time."""
    clips = tf.repeat(images[:, None], self._frames, 1)
    maps = self.backbone(clips, training=training)[self.endpoint]
    return tf.reduce_mean(tf.cast(maps, tf.float32), 1)

  def respond(
    self, exemplars: tf.Tensor, searches: tf.Tensor, training: bool = False
  ) -> tf.Tensor:
    """`[B, r, r]` responses of images `[B, z, z, 3]` in `[B, x, x, 3]`, normalized."""
    exemplar = self.head.exemplar(self.maps(exemplars, training))
    return self.correlate(exemplar, searches, training)

  def correlate(
    self, exemplar: tf.Tensor, searches: tf.Tensor, training: bool = False
  ) -> tf.Tensor:
    """As `respond`, given the exemplar's output of the head."""
    search = self.head.search(self.maps(searches, training))
    return cross_correlation(exemplar, search) * self._scale


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

  @property
  def box(self) -> np.ndarray:
    """Left, top, width, height, the first pixel being 1."""
    top_left = self.center + 1 - (self.size - 1) / 2
    return np.array([top_left[1], top_left[0], self.size[1], self.size[0]])


class SiameseTracker:
  """Follows a box: the response to three sizes of search image, smoothed by a window.

  Source: SiamFC, arXiv 1606.09549, section 4.
  """

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
    self._exemplar_size = siamese.exemplar_size(search_size)
    half = config.num_scales // 2
    steps = np.linspace(-half, half, config.num_scales)
    self._scales = np.float64(config.scale_step) ** steps

  def start(self, image: np.ndarray, box: np.ndarray) -> None:
    """Takes the target of the first frame; `box` is left, top, width, height from 1."""
    left, top, width, height = np.asarray(box, np.float64)
    center = np.array([top - 1 + (height - 1) / 2, left - 1 + (width - 1) / 2])
    side = float(siamese.context_side(height, width, self._config.context))
    self.target = Target(center, np.array([height, width]), side)
    self._least, self._most = 0.2 * self.target.size, 5.0 * self.target.size
    crop = self._crops(image, np.array([side]), self._exemplar_size)
    self._exemplar = self._embed(crop)

  def _crops(self, image: np.ndarray, sides: np.ndarray, size: int) -> tf.Tensor:
    return siamese.square_crops(
      tf.constant(image),
      tf.constant(self.target.center, tf.float32),
      tf.constant(sides, tf.float32),
      size,
    )

  def follow(self, image: np.ndarray) -> np.ndarray:
    """Finds the target in the next frame; returns its box."""
    config, target = self._config, self.target
    sides = target.side * self._search / self._exemplar_size * self._scales
    crops = self._crops(image, sides, self._search)
    response = np.asarray(self._respond(self._exemplar, crops), np.float64)
    cells = response.shape[-1]
    size = cells * config.upsampling
    large = tf.image.resize(response[..., None], [size, size], 'bicubic')[..., 0].numpy()
    off = np.arange(len(sides)) != len(sides) // 2
    large[off] *= config.scale_penalty
    best = int(large.max((1, 2)).argmax())
    peak = self._peak(large[best])
    stride = self._stride(cells)
    pixels = (peak - (size - 1) / 2) * stride / config.upsampling
    target.center = target.center + pixels * sides[best] / self._search
    target.center = np.clip(target.center, 0, np.array(image.shape[:2]) - 1)
    change = 1 - config.scale_rate + config.scale_rate * self._scales[best]
    grown = np.clip(target.size * change, self._least, self._most)
    target.side *= float(np.sqrt(np.prod(grown / target.size)))
    target.size = grown
    return target.box

  def _stride(self, cells: int) -> float:
    """Pixels of the search image between two cells of the response."""
    return (self._search - self._exemplar_size) / (cells - 1)

  def _peak(self, response: np.ndarray) -> np.ndarray:
    response = response - response.min()
    response = response / (response.sum() + 1e-16)
    window = np.hanning(len(response))
    window = np.outer(window, window) / np.outer(window, window).sum()
    share = self._config.window_influence
    smooth = (1 - share) * response + share * window
    return np.array(np.unravel_index(smooth.argmax(), smooth.shape))


@dataclasses.dataclass(frozen=True)
class Sequence:
  """A sequence to follow.

  Attributes:
    name: of the sequence.
    frames: encoded frames.
    boxes: [T, 4] annotation, left, top, width, height in pixels of the source.
    width: of the source's frames in pixels; 0 where unknown, which means the stored ones'.
  """

  name: str
  frames: list[bytes]
  boxes: np.ndarray
  width: int


def read_sequence(serialized: bytes, where: str) -> Sequence:
  """The sequence of a record.

  Raises:
    UserError: it has no annotation.
  """
  clip = records.decode_record(serialized)
  if ANNOTATION not in clip:
    raise UserError(
      f'{where}: has no {ANNOTATION}; convert the sequences with --source=otb or got10k'
    )
  lines = clip[ANNOTATION][0].decode().split('\n')
  boxes = np.array([[float(x) for x in line.split(',')] for line in lines])
  frames = [step[0] for step in clip[records.IMAGE_ENCODED]]
  count = min(len(frames), len(boxes))
  width = int(clip.get(WIDTH, [b'0'])[0])
  name = clip[records.MEDIA_ID][0].decode()
  return Sequence(name, frames[:count], boxes[:count], width)


@task_factory.register_task_cls(task_config.TrackingTask)
class TrackingTask(base.VideoTask):
  """Trains the heads on pairs of frames; validates on pairs, and evaluates by tracking."""

  def check_data(self, training: bool) -> None:
    """Finds the data, and refuses other views."""
    for name in ('train_data', 'validation_data'):
      views = getattr(self.task_config, name).views
      if views != siamese.VIEWS:
        raise UserError(f'task.{name}.views {views!r}: tracking takes {siamese.VIEWS!r}')
    super().check_data(training)

  def build_model(self) -> TrackingModel:
    """Backbone under the two heads."""
    frames = self.task_config.train_data.feature_shape[0]
    return TrackingModel(self.task_config.model, frames)

  def build_metrics(self, training: bool = True):
    """Share of right cells and regularisation, means between two reports."""
    names = ('accuracy', 'regularization_loss') if training else ()
    return [tf_keras.metrics.Mean(name=name) for name in names]

  def _normalized(self, images: tf.Tensor) -> tf.Tensor:
    return normalization.normalize(images, self.task_config.zero_centering)

  def forward(self, inputs, model, training):
    """{'response': [B, r, r]} of the pairs."""
    images = (self._normalized(inputs[name]) for name in ('exemplar', 'search'))
    return {'response': model.respond(*images, training=training)}

  def _terms(self, response: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """[B] balanced cross entropy and share of right cells."""
    search = self.task_config.train_data.feature_shape[1]
    size = response.shape[-1]
    stride = (search - siamese.exemplar_size(search)) / max(1, size - 1)
    labels = response_labels(size, stride, self.task_config.positive_radius)
    weight = np.where(labels > 0, 0.5 / labels.sum(), 0.5 / max(1, (1 - labels).sum()))
    losses = tf.nn.sigmoid_cross_entropy_with_logits(
      labels=tf.broadcast_to(labels, tf.shape(response)), logits=response
    )
    right = tf.cast((response > 0) == (labels > 0), tf.float32)
    weight = weight.astype(np.float32)
    return tf.reduce_sum(losses * weight, [1, 2]), tf.reduce_sum(right * weight, [1, 2])

  def compute_loss(self, outputs, inputs):
    """Cross entropy of the cells, positive and negative ones weighing the same."""
    del inputs
    loss, accuracy = self._terms(gather.gather(outputs['response']))
    return {'loss': tf.reduce_mean(loss), 'accuracy': tf.reduce_mean(accuracy)}

  def validation_outputs(self, inputs, model):
    """Loss and accuracy of each pair."""
    loss, accuracy = self._terms(self.forward(inputs, model, False)['response'])
    return {'loss': loss, 'accuracy': accuracy}

  def score(self, outputs):
    """Means over one pair of each validation sequence."""
    return {
      'loss': float(outputs['loss'].mean()),
      'accuracy': float(outputs['accuracy'].mean()),
      'evaluated': len(outputs['loss']),
      'expected': len(self.validation_index),
    }

  def sequences(self, table: index.RecordIndex) -> Iterator[Sequence]:
    """The sequences of a data set, one after the other."""
    names = table.names()
    for row in range(len(table)):
      serialized = reader.read_record(
        tf.constant(table.files[table.file_id[row]]),
        tf.constant(table.offset[row]),
        tf.constant(table.size[row]),
      )
      yield read_sequence(serialized.numpy(), names[row])

  def tracker(self, model: TrackingModel) -> SiameseTracker:
    """A tracker on a model."""

    @tf.function(reduce_retracing=True)
    def embed(image):
      return model.head.exemplar(model.maps(self._normalized(image)))

    @tf.function(reduce_retracing=True)
    def respond(exemplar, images):
      many = tf.repeat(exemplar, self.task_config.tracker.num_scales, 0)
      return model.correlate(many, self._normalized(images))

    search = self.task_config.validation_data.feature_shape[1]
    return SiameseTracker(embed, respond, self.task_config.tracker, search)

  def run_protocol(self, model: TrackingModel, folder: str = '') -> dict[str, Any]:
    """Follows every validation sequence from its first box.

    Args:
      model: restored.
      folder: where boxes, times and scores are written as the got10k toolkit does;
        nowhere if empty.

    Returns:
      OTB's scores, with 'evaluated' and 'expected' sequences.
    """
    config, follower = self.task_config, self.tracker(model)
    results = {}
    for sequence in self.sequences(self.validation_index):
      boxes, seconds = follow(follower, sequence)
      results[sequence.name] = tracking.evaluate(boxes, sequence.boxes)
      if folder:
        tracking.save_results(
          folder, config.benchmark, config.name, sequence.name, boxes, seconds
        )
    if folder:
      tracking.save_performance(folder, config.benchmark, config.name, results)
    whole = tracking.average(list(results.values()))
    return {
      'success': whole.success_score,
      'precision': whole.precision_score,
      'success_rate': whole.success_rate,
      'evaluated': len(results),
      'expected': len(self.validation_index),
    }


def follow(tracker: SiameseTracker, sequence: Sequence) -> tuple[np.ndarray, np.ndarray]:
  """Follows a sequence: [T, 4] boxes in pixels of the source, and seconds a frame."""
  boxes, seconds = [], []
  scale = 1.0
  for number, encoded in enumerate(sequence.frames):
    began = time.perf_counter()
    image = tf.io.decode_image(encoded, 3, expand_animations=False).numpy()
    if number == 0:
      scale = sequence.width / image.shape[1] if sequence.width else 1.0
      tracker.start(image, sequence.boxes[0] / scale)
      boxes.append(sequence.boxes[0])
    else:
      boxes.append(tracker.follow(image) * scale)
    seconds.append(time.perf_counter() - began)
  return np.array(boxes), np.array(seconds)

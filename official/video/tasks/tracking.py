"""Tracking by similarity (SiamFC) on a backbone for clips."""

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from official.core import task_factory
from official.video import registry
from official.video.augment import normalization, squares
from official.video.backbones import factory
from official.video.configs import tasks as task_config
from official.video.data import siamese
from official.video.errors import UserError
from official.video.evaluation import tracking, tracking_files
from official.video.losses import response
from official.video.models import siamese as siamese_model
from official.video.tasks import base
from official.video.tracking import sequences, tracker

NORMALIZATIONS = ('imagenet', 'pretraining')


@task_factory.register_task_cls(task_config.TrackingTask)
class TrackingTask(base.VideoTask):
  """Trains the heads on pairs of frames; validates on pairs, and evaluates by tracking."""

  scalar_names = ('accuracy',)
  headline = ('accuracy',)
  takes = {name: {'views': siamese.VIEWS} for name in ('train_data', 'validation_data')}
  protocol = 'one pass from the first box; means over the sequences'

  @property
  def score_names(self) -> tuple[str, ...]:
    """See the base."""
    return ('loss', 'accuracy')

  def check_data(self, training: bool, evaluation: bool = True) -> None:
    """Finds the data, and refuses an unknown normalization; see `VideoTask.check_data`."""
    name = self.task_config.normalization
    registry.check_choice('task.normalization', name, NORMALIZATIONS)
    super().check_data(training, evaluation)

  def chance(self) -> float:
    """That of a response of 0 everywhere."""
    return math.log(2)

  def views_of(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Exemplars and where they are searched."""
    names = ('exemplar', 'search')
    return {name: inputs[name][:, None, None] for name in names}

  def build_model(self) -> siamese_model.SiameseModel:
    """Backbone under the two heads."""
    config, frames = self.task_config.model, self.task_config.train_data.feature_shape[0]
    return siamese_model.SiameseModel(factory.build_encoder(config), config, frames)

  def _normalized(self, images: tf.Tensor) -> tf.Tensor:
    if self.task_config.normalization == 'imagenet':
      return normalization.standardize(images)
    return normalization.normalize(images, self.task_config.zero_centering)

  def forward(self, inputs, model, training):
    """{'response': [B, r, r]} of the pairs."""
    exemplar = model.embed(self._normalized(inputs['exemplar']), training)
    search = self._normalized(inputs['search'])
    return {'response': model.correlate(exemplar, search, training)}

  def terms(self, outputs, inputs):
    """Cross entropy of the cells, and share of right ones, both kinds weighing the same."""
    del inputs
    responses, radius = outputs['response'], self.task_config.positive_radius
    search, cells = self.task_config.train_data.feature_shape[1], responses.shape[-1]
    stride = (search - squares.exemplar_size(search)) / max(1, cells - 1)
    labels = response.response_labels(cells, stride, radius)
    if not labels.any():
      raise UserError(
        f'task.positive_radius {radius}: no cell of the response is so near to its middle; '
        f'expected at least {stride}, the pixels between two cells'
      )
    return {
      'loss': response.balanced_cross_entropy(responses, labels),
      'accuracy': response.balanced_accuracy(responses, labels),
    }

  def validation_outputs(self, inputs, model):
    """Loss and accuracy of each pair."""
    return self.terms(self.forward(inputs, model, False), inputs)

  def score(self, outputs):
    """Means over one pair of each validation sequence."""
    return {
      'loss': float(outputs['loss'].mean()),
      'accuracy': float(outputs['accuracy'].mean()),
      'evaluated': len(outputs['loss']),
      'expected': len(self.validation_index),
    }

  def tracker(self, model: siamese_model.SiameseModel) -> tracker.SiameseTracker:
    """A tracker on a model."""

    @tf.function(reduce_retracing=True, autograph=False)
    def embed(image):
      return model.embed(self._normalized(image))

    @tf.function(reduce_retracing=True, autograph=False)
    def respond(exemplar, images):
      many = tf.repeat(exemplar, self.task_config.tracker.num_scales, 0)
      return model.correlate(many, self._normalized(images))

    search = self.task_config.validation_data.feature_shape[1]
    return tracker.SiameseTracker(embed, respond, self.task_config.tracker, search)

  @property
  def protocol_is_shared(self) -> bool:
    """No: a sequence is followed from frame to frame."""
    return False

  def run_protocol(
    self, model: siamese_model.SiameseModel, folder: str = ''
  ) -> dict[str, Any]:
    """Follows every validation sequence from its first box.

    Args:
      model: restored.
      folder: where boxes, times and scores are written as the got10k toolkit does;
        nowhere if empty.

    Returns:
      OTB's scores, with 'evaluated' and 'expected' sequences and the frames of them.
    """
    follower, results, annotated = self.tracker(model), {}, 0
    names = self.task_config.benchmark, self.task_config.name
    for sequence in sequences.read_all(self.validation_index):
      boxes, seconds = tracker.follow(follower, sequence)
      results[sequence.name] = tracking.evaluate(boxes, sequence.boxes)
      annotated += sequence.annotated
      if folder:
        tracking_files.save_results(folder, *names, sequence.name, boxes, seconds)
    if folder:
      tracking_files.save_performance(folder, *names, results)
    whole = tracking.average(list(results.values()))
    scores = {
      'success': whole.success_score,
      'precision': whole.precision_score,
      'success_rate': whole.success_rate,
      'frames': whole.frames,
      'frames_expected': annotated,
      'evaluated': len(results),
      'expected': len(self.validation_index),
    }
    return self.covered(scores)

"""Linear evaluation and fine-tuning, tested on several views a video."""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from official.core import task_factory
from official.video.augment import normalization
from official.video.backbones import factory
from official.video.configs import tasks as task_config
from official.video.data import index
from official.video.errors import UserError
from official.video.evaluation import classification
from official.video.heads import classification as classification_head
from official.video.losses import gather
from official.video.models import encoder
from official.video.tasks import base


@task_factory.register_task_cls(task_config.ClassificationTask)
class ClassificationTask(base.VideoTask):
  """Softmax classification of videos over a frozen or a trained backbone.

  Testing averages the class probabilities (or logits, see `average`) over all test clips
  and crops of a video; a step holds one test clip a video, so memory does not grow with
  the number of views.
  """

  @functools.cached_property
  def num_classes(self) -> int:
    """Classes of the head: as configured, else as the data names them.

    Raises:
      UserError: neither configured nor named.
    """
    classes = self.task_config.model.num_classes or len(self.label_names())
    if not classes:
      raise UserError(
        'task.model.num_classes 0: the data names no classes; set the number of classes'
      )
    return classes

  def label_names(self) -> Sequence[str]:
    """Class names by class id, as the first data at hand tells; empty where none does."""
    config = self.task_config
    if config.train_data.input_path or config.train_data.tfds_name:
      return self.train_index.label_names
    return self.validation_index.label_names

  def check_data(self, training: bool) -> None:
    """Finds the data, and refuses views that training or the test can't use."""
    config = self.task_config
    classification.check_average(config.average)
    if config.train_data.num_views != 1 or config.validation_data.num_test_clips < 1:
      raise UserError(
        f'task.train_data.num_views {config.train_data.num_views} and task.validation_data.'
        f'num_test_clips {config.validation_data.num_test_clips}: classification trains on '
        '1 view and tests on at least 1 clip'
      )
    super().check_data(training)

  def check_records(self, table: index.RecordIndex) -> None:
    """Raises `UserError` where a label is missing or outside the head."""
    if table.labels is None:
      return
    low, high = int(table.labels.min()), int(table.labels.max())
    if low < 0:
      raise UserError(
        f'{table.files[0]}: holds clips without a label; convert the data with labels'
      )
    if high >= self.num_classes:
      raise UserError(
        f'{table.files[0]}: label {high} is outside task.model.num_classes '
        f'{self.num_classes}; set it to at least {high + 1}'
      )

  def build_model(self) -> encoder.VideoModel:
    """Backbone under the classifier."""
    config = self.task_config.model
    return encoder.VideoModel(
      factory.build_backbone(config.backbone, config.norm_activation, remat=config.remat),
      classification_head.build_classification_head(config.head, self.num_classes),
      config.endpoint,
      config.freeze_backbone,
    )

  def build_metrics(self, training: bool = True):
    """Training accuracy and regularisation, means between two reports."""
    names = ('accuracy', 'regularization_loss') if training else ()
    return [tf_keras.metrics.Mean(name=name) for name in names]

  def forward(self, inputs, model, training):
    """{'output': [B, num_classes] logits} of one view a clip."""
    clips = normalization.normalize(
      inputs['views'][:, 0], self.task_config.zero_centering
    )
    return {'output': model(clips, training=training)['output']}

  def compute_loss(self, outputs, inputs):
    """Cross entropy and accuracy, mean over the global batch."""
    logits = gather.gather(outputs['output'])
    labels = gather.gather(inputs['label'])
    with tf.control_dependencies([self._assert_labels(labels)]):
      target = tf.one_hot(labels, self.num_classes)
    smoothing = self.task_config.label_smoothing
    target = target * (1 - smoothing) + smoothing / self.num_classes
    loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(target, logits))
    hits = tf.argmax(logits, -1) == labels
    return {'loss': loss, 'accuracy': tf.reduce_mean(tf.cast(hits, tf.float32))}

  def _assert_labels(self, labels: tf.Tensor) -> tf.Operation:
    return tf.debugging.Assert(
      tf.reduce_all((labels >= 0) & (labels < self.num_classes)),
      [f'a label is outside task.model.num_classes {self.num_classes}:', labels],
    )

  def validation_outputs(self, inputs, model):
    """Class probabilities of each sample's test clip, averaged over its crops."""
    views = inputs['test_views']
    crops = views.shape[1]
    clips = tf.reshape(views, [-1, *views.shape[2:]])
    clips = normalization.normalize(clips, self.task_config.zero_centering)
    logits = model(clips, training=False)['output']
    logits = tf.reshape(logits, [-1, crops, self.num_classes])
    if self.task_config.average == 'logit':
      return {'probability': tf.nn.softmax(tf.reduce_mean(logits, 1))}
    return {'probability': tf.reduce_mean(tf.nn.softmax(logits), 1)}

  def score(self, outputs):
    """Top-1, top-5, mean class accuracy and cross entropy of the averaged views."""
    table = self.validation_index
    names = table.names()
    predictions = classification.average_views(
      [names[row] for row in outputs['record']],
      outputs['label'],
      outputs['probability'],
      average=self.task_config.average,
    )
    result = classification.evaluate(predictions, len(table))
    picked = np.take_along_axis(predictions.scores, predictions.labels[:, None], 1)
    return {
      'accuracy': result.top1,
      'mean_class_accuracy': result.mean_class_accuracy,
      'cross_entropy': float(-np.log(np.maximum(picked, 1e-12)).mean()),
      'evaluated': result.evaluated,
      'expected': result.expected,
    } | {f'top_{k}_accuracy': share for k, share in result.topk.items() if k > 1}

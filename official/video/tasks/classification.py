"""Linear evaluation and fine-tuning, tested on several views a video."""

import numpy as np
import tensorflow as tf

from official.core import task_factory
from official.video.augment import normalization
from official.video.backbones import factory
from official.video.configs import tasks as task_config
from official.video.data import index
from official.video.errors import UserError
from official.video.evaluation import classification
from official.video.heads import classification as classification_head
from official.video.models import encoder
from official.video.tasks import base, labelled


@task_factory.register_task_cls(task_config.ClassificationTask)
class ClassificationTask(labelled.LabelledTask):
  """Softmax classification of videos over a frozen or a trained backbone.

  Testing averages the class probabilities (or logits, see `average`) over all test clips
  and crops of a video; a step holds one test clip a video, so memory does not grow with
  the number of views.
  """

  scalar_names = ('accuracy',)
  takes = {
    'train_data': {'num_views': 1},
    'validation_data': {'num_test_clips': base.AtLeast(1)},
  }

  @property
  def average(self) -> str:
    """'probability' or 'logit', as the config says."""
    return self.task_config.average

  @property
  def score_names(self) -> tuple[str, ...]:
    """See the base."""
    return ('accuracy', 'top_5_accuracy', 'mean_class_accuracy', 'cross_entropy')

  def check_data(self, training: bool) -> None:
    """Finds the data, and refuses an average that the test does not know."""
    classification.check_average(self.average)
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
      factory.build_encoder(config),
      classification_head.build_classification_head(
        config.head, self.num_classes, config.norm_activation
      ),
      config.endpoint,
      config.freeze_backbone,
    )

  def forward(self, inputs, model, training):
    """{'output': [B, num_classes] logits} of one view a clip."""
    clips = normalization.normalize(
      inputs['views'][:, 0], self.task_config.zero_centering
    )
    return {'output': model(clips, training=training)['output']}

  def terms(self, outputs, inputs):
    """Cross entropy and whether the class is right, of each sample."""
    logits, labels = outputs['output'], inputs['label']
    with tf.control_dependencies([self._assert_labels(labels)]):
      target = tf.one_hot(labels, self.num_classes)
    smoothing = self.task_config.label_smoothing
    target = target * (1 - smoothing) + smoothing / self.num_classes
    hits = tf.argmax(logits, -1, labels.dtype) == labels
    return {
      'loss': tf.nn.softmax_cross_entropy_with_logits(target, logits),
      'accuracy': tf.cast(hits, tf.float32),
    }

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
    if self.average == 'logit':
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
      average=self.average,
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

"""Linear evaluation and fine-tuning, tested on several views a video."""

import dataclasses
import functools
import math
import os
from collections.abc import Collection, Mapping

import numpy as np
import tensorflow as tf

from official.core import task_factory
from official.video.augment import mixing, normalization
from official.video.backbones import factory
from official.video.checkpoints import origin
from official.video.configs import data as data_config
from official.video.configs import tasks as task_config
from official.video.data import contexts, index, reader
from official.video.errors import UserError
from official.video.evaluation import classification
from official.video.evaluation import multi_label as several
from official.video.heads import classification as classification_head
from official.video.models import encoder
from official.video.tasks import base, labelled


@task_factory.register_task_cls(task_config.ClassificationTask)
class ClassificationTask(labelled.LabelledTask):
  """Classification of videos over a frozen or a trained backbone.

  A video has one class or, with `multi_label`, as many as its record names.

  Testing averages the class probabilities (or logits, see `average`) over all test clips
  and crops of a video; a step holds one test clip a video, so memory does not grow with
  the number of views.
  """

  scalar_names = ('accuracy',)
  headline = ('accuracy',)
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
    if self.multi_label:
      return ('map', 'accuracy', 'cross_entropy')
    return ('accuracy', 'top_5_accuracy', 'mean_class_accuracy', 'cross_entropy')

  def chance(self) -> float:
    """That of probabilities which are all the same."""
    return math.log(2 if self.multi_label else self.num_classes)

  @property
  def multi_label(self) -> bool:
    """Whether a clip may have several classes, as the config says."""
    return self.task_config.multi_label

  @property
  def mixup(self) -> mixing.Mixup:
    """The mixtures of training clips, by the config and gin."""
    return mixing.build_mixup(self.task_config.mixup)

  @property
  def batch_multiple(self) -> int:
    """Clips of a group that is mixed."""
    mixup = self.mixup
    return mixup.group_size if mixup.alpha else 1

  def check_data(self, training: bool, evaluation: bool = True) -> None:
    """Finds the data, and refuses an average that the test does not know."""
    classification.check_average(self.average)
    self._check_groups(1)
    super().check_data(training, evaluation)

  def check_records(self, table: index.RecordIndex) -> None:
    """Raises `UserError` where a label is missing or outside the head."""
    if self.multi_label:
      most, high = self._label_range(table)
      unlabelled = not most  # A clip may have none of the classes; all of them may not.
    elif table.labels is None:
      return
    else:
      unlabelled, high = int(table.labels.min()) < 0, int(table.labels.max())
    if unlabelled:
      raise UserError(
        f'{table.files[0]}: holds clips without a label; convert the data with labels'
      )
    if high >= self.num_classes:
      raise UserError(
        f'{table.files[0]}: label {high} is outside task.model.num_classes '
        f'{self.num_classes}; set it to at least {high + 1}'
      )

  def _label_range(self, table: index.RecordIndex) -> tuple[int, int]:
    """Most labels of a record and the highest of all, looked up once a table."""
    if id(table) not in self._ranges:
      self._ranges[id(table)] = contexts.label_range(table)
    return self._ranges[id(table)]

  @functools.cached_property
  def _ranges(self) -> dict[int, tuple[int, int]]:
    return {}

  def build_inputs(
    self,
    params: data_config.DataConfig,
    input_context: tf.distribute.InputContext | None = None,
    start_step: int = 0,
  ) -> tf.data.Dataset:
    """As every task's; with `multi_label` batches hold all labels of their clips.

    Raises:
      UserError: a replica's training batch does not divide into groups for mixing.
    """
    if params.is_training and input_context:
      self._check_groups(input_context.num_replicas_in_sync)
    if self.multi_label:
      table = self.train_index if params.is_training else self.validation_index
      params = self._with_labels(params, self._label_range(table)[0])
    params = self._with_keys(params)
    return super().build_inputs(params, input_context, start_step)

  def _with_labels(self, params: data_config.DataConfig, most: int):
    return dataclasses.replace(params, num_labels=max(1, most, params.num_labels))

  def _with_keys(self, params: data_config.DataConfig) -> data_config.DataConfig:
    keyed = params.is_training and bool(self.mixup.alpha)
    return dataclasses.replace(params, sample_keys=True) if keyed else params

  def _check_groups(self, replicas: int) -> None:
    mixup, batch = self.mixup, self.task_config.train_data.global_batch_size
    if mixup.alpha and batch % (mixup.group_size * replicas):
      where = mixing.told_at(self.task_config.mixup, 'group_size')
      raise UserError(
        f'{where} {mixup.group_size}: does not divide the '
        f'{batch / replicas:g} clips of a replica; use a divisor of at least 2'
      )

  def training_spec(self) -> dict[str, tf.TensorSpec]:
    """What a global training batch holds, without any data."""
    params = self._with_keys(self.task_config.train_data)
    return reader.training_spec(
      self._with_labels(params, 1) if self.multi_label else params
    )

  def prepare(self, inputs, config):
    """Colours the views, and mixes those of training.

    Adds 'share' [B] of each clip in its mixture, and of the other one 'other_label' [B] or,
    with `multi_label`, 'other_labels' [B, L].
    """
    inputs = super().prepare(inputs, config)
    mixup = self.mixup
    if not (mixup.alpha and config.is_training):
      return inputs
    keys, label = inputs['sample_key'], 'labels' if self.multi_label else 'label'
    share = mixing.shares(keys, mixup.alpha)
    other = mixing.partners(keys, mixup.group_size, 'mixup/partner')
    views = inputs['views']
    return inputs | {
      'views': mixing.mixed(views, tf.gather(views, other), share),
      'share': share,
      f'other_{label}': tf.gather(inputs[label], other),
    }

  def words_of(self, inputs):
    """The classes that are to be told, and of a mixture the shares."""
    names = self.label_names()
    key = 'labels' if self.multi_label else 'label'

    def told(labels: np.ndarray) -> str:
      return ', '.join(
        names[x] if x < len(names) else f'class {x}' for x in np.ravel(labels) if x >= 0
      )

    labels = inputs[key].numpy()
    if 'share' not in inputs:
      return [{'to be told': told(label)} for label in labels]
    rows = zip(
      labels, inputs[f'other_{key}'].numpy(), inputs['share'].numpy(), strict=True
    )
    return [
      {
        'to be told': f'{100 * share:.0f} % {told(a)}, {100 - 100 * share:.0f} % {told(b)}'
      }
      for a, b, share in rows
    ]

  def check_origin(self, checkpoint: str, heads: Collection[str] = ()) -> origin.Origin:
    """As every task's; a head over one label is none over several, and the other way."""
    found = super().check_origin(checkpoint, heads)
    mine = self.multi_label
    theirs = found.task and bool(found.task.get('multi_label'))
    if 'head' in heads and theirs not in (None, mine):
      raise UserError(
        f'{checkpoint}: its classifier was trained with task.multi_label {not mine}, here '
        f'it is {mine}; use --params_override=task.multi_label={str(not mine).lower()}'
      )
    return found

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
    """Cross entropy and whether the likeliest class is right, of each sample.

    With `multi_label` the mean over the classes of binary cross entropy, and hits at 1.
    """
    logits = outputs['output']
    found, dominant = self._found(inputs)
    accuracy = tf.gather(dominant, tf.argmax(logits, -1), axis=1, batch_dims=1)
    smoothing = self.task_config.label_smoothing
    if self.multi_label:
      target = found * (1 - smoothing) + smoothing / 2
      losses = tf.nn.sigmoid_cross_entropy_with_logits(target, logits)
      return {'loss': tf.reduce_mean(losses, -1), 'accuracy': accuracy}
    target = found * (1 - smoothing) + smoothing / self.num_classes
    loss = tf.nn.softmax_cross_entropy_with_logits(target, logits)
    return {'loss': loss, 'accuracy': accuracy}

  def _found(self, inputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """What share of each clip is of each class, and what a guess is right about, [B, K].

    Both are the same but for mixtures, whose greater part has to be guessed.
    """
    label = 'labels' if self.multi_label else 'label'
    found = self._multi_hot(inputs[label])
    if 'share' not in inputs:
      return found, found
    other, share = self._multi_hot(inputs[f'other_{label}']), inputs['share']
    dominant = tf.where(share[:, None] < 0.5, other, found)
    return mixing.mixed(found, other, share), dominant

  def _multi_hot(self, labels: tf.Tensor) -> tf.Tensor:
    """[B, K] of labels [B], or of [B, L] of which -1 is none."""
    checked = tf.maximum(labels, 0) if self.multi_label else labels
    with tf.control_dependencies([self._assert_labels(checked)]):
      found = tf.one_hot(labels, self.num_classes)
    return tf.reduce_max(found, 1) if self.multi_label else found

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
    labels = {'labels': inputs['labels']} if self.multi_label else {}
    activation = tf.sigmoid if self.multi_label else tf.nn.softmax
    if self.average == 'logit':
      return labels | {'probability': activation(tf.reduce_mean(logits, 1))}
    return labels | {'probability': tf.reduce_mean(activation(logits), 1)}

  def score(self, outputs):
    """Top-1, top-5, mean class accuracy and cross entropy of the averaged views.

    With `multi_label` see `evaluation.multi_label`.
    """
    table = self.validation_index
    if self.multi_label:
      found = self._multi_label_predictions(outputs)
      scores = several.evaluate(found.targets, found.scores)
      return scores | {'evaluated': len(found.names), 'expected': len(table)}
    predictions = self._predictions(outputs)
    result = classification.evaluate(predictions, len(table))
    picked = np.take_along_axis(predictions.scores, predictions.labels[:, None], 1)
    return {
      'accuracy': result.top1,
      'mean_class_accuracy': result.mean_class_accuracy,
      'cross_entropy': float(-np.log(np.maximum(picked, 1e-12)).mean()),
      'evaluated': result.evaluated,
      'expected': result.expected,
    } | {f'top_{k}_accuracy': share for k, share in result.topk.items() if k > 1}

  def _predictions(self, outputs: Mapping[str, np.ndarray]) -> classification.Predictions:
    names = self.validation_index.names()
    return classification.average_views(
      [names[row] for row in outputs['record']],
      outputs['label'],
      outputs['probability'],
      average=self.average,
    )

  def confusion(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """See the base."""
    if self.multi_label:
      return None
    found = self._predictions(outputs)
    guesses = found.scores.argmax(axis=1)
    return classification.confusion_matrix(found.labels, guesses, self.num_classes)

  def _multi_label_predictions(
    self, outputs: Mapping[str, np.ndarray]
  ) -> several.Predictions:
    table = self.validation_index
    return several.named(table.names(), outputs, self.average, table.label_names)

  def save_predictions(self, outputs: Mapping[str, np.ndarray], folder: str) -> list[str]:
    """Writes predictions.npz of a `multi_label` evaluation; `classify` writes the other."""
    if not self.multi_label:
      return []
    path = os.path.join(folder, 'predictions.npz')
    self._multi_label_predictions(outputs).save(path)
    return [path]

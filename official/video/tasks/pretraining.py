"""The base of pretraining tasks: views in, a contrastive loss, a validation that tells."""

import abc

import tensorflow as tf
import tf_keras

from official.video.augment import normalization
from official.video.backbones import factory
from official.video.errors import UserError
from official.video.evaluation import collapse, knn
from official.video.heads import projection
from official.video.models import encoder
from official.video.tasks import base


def views_first(views: tf.Tensor) -> tf.Tensor:
  """[B, V, ...] views to [V * B, ...], the first view of all clips first."""
  shape = tf.shape(views)
  views = tf.transpose(views, [1, 0, *range(2, views.shape.rank)])
  return tf.reshape(views, tf.concat([[shape[0] * shape[1]], shape[2:]], 0))


class PretrainTask(base.VideoTask):
  """Pretraining on the augmented views of unlabelled clips.

  A subclass gives `compute_loss`; its scalars other than 'loss' are named by
  `scalar_names`. Validation measures the same scalars on fixed views of the validation
  clips, and on one plain view of each the k-nearest-neighbour accuracy (where there are
  labels) and how far the representation has collapsed.
  """

  scalar_names: tuple[str, ...] = ()

  def check_data(self, training: bool) -> None:
    """Finds the data, and refuses views that the loss or the validation can't use."""
    config = self.task_config
    for name, data, clips in (
      ('train_data', config.train_data, 0),
      ('validation_data', config.validation_data, 1),
    ):
      if data.num_views != 2 or data.num_test_clips != clips:
        raise UserError(
          f'task.{name}: num_views {data.num_views} and num_test_clips '
          f'{data.num_test_clips}, pretraining takes 2 and {clips}'
        )
    super().check_data(training)

  def build_model(self) -> encoder.VideoModel:
    """Backbone under the projection head."""
    config = self.task_config.model
    return encoder.VideoModel(
      factory.build_backbone(config.backbone, config.norm_activation, remat=config.remat),
      projection.build_projection_head(config.head, config.norm_activation),
      config.endpoint,
    )

  def build_metrics(self, training: bool = True):
    """Means over the steps between two reports, in training only."""
    names = (*self.scalar_names, 'regularization_loss') if training else ()
    return [tf_keras.metrics.Mean(name=name) for name in names]

  def forward(self, inputs, model, training):
    """{'embedding': [B, V, D]}: head outputs of the augmented views."""
    clips = views_first(inputs['views'])
    clips = normalization.normalize(clips, self.task_config.zero_centering)
    output = model(clips, training=training)['output']
    views = tf.split(output, inputs['views'].shape[1])
    return {'embedding': tf.stack(views, axis=1)}

  def validation_outputs(self, inputs, model):
    """Embeddings of the augmented views and the feature of the plain view."""
    clips = normalization.normalize(
      inputs['test_views'][:, 0], self.task_config.zero_centering
    )
    outputs = self.forward(inputs, model, False)
    return outputs | {'feature': model.encode(clips)['feature']}

  def score(self, outputs):
    """Loss and its scalars on validation, kNN accuracy, measures of collapse."""
    table = self.validation_index
    scores = self.validation_scalars(outputs)
    scores |= collapse.collapse_measures(outputs['feature'])
    labels = outputs['label']
    if len(labels) > 1 and labels.min() >= 0:
      scores['knn_accuracy'] = knn.leave_one_out(
        outputs['feature'],
        labels,
        k=self.task_config.online_knn.k,
        temperature=self.task_config.online_knn.temperature,
      )
    return scores | {'evaluated': len(labels), 'expected': len(table)}

  @abc.abstractmethod
  def validation_scalars(self, outputs) -> dict[str, float]:
    """The scalars of `compute_loss`, given `score`'s outputs.

    Where they depend on the batch, over validation batches of the training's size.
    """

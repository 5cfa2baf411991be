"""SimSiam on clips: each view predicts what the net makes of the other.

Source: arXiv 2011.10566.
"""

import dataclasses

import tensorflow as tf
import tf_keras
from official.core import task_factory

from official.video.backbones import factory
from official.video.configs import heads, protocols, tasks
from official.video.heads import projection
from official.video.models import encoder
from official.video.projects.cvrl import configs as cvrl
from official.video.tasks import pretraining


@dataclasses.dataclass
class Model(tasks.PretrainModel):
  """Backbone and projector; `predictor_dim` hidden units of the predictor."""

  predictor_dim: int = 512


@dataclasses.dataclass
class SimSiamTask(tasks.PretrainTask):
  """SimSiam pretraining."""

  model: Model = dataclasses.field(default_factory=Model)


class SimSiamModel(encoder.VideoModel):
  """An encoder under a projector, which a predictor follows."""

  def __init__(self, config: Model):
    projector = projection.ProjectionHead(config.head, config.norm_activation)
    super().__init__(factory.build_encoder(config), projector, config.endpoint)
    size = config.head.output_dim
    predictor = heads.ProjectionHead(
      hidden_dim=config.predictor_dim, num_hidden_layers=1, output_dim=size
    )
    self.predictor = projection.ProjectionHead(predictor, name='predictor')
    self.predictor(tf_keras.Input([size]))


@task_factory.register_task_cls(SimSiamTask)
class SimSiam(pretraining.PretrainTask):
  """Draws the prediction of one view towards the other, which stands still."""

  scalar_names = ('similarity',)

  def build_model(self) -> SimSiamModel:
    return SimSiamModel(self.task_config.model)

  def forward(self, inputs, model, training):
    clips = pretraining.views_first(self.normalized(inputs['views']))
    projected = model(clips, training=training)['output']
    predicted = model.predictor(projected, training=training)
    return {
      name: tf.stack(tf.split(tf.math.l2_normalize(x, -1), 2), axis=1)
      for name, x in {'projected': projected, 'predicted': predicted}.items()
    }

  def terms(self, outputs, inputs):
    del inputs
    other = tf.stop_gradient(outputs['projected'][:, ::-1])
    similarity = tf.reduce_sum(outputs['predicted'] * other, -1)
    return {'similarity': tf.reduce_mean(similarity, 1)}

  def total(self, scalars):
    return -scalars['similarity']


def tiny():
  """SimSiam over CVRL's tiny net and clips."""
  experiment = cvrl.tiny_pretrain()
  old = experiment.task
  model = Model(backbone=old.model.backbone, head=old.model.head, predictor_dim=32)
  experiment.task = SimSiamTask(
    model=model, train_data=old.train_data, validation_data=old.validation_data
  )
  return experiment


protocols.experiments('simsiam', pretrain={'tiny': tiny})

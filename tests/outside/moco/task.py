"""MoCo v2 on clips: a slow encoder's keys, and a queue of those of earlier batches.

Source: arXiv 1911.05722 and 2003.04297.
"""

import dataclasses

import tensorflow as tf
import tf_keras
from official.core import task_factory
from official.modeling import hyperparams

from official.video.backbones import factory
from official.video.configs import protocols, tasks
from official.video.heads import projection
from official.video.losses import gather
from official.video.models import momentum
from official.video.projects.cvrl import configs as cvrl
from official.video.tasks import pretraining


@dataclasses.dataclass
class Model(tasks.PretrainModel):
  """Query and key encoder.

  Attributes:
    momentum: share of the key encoder's weights that a step keeps.
    queue_size: keys of earlier batches.
  """

  momentum: float = 0.999
  queue_size: int = 4096


@dataclasses.dataclass
class Losses(hyperparams.Config):
  """InfoNCE; `temperature` divides the similarities."""

  temperature: float = 0.2


@dataclasses.dataclass
class MocoTask(tasks.PretrainTask):
  """MoCo pretraining."""

  model: Model = dataclasses.field(default_factory=Model)
  losses: Losses = dataclasses.field(default_factory=Losses)


class Queue(tf_keras.layers.Layer):
  """The newest keys, `[size, dim]`, the oldest first."""

  def __init__(self, size: int, dim: int):
    super().__init__(name='queue')
    noise = tf.random.stateless_normal([size, dim], [0, size])
    self.keys = self.add_weight(
      name='keys',
      shape=[size, dim],
      initializer=tf_keras.initializers.Constant(tf.math.l2_normalize(noise, -1).numpy()),
      trainable=False,
      aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )

  def push(self, keys: tf.Tensor) -> None:
    self.keys.assign(tf.concat([self.keys, keys], 0)[-self.keys.shape[0] :])


class MocoModel(momentum.MomentumModel):
  """An encoder for queries, its slow copy for keys, the queue."""

  def __init__(self, config: Model):
    backbone = factory.build_encoder(config)
    size = backbone.output_specs[config.endpoint][-1]
    head = self._head(config, size, 'projection_head')
    super().__init__(backbone, head, config.endpoint)
    with momentum.untrained():
      self.key_backbone = factory.build_encoder(config, 'key_backbone')
      self.key_head = self._head(config, size, 'key_head')
    self.follow(self.key_backbone, self.backbone)
    self.follow(self.key_head, self.head)
    self.copy_to_followers()
    self.queue = Queue(config.queue_size, config.head.output_dim)

  def _head(self, config: Model, size: int, name: str) -> projection.ProjectionHead:
    head = projection.ProjectionHead(config.head, config.norm_activation, name)
    head(tf_keras.Input([size]))
    return head

  def key(self, clips: tf.Tensor, training: bool) -> tf.Tensor:
    maps = self.key_backbone(clips, training=training)[self.endpoint]
    feature = tf.reduce_mean(tf.cast(maps, tf.float32), [1, 2, 3])
    return tf.stop_gradient(self.key_head(feature, training=training))


@task_factory.register_task_cls(MocoTask)
class Moco(pretraining.PretrainTask):
  """Tells a clip's other view from the keys of other clips."""

  scalar_names = ('moco_loss', 'moco_top1')

  def build_model(self) -> MocoModel:
    return MocoModel(self.task_config.model)

  def before_forward(self, model):
    model.move_followers(self.task_config.model.momentum)

  def forward(self, inputs, model, training):
    first, second = tf.unstack(self.normalized(inputs['views']), axis=1)
    query = tf.math.l2_normalize(model(first, training=training)['output'], -1)
    key = tf.math.l2_normalize(model.key(second, training), -1)
    positive = tf.reduce_sum(query * key, 1, keepdims=True)
    negative = tf.matmul(query, model.queue.keys, transpose_b=True)
    return {'similarity': tf.concat([positive, negative], 1), 'key': key}

  def terms(self, outputs, inputs):
    del inputs
    logits = outputs['similarity'] / self.task_config.losses.temperature
    labels = tf.zeros(tf.shape(logits)[:1], tf.int32)
    return {
      'moco_loss': tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits),
      'moco_top1': tf.cast(tf.argmax(logits, 1) == 0, tf.float32),
    }

  def total(self, scalars):
    return scalars['moco_loss']

  def after_forward(self, model, outputs):
    model.queue.push(gather.gather(outputs['key']))


def tiny():
  """MoCo over CVRL's tiny net and clips."""
  experiment = cvrl.tiny_pretrain()
  old = experiment.task
  model = Model(backbone=old.model.backbone, head=old.model.head, queue_size=256)
  experiment.task = MocoTask(
    model=model, train_data=old.train_data, validation_data=old.validation_data
  )
  return experiment


protocols.experiments('moco', pretrain={'tiny': tiny})

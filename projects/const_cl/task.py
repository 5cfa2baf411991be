"""ConST-CL's pretraining task: global InfoNCE, and regions met in the other view."""

from typing import Any

import numpy as np
import tensorflow as tf
from official.core import task_factory

from official.video.augment import normalization
from official.video.errors import UserError
from official.video.losses import gather, info_nce
from official.video.tasks import pretraining

from . import configs, data, losses, model

_GLOBAL = (
  'contrastive_loss',
  'contrastive_top1',
  'contrastive_entropy',
  'positive_similarity',
  'negative_similarity',
)
_LOCAL = ('local_loss', 'local_positive_similarity', 'local_negative_similarity')


@task_factory.register_task_cls(configs.ConstClTask)
class ConstClTask(pretraining.PretrainTask):
  """Pulls two clips of a video together, and each region to its match in the other clip.

  A region of one view is reconstructed from the context of the other; that is contrasted
  with the other view's own region, against the regions of all other videos.
  """

  scalar_names = (*_GLOBAL, *_LOCAL)

  def check_data(self, training: bool) -> None:
    """Finds the data, and refuses views without regions."""
    for name in ('train_data', 'validation_data'):
      config = getattr(self.task_config, name)
      if config.views != data.VIEWS:
        raise UserError(
          f'task.{name}.views {config.views!r}: ConST-CL learns from regions; expected '
          f'{data.VIEWS!r}'
        )
      generator = config.regions.generator
      if self.task_config.losses.same_order and generator != 'tracks':
        raise UserError(
          f'task.{name}.regions.generator {generator!r}: only tracks have the same order '
          'in both views; use it, or set task.losses.same_order to false'
        )
    super().check_data(training)

  def build_model(self) -> model.ConstClModel:
    """Backbone under the global and the local head."""
    return model.ConstClModel(self.task_config.model)

  def forward(self, inputs, model, training):
    """What `ConstClModel.pair` returns of the two views."""
    clips = pretraining.views_first(inputs['views'])
    clips = normalization.normalize(clips, self.task_config.zero_centering)
    boxes = pretraining.views_first(inputs['regions'])
    return model.pair(clips, boxes, training)

  def compute_loss(self, outputs, inputs):
    """Both losses over the global batch, and their weighted sum."""
    view_a, view_b = tf.unstack(gather.gather(outputs['embedding']), axis=1)
    scalars = self._contrast(view_a, view_b)
    local = losses.local_loss(
      gather.gather(outputs['region']),
      gather.gather(outputs['reconstruction']),
      gather.gather(tf.cast(inputs['region_valid'], tf.int32)) > 0,
      **self._local_options,
    )
    scalars |= dict(zip(_LOCAL, local, strict=True))
    return {'loss': self._total(scalars), **scalars}

  @property
  def _local_options(self) -> dict[str, Any]:
    config = self.task_config.losses
    return {
      'temperature': config.local_temperature,
      'same_order': config.same_order,
      'reference_compatible': config.reference_compatible,
    }

  def _contrast(self, view_a: tf.Tensor, view_b: tf.Tensor) -> dict[str, tf.Tensor]:
    result = info_nce.info_nce(view_a, view_b, self.task_config.losses.global_temperature)
    return {
      'contrastive_loss': result.loss,
      'contrastive_top1': result.top1,
      'contrastive_entropy': result.entropy,
      'positive_similarity': result.positive_similarity,
      'negative_similarity': result.negative_similarity,
    }

  def _total(self, scalars):
    weights = self.task_config.losses
    return (
      weights.global_weight * scalars['contrastive_loss']
      + weights.local_weight * scalars['local_loss']
    )

  def validation_outputs(self, inputs, model):
    """Embeddings, the plain view's feature, and the local terms of each sample.

    The local loss is contrasted with the replica's batch, not with the training's: all
    regions of a validation set would take gigabytes.
    """
    outputs = self.forward(inputs, model, False)
    valid = inputs['region_valid'] & inputs['valid'][:, None, None]
    pairs = losses.directions(
      outputs['region'],
      outputs['reconstruction'],
      valid,
      **self._local_options,
    )
    terms = {
      name: tf.stack([tf.reduce_sum(getattr(d, key) * d.weight, 1) for d in pairs], 1)
      for name, key in zip(_LOCAL, ('loss', 'positive', 'negative'), strict=True)
    }
    weight = tf.stack([tf.reduce_sum(d.weight, 1) for d in pairs], 1)
    clips = normalization.normalize(
      inputs['test_views'][:, 0], self.task_config.zero_centering
    )
    feature = model.encode(clips)['feature']
    return terms | {
      'embedding': outputs['embedding'],
      'local_weight': weight,
      'feature': feature,
    }

  def validation_scalars(self, outputs):
    """The scalars, the global ones over batches of the training's size."""
    embeddings = outputs['embedding']
    batch = min(self.task_config.train_data.global_batch_size, len(embeddings))
    batches = [
      self._contrast(embeddings[i : i + batch, 0], embeddings[i : i + batch, 1])
      for i in range(0, len(embeddings) - batch + 1, batch)
    ]
    scalars = {
      name: float(np.mean([scalars[name] for scalars in batches])) for name in _GLOBAL
    }
    weight = np.maximum(outputs['local_weight'].sum(0), 1)
    scalars |= {name: float((outputs[name].sum(0) / weight).mean()) for name in _LOCAL}
    return scalars | {'loss': float(self._total(scalars))}

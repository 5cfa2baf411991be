"""ConST-CL's pretraining task: global InfoNCE, and regions met in the other view."""

from typing import Any

import numpy as np
import tensorflow as tf
from official.core import task_factory

from official.video.errors import UserError
from official.video.losses import gather, info_nce
from official.video.tasks import pretraining

from . import configs, data, losses, model

_LOCAL = ('local_loss', 'local_positive_similarity', 'local_negative_similarity')


@task_factory.register_task_cls(configs.ConstClTask)
class ConstClTask(pretraining.TwoViewTask):
  """Pulls two clips of a video together, and each region to its match in the other clip.

  A region of one view is reconstructed from the context of the other; that is contrasted
  with the other view's own region, against the regions of all other videos.
  """

  scalar_names = (*info_nce.SCALARS, *_LOCAL)
  headline = (
    *('contrastive_top1', 'local_positive_similarity', 'local_negative_similarity'),
  )
  takes = {
    name: {'views': data.VIEWS, **fields}
    for name, fields in pretraining.PretrainTask.takes.items()
  }

  def check_data(self, training: bool, evaluation: bool = True) -> None:
    """Finds the data, and refuses regions that do not have the order asked for."""
    for name in ('train_data', 'validation_data'):
      generator = getattr(self.task_config, name).regions.generator
      if self.task_config.losses.same_order and generator != 'tracks':
        raise UserError(
          f'task.{name}.regions.generator {generator!r}: only tracks have the same order '
          'in both views; use it, or set task.losses.same_order to false'
        )
    super().check_data(training, evaluation)

  def build_model(self) -> model.ConstClModel:
    """Backbone under the global and the local head."""
    return model.ConstClModel(configs.model_of(self.task_config))

  def boxes_of(self, inputs):
    """The regions."""
    return {'views': (inputs['regions'], inputs['region_valid'])}

  def forward(self, inputs, model, training):
    """What `ConstClModel.pair` returns of the two views, and which regions there are."""
    clips = self.normalized(pretraining.views_first(inputs['views']))
    boxes = pretraining.views_first(inputs['regions'])
    valid = {'region_valid': inputs['region_valid']}
    return valid | model.pair(clips, boxes, training)

  def chance(self) -> float:
    """As if all regions counted, and none told anything."""
    config = self.task_config
    weights, data = config.losses, config.train_data
    return (
      weights.global_weight * super().chance()
      + weights.local_weight
      * losses.chance(data.global_batch_size, data.regions.count, weights.same_order)
    )

  @property
  def temperature(self):
    """Of the contrast between clips."""
    return self.task_config.losses.global_temperature

  def contrast(self, whole):
    """InfoNCE between the clips and, where there are regions, between these."""
    scalars = super().contrast(whole)
    if 'region' not in whole:
      return scalars
    names = ('region', 'reconstruction', 'region_valid')
    local = losses.local_loss(*(whole[name] for name in names), **self._local_options)
    return scalars | dict(zip(_LOCAL, local, strict=True))

  def total(self, scalars):
    """The weighted sum of both losses."""
    weights = self.task_config.losses
    return (
      weights.global_weight * scalars['contrastive_loss']
      + weights.local_weight * scalars['local_loss']
    )

  @property
  def _local_options(self) -> dict[str, Any]:
    config = self.task_config.losses
    return {
      'temperature': config.local_temperature,
      'same_order': config.same_order,
      'reference_compatible': config.reference_compatible,
    }

  def own_pages(self, model, clips):
    """Regions with their matches, and where they look."""
    from . import pictures

    return pictures.pages(self, model, clips)

  def validation_outputs(self, inputs, model):
    """Embeddings, the plain view's feature, and the local terms of each sample.

    The local loss is contrasted within the validation batch, not the training's: all
    regions of a validation set would take gigabytes.
    """
    outputs = super().validation_outputs(inputs, model)
    valid = outputs.pop('region_valid') & inputs['valid'][:, None, None]
    regions = (outputs.pop('region'), outputs.pop('reconstruction'), valid)
    whole = [gather.gather(x) for x in regions]
    pairs = losses.directions(*whole, **self._local_options)
    terms = {
      name: tf.stack([tf.reduce_sum(getattr(d, key) * d.weight, 1) for d in pairs], 1)
      for name, key in zip(_LOCAL, ('loss', 'positive', 'negative'), strict=True)
    }
    terms['local_weight'] = tf.stack([tf.reduce_sum(d.weight, 1) for d in pairs], 1)
    return outputs | {name: gather.own_rows(x, valid) for name, x in terms.items()}

  def validation_scalars(self, outputs):
    """The scalars, the global ones over batches of the training's size."""
    weight = np.maximum(outputs['local_weight'].sum(0), 1)
    local = {name: float((outputs[name].sum(0) / weight).mean()) for name in _LOCAL}
    return self.with_total(self.batch_scalars(outputs) | local)

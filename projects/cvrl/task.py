"""CVRL's pretraining task: InfoNCE between two augmented clips of a video."""

import numpy as np
import tensorflow as tf
from official.core import task_factory

from official.video.losses import gather, info_nce
from official.video.tasks import pretraining

from . import configs


@task_factory.register_task_cls(configs.CvrlTask)
class CvrlTask(pretraining.PretrainTask):
  """Pulls two clips of a video together, pushes all other clips of the batch apart.

  The paper's section 3.1; the interval between the clips is the sampler's (3.2), what is
  done to their pixels the augmentation's (3.3).
  """

  scalar_names = (
    'contrastive_loss',
    'contrastive_top1',
    'contrastive_entropy',
    'positive_similarity',
    'negative_similarity',
  )

  def compute_loss(self, outputs, inputs):
    """InfoNCE over the global batch, both directions; chance is 2 ln(2N - 1)."""
    del inputs
    view_a, view_b = tf.unstack(gather.gather(outputs['embedding']), axis=1)
    result = self._contrast(view_a, view_b)
    return {'loss': result['contrastive_loss'], **result}

  def _contrast(self, view_a: tf.Tensor, view_b: tf.Tensor) -> dict[str, tf.Tensor]:
    losses = self.task_config.losses
    result = info_nce.info_nce(view_a, view_b, losses.temperature)
    return {
      'contrastive_loss': result.loss,
      'contrastive_top1': result.top1,
      'contrastive_entropy': result.entropy,
      'positive_similarity': result.positive_similarity,
      'negative_similarity': result.negative_similarity,
    }

  def validation_scalars(self, outputs):
    """The scalars over batches of the training's size, so that chance is the same."""
    embeddings = outputs['embedding']
    batch = min(self.task_config.train_data.global_batch_size, len(embeddings))
    batches = [
      self._contrast(embeddings[i : i + batch, 0], embeddings[i : i + batch, 1])
      for i in range(0, len(embeddings) - batch + 1, batch)
    ]
    return {
      name: float(np.mean([scalars[name] for scalars in batches]))
      for name in self.scalar_names
    }

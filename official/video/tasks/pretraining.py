"""The base of pretraining tasks: a loss without labels, a validation that tells."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from official.video.augment import normalization
from official.video.backbones import factory
from official.video.evaluation import blocks, collapse, knn
from official.video.heads import projection
from official.video.losses import info_nce
from official.video.models import encoder
from official.video.tasks import base


def views_first(views: tf.Tensor) -> tf.Tensor:
  """[B, V, ...] views to [V * B, ...], the first view of all clips first."""
  shape = tf.shape(views)
  views = tf.transpose(views, [1, 0, *range(2, views.shape.rank)])
  return tf.reshape(views, tf.concat([[shape[0] * shape[1]], shape[2:]], 0))


# What validation keeps of every sample beside the task's own outputs.
_OWN = ('feature', 'label', 'record', 'valid', 'wrapped', 'bad')


class PretrainTask(base.VideoTask):
  """Pretraining without labels.

  A subclass gives the model, `forward`, and what the loss is made of. Validation takes the
  mean of `terms` over all samples and of `contrast` over batches of the training's size
  (so that chance is the same); on one plain view of each clip it measures the
  k-nearest-neighbour accuracy, where there are labels, and how far the representation
  has collapsed.
  """

  takes: Mapping[str, Mapping[str, Any]] = {
    'train_data': {'num_views': 2, 'num_test_clips': 0},
    'validation_data': {'num_views': 2, 'num_test_clips': 1},
  }

  # Of `terms`, known from the first validation batch on.
  _term_names: tuple[str, ...] = ()

  # Whether it was said that the data does not tell which clips are of one video.
  _noted = False

  @property
  def score_names(self) -> tuple[str, ...]:
    """See the base."""
    return ('loss', *self.scalar_names, *collapse.MEASURES, 'knn_accuracy')

  @property
  def score_headline(self) -> tuple[str, ...]:
    """See the base."""
    return (*self.headline, 'knn_accuracy', 'effective_rank')

  def chances(self, training: bool) -> dict[str, float]:
    """Of the nearest neighbours' votes: the share of the largest class."""
    labels = None if training else self.validation_index.labels
    if labels is None or not len(labels) or labels.min() < 0:
      return {}
    return {'knn_accuracy': float(np.bincount(labels).max() / len(labels))}

  def normalized(self, clips: tf.Tensor) -> tf.Tensor:
    """Pixels as the model takes them."""
    return normalization.normalize(clips, self.task_config.zero_centering)

  def feature(
    self, inputs: Mapping[str, tf.Tensor], model: encoder.VideoModel
  ) -> tf.Tensor:
    """`[B, C]` features of the plain views, which kNN and collapse are measured on."""
    return model.encode(self.normalized(inputs['test_views'][:, 0]))['feature']

  def validation_outputs(self, inputs, model):
    """Every sample's terms, what the batches' contrast needs, and its feature."""
    outputs = self.forward(inputs, model, False)
    kept = outputs if self.contrasts else {}
    terms = self.terms(outputs, inputs)
    for method, given, others in (
      ('forward', kept, _OWN),
      ('terms', terms, (*kept, *_OWN)),
    ):
      if taken := sorted(set(given) & set(others)):
        self._wrong(method, f'{taken} are names of what validation keeps; take others')
    self._term_names = tuple(terms)
    return {**kept, **terms, 'feature': self.feature(inputs, model)}

  def score(self, outputs):
    """Loss and its scalars on validation, kNN accuracy, measures of collapse."""
    scores = {**self.validation_scalars(outputs), **self._contrasted(outputs)}
    if len(outputs['feature']) > 1:  # One clip fills no space.
      scores |= collapse.collapse_measures(outputs['feature'])
    labels, online = outputs['label'], self.task_config.online_knn
    videos = self.source_videos(outputs['record'])
    if len(np.unique(videos)) > 1 and labels.min() >= 0:
      scores['knn_accuracy'] = knn.leave_one_out(
        outputs['feature'], labels, videos, online.k, online.temperature
      )
      scores['knn_videos'] = len(np.unique(videos))
      self._note_unknown_sources()
    return scores | {'evaluated': len(labels), 'expected': len(self.validation_index)}

  def source_videos(self, rows: np.ndarray) -> np.ndarray:
    """A number for the video that each validation record was cut from.

    Clips of one video look alike whatever they show, so they don't vote for each other.
    Where the data does not tell, each record is a video of its own.
    """
    sources = self.validation_index.sources
    return rows if sources is None else sources[rows]

  def _note_unknown_sources(self) -> None:
    """Says once that clips of one video may vote for each other."""
    table = self.validation_index
    if table.sources is not None or self._noted:
      return
    self._noted = True
    print(
      f'note: {table.files[0]} ...: no manifest tells which clips are of one video; each '
      'counts as a video of its own, so those of one may vote for each other in '
      'knn_accuracy; convert the data again with tfrecords_tools.convert',
      file=sys.stderr,
    )

  def validation_scalars(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The scalars of training, given `score`'s outputs."""
    names = {*self.scalar_names, *self._term_names}
    terms = {name: x for name, x in outputs.items() if name in names}
    return self.with_total(
      {name: float(x.mean()) for name, x in terms.items()} | self.batch_scalars(outputs)
    )

  def with_total(self, scalars: dict[str, float]) -> dict[str, float]:
    """Scalars and the loss that they make."""
    tensors = {name: tf.constant(value, tf.float32) for name, value in scalars.items()}
    return scalars | {'loss': float(self._total(tensors))}

  def batch_scalars(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Means of `contrast` over validation batches of the training's size."""
    if not self.contrasts:
      return {}
    count, batch = len(outputs['record']), self._contrast_batch(outputs)
    rows = [
      self.contrast(
        {
          name: tf.constant(blocks.take(x, slice(first, first + batch)))
          for name, x in outputs.items()
        }
      )
      for first in range(0, count - batch + 1, batch)
    ]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

  def _contrast_batch(self, outputs: Mapping[str, np.ndarray]) -> int:
    """Samples of a batch of `batch_scalars`."""
    count = len(outputs['record'])
    return min(self.task_config.train_data.global_batch_size or count, count)

  def _contrasted(self, outputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Samples in the whole batches of `batch_scalars`, of how many."""
    if not self.contrasts:
      return {}
    count, batch = len(outputs['record']), self._contrast_batch(outputs)
    return {'contrasted': count - count % batch, 'contrasted_expected': count}


class TwoViewTask(PretrainTask):
  """InfoNCE between two views of a clip (or each two of more), under a projection head."""

  scalar_names: tuple[str, ...] = info_nce.SCALARS
  headline: tuple[str, ...] = (
    *('contrastive_top1', 'positive_similarity', 'negative_similarity'),
  )

  def build_model(self) -> encoder.VideoModel:
    """Backbone under the projection head."""
    config = self.task_config.model
    head = projection.ProjectionHead(config.head, config.norm_activation)
    return encoder.VideoModel(factory.build_encoder(config), head, config.endpoint)

  def forward(self, inputs, model, training):
    """{'embedding': [B, V, D]}: head outputs of the augmented views."""
    clips = self.normalized(views_first(inputs['views']))
    output = model(clips, training=training)['output']
    return {'embedding': tf.stack(tf.split(output, inputs['views'].shape[1]), axis=1)}

  def chance(self) -> float:
    """That of embeddings which are all as similar."""
    return info_nce.chance(self.task_config.train_data.global_batch_size)

  def chances(self, training: bool) -> dict[str, float]:
    """Also of the other view being the most similar candidate, of all but the view itself."""
    batch = self.task_config.train_data.global_batch_size
    clips = batch if training else min(batch, len(self.validation_index))
    views = self.task_config.train_data.num_views
    found = {'contrastive_top1': 1 / (2 * clips - 1)} if clips and views == 2 else {}
    return super().chances(training) | found

  @property
  def temperature(self) -> float:
    """Divides the similarities."""
    return self.task_config.losses.temperature

  def contrast(self, whole):
    """InfoNCE of the global batch's pairs of views, both directions; chance 2 ln(2N - 1)."""
    return info_nce.scalars(tf.unstack(whole['embedding'], axis=1), self.temperature)

  def total(self, scalars):
    """InfoNCE alone."""
    return scalars['contrastive_loss']

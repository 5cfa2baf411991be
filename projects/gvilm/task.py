"""G-ViLM's task: contrast, grounding and grouping on captioned clips, and retrieval."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import task_factory

from official.video.errors import UserError
from official.video.evaluation import collapse, knn
from official.video.losses import gather

from . import (
  base,
  configs,
  data,
  losses,
  model,
  qa,  # noqa: F401  (registers the other task)
  retrieval,
  serving,
)


@task_factory.register_task_cls(configs.GvilmTask)
class GvilmTask(base.TextTask):
  """Learns a clip's caption, the regions of its nouns and when it shows its own video.

  With the temporal and the grounding loss off and no blending it is the fine-tuning for
  text-video retrieval. Validation retrieves: each caption among all clips, and each clip
  among all captions.
  """

  @property
  def scalar_names(self) -> tuple[str, ...]:
    """What training reports beside the loss."""
    config = self.task_config.losses
    names = ['contrast_loss', 'contrast_top1', 'contrast_temperature']
    if config.grounding_weight:
      names += ['grounding_loss', 'grounding_top1', 'grounding_temperature']
    if config.temporal_weight:
      names += ['temporal_loss', 'temporal_accuracy', 'temporal_margin']
    return tuple(names)

  def check_data(self, training: bool) -> None:
    """Finds the data, and refuses settings that contradict each other."""
    config = self.task_config
    for name in ('train_data', 'validation_data'):
      views = getattr(config, name).views
      if views != configs.CAPTIONED:
        raise UserError(
          f'task.{name}.views {views!r}: G-ViLM learns from captions; expected '
          f'{configs.CAPTIONED!r}'
        )
    if config.train_data.num_views != 1 or config.validation_data.num_test_clips != 1:
      raise UserError(
        f'task.train_data.num_views {config.train_data.num_views}, task.validation_data.'
        f'num_test_clips {config.validation_data.num_test_clips}: G-ViLM takes 1 of each'
      )
    if config.losses.temporal_weight and not config.paste.enabled:
      raise UserError(
        f'task.losses.temporal_weight {config.losses.temporal_weight}: temporal grouping '
        'tells blended clips apart; set task.paste.enabled, or the weight to 0'
      )
    super().check_data(training)

  def build_model(self) -> model.GvilmModel:
    """Both encoders and the projections."""
    return model.GvilmModel(self.task_config.model)

  def serving_module(self, model: model.GvilmModel) -> serving.DualEncoderModule:
    """Signatures for videos and strings."""
    return serving.DualEncoderModule(model, self.task_config, self.word_piece)

  def build_metrics(self, training: bool = True):
    """Means over the steps between two reports, in training only."""
    names = (*self.scalar_names, 'regularization_loss') if training else ()
    return [tf_keras.metrics.Mean(name=name) for name in names]

  @property
  def _tubelet(self) -> int:
    return self.task_config.model.backbone.get().tubelet[0]

  def _pasted(
    self, clips: tf.Tensor, keys: tf.Tensor, group_size: int
  ) -> tuple[tf.Tensor, tf.Tensor]:
    paste = self.task_config.paste
    if group_size < 2 or (clips.shape[0] or 0) % group_size:
      raise UserError(
        f'task.paste.group_size {group_size}: does not divide the {clips.shape[0]} clips '
        'of a replica; choose a divisor of at least 2'
      )
    clips, mask = data.cut_and_paste(
      clips, keys, self._tubelet, group_size, paste.half_open
    )
    return clips, data.shuffled_masks(mask, keys) if paste.shuffle_masks else mask

  def prepare(self, inputs, config):
    """Colours the views, and blends those of training.

    Adds 'foreground' `[B, T']`, 1 where a clip shows its own video.
    """
    inputs = super().prepare(inputs, config)
    if 'views' in inputs and self.task_config.paste.enabled:
      paste = self.task_config.paste
      clips, mask = self._pasted(
        inputs['views'][:, 0], inputs['sample_key'], paste.group_size
      )
      inputs |= {'views': clips[:, None], 'foreground': mask}
    return inputs

  def forward(self, inputs, model, training):
    """What `GvilmModel.watch` and `read` give for one view, a caption and its nouns."""
    weights = self.task_config.losses
    keys = inputs['sample_key'] if weights.gumbel and training else None
    seen = model.watch(self.clips_of(inputs['views']), training, keys)
    outputs = {'video_embed': seen['video_embed']}
    nouns = None
    if weights.grounding_weight:
      outputs['group_embed'] = seen['group_embed']
      nouns = inputs['nouns_ids']
    if weights.temporal_weight:
      outputs['clip_features'] = seen['clip_features']
    outputs |= model.read(inputs['caption_ids'], nouns)
    # A row a sample, so that the gradient finds its way through parts of a batch.
    ones = tf.ones_like(outputs['video_embed'][:, 0])
    for name in ('contrast', 'grounding'):
      outputs[f'{name}_temperature'] = ones * getattr(model.head, name).value()
    return outputs

  def compute_loss(self, outputs, inputs):
    """Equation 8, the weighted sum of the losses over the global batch."""
    whole = {name: gather.gather(value) for name, value in outputs.items()}
    terms = self._contrast_terms(whole)
    weights = self.task_config.losses
    loss = weights.contrast_weight * terms['contrast_loss']
    if weights.grounding_weight:
      # Not every collective takes bools.
      valid = gather.gather(tf.cast(inputs['noun_valid'], tf.float32)) > 0
      ids = gather.gather(inputs['noun_id'])
      terms |= self._grounding_terms(whole, valid, ids)
      loss += weights.grounding_weight * terms['grounding_loss']
    if weights.temporal_weight:
      foreground = gather.gather(inputs['foreground'])
      terms |= self._temporal_terms(whole['clip_features'], foreground)
      loss += weights.temporal_weight * terms['temporal_loss']
    return {'loss': loss, **terms}

  def _contrast_terms(self, outputs) -> dict[str, tf.Tensor]:
    similarity = tf.matmul(
      outputs['video_embed'], outputs['text_embed'], transpose_b=True
    )
    temperature = tf.reduce_mean(outputs['contrast_temperature'])
    result = losses.paired_contrast(similarity, temperature)
    return {
      'contrast_loss': result.loss,
      'contrast_top1': result.top1,
      'contrast_temperature': temperature,
    }

  def _grounding_terms(self, outputs, valid, ids) -> dict[str, tf.Tensor]:
    config = self.task_config.losses
    similarity = losses.grounding_similarity(
      outputs['group_embed'],
      outputs['noun_embed'],
      valid,
      config.attention_temperature,
      config.grounding_similarity,
    )
    temperature = tf.reduce_mean(outputs['grounding_temperature'])
    shared = (
      None if config.shared_nouns_are_negatives else losses.shares_a_noun(ids, valid)
    )
    result = losses.paired_contrast(
      similarity, temperature, tf.reduce_any(valid, 1), shared
    )
    return {
      'grounding_loss': result.loss,
      'grounding_top1': result.top1,
      'grounding_temperature': temperature,
    }

  def _temporal_terms(self, features, foreground) -> dict[str, tf.Tensor]:
    config = self.task_config.losses
    result = losses.temporal_grouping(
      features, foreground, config.temporal_temperature, config.temporal_form
    )
    return {
      'temporal_loss': result.loss,
      'temporal_accuracy': result.accuracy,
      'temporal_margin': result.margin,
    }

  def validation_outputs(self, inputs, model):
    """Embeddings of each plain clip, its captions and nouns; how a blend is told apart."""
    config = self.task_config
    views = inputs['test_views']
    seen = model.watch(self.clips_of(views))
    count, length = inputs['captions_ids'].shape[1:]
    captions = tf.reshape(inputs['captions_ids'], [-1, length])
    embedded = model.read(captions)['text_embed']
    outputs = {
      'feature': seen['feature'],
      'video_embed': seen['video_embed'],
      'captions_embed': tf.reshape(embedded, [-1, count, embedded.shape[-1]]),
      'caption_valid': inputs['caption_valid'],
      'num_captions': inputs['num_captions'],
    }
    ones = tf.ones_like(seen['video_embed'][:, 0])
    outputs['contrast_temperature'] = ones * model.head.contrast.value()
    if config.losses.grounding_weight:
      noun_embed = model.read(inputs['caption_ids'], inputs['nouns_ids'])['noun_embed']
      outputs |= {
        'group_embed': seen['group_embed'],
        'noun_embed': noun_embed,
        'noun_valid': inputs['noun_valid'],
        'noun_id': inputs['noun_id'],
        'grounding_temperature': ones * model.head.grounding.value(),
      }
    if config.losses.temporal_weight:
      outputs |= self._blended_outputs(inputs, model)
    return outputs

  def _blended_outputs(self, inputs, model) -> dict[str, tf.Tensor]:
    """Features and masks of the test clips, each blended with its neighbour."""
    clips = inputs['test_views'][:, 0]
    seed = self.task_config.validation_data.seed
    keys = data.record_keys(inputs['record'], seed)
    size = clips.shape[0] if (clips.shape[0] or 0) % 2 else 2
    blended, mask = self._pasted(clips, keys, size)
    seen = model.watch(self.clips_of(blended[:, None]))
    return {'clip_features': seen['clip_features'], 'foreground': mask}

  def score(self, outputs) -> dict[str, Any]:
    """Retrieval both ways, the losses in batches of the training's size, collapse."""
    scores = self._batch_scalars(outputs)
    scores |= retrieval.score(
      outputs['video_embed'], outputs['captions_embed'], outputs['caption_valid']
    )
    scores |= collapse.collapse_measures(outputs['feature'])
    labels = outputs['label']
    if len(labels) > 1 and labels.min() >= 0:
      knn_config = self.task_config.online_knn
      scores['knn_accuracy'] = knn.leave_one_out(
        outputs['feature'], labels, k=knn_config.k, temperature=knn_config.temperature
      )
    return scores | {
      'captions': int(outputs['caption_valid'].sum()),
      'captions_expected': int(outputs['num_captions'].sum()),
      'evaluated': len(labels),
      'expected': len(self.validation_index),
    }

  def _batch_scalars(self, outputs) -> dict[str, float]:
    count = len(outputs['video_embed'])
    batch = min(self.task_config.train_data.global_batch_size or count, count)
    starts = range(0, count - batch + 1, batch)
    rows = [self._scalars_of(outputs, slice(i, i + batch)) for i in starts]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

  def _scalars_of(self, outputs, rows: slice) -> dict[str, tf.Tensor]:
    part = {name: value[rows] for name, value in outputs.items()}
    part['text_embed'] = part['captions_embed'][:, 0]
    weights = self.task_config.losses
    terms = self._contrast_terms(part)
    loss = weights.contrast_weight * terms['contrast_loss']
    if weights.grounding_weight:
      terms |= self._grounding_terms(part, part['noun_valid'], part['noun_id'])
      loss += weights.grounding_weight * terms['grounding_loss']
    if weights.temporal_weight:
      terms |= self._temporal_terms(part['clip_features'], part['foreground'])
      loss += weights.temporal_weight * terms['temporal_loss']
    return {'loss': loss, **terms}

"""G-ViLM's task: contrast, grounding and grouping on captioned clips, and retrieval."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from official.core import task_factory

from official.video.configs import reads
from official.video.errors import UserError
from official.video.tasks import pretraining

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

# What fields of the losses only act through: a weight.
_READ_BY = {
  'grounding_weight': (
    *('grounding_similarity', 'attention_temperature', 'shared_nouns_are_negatives'),
  ),
  'temporal_weight': ('temporal_form', 'temporal_temperature'),
}


def _unread(config: configs.GvilmTask) -> Iterator[tuple[str, str]]:
  """Fields of the task that nothing reads, and the setting that would read them."""
  for weight, names in _READ_BY.items():
    if not getattr(config.losses, weight):
      yield from ((f'losses.{name}', f'task.losses.{weight}') for name in names)
  if not config.paste.enabled:
    names = ('group_size', 'half_open', 'shuffle_masks')
    yield from ((f'paste.{name}', 'task.paste.enabled') for name in names)
  elif not config.losses.temporal_weight:
    yield 'paste.shuffle_masks', 'task.losses.temporal_weight'


@task_factory.register_task_cls(configs.GvilmTask)
class GvilmTask(base.TextTask, pretraining.PretrainTask):
  """Learns a clip's caption, the regions of its nouns and when it shows its own video.

  With the temporal and the grounding loss off and no blending it is the fine-tuning for
  text-video retrieval. Validation retrieves: each caption among all clips, and each clip
  among all captions.
  """

  initial_heads = ('head', 'temperatures')
  takes = {
    'train_data': {'views': configs.CAPTIONED, 'num_views': 1},
    'validation_data': {'views': configs.CAPTIONED, 'num_test_clips': 1},
  }

  @property
  def scalar_names(self) -> tuple[str, ...]:  # type: ignore[override]
    """What training reports beside the loss."""
    config = self.task_config.losses
    names = ['contrast_loss', 'contrast_top1', 'contrast_temperature']
    if config.grounding_weight:
      names += ['grounding_loss', 'grounding_top1', 'grounding_temperature']
    if config.temporal_weight:
      names += ['temporal_loss', 'temporal_accuracy', 'temporal_margin']
    return (*names, *self.later_scalars)

  @property
  def headline(self) -> tuple[str, ...]:  # type: ignore[override]
    """See the base."""
    shown = ('contrast_top1', 'grounding_top1', 'temporal_accuracy')
    return tuple(name for name in shown if name in self.scalar_names)

  @property
  def score_headline(self) -> tuple[str, ...]:
    """See the base."""
    return (*super().score_headline, 'text_to_video_R@1', 'video_to_text_R@1')

  def chance(self) -> float:
    """As if all captions had nouns and none of them told anything, as of equation 8."""
    weights = self.task_config.losses
    pairs = losses.paired_chance(self.task_config.train_data.global_batch_size)
    return (weights.contrast_weight + weights.grounding_weight) * pairs + (
      weights.temporal_weight * losses.TEMPORAL_CHANCE[weights.temporal_form]
      if weights.temporal_weight
      else 0.0
    )

  def chances(self, training: bool) -> dict[str, float]:
    """Also of own captions and nouns, of time steps, and of videos and captions found.

    Captions that videos find have a chance where each video has one.
    """
    batch = self.task_config.train_data.global_batch_size
    count = 0 if training else len(self.validation_index)
    clips = batch if training else min(batch or count, count)
    found = dict.fromkeys(('contrast_top1', 'grounding_top1'), 1 / clips) if clips else {}
    # Each time step is a part of its own centre, so features that tell nothing lie nearer
    # to that one, almost surely in many dimensions.
    found['temporal_accuracy'] = 1.0
    if training:
      return found
    ways = ['text_to_video']
    ways += ['video_to_text'] if self._most_validation_texts == 1 else []
    found |= {f'{way}_R@{k}': min(1.0, k / count) for way in ways for k in (1, 5, 10)}
    return super().chances(training) | found

  @property
  def later_scalars(self) -> tuple[str, ...]:  # type: ignore[override]
    """What becomes of the texts: see `terms`."""
    nouns = ('nouns_cut', 'nouns_padded')
    return ('captions_cut', *(nouns if self.task_config.losses.grounding_weight else ()))

  @property
  def score_names(self) -> tuple[str, ...]:
    """See the base."""
    return (*super().score_names, *retrieval.NAMES)

  def check_data(self, training: bool, evaluation: bool = True) -> None:
    """Finds the data, and refuses settings that contradict each other."""
    config = self.task_config
    if config.losses.temporal_weight and not config.paste.enabled:
      raise UserError(
        f'task.losses.temporal_weight {config.losses.temporal_weight}: temporal grouping '
        'tells blended clips apart; set task.paste.enabled, or the weight to 0'
      )
    reads.refuse_unread(config, dict(_unread(config)))
    super().check_data(training, evaluation)

  def build_model(self) -> model.GvilmModel:
    """Both encoders and the projections."""
    return model.GvilmModel(self.task_config.model)

  def serving_module(self, model: model.GvilmModel) -> serving.DualEncoderModule:
    """Signatures for videos and strings."""
    return serving.DualEncoderModule(model, self.task_config, self.vocabulary)

  def text_encoder(self, model: model.GvilmModel) -> Callable[[tf.Tensor], tf.Tensor]:
    """Strings to the embeddings of captions."""
    length = self.task_config.text.max_length
    return lambda texts: model.read(self.word_piece(texts, length))['text_embed']

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
      outputs |= {name: inputs[name] for name in ('noun_valid', 'noun_id')}
      nouns = inputs['nouns_ids']
    if weights.temporal_weight:
      outputs['clip_features'] = seen['clip_features']
      outputs['foreground'] = inputs['foreground']
    outputs |= model.read(inputs['caption_ids'], nouns)
    # A row a sample, so that the gradient finds its way through parts of a batch.
    ones = tf.ones_like(outputs['video_embed'][:, 0])
    for name in ('contrast', 'grounding'):
      outputs[f'{name}_temperature'] = ones * getattr(model.head, name).value()
    return outputs

  def terms(self, outputs, inputs):
    """Shares of captions and nouns that were cut, and of nouns that a caption stands for."""
    del outputs
    shares = {'captions_cut': inputs['caption_cut']}
    if self.task_config.losses.grounding_weight:
      shares['nouns_cut'] = inputs['nouns_cut']
      shares['nouns_padded'] = inputs['noun_stands_in']
    return {name: base.share_of_sample(marks) for name, marks in shares.items()}

  def contrast(self, whole):
    """The losses over the global batch, those of weight 0 left out."""
    weights = self.task_config.losses
    terms = self._contrast_terms(whole)
    if weights.grounding_weight:
      terms |= self._grounding_terms(whole)
    if weights.temporal_weight:
      terms |= self._temporal_terms(whole)
    return terms

  def total(self, scalars):
    """Equation 8, the weighted sum."""
    weights = self.task_config.losses
    loss = weights.contrast_weight * scalars['contrast_loss']
    if weights.grounding_weight:
      loss += weights.grounding_weight * scalars['grounding_loss']
    if weights.temporal_weight:
      loss += weights.temporal_weight * scalars['temporal_loss']
    return loss

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

  def _grounding_terms(self, outputs) -> dict[str, tf.Tensor]:
    config = self.task_config.losses
    valid, ids = tf.cast(outputs['noun_valid'], tf.bool), outputs['noun_id']
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

  def _temporal_terms(self, outputs) -> dict[str, tf.Tensor]:
    config = self.task_config.losses
    result = losses.temporal_grouping(
      outputs['clip_features'],
      outputs['foreground'],
      config.temporal_temperature,
      config.temporal_form,
    )
    return {
      'temporal_loss': result.loss,
      'temporal_accuracy': result.accuracy,
      'temporal_margin': result.margin,
    }

  def words_of(self, inputs):
    """Caption and nouns as they are read, and what of a blended clip is its own."""
    paste = self.task_config.paste
    captions, nouns = self.read_back(inputs['caption_ids']), None
    if self.task_config.losses.grounding_weight:
      nouns = self.read_back(inputs['nouns_ids'])
    on = None
    if 'foreground' in inputs:
      on = data.background_rows(inputs['sample_key'], paste.group_size).numpy()
    told = []
    for row, caption in enumerate(captions):
      words = {'caption': str(caption)}
      if nouns is not None:
        present = inputs['noun_valid'][row].numpy().astype(bool)
        words['noun phrases'] = '; '.join(nouns[row][present]) or 'none'
      if on is not None:
        steps = inputs['foreground'][row].numpy().repeat(self._tubelet)
        own = (np.flatnonzero(steps) + 1).tolist()
        what = 'grouping is told' if paste.shuffle_masks else 'shows its own video in'
        words[what] = f'frames {own[0]} to {own[-1]} of {len(steps)}'
        words['else that of'] = f'clip {on[row] + 1}'
      told.append(words)
    return told

  def own_pages(self, model, clips):
    """Nouns on regions, blends over time, captions with the clips that they find."""
    from . import pictures

    return pictures.pages(self, model, clips)

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
      **{name: inputs[name] for name in base.MARKS if name in inputs},
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
    """What every pretraining is scored by, and retrieval both ways."""
    ranks = retrieval.score(
      outputs['video_embed'], outputs['captions_embed'], outputs['caption_valid']
    )
    return {
      **super().score(outputs),
      **ranks,
      'captions': int(outputs['caption_valid'].sum()),
      'captions_expected': int(outputs['num_captions'].sum()),
      **base.shares(outputs, 'captions', outputs['caption_valid']),
      **base.shares(outputs, 'nouns'),
    }

  def protocol_of(self, scores):
    """What was ranked, which is less than all where captions or records are left out."""
    names = ('captions', 'captions_expected', 'evaluated', 'expected')
    return retrieval.protocol(*(scores[name] for name in names))

  def batch_scalars(self, outputs):
    """A clip is contrasted by its first caption, as in training."""
    return super().batch_scalars(
      {**outputs, 'text_embed': outputs['captions_embed'][:, 0]}
    )

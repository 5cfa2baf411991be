"""Which numbers of the configuration reach G-ViLM's losses."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from official.video.errors import UserError
from official.video.projects.gvilm import configs, losses
from official.video.settings import experiment


@pytest.fixture
def task():
  return experiment.build_task(experiment.load('gvilm_pretrain_tiny'))


@pytest.fixture(scope='module')
def whole():
  rng = np.random.default_rng(0)
  normal = lambda *shape: tf.constant(rng.normal(size=shape), tf.float32)  # noqa: E731
  unit = lambda *shape: tf.math.l2_normalize(normal(*shape), -1)  # noqa: E731
  return {
    'video_embed': unit(4, 6),
    'text_embed': unit(4, 6),
    'contrast_temperature': tf.fill([4], 0.3),
    'group_embed': normal(4, 3, 6),
    'noun_embed': normal(4, 2, 6),
    'noun_valid': tf.constant([[1, 1], [1, 0], [1, 1], [0, 0]]) > 0,
    # The first and the third caption have a noun in common.
    'noun_id': tf.constant([[1, 2], [3, 0], [2, 4], [0, 0]], tf.int64),
    'grounding_temperature': tf.fill([4], 0.4),
    'clip_features': normal(4, 5, 6),
    'foreground': tf.constant([[0, 1, 1, 1, 0], [1, 1, 1, 0, 0]] * 2, tf.float32),
  }


def test_clips_are_contrasted_with_captions(task, whole):
  similarity = tf.matmul(whole['video_embed'], whole['text_embed'], transpose_b=True)
  expected = losses.paired_contrast(similarity, 0.3)
  scalars = task.contrast(whole)
  assert float(scalars['contrast_loss']) == pytest.approx(float(expected.loss), rel=1e-5)
  assert float(scalars['contrast_top1']) == pytest.approx(float(expected.top1))
  assert float(scalars['contrast_temperature']) == pytest.approx(0.3)


@pytest.mark.parametrize('alignment', ['softmax', 'max'])
@pytest.mark.parametrize('tau', [0.07, 0.9])
@pytest.mark.parametrize('shared', [True, False])
def test_grounding_is_as_configured(task, whole, alignment, tau, shared):
  config = task.task_config.losses
  config.grounding_similarity, config.attention_temperature = alignment, tau
  config.shared_nouns_are_negatives = shared
  valid = whole['noun_valid']
  similarity = losses.grounding_similarity(
    whole['group_embed'], whole['noun_embed'], valid, tau, alignment
  )
  left_out = None if shared else losses.shares_a_noun(whole['noun_id'], valid)
  expected = losses.paired_contrast(similarity, 0.4, [True] * 3 + [False], left_out)
  scalars = task.contrast(whole)
  assert float(scalars['grounding_loss']) == pytest.approx(float(expected.loss), rel=1e-5)
  assert float(scalars['grounding_temperature']) == pytest.approx(0.4)


@pytest.mark.parametrize('form', ['mse', 'ce'])
@pytest.mark.parametrize('tau', [0.1, 0.8])
def test_grouping_is_as_configured(task, whole, form, tau):
  config = task.task_config.losses
  config.temporal_form, config.temporal_temperature = form, tau
  expected = losses.temporal_grouping(
    whole['clip_features'], whole['foreground'], tau, form
  )
  scalars = task.contrast(whole)
  assert float(scalars['temporal_loss']) == pytest.approx(float(expected.loss), rel=1e-5)
  assert float(scalars['temporal_margin']) == pytest.approx(float(expected.margin))


def test_every_weight_counts_in_the_loss(task):
  config = task.task_config.losses
  config.contrast_weight, config.grounding_weight, config.temporal_weight = 3.0, 5.0, 7.0
  names = ('contrast_loss', 'grounding_loss', 'temporal_loss')
  scalars = {name: tf.constant(10.0**i) for i, name in enumerate(names)}
  assert float(task.total(scalars)) == 753
  config.grounding_weight = 0.0
  assert float(task.total(scalars)) == 703


# What is set in vain, and what would read it.
@pytest.mark.parametrize(
  ('off', 'field', 'value', 'switch'),
  [
    ('grounding_weight', 'losses.grounding_similarity', 'max', 'losses.grounding_weight'),
    ('grounding_weight', 'losses.attention_temperature', 0.5, 'losses.grounding_weight'),
    (
      'grounding_weight',
      'losses.shared_nouns_are_negatives',
      False,
      'losses.grounding_weight',
    ),
    ('temporal_weight', 'losses.temporal_form', 'ce', 'losses.temporal_weight'),
    ('temporal_weight', 'losses.temporal_temperature', 0.5, 'losses.temporal_weight'),
    ('temporal_weight', 'paste.shuffle_masks', True, 'losses.temporal_weight'),
    ('paste', 'paste.group_size', 4, 'paste.enabled'),
    ('paste', 'paste.half_open', True, 'paste.enabled'),
    ('paste', 'paste.shuffle_masks', True, 'paste.enabled'),
  ],
)
def test_what_an_absent_loss_would_read_is_refused(task, off, field, value, switch):
  config = task.task_config
  config.train_data.input_path = config.validation_data.input_path = '/no/such/records'
  group, name = field.split('.')
  if off == 'paste':
    config.paste.enabled, config.losses.temporal_weight = False, 0.0
  else:
    setattr(config.losses, off, 0.0)
  with pytest.raises(UserError, match='/no/such/records'):  # All else is in order.
    task.check_data(True)
  setattr(getattr(config, group), name, value)
  with pytest.raises(UserError, match=rf'task\.{field} .* where task\.{switch} is off'):
    task.check_data(True)


def test_every_field_of_what_is_off_is_refused():
  """So that one which is added has to be told of; the others are known to act."""
  acting = {'gumbel', 'contrast_weight', 'grounding_weight', 'temporal_weight', 'enabled'}
  other = {'temporal_form': 'ce', 'grounding_similarity': 'max'}
  for group in ('losses', 'paste'):
    for field in dataclasses.fields(getattr(configs.GvilmTask(), group)):
      if field.name in acting:
        continue
      params = experiment.load('gvilm_retrieval_tiny')
      owner = getattr(params.task, group)
      value = getattr(owner, field.name)
      changed = (
        not value if isinstance(value, bool) else other.get(field.name) or 2 * value
      )
      setattr(owner, field.name, changed)
      with pytest.raises(UserError, match=rf'task\.{group}\.{field.name} .*leave it'):
        experiment.build_task(params).check_data(True)


def test_validation_contrasts_a_clip_with_its_first_caption(task, whole):
  captions = tf.stack([whole['text_embed'], -whole['text_embed']], 1)
  outputs = {name: value.numpy() for name, value in whole.items() if name != 'text_embed'}
  outputs |= {'captions_embed': captions.numpy(), 'record': np.arange(4)}
  task.task_config.train_data.global_batch_size = 4
  found, expected = task.batch_scalars(outputs), task.contrast(whole)
  assert set(found) == set(expected)
  for name, value in expected.items():
    assert found[name] == pytest.approx(float(value), rel=1e-5), name

"""Which numbers of the configuration reach ConST-CL's losses."""

import types

import numpy as np
import pytest
import tensorflow as tf

from official.video.losses import info_nce
from official.video.projects.const_cl import losses
from official.video.settings import experiment


@pytest.fixture
def task():
  return experiment.build_task(experiment.load('const_cl_pretrain_tiny'))


@pytest.fixture(scope='module')
def whole():
  rng = np.random.default_rng(0)
  normal = lambda *shape: tf.constant(rng.normal(size=shape), tf.float32)  # noqa: E731
  valid = np.ones((4, 2, 3), bool)
  valid[0, 0, 1] = valid[2, 1, 0] = False
  return {
    'embedding': normal(4, 2, 8),
    'region': normal(4, 2, 3, 8),
    'reconstruction': normal(4, 2, 3, 8),
    'region_valid': tf.constant(valid),
  }


LOCAL = ('region', 'reconstruction', 'region_valid')


@pytest.mark.parametrize(
  ('field', 'value', 'option'),
  [
    ('local_temperature', 0.7, {'temperature': 0.7}),
    ('same_order', True, {'same_order': True}),
    ('reference_compatible', True, {'reference_compatible': True}),
  ],
)
def test_the_local_loss_is_as_configured(task, whole, field, value, option):
  config = task.task_config.losses
  options = {
    'temperature': config.local_temperature,
    'same_order': config.same_order,
    'reference_compatible': config.reference_compatible,
  }
  before = float(task.contrast(whole)['local_loss'])
  local = [whole[name] for name in LOCAL]
  assert before == pytest.approx(
    float(losses.local_loss(*local, **options).loss), rel=1e-5
  )
  setattr(config, field, value)
  after = task.contrast(whole)
  expected = losses.local_loss(*local, **options | option)
  assert float(after['local_loss']) == pytest.approx(float(expected.loss), rel=1e-5)
  assert float(after['local_loss']) != pytest.approx(before, rel=1e-4)
  assert float(after['local_positive_similarity']) == pytest.approx(
    float(expected.positive_similarity), rel=1e-5
  )


def test_the_global_loss_contrasts_the_views_at_its_own_temperature(task, whole):
  task.task_config.losses.global_temperature = 0.9
  views = tf.unstack(whole['embedding'], axis=1)
  expected = float(info_nce.info_nce(*views, 0.9).loss)
  scalars = task.contrast(whole)
  assert float(scalars['contrastive_loss']) == pytest.approx(expected, rel=1e-5)


def test_both_weights_count(task):
  task.task_config.losses.global_weight = 3.0
  task.task_config.losses.local_weight = 5.0
  scalars = {'contrastive_loss': tf.constant(10.0), 'local_loss': tf.constant(1.0)}
  assert float(task.total(scalars)) == 35


def test_the_views_and_their_regions_stay_together(task, whole):
  seen = []

  def pair(clips, boxes, training):
    seen.append((clips.numpy(), boxes.numpy(), training))
    return {}

  levels = np.arange(8, dtype=np.float32).reshape(4, 2)
  inputs = {
    'views': tf.constant(levels[..., None] / 8),
    'regions': tf.constant(np.tile(levels[..., None, None], [1, 1, 3, 4])),
    'region_valid': whole['region_valid'],
  }
  task.task_config.zero_centering = False
  outputs = task.forward(inputs, types.SimpleNamespace(pair=pair), True)
  (clips, boxes, training) = seen[0]
  # The first view of all clips, then the second.
  np.testing.assert_allclose(clips[:, 0] * 8, [0, 2, 4, 6, 1, 3, 5, 7])
  np.testing.assert_allclose(boxes[:, 0, 0], [0, 2, 4, 6, 1, 3, 5, 7])
  assert training and outputs['region_valid'] is whole['region_valid']


def test_validation_weighs_regions_and_directions(task, whole):
  outputs = {
    'embedding': whole['embedding'].numpy(),
    'record': np.arange(4),
    # Three regions of the first direction, of two clips, and one of the second.
    'local_weight': np.array([[2.0, 1.0], [1.0, 0.0], [0, 0], [0, 0]]),
    'local_loss': np.array([[4.0, 5.0], [2.0, 0.0], [0, 0], [0, 0]]),
    'local_positive_similarity': np.zeros((4, 2)),
    'local_negative_similarity': np.zeros((4, 2)),
  }
  scalars = task.validation_scalars(outputs)
  assert scalars['local_loss'] == pytest.approx((6 / 3 + 5 / 1) / 2)
  views = tf.unstack(whole['embedding'], axis=1)
  expected = info_nce.info_nce(*views, task.temperature)
  assert scalars['contrastive_loss'] == pytest.approx(float(expected.loss), rel=1e-5)

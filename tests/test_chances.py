"""The losses of outputs that tell nothing, as tasks state them, against the losses."""

import math

import numpy as np
import pytest
import tensorflow as tf

from official.video import scalars
from official.video.losses import info_nce
from official.video.projects.const_cl import losses as const_cl
from official.video.projects.cstp import configs as cstp_configs
from official.video.projects.cstp import losses as cstp
from official.video.projects.cstp import model as cstp_model
from official.video.projects.gvilm import losses as gvilm
from official.video.run import console
from official.video.settings import experiment
from tests import tiny


def test_info_nce():
  for clips in (2, 16):
    same = tf.ones([clips, 4])
    loss = info_nce.info_nce(same, same).loss
    assert info_nce.chance(clips) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize('same_order', [False, True])
def test_regions(same_order):
  same, valid = tf.ones([5, 2, 3, 4]), tf.ones([5, 2, 3], tf.bool)
  loss = const_cl.local_loss(same, same, valid, same_order=same_order).loss
  assert const_cl.chance(5, 3, same_order) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize('spare', [False, True])
def test_cstp(spare):
  classes = cstp_model.classes(cstp_configs.Model(spare_class=spare))
  assert classes['rotation'] == (5 if spare else 4)
  vectors = tf.one_hot([[0, 0]], 4)
  outputs = {'prediction': vectors, 'target': tf.one_hot([[1, 1]], 4)}
  outputs |= {task: tf.zeros([1, classes[task]]) for task in cstp.PAIR_TASKS}
  outputs |= {task: tf.zeros([1, 2, classes[task]]) for task in cstp.VIEW_TASKS}
  labels = {cstp.label_name(task): tf.constant([1]) for task in cstp.TASKS}
  terms = cstp.per_sample(outputs, labels)
  for weights in (cstp.WEIGHTS, (0.0, 0.5, 0.0, 2.0, 1.0)):
    expected = float(cstp.total(terms, weights)[0])
    assert cstp.chance(classes, weights) == pytest.approx(expected, rel=1e-5)


def test_captions_and_blends():
  loss = gvilm.paired_contrast(tf.zeros([7, 7]), 0.1).loss
  assert gvilm.paired_chance(7) == pytest.approx(float(loss), rel=1e-5)
  mask = tf.constant([[0, 0, 1, 1]])
  for form, expected in gvilm.TEMPORAL_CHANCE.items():
    loss = gvilm.temporal_grouping(tf.ones([1, 4, 3]), mask, form=form).loss
    assert expected == pytest.approx(float(loss), rel=1e-5)
  assert gvilm.TEMPORAL_CHANCE.keys() == gvilm.TEMPORAL_FORMS.keys()


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('cvrl_pretrain_tiny', 2 * math.log(7)),
    ('const_cl_pretrain_tiny', None),
    ('cstp_pretrain_tiny', None),
    ('gvilm_pretrain_tiny', 4 * math.log(4) + 0.25),
    ('gvilm_retrieval_tiny', 2 * math.log(4)),
    ('gvilm_qa_tiny', math.log(5)),
    ('cvrl_finetune_tiny', math.log(3)),
    ('cvrl_localization_ava', math.log(2)),
    ('cvrl_tracking_otb', math.log(2)),
  ],
)
def test_a_task_tells_shares_and_its_chance(name, expected, tmp_path):
  task = experiment.build_task(tiny.load(name, tmp_path, tmp_path))
  assert set(task.headline) <= set(task.scalar_names)
  told = [console.scalar(scalars.published(one), 0.5) for one in task.headline]
  assert all(text.endswith(' 50.0%') for text in told)
  chance = task.chance()
  assert 0 < chance < np.inf
  if expected is not None:
    weights = getattr(task.task_config, 'losses', None)
    if name == 'gvilm_pretrain_tiny':
      assert (weights.contrast_weight, weights.temporal_form) == (1.0, 'mse')
    assert chance == pytest.approx(expected)

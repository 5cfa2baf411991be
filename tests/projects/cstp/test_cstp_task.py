"""What CSTP's task hands to its model and its losses."""

import types

import numpy as np
import pytest
import tensorflow as tf

from official.video.projects.cstp import losses
from official.video.settings import experiment


@pytest.fixture
def task():
  return experiment.build_task(experiment.load('cstp_pretrain_tiny'))


def test_the_target_moves_by_its_momentum_before_the_step(task):
  moves = []
  task.task_config.model.target_momentum = 0.75
  task.before_forward(types.SimpleNamespace(move_followers=moves.append))
  assert moves == [0.75]


@pytest.mark.parametrize('training', [True, False])
def test_the_first_view_is_the_first(task, training):
  views = tf.constant(np.arange(6, dtype=np.float32).reshape(3, 2, 1) / 8)
  task.task_config.zero_centering = True
  seen = task.forward(
    {'views': views}, types.SimpleNamespace(pair=lambda *x: x), training
  )
  np.testing.assert_allclose(seen[0][:, 0], np.array([0, 2, 4]) / 4 - 1)
  np.testing.assert_allclose(seen[1][:, 0], np.array([1, 3, 5]) / 4 - 1)
  assert seen[2] is training


def test_every_weight_counts_in_the_loss(task):
  task.task_config.losses.weights = (5.0, 4.0, 3.0, 2.0, 1.0)
  names = ('byol', *losses.TASKS)
  scalars = {name: tf.constant(10.0**i) for i, name in enumerate(names)}
  assert float(task.total(scalars)) == 12345
  task.task_config.losses.weights = (0.0, 4.0, 3.0, 2.0, 1.0)
  assert float(task.total(scalars)) == 12340


def test_validation_takes_means_and_balances_classes(task):
  outputs = {name: np.array([1.0, 2.0, 6.0]) for name in task.scalar_names}
  for name in losses.TASKS:
    outputs[f'{name}_hit'] = np.array([[1.0], [0.0], [0.0]])
    outputs[f'{name}_true_class'] = np.array([[0], [0], [2]])
  task.task_config.losses.weights = (1.0, 1.0, 1.0, 1.0, 1.0)
  scalars = task.validation_scalars(outputs)
  assert {scalars[name] for name in task.scalar_names} == {3.0}
  assert scalars['loss'] == pytest.approx(15.0)
  assert scalars['rotation_balanced_accuracy'] == 0.25

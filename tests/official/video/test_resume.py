"""Training in one go and training in parts are the same, bit for bit."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.framework import config

from official.video import command_line, experiment, train, trainer
from tests import clips, tiny


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('records')
  return (
    clips.write_split(folder, 'train', [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]),
    clips.write_split(folder, 'test', [0, 1, 2, 0]),
  )


@pytest.fixture
def deterministic():
  tf.config.experimental.enable_op_determinism()
  yield
  config.disable_op_determinism()


def run(name, overrides, data, model_dir, stop_at):
  """Trains to a step, as the same command would, but stopped there.

  Returns:
    The trainer and the records of every batch that it took.
  """
  params = tiny.load(name, *data)
  experiment.apply_overrides(params, f'trainer.train_steps=4,{overrides}', 'test')
  tf_keras.utils.set_random_seed(7)
  task = experiment.build_task(params, str(model_dir))
  taken = []
  step = task.train_step

  def recorded(inputs, *args, **kwargs):
    tf.py_function(
      lambda rows: taken.append(rows.numpy().tolist()), [inputs['record']], []
    )
    return step(inputs, *args, **kwargs)

  task.train_step = recorded
  runner = trainer.ExperimentRunner(
    distribution_strategy=command_line.strategy_of(params),
    task=task,
    mode='train',
    params=params,
    model_dir=str(model_dir),
  )
  train.save_run(params, str(model_dir))
  runner.controller.train(steps=stop_at)
  return runner.trainer, taken


def state(of: trainer.VideoTrainer) -> dict[str, np.ndarray]:
  """All variables of a trainer's model and optimizer."""
  model, optimizer = of.model, of.optimizer
  found = {f'{i}: {v.name}': v.numpy() for i, v in enumerate(model.variables)}
  for slot in optimizer.get_slot_names():
    for i, variable in enumerate(model.trainable_variables):
      found[f'{i}: {slot}'] = optimizer.get_slot(variable, slot).numpy()
  return found | {'step': optimizer.iterations.numpy()}


@pytest.mark.parametrize(
  ('name', 'overrides'),
  [
    ('cvrl_pretrain_tiny', 'task.train_data.seed=3'),
    ('cvrl_finetune_tiny', 'task.model.head.dropout_rate=0.5'),
  ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
  name, overrides, data, tmp_path, deterministic
):
  whole, taken = run(name, overrides, data, tmp_path / 'whole', 4)
  _, first = run(name, overrides, data, tmp_path / 'parts', 2)
  resumed, rest = run(name, overrides, data, tmp_path / 'parts', 4)
  assert int(resumed.global_step) == 4
  assert len(first) == len(rest) == 2
  assert first + rest == taken
  expected, actual = state(whole), state(resumed)
  assert len(expected) > len(whole.model.variables + whole.model.trainable_variables)
  assert expected.keys() == actual.keys()
  for key, value in expected.items():
    np.testing.assert_array_equal(actual[key], value, err_msg=key)

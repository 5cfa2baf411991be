"""Every experiment's steps compile with XLA at static shapes, and compute the same."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video import experiment, trainer
from tests import clips, tiny

# G-ViLM takes captions or questions; its own tests compile its steps.
TINY = [
  name
  for name in experiment.experiment_names()
  if name.endswith('_tiny') and not name.startswith('gvilm_')
]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('records')
  return (
    clips.write_split(folder, 'train', [0, 1, 2, 0]),
    clips.write_split(folder, 'test', [0, 1, 2, 0]),
  )


def both_ways(step, model, *args):
  """Outputs of a step plain and compiled, from the same variables."""
  weights = [v.numpy() for v in model.variables]
  results = []
  for compiled in (False, True):
    for variable, value in zip(model.variables, weights, strict=True):
      variable.assign(value)
    results.append(tf.function(step, jit_compile=compiled)(*args))
  return results


@pytest.mark.parametrize('name', TINY)
def test_steps_compile_and_compute_the_same(name, data):
  tf_keras.utils.set_random_seed(1)
  params = tiny.load(name, *data)
  task = experiment.build_task(params)
  model = trainer.built(task)
  inputs = next(iter(task.build_inputs(params.task.train_data)))

  def train(inputs):
    return task.train_step(inputs, model, optimizer)

  optimizer = tf_keras.optimizers.legacy.SGD(0.01, momentum=0.9)
  optimizer._create_all_weights(model.trainable_variables)
  plain, compiled = both_ways(train, model, inputs)
  assert plain['finite'] and compiled['finite']
  np.testing.assert_allclose(compiled[task.loss], plain[task.loss], rtol=1e-4)
  inputs = next(iter(task.build_inputs(params.task.validation_data)))
  plain, compiled = both_ways(lambda x: task.validation_step(x, model), model, inputs)
  assert plain.keys() == compiled.keys()
  for key, value in plain.items():
    np.testing.assert_allclose(compiled[key], value, rtol=1e-3, atol=1e-4, err_msg=key)

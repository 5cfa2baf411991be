"""Steps that are compiled with XLA at static shapes, beside the same steps as they are."""

import numpy as np
import tensorflow as tf
import tf_keras

from official.video.settings import experiment


def both_ways(step, model, *args):
  """Outputs of a step plain and compiled, from the same variables."""
  weights = [v.numpy() for v in model.variables]
  results = []
  for compiled in (False, True):
    for variable, value in zip(model.variables, weights, strict=True):
      variable.assign(value)
    results.append(tf.function(step, jit_compile=compiled)(*args))
  return results


def assert_steps_compile(params, validates: bool = True) -> None:
  """Asserts that an experiment's steps compile, and compute the same."""
  tf_keras.utils.set_random_seed(1)
  task = experiment.build_task(params)
  model = task.built_model()
  inputs = next(iter(task.build_inputs(params.task.train_data)))
  optimizer = tf_keras.optimizers.legacy.SGD(0.01, momentum=0.9)
  optimizer._create_all_weights(model.trainable_variables)
  plain, compiled = both_ways(
    lambda x: task.train_step(x, model, optimizer), model, inputs
  )
  assert plain['finite'] and compiled['finite']
  # Normalization over a batch of four enlarges what rounding does.
  np.testing.assert_allclose(compiled[task.loss], plain[task.loss], rtol=5e-4)
  if not validates:
    return
  inputs = next(iter(task.build_inputs(params.task.validation_data)))
  plain, compiled = both_ways(lambda x: task.validation_step(x, model), model, inputs)
  assert plain.keys() == compiled.keys()
  for key, value in plain.items():
    np.testing.assert_allclose(compiled[key], value, rtol=1e-3, atol=1e-4, err_msg=key)

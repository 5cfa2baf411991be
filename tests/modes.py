"""Running one function eagerly, inside tf.data, and compiled."""

import numpy as np
import tensorflow as tf


def eager(function, *args):
  return tf.nest.map_structure(np.asarray, function(*args))


def mapped(function, *args):
  dataset = tf.data.Dataset.from_tensors(args).map(function)
  return next(iter(dataset.as_numpy_iterator()))


def compiled(function, *args):
  result = tf.function(function, jit_compile=True, autograph=False)(*args)
  return tf.nest.map_structure(np.asarray, result)


def assert_same(function, *args, atol=0.0, jit=True):
  """Asserts equal numbers in every mode, and returns them."""
  args = [tf.convert_to_tensor(arg) for arg in args]
  expected = eager(function, *args)
  for run in [mapped, compiled] if jit else [mapped]:
    actual = run(function, *args)
    tf.nest.map_structure(
      lambda a, b, mode=run.__name__: np.testing.assert_allclose(
        a, b, rtol=0, atol=atol, err_msg=mode
      ),
      expected,
      actual,
    )
  return expected


def over_keys(function, count, epoch=0):
  """Stacks `function(key)` over the keys of `count` records, compiled."""
  from official.video import draws

  spec = tf.nest.map_structure(
    tf.type_spec_from_value, function(draws.sample_key(0, epoch, 0))
  )

  @tf.function(autograph=False)
  def run():
    return tf.map_fn(
      lambda record: function(draws.sample_key(0, epoch, record)),
      tf.range(count),
      fn_output_signature=spec,
    )

  return tf.nest.map_structure(np.asarray, run())


def kolmogorov(samples, cdf):
  """Kolmogorov distance of continuous samples to a distribution function."""
  samples = np.sort(np.asarray(samples, np.float64))
  steps = np.arange(len(samples) + 1) / len(samples)
  values = cdf(samples)
  return max(np.abs(values - steps[1:]).max(), np.abs(values - steps[:-1]).max())

"""Small clips for the tests of augmentation, and operations in both their ways."""

import functools

import numpy as np
import tensorflow as tf

SHAPE = (3, 22, 18, 3)


def clip(seed=0, shape=SHAPE):
  return np.random.default_rng(seed).random(shape).astype(np.float32)


def tall(frames):
  """The frames stacked along the height, as the reference sees them."""
  return tf.reshape(frames, [-1, *frames.shape[2:]])


# Greys, primaries, black and white: where HSV has its corners.
CORNERS = np.array(
  [[a, b, c] for a in (0, 0.5, 1) for b in (0, 0.5, 1) for c in (0, 0.5, 1)], np.float32
).reshape(1, 3, 9, 3)


@functools.cache
def graph(method):
  return tf.function(method, autograph=False)


def both_ways(op, frames, drawn):
  """What an operation makes of frames in a train step and, checked to be it, on a host."""
  frames = tf.constant(frames)
  drawn = {name: tf.constant(value) for name, value in drawn.items()}
  expected = graph(op.apply)(frames, drawn).numpy()
  actual = graph(op.apply_on_host)(frames, drawn)
  np.testing.assert_allclose(actual, expected, atol=2e-6)
  return expected

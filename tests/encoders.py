"""Encoders that cost nothing, and the data they are given."""

import tensorflow as tf

from official.video.configs import data as data_config


def config(manifest, **fields):
  """Of three crops of three clips of 4 frames a record."""
  defaults = {
    'input_path': str(manifest),
    'global_batch_size': 4,
    'is_training': False,
    'feature_shape': (4, 24, 24, 3),
    'temporal_stride': 2,
    'num_test_clips': 3,
    'num_test_crops': 3,
  }
  return data_config.DataConfig(**(defaults | fields))


def colours(views):
  """Mean red, green and blue: the record, the frames and the place of the crop."""
  return {'feature': tf.reduce_mean(tf.cast(views, tf.float32), [1, 2, 3])}


def by_place(views):
  """The same, rounded by the place in a batch, as nets do."""
  places = tf.cast(tf.range(tf.shape(views)[0])[:, None], tf.float32)
  return {'feature': colours(views)['feature'] * (1 + 1e-6 * places)}


class Killed(Exception):
  """What ends an encoding in the middle."""


def killed_after(batches: int):
  """`by_place` for some batches."""
  left = [batches]

  def encoder(views):
    if not left[0]:
      raise Killed
    left[0] -= 1
    return by_place(views)

  return encoder

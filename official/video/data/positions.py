"""Places of the input's streams, and the record that each of them takes.

Arithmetic on the step number: no state has to be saved to resume.
"""

from typing import NamedTuple

import tensorflow as tf

from official.video.configs import data as data_config


class Position(NamedTuple):
  """Which record a place in the stream takes.

  Attributes:
    row: row of the record index.
    epoch: how often the whole set was seen before.
    clip: which test clip of the record; 0 in training.
    valid: False where the place only pads the last batch.
  """

  row: tf.Tensor
  epoch: tf.Tensor
  clip: tf.Tensor
  valid: tf.Tensor


def training_position(
  place: tf.Tensor, num_records: int, batch: int, seed: int
) -> Position:
  """Record at a place of the endless, shuffled stream.

  An epoch is `num_records // batch` whole batches in an order of its own, so that no
  batch holds a clip twice; what is left over differs from epoch to epoch.

  Args:
    place: scalar int64, sample number since the first step, over all pipelines.
    num_records: size of the data set.
    batch: global batch size.
    seed: of the order.
  """
  per_epoch = num_records // batch * batch
  epoch = place // per_epoch
  row = tf.random.experimental.index_shuffle(
    place % per_epoch,
    seed=tf.stack([tf.constant(seed, tf.int64), epoch]),
    max_index=tf.constant(num_records - 1, tf.int64),
  )
  return Position(row, epoch, tf.zeros_like(row), tf.ones_like(row, tf.bool))


def evaluation_position(place: tf.Tensor, num_records: int, num_clips: int) -> Position:
  """Record and test clip at a place of the ordered stream; past the end it pads."""
  valid = place < num_records * num_clips
  place = tf.where(valid, place, 0)
  return Position(place // num_clips, tf.zeros_like(place), place % num_clips, valid)


def num_places(config: data_config.DataConfig, num_records: int) -> int:
  """Places of the evaluation stream: records times test clips, padded to whole batches."""
  batch = config.global_batch_size
  return -(-num_records * max(1, config.num_test_clips) // batch) * batch

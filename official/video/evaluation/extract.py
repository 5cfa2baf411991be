"""Features of whole data sets: the common ground of the training-free protocols."""

import dataclasses
import itertools
import sys
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tqdm

from official.video.configs import data as data_config
from official.video.data import index, positions, reader
from official.video.errors import UserError
from official.video.evaluation import encoding


@dataclasses.dataclass(frozen=True)
class Encoded:
  """Outputs of an encoder for a data set, one row a record, means over its views.

  Attributes:
    outputs: name to [N, D] float32; always has 'feature'.
    labels: [N] int64.
    records: [N] int64 rows of the index.
    expected: number of records in the data set.
    clips: [N, T, H, W, 3] uint8, the first view of each, where they were asked for.
  """

  outputs: Mapping[str, np.ndarray]
  labels: np.ndarray
  records: np.ndarray
  expected: int
  clips: np.ndarray | None = None

  @property
  def feature(self) -> np.ndarray:
    """[N, D] pooled features."""
    return self.outputs['feature']


def test_config(config: data_config.DataConfig) -> data_config.DataConfig:
  """The config that reads plain test views of the same data, in order."""
  default = type(config)()
  return dataclasses.replace(
    config,
    is_training=False,
    num_views=0,
    sampler=default.sampler,
    augmentation=default.augmentation,
    num_test_clips=max(1, config.num_test_clips),
    clips_per_decode=1,
    enable_tf_data_service=False,
  )


def means_over_crops(outputs: encoding.Outputs, clips: int) -> encoding.Outputs:
  """[B, D] means of an encoder's outputs [B * C, D] over the C crops of each of B clips."""
  return {
    name: value.reshape(clips, -1, value.shape[-1]).mean(1)
    for name, value in outputs.items()
  }


def encode(
  config: data_config.DataConfig,
  table: index.RecordIndex,
  encoder: encoding.Encoder,
  keep_clips: bool = False,
  description: str = 'encoding',
) -> Encoded:
  """Encodes every record of a data set, holding a batch of views a device at a time.

  Args:
    config: of the views; see `test_config`.
    table: the records.
    encoder: see the class.
    keep_clips: also return the first view of each record.
    description: of the progress bar.

  Raises:
    UserError: no record can be read.
  """
  config = test_config(config)
  sums: dict[str, np.ndarray] = {}
  count = np.zeros(len(table), np.int64)
  labels = np.full(len(table), -1, np.int64)
  clips = np.zeros((len(table), *config.feature_shape), np.uint8) if keep_clips else None
  batches = reader.each_batch(reader.build_dataset(config, table))
  steps = positions.num_places(config, len(table)) // config.global_batch_size
  shown = iter(tqdm.tqdm(batches, description, steps, file=sys.stderr, leave=False))
  while some := list(itertools.islice(shown, encoder.num_devices)):
    views = [batch['test_views'] for batch in some]
    made = encoder.each([tf.reshape(clips, [-1, *clips.shape[2:]]) for clips in views])
    for batch, outputs in zip(some, made, strict=True):
      valid = batch['valid'].numpy()
      rows = batch['record'].numpy()[valid]
      for name, value in means_over_crops(outputs, len(valid)).items():
        value = value[valid]
        total = sums.setdefault(name, np.zeros((len(table), value.shape[1]), np.float32))
        np.add.at(total, rows, value)
      if clips is not None:
        clips[rows] = batch['test_views'].numpy()[valid, 0]
      labels[rows] = batch['label'].numpy()[valid]
      np.add.at(count, rows, 1)
  seen = np.flatnonzero(count)
  if not len(seen):
    raise UserError(
      f'{table.files[0]} ...: none of the {len(table)} records can be read; see python -m '
      'tfrecords_tools.validate'
    )
  return Encoded(
    {name: total[seen] / count[seen, None] for name, total in sums.items()},
    labels[seen],
    seen,
    len(table),
    None if clips is None else clips[seen],
  )

"""The reader: batches as a pure function of (seed, step, pipeline).

The phases of a sample are those of DMVR: read, parse, sample, decode, augment. Which
record a step takes is arithmetic on the step number, and each draw is keyed by (seed,
epoch, record, view), so no state has to be saved to resume.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf

from official.video.augment import geometric, policies
from official.video.configs import data as data_config
from official.video.data import decoding, draws, index, records, samplers, tfds
from official.video.errors import UserError

Sample = dict[str, tf.Tensor]
# Parts of TensorFlow's messages about records whose checksum or images are wrong.
_DAMAGE = ('corrupted record', 'truncated record', 'JPEG', 'PNG')


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


def read_record(path: tf.Tensor, offset: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
  """Reads one TFRecord by its place, in one request, checking its checksums.

  Args:
    path: scalar string.
    offset: scalar int64, where the framed record starts, in bytes.
    size: scalar int64, its framed size, in bytes.
  """
  spec = {'output_types': [tf.string], 'output_shapes': [[]]}
  dataset = tf.raw_ops.TFRecordDatasetV2(
    filenames=path[None],
    compression_type=tf.constant(''),
    buffer_size=size,
    byte_offsets=offset[None],
  )
  first = tf.raw_ops.TakeDataset(input_dataset=dataset, count=1, **spec)
  return tf.raw_ops.DatasetToSingleElement(dataset=first, **spec)[0]


def parse_record(serialized: tf.Tensor) -> Sample:
  """{'frames': [F] encoded frames, 'label': [] first class id} of a record."""
  context, steps = tf.io.parse_single_sequence_example(
    serialized,
    context_features={records.LABEL_INDEX: tf.io.VarLenFeature(tf.int64)},
    sequence_features={
      records.IMAGE_ENCODED: tf.io.FixedLenSequenceFeature([], tf.string)
    },
  )
  labels = tf.concat([context[records.LABEL_INDEX].values, [records.NO_LABEL]], 0)
  return {'frames': steps[records.IMAGE_ENCODED], 'label': labels[0]}


class ViewMaker:
  """Makes the views of one clip, as a data config asks.

  Training views are sampled, cropped, flipped and coloured by draws of their own; test
  views are fixed. Decoding, cropping, resizing and flipping are one step a frame.
  """

  def __init__(self, config: data_config.DataConfig):
    self._config = config
    self._sampler = samplers.build_sampler(config.sampler)
    self._policy = policies.build_policy(config.augmentation.policy)

  def training_views(self, frames: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """[F] encoded frames to [V, T, H, W, 3] float32 in [0, 1]."""
    config = self._config
    num_steps, height, width, _ = config.feature_shape
    indices = self._sampler(
      key, tf.size(frames), num_steps, config.temporal_stride, config.num_views
    )
    frame_size = decoding.frame_size(frames)
    views = []
    for view in range(config.num_views):
      view_key = draws.fold(key, view)
      window = geometric.random_resized_crop_window(
        view_key,
        *frame_size,
        config.augmentation.area_range,
        config.augmentation.aspect_range,
      )
      flip = draws.bernoulli(view_key, 'flip', config.augmentation.flip_probability)
      clip = decoding.decode_clip(
        tf.gather(frames, indices[view]), window, (height, width), flip
      )
      views.append(self._policy(clip, view_key, view))
    return tf.stack(views)

  def test_views(self, frames: tf.Tensor, clip: tf.Tensor) -> tf.Tensor:
    """[F] encoded frames to the crops of one test clip, [C, T, H, W, 3] uint8."""
    config = self._config
    num_steps, height, width, _ = config.feature_shape
    num_frames = tf.size(frames)
    starts = samplers.test_starts(
      num_frames, num_steps, config.temporal_stride, config.num_test_clips
    )
    indices = samplers.clip_indices(
      starts[clip][None], num_steps, config.temporal_stride, num_frames
    )[0]
    windows = geometric.test_windows(
      *decoding.frame_size(frames),
      (height, width),
      config.num_test_crops,
      config.min_image_size,
    )
    return decoding.decode_crops(tf.gather(frames, indices), windows, (height, width))


def check_ranges(config: data_config.DataConfig) -> None:
  """Raises `UserError` where a field's value can mean nothing."""
  crop = config.augmentation
  requirements = {
    'feature_shape': (
      len(config.feature_shape) == 4
      and min(config.feature_shape) > 0
      and config.feature_shape[-1] == 3,
      'four positive sizes: frames, height, width, 3',
    ),
    'temporal_stride': (config.temporal_stride > 0, 'at least 1'),
    'num_views': (config.num_views >= 0, 'at least 0'),
    'num_test_clips': (config.num_test_clips >= 0, 'at least 0'),
    'label_fraction': (0 < config.label_fraction <= 1, 'in (0, 1]'),
    'augmentation.area_range': (
      len(crop.area_range) == 2 and 0 < crop.area_range[0] <= crop.area_range[1] <= 1,
      'two rising values in (0, 1]',
    ),
    'augmentation.aspect_range': (
      len(crop.aspect_range) == 2 and 0 < crop.aspect_range[0] <= crop.aspect_range[1],
      'two rising positive values',
    ),
    'augmentation.flip_probability': (0 <= crop.flip_probability <= 1, 'in [0, 1]'),
  }
  for name, (holds, expected) in requirements.items():
    if not holds:
      value = config
      for part in name.split('.'):
        value = getattr(value, part)
      raise UserError(f'{name} {value}: expected {expected}')


def check(
  config: data_config.DataConfig, table: index.RecordIndex, pipelines: int = 1
) -> None:
  """Raises `UserError` where the batches can't be made, before any is."""
  check_ranges(config)
  ViewMaker(config)
  batch = config.global_batch_size
  if batch < 1 or batch % pipelines:
    raise UserError(
      f'global_batch_size {batch}: expected a positive multiple of the {pipelines} input '
      'pipelines'
    )
  if config.is_training and len(table) < batch:
    raise UserError(
      f'global_batch_size {batch}: the data has only {len(table)} records '
      f'({table.files[0]} ...); use a batch of at most that'
    )
  if not config.num_views and not config.num_test_clips:
    raise UserError('num_views 0 and num_test_clips 0: set one, or nothing is read')
  if config.num_views and config.num_test_clips > 1:
    raise UserError(
      f'num_test_clips {config.num_test_clips} with num_views {config.num_views}: '
      'augmented views go with at most one test clip'
    )
  if config.is_training and config.num_test_clips > 1:
    raise UserError('num_test_clips > 1 needs is_training=False')


def num_places(config: data_config.DataConfig, num_records: int) -> int:
  """Places of the evaluation stream: records times test clips, padded to whole batches."""
  batch = config.global_batch_size
  return -(-num_records * max(1, config.num_test_clips) // batch) * batch


def _sample_maker(
  config: data_config.DataConfig, table: index.RecordIndex
) -> Callable[[tf.Tensor], Sample]:
  files = tf.constant(list(table.files))
  file_id, offset, size = (
    tf.constant(a) for a in (table.file_id, table.offset, table.size)
  )
  parse = (
    tfds.example_parser(config.tfds_name, config.tfds_data_dir)
    if config.tfds_name
    else parse_record
  )
  views = ViewMaker(config)

  def make(place: tf.Tensor) -> Sample:
    position = (
      training_position(place, len(table), config.global_batch_size, config.seed)
      if config.is_training
      else evaluation_position(place, len(table), max(1, config.num_test_clips))
    )
    row = position.row
    clip = parse(read_record(files[file_id[row]], offset[row], size[row]))
    key = draws.sample_key(config.seed, position.epoch, row)
    sample = {
      'label': clip['label'],
      'record': row,
      'valid': position.valid,
    }
    if config.num_views:
      sample['views'] = views.training_views(clip['frames'], key)
    if config.num_test_clips:
      sample['test_views'] = views.test_views(clip['frames'], position.clip)
    return sample

  return make


def build_dataset(
  config: data_config.DataConfig,
  table: index.RecordIndex,
  input_context: tf.distribute.InputContext | None = None,
  start_step: int = 0,
) -> tf.data.Dataset:
  """The batches of one input pipeline, from a given step on.

  Args:
    config: what to read and which views to make.
    table: the records.
    input_context: which pipeline of how many this is; None for the only one.
    start_step: first training step; ignored in evaluation.

  Returns:
    Batches of the per-replica size: 'views' [B, V, T, H, W, 3] float32 in [0, 1],
    'test_views' [B, C, T, H, W, 3] uint8, 'label' [B] int64, 'record' [B] int64 row of
    the index, 'valid' [B] bool.

  Raises:
    UserError: the config asks for what can't be.
  """
  pipelines = input_context.num_input_pipelines if input_context else 1
  pipeline = input_context.input_pipeline_id if input_context else 0
  check(config, table, pipelines)
  batch = config.global_batch_size
  share = batch // pipelines
  if config.is_training:
    places = tf.data.Dataset.range(start_step * share, tf.int64.max)
  else:
    places = tf.data.Dataset.range(num_places(config, len(table)) // pipelines)
  places = places.map(lambda n: n // share * batch + pipeline * share + n % share)
  dataset = places.map(
    _sample_maker(config, table), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
  )
  per_replica = (
    input_context.get_per_replica_batch_size(batch) if input_context else batch
  )
  dataset = dataset.batch(per_replica, drop_remainder=True)
  options = tf.data.Options()
  options.deterministic = True
  if config.num_threads:
    options.threading.private_threadpool_size = config.num_threads
  dataset = dataset.with_options(options)
  return dataset.prefetch(config.prefetch_buffer_size or tf.data.AUTOTUNE)


@contextlib.contextmanager
def damage_named(*configs: data_config.DataConfig) -> Iterator[None]:
  """Turns what TensorFlow says of damaged data into a `UserError` that tells what to do."""
  try:
    yield
  except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
    lines = str(error).splitlines()
    first = next((line for line in lines if any(sign in line for sign in _DAMAGE)), '')
    if not first and not isinstance(error, tf.errors.DataLossError):
      raise
    paths = ' or '.join(
      sorted({config.input_path or config.tfds_name for config in configs})
    )
    raise UserError(
      f'a record of {paths} is damaged ({(first or lines[0]).strip()}); find it with '
      'python -m tfrecords_tools.validate, then convert its source again'
    ) from error

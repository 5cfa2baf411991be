"""The reader: batches as a pure function of (seed, step, pipeline).

The phases of a sample are those of DMVR: read, parse, sample, decode, augment. Which
record a step takes is arithmetic on the step number, and each draw is keyed by (seed,
epoch, record, view), so no state has to be saved to resume. What stands in for a record
that can't be read is drawn in the same way.
"""

import functools
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from official.video import draws
from official.video.configs import data as data_config
from official.video.data import (
  checks,
  frame_access,
  frames,
  index,
  parsing,
  positions,
  records,
  views,
)
from official.video.data.parsing import Sample

# Records that are tried for a place of the training stream before the input gives up.
_ATTEMPTS = 8


def _fields(maker: views.ViewMaker, config: data_config.DataConfig) -> Sequence[str]:
  """Keys of the contract that samples are made of beside frames and first label."""
  labels = (records.LABEL_INDEX,) if config.num_labels else ()
  return tuple(dict.fromkeys((*maker.fields, *labels)))


def _labels(clip: Sample, config: data_config.DataConfig) -> Sample:
  """'labels' [num_labels] int64 of a clip, padded; nothing where none are asked for."""
  size = config.num_labels
  if not size:
    return {}
  padding = tf.fill([size], tf.constant(records.NO_LABEL, tf.int64))
  padded = tf.concat([clip[records.LABEL_INDEX], padding], 0)[:size]
  return {'labels': tf.ensure_shape(padded, [size])}


def _keys(
  maker: views.ViewMaker, key: tf.Tensor, config: data_config.DataConfig
) -> Sample:
  """'sample_key' [R, 2] int32 of a clip's repeats; nothing where none are asked for."""
  return {'sample_key': tf.stack(maker.repeat_keys(key))} if config.sample_keys else {}


class SampleMaker:
  """Makes the sample of a place in the stream.

  A record that can't be read, parsed or decoded costs itself only: in training another
  record, drawn for it, takes its place; in evaluation the place is marked invalid. Either
  way it is named on stderr and counted in the sample's 'bad'.

  Attributes:
    views: makes the views of a clip.
  """

  def __init__(self, config: data_config.DataConfig, table: index.RecordIndex):
    self._config = config
    self._num_records = len(table)
    self._files = tf.constant(list(table.files))
    self._file_id = tf.constant(table.file_id)
    self._number = tf.constant(table.number)
    self._offset = tf.constant(table.offset)
    self.views = views.build_view_maker(config)
    self._read = frame_access.choose(
      config, table, _fields(self.views, config), self._taken_by
    )
    # Traced once for the first attempt and for all that may follow.
    self._attempt = tf.function(self._try, autograph=False)

  def position(self, place: tf.Tensor) -> positions.Position:
    """Which record a place takes, if it can be read."""
    config = self._config
    if config.is_training:
      return positions.training_position(
        place, self._num_records, config.global_batch_size, config.seed
      )
    return positions.evaluation_position(
      place, self._num_records, max(1, config.num_test_clips)
    )

  def clip(self, row: tf.Tensor) -> Sample:
    """Reads and parses a record; see `parse_record`, `parse_row` and `tempo`."""
    return self.views.paced(self._read(row))

  def taken(self, row: tf.Tensor) -> tf.Tensor:
    """Strings [N]: the encoded frames that a sample of a record takes."""
    return self._taken_by(self._read, row)

  def _taken_by(self, read: frame_access.Read, row: tf.Tensor) -> tf.Tensor:
    clip = self.views.paced(read(row))
    if self._config.num_views:
      key = draws.sample_key(self._config.seed, tf.constant(0, tf.int64), row)
      indices = self.views.frames_taken(clip, key)
    else:
      indices = self.views.test_frames_taken(clip, tf.constant(0, tf.int64))
    return frames.read(tf.gather(clip['frames'], tf.reshape(indices, [-1])))

  def key(self, position: positions.Position) -> tf.Tensor:
    """What the draws of a sample are keyed by."""
    return draws.sample_key(self._config.seed, position.epoch, position.row)

  def sample(self, position: positions.Position) -> Sample:
    """The sample of one record, repeated `clips_per_decode` times on a first axis."""
    config = self._config
    clip = self.clip(position.row)
    made: Sample = {}
    if config.num_views:
      made |= self.views.training_sample(clip, self.key(position))
      made |= _keys(self.views, self.key(position), config)
    valid = position.valid
    if config.num_test_clips:
      test_sample, present = self._test_sample(clip, position.clip)
      made |= test_sample
      valid &= present
    once = {'label': clip['label'], 'record': position.row, 'valid': valid}
    once |= _labels(clip, config)
    repeats = config.clips_per_decode
    repeated = {k: tf.repeat(v[None], repeats, axis=0) for k, v in once.items()}
    return made | repeated

  def _test_sample(self, clip: Sample, number: tf.Tensor) -> tuple[Sample, tf.Tensor]:
    """What a record's test clip shows, and whether the record has that clip."""
    if not self._config.test_clip_step:
      return self.views.test_sample(clip, number), tf.constant(True)
    present = number < tf.cast(self.views.num_test_clips(clip['frames']), tf.int64)
    return _made_if(
      present, lambda: self.views.test_sample(clip, number), _zeros
    ), present

  def dataset(self, steps: tf.data.Dataset, first: int, share: int) -> tf.data.Dataset:
    """The samples of places `first` to `first + share` of each step, in order.

    Args:
      steps: step numbers, int64.
      first: first place in a step's batch.
      share: how many.

    Returns:
      Samples, see `sample`, with 'bad' int32, how many records failed for the place.
    """
    # A sample that fails is dropped; what comes next in its step tells that it is gone.
    # The slot after the last one of a step can't fail, so no loss stays unseen.
    slots = steps.flat_map(
      lambda step: tf.data.Dataset.from_tensor_slices(
        (tf.repeat(step, share + 1), tf.range(share + 1, dtype=tf.int64))
      )
    )
    made = slots.map(
      functools.partial(self._of_slot, first, share),
      num_parallel_calls=tf.data.AUTOTUNE,
      deterministic=True,
    )
    found = made.ignore_errors().scan(
      tf.constant(0, tf.int64), functools.partial(_find_lost, share)
    )
    return found.flat_map(self._filled)

  def _of_slot(
    self, first: int, share: int, step: tf.Tensor, slot: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor, Sample]:
    """The place where a step's share begins, the slot, and the sample at it.

    The slot behind the share has a sample too, because all of a data set's elements are
    alike, but one that costs nothing.
    """
    begin = step * self._config.global_batch_size + first

    def sample() -> Sample:
      return self._attempt(self.position(begin + slot), tf.constant(0, tf.int64))

    return begin, slot, _made_if(slot < share, sample, _unset)

  def _filled(
    self, begin: tf.Tensor, end: tf.Tensor, is_sample: tf.Tensor, made: Sample
  ) -> tf.data.Dataset:
    """What stands for the lost places `begin` to `end`, then the sample if it is one."""
    one = tf.data.Dataset.from_tensors(made).take(tf.cast(is_sample, tf.int64))

    def filled() -> tf.data.Dataset:
      lost = tf.data.Dataset.range(begin, end)
      return lost.flat_map(self._substitutes).concatenate(one)

    return tf.cond(begin < end, filled, lambda: one)

  def _try(self, wanted: positions.Position, attempt: tf.Tensor) -> Sample:
    made = self.sample(self._substitute(wanted, attempt))
    failed = tf.repeat(tf.cast(attempt, tf.int32)[None], self._config.clips_per_decode)
    return made | {'bad': failed}

  def _substitutes(self, place: tf.Tensor) -> tf.data.Dataset:
    """One sample: what stands at a place whose record failed, which it names."""
    wanted = self.position(place)
    tries = tf.data.Dataset.range(1, _ATTEMPTS)
    made = tries.map(lambda attempt: self._attempt(wanted, attempt))
    if self._config.is_training:
      samples = made.ignore_errors().concatenate(made)  # Where all fail, this says why.
    else:
      samples = self._blank(wanted, made.element_spec)
    return samples.take(1).map(lambda sample: self._named(wanted, sample))

  def _blank(
    self, wanted: positions.Position, spec: dict[str, tf.TensorSpec]
  ) -> tf.data.Dataset:
    """One invalid sample: what evaluation takes for a record that failed."""
    return tf.data.Dataset.from_tensors(
      _zeros(spec) | {'record': wanted.row[None], 'bad': tf.ones([1], tf.int32)}
    )

  def _substitute(
    self, wanted: positions.Position, attempt: tf.Tensor
  ) -> positions.Position:
    """The wanted position at attempt 0, then others drawn for it."""
    key = draws.fold(self.key(wanted), attempt)
    drawn = draws.integer(key, 'substitute', self._num_records)
    return wanted._replace(
      row=tf.where(attempt == 0, wanted.row, tf.cast(drawn, tf.int64))
    )

  def _named(self, wanted: positions.Position, sample: Sample) -> Sample:
    """Prints the records that were tried before a sample was found for a place."""

    def name(attempt: tf.Tensor) -> tf.Tensor:
      row = self._substitute(wanted, attempt).row
      tf.print(
        'skipped a damaged record:',
        self._files[self._file_id[row]],
        'record',
        self._number[row],
        'at byte',
        self._offset[row],
        output_stream=sys.stderr,
      )
      return attempt + 1

    # Padding repeats a record, which was named at its place.
    count = tf.where(wanted.valid, tf.cast(sample['bad'][0], tf.int64), 0)
    zero = tf.constant(0, tf.int64)
    printed = tf.while_loop(lambda a: a < count, name, [zero])[0].op
    with tf.control_dependencies([printed]):
      return tf.nest.map_structure(tf.identity, sample)


def _find_lost(
  share: int, expected: tf.Tensor, element: tuple[tf.Tensor, tf.Tensor, Sample]
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor, tf.Tensor, Sample]]:
  """Tells the places that were lost before a slot from the slot that should have come.

  Args:
    share: samples of a step; the slot of this number holds none.
    expected: the slot after the last one seen.
    element: of `SampleMaker._of_slot`.

  Returns:
    The slot to expect next; the first lost place and the one behind the last, whether the
    slot holds a sample, and the sample.
  """
  begin, slot, made = element
  following = tf.where(slot < share, slot + 1, 0)
  return following, (begin + expected, begin + slot, slot < share, made)


def _made_if(
  condition: tf.Tensor,
  make: Callable[[], Sample],
  other: Callable[[dict[str, tf.TensorSpec]], Sample],
) -> Sample:
  """What `make` gives where the condition holds, else `other` of the specs of that."""
  spec: dict[str, tf.TensorSpec] = {}

  def made() -> Sample:
    sample = make()
    spec.update(tf.nest.map_structure(tf.TensorSpec.from_tensor, sample))
    return sample

  # The branches are traced in their order, so the spec is known to the second.
  return tf.cond(condition, made, lambda: other(spec))


def _unset(spec: dict[str, tf.TensorSpec]) -> Sample:
  """A sample whose memory is never written: nothing reads it."""
  return tf.nest.map_structure(
    lambda s: tf.raw_ops.Empty(shape=s.shape.as_list(), dtype=s.dtype), spec
  )


def _zeros(spec: dict[str, tf.TensorSpec]) -> Sample:
  """A sample that is marked invalid."""
  return tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), spec)


def _without_absent(
  dataset: tf.data.Dataset, share: int, batches: int, pipelines: int
) -> tf.data.Dataset:
  """Evaluation's samples without those that records lack, then what fills the last batch.

  One of several pipelines gives as many batches as any other, so it fills them all.
  """
  padding = tf.data.Dataset.from_tensors(_zeros(dataset.element_spec))
  padding = padding.repeat(share - 1 if pipelines == 1 else share * batches)
  kept = dataset.filter(lambda sample: sample['valid'][0] | (sample['bad'][0] > 0))
  return kept.concatenate(padding).take(share * batches)


@tf.autograph.experimental.do_not_convert  # Rewriting what needs none takes seconds.
def training_spec(config: data_config.DataConfig) -> dict[str, tf.TensorSpec]:
  """What a global training batch holds, without any data.

  Raises:
    UserError: a field is set that has no part in it.
  """
  maker = views.build_view_maker(config)

  def sample(serialized: tf.Tensor, key: tf.Tensor) -> Sample:
    clip = maker.paced(parsing.parse_record(serialized, maker.fields))
    return maker.training_sample(clip, key) | _keys(maker, key, config)

  labels = {'labels': [config.num_labels]} if config.num_labels else {}

  traced = tf.function(sample, autograph=False).get_concrete_function(
    tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int32)
  )
  if not config.num_test_clips:
    maker.check_all_used()
  batch = config.global_batch_size
  return {
    'label': tf.TensorSpec([batch], tf.int64),
    **{n: tf.TensorSpec([batch, *shape], tf.int64) for n, shape in labels.items()},
    **{
      name: tf.TensorSpec([batch, *spec.shape[1:]], spec.dtype)
      for name, spec in traced.structured_outputs.items()
    },
  }


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
    Batches of the per-replica size: 'views' [B, V, T, H, W, 3] float32 in [0, 1] (or
    uint8, with 'view_key' int32 [B, 2]; see `views.augment_on_device`), 'test_views'
    [B, C, T, H, W, 3] uint8, 'label' [B] int64, with `num_labels` 'labels' [B, num_labels]
    int64, -1 where a clip has fewer, with `sample_keys` in training 'sample_key' [B, 2]
    int32, 'record' [B] int64 row of the index,
    'valid' [B] bool, 'bad' [B] int32 records that failed for the place, and what else the
    view maker gives. From a tf.data
    service the batches are the same, in the order in which its workers finish them.

  Raises:
    UserError: the config asks for what can't be.
  """
  pipelines = input_context.num_input_pipelines if input_context else 1
  pipeline = input_context.input_pipeline_id if input_context else 0
  checks.check(config, table, pipelines)
  batch, repeats = config.global_batch_size, config.clips_per_decode
  share = batch // pipelines
  per_replica = (
    input_context.get_per_replica_batch_size(batch) if input_context else batch
  )
  if config.is_training:
    steps = tf.data.Dataset.range(start_step // repeats, tf.int64.max)
  else:
    batches = positions.num_places(config, len(table)) // batch
    steps = tf.data.Dataset.range(batches)
  # A service hands out whole steps, so its batches are the ones that others see.
  samples = SampleMaker(config, table)
  dataset = samples.dataset(steps, pipeline * share, share)
  samples.views.check_all_used()
  if config.test_clip_step and not config.is_training:
    dataset = _without_absent(dataset, share, batches, pipelines)
  dataset = dataset.batch(share, drop_remainder=True).with_options(_options(config))
  if config.enable_tf_data_service:
    dataset = dataset.apply(_service(config, pipeline))
  parts = share // per_replica
  if repeats == parts == 1:
    dataset = dataset.map(_without_repeats)
  else:
    dataset = dataset.flat_map(lambda samples: _split(samples, repeats, parts))
  if config.is_training:
    dataset = dataset.skip(start_step % repeats * parts)
  return dataset.prefetch(config.prefetch_buffer_size or tf.data.AUTOTUNE)


def each_batch(dataset: tf.data.Dataset) -> Iterator[Sample]:
  """The batches of a data set, whose end holds nobody up; see `let_go`."""
  iterators = [iter(dataset)]
  yield from iterators[0]
  # Not in a `finally`: an abandoned generator may end as Python does, where no thread starts.
  let_go(iterators)


def let_go(iterators: list) -> None:
  """Empties a list of data set iterators, and waits for no more than a second.

  An iterator ends when tf.data's tuner has noticed that it was cancelled. The tuner is
  woken just before the flag is set that it looks at, so on busy cores it may miss it and
  sleep on, up to a minute. What follows goes on meanwhile; only the process's own end
  waits, since a thread that Python ends inside TensorFlow takes the process down.
  """
  thread = threading.Thread(target=iterators.clear)
  thread.start()
  thread.join(1.0)


def _without_repeats(samples: Sample) -> Sample:
  """As `_split` with nothing to split, but without a copy."""
  return {key: tf.squeeze(value, 1) for key, value in samples.items()}


def _split(samples: Sample, repeats: int, parts: int) -> tf.data.Dataset:
  """Batches of [share, repeats, ...] samples: by repeat, then by replica."""

  def take(i: tf.Tensor) -> Sample:
    repeat, part = i // parts, i % parts
    size = samples['record'].shape[0] // parts
    return {
      key: value[part * size : (part + 1) * size, repeat]
      for key, value in samples.items()
    }

  return tf.data.Dataset.range(repeats * parts).map(take)


def _options(config: data_config.DataConfig) -> tf.data.Options:
  options = tf.data.Options()
  options.deterministic = True
  # The first batch may be made while Python still traces the step.
  options.experimental_warm_start = True
  if config.num_threads:
    options.threading.private_threadpool_size = config.num_threads
  if config.ram_budget:
    options.autotune.ram_budget = int(config.ram_budget * 2**30)
  return options


def _service(config: data_config.DataConfig, pipeline: int):
  # A name of its own for every start: a job that is joined would go on where it was.
  return tf.data.experimental.service.distribute(
    tf.data.experimental.service.ShardingPolicy.DYNAMIC,
    config.tf_data_service_address,
    job_name=f'{config.tf_data_service_job_name}-{pipeline}-{uuid.uuid4().hex}',
  )

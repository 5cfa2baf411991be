"""What this machine gives and needs: the input by stage, the step, and which one limits."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from official.core import config_definitions as cfg
from official.video.configs import data as data_config
from official.video.data import frames, index, reader
from official.video.run import trainer
from official.video.tasks import base


@dataclasses.dataclass(frozen=True)
class Stage:
  """A part of the work on a sample.

  Attributes:
    name: of the part.
    rate: samples a second of everything up to and with this part.
  """

  name: str
  rate: float


def _rate(step: Callable[[], object], samples: int, seconds: float) -> float:
  """Samples a second of calls of `step`, each of so many samples, after one warm-up."""
  step()
  calls, begin = 0, time.perf_counter()
  while (passed := time.perf_counter() - begin) < seconds or calls < 2:
    step()
    calls += 1
  return calls * samples / passed


def _puller(dataset: tf.data.Dataset) -> Callable[[], object]:
  iterator: Iterator = iter(dataset)
  return lambda: next(iterator)


def input_stages(
  config: data_config.DataConfig, table: index.RecordIndex, seconds: float = 4.0
) -> list[Stage]:
  """Rates of the training input, cut off after each of its stages.

  Args:
    config: of the training data; the batch is a whole global batch.
    table: its records.
    seconds: that each stage is measured.
  """
  batch = config.global_batch_size
  makers = {
    place: reader.SampleMaker(dataclasses.replace(config, augment_on=place), table)
    for place in ('device', 'host')
  }
  maker = makers['host']

  def clip_and_key(place):
    position = maker.position(place)
    return maker.clip(position.row)['frames'], maker.key(position)

  def taken(place):
    stored, key = clip_and_key(place)
    indices = maker.views.frame_indices(tf.size(stored), key)
    return frames.read(tf.gather(stored, tf.reshape(indices, [-1])))

  def decoded(place):
    # One number of each frame is kept: holding the frames is not part of decoding.
    return tf.map_fn(
      lambda frame: tf.reduce_max(tf.io.decode_image(frame, expand_animations=False)),
      taken(place),
      fn_output_signature=tf.uint8,
    )

  stages: dict[str, Callable] = {
    'read and parse': lambda place: tf.size(taken(place)),
    'decode': decoded,
    'crop, resize, flip': lambda p: makers['device'].sample(maker.position(p)),
    'augment': lambda p: maker.sample(maker.position(p)),
  }
  measured = []
  for name, function in stages.items():
    places = tf.data.Dataset.range(tf.int64.max)
    dataset = places.map(function, tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.prefetch(tf.data.AUTOTUNE)
    pull = _puller(dataset)
    rate = _rate(pull, 1, seconds)
    measured.append(Stage(name, rate * config.clips_per_decode))
  on_host = dataclasses.replace(config, augment_on='host')
  whole = _rate(_puller(reader.build_dataset(on_host, table)), batch, seconds)
  return [*measured, Stage('batch', whole)]


def step_rate(params: cfg.ExperimentConfig, task: base.VideoTask, strategy) -> float:
  """Samples a second that the training step takes, on one batch over and over."""
  data = params.task.train_data

  def one_batch(input_context):
    return task.build_inputs(data, input_context).take(1).cache().repeat()

  with strategy.scope():
    runner = trainer.VideoTrainer(params, task, train=True, evaluate=False)
    dataset = runner.distribute_dataset(one_batch)
  iterator = iter(dataset)
  step = tf.function(runner.train_step, autograph=False)
  return _rate(
    lambda: (step(iterator), runner.global_step.numpy()),
    data.global_batch_size,
    seconds=8.0,
  )


def describe(
  stages: Sequence[Stage], needed: float, on_device: bool, shares_cores: bool
) -> str:
  """The table, and what it says.

  Args:
    stages: of `input_stages`.
    needed: samples a second of the step.
    on_device: whether the policy runs in the step, so that the host's part of the input
      ends before it.
    shares_cores: whether the step runs on the CPU too.
  """
  lines = [f'{"stage":<22}{"samples/s up to here":>22}{"share of the time":>20}']
  times = [1 / stage.rate for stage in stages]
  parts = [max(0.0, t - before) for before, t in zip([0.0, *times], times, strict=False)]
  for stage, part in zip(stages, parts, strict=True):
    lines.append(f'{stage.name:<22}{stage.rate:>22.1f}{part / sum(parts):>20.0%}')
  by_name = {stage.name: stage.rate for stage in stages}
  given = by_name['crop, resize, flip' if on_device else 'batch']
  where = 'the device' if on_device else 'the host'
  lines += [
    '',
    f'the input gives {given:.1f} samples/s with augmentation on {where}; the step takes '
    f'{needed:.1f}',
  ]
  if shares_cores:
    both = 1 / (1 / given + 1 / needed)
    lines.append(f'both run on this CPU, which makes about {both:.1f} samples/s together')
  elif given >= needed:
    lines.append(
      f'the step limits: the input has {given / needed:.1f} times what it needs'
    )
  else:
    lines.append(
      f'the input limits: the step waits {1 - given / needed:.0%} of its time. What '
      'helps, in order: task.train_data.augment_on=device where there is an accelerator, '
      'more CPU cores, --tf_data_service, task.train_data.clips_per_decode='
      f'{-(-needed // given):.0f}, smaller stored frames'
    )
  return '\n'.join(lines)

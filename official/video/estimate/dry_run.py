"""What a run would be: resolved config, size, cost and data, without touching anything."""

import math

import tensorflow as tf

from official.video.data import index
from official.video.errors import UserError
from official.video.estimate import cost
from official.video.settings import experiment, ranges, schedule


def describe_data(config) -> str:
  """One line of what a data config finds."""
  if not (config.input_path or config.tfds_name):
    return 'no input_path or tfds_name set'
  try:
    table = index.load_index(config)
  except UserError as error:
    return f'error: {error}'
  skipped = f', {table.skipped} sources skipped at conversion' if table.skipped else ''
  gigabytes = table.size.sum() / 1e9
  return (
    f'{len(table)} records in {len(table.files)} files, {gigabytes:.2f} GB, '
    f'{len(table.label_names)} classes{skipped}'
  )


def _wrong_classes(task) -> list[str]:
  """A line where head and data disagree on the number of classes."""
  try:
    task.check_classes()
  except UserError as error:
    return [f'classes          error: {error}']
  return []


def step_cost(task, model) -> cost.Estimate:
  """What a training step's forward pass costs a sample, of all networks that it runs."""
  config = task.task_config
  data = config.train_data

  def traced(function, spec):
    traced = tf.function(function, autograph=False).get_concrete_function(spec)
    return tf.nest.map_structure(tf.TensorSpec.from_tensor, traced.structured_outputs)

  prepared = traced(lambda batch: task.prepare(batch, data), task.training_spec())
  samples = -(-data.global_batch_size // config.micro_batches)
  part = {
    name: tf.TensorSpec([samples, *spec.shape[1:]], spec.dtype)
    for name, spec in prepared.items()
  }
  return cost.of_function(
    lambda batch: task.forward(batch, model, True),
    part,
    model.trainable_variables,
    samples,
  )


def describe(params, mode: str) -> str:
  """The text that `--dry_run` prints.

  Args:
    params: resolved experiment.
    mode: what the driver would do.
  """
  ranges.check(params, mode)
  trains = 'train' in mode
  if trains:
    schedule.check_intervals(params.trainer)
    rate = schedule.check(params.trainer).describe()
  task = experiment.build_task(params)
  assumed = task.without_data()
  model = task.built_model()
  initial = task.check_initial(model) if trains else ''
  data, parts = params.task.train_data, params.task.micro_batches
  weights = sum(math.prod(v.shape) for v in model.trainable_variables)
  total = sum(math.prod(v.shape) for v in model.variables)
  estimate = step_cost(task, model)
  samples = -(-data.global_batch_size // parts)
  gigabytes = estimate.training_bytes(samples, weights) / 1e9
  backbone = model.backbone.count_params()
  shape = 'x'.join(map(str, data.feature_shape))
  views = f'{data.num_views} views' if data.num_views > 1 else 'one view'
  uncounted = ', '.join(f'{n} {kind}' for kind, n in sorted(estimate.uncounted.items()))
  return '\n'.join(
    [
      experiment.to_yaml(params),
      f'mode             {mode}',
      *([f'learning rate    {rate}'] if trains else []),
      f'parameters       {total:,} ({weights:,} trainable; backbone {backbone:,}'
      f'{f"; with {assumed}" if assumed else ""})',
      f'forward pass     {estimate.flops / 1e9:.3g} GFLOPs a sample: {views} of {shape} '
      'through all networks of the step'
      + (f'; not counted: {uncounted}' if uncounted else ''),
      f'training memory  about {gigabytes:.1f} GB for {samples} samples on one device '
      f'(float32; remat: {params.task.model.remat}, micro_batches: {parts})',
      *([f'initial weights  {initial}'] if initial else []),
      *_wrong_classes(task),
      f'training data    {describe_data(params.task.train_data)}',
      f'validation data  {describe_data(params.task.validation_data)}',
    ]
  )

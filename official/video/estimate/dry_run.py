"""What a run would be: resolved config, size, cost and data, without touching anything."""

import math

from official.video.data import index
from official.video.errors import UserError
from official.video.estimate import cost
from official.video.run import trainer
from official.video.settings import experiment


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


def describe(params, mode: str) -> str:
  """The text that `--dry_run` prints.

  Args:
    params: resolved experiment.
    mode: what the driver would do.
  """
  task = experiment.build_task(params)
  note = ''
  if hasattr(type(task), 'num_classes'):  # Of the task it would ask for the data.
    classes = _classes(task)
    task.__dict__['num_classes'] = classes or 1
    note = '' if classes else '; with 1 class, as the data is not there to name them'
  model = trainer.built(task)
  data = params.task.train_data
  weights = sum(math.prod(v.shape) for v in model.trainable_variables)
  total = sum(math.prod(v.shape) for v in model.variables)
  parts = params.task.micro_batches
  clips = -(-data.global_batch_size // parts) * max(1, data.num_views)
  estimate = cost.estimate(model, data.feature_shape)
  gigabytes = estimate.training_bytes(clips, weights) / 1e9
  return '\n'.join(
    [
      experiment.to_yaml(params),
      f'mode             {mode}',
      f'parameters       {total:,} ({weights:,} trainable; '
      f'backbone {model.backbone.count_params():,}{note})',
      f'forward pass     {estimate.flops / 1e9:.2f} GFLOPs a clip of '
      f'{"x".join(map(str, data.feature_shape))}',
      f'training memory  about {gigabytes:.1f} GB for {clips} clips on one device '
      f'(float32; remat: {params.task.model.remat}, micro_batches: {parts})',
      f'training data    {describe_data(params.task.train_data)}',
      f'validation data  {describe_data(params.task.validation_data)}',
    ]
  )


def _classes(task) -> int:
  try:
    return type(task).num_classes.func(task)
  except UserError:
    return 0

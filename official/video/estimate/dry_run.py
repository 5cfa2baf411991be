"""What a run would be: resolved config, size, cost and data, without touching anything."""

import math
from collections.abc import Collection

import tensorflow as tf

from official.video.data import index
from official.video.errors import UserError, within
from official.video.estimate import cost
from official.video.settings import experiment, ranges, schedule


def gigabytes(bytes_: float) -> str:
  """Bytes as gigabytes, to a decimal or to two digits."""
  return f'{bytes_ / 1e9:.1f}' if bytes_ >= 1e9 else f'{bytes_ / 1e9:.2g}'


def describe_data(config) -> str:
  """One line of what a data config finds.

  Raises:
    UserError: it names data that can't be read.
  """
  if not (config.input_path or config.tfds_name):
    return 'no input_path or tfds_name set'
  table = index.load_index(config)
  skipped = f', {table.skipped} sources skipped at conversion' if table.skipped else ''
  return (
    f'{len(table)} records in {len(table.files)} files, {gigabytes(table.size.sum())} GB, '
    f'{len(table.label_names)} classes{skipped}'
  )


def step_cost(task, model) -> cost.Estimate:
  """What a training step's forward pass costs a sample, of all networks that it runs."""
  config = task.task_config
  data = config.train_data

  def traced(function, spec):
    traced = tf.function(function, autograph=False).get_concrete_function(spec)
    return tf.nest.map_structure(tf.TensorSpec.from_tensor, traced.structured_outputs)

  prepared = traced(lambda batch: task.prepare(batch, data), task.training_spec())
  samples = max(1, -(-data.global_batch_size // config.micro_batches))
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
  """The text that `--dry_run` prints; see `tell`."""
  return _described(params, mode)[0]


def tell(params, mode: str, uses: Collection[str] = ()) -> None:
  """Prints what a run would be, then ends as the run would at what is known by then.

  Args:
    params: resolved experiment.
    mode: what the driver would do.
    uses: of 'train_data', 'validation_data' and 'classes', what it could not do without.

  Raises:
    UserError: a field is out of range; or, once all is printed, something of `uses` is
      wrong.
  """
  text, faults = _described(params, mode)
  print(text)
  for name in uses:
    if name in faults:
      raise faults[name]


def _described(params, mode: str) -> tuple[str, dict[str, UserError]]:
  """The text, and what is wrong with the data and the classes."""
  ranges.check(params, mode)
  trains = 'train' in mode
  if trains:
    schedule.check_intervals(params.trainer)
    rate = schedule.check(params.trainer).describe()
  task = experiment.build_task(params)
  assumed = task.without_data()
  model = task.built_model()
  initial = task.check_initial(model) if trains else ''
  factors = task.told_multipliers(model) if trains else ''
  data, parts = params.task.train_data, params.task.micro_batches
  weights = sum(math.prod(v.shape) for v in model.trainable_variables)
  total = sum(math.prod(v.shape) for v in model.variables)
  estimate = step_cost(task, model)
  replicas = max(1, params.runtime.num_gpus)
  samples = -(-data.global_batch_size // (parts * replicas))
  dtype = params.runtime.mixed_precision_dtype or 'float32'
  needed = estimate.training_bytes(samples, weights)
  if dtype != 'float32':  # Activations take half of it.
    needed -= samples * estimate.activation_bytes // 2
  memory = gigabytes(needed)
  devices = f'each of {replicas} devices' if replicas > 1 else 'one device'
  backbone = model.backbone.count_params()
  shape = 'x'.join(map(str, data.feature_shape))
  views = f'{data.num_views} views' if data.num_views > 1 else 'one view'
  uncounted = ', '.join(f'{n} {kind}' for kind, n in sorted(estimate.uncounted.items()))
  lines = [
    experiment.to_yaml(params),
    f'mode             {mode}',
    *([f'learning rate    {rate}'] if trains else []),
    *([f'multiplied by    {factors}'] if factors else []),
    f'parameters       {total:,} ({weights:,} trainable; backbone {backbone:,}'
    f'{f"; with {assumed}" if assumed else ""})',
    f'forward pass     {estimate.flops / 1e9:.3g} GFLOPs a sample: {views} of {shape} '
    'through all networks of the step'
    + (f'; not counted: {uncounted}' if uncounted else ''),
    f'training memory  about {memory} GB for {samples} samples on {devices} '
    f'({dtype}; remat: {params.task.model.remat}, micro_batches: {parts})',
    *([f'initial weights  {initial}'] if initial else []),
  ]
  faults: dict[str, UserError] = {}
  try:
    task.check_classes()
  except UserError as error:
    faults['classes'] = error
    lines.append(f'classes          error: {error}')
  for name, title in (
    ('train_data', 'training data    '),
    ('validation_data', 'validation data  '),
  ):
    try:
      with within(f'task.{name}'):
        lines.append(title + describe_data(getattr(params.task, name)))
    except UserError as error:
      faults[name] = error
      lines.append(f'{title}error: {error}')
  return '\n'.join(lines), faults

"""What makes a training step fit into a device's memory: `--fit`."""

import math
import subprocess
from collections.abc import Iterator, MutableMapping
from typing import Any

from official.video.errors import UserError
from official.video.estimate import cost, dry_run
from official.video.settings import experiment, rates

# Activations of a net for each number of a clip, of the published ones: more than that.
_LEAST_ACTIVATIONS = 10
# Of the memory; the rest is TensorFlow's, and what the estimate does not know.
_SHARE = 0.8
_HALF = ('float16', 'bfloat16')


def memory(asked: str, runtime: Any) -> float:
  """Bytes of a device: as asked for in gigabytes, else as the machine tells.

  Raises:
    UserError: neither is known.
  """
  if asked:
    try:
      gigabytes = float(asked)
    except ValueError:
      gigabytes = 0.0
    if not 0 < gigabytes < float('inf'):
      raise UserError(f'--fit {asked}: expected gigabytes of a device, such as 24')
    return gigabytes * 1e9
  if runtime.distribution_strategy == 'tpu':
    raise UserError('--fit: TPUs do not tell their memory; name gigabytes, as --fit=16')
  if runtime.num_gpus:
    return _of_gpus()
  with open('/proc/meminfo') as file:
    fields = dict(line.split(':') for line in file)
  return 1024.0 * int(fields['MemAvailable'].split()[0])


def _of_gpus() -> float:
  """Bytes of the smallest GPU."""
  query = ('nvidia-smi', '--query-gpu=memory.total', '--format=csv,noheader,nounits')
  try:
    done = subprocess.run(query, capture_output=True, text=True, check=True)
    return min(map(int, done.stdout.split())) * 2.0**20
  except (OSError, ValueError, subprocess.CalledProcessError) as error:
    raise UserError(
      f'--fit: nvidia-smi does not tell the memory ({error}); name gigabytes, as --fit=24'
    ) from error


# By what is recomputed: the cost of a sample, and the number of trained weights.
Estimates = MutableMapping[str, tuple[cost.Estimate, int]]


def fitted(params: Any, bytes_: float, seen: Estimates | None = None) -> tuple[Any, str]:
  """Picks micro-batches, what is recomputed and, where these do not do, a smaller batch.

  What costs least time comes first: micro-batches of tasks that contrast compute each clip
  twice, as recomputing does; those of others cost nothing. A smaller batch takes learning
  rates in proportion.

  Args:
    params: resolved experiment, not locked.
    bytes_: memory of a device.
    seen: estimates of the same experiment, which are used and added to.

  Returns:
    The experiment, and what was picked.

  Raises:
    UserError: not even one sample fits.
  """
  replicas = max(1, params.runtime.num_gpus)
  batch = params.task.train_data.global_batch_size
  seen = {} if seen is None else seen
  half = 0.5 if params.runtime.mixed_precision_dtype in _HALF else 1.0

  def needed(remat: str, samples: int) -> float:
    if remat not in seen:
      seen[remat] = _estimate(_with(params, remat, 1, batch))
    estimate, weights = seen[remat]
    whole = estimate.training_bytes(samples, weights)
    return whole - (1 - half) * samples * estimate.activation_bytes

  size, least = batch, 2 if experiment.build_task(params).contrasts else 1
  while size >= max(replicas, least):
    for remat, parts in _ways(params, size // replicas):
      try:
        found = needed(remat, -(-size // (replicas * parts)))
      except UserError:
        if remat == params.task.model.remat:
          raise
        continue  # Not every backbone can be recomputed.
      if found <= _SHARE * bytes_:
        return _picked(params, remat, parts, size, found, bytes_)
    size = size // 2 // replicas * replicas
  raise UserError(
    f'--fit: one sample a device takes more than {_SHARE:.0%} of '
    f'{dry_run.gigabytes(bytes_)} GB; '
    'take a smaller backbone or task.train_data.feature_shape'
  )


def _ways(params: Any, local: int) -> Iterator[tuple[str, int]]:
  """What is recomputed and micro-batches, cheapest first."""
  parts = [n for n in range(1, local + 1) if local % n == 0]
  levels = dict.fromkeys((params.task.model.remat, 'all'))
  if experiment.build_task(params).contrasts:
    return iter([(level, n) for n in parts for level in levels])
  return iter([(level, n) for level in levels for n in parts])


def _estimate(params: Any) -> tuple[cost.Estimate, int]:
  task = experiment.build_task(params)
  task.without_data()
  model = task.built_model()
  weights = sum(v.shape.num_elements() for v in model.trainable_variables)
  return dry_run.step_cost(task, model), weights


def _with(params: Any, remat: str, parts: int, size: int) -> Any:
  data = {'global_batch_size': size}
  return params.replace(
    task={'micro_batches': parts, 'model': {'remat': remat}, 'train_data': data}
  )


def _picked(params, remat: str, parts: int, size: int, found: float, bytes_: float):
  batch = params.task.train_data.global_batch_size
  made = _with(params, remat, parts, size)
  text = (
    f'--fit: about {dry_run.gigabytes(found)} of {dry_run.gigabytes(bytes_)} GB a device with '
    f'task.train_data.global_batch_size={size},task.micro_batches={parts},'
    f'task.model.remat={remat}'
  )
  if size != batch:
    text += f'; for a batch of {size}, not {batch}: {rates.grow(made, size / batch)}'
    if getattr(made.trainer, 'rate_batch', 0):
      # Who resolves it later finds rates that have shrunk already.
      made.trainer.rate_batch = max(1, round(made.trainer.rate_batch * size / batch))
  return made, text


def warning(params: Any) -> str:
  """A note where a step on a CPU takes more memory than the machine has free, else ''.

  There the system ends the process without a word. Only what may be too much is estimated,
  which takes seconds.
  """
  runtime, data = params.runtime, params.task.train_data
  if runtime.num_gpus or runtime.distribution_strategy == 'tpu':
    return ''
  free = memory('', runtime)
  samples = -(-data.global_batch_size // params.task.micro_batches)
  clips = 4 * samples * max(1, data.num_views) * math.prod(data.feature_shape)
  if _LEAST_ACTIVATIONS * clips < free:
    return ''
  estimate, weights = _estimate(params)
  needed = estimate.training_bytes(samples, weights)
  if needed < free:
    return ''
  return (
    f'note: a step of {samples} clips at once takes about {dry_run.gigabytes(needed)} GB, '
    f'and this machine has {dry_run.gigabytes(free)} GB free; --fit picks what fits'
  )


def apply(params: Any, asked: str) -> Any:
  """`fitted` to what the flag asks for; prints what was picked."""
  made, text = fitted(params, memory(asked, params.runtime))
  print(text)
  return made

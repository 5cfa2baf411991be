"""What a replica spends on losses that pair all rows with all, by the number of replicas.

python -m benchmarks.shared_loss
"""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import harness

ABOUT = """ConST-CL's local loss of {clips} clips of {regions} regions, and G-ViLM's
grounding of {clips} pairs of {groups} groups and {nouns} nouns, of {channels} channels,
float32: the loss and its gradient by one, two and four replicas, logical devices of one
processor, which gather the batch as in training. **shared**: each replica pairs its own
rows with all, in chunks (`losses.gather.by_rows`). **whole**: each replica computes all, as
contrastive losses often do. The processors do the work of all replicas, so a replica's
share of it is the whole's time over their number. The largest tensor is read off the
replica's graph; peak memory is that of the process, all replicas together, some 600 MB of
which are TensorFlow."""

REPLICAS = (1, 2, 4)
KINDS = ('local loss', 'grounding')
SIZES = {'clips': 384, 'regions': 8, 'groups': 16, 'nouns': 4, 'channels': 128}
QUICK = {'clips': 16, 'regions': 2, 'groups': 2, 'nouns': 2, 'channels': 8}


def _local_loss(sizes: dict[str, int]) -> tuple[Callable[..., Any], list[list[int]]]:
  from official.video.projects.const_cl import losses

  shape = [sizes['clips'], 2, sizes['regions'], sizes['channels']]

  def loss(regions, reconstructed):
    import tensorflow as tf

    valid = tf.ones(regions.shape[:-1], tf.bool)
    return losses.local_loss(regions, reconstructed, valid).loss

  return loss, [shape, shape]


def _grounding(sizes: dict[str, int]) -> tuple[Callable[..., Any], list[list[int]]]:
  from official.video.projects.gvilm import losses

  def loss(groups, nouns):
    similarity = losses.grounding_similarity(groups, nouns)
    return losses.paired_contrast(similarity, 0.07).loss

  clips, channels = sizes['clips'], sizes['channels']
  return loss, [[clips, sizes[key], channels] for key in ('groups', 'nouns')]


def replicas(kind: str, count: int, shared: bool, sizes: dict[str, int]) -> harness.Run:
  """One step of a loss by so many replicas; each round is one."""
  import numpy as np
  import tensorflow as tf

  from official.video.losses import gather

  cpu = tf.config.list_physical_devices('CPU')[0]
  devices = [tf.config.LogicalDeviceConfiguration()] * count
  tf.config.set_logical_device_configuration(cpu, devices)
  strategy = tf.distribute.MirroredStrategy([f'CPU:{i}' for i in range(count)])
  if not shared:
    gather.by_rows = lambda function, rows, whole, _: tuple(function(0, *rows, *whole))
  loss, shapes = {'local loss': _local_loss, 'grounding': _grounding}[kind](sizes)
  rng = np.random.default_rng(0)
  part = sizes['clips'] // count

  def batch(shape: Sequence[int]):
    whole = rng.normal(size=shape).astype(np.float32)
    return strategy.experimental_distribute_values_from_function(
      lambda c: tf.constant(whole[c.replica_id_in_sync_group * part :][:part])
    )

  def replica(*parts):
    with tf.GradientTape() as tape:
      tape.watch(parts)
      value = loss(*map(gather.gather, parts)) / count
    return value, tape.gradient(value, parts)

  batches = [batch(shape) for shape in shapes]
  step = tf.function(lambda *x: strategy.run(replica, args=x), autograph=False)
  largest = _largest(step.get_concrete_function(*batches).graph)

  def run() -> dict[str, float]:
    with harness.measured() as span:
      values, _ = step(*batches)
      value = float(strategy.experimental_local_results(values)[0])
    if value != value:
      raise FloatingPointError('the loss is not a number')
    return {
      'cpu': span.cpu / count,
      'largest': largest / 1e6,
      'memory': harness.peak_memory(),
    }

  return run


def _largest(graph: Any) -> int:
  """Bytes of the largest tensor of a graph and its functions."""
  functions = (f.graph for f in graph._functions.values() if hasattr(f, 'graph'))
  return max(
    output.dtype.size * output.shape.num_elements()
    for one in (graph, *functions)
    for operation in one.get_operations()
    for output in operation.outputs
    if output.shape.is_fully_defined() and output.dtype.is_numpy_compatible
  )


def name_of(kind: str, count: int, shared: bool) -> str:
  """The row of a contender."""
  return f'{kind}, {count} replica{"s" * (count > 1)}, {"shared" if shared else "whole"}'


def benchmark(options: harness.Options) -> harness.Benchmark:
  """Each loss by each number of replicas, shared and whole."""
  sizes = QUICK if options.quick else SIZES
  contenders = []
  for kind in KINDS:
    for count in REPLICAS:
      for shared in (True, False):
        one = harness.in_worker(
          name_of(kind, count, shared),
          'benchmarks.shared_loss:replicas',
          options,
          rival=name_of(kind, count, False),
          kind=kind,
          count=count,
          shared=shared,
          sizes=sizes,
        )
        contenders.append(one)
  most = REPLICAS[-1]
  targets = [
    harness.Target(name_of(kind, most, True), metric, 1.5 / most)
    for kind in KINDS
    for metric in ('cpu', 'largest')
  ]
  return harness.Benchmark(
    name='shared_loss',
    title='Losses that share their rows',
    about=ABOUT.format(**sizes),
    metrics=(
      harness.Metric('cpu', 'CPU s a replica'),
      harness.Metric('largest', 'largest tensor, MB'),
      harness.Metric('memory', 'peak memory of all, MB'),
    ),
    contenders=tuple(contenders),
    rival=name_of(KINDS[0], 1, False),
    targets=tuple(targets),
  )


if __name__ == '__main__':
  harness.main(benchmark)

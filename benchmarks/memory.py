"""What each lever saves of a train step's memory, and what it costs in time.

python -m benchmarks.memory
"""

from benchmarks import harness, train_step

ABOUT = """One step of our R3D-50 with the CVRL head on {clips} clips of {shape}, float32,
{cores} cores, with the fields of the experiment that save memory: `task.model.remat`, the
stages that the backward pass recomputes, and `task.micro_batches`, the parts that a batch
is computed in, with the gradient of the whole. Memory is the largest resident size of a
process that does nothing else; about 1300 MB of it, more under a lever, are TensorFlow,
the weights and the traced step, so the larger the batch, the more a lever saves."""

# Row of the table, to the fields of the experiment that it changes.
LEVERS: dict[str, str] = {
  'as it is': '',
  'remat, stem and res2': 'task.model.remat: "stem,res2"',
  'remat, all stages': 'task.model.remat: all',
  '2 micro-batches': 'task.micro_batches: 2',
  '4 micro-batches': 'task.micro_batches: 4',
  '4 micro-batches, remat of all': '{task.micro_batches: 4, task.model.remat: all}',
}
BASE = 'as it is'
# Each takes long to trace.
QUICK = (BASE, 'remat, all stages', '2 micro-batches')


def benchmark(options: harness.Options) -> harness.Benchmark:
  """Our step as it is, and under each lever."""
  sizes = train_step.settings(options)
  if not options.quick:
    sizes = {'shape': [16, 112, 112, 3], 'pairs': 8, 'steps': 1}
  contenders = tuple(
    harness.in_worker(
      name, 'benchmarks.train_step:ours', options, overrides=overrides, **sizes
    )
    for name, overrides in LEVERS.items()
    if not options.quick or name in QUICK
  )
  return harness.Benchmark(
    name='memory',
    title='Memory of a train step, by lever',
    about=ABOUT.format(
      clips=2 * sizes['pairs'],
      shape='x'.join(map(str, sizes['shape'])),
      cores=options.cores,
    ),
    metrics=(
      harness.Metric('memory', 'peak memory, MB'),
      harness.Metric('step', 's a step'),
    ),
    contenders=contenders,
    rival=BASE,
  )


if __name__ == '__main__':
  harness.main(benchmark)

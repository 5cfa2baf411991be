"""How our input scales: with threads, clip length, frame size and batch.

python -m benchmarks.scaling
"""

from benchmarks import data, harness

ABOUT = """Our input with all augmentation on the host, as in the input benchmark, with one
setting changed at a time from {base}. Threads are the cores that the process may use and
the threads of its input. Data: {videos}. Memory is the largest resident size of the
process, TensorFlow included."""
BASE = {'threads': 2, 'frames': 16, 'size': 224, 'batch': 8}
CHANGES: tuple[dict[str, int], ...] = (
  {},
  {'threads': 1},
  {'frames': 8},
  {'frames': 32},
  {'size': 112},
  {'batch': 2},
  {'batch': 16},
)


def row(change: dict[str, int]) -> str:
  """Name of a change of the base in the table."""
  texts = {
    'threads': '{} thread(s)',
    'frames': '{} frames',
    'size': '{0}x{0} pixels',
    'batch': 'batch {}',
  }
  return ', '.join(texts[key].format(value) for key, value in change.items()) or 'base'


def benchmark(options: harness.Options) -> harness.Benchmark:
  """Our input at each setting."""
  videos = data.Videos(16, 80) if options.quick else data.Videos()
  made = data.make(options.data_dir, videos)
  base = BASE | {'threads': min(BASE['threads'], options.cores)}
  contenders: list[harness.Contender] = []
  for change in CHANGES:
    setting = base | change
    contenders.append(
      harness.in_worker(
        row(change),
        'benchmarks.input:ours',
        options,
        cores=setting['threads'],
        manifest=made.manifest,
        shape=[setting['frames'], setting['size'], setting['size'], 3],
        batch=setting['batch'],
        seconds=0.5 if options.quick else 4.0,
        augment_on='host',
        threads=setting['threads'],
      )
    )
  return harness.Benchmark(
    name='scaling',
    title='Scaling of the input',
    about=ABOUT.format(base=row(base), videos=videos),
    metrics=(
      harness.Metric('rate', 'pairs/s', higher_is_better=True),
      harness.Metric('cpu', 'CPU ms a pair'),
      harness.Metric('memory', 'peak memory, MB'),
    ),
    contenders=tuple(contenders),
    rival='base',
  )


if __name__ == '__main__':
  harness.main(benchmark)

"""The protocols on features at Kinetics' size: minutes and memory, on one machine.

python -m benchmarks.probing

It takes a tenth of Kinetics' clips; with --share=1 all, in about an hour a round. How far a
fit is stands in progress.log beside the features in --data_dir. Where a run was stopped, the
same command with --resume takes the figures of the rounds that were done.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks import harness

CLASSES, WIDTH = 400, 2048
# Training and test clips; those that the rival gets too.
SIZES, SUBSET = (240_000, 20_000), (8_000, 2_000)
# Of them, what is measured where nobody asks for another.
SHARE = 0.1
# A feature is its class's centre and noise of so many times its length.
NOISE = 9.0

ABOUT = """{train} training and {test} test features of {width} random float32 numbers
about {classes} planted classes, in .npy files; and the first {few} and {few_test} of them.
Minutes of the clock, the largest resident memory of the process less what it had when it
had imported TensorFlow, and the share of test clips classified right.

- **kNN and retrieval**: 200 and 50 neighbours of each test clip, found once.
- **probe, published schedule**: `evaluation.linear.train`, 100 epochs of batches of 1024.
- **probe, to convergence**: `evaluation.linear.Path` at one penalty (scikit-learn's C of
  {strength:g}), until the largest component of the gradient is 1e-4 of the first.
- **scikit-learn, subset**: `StandardScaler` and `LogisticRegression` of the same penalty, to
  the same gradient, in float64, as linear probes are mostly fitted. It holds several copies
  of the features, so it gets the subset only, and ours again for comparison."""

STRENGTH = 1e-2
_BLOCK = 4096
# Seconds that a round may take.
_LONGEST = 12 * 3600.0


def progress(folder: str, name: str) -> Callable[[str], None]:
  """Appends lines to progress.log: what `linear.Watch` is told, and when."""

  def tell(text: str) -> None:
    with open(pathlib.Path(folder) / 'progress.log', 'a') as file:
      file.write(f'{time.strftime("%H:%M:%S")} {name}: {text}\n')

  return tell


def resumable(
  contender: harness.Contender, folder: pathlib.Path, resume: bool
) -> harness.Contender:
  """A contender that keeps the figures of its rounds, and takes those that are kept.

  Args:
    contender: whose rounds may take hours.
    folder: of the figures.
    resume: whether what is there is taken; else it is of another run, and goes.
  """
  slug = '_'.join(contender.name.replace(',', '').split())
  if not resume:
    for path in folder.glob(f'figures_{slug}_*.json'):
      path.unlink()
  rounds = itertools.count()

  def run() -> dict[str, float]:
    path = folder / f'figures_{slug}_{next(rounds)}.json'
    if not path.exists():
      figures = dict(contender.run(timeout=_LONGEST))  # type: ignore[call-arg]
      partial = path.with_suffix('.partial')
      partial.write_text(json.dumps(figures))
      partial.rename(path)
    return json.loads(path.read_text())

  return dataclasses.replace(contender, run=run)


def write(folder: pathlib.Path, name: str, count: int, width: int) -> None:
  """Writes <name>/feature.npy and labels.npy, block by block, where they are missing."""
  place = folder / name
  if (place / 'labels.npy').exists():
    return
  place.mkdir(parents=True, exist_ok=True)
  centres = np.random.default_rng(0).normal(size=(CLASSES, width)).astype(np.float32)
  labels = np.random.default_rng([1, len(name)]).integers(0, CLASSES, count)
  features = np.lib.format.open_memmap(
    place / 'feature.npy', 'w+', np.float32, (count, width)
  )
  for number, first in enumerate(range(0, count, _BLOCK)):
    draw = np.random.default_rng([2, len(name), number])
    some = labels[first : first + _BLOCK]
    noise = draw.standard_normal((len(some), width), np.float32)
    features[first : first + _BLOCK] = centres[some] + NOISE * noise
  features.flush()
  np.save(place / 'labels.npy', labels)


class _Data:
  """Both sets, mapped into memory; of the subset their first rows."""

  def __init__(self, folder: str, counts: tuple[int, int]):
    self.sets = []
    for name, count in zip(('train', 'test'), counts, strict=True):
      place = pathlib.Path(folder) / name
      features = np.load(place / 'feature.npy', mmap_mode='r')[:count]
      self.sets.append((features, np.load(place / 'labels.npy')[:count]))


def _measured(accuracy, base: float = 0.0) -> dict[str, float]:
  """Figures of a round: `accuracy` does the work and returns the share."""
  with harness.measured() as span:
    share = accuracy()
  memory = harness.peak_memory() - base
  return {'minutes': span.wall / 60, 'memory': memory, 'accuracy': 100 * share}


def _base() -> float:
  """Memory of a process that has imported TensorFlow and multiplied."""
  import tensorflow as tf

  tf.matmul(tf.ones([8, 8]), tf.ones([8, 8]))
  return harness.peak_memory()


def neighbors(folder: str, counts: list[int]) -> harness.Run:
  """Nearest neighbours and retrieval, by `evaluation.protocols`."""
  from official.video.scoring import of_files

  data, base = _Data(folder, (counts[0], counts[1])), _base()

  def run() -> dict[str, float]:
    from official.video.evaluation import protocols

    train, test = (of_files.Features('', *pair) for pair in data.sets)
    return _measured(
      lambda: protocols.score(('knn', 'retrieval'), train, test, test, train)['knn'][
        'top1'
      ],
      base,
    )

  return run


def _of_fit(folder: str, counts: list[int], make) -> harness.Run:
  data, base = _Data(folder, (counts[0], counts[1])), _base()
  (features, labels), (shown, wanted) = data.sets

  def accuracy() -> float:
    made = make(features, labels).probabilities(shown)
    return float(np.mean(made.argmax(1) == wanted))

  return lambda: _measured(accuracy, base)


def schedule(folder: str, counts: list[int]) -> harness.Run:
  """The published schedule."""
  from official.video.evaluation import linear

  watch = progress(folder, 'published schedule')
  return _of_fit(folder, counts, lambda x, y: linear.train(x, y, CLASSES, watch=watch))


def convergence(folder: str, counts: list[int]) -> harness.Run:
  """The multinomial fit."""
  from official.video.evaluation import linear

  watch = progress(folder, f'to convergence, {counts[0]} clips')

  def fit(features, labels):
    made = linear.Path(features, labels, CLASSES).fit(STRENGTH, watch=watch)
    assert made.gradient <= linear.TOLERANCE, made.gradient
    return made

  return _of_fit(folder, counts, fit)


def _first_gradient(features, labels) -> float:
  """Largest component of the gradient of the mean loss at weights of zero."""
  mean, scale, count = features.mean(0), features.std(0), len(features)
  largest = 0.0
  for label in range(CLASSES):
    some = labels == label
    moved = (features[some].sum(0) - some.sum() * mean) / scale / count
    largest = max(largest, np.abs(moved).max(), abs(some.mean() - 1 / CLASSES))
  return float(largest)


def rival_model(tolerance: float):
  """scikit-learn's probe, which ends where no component of the gradient is larger."""
  from sklearn import linear_model, pipeline, preprocessing

  return pipeline.make_pipeline(
    preprocessing.StandardScaler(),
    linear_model.LogisticRegression(C=STRENGTH, max_iter=2000, tol=tolerance),
  )


def theirs(folder: str, counts: list[int]) -> harness.Run:
  """scikit-learn's, on arrays in memory."""
  data, base = _Data(folder, (counts[0], counts[1])), _base()
  (features, labels), (shown, wanted) = data.sets
  first = _first_gradient(features, labels)

  def accuracy() -> float:
    model = rival_model(1e-4 * first)
    model.fit(np.asarray(features, np.float64), labels)
    return float(model.score(np.asarray(shown, np.float64), wanted))

  return lambda: _measured(accuracy, base)


def benchmark(
  options: harness.Options, share: float = SHARE, resume: bool = False
) -> harness.Benchmark:
  """Ours on all, ours and scikit-learn on the subset."""
  few = (600, 200) if options.quick else SUBSET
  sizes = (1_200, 400) if options.quick else SIZES
  whole = tuple(round(share * size) for size in sizes)
  width = 64 if options.quick else WIDTH
  folder = options.data_dir / f'probing_{whole[0]}_{width}'
  for name, count in zip(('train', 'test'), whole, strict=True):
    write(folder, name, count, width)

  def contender(name: str, function: str, counts, rival: str) -> harness.Contender:
    made = harness.in_worker(
      name,
      f'benchmarks.probing:{function}',
      options,
      warm_up=0,
      rival=rival,
      folder=str(folder),
      counts=list(counts),
    )
    return resumable(made, folder, resume)

  subset, rival = 'probe, to convergence, subset', 'scikit-learn, subset'
  return harness.Benchmark(
    name='probing',
    title='Protocols on features',
    about=ABOUT.format(
      train=whole[0],
      test=whole[1],
      width=width,
      classes=CLASSES,
      few=few[0],
      few_test=few[1],
      strength=STRENGTH,
    ),
    metrics=(
      harness.Metric('minutes', 'minutes'),
      harness.Metric('memory', 'peak MB'),
      harness.Metric('accuracy', 'accuracy, %', higher_is_better=True),
    ),
    contenders=(
      contender(rival, 'theirs', few, rival),
      contender(subset, 'convergence', few, rival),
      contender('probe, to convergence', 'convergence', whole, subset),
      contender('probe, published schedule', 'schedule', whole, subset),
      contender('kNN and retrieval', 'neighbors', whole, subset),
    ),
    rival=rival,
    targets=()
    if options.quick
    else (
      harness.Target(subset, 'minutes', 1.0),
      harness.Target(subset, 'memory', 1.0),
      harness.Target(subset, 'accuracy', 0.999),
      # Many times the clips.
      harness.Target('probe, to convergence', 'memory', 1.5, rival=subset),
    ),
    flags='' if share == SHARE else f' --share={share:g}',
  )


def main() -> None:
  """The command line; exits with 1 where a contender failed."""
  parser = argparse.ArgumentParser(description=__doc__)
  harness.add_flags(parser)
  parser.add_argument('--share', type=float, default=SHARE, help='of the clips')
  parser.add_argument(
    '--resume', action='store_true', help='take the rounds that a stopped run did'
  )
  arguments = parser.parse_args()
  if arguments.resume and not arguments.data_dir:
    parser.error('--resume takes --data_dir, where the stopped run kept its figures')
  make = functools.partial(benchmark, share=arguments.share, resume=arguments.resume)
  sys.exit(1 if harness.failures(harness.run(make, arguments)) else 0)


if __name__ == '__main__':
  main()

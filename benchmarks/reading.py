"""What reading the frames that a sample takes saves, and what it costs where it saves nothing.

python -m benchmarks.reading
"""

import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import data, harness, input, slow_files

BANDWIDTH, LATENCY = 50e6, 0.02
_entered: list[Any] = []
ABOUT = """Pairs of two clips of a video as in the input benchmark, host part (decoded,
cropped, resized, flipped; {shape}, stride 2, batches of {batch}), off records read whole
(`frame_index: never`) and read by the index of frames beside them (`always`). Data:
{videos}, {kilobytes:.0f} KB a frame, {megabytes:.1f} MB a record; {cores} cores each. MB a
pair is what the process asked files for (`rchar` of /proc/self/io less what it read before),
behind FUSE what the file system handed out.

- **warm**: the records are in the page cache of a local disk.
- **cold**: their pages are dropped after every batch (`posix_fadvise`), so that each is read
  from the disk again.
- **slow**: the records lie behind FUSE, uncached: {bandwidth:.0f} MB/s for all readers
  together, {latency:.0f} ms until a request that does not go on where the one before ended
  is answered. TensorFlow and our reader read that file system as any other; it is
  `benchmarks/slow_files.py`, which needs root.
- **reading alone, warm**: the same records, the frames of a pair read and nothing decoded.
- **auto** is what a user gets without asking: it measures at the start, then takes one."""


def _asked() -> int:
  """Bytes that this process read so far, of files and whatever else."""
  with open('/proc/self/io') as file:
    return int(file.readline().split()[1])


def _dropper(manifest: str) -> Callable[[], None]:
  """What drops the pages of a manifest's files from the cache."""
  files = [
    os.open(path, os.O_RDONLY)
    for path in sorted(pathlib.Path(manifest).parent.glob('*.tfrecord*'))
  ]

  def drop() -> None:
    for file in files:
      os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

  return drop


def pairs(
  manifest: str,
  shape: list[int],
  batch: int,
  seconds: float,
  frame_index: str,
  storage: str,
  decodes: bool = True,
) -> harness.Run:
  """Our reader, off one kind of storage.

  Args:
    manifest: of the records.
    shape: of a view.
    batch: pairs.
    seconds: of a round.
    frame_index: of the data config.
    storage: 'warm', 'cold' or 'slow'.
    decodes: False reads the frames alone.
  """
  import tensorflow as tf

  from official.video.data import index, reader

  counted, drop = _asked, lambda: None
  if storage == 'cold':
    os.sync()
    drop = _dropper(manifest)
  if storage == 'slow':
    path = pathlib.Path(manifest)
    # Entered for as long as this process lives, whose pipe the file system reads.
    _entered.append(slow_files.mounted(path.parent, BANDWIDTH, LATENCY))
    mounted = _entered[-1].__enter__()
    manifest = str(mounted.path / path.name)
    counted = lambda: mounted.counted()[0]  # noqa: E731
  config = input.pairs_of(
    manifest, shape, batch, augment_on='device', frame_index=frame_index
  )
  table = index.load_index(config)
  if decodes:
    dataset = reader.build_dataset(config, table)
  else:
    maker = reader.SampleMaker(config, table)

    def read(place: tf.Tensor) -> tf.Tensor:
      return tf.reduce_sum(tf.strings.length(maker.taken(maker.position(place).row)))

    dataset = tf.data.Dataset.range(tf.int64.max).map(read, tf.data.AUTOTUNE)
    dataset = dataset.batch(batch).prefetch(tf.data.AUTOTUNE)
  # How far ahead a pipeline has read is noise in the bytes of a round.
  taken = [0]

  def batches() -> Iterator[int]:
    for _ in dataset:
      drop()
      taken[0] += batch
      yield batch

  timed = input.round_of(batches, seconds)

  def run() -> dict[str, float]:
    before, taken[0] = counted(), 0
    figures = dict(timed())
    del figures['memory']
    return figures | {'megabytes': (counted() - before) / 1e6 / taken[0]}

  return run


def benchmark(options: harness.Options) -> harness.Benchmark:
  """Whole records against their frames, off three kinds of storage."""
  sizes = input.settings(options)
  made = data.make(options.data_dir, sizes['videos'])
  data.indexed(made.manifest)
  arguments: dict[str, Any] = {
    'manifest': made.manifest,
    'shape': sizes['shape'],
    'batch': sizes['batch'],
    'seconds': sizes['seconds'],
  }

  def contender(storage: str, way: str, decodes: bool = True) -> harness.Contender:
    kind = storage if decodes else 'reading alone, warm'
    called = {'never': 'whole records', 'always': 'frames', 'auto': 'auto'}
    return harness.in_worker(
      f'{called[way]}, {kind}',
      'benchmarks.reading:pairs',
      options,
      rival=f'{called["never"]}, {kind}',
      storage=storage,
      frame_index=way,
      decodes=decodes,
      **arguments,
    )

  storages = ['warm', 'cold'] + ([] if slow_files.available() else ['slow'])
  videos = sizes['videos']
  return harness.Benchmark(
    name='reading',
    title='Reading what is used',
    about=ABOUT.format(
      shape='x'.join(map(str, sizes['shape'])),
      batch=sizes['batch'],
      videos=videos,
      kilobytes=made.frame_bytes / 1000,
      megabytes=made.frame_bytes * videos.frames / 1e6,
      cores=options.cores,
      bandwidth=BANDWIDTH / 1e6,
      latency=1000 * LATENCY,
    ),
    metrics=(
      harness.Metric('rate', 'pairs/s', higher_is_better=True),
      harness.Metric('megabytes', 'MB a pair'),
      harness.Metric('cpu', 'CPU ms a pair'),
    ),
    contenders=(
      *(contender(storage, way) for storage in storages for way in ('never', 'always')),
      contender('warm', 'auto'),
      *(contender('warm', way, decodes=False) for way in ('never', 'always')),
    ),
    rival='whole records, warm',
    targets=(
      harness.Target('frames, warm', 'megabytes', 0.45),
      harness.Target('frames, warm', 'rate', 1.0),
      harness.Target('auto, warm', 'rate', 1.0),
      harness.Target('frames, cold', 'rate', 1.0),
      *(
        [harness.Target('frames, slow', 'megabytes', 0.45)] if 'slow' in storages else []
      ),
    ),
  )


if __name__ == '__main__':
  harness.main(benchmark)

"""How fast samples are made: two augmented clips of a video, on the same cores.

python -m benchmarks.input
"""

import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import data, harness, model_garden

ABOUT = """Pairs of two augmented clips of a video, {shape}, stride 2, batches of {batch},
as CVRL trains on: interval sampling, random crop and resize, flip, colour jitter,
greyscale, blur, solarization. Data: {videos}, JPEG quality {quality}, {kilobytes:.0f} KB a
frame, with the index of frames that `convert` writes beside them. {cores} cores each; CPU
time is that of all threads and processes of a contender.

- **ours, all on the host**: `reader.build_dataset`, float32 views out (`augment_on: host`).
- **ours, host part**: the same with `augment_on: device`: decoded, cropped, resized and
  flipped uint8 views; the colour operations are left to the accelerator.
- **{small}**: the same of {side}x{side} pixels; where a crop is at least
  twice as large each way, frames are decoded at half their size (`scaled_decoding`).
- **decode only**: the same records and frames through `tf.io.decode_jpeg` in a tf.data
  map, nothing else: the floor.
- **Model Garden**: the input of its `video_ssl_pretrain_kinetics400` task, as shipped, on
  the same record files.
- **OpenCV, float32**: `cv2.imdecode`, crop, resize, flip, then the same colour operations
  in floating point as ours and the Model Garden's do them; from JPEG files; a thread a
  core, OpenCV's own threads off.
- **OpenCV, uint8**: the same with 8-bit colour operations by lookup table, as
  Albumentations does them: faster, and rounded after each operation.
- **OpenCV, DataLoader**: the float32 loader in a PyTorch `DataLoader`, a worker process
  a core, with its collation and its hand-over in shared memory.
- **PIL**: decode, crop-resize and flip in Pillow, the colour operations as torchvision's
  transforms apply them to images; a thread a core."""


HOST, ALL, DECODE = 'ours, host part', 'ours, all on the host', 'decode only'
OPENCV = ('float32', 'uint8', 'DataLoader')
SIDE = 112
SMALL = f'ours, host part, {SIDE} pixels'


def settings(options: harness.Options) -> dict[str, Any]:
  """Sizes: of the paper, or the smallest."""
  if options.quick:
    videos = data.Videos(8, 80)
    return {'videos': videos, 'shape': (8, 112, 112, 3), 'batch': 4, 'seconds': 1.0}
  return {'videos': data.Videos(), 'shape': (16, 224, 224, 3), 'batch': 8, 'seconds': 6.0}


def take(stream: Iterator[int], duration: float) -> int:
  """Consumes a stream for some seconds; returns the pairs taken."""
  taken, end = 0, time.perf_counter() + duration
  while time.perf_counter() < end:
    taken += next(stream)
  return taken


def round_of(start: Callable[[], Iterator[int]], seconds: float) -> harness.Run:
  """A round: a fresh stream, some of it dropped, then some seconds of it timed.

  Args:
    start: begins a stream that yields the number of pairs in each batch.
    seconds: to time; half as long is dropped first, so that buffers and parallelism are
      at their steady state.
  """

  def run() -> dict[str, float]:
    stream = start()
    next(stream)
    take(stream, seconds / 2)
    with harness.measured() as span:
      taken = take(stream, seconds)
    del stream
    return {
      'rate': taken / span.wall,
      'cpu': 1000 * span.cpu / taken,
      'memory': harness.peak_memory(),
    }

  return run


def pairs_of(manifest: str, shape: Sequence[int], batch: int, **fields: Any) -> Any:
  """The data config of pairs of two views [T, H, W, 3] of a video."""
  from official.video.configs import data as data_config

  return data_config.DataConfig(
    input_path=manifest,
    global_batch_size=batch,
    feature_shape=(shape[0], shape[1], shape[2], shape[3]),
    temporal_stride=2,
    num_views=2,
    **fields,
  )


def ours(
  manifest: str,
  shape: list[int],
  batch: int,
  seconds: float,
  augment_on: str,
  threads: int | None = None,
) -> harness.Run:
  """Our reader."""
  from official.video.data import index, reader

  config = pairs_of(manifest, shape, batch, augment_on=augment_on, num_threads=threads)
  dataset = reader.build_dataset(config, index.load_index(config))
  return round_of(lambda: (len(b['label']) for b in dataset), seconds)


def decode_only(
  manifest: str, shape: list[int], batch: int, seconds: float
) -> harness.Run:
  """Reads and decodes as many frames as a pair takes."""
  import tensorflow as tf

  from official.video.configs import data as data_config
  from official.video.data import index, parsing

  table = index.load_index(data_config.DataConfig(input_path=manifest))
  files = tf.constant(list(table.files))
  columns = [tf.constant(c) for c in (table.file_id, table.offset, table.size)]

  def decode(row: tf.Tensor) -> tf.Tensor:
    file, offset, size = (column[row] for column in columns)
    record = parsing.read_record(files[file], offset, size)
    frames = parsing.parse_record(record)['frames']
    return tf.map_fn(
      lambda frame: tf.io.decode_jpeg(frame, channels=3, dct_method='INTEGER_FAST'),
      frames[: 2 * shape[0]],
      fn_output_signature=tf.uint8,
      parallel_iterations=16,
    )

  dataset = tf.data.Dataset.range(len(table)).repeat()
  dataset = dataset.map(decode, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
  return round_of(lambda: (1 for _ in dataset), seconds)


def theirs(records: str, shape: list[int], batch: int, seconds: float) -> harness.Run:
  """The Model Garden's input."""
  overrides = model_garden.data_overrides(records, batch, tuple(shape), 2)
  params = model_garden.experiment(
    model_garden.PRETRAIN, {'task': {'train_data': overrides}}
  )
  dataset = model_garden.task(params).build_inputs(params.task.train_data)
  # Its batches hold the first clips of all samples, then the second.
  return round_of(lambda: (len(f['image']) // 2 for f, _ in dataset), seconds)


def in_threads(
  loader: str, frames: str, shape: list[int], seconds: float, threads: int
) -> harness.Run:
  """A loader of `benchmarks.loaders` in a pool of threads."""
  from concurrent import futures

  from benchmarks import loaders

  load = loaders.LOADERS[loader](pathlib.Path(frames), tuple(shape))

  def start() -> Iterator[int]:
    with futures.ThreadPoolExecutor(threads) as pool:
      number = 0
      waiting = [pool.submit(load, number := number + 1) for _ in range(2 * threads)]
      try:
        while True:
          waiting.pop(0).result()
          waiting.append(pool.submit(load, number := number + 1))
          yield 1
      finally:
        for future in waiting:
          future.cancel()

  return round_of(start, seconds)


def in_dataloader(
  frames: str, shape: list[int], batch: int, seconds: float, workers: int
) -> harness.Run:
  """The float32 OpenCV loader in a PyTorch DataLoader."""
  from torch.utils import data as torch_data

  from benchmarks import loaders

  # A list-like object is all that a DataLoader needs.
  dataset: Any = loaders.Samples(pathlib.Path(frames), tuple(shape))
  loader: Any = torch_data.DataLoader(
    dataset, batch, num_workers=workers, worker_init_fn=loaders.one_thread
  )

  def run() -> dict[str, float]:
    # The workers' ids, whose CPU time counts, are on no public attribute.
    stream: Any = iter(loader)
    children = [worker.pid for worker in stream._workers]
    counts = map(len, stream)
    take(counts, seconds / 2)
    before = loaders.cpu_seconds(children)
    with harness.measured() as span:
      taken = take(counts, seconds)
    cpu = span.cpu + loaders.cpu_seconds(children) - before
    del stream, counts
    return {'rate': taken / span.wall, 'cpu': 1000 * cpu / taken}

  return run


def contenders(
  options: harness.Options, made: data.Made, sizes: Mapping[str, Any]
) -> tuple[harness.Contender, ...]:
  """Ours, the Model Garden's and the loaders that users write, on the same videos."""
  common = {'shape': list(sizes['shape']), 'seconds': sizes['seconds']}
  tf = common | {'batch': sizes['batch']}

  def worker(name: str, function: str, **arguments) -> harness.Contender:
    return harness.in_worker(name, f'benchmarks.input:{function}', options, **arguments)

  def mine(name: str, place: str, **more) -> harness.Contender:
    given = tf | {'manifest': made.manifest, 'augment_on': place} | more
    return worker(name, 'ours', **given)

  def in_pool(name: str, loader: str, module: str) -> harness.Contender:
    pool = {'loader': loader, 'frames': made.frames, 'threads': options.cores}
    return worker(name, 'in_threads', requires=(module,), **pool, **common)

  return (
    mine(ALL, 'host'),
    mine(HOST, 'device'),
    mine(SMALL, 'device', shape=[sizes['shape'][0], SIDE, SIDE, 3]),
    worker(DECODE, 'decode_only', manifest=made.manifest, **tf),
    worker('Model Garden', 'theirs', records=made.records, **tf),
    in_pool('OpenCV, float32', 'opencv_float', 'cv2'),
    in_pool('OpenCV, uint8', 'opencv_uint8', 'cv2'),
    worker(
      'OpenCV, DataLoader',
      'in_dataloader',
      requires=('cv2', 'torch'),
      frames=made.frames,
      workers=options.cores,
      **tf,
    ),
    in_pool('PIL', 'pil', 'PIL'),
  )


def benchmark(options: harness.Options) -> harness.Benchmark:
  """Ours against the Model Garden's and what a PyTorch user would write."""
  sizes = settings(options)
  made = data.make(options.data_dir, sizes['videos'])
  data.indexed(made.manifest)
  return harness.Benchmark(
    name='input',
    title='Input',
    about=ABOUT.format(
      shape='x'.join(map(str, sizes['shape'])),
      batch=sizes['batch'],
      videos=sizes['videos'],
      quality=data.QUALITY,
      kilobytes=made.frame_bytes / 1000,
      cores=options.cores,
      small=SMALL,
      side=SIDE,
    ),
    metrics=(
      harness.Metric('rate', 'pairs/s', higher_is_better=True),
      harness.Metric('cpu', 'CPU ms a pair'),
    ),
    contenders=contenders(options, made, sizes),
    rival='Model Garden',
    targets=(
      harness.Target(HOST, 'rate', 0.75, DECODE),
      harness.Target(SMALL, 'rate', 1.3, DECODE),
      harness.Target(ALL, 'rate', 2.6),
      *(harness.Target(ALL, 'rate', 1.3, f'OpenCV, {kind}') for kind in OPENCV),
    ),
  )


if __name__ == '__main__':
  harness.main(benchmark)

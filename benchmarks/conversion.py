"""How fast videos become JPEG frames, and whether memory stays flat over many of them.

python -m benchmarks.conversion
"""

import contextlib
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks import harness

FRAMES = 250
SIZE = (1280, 720)
SHORT_SIDE = 256
QUALITY = 95
# Megabits a second of the sources, and the grain in them that needs as many.
RATES = {'2.6 Mbit/s': (2.6, 3.0), '20 Mbit/s': (20.0, 9.0)}

ABOUT = """Videos of {seconds:g} s of 1280x720 H.264 at 25 frames a second, in two bit rates,
to JPEG frames of short side 256, quality 95. Per core: frames a second of processor time,
of all processes of a contender; in all: of the clock.

- **ours**: `python -m tfrecords_tools.convert` with one or two worker processes on as many
  cores, start-up included, {clips} videos.
- **ffmpeg**: its own command line, a process a video, one thread, `scale=-1:256`, mjpeg
  with `-q:v 1`, whose files are of the size of ours: KB a frame.
- **PyAV, OpenCV**: the plain loop, one process: decode, convert to BGR, resize, encode.

Memory: resident memory of a process that wrote shards of videos of {short} frames."""


# --- Sources --------------------------------------------------------------------------


def _panned(number: int, grain: float, canvas: Any) -> Any:
  """A frame: a window that moves over a canvas, under film grain."""
  import numpy as np

  x, y = 3 * number % (canvas.shape[1] - SIZE[0]), number % (canvas.shape[0] - SIZE[1])
  window = canvas[y : y + SIZE[1], x : x + SIZE[0]]
  draw = np.random.default_rng(number)
  noise = draw.standard_normal((SIZE[1], SIZE[0], 1), np.float32) * grain
  return np.clip(window + noise, 0, 255).astype(np.uint8)


def _canvas() -> Any:
  """A large soft picture, `[900, 1800, 3] float32`."""
  import av
  import numpy as np

  draw = np.random.default_rng(0)
  small = draw.integers(0, 256, (45, 90, 3), np.uint8)
  frame = av.VideoFrame.from_ndarray(small, 'rgb24')
  large = frame.reformat(width=1800, height=900, interpolation='BICUBIC')
  return large.to_ndarray(format='rgb24').astype(np.float32)


def write_source(path: pathlib.Path, megabits: float, grain: float, frames: int) -> None:
  """Encodes a video at a bit rate; the file appears when it is complete."""
  import av

  canvas = _canvas()
  temporary = path.with_suffix('.tmp')
  bits = round(megabits * 1e6)
  with av.open(str(temporary), 'w', format='mp4') as file:
    options = {'preset': 'fast', 'maxrate': str(bits), 'bufsize': str(2 * bits)}
    stream = file.add_stream('libx264', rate=25, options=options)
    stream.width, stream.height = SIZE
    stream.pix_fmt, stream.bit_rate = 'yuv420p', bits
    for number in range(frames):
      image = av.VideoFrame.from_ndarray(_panned(number, grain, canvas), 'rgb24')
      file.mux(stream.encode(image))
    file.mux(stream.encode())
  temporary.rename(path)


def source_folder(options: harness.Options, rate: str, clips: int, frames: int) -> str:
  """A folder of `clips` videos that are links to one."""
  name = f'{rate.split()[0]}_{frames}'
  root = options.data_dir / 'conversion'
  source = root / f'{name}.mp4'
  folder = root / f'{name}_x{clips}'
  folder.mkdir(parents=True, exist_ok=True)
  if not source.exists():
    write_source(source, *RATES[rate], frames)
  for number in range(clips):
    link = folder / f'v{number:04d}.mp4'
    if not link.exists():
      os.link(source, link)
  return str(folder)


# --- Contenders -----------------------------------------------------------------------


@contextlib.contextmanager
def _output() -> Iterator[str]:
  with tempfile.TemporaryDirectory(prefix='conversion_') as folder:
    yield folder


def _figures(done: harness.Finished, frames: int, size: int) -> dict[str, float]:
  return {
    'core': frames / done.cpu,
    'rate': frames / done.wall,
    'size': size / frames / 1000,
  }


def _bytes_in(folder: str) -> int:
  return sum(path.stat().st_size for path in pathlib.Path(folder).rglob('*'))


def ours(folder: str, clips: int, frames: int, workers: int) -> harness.Run:
  """The converter, as its user runs it."""

  def run() -> dict[str, float]:
    with _output() as output:
      command = [sys.executable, '-m', 'tfrecords_tools.convert', '--source=folder']
      command += [f'--path={folder}', f'--output_dir={output}', f'--quality={QUALITY}']
      command += [f'--num_shards={4 * workers}', f'--num_workers={workers}']
      done = harness.run_command(command, cores=workers)
      return _figures(done, clips * frames, _bytes_in(output))

  return run


_FFMPEG = """for video in "$1"/*.mp4; do
  mkdir -p "$2/${video##*/}"
  ffmpeg -nostdin -loglevel error -threads 1 -filter_threads 1 -i "$video" \
    -vf scale=-1:256 -threads 1 -qmin 1 -q:v 1 "$2/${video##*/}/%05d.jpg" || exit 1
done"""


def ffmpeg(folder: str, clips: int, frames: int) -> harness.Run:
  """FFmpeg's own command line."""

  def run() -> dict[str, float]:
    with _output() as output:
      command = ['sh', '-c', _FFMPEG, 'sh', folder, output]
      done = harness.run_command(command, cores=1)
      return _figures(done, clips * frames, _bytes_in(output))

  return run


def plain_loop(folder: str) -> harness.Run:
  """What one writes first, with OpenCV."""
  import av
  import cv2

  cv2.setNumThreads(1)
  quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
  width = SHORT_SIDE * SIZE[0] // SIZE[1]

  def jpegs(path: pathlib.Path) -> Iterator[int]:
    with av.open(str(path)) as video:
      video.streams.video[0].thread_count = 1
      for frame in video.decode(video=0):
        image = frame.to_ndarray(format='bgr24')
        small = cv2.resize(image, (width, SHORT_SIDE), interpolation=cv2.INTER_AREA)
        yield len(cv2.imencode('.jpg', small, quality)[1])

  def run() -> dict[str, float]:
    paths = sorted(pathlib.Path(folder).glob('*.mp4'))
    with harness.measured() as span:
      sizes = [size for path in paths for size in jpegs(path)]
    return {
      'core': len(sizes) / span.cpu,
      'rate': len(sizes) / span.wall,
      'size': sum(sizes) / len(sizes) / 1000,
    }

  return run


def _resident_memory() -> float:
  """Resident memory of this process now, in MB."""
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  return pages * os.sysconf('SC_PAGE_SIZE') / 1024**2


def memory(folder: str, clips: int) -> harness.Run:
  """Resident memory after so many clips in one process, in shards of 50."""
  from tfrecords_tools.datasets.source import SourceClip
  from tfrecords_tools.frames import FrameOptions
  from tfrecords_tools.plan import ShardTask
  from tfrecords_tools.shards import write_shard

  paths = sorted(map(str, pathlib.Path(folder).glob('*.mp4')))[:clips]
  sources = [SourceClip(path, path, 'train', path) for path in paths]
  shards = [sources[first : first + 50] for first in range(0, clips, 50)]

  def run() -> dict[str, float]:
    with _output() as output:
      for number, part in enumerate(shards):
        options = FrameOptions(short_side=SHORT_SIDE)
        task = ShardTask(output, 'train', number, len(shards), part, {}, options)
        write_shard(task)
      return {'memory': _resident_memory()}

  return run


def contenders_of(
  rate: str, options: harness.Options, clips: int, few: int, frames: int
) -> list[harness.Contender]:
  """Everybody on sources of one bit rate."""
  many = source_folder(options, rate, clips, frames)
  some = source_folder(options, rate, few, frames)
  rival = f'ffmpeg, {rate}'
  command = () if shutil.which('ffmpeg') else ('ffmpeg',)

  def contender(name: str, run: harness.Run, requires: tuple[str, ...] = ()) -> Any:
    return harness.Contender(f'{name}, {rate}', run, requires, warm_up=0, rival=rival)

  return [
    contender('ours, 1 worker', ours(many, clips, frames, 1)),
    contender('ours, 2 workers', ours(many, clips, frames, 2)),
    contender('ffmpeg', ffmpeg(some, few, frames), command),
    harness.in_worker(
      f'PyAV, OpenCV, {rate}',
      'benchmarks.conversion:plain_loop',
      options,
      requires=('cv2',),
      warm_up=0,
      rival=rival,
      cores=1,
      folder=some,
    ),
  ]


def benchmark(options: harness.Options) -> harness.Benchmark:
  """The benchmark, for the command line and for `python -m benchmarks`."""
  frames = 25 if options.quick else FRAMES
  # So many that the start of the processes weighs little beside them.
  clips = dict(zip(RATES, (2, 2) if options.quick else (72, 24), strict=True))
  few = 2 if options.quick else 6
  short = 10
  counts = (5, 10) if options.quick else (50, 500)
  contenders = [
    contender
    for rate in RATES
    for contender in contenders_of(rate, options, clips[rate], few, frames)
  ]
  folder = source_folder(options, next(iter(RATES)), counts[1], short)
  contenders += [
    harness.in_worker(
      f'ours, after {count} videos',
      'benchmarks.conversion:memory',
      options,
      warm_up=0,
      rival=f'ours, after {counts[0]} videos',
      cores=1,
      folder=folder,
      clips=count,
    )
    for count in counts
  ]
  targets = [
    target
    for rate in RATES
    for target in (
      harness.Target(f'ours, 1 worker, {rate}', 'core', 1.0),
      harness.Target(
        f'ours, 2 workers, {rate}', 'rate', 1.8, rival=f'ours, 1 worker, {rate}'
      ),
    )
  ]
  targets.append(harness.Target(f'ours, after {counts[1]} videos', 'memory', 1.05))
  numbers = ' and '.join(f'{count} of {rate}' for rate, count in clips.items())
  return harness.Benchmark(
    name='conversion',
    title='Conversion',
    about=ABOUT.format(seconds=frames / 25, clips=numbers, short=short),
    metrics=(
      harness.Metric('core', 'frames/s per core', higher_is_better=True),
      harness.Metric('rate', 'frames/s in all', higher_is_better=True),
      harness.Metric('size', 'KB a frame'),
      harness.Metric('memory', 'resident MB'),
    ),
    contenders=tuple(contenders),
    rival=f'ffmpeg, {next(iter(RATES))}',
    # A quick run would compare start-up times.
    targets=() if options.quick else tuple(targets),
  )


if __name__ == '__main__':
  harness.main(benchmark)

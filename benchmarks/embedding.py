"""How fast files become features, and whether memory stays flat over many of them.

python -m benchmarks.embedding
"""

import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import harness

MODEL = 'zoo:actions_tiny_synthetic'
RENDERED = 200

ABOUT = """{files} short videos (2 to 3 s of H.264, {size} KB each), to the features of the
classifier that ships, three clips of 8x48x48 a video; {few} of them for the second row.
Files a second of the clock, and the largest resident memory of the process.

- **ours**: `python -m official.video.embed --output=features.parquet`, start-up included:
  decoding in a process a core, frames as JPEG and back as training's were, batches over
  files, a journal.
- **PyAV loop**: what one writes first: decode by PyAV, pick frames, resize and crop by
  OpenCV, the same net on the three clips of a file; start-up left out.
- **one file after the other**: as the extractors of `video_features` go: the whole video
  read by OpenCV, resized as a float tensor, cut to clips, the same net clip by clip, one
  .npy a file; start-up left out."""


def sources(options: harness.Options, count: int) -> pathlib.Path:
  """A folder of so many videos; beyond `RENDERED` they are links to the first."""
  root = options.data_dir / 'embedding'
  rendered = root / 'rendered'
  if not rendered.exists():
    command = [sys.executable, '-m', 'tfrecords_tools.synthesize']
    command += [f'--output_dir={rendered}', f'--splits=test={RENDERED}']
    subprocess.run(command, check=True, capture_output=True, cwd=harness.REPOSITORY)
  folder = root / f'x{count}'
  folder.mkdir(exist_ok=True)
  originals = itertools.cycle(sorted(rendered.rglob('*.mp4')))
  for number, original in zip(range(count), originals, strict=False):
    link = folder / f'v{number:05d}.mp4'
    if not link.exists():
      os.link(original, link)
  return folder


def ours(folder: str, cores: int, count: int) -> harness.Run:
  """The command, as its user runs it."""

  def run() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix='embedding_') as output:
      command = [sys.executable, '-m', 'official.video.embed', f'--model={MODEL}']
      command += [f'--output={output}/features.parquet', f'--num_workers={cores}']
      done = harness.run_command([*command, folder], cores=cores)
      return {'rate': count / done.wall, 'memory': done.peak_memory}

  return run


def _loop(folder: str, features_of: Callable[[str, Any, Any], Any]) -> harness.Run:
  """A loop over files in one process that has its net."""
  import official.video

  model = official.video.load(MODEL)
  paths = sorted(map(str, pathlib.Path(folder).glob('*.mp4')))

  def run() -> dict[str, float]:
    with harness.measured() as span:
      for path in paths:
        features_of(path, model._encoder, model.config)
    return {'rate': len(paths) / span.wall, 'memory': harness.peak_memory()}

  return run


def _starts(frames: int, config: Any) -> Iterator[list[int]]:
  """Frames of each of the test clips, spread over a video."""
  steps, stride, clips = (
    config.feature_shape[0],
    config.temporal_stride,
    config.num_test_clips,
  )
  last = max(0, frames - (steps - 1) * stride - 1)
  for number in range(clips):
    first = round(last * number / max(1, clips - 1))
    yield [(first + stride * step) % frames for step in range(steps)]


def plain_loop(folder: str) -> harness.Run:
  """PyAV, OpenCV, the net on all clips of a file."""
  import av
  import cv2
  import numpy as np

  def cropped(image: Any, side: int) -> Any:
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    small = cv2.resize(image, size)
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    return small[top : top + side, left : left + side]

  def features_of(path: str, encoder: Any, config: Any) -> Any:
    with av.open(path) as video:
      frames = [frame.to_ndarray(format='rgb24') for frame in video.decode(video=0)]
    side = config.feature_shape[1]
    clips = [
      [cropped(frames[i], side) for i in row] for row in _starts(len(frames), config)
    ]
    return encoder(np.array(clips, np.uint8))['feature'].mean(0)

  return _loop(folder, features_of)


def one_by_one(folder: str) -> harness.Run:
  """A whole video as a float tensor, clip by clip, a file of features each."""
  import cv2
  import numpy as np
  import tensorflow as tf

  output = tempfile.mkdtemp(prefix='embedding_')

  def features_of(path: str, encoder: Any, config: Any) -> Any:
    video, frames = cv2.VideoCapture(path), []
    while True:
      there, image = video.read()
      if not there:
        break
      frames.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    video.release()
    side = config.feature_shape[1]
    clip = tf.constant(np.stack(frames), tf.float32) / 255
    height, width = clip.shape[1:3]
    scale = side / min(height, width)
    size = (max(side, round(height * scale)), max(side, round(width * scale)))
    clip = tf.image.resize_with_crop_or_pad(tf.image.resize(clip, size), side, side)
    rows = [
      encoder(tf.gather(clip, row)[None])['feature']
      for row in _starts(len(frames), config)
    ]
    target = os.path.join(output, os.path.basename(path) + '.npy')
    np.save(target, np.concatenate(rows))

  return _loop(folder, features_of)


def benchmark(options: harness.Options) -> harness.Benchmark:
  """The benchmark, for the command line and for `python -m benchmarks`."""
  count, few = (40, 20) if options.quick else (2000, 500)
  folder, some = (sources(options, n) for n in (count, few))
  sizes = [path.stat().st_size for path in folder.iterdir()]
  cores = options.cores
  rivals = {'PyAV loop': 'plain_loop', 'one file after the other': 'one_by_one'}
  contenders = [
    harness.Contender('ours', ours(str(folder), cores, count), warm_up=0),
    harness.Contender(
      f'ours, {few} files', ours(str(some), cores, few), warm_up=0, rival='ours'
    ),
  ]
  contenders += [
    harness.in_worker(
      name,
      f'benchmarks.embedding:{function}',
      options,
      requires=('av', 'cv2'),
      warm_up=0,
      folder=str(folder),
    )
    for name, function in rivals.items()
  ]
  targets = (
    harness.Target('ours', 'rate', 1.0),
    harness.Target('ours', 'memory', 1.1, rival=f'ours, {few} files'),
  )
  return harness.Benchmark(
    name='embedding',
    title='Files to features',
    about=ABOUT.format(files=count, few=few, size=round(sum(sizes) / len(sizes) / 1e3)),
    metrics=(
      harness.Metric('rate', 'files/s', higher_is_better=True),
      harness.Metric('memory', 'peak MB'),
    ),
    contenders=tuple(contenders),
    rival='PyAV loop',
    # A quick run would compare start-up times.
    targets=() if options.quick else targets,
  )


if __name__ == '__main__':
  harness.main(benchmark)

"""The data that benchmarks read: textured videos, as records and as JPEG files.

The records are those of the library's contract, which the Model Garden reads too. The
folders of JPEG files hold the same frames, for loaders that know no records.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator

import numpy as np

from official.video.data import records

QUALITY = 87
NUM_CLASSES = 4
SHARDS = 4


@dataclasses.dataclass(frozen=True)
class Videos:
  """What is rendered.

  Attributes:
    count: number of videos.
    frames: of each.
    height: in pixels.
    width: in pixels.
  """

  count: int = 32
  frames: int = 250
  height: int = 256
  width: int = 340

  def __str__(self) -> str:
    return f'{self.count} videos of {self.frames} frames of {self.width}x{self.height}'


@dataclasses.dataclass(frozen=True)
class Made:
  """Where the data is.

  Attributes:
    manifest: of the records.
    records: pattern of the record files.
    frames: folder of folders of JPEG files.
    frame_bytes: mean size of a JPEG frame.
  """

  manifest: str
  records: str
  frames: str
  frame_bytes: float


def texture(seed: int, height: int, width: int) -> np.ndarray:
  """[H, W, 3] uint8 with the falling spectrum of natural images.

  Detail at every scale is what makes a frame cost what a real one does; its amount gives
  19 KB a frame of 340x256 at quality 87.
  """
  rng = np.random.default_rng(seed)
  frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
  frequency[0, 0] = np.inf
  planes = []
  for gain, power in ((1.0, 1.5), (0.35, 1.8), (0.35, 1.8)):
    noise = np.fft.rfft2(rng.normal(size=(height, width))) / frequency**power
    plane = np.fft.irfft2(noise, (height, width))
    planes.append(gain * plane / plane.std())
  light, blue, red = planes
  pixels = np.stack([light + red, light - 0.5 * (blue + red), light + blue], -1)
  return np.clip(126 + 52 * pixels, 0, 255).astype(np.uint8)


def frames_of(videos: Videos, number: int) -> Iterator[np.ndarray]:
  """The [H, W, 3] uint8 frames of a video: a window that drifts over a texture."""
  slack = 96
  image = texture(number, videos.height + slack, videos.width + slack)
  phase = number * 0.7
  for frame in range(videos.frames):
    turn = 2 * np.pi * frame / 120 + phase
    top = round(slack / 2 * (1 + np.sin(turn)))
    left = round(slack / 2 * (1 + np.cos(0.7 * turn)))
    yield np.ascontiguousarray(
      image[top : top + videos.height, left : left + videos.width]
    )


def clip(videos: Videos, number: int) -> dict:
  """The record contract's values of a video."""
  import simplejpeg

  jpegs = [
    simplejpeg.encode_jpeg(frame, QUALITY, colorsubsampling='420')
    for frame in frames_of(videos, number)
  ]
  stamps = [40_000 * frame for frame in range(videos.frames)]
  return {
    records.IMAGE_ENCODED: jpegs,
    records.IMAGE_TIMESTAMP: stamps,
    records.IMAGE_FORMAT: 'JPEG',
    records.IMAGE_HEIGHT: videos.height,
    records.IMAGE_WIDTH: videos.width,
    records.IMAGE_FRAME_RATE: 25.0,
    records.LABEL_INDEX: number % NUM_CLASSES,
    records.MEDIA_ID: f'video_{number:05d}',
    records.DATA_PATH: f'video_{number:05d}.mp4',
    records.START_TIMESTAMP: 0,
    records.END_TIMESTAMP: stamps[-1],
  }


def _write_shard(
  path: pathlib.Path, frames: pathlib.Path, videos: Videos, numbers: list[int]
) -> records.Shard:
  sizes = []
  with path.open('wb') as file:
    for number in numbers:
      values = clip(videos, number)
      sizes.append(records.write_record(file, records.encode_record(values)))
      folder = frames / values[records.MEDIA_ID]
      folder.mkdir(parents=True, exist_ok=True)
      for index, jpeg in enumerate(values[records.IMAGE_ENCODED]):
        (folder / f'{index:05d}.jpg').write_bytes(jpeg)
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  return records.Shard(path.name, digest, sizes, [n % NUM_CLASSES for n in numbers])


def make(data_dir: pathlib.Path, videos: Videos) -> Made:
  """Renders the videos into a folder of `data_dir`, unless they are there.

  Args:
    data_dir: folder that keeps the data of all benchmarks.
    videos: what to render.
  """
  name = f'{videos.count}x{videos.frames}_{videos.width}x{videos.height}'
  folder = data_dir / name
  manifest = folder / records.manifest_name('train')
  frames = folder / 'frames'
  if not manifest.exists():
    print(f'rendering {videos}', flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    shards = [
      _write_shard(
        folder / records.shard_name('train', shard, SHARDS),
        frames,
        videos,
        list(range(shard, videos.count, SHARDS)),
      )
      for shard in range(SHARDS)
    ]
    names = tuple(f'class_{label}' for label in range(NUM_CLASSES))
    # Written last: with it, everything is there.
    manifest.write_text(records.Manifest('train', names, shards).to_json())
  total = sum(s['bytes'] for s in json.loads(manifest.read_text())['shards'])
  return Made(
    str(manifest),
    str(folder / 'train-*.tfrecord'),
    str(frames),
    total / (videos.count * videos.frames),
  )


def indexed(manifest: str) -> None:
  """Makes the indices of frames of a manifest's files, unless they are there."""
  from tfrecords_tools import frame_index

  for path in sorted(pathlib.Path(manifest).parent.glob('*.tfrecord')):
    if not frame_index.is_current(str(path)):
      frame_index.make(str(path))

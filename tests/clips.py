"""Small record sets whose pixels say which record and frame they are."""

import hashlib
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import simplejpeg

from official.video.data import records


def frame_image(record: int, frame: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
  """[H, W, 3] uint8: red is 8 * record, green 4 * frame, blue a gradient to the right."""
  height, width = size
  image = np.zeros((height, width, 3), np.uint8)
  image[..., 0] = 8 * record % 256
  image[..., 1] = 4 * frame % 256
  image[..., 2] = np.linspace(0, 255, width).astype(np.uint8)
  return image


def clip(record: int, label: int, num_frames: int = 40, size=(48, 64)) -> dict:
  """The contract's values of one clip."""
  frames = [
    simplejpeg.encode_jpeg(frame_image(record, f, size), 98, colorsubsampling='444')
    for f in range(num_frames)
  ]
  stamps = [40_000 * f for f in range(num_frames)]
  return {
    records.IMAGE_ENCODED: frames,
    records.IMAGE_TIMESTAMP: stamps,
    records.IMAGE_FORMAT: 'JPEG',
    records.IMAGE_HEIGHT: size[0],
    records.IMAGE_WIDTH: size[1],
    records.IMAGE_FRAME_RATE: 25.0,
    records.LABEL_INDEX: label,
    records.MEDIA_ID: f'clip_{record}',
    records.DATA_PATH: f'clip_{record}.mp4',
    records.START_TIMESTAMP: 0,
    records.END_TIMESTAMP: stamps[-1],
  }


def write_split(
  folder: pathlib.Path,
  split: str,
  labels: list[int],
  num_shards: int = 2,
  num_frames: int = 40,
  size: tuple[int, int] = (48, 64),
  label_names: tuple[str, ...] = ('a', 'b', 'c'),
  truncate_frames_of: int | None = None,
  fields: Callable[[int], dict] = lambda row: {},
) -> pathlib.Path:
  """Writes record `i` with `labels[i]`, in order over the shards; returns the manifest.

  Each record also has the contract's values that `fields` gives for its number.
  The frames of record `truncate_frames_of` are cut in half; its checksums are right.
  """

  def encoded(row: int) -> bytes:
    values = clip(row, labels[row], num_frames, size) | fields(row)
    if row == truncate_frames_of:
      frames = values[records.IMAGE_ENCODED]
      values[records.IMAGE_ENCODED] = [frame[: len(frame) // 2] for frame in frames]
    return records.encode_record(values)

  folder.mkdir(parents=True, exist_ok=True)
  shards = []
  for shard, rows in enumerate(np.array_split(np.arange(len(labels)), num_shards)):
    path = folder / records.shard_name(split, shard, num_shards)
    with path.open('wb') as file:
      sizes = [records.write_record(file, encoded(int(row))) for row in rows]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    shards.append(records.Shard(path.name, digest, sizes, [labels[row] for row in rows]))
  manifest = folder / records.manifest_name(split)
  manifest.write_text(records.Manifest(split, label_names, shards).to_json())
  return manifest


def write_splits(
  folder: pathlib.Path,
  train: Sequence[int] = (0, 1, 2, 0, 1, 2, 0, 1),
  test: Sequence[int] = (0, 1, 2, 0, 1, 2),
  **options,
) -> tuple[pathlib.Path, pathlib.Path]:
  """The manifests of a training and a test split; `options` are of `write_split`."""
  return (
    write_split(folder, 'train', list(train), **options),
    write_split(folder, 'test', list(test), **options),
  )


def read_split(folder: pathlib.Path, split: str) -> tuple[records.Manifest, dict]:
  """A split's manifest and, by their names, the values of its records."""
  text = (folder / records.manifest_name(split)).read_text()
  manifest = records.Manifest.from_json(text)
  clips = {}
  for shard in manifest.shards:
    with open(folder / shard.file, 'rb') as file:
      for data in records.read_records(file):
        found = records.decode_record(data)
        clips[found[records.MEDIA_ID][0].decode()] = found
  return manifest, clips

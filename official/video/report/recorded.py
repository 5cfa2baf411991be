"""The records behind features that an evaluation kept: their frames and their sources."""

import bisect
import io
import itertools
import os

import numpy as np
from google.protobuf.message import DecodeError

from official.video.data import records

# Frames around the middle of a record that are shown.
_SPAN = 24


class Recorded:
  """The records of a manifest by their numbers, read one by one without TensorFlow."""

  def __init__(self, path: str, manifest: records.Manifest):
    """Keeps where each record starts.

    Args:
      path: of the manifest.
      manifest: that was read from it.
    """
    folder = os.path.dirname(path)
    self._files = [os.path.join(folder, shard.file) for shard in manifest.shards]
    self._starts = [
      list(itertools.accumulate(shard.record_bytes, initial=0))
      for shard in manifest.shards
    ]
    self._first = list(
      itertools.accumulate((s.records for s in manifest.shards), initial=0)
    )
    self.labels = np.array([x for s in manifest.shards for x in s.labels], np.int64)
    numbers = [number for shard in manifest.shards for number in shard.sources]
    known = len(numbers) == len(self.labels)
    self.sources = np.array(numbers, np.int64) if known else None

  def _stored(self, number: int) -> list[bytes]:
    """The encoded frames of a record; none where it can't be read."""
    shard = bisect.bisect_right(self._first, number) - 1
    try:
      with open(self._files[shard], 'rb') as file:
        file.seek(self._starts[shard][number - self._first[shard]])
        record = next(records.read_records(file))
      return [step[0] for step in records.decode_record(record)[records.IMAGE_ENCODED]]
    except (OSError, records.RecordError, StopIteration, KeyError, IndexError):
      return []
    except DecodeError:
      return []

  def length(self, number: int) -> int:
    """Frames of a record; 0 where it can't be read."""
    return len(self._stored(number))

  def frames(self, number: int, count: int, side: int) -> list[np.ndarray]:
    """Frames [H, W, 3] uint8 around a record's middle; none where it can't be read.

    Args:
      number: of the record.
      count: of the frames, evenly spaced; fewer where the record has no more.
      side: pixels that a larger short side is scaled down to.
    """
    from PIL import Image

    stored = self._stored(number)
    if not stored:
      return []
    width = min(len(stored), _SPAN)
    first = (len(stored) - width) // 2
    # The middles of as many equal parts.
    picked = first + ((np.arange(count) + 0.5) * width / count).astype(int)
    made = []
    try:
      for place in np.unique(picked):
        image = Image.open(io.BytesIO(stored[place])).convert('RGB')
        scale = min(1.0, side / min(image.size))
        size = [max(1, round(scale * pixels)) for pixels in image.size]
        made.append(np.asarray(image.resize(size, Image.Resampling.LANCZOS)))
    except (OSError, ValueError):
      return []
    return made


def of_features(manifest: object, numbers: np.ndarray, labels: np.ndarray):
  """The records that features were made of, where they are at hand; else None.

  Args:
    manifest: what a run's config names as its data.
    numbers: [N] of the records.
    labels: [N] class ids, which have to be those of the records.
  """
  if not isinstance(manifest, str) or not os.path.isfile(manifest):
    return None
  try:
    with open(manifest, 'rb') as file:
      found = Recorded(manifest, records.Manifest.from_json(file.read()))
  except (OSError, ValueError):
    return None  # It only shows pictures; who trains on it checks it.
  fits = len(numbers) and numbers.min() >= 0 and numbers.max() < len(found.labels)
  return found if fits and np.array_equal(found.labels[numbers], labels) else None

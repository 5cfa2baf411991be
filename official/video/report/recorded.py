"""The records behind features that an evaluation kept: their frames and their sources."""

import bisect
import io
import itertools
import os

import numpy as np
from google.protobuf.message import DecodeError

from official.video.data import records

# What a record tells of its clip, and what a page calls it.
LENGTH = 'length'
_FACTS = {records.IMAGE_FRAME_RATE: 'frame rate'}
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
    self._last: tuple[int, dict[str, list]] = -1, {}

  def _decoded(self, number: int) -> dict[str, list]:
    """The content of a record by key; nothing where it can't be read."""
    if self._last[0] != number:
      self._last = number, self._read(number)
    return self._last[1]

  def _read(self, number: int) -> dict[str, list]:
    shard = bisect.bisect_right(self._first, number) - 1
    try:
      with open(self._files[shard], 'rb') as file:
        file.seek(self._starts[shard][number - self._first[shard]])
        return records.decode_record(next(records.read_records(file)))
    except (OSError, records.RecordError, StopIteration, DecodeError):
      return {}

  def names(self, numbers: np.ndarray) -> list[str]:
    """What records are called; by their numbers where they can't be read."""
    found = []
    for number in map(int, numbers):
      named = self._decoded(number).get(records.MEDIA_ID)
      found.append(_text(named[0]) if named else f'record {number}')
    return found

  def facts(self, number: int) -> dict[str, object]:
    """What a record tells of its clip; nothing where it can't be read."""
    told = self._decoded(number)
    if records.IMAGE_ENCODED not in told:
      return {}
    found: dict[str, object] = {LENGTH: len(told[records.IMAGE_ENCODED])}
    for key, name in _FACTS.items():
      if value := told.get(key):
        found[name] = _text(value[0]) if isinstance(value[0], bytes) else value[0]
    size = [told.get(key) for key in (records.IMAGE_WIDTH, records.IMAGE_HEIGHT)]
    if all(size):
      found['size'] = ' x '.join(str(side[0]) for side in size if side)
    for key, value in told.items():
      if key.startswith(records.EXTRA_PREFIX) and value:
        found[key.removeprefix(records.EXTRA_PREFIX)] = _text(value[0])
    return found

  def frames(self, number: int, count: int, side: int) -> list[np.ndarray]:
    """Frames [H, W, 3] uint8 around a record's middle; none where it can't be read.

    Args:
      number: of the record.
      count: of the frames, evenly spaced; fewer where the record has no more.
      side: pixels that a larger short side is scaled down to.
    """
    from PIL import Image

    stored = [
      step[0] for step in self._decoded(number).get(records.IMAGE_ENCODED, ()) if step
    ]
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


def manifest_of(path: object) -> records.Manifest | None:
  """The manifest at a path that a run names as its data; None where there is none."""
  if not isinstance(path, str) or not os.path.isfile(path):
    return None
  try:
    with open(path, 'rb') as file:
      return records.Manifest.from_json(file.read())
  except (OSError, ValueError):
    return None  # It only shows pictures; who trains on it checks it.


def _text(value: bytes) -> str:
  return value.decode('utf-8', 'replace')


def of_features(manifest: object, numbers: np.ndarray, labels: np.ndarray):
  """The records that features were made of, where they are at hand; else None.

  Args:
    manifest: what a run's config names as its data.
    numbers: [N] of the records.
    labels: [N] class ids, which have to be those of the records.
  """
  known = manifest_of(manifest)
  if known is None or not isinstance(manifest, str):
    return None
  found = Recorded(manifest, known)
  fits = len(numbers) and numbers.min() >= 0 and numbers.max() < len(found.labels)
  return found if fits and np.array_equal(found.labels[numbers], labels) else None

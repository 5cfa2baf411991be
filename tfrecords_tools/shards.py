"""Writes one shard: whole, or not at all under its name."""

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from typing import BinaryIO

from official.video.data import records
from tfrecords_tools import storage
from tfrecords_tools.clips import build_record
from tfrecords_tools.decode import SourceError
from tfrecords_tools.plan import ShardTask

RESULT_SUFFIX = '.json'
PROGRESS_SUFFIX = '.progress'


def progress_path(path: str) -> str:
  """Where the progress of the shard `path` is kept, on the machine that writes it."""
  if not storage.is_remote(path):
    return path + PROGRESS_SUFFIX
  name = hashlib.sha256(path.encode()).hexdigest()[:24]
  return os.path.join(tempfile.gettempdir(), f'tfrecords_tools_{name}{PROGRESS_SUFFIX}')


class _HashingWriter:
  """A file that hashes what is written to it."""

  def __init__(self, file: BinaryIO):
    self._file = file
    self._hash = hashlib.sha256()

  def write(self, data: bytes) -> int:
    self._hash.update(data)
    return self._file.write(data)

  def hexdigest(self) -> str:
    return self._hash.hexdigest()


@dataclasses.dataclass(frozen=True)
class ShardResult:
  """What became of a shard's clips; kept beside the shard until the manifest is written.

  Attributes:
    shard: entry of the manifest.
    skipped: clips that gave no record.
  """

  shard: records.Shard
  skipped: Sequence[records.Skipped]

  def to_json(self) -> str:
    """JSON text; equal results give equal text."""
    return json.dumps(dataclasses.asdict(self), sort_keys=True) + '\n'

  @classmethod
  def from_json(cls, text: str) -> 'ShardResult':
    """Reads `to_json`'s text.

    Raises:
      ValueError, KeyError, TypeError: it is something else.
    """
    value = json.loads(text)
    return cls(
      records.Shard(**value['shard']),
      [records.Skipped(**entry) for entry in value['skipped']],
    )


def read_result(task: ShardTask) -> ShardResult | None:
  """The result of a shard that is already written; None where it has to be."""
  try:
    result = ShardResult.from_json(storage.read_text(task.path + RESULT_SUFFIX))
    return result if storage.size(task.path) == result.shard.size else None
  except (OSError, ValueError, KeyError, TypeError):
    return None


class ShardProgress:
  """A small file that tells the parent process how far a shard is, a line an event.

  The first line is the worker's process id, then `> name` begins a clip, `+` and `-` end
  it well or not.
  """

  def __init__(self, task: ShardTask):
    self._path = progress_path(task.path)
    self._file = None
    # Only for show: a conversion goes on without it.
    with contextlib.suppress(OSError):
      self._file = open(self._path, 'w', buffering=1, encoding='utf-8')  # noqa: SIM115
    self.write(str(os.getpid()))

  def write(self, event: str) -> None:
    """Appends an event."""
    if self._file:
      with contextlib.suppress(OSError):
        self._file.write(event.replace('\n', ' ') + '\n')

  def close(self) -> None:
    """Removes the file."""
    if self._file:
      with contextlib.suppress(OSError):
        self._file.close()
        os.remove(self._path)


def _write_clips(task: ShardTask, file: BinaryIO, progress: ShardProgress) -> ShardResult:
  """Writes the records one by one, so only one clip is ever in memory."""
  writer = _HashingWriter(file)
  lengths, labels, skipped = [], [], []
  for clip in task.clips:
    progress.write(f'> {clip.name}')
    try:
      record, label = build_record(clip, task.label_ids, task.options)
    except SourceError as error:
      skipped.append(records.Skipped(clip.name, str(error)))
      progress.write('-')
      continue
    lengths.append(records.write_record(writer, record))
    labels.append(label)
    progress.write('+')
  name = os.path.basename(task.path)
  shard = records.Shard(name, writer.hexdigest(), lengths, labels)
  return ShardResult(shard, skipped)


def write_shard(task: ShardTask) -> None:
  """Writes a shard, then its result beside it.

  Equal tasks write equal bytes, so a task may run again, or twice at the same time.

  Raises:
    UserError: the output can't be written.
  """
  progress = ShardProgress(task)
  try:
    with storage.whole_file(task.path) as file:
      result = _write_clips(task, file, progress)
    with storage.whole_file(task.path + RESULT_SUFFIX) as file:
      file.write(result.to_json().encode())
  finally:
    progress.close()

"""Writes one shard: whole, or not at all under its name."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools import frame_index, storage
from tfrecords_tools.clips import build_record, media_id
from tfrecords_tools.datasets.origins import origin_of
from tfrecords_tools.datasets.source import SourceClip
from tfrecords_tools.decode import SourceError
from tfrecords_tools.plan import ShardTask
from tfrecords_tools.pool import tell_nobody
from tfrecords_tools.streaming import FrameSpool, FrameStore, NoFrames
from tfrecords_tools.summary import Summary

RESULT_SUFFIX = '.json'


@dataclasses.dataclass(frozen=True)
class Step:
  """What is told of a clip: that it was begun, then how it ended.

  Attributes:
    clip: its name.
    converted: whether it gave a record; None at its begin.
  """

  clip: str
  converted: bool | None = None


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
    shard = value['shard']
    notes = [records.Note(**entry) for entry in shard.get('notes', ())]
    return cls(
      records.Shard(**{**shard, 'notes': notes}),
      [records.Skipped(**entry) for entry in value['skipped']],
    )


def read_result(shard: str, result: str | None = None) -> ShardResult | None:
  """The result of a shard that is already written; None where it has to be.

  Args:
    shard: path of the shard.
    result: path of its result; None for the one beside it.
  """
  try:
    found = ShardResult.from_json(storage.read_text(result or shard + RESULT_SUFFIX))
    return found if storage.size(shard) == found.shard.size else None
  except (OSError, ValueError, KeyError, TypeError):
    return None


@dataclasses.dataclass(frozen=True)
class _Made:
  """A record to be written.

  Attributes:
    write: appends it to a file, framed, and its row to the index of the file's frames;
      returns the bytes written to the file.
    label: its first class id or `records.NO_LABEL`.
    frame_rate: stored frames a second, to three digits; 0 where unknown.
    notes: what is worth knowing of its source.
  """

  write: Callable[[records.Writable, records.FrameIndexWriter], int]
  label: int
  frame_rate: float
  notes: Sequence[records.Note]


def _converted(
  task: ShardTask,
  clip: SourceClip,
  store: FrameStore,
  tell: Callable[[Step], None],
  found: Summary | None = None,
) -> _Made | records.Skipped:
  """The record of a clip, as long as the store holds its frames; or why there is none."""
  tell(Step(clip.name))
  try:
    made = build_record(clip, task.label_ids, task.options, store, found)
  except SourceError as error:
    tell(Step(clip.name, converted=False))
    return records.Skipped(clip.name, str(error))
  tell(Step(clip.name, converted=True))
  return _Made(
    made.record.write,
    made.label,
    float(f'{made.frame_rate:.3g}'),
    [records.Note(clip.name, note) for note in made.notes],
  )


def _earlier_records(task: ShardTask) -> Iterator[tuple[bytes, int]]:
  """Records of the earlier shard with their numbers.

  Raises:
    UserError: it is not the one that was written.
  """
  if task.earlier is None:
    return
  with storage.open_to_read(task.path) as file:
    reader = storage.HashingReader(file, storage.size(task.path))
    if reader.hexdigest() != task.earlier.sha256:
      raise UserError(
        f'{task.path}: is damaged, its SHA-256 is not that of the shard that was written; '
        'remove it, then the same command makes it again'
      )
    file.seek(0)
    for number, record in enumerate(records.read_records(file)):
      yield record, number


def _kept(record: bytes, number: int, earlier: records.Shard, clip: SourceClip) -> _Made:
  """A record of the earlier shard, to be written again as it is."""
  return _Made(
    functools.partial(_write_whole, record),
    earlier.labels[number],
    earlier.frame_rates[number] if earlier.frame_rates else 0.0,
    [note for note in earlier.notes if note.source == clip.name],
  )


def _write_whole(
  record: bytes, file: records.Writable, index: records.FrameIndexWriter
) -> int:
  size = records.write_record(file, record)
  index.add(records.index_row(record), size, records.masked_crc(record))
  return size


def _outcomes(
  task: ShardTask, tell: Callable[[Step], None], found: Summary
) -> Iterator[_Made | records.Skipped]:
  """What becomes of each clip in turn: kept from the earlier shard, or converted now."""
  folder = None if storage.is_remote(task.output_dir) else task.output_dir
  earlier = _earlier_records(task)
  # Earlier records are in the order of the clips, so the next one tells whether a clip
  # gave one. It is the only one in memory.
  kept = next(earlier, None)
  for clip in task.clips:
    if kept and task.earlier and media_id(kept[0]) == clip.media_id:
      yield _kept(*kept, task.earlier, clip)
      kept = next(earlier, None)
    else:
      with FrameSpool(folder) as spool:
        yield _converted(task, clip, spool, tell, found)
  if kept:
    raise UserError(
      f'{task.path}: holds records in another order than this version gives them; '
      'convert anew by --overwrite'
    )


def _write_clips(
  task: ShardTask,
  file: BinaryIO,
  index: records.FrameIndexWriter,
  tell: Callable[[Step], None],
) -> ShardResult:
  """Writes the records one by one, so a few frames are all that is ever in memory."""
  writer = frame_index.HashingWriter(file)
  lengths, labels, sources, rates, skipped = [], [], [], [], []
  notes: dict[records.Note, None] = {}
  found = Summary(task.earlier.corrected if task.earlier else {})
  for clip, outcome in zip(task.clips, _outcomes(task, tell, found), strict=True):
    if isinstance(outcome, records.Skipped):
      skipped.append(outcome)
      continue
    lengths.append(outcome.write(writer, index))
    labels.append(outcome.label)
    rates.append(outcome.frame_rate)
    notes.update(dict.fromkeys(outcome.notes))
    sources.append(records.source_number(origin_of(clip)))
  if task.earlier and task.earlier.records and not task.earlier.sources:
    # Its records are of a version that did not write them.
    sources = []
  name = os.path.basename(task.path)
  shard = records.Shard(
    name,
    writer.hexdigest(),
    lengths,
    labels,
    sources,
    found.counts(),
    rates if any(rates) else [],
    list(notes),
  )
  return ShardResult(shard, skipped)


def write_shard(task: ShardTask, tell: Callable[[Step], None] = tell_nobody) -> None:
  """Writes a shard, the index of its frames, then its result beside it.

  Equal tasks write equal bytes, so a task may run again, or twice at the same time.

  Args:
    task: the shard.
    tell: is told of each clip that is converted.

  Raises:
    UserError: the output can't be written, or the earlier shard not be read.
  """
  folder = None if storage.is_remote(task.output_dir) else task.output_dir
  with records.FrameIndexWriter(folder) as index:
    with storage.whole_file(task.written_path) as file:
      result = _write_clips(task, file, index, tell)
    digest = frame_index.write_beside(task.written_path, index, result.shard.sha256)
  shard = dataclasses.replace(result.shard, frame_index=digest)
  result = dataclasses.replace(result, shard=shard)
  with storage.whole_file(task.written_path + RESULT_SUFFIX) as file:
    file.write(result.to_json().encode())


def count_convertible(task: ShardTask, tell: Callable[[Step], None] = tell_nobody) -> int:
  """Number of a task's clips that give a record now; writes nothing."""
  outcomes = (_converted(task, clip, NoFrames(), tell) for clip in task.clips)
  return sum(not isinstance(outcome, records.Skipped) for outcome in outcomes)

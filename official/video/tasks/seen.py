"""What a step is given: its first clips as the model sees them, and when they are of."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from official.video.configs import data as data_config
from official.video.data import parsing, positions, reader, records, views

TEST = 'test_views'
_MICROSECONDS = 1e6


@dataclasses.dataclass(frozen=True)
class Times:
  """When the views of a clip are of.

  Attributes:
    frames: int [V, T] of each view: numbers among the clip's frames.
    seconds: [F] of the clip's frames, from its start; their numbers where no record tells.
    known: whether the seconds are.
  """

  frames: np.ndarray
  seconds: np.ndarray
  known: bool

  @property
  def of_views(self) -> np.ndarray:
    """Of each frame of each view, [V, T]."""
    return self.seconds[self.frames]

  @property
  def length(self) -> float:
    """Of the clip: to its last frame."""
    return float(self.seconds[-1])


@dataclasses.dataclass(frozen=True)
class Clip:
  """A clip of a batch.

  Attributes:
    name: of its record.
    label: name of its first class; '' where none is known.
    views: by name, float32 [V, T, H, W, 3] from 0 to 1, or uint8: before they are
      normalized.
    boxes: by name of the views [V, N, 4], and which there are, [V, N].
    times: None where a view is not a number of frames, or no record tells.
    words: what else comes with it.
  """

  name: str
  label: str
  views: Mapping[str, np.ndarray]
  boxes: Mapping[str, tuple[np.ndarray, np.ndarray]]
  times: Times | None
  words: Mapping[str, str]


def first_batch(
  task: Any, config: data_config.DataConfig, count: int, step: int = 0
) -> dict[str, tf.Tensor]:
  """The first clips of the batch that a step takes, prepared as the step prepares them.

  Of a large batch only a part is read, as one of several input pipelines reads it; a clip
  depends on no clip outside of its group (`batch_multiple`).

  Args:
    task: of an experiment.
    config: its training data.
    count: clips, at least; fewer where a batch has no more.
    step: of training.
  """
  batch = config.global_batch_size
  whole = math.lcm(task.batch_multiple, task.task_config.micro_batches)
  sizes = range(whole * -(-count // whole), batch, whole)
  share = next((size for size in sizes if batch % size == 0), batch)
  parts = batch // share
  config = config.replace(enable_tf_data_service=False, prefetch_buffer_size=1)
  context = tf.distribute.InputContext(parts, 0, parts)
  made = next(reader.each_batch(task.build_inputs(config, context, step)))
  return task.prepare(made, config)


def training_clips(task: Any, count: int, step: int = 0) -> list[Clip]:
  """The first clips of the batch that a step of training takes."""
  config, table = task.task_config.train_data, task.train_index
  batch = first_batch(task, config, count, step)
  shown, boxes = task.views_of(batch), task.boxes_of(batch)
  words, rows = task.words_of(batch), batch['record'].numpy()
  first = step // config.clips_per_decode * config.global_batch_size
  clips = []
  for number, row in enumerate(rows[:count]):
    place = tf.constant(first + number, tf.int64)
    epoch = positions.training_position(
      place, len(table), config.global_batch_size, config.seed
    ).epoch
    described = _Described(task, config, table, int(row))
    clips.append(
      Clip(
        described.name,
        described.label,
        {name: value[number].numpy() for name, value in shown.items()},
        {name: (b[number].numpy(), v[number].numpy()) for name, (b, v) in boxes.items()},
        described.taken(int(epoch)),
        words[number],
      )
    )
  return clips


def test_clips(task: Any, count: int) -> list[list[Clip]]:
  """The first records of the validation data with all their test clips.

  Args:
    task: of an experiment.
    count: records.

  Returns:
    By record its clips, whose `TEST` views are their crops; none where there are no test
    views.
  """
  config, table = task.task_config.validation_data, task.validation_index
  most = max(1, config.num_test_clips)
  count = min(count, len(table))
  given, config = config, config.replace(global_batch_size=most * count)
  batch = next(reader.each_batch(task.build_inputs(config)))
  batch = task.prepare(batch, config)
  if TEST not in batch:
    return []
  boxes = task.boxes_of(batch)
  found: dict[int, list[Clip]] = {}
  for number in np.flatnonzero(batch['valid'].numpy()):
    row = int(batch['record'][number])
    described = _Described(task, given, table, row)
    clips = found.setdefault(row, [])
    shown = {
      name: (b[number].numpy(), v[number].numpy())
      for name, (b, v) in boxes.items()
      if name == TEST
    }
    clips.append(
      Clip(
        described.name,
        described.label,
        {TEST: batch[TEST][number].numpy()},
        shown,
        described.test_taken(len(clips)),
        {},
      )
    )
  return list(found.values())[:count]


test_clips.__test__ = False  # type: ignore[attr-defined]  # not a test, to pytest


class _Described:
  """What the record of a clip tells of it."""

  def __init__(self, task: Any, config: data_config.DataConfig, table: Any, row: int):
    self._config, self._maker = config, views.build_view_maker(config)
    self._row = row
    self._clip: dict[str, tf.Tensor] = {}
    self.name, self.label = table.names()[row], ''
    if table.labels is not None and 0 <= table.labels[row] < len(table.label_names):
      self.label = table.label_names[table.labels[row]]
    if table.prepared is not None:  # Not of the contract.
      return
    wanted = (records.IMAGE_TIMESTAMP, records.IMAGE_FRAME_RATE, records.MEDIA_ID)
    fields = tuple(dict.fromkeys((*self._maker.fields, *wanted)))
    clip = parsing.parse_record(parsing.read_row(table, row), fields)
    self._clip = self._maker.paced(clip)
    if len(self._clip[records.MEDIA_ID]):
      self.name = self._clip[records.MEDIA_ID][0].numpy().decode(errors='replace')

  def taken(self, epoch: int) -> Times | None:
    """Of the views that a training sample takes in an epoch."""
    if not self._clip:
      return None
    key = reader.draws.sample_key(
      self._config.seed, tf.constant(epoch, tf.int64), tf.constant(self._row, tf.int64)
    )
    return self._times(self._maker.frames_taken(self._clip, key))

  def test_taken(self, number: int) -> Times | None:
    """Of a test clip."""
    if not self._clip:
      return None
    taken = self._maker.test_frames_taken(self._clip, tf.constant(number, tf.int64))
    return self._times(taken[None])

  def _times(self, frames: tf.Tensor) -> Times | None:
    if not tf.size(frames):
      return None
    count = len(self._clip['frames'])
    stamps = self._clip[records.IMAGE_TIMESTAMP].flat_values.numpy()
    rate = self._clip[records.IMAGE_FRAME_RATE].numpy()
    if len(stamps) == count:
      return Times(frames.numpy(), (stamps - stamps[0]) / _MICROSECONDS, True)
    if len(rate) and rate[0] > 0:
      return Times(frames.numpy(), np.arange(count) / rate[0], True)
    return Times(frames.numpy(), np.arange(count, dtype=np.float64), False)


def intervals(clips: Sequence[Clip]) -> np.ndarray:
  """[N, 2] first and last time between the views of clips of two views, one a clip.

  The first is what lies between their starts, the second what both are of (below 0: what
  lies between them).
  """
  found = []
  for clip in clips:
    if clip.times is not None and len(clip.times.frames) == 2:
      times = clip.times.of_views
      starts, ends = times.min(1), times.max(1)
      found.append((abs(starts[1] - starts[0]), ends.min() - starts.max()))
  return np.array(found, np.float64).reshape(-1, 2)

"""Features of whole data sets: the common ground of the training-free protocols."""

import dataclasses
import itertools
import math
import sys
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tqdm

from official.video.configs import data as data_config
from official.video.data import checks, index, positions, reader
from official.video.errors import UserError
from official.video.evaluation import encoding, store

# Arrays of a store beside the outputs.
LABELS, RECORDS, CLIPS = 'labels', 'records', 'clips'

Rows = store.Store | store.Temporary


@dataclasses.dataclass(frozen=True)
class Encoded:
  """Outputs of an encoder for a data set, one row a record, means over its views.

  Arrays are memory-mapped: what of them is not looked at takes no memory.

  Attributes:
    outputs: name to [N, D] float32; always has 'feature'.
    labels: [N] int64; of a config with `num_labels` [N, num_labels], -1 where a clip has
      fewer.
    records: [N] int64 rows of the index.
    expected: number of records in the data set.
    clips: [N, T, H, W, 3] uint8, the first view of each, where they were asked for.
  """

  outputs: Mapping[str, np.ndarray]
  labels: np.ndarray
  records: np.ndarray
  expected: int
  clips: np.ndarray | None = None

  @property
  def feature(self) -> np.ndarray:
    """[N, D] pooled features."""
    return self.outputs['feature']


def test_config(config: data_config.DataConfig) -> data_config.DataConfig:
  """The config that reads plain test views of the same data, in order."""
  default = type(config)()
  return dataclasses.replace(
    config,
    is_training=False,
    num_views=0,
    sampler=default.sampler,
    augmentation=default.augmentation,
    num_test_clips=max(1, config.num_test_clips),
    clips_per_decode=1,
    enable_tf_data_service=False,
  )


def means_over_crops(outputs: encoding.Outputs, clips: int) -> encoding.Outputs:
  """[B, D] means of an encoder's outputs [B * C, D] over the C crops of each of B clips."""
  return {
    name: value.reshape(clips, -1, value.shape[-1]).mean(1)
    for name, value in outputs.items()
  }


def encode(
  config: data_config.DataConfig,
  table: index.RecordIndex,
  encoder: encoding.Encoder | Callable[[], encoding.Encoder],
  keep_clips: bool = False,
  description: str = 'encoding',
  kept: Rows | None = None,
) -> Encoded:
  """Encodes every record of a data set, holding a batch of views a device at a time.

  What is made goes to disk as it comes, in the order of the records, so that memory does
  not grow with their number.

  Args:
    config: of the views; see `test_config`.
    table: the records.
    encoder: see the class; or what makes it, if anything is left to be encoded.
    keep_clips: also return the first view of each record.
    description: of the progress bar.
    kept: where the rows are appended, of this encoder, config and table. What is there
      already is not encoded again, and the rest in the batches of an unbroken run, so that
      the rows are the same, bit for bit. By default files that nobody sees.

  Raises:
    UserError: no record can be read.
  """
  kept = kept or store.Temporary()
  if not kept.done:
    fill(kept, config, table, encoder, range(len(table)), keep_clips, description)
    kept.finish()
  if not kept.rows:
    raise UserError(
      f'{table.files[0]} ...: none of the {len(table)} records can be read; see python -m '
      'tfrecords_tools.validate'
    )
  arrays = kept.arrays()
  labels, records = arrays.pop(LABELS), arrays.pop(RECORDS)
  clips = arrays.pop(CLIPS, None)
  return Encoded(arrays, np.array(labels), np.array(records), len(table), clips)


def group(config: data_config.DataConfig) -> int:
  """Records whose views fill whole batches: where one such group ends another may begin.

  Encoded by themselves, groups give what they give one after the other, bit for bit; but
  not with `test_clip_step`, where only the records tell how many views they have, so that
  batches are cut otherwise and outputs round otherwise.
  """
  config = test_config(config)
  batch = config.global_batch_size
  return batch // math.gcd(batch, config.num_test_clips)


def fill(
  kept: Rows,
  config: data_config.DataConfig,
  table: index.RecordIndex,
  encoder: encoding.Encoder | Callable[[], encoding.Encoder],
  records: range,
  keep_clips: bool = False,
  description: str = 'encoding',
) -> None:
  """Appends the rows of some records, or those of them that are not there yet.

  Args:
    kept: see `encode`; so the others.
    config: see there.
    table: see there.
    encoder: see there.
    records: which, one after the other; the first begins a `group`.
    keep_clips: see there.
    description: see there.
  """
  config = test_config(config)
  first = max(kept.next, records.start)
  if first > records.start:
    done = first - records.start
    print(
      f'{description}: goes on behind {done} of {len(records)} clips', file=sys.stderr
    )
  if first >= records.stop:
    return
  made = encoder if isinstance(encoder, encoding.Encoder) else encoder()
  left = table
  if (first, records.stop) != (0, len(table)):
    left = table.take(np.arange(first, records.stop))
  batches = reader.each_batch(reader.build_dataset(config, left))
  steps = positions.num_places(config, len(left)) // config.global_batch_size
  shown = iter(tqdm.tqdm(batches, description, steps, file=sys.stderr, leave=False))
  open_rows, wrapped = _OpenRows(kept), np.zeros(2, np.int64)
  while some := list(itertools.islice(shown, made.num_devices)):
    views = [batch['test_views'] for batch in some]
    outputs = made.each([tf.reshape(clips, [-1, *clips.shape[2:]]) for clips in views])
    for batch, found in zip(some, outputs, strict=True):
      valid = batch['valid'].numpy()
      if 'wrapped' in batch:  # Not all views tell.
        wrapped += [np.sum(valid & batch['wrapped'].numpy()), valid.sum()]
      more = {LABELS: batch['labels' if config.num_labels else 'label'].numpy()}
      if keep_clips:
        more[CLIPS] = batch['test_views'].numpy()[:, 0]
      open_rows.leave_out(first + batch['record'].numpy()[batch['bad'].numpy() > 0])
      open_rows.add(
        first + batch['record'].numpy(),
        valid,
        means_over_crops(found, len(valid)),
        more,
      )
  open_rows.close()
  if note := checks.note_short(config, wrapped[0] / max(1, wrapped[1])):
    print(note, file=sys.stderr)


class _OpenRows:
  """Sums over the clips of records of which more may come; whole ones are appended.

  Clips come in the order of their records, so those before a batch's first are whole.
  """

  def __init__(self, kept: Rows):
    self._kept, self._last = kept, -1
    self._sums: dict[int, dict[str, np.ndarray]] = {}
    self._counts: dict[int, int] = {}
    self._bad: set[int] = set()

  def leave_out(self, rows: np.ndarray) -> None:
    """Gives records no row: a part of each can't be read, whatever its other clips show."""
    self._bad |= set(rows.tolist())

  def add(
    self,
    rows: np.ndarray,
    valid: np.ndarray,
    outputs: Mapping[str, np.ndarray],
    more: Mapping[str, np.ndarray],
  ) -> None:
    """Adds a batch of clips.

    Args:
      rows: [B] of the index.
      valid: [B] bool, which count.
      outputs: [B, D] by name, of which means are taken.
      more: [B, ...] by name, of which the first of a record is taken.
    """
    # Padding has a row that was there before.
    if rows[0] > self._last:
      self._append(rows[0])
      # A run that begins here sees the batches that this one does.
      self._kept.mark(int(rows[0]))
    else:
      self._append(self._last)
    self._last = max(self._last, int(rows.max()))
    for place in np.flatnonzero(valid):
      row = int(rows[place])
      if row not in self._sums:
        sums = {name: value[place].astype(np.float32) for name, value in outputs.items()}
        self._sums[row] = sums | {name: value[place] for name, value in more.items()}
        self._counts[row] = 1
        continue
      for name, value in outputs.items():
        self._sums[row][name] = self._sums[row][name] + value[place]
      self._counts[row] += 1

  def _append(self, behind: int) -> None:
    """Appends the rows before `behind`."""
    for row in self._bad & self._sums.keys():
      del self._sums[row], self._counts[row]
    whole = [row for row in sorted(self._sums) if row < behind]
    if not whole:
      return
    sums = [self._sums.pop(row) for row in whole]
    count = np.array([self._counts.pop(row) for row in whole])
    arrays = {name: np.stack([one[name] for one in sums]) for name in sums[0]}
    for name in arrays.keys() - {LABELS, CLIPS}:
      arrays[name] = (arrays[name] / count[:, None]).astype(np.float32)
    self._kept.append(arrays | {RECORDS: np.array(whole, np.int64)})

  def close(self) -> None:
    """Appends what is left: no more comes."""
    self._append(sys.maxsize)

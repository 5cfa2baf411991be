"""Which way records are read: whole, or the frames alone that a sample takes.

The second needs an index of frames beside each file (`records.frame_index`). Both give the
same samples, so what is chosen is speed alone: `frame_index: auto` reads some records both
ways when the input is built, and takes the faster.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from official.video.configs import data as data_config
from official.video.data import frames, index, parsing, ranges, records, tfds
from official.video.data.parsing import Sample
from official.video.errors import FieldError, UserError

# A record of fewer bytes is one request anyway, whichever way; of one of more, a sample
# takes so small a part that nothing has to be measured.
_SMALL, _LARGE = 1 << 18, 1 << 26
# Records and bytes that are read each way to choose one, at most; in so many turns.
_TRIED, _TRIED_BYTES, _TURNS = 12, 1 << 26, 3
_OPENED_AT_ONCE = 16
_COMMAND = 'python -m tfrecords_tools.index'

# Parses the record of a row.
Read = Callable[[tf.Tensor], Sample]
# What was found and measured, by records and config: a run builds its validation input many
# times, and thousands of headers take a while to come from a store.
_found: dict[tuple, 'Rows'] = {}
_chosen: dict[tuple, tuple[bool, str]] = {}


class Rows(NamedTuple):
  """Where the rows of the records of an index are.

  Attributes:
    offset: [N] int64, where each starts in the index of its file, in bytes.
    size: [N] int64 framed bytes.
  """

  offset: np.ndarray
  size: np.ndarray


def whole_records(table: index.RecordIndex, fields: Sequence[str] = ()) -> Read:
  """Reads records whole; see `parsing.parse_record`."""
  parse = tfds.parser_of(table.prepared, fields)
  places = _Places(table)
  return lambda row: parse(parsing.read_record(*places(row)))


def indexed_records(
  table: index.RecordIndex, rows: Rows, fields: Sequence[str] = ()
) -> Read:
  """Reads what is said of records; their 'frames' are `frames.Frames`."""
  places = _Places(table)
  offsets, sizes = tf.constant(rows.offset), tf.constant(rows.size)

  def read(row: tf.Tensor) -> Sample:
    path, offset, size = places(row)
    beside = tf.strings.join([path, records.FRAME_INDEX_SUFFIX])
    said = frames.read_row(beside, offsets[row], sizes[row], path, offset, size)
    return parsing.parse_row(said, path, offset, fields)

  return read


class _Places:
  """Path, offset and size of the record of a row, as tensors."""

  def __init__(self, table: index.RecordIndex):
    self._files = tf.constant(list(table.files))
    self._file_id = tf.constant(table.file_id)
    self._offset, self._size = tf.constant(table.offset), tf.constant(table.size)

  def __call__(self, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return self._files[self._file_id[row]], self._offset[row], self._size[row]


# --- The indices of frames beside the files -------------------------------------------


class _Unusable(Exception):
  """An index is not there, or not of its file; the message begins with its path."""


def _header(table: index.RecordIndex, number: int) -> records.FrameIndexHeader:
  """Header of the index of a file, which is compared with what is known of the file."""
  file = table.files[number]
  path = records.frame_index_name(file)
  try:
    with tf.io.gfile.GFile(path, 'rb') as stream:
      header = records.FrameIndexHeader.read(stream)
    length = tf.io.gfile.stat(path).length
  except tf.errors.NotFoundError:
    raise _Missing(f'{path}: is missing; {_COMMAND} {file} makes it') from None
  except (records.RecordError, tf.errors.OpError) as error:
    message = error.message if isinstance(error, tf.errors.OpError) else error
    raise _Unusable(f'{path}: {message}; make it again by {_COMMAND} {file}') from None
  if length != header.size:
    raise _Unusable(
      f'{path}: has {length} bytes, its header says {header.size}; make it again by '
      f'{_COMMAND} {file}'
    )
  if not _is_of(header, table, number):
    raise _Unusable(
      f'{path}: is of another file, or of what {os.path.basename(file)} held before; make '
      f'it again by {_COMMAND} {file}'
    )
  return header


class _Missing(_Unusable):
  """There is none."""


def _is_of(
  header: records.FrameIndexHeader, table: index.RecordIndex, number: int
) -> bool:
  """Whether an index is that of a file, as far as the table knows the file."""
  rows = np.flatnonzero(table.file_id == number)
  at = table.number[rows]
  lengths = np.asarray(header.record_bytes, np.int64)
  if len(at) and at.max() >= len(lengths):
    return False
  offsets = np.cumsum(lengths) - lengths
  if not np.array_equal(lengths[at], table.size[rows]):
    return False
  if not np.array_equal(offsets[at], table.offset[rows]):
    return False
  if table.digests and table.digests[number]:
    return table.digests[number] == header.sha256
  if table.checksums is None:
    return True
  return np.array_equal(np.asarray(header.checksums, np.int64)[at], table.checksums[rows])


def find_rows(table: index.RecordIndex) -> Rows:
  """Looks up the indices beside the files of a record index.

  Raises:
    UserError: one is missing, damaged, or of another file; the message says what to do.
  """
  try:
    return _find_rows(table)
  except _Unusable as error:
    raise UserError(str(error)) from None


def _identity(table: index.RecordIndex) -> tuple:
  """What tells the records of two tables apart, those of a rewritten file too."""
  digest = hashlib.sha256()
  for column in (table.file_id, table.number, table.size, table.checksums):
    digest.update(b'' if column is None else column.tobytes())
  return table.files, table.digests, digest.hexdigest()


def _find_rows(table: index.RecordIndex) -> Rows:
  key = _identity(table)
  if key not in _found:
    _found[key] = _read_headers(table)
  return _found[key]


def _read_headers(table: index.RecordIndex) -> Rows:
  rows = Rows(*np.zeros([2, len(table)], np.int64))
  numbers = np.unique(table.file_id).tolist()
  with concurrent.futures.ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
    headers = list(pool.map(functools.partial(_header, table), numbers))
  for number, header in zip(numbers, headers, strict=True):
    lengths = np.asarray(header.row_bytes, np.int64)
    mine = table.file_id == number
    at = table.number[mine]
    rows.offset[mine] = (header.begin + np.cumsum(lengths) - lengths)[at]
    rows.size[mine] = lengths[at]
  return rows


# --- The choice -----------------------------------------------------------------------


def choose(
  config: data_config.DataConfig,
  table: index.RecordIndex,
  fields: Sequence[str],
  taken: Callable[[Read, tf.Tensor], tf.Tensor],
) -> Read:
  """What reads the records of an input.

  Args:
    config: of the data.
    table: the records.
    fields: keys of the contract that samples are made of beside frames and first label.
    taken: the encoded frames [T] that a sample of a row takes, by what reads it.

  Raises:
    UserError: `frame_index` is 'always', and an index can't be used.
  """
  whole = whole_records(table, fields)
  always = config.frame_index == 'always'
  if config.frame_index == 'never' or not len(table):
    return whole
  if reason := _in_the_way(config, table, fields):
    if always:
      raise FieldError(f"frame_index 'always': {reason}; set it to 'auto'")
    return whole
  mean = float(table.size.mean())
  if not always and mean < _SMALL:
    return whole
  try:
    rows = _find_rows(table)
  except _Unusable as error:
    if always:
      raise UserError(f"frame_index 'always': {error}") from None
    ranges.tell_once(f'note: records are read whole: {error}')
    return whole
  indexed = indexed_records(table, rows, fields)
  if always:
    return indexed
  key = (*_identity(table), repr(dataclasses.asdict(config)))
  if key not in _chosen:
    _chosen[key] = _measured(
      table, mean, *(functools.partial(taken, read) for read in (whole, indexed))
    )
  by_frames, said = _chosen[key]
  ranges.tell_once(f'note: {said}')
  return indexed if by_frames else whole


def _in_the_way(
  config: data_config.DataConfig, table: index.RecordIndex, fields: Sequence[str]
) -> str:
  """Why records have to be read whole whatever there is; '' where nothing is."""
  if table.prepared:
    return 'sets of TensorFlow Datasets have no index of frames'
  if config.enable_tf_data_service:
    return 'a tf.data service can not run the Python that reads ranges of files'
  if records.IMAGE_ENCODED in fields:
    return f'views {config.views!r} take {records.IMAGE_ENCODED} whole'
  return ''


def _measured(
  table: index.RecordIndex,
  mean: float,
  whole: Callable[[tf.Tensor], tf.Tensor],
  indexed: Callable[[tf.Tensor], tf.Tensor],
) -> tuple[bool, str]:
  """Whether reading the frames alone is the faster way, and what to say of it."""
  if mean > _LARGE or len(table) < 2:
    return True, (
      f'of records of {mean / 1e6:.0f} MB the frames are read that samples take'
    )
  seconds = _seconds(table, mean, [whole, indexed])
  by_frames = seconds[1] <= seconds[0]
  what = (
    'the frames that samples take are read' if by_frames else 'records are read whole'
  )
  times = '{:.1f} ms a record whole, {:.1f} ms by frames'.format(
    *(1000 * value for value in seconds)
  )
  return by_frames, f'{what}: {times}'


def _seconds(
  table: index.RecordIndex, mean: float, ways: Sequence[Callable[[tf.Tensor], tf.Tensor]]
) -> list[float]:
  """Seconds a record that each way takes, on all cores; no record is read twice.

  What the first reading leaves in a cache would help the second.
  """
  spec = tf.TensorSpec([], tf.int64)

  def sized(way: Callable[[tf.Tensor], tf.Tensor]) -> Callable:
    def size(row: tf.Tensor) -> tf.Tensor:
      return tf.reduce_sum(tf.strings.length(way(row)))

    return tf.function(size, autograph=False).get_concrete_function(spec)

  def read(function: Callable, row: int) -> None:
    with contextlib.suppress(tf.errors.OpError):  # Named where its turn comes.
      function(tf.constant(row, tf.int64))

  functions = [sized(way) for way in ways]
  count = min(_TRIED, len(table) // 2, max(1, int(_TRIED_BYTES / mean)))
  rows = np.random.default_rng(0).permutation(len(table))[: 2 * count].reshape(2, -1)
  for function, row in zip(functions, rows[:, 0], strict=True):
    read(function, int(row))  # Starting a graph takes longer than running it.
  spent = [0.0, 0.0]
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
    for turn, parts in enumerate(
      np.array_split(rows[:, 1:] if count > 1 else rows, _TURNS, 1)
    ):
      for way in (0, 1) if turn % 2 else (1, 0):
        begin = time.perf_counter()
        list(pool.map(functools.partial(read, functions[way]), parts[way].tolist()))
        spent[way] += time.perf_counter() - begin
  return [value / max(1, count - 1) for value in spent]

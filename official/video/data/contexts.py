"""Counting what the records of a data set hold, without reading their frames."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from official.video.data import index, parsing, records, tfds
from official.video.data.records import wire

# A record begins with its context, and that with texts and numbers: kilobytes.
_CHUNK = 1 << 16
# Records that are looked at for what all should have, in the context and in each step.
_LOOKED_AT, _LISTS_LOOKED_AT = 256, 16
_CONTEXT = b'\x0a'  # Field 1 of a SequenceExample, length-delimited.


def _context(file, offset: int, size: int) -> tf.train.Features:
  """The context of a record, of which no more than needed is read."""
  file.seek(offset + records.HEADER_BYTES)
  size -= records.FRAMING_BYTES
  data = file.read(min(size, _CHUNK))
  if data[:1] != _CONTEXT:  # Written by somebody else, in another order.
    data += file.read(size - len(data))
    return tf.train.SequenceExample.FromString(data).context
  length, begin = wire.read_varint(data, 1, len(data))
  missing = begin + length - len(data)
  data += file.read(missing) if missing > 0 else b''
  return tf.train.Features.FromString(data[begin : begin + length])


def contexts(table: index.RecordIndex) -> Iterator[tf.train.Features]:
  """The contexts of all records that can be read, in the index's order."""
  for _, context in _rows(table):
    yield context


def _rows(table: index.RecordIndex) -> Iterator[tuple[int, tf.train.Features]]:
  number, file = -1, None
  for row in range(len(table)):
    if table.file_id[row] != number:
      number = table.file_id[row]
      file = tf.io.gfile.GFile(table.files[number], 'rb')
    try:
      yield row, _context(file, int(table.offset[row]), int(table.size[row]))
    except (tf.errors.OpError, ValueError):
      continue  # Named where its turn comes.
    except Exception as error:
      if type(error).__name__ != 'DecodeError':
        raise


def label_range(table: index.RecordIndex) -> tuple[int, int]:
  """The largest number of labels that a record has, and the highest of their ids.

  Of a set of TensorFlow Datasets that is the highest which its feature knows.
  """
  if table.prepared:
    most = most_values(table, records.LABEL_INDEX)
    return most, tfds.num_classes(table.prepared) - 1 if most else records.NO_LABEL
  most, highest = 0, records.NO_LABEL
  for context in contexts(table):
    labels = context.feature[records.LABEL_INDEX].int64_list.value
    most = max(most, len(labels))
    highest = max(highest, *labels, records.NO_LABEL)
  return most, highest


def any_has(table: index.RecordIndex, key: str) -> bool:
  """Whether a record of some that are spread over all has a value under a contract key.

  It looks until it finds one. Where none of those has one, no training could go on. What
  can't be read at all is left to who reads it.
  """
  if table.prepared:
    return tfds.has(table.prepared, key)
  per_step = records.field_of(key).per_step
  count = _LISTS_LOOKED_AT if per_step else _LOOKED_AT
  some = table.take(np.unique(np.linspace(0, len(table) - 1, count).astype(int)))
  readable = [row for row, _ in _rows(some)] if per_step else []
  if per_step:
    return not readable or any(_num_listed(some, row, key) for row in readable)
  return most_values(some, key, enough=1) > 0 or next(contexts(some), None) is None


def most_values(table: index.RecordIndex, key: str, enough: int | None = None) -> int:
  """How many values of a context key the record with most of them has.

  Args:
    table: of the data.
    key: of the record contract.
    enough: how many end the search; None looks at all records.
  """
  if table.prepared:
    told = tfds.most_values(table.prepared, key)
    return _most_of_examples(table, key, enough) if told is None else told
  most = 0
  for row, context in _rows(table):
    counts = [
      _num_values(context.feature[name])
      for name in (key, *records.SYNONYMS.get(key, ()))
      if name in context.feature
    ]
    # Records of ours all have a path.
    if (
      not any(counts)
      and key in records.LISTED
      and (records.DATA_PATH not in context.feature)
    ):
      counts.append(_num_listed(table, row, key))
    most = max(most, *counts, 0)
    if enough is not None and most >= enough:
      break
  return most


def _most_of_examples(table: index.RecordIndex, key: str, enough: int | None) -> int:
  """As `most_values`, of a set that does not tell: its examples are read whole."""
  parse, most = tfds.parser_of(table.prepared, [key]), 0
  for row in range(len(table)):
    try:
      most = max(most, int(tf.size(parse(parsing.read_row(table, row))[key])))
    except tf.errors.OpError:
      continue  # Named where its turn comes.
    if enough is not None and most >= enough:
      break
  return most


def _num_values(feature: tf.train.Feature) -> int:
  kind = feature.WhichOneof('kind')
  return len(getattr(feature, kind).value) if kind else 0


def _num_listed(table: index.RecordIndex, row: int, key: str) -> int:
  """How many values the feature list of a record has, which is read whole."""
  with tf.io.gfile.GFile(table.files[table.file_id[row]], 'rb') as file:
    file.seek(int(table.offset[row]) + records.HEADER_BYTES)
    data = file.read(int(table.size[row]) - records.FRAMING_BYTES)
  try:
    lists = tf.train.SequenceExample.FromString(data).feature_lists.feature_list
  except DecodeError:  # Named where its turn comes.
    return 0
  return sum(map(_num_values, lists[key].feature)) if key in lists else 0

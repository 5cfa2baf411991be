"""A record's bytes, by its place in a file, and the tensors that they hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from official.video.data import frames, records

Sample = dict[str, tf.Tensor]
DTYPES = {'bytes': tf.string, 'int64': tf.int64, 'float': tf.float32}


def read_record(path: tf.Tensor, offset: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
  """Reads one TFRecord by its place, in one request, checking its checksums.

  Args:
    path: scalar string.
    offset: scalar int64, where the framed record starts, in bytes.
    size: scalar int64, its framed size, in bytes.
  """
  spec = {'output_types': [tf.string], 'output_shapes': [[]]}
  dataset = tf.raw_ops.TFRecordDatasetV2(
    filenames=path[None],
    compression_type=tf.constant(''),
    buffer_size=size,
    byte_offsets=offset[None],
  )
  first = tf.raw_ops.TakeDataset(input_dataset=dataset, count=1, **spec)
  return tf.raw_ops.DatasetToSingleElement(dataset=first, **spec)[0]


def read_row(table: Any, row: int) -> tf.Tensor:
  """The bytes of a record of a `RecordIndex`, eagerly; raises what TensorFlow does."""
  return read_record(
    tf.constant(str(table.files[table.file_id[row]])),
    tf.constant(table.offset[row]),
    tf.constant(table.size[row]),
  )


def parse_record(serialized: tf.Tensor, fields: Sequence[str] = ()) -> Sample:
  """Frames, label and asked-for fields of a record.

  Args:
    serialized: scalar string.
    fields: keys of the record contract.

  Returns:
    'frames' [F] encoded frames, 'label' [] first class id, and under each key its values:
    [N] for a context key; for a per-step key a ragged tensor with a row a step, without
    rows where the record lacks it. What other writers call so is taken for it.
  """
  frame_list = {records.IMAGE_ENCODED: tf.io.FixedLenSequenceFeature([], tf.string)}
  made, _, steps = _parsed(serialized, fields, {}, frame_list)
  return {'frames': steps[records.IMAGE_ENCODED], **made}


# What a row of an index has beside its record's keys.
_OF_ROWS = {
  records.ROW_GAP: tf.io.VarLenFeature(tf.int64),
  records.ROW_SIZE: tf.io.VarLenFeature(tf.int64),
  records.ROW_CRC: tf.io.FixedLenFeature([], tf.string),
  records.ROW_SHAPE: tf.io.FixedLenFeature([2], tf.int64),
}


def parse_row(
  row: tf.Tensor, path: tf.Tensor, offset: tf.Tensor, fields: Sequence[str] = ()
) -> Sample:
  """As `parse_record` of the record of an index's row, whose frames are not read yet.

  Args:
    row: scalar string.
    path: scalar string, file of the record.
    offset: scalar int64, where the framed record starts, in bytes.
    fields: keys of the record contract.

  Returns:
    What `parse_record` does, but 'frames' are `frames.Frames`.
  """
  made, context, _ = _parsed(row, fields, _OF_ROWS, {})
  gaps, sizes = context[records.ROW_GAP].values, context[records.ROW_SIZE].values
  checksums = tf.io.decode_raw(context[records.ROW_CRC], tf.int32)
  begins = offset + tf.cumsum(gaps) + tf.cumsum(sizes, exclusive=True)
  numbers = tf.range(tf.size(sizes, tf.int64))
  checksums = tf.cast(tf.bitcast(checksums, tf.uint32), tf.int64)
  table = tf.stack([numbers, begins, sizes, checksums], 1)
  height, width = tf.unstack(tf.cast(context[records.ROW_SHAPE], tf.int32))
  return {'frames': frames.Frames(path, (height, width), table), **made}


def _parsed(
  serialized: tf.Tensor,
  fields: Sequence[str],
  more_context: Mapping[str, Any],
  more_steps: Mapping[str, Any],
) -> tuple[Sample, Sample, Sample]:
  """Label and asked-for fields, and the parsed features of more keys."""
  contract = {key: records.field_of(key) for key in fields}
  types = {key: tf.io.VarLenFeature(DTYPES[f.dtype]) for key, f in contract.items()}
  of_steps = {key for key, field in contract.items() if field.per_step}
  named = {key: (key, *records.SYNONYMS.get(key, ())) for key in types.keys() - of_steps}
  context, steps = tf.io.parse_single_sequence_example(
    serialized,
    context_features={
      records.LABEL_INDEX: tf.io.VarLenFeature(tf.int64),
      **more_context,
      **{name: types[key] for key, names in named.items() for name in names},
    },
    sequence_features={
      **more_steps,
      **{key: types[key] for key in of_steps},
      **{key: types[key] for key in named.keys() & records.LISTED},
    },
  )

  def value(key: str) -> tf.Tensor:
    found = [context[name].values for name in named[key]]
    return _first_filled(
      [*found, *([steps[key].values] if key in records.LISTED else [])]
    )

  labels = tf.concat([context[records.LABEL_INDEX].values, [records.NO_LABEL]], 0)
  more = {
    key: tf.RaggedTensor.from_sparse(steps[key]) if key in of_steps else value(key)
    for key in fields
  }
  return {'label': labels[0], **more}, context, steps


def _first_filled(values: Sequence[tf.Tensor]) -> tf.Tensor:
  """The first of some [N] tensors that has a value; the last one where none has."""
  *others, last = values
  for value in others[::-1]:
    last = tf.cond(tf.size(value) > 0, lambda v=value: v, lambda v=last: v)
  return last

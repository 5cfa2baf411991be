"""Reading TensorFlow Datasets video sets with the library's own random-access reader.

Features that are called as `feature_name` says hold what the record contract has under
their keys; `tfds_builder` writes them, and anybody's set may have them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from official.video.data import parsing, records
from official.video.errors import UserError

# Whose features have names of their own.
_NAMES = {
  records.LABEL_INDEX: 'labels',
  records.TEXT_CONTENT: 'captions',
  records.MEDIA_ID: 'media_id',
  records.IMAGE_FRAME_RATE: 'frame_rate',
}
# Of a set's metadata: the most values that a clip has of a key, and clips listed by split.
MOST_VALUES, LISTED = 'most_values', 'listed'


class Prepared(NamedTuple):
  """A prepared set.

  Attributes:
    name: of the set.
    data_dir: folder of sets; '' for TFDS's default.
  """

  name: str
  data_dir: str


def feature_name(key: str) -> str:
  """What the feature is called that holds the values of a contract key."""
  return _NAMES.get(key, key.replace('/', '_'))


def _builder(name: str, data_dir: str):
  import tensorflow_datasets as tfds

  try:
    builder = tfds.builder(name, data_dir=data_dir or None)
  except tfds.core.DatasetNotFoundError as error:
    raise UserError(
      f'tfds_name {name!r}: unknown to tensorflow-datasets and not prepared in '
      f'tfds_data_dir {data_dir!r}; check both'
    ) from error
  if not builder.info.splits:
    raise UserError(
      f'tfds_name {name!r}: not prepared in {builder.data_dir}; run '
      f'tfds build {name} first'
    )
  return builder


def record_files(
  name: str, split: str, data_dir: str
) -> tuple[Sequence[str], Sequence[tuple[int, int]]]:
  """TFRecord files of a split, and the range of records to take from each.

  Raises:
    UserError: unknown or unprepared set, unknown split, or not stored as TFRecord.
  """
  builder = _builder(name, data_dir)
  if builder.info.file_format.value != 'tfrecord':
    raise UserError(
      f'tfds_name {name!r}: stored as {builder.info.file_format.value}, expected '
      'tfrecord; prepare it again with file_format="tfrecord"'
    )
  try:
    instructions = builder.info.splits[split].file_instructions
  except (KeyError, ValueError) as error:
    raise UserError(
      f'tfds_split {split!r}: {name} has {sorted(builder.info.splits)}'
    ) from error
  return (
    [str(i.filename) for i in instructions],
    [(i.skip, i.skip + i.take) for i in instructions],
  )


def num_skipped(name: str, split: str, data_dir: str) -> int:
  """Clips that were listed for a whole split and gave no example; 0 where none tells."""
  info = _builder(name, data_dir).info
  listed = (info.metadata or {}).get(LISTED, {}).get(split)
  return 0 if listed is None else listed - info.splits[split].num_examples


def label_names(name: str, data_dir: str) -> tuple[str, ...]:
  """Class names of a set by id; empty where it numbers its classes only, or has none."""
  features = _builder(name, data_dir).info.features
  names = getattr(features['label'], 'names', ()) if 'label' in features else ()
  # Without a list of names TFDS calls them '0', '1', ...
  return () if all(n == str(i) for i, n in enumerate(names)) else tuple(names)


def has(prepared: Prepared, key: str) -> bool:
  """Whether the examples of a set have a feature for a contract key."""
  return _feature_of(_builder(*prepared).info.features, key) is not None


def _feature_of(features: Any, key: str) -> str | None:
  """Name of the feature of a contract key; one class stands for a list of them."""
  names = [feature_name(key), *(['label'] if key == records.LABEL_INDEX else [])]
  return next((name for name in names if name in features), None)


def num_classes(prepared: Prepared) -> int:
  """Classes of a set; 0 where it does not number any."""
  features = _builder(*prepared).info.features
  if 'label' not in features:
    return 0
  return getattr(features['label'], 'num_classes', None) or 0


def most_values(prepared: Prepared, key: str) -> int | None:
  """The most values of a context key that an example has; None where no metadata tells."""
  if not has(prepared, key):
    return 0
  info = _builder(*prepared).info
  if _feature_of(info.features, key) == 'label':
    return 1
  return (info.metadata or {}).get(MOST_VALUES, {}).get(key)


def _empty(field: records.Field) -> tf.Tensor | tf.RaggedTensor:
  values = tf.zeros([0], parsing.DTYPES[field.dtype])
  zero = tf.zeros([1], tf.int64)
  return tf.RaggedTensor.from_row_splits(values, zero) if field.per_step else values


def _kind(dtype: tf.DType) -> str:
  """What the contract calls it."""
  if dtype == tf.string:
    return 'bytes'
  return 'int64' if dtype.is_integer else 'float' if dtype.is_floating else dtype.name


def _read_as(where: str, value: Any, field: records.Field) -> tf.Tensor | tf.RaggedTensor:
  """The values of a feature as `parsing.parse_record` gives those of a key.

  Raises:
    UserError: they are of another kind.
  """
  steps = 'a list of lists of' if field.per_step else 'a list of'
  dtype = parsing.DTYPES[field.dtype]
  tensor = isinstance(value, (tf.Tensor, tf.RaggedTensor))
  alike = tensor and _kind(value.dtype) == field.dtype
  ranks = (2,) if field.per_step else (0, 1)
  if not alike or value.shape.rank not in ranks:
    found = f'{value.dtype.name} {value.shape}' if tensor else type(value).__name__
    raise UserError(f'{where}: holds {found}, expected {steps} {field.dtype}')
  value = tf.cast(value, dtype) if value.dtype != dtype else value
  if not field.per_step:
    return tf.reshape(value, [-1])
  return (
    value if isinstance(value, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(value)
  )


def parser_of(
  prepared: Prepared | None, fields: Sequence[str] = ()
) -> Callable[[tf.Tensor], parsing.Sample]:
  """What parses the serialized records of an index: of a set's examples, or of ours."""
  if prepared is None:
    return functools.partial(parsing.parse_record, fields=fields)
  return example_parser(prepared, fields)


def example_parser(
  prepared: Prepared, fields: Sequence[str] = ()
) -> Callable[[tf.Tensor], parsing.Sample]:
  """A function from a serialized TFDS example to what `parsing.parse_record` gives.

  Args:
    prepared: the set.
    fields: keys of the record contract; what has no feature has no values.

  Raises:
    UserError: the set has no `video` feature; where it is traced, that a feature of a
      field's name is of another kind.
  """
  import tensorflow_datasets as tfds

  name, features = prepared.name, _builder(*prepared).info.features
  if 'video' not in features:
    raise UserError(
      f"tfds_name {name!r}: has {sorted(features)}, expected a 'video' feature"
    )
  skip = {'video': tfds.decode.SkipDecoding()}

  def parse(serialized: tf.Tensor) -> parsing.Sample:
    example = features.deserialize_example(serialized, decoders=skip)

    def value(key: str) -> tf.Tensor | tf.RaggedTensor:
      field, feature = records.field_of(key), _feature_of(features, key)
      if feature is None:
        return _empty(field)
      return _read_as(f'tfds_name {name!r}: feature {feature!r}', example[feature], field)

    label = example.get('label', tf.constant(records.NO_LABEL, tf.int64))
    return {
      'frames': example['video'],
      'label': tf.cast(label, tf.int64),
      **{key: value(key) for key in fields},
    }

  return parse

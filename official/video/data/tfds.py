"""Reading TensorFlow Datasets video sets with the library's own random-access reader."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from official.video.errors import UserError


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


def label_names(name: str, data_dir: str) -> tuple[str, ...]:
  """Class names of a set by id; empty where it numbers its classes only, or has none."""
  features = _builder(name, data_dir).info.features
  names = getattr(features['label'], 'names', ()) if 'label' in features else ()
  # Without a list of names TFDS calls them '0', '1', ...
  return () if all(n == str(i) for i, n in enumerate(names)) else tuple(names)


def example_parser(
  name: str, data_dir: str
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
  """A function from a serialized TFDS example to {'frames': encoded [F], 'label': []}.

  Raises:
    UserError: the set has no `video` feature.
  """
  import tensorflow_datasets as tfds

  features = _builder(name, data_dir).info.features
  if 'video' not in features:
    raise UserError(
      f"tfds_name {name!r}: has {sorted(features)}, expected a 'video' feature"
    )
  skip = {'video': tfds.decode.SkipDecoding()}

  def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    example = features.deserialize_example(serialized, decoders=skip)
    label = example.get('label', tf.constant(-1, tf.int64))
    return {'frames': example['video'], 'label': tf.cast(label, tf.int64)}

  return parse

r"""Extracts features of sliding windows from whole videos, by any backbone.

  python -m official.video.temporal.windows --experiment=gvilm_linear_eval_ucf101 \
    --checkpoint=/runs/gvilm --output=features/train.npz \
    --params_override=task.validation_data.input_path=records/train.manifest.json

A window has the experiment's test frames, `--window_step` stored frames after the one
before. What the backbone makes of the windows is interpolated to `--length` steps over the
video. The .npz holds features [V, length, D], names [V], durations [V] in seconds; records
with segments also give <output>.json, their annotations in ActivityNet's format.
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from official.video.errors import UserError
from official.video.settings import command_line

FLAGS = flags.FLAGS


class VideoFeatures(NamedTuple):
  """Features of videos over time.

  Attributes:
    features: [V, T, D] float32, of equal steps of each video.
    names: [V].
    durations: [V] seconds.
  """

  features: np.ndarray
  names: Sequence[str]
  durations: np.ndarray


def define_flags() -> None:
  """The driver's flags."""
  command_line.define_experiment_flags()
  flags.DEFINE_string('checkpoint', None, 'Checkpoint prefix or folder.')
  flags.DEFINE_string('saved_model', None, 'Exported SavedModel instead.')
  flags.DEFINE_string('output', None, 'File .npz to write.', required=True)
  flags.DEFINE_integer(
    'window_step', 16, 'Stored frames from a window to the next.', lower_bound=1
  )
  flags.DEFINE_integer('length', 100, 'Steps of the features a video.', lower_bound=2)
  flags.DEFINE_string('subset', 'validation', 'Of the annotations that are written.')


def window_starts(num_frames: int, window: int, step: int) -> np.ndarray:
  """First frames of the windows: every `step` frames while one begins in the video.

  The last is the first one that reaches the end.
  """
  last = max(0, num_frames - window)
  return np.arange(0, last + step, step) if last else np.zeros(1, np.int64)


def resampled(values: np.ndarray, centres: np.ndarray, length: int) -> np.ndarray:
  """Values at the centres of `length` equal parts of [0, 1], by linear interpolation.

  Args:
    values: [W, D].
    centres: [W] rising, where they were taken, in [0, 1].
    length: of the result.

  Returns:
    [length, D] float32.
  """
  places = (np.arange(length) + 0.5) / length
  columns = [np.interp(places, centres, column) for column in values.T]
  return np.stack(columns, 1).astype(np.float32)


def window_features(
  clips: Callable[[np.ndarray], Any],
  encoder: Callable[[Any], Any],
  num_frames: int,
  window: int,
  step: int,
  batch: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Features [W, D] of a video's windows, and their centres [W] as shares of it.

  Args:
    clips: [n] first frames to clips [n, T, H, W, 3] uint8.
    encoder: clips to {'feature': [n, D]}.
    num_frames: of the video.
    window: frames that a window spans.
    step: frames from a window to the next.
    batch: windows encoded at once.
  """
  starts = window_starts(num_frames, window, step)
  parts = [
    encoder(clips(starts[i : i + batch]))['feature'].numpy()
    for i in range(0, len(starts), batch)
  ]
  centres = (starts + min(window, num_frames) / 2) / num_frames
  return np.concatenate(parts), np.minimum(centres, 1.0)


def extract(params, table, encoder, step: int, length: int, subset: str):
  """Features and annotations of all records of an experiment's validation data.

  Args:
    params: resolved experiment.
    table: index of the records.
    encoder: [n, T, H, W, 3] uint8 to {'feature': [n, D]}.
    step: frames from a window to the next.
    length: steps of the result.
    subset: of the annotations.

  Returns:
    `VideoFeatures`, the annotations' database, and the names of records that can't be
    read.
  """
  import tensorflow as tf
  import tqdm

  from official.video.augment import geometric
  from official.video.data import decoding, reader, records, samplers

  config = params.task.validation_data
  num_steps, height, width, _ = config.feature_shape
  window = (num_steps - 1) * config.temporal_stride + 1
  fields = (
    records.MEDIA_ID,
    records.IMAGE_FRAME_RATE,
    records.SEGMENT_START_INDEX,
    records.SEGMENT_END_INDEX,
    records.SEGMENT_LABEL_INDEX,
  )

  @tf.function(reduce_retracing=True)
  def decoded(frames, start):
    indices = samplers.clip_indices(
      tf.reshape(start, [1]), num_steps, config.temporal_stride, tf.size(frames)
    )[0]
    crop = geometric.test_windows(
      *decoding.frame_size(frames), (height, width), 1, config.min_image_size
    )
    return decoding.decode_crops(tf.gather(frames, indices), crop, (height, width))[0]

  def windows_at(frames: tf.Tensor, starts: np.ndarray) -> tf.Tensor:
    return tf.stack([decoded(frames, tf.constant(int(start))) for start in starts])

  rows, skipped = [], []
  database: dict[str, Any] = {}
  names = table.names()
  for row in tqdm.tqdm(range(len(table)), 'windows', file=sys.stderr, leave=False):
    path = str(table.files[table.file_id[row]])
    try:
      record = reader.read_record(
        tf.constant(path), tf.constant(table.offset[row]), tf.constant(table.size[row])
      )
      clip = reader.parse_record(record, fields)
      # As the annotations name the video.
      name = clip[records.MEDIA_ID][0].numpy().decode('utf-8', 'surrogateescape')
      frames, rate = clip['frames'], float(clip[records.IMAGE_FRAME_RATE][0])
      count = int(tf.size(frames))
      values, centres = window_features(
        functools.partial(windows_at, frames),
        encoder,
        count,
        window,
        step,
        config.global_batch_size,
      )
    except tf.errors.OpError as error:
      skipped.append(names[row])
      print(f'skipped {names[row]}: {str(error).splitlines()[0]}', file=sys.stderr)
      continue
    if name in database:
      raise UserError(
        f'{names[row]}: {name} is there twice; convert whole videos, one record each'
      )
    rows.append((name, resampled(values, centres, length), count / rate))
    spans = [clip[key].numpy() for key in fields[2:]]
    database[name] = {
      'subset': subset,
      'duration': count / rate,
      'annotations': [
        {
          'label': table.label_names[label] if table.label_names else str(label),
          'segment': [start / rate, (end + 1) / rate],
        }
        for start, end, label in zip(*spans, strict=True)
      ],
    }
  if not rows:
    raise UserError(f'{table.files[0]} ...: none of the {len(table)} records can be read')
  kept, features, durations = zip(*rows, strict=True)
  result = VideoFeatures(np.stack(features), kept, np.array(durations))
  return result, database, skipped


def save(features: VideoFeatures, path: str) -> None:
  """Writes features as a .npz, whole or not at all."""
  partial = f'{path}.incomplete.npz'
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  np.savez(partial, **features._asdict())
  os.replace(partial, path)


def load(path: str) -> VideoFeatures:
  """Reads what `save` wrote.

  Raises:
    UserError: there is no such file, or it is of another kind.
  """
  try:
    with np.load(path, allow_pickle=False) as stored:
      return VideoFeatures(
        stored['features'], stored['names'].tolist(), stored['durations']
      )
  except (OSError, ValueError, KeyError) as error:
    raise UserError(
      f'{path}: holds no features of official.video.temporal.windows'
    ) from error


def main(argv: Sequence[str]) -> None:
  """Extracts."""
  del argv
  params = command_line.load_experiment(FLAGS)
  if bool(FLAGS.checkpoint) == bool(FLAGS.saved_model):
    raise UserError('give one of --checkpoint and --saved_model')
  from official.video import evaluate, files
  from official.video.settings import experiment

  task = experiment.build_task(params)
  table = task.validation_index
  encoder = (
    evaluate.saved_model_encoder(FLAGS.saved_model)
    if FLAGS.saved_model
    else evaluate.checkpoint_encoder(params, task, FLAGS.checkpoint)
  )
  features, database, skipped = extract(
    params, table, encoder, FLAGS.window_step, FLAGS.length, FLAGS.subset
  )
  save(features, FLAGS.output)
  if any(entry['annotations'] for entry in database.values()):
    content = json.dumps({'version': 'VERSION 1.3', 'database': database}) + '\n'
    files.write_atomically(os.path.splitext(FLAGS.output)[0] + '.json', content.encode())
  print(f'features of {len(features.names)} of {len(table)} videos: {FLAGS.output}')
  if skipped:
    print(f'{len(skipped)} skipped')


if __name__ == '__main__':
  define_flags()
  command_line.run(main)

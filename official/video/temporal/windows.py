r"""Extracts features of sliding windows from whole videos, by any backbone.

  python -m official.video.temporal.windows --experiment=gvilm_linear_eval_ucf101 \
    --checkpoint=/runs/gvilm --output=features/train.npz \
    --params_override=task.validation_data.input_path=records/train.manifest.json

A window has the experiment's test frames, `--window_step` stored frames after the one
before. What the backbone makes of the windows is interpolated to `--length` steps over the
video. The .npz holds features [V, length, D], names [V], durations [V] in seconds; records
with segments also give <output>.json, their annotations in ActivityNet's format. Until then
what is done waits in <output>.partial: where a command was stopped, the same one goes on. On
several hosts (see official.video.evaluate) each looks at its share of the videos.
"""

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from absl import flags

from official.video import files
from official.video.errors import UserError
from official.video.evaluation import sharing, store
from official.video.settings import command_line
from official.video.temporal import features

if TYPE_CHECKING:
  from official.video.evaluation import encoding

FLAGS = flags.FLAGS


def define_flags() -> None:
  """The driver's flags."""
  command_line.define_experiment_flags()
  flags.DEFINE_string('checkpoint', None, 'Checkpoint prefix or folder.')
  flags.DEFINE_string('saved_model', None, 'Exported SavedModel instead.')
  flags.DEFINE_string('output', None, 'File .npz to write.')
  flags.DEFINE_integer(
    'window_step', 16, 'Stored frames from a window to the next.', lower_bound=1
  )
  flags.DEFINE_integer('length', 100, 'Steps of the features a video.', lower_bound=2)
  flags.DEFINE_string('subset', 'validation', 'Of the annotations that are written.')


def window_starts(num_frames: int, window: int, step: int) -> np.ndarray:
  """First frames of the windows: every `step` frames, and one that ends with the video.

  None reaches past the end, unless the video is shorter than a window.
  """
  last = max(0, num_frames - window)
  return np.append(np.arange(0, last, step), last)


def frame_indices(start: int, num_steps: int, stride: int, num_frames: int) -> np.ndarray:
  """Frames [num_steps] of a window; a video that is shorter stands still at its last."""
  return np.minimum(start + stride * np.arange(num_steps), num_frames - 1)


def window_centres(starts: np.ndarray, num_frames: int, window: int) -> np.ndarray:
  """Where windows lie in the video, in (0, 1): the middle of the frames they hold."""
  return (starts + min(window, num_frames) / 2) / num_frames


class Film(NamedTuple):
  """A video as it was stored.

  Attributes:
    name: as the annotations have it.
    frames: `[F]` encoded.
    rate: frames a second.
    segments: first frame, last frame and label of each annotated segment.
  """

  name: str
  frames: Any
  rate: float
  segments: Sequence[tuple[int, int, int]]

  @property
  def duration(self) -> float:
    """Seconds."""
    return len(self.frames) / self.rate


def read_film(table, row: int) -> Film:
  """A record of an index; raises what TensorFlow does where it can't be read."""
  from official.video.data import parsing, records, tfds

  segment = (
    records.SEGMENT_START_INDEX,
    records.SEGMENT_END_INDEX,
    records.SEGMENT_LABEL_INDEX,
  )
  parse = tfds.parser_of(
    table.prepared, (records.MEDIA_ID, records.IMAGE_FRAME_RATE, *segment)
  )
  clip = parse(parsing.read_row(table, row))
  return Film(
    clip[records.MEDIA_ID][0].numpy().decode('utf-8', 'surrogateescape'),
    clip['frames'],
    float(clip[records.IMAGE_FRAME_RATE][0]),
    list(zip(*(clip[key].numpy().tolist() for key in segment), strict=True)),
  )


def database_entry(film: Film, label_names: Sequence[str], subset: str) -> dict[str, Any]:
  """The film in ActivityNet's format; a segment's last frame is part of it."""
  return {
    'subset': subset,
    'duration': film.duration,
    'annotations': [
      {
        'label': label_names[label] if label_names else str(label),
        'segment': [start / film.rate, (end + 1) / film.rate],
      }
      for start, end, label in film.segments
    ],
  }


class WindowEncoder:
  """What a backbone makes of a film's windows, resampled to equal steps of the film."""

  def __init__(self, config, encoder: 'encoding.Encoder', step: int, length: int):
    """Initializes it.

    Args:
      config: the experiment's validation data: shape, stride, scale, batch.
      encoder: of clips, see the class.
      step: frames from a window to the next.
      length: steps of the result.
    """
    import tensorflow as tf

    self._config = dataclasses.replace(config, num_test_crops=1)
    self._encoder, self._step, self._length = encoder, step, length
    self._decoded = tf.function(self._decode, reduce_retracing=True, autograph=False)

  def __call__(self, film: Film) -> np.ndarray:
    """Features [length, D] float32."""
    import tensorflow as tf

    from official.video.data import tempo

    config = self._config
    if wanted := tempo.rate(config):
      if film.rate <= 0:
        raise UserError(
          f'{film.name}: its record has no image/frame_rate above 0, which stride_seconds '
          'takes; convert it again, or set stride_seconds to 0'
        )
      kept = tempo.indices(len(film.frames), film.rate, wanted)
      film = film._replace(frames=tf.gather(film.frames, kept), rate=wanted)
    window = (config.feature_shape[0] - 1) * config.temporal_stride + 1
    starts = window_starts(len(film.frames), window, self._step)
    batch = config.global_batch_size
    values = []
    for first in range(0, len(starts), batch * self._encoder.num_devices):
      some = starts[first : first + batch * self._encoder.num_devices]
      clips = [self._clips(film, some[i : i + batch]) for i in range(0, len(some), batch)]
      values += [outputs['feature'] for outputs in self._encoder.each(clips)]
    centres = window_centres(starts, len(film.frames), window)
    return features.resampled(np.concatenate(values), centres, self._length)

  def _clips(self, film: Film, starts: np.ndarray) -> Any:
    """Windows [n, T, H, W, 3] uint8."""
    import tensorflow as tf

    steps, stride = self._config.feature_shape[0], self._config.temporal_stride
    indices = [frame_indices(s, steps, stride, len(film.frames)) for s in starts]
    # Windows overlap: each frame of theirs is decoded once. A film's would not fit in memory.
    rows, places = np.unique(indices, return_inverse=True)
    shown = self._decoded(tf.gather(film.frames, rows))
    return tf.gather(shown, places.reshape(len(starts), steps))

  def _decode(self, frames: Any) -> Any:
    """The middle test crop of encoded frames."""
    from official.video.data import views

    return views.test_crops(frames, self._config)[0]


def extract(
  config,
  table,
  encoder: 'encoding.Encoder',
  step: int,
  length: int,
  subset: str,
  output: str,
  told: Mapping[str, Any] | None = None,
  hosts: sharing.Hosts = sharing.ALONE,
) -> None:
  """Writes features, and annotations where there are any, of all records of an index.

  Args:
    config: the experiment's validation data.
    table: index of the records.
    encoder: of clips, see the class.
    step: frames from a window to the next.
    length: steps of the features.
    subset: of the annotations.
    output: the .npz; annotations go to a .json beside it.
    told: what else tells the features from those of another encoder or other records.
    hosts: that do it together; the first one writes.

  Raises:
    UserError: a video is there twice, or none can be read.
  """
  settings = {**(told or {}), 'window_step': step, 'length': length}
  whole = store.Store(f'{output}.partial', settings, renew=True)
  encode = WindowEncoder(config, encoder, step, length)
  sharing.fill(
    whole, hosts, len(table), 1, lambda kept, rows: _fill(kept, table, encode, rows)
  )
  if hosts.index:
    print(f'share {hosts.index + 1} of {hosts.count} is done; host 1 writes')
    return
  whole.look()
  _write(whole.arrays(), table, subset, output)
  shutil.rmtree(whole.folder)


def _fill(
  kept: store.Store, table, encode: Callable[[Any], np.ndarray], records: range
) -> None:
  """Appends features and annotations of some records, those that are not there yet."""
  first = max(kept.next, records.start)
  if first > records.start:
    done = first - records.start
    print(f'windows: goes on behind {done} of {len(records)} videos', file=sys.stderr)
  seen: set[str] = set()
  for row, film, values in _encoded(table, encode, range(first, records.stop)):
    _check_new(seen, film.name, table, row)
    entry = {'name': film.name, **database_entry(film, table.label_names, '')}
    kept.append({'features': values[None], 'records': np.array([row]), 'entry': [entry]})
    kept.mark(row + 1)


def _check_new(seen: set[str], name: str, table, row: int) -> None:
  if name in seen:
    raise UserError(
      f'{table.names()[row]}: {name} is there twice; convert whole videos, one record each'
    )
  seen.add(name)


def _write(arrays: Mapping[str, Any], table, subset: str, output: str) -> None:
  """Writes what all records gave."""
  if not arrays:
    raise UserError(f'{table.files[0]} ...: none of the {len(table)} records can be read')
  seen: set[str] = set()
  database = {}
  for row, entry in zip(arrays['records'], arrays['entry'], strict=True):
    name = entry.pop('name')
    _check_new(seen, name, table, int(row))
    database[name] = entry | {'subset': subset}
  durations = np.array([entry['duration'] for entry in database.values()])
  features.save(
    features.VideoFeatures(arrays['features'], [*database], durations), output
  )
  if any(entry['annotations'] for entry in database.values()):
    content = json.dumps({'version': 'VERSION 1.3', 'database': database}) + '\n'
    files.write_atomically(os.path.splitext(output)[0] + '.json', content.encode())
  print(f'features of {len(database)} of {len(table)} videos: {output}')
  unread = len(table) - len(database)
  if unread or table.skipped:
    print(
      f'note: {unread} videos could not be read, {table.skipped} sources gave no record at '
      'conversion; annotations written beside leave them out, so a score by those is of '
      'fewer videos than the set has'
    )


def _encoded(
  table, encode: Callable[[Any], np.ndarray], records: range
) -> Iterator[tuple[int, Any, np.ndarray]]:
  """Row, film and features of those of some records that can be read; names the others."""
  import tensorflow as tf
  import tqdm

  names = table.names()
  for row in tqdm.tqdm(records, 'windows', file=sys.stderr, leave=False):
    try:
      film = read_film(table, row)
      values = encode(film)
    except tf.errors.OpError as error:
      # Decoding is lazy: damage may show only where the windows are made.
      print(f'skipped {names[row]}: {str(error).splitlines()[0]}', file=sys.stderr)
      continue
    yield row, film, values


def main(argv: Sequence[str]) -> None:
  """Extracts."""
  del argv
  params = command_line.load_experiment(FLAGS)
  if FLAGS.dry_run:
    from official.video.estimate import dry_run

    dry_run.tell(params, 'windows', ['validation_data'])
    return
  command_line.require(FLAGS, 'output')
  if bool(FLAGS.checkpoint) == bool(FLAGS.saved_model):
    raise UserError('give one of --checkpoint and --saved_model')
  files.check_output(FLAGS.output, '--output', is_folder=False)
  hosts = sharing.hosts_of(params.runtime)
  from official.video.scoring import of_features
  from official.video.serving import encoders
  from official.video.settings import experiment

  task = experiment.build_task(params)
  with command_line.encoding_strategy(params.runtime.num_gpus).scope():
    encoder = encoders.encoder_of(params, task, FLAGS.checkpoint, FLAGS.saved_model)
  extract(
    params.task.validation_data,
    task.validation_index,
    encoder,
    FLAGS.window_step,
    FLAGS.length,
    FLAGS.subset,
    FLAGS.output,
    {
      'encoder': of_features.identity(params, FLAGS.checkpoint or FLAGS.saved_model),
      **of_features.shown(params.task.validation_data, task.validation_index),
    },
    hosts,
  )


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

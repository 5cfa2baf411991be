"""What of a run is for TensorBoard alone: views, confusions, a map of features, parameters."""

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from official.video import files, scalars
from official.video.settings import experiment, leaves
from official.video.tasks import seen

# Clips whose views are shown, and frames of each.
CLIPS, FRAMES = 4, 8
_GAP = 2
# Of a map that a browser turns: rows, and numbers in all.
_MOST_ROWS, _MOST_NUMBERS = 5000, 2_500_000
_SIDE, _MOST_NAMED, _MARGIN = 480, 40, 110
_DARKEST = np.array([8, 64, 129])
FEATURES, METADATA, PROJECTOR = (
  'features.tsv',
  'features_metadata.tsv',
  'projector_config.pbtxt',
)


def film_strip(views: np.ndarray) -> np.ndarray:
  """Views of a clip as one picture: a row each, time to the right.

  Args:
    views: [V, T, H, W, 3] floats from 0 to 1, or uint8.

  Returns:
    [V (H + gap) - gap, t (W + gap) - gap, 3] uint8 of t evenly spaced frames.
  """
  views = np.asarray(views)
  if views.dtype != np.uint8:
    views = (np.clip(views, 0, 1) * 255).round().astype(np.uint8)
  times = np.linspace(0, views.shape[1] - 1, min(FRAMES, views.shape[1]))
  views = views[:, times.round().astype(int)]
  gap = ((0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0))
  padded = np.pad(views, gap, constant_values=255)
  rows = [np.concatenate(list(view), 1) for view in padded]
  return np.concatenate(rows, 0)[:-_GAP, :-_GAP]


def seen_views(task: Any) -> dict[str, np.ndarray]:
  """The views of the first clips of training, by name, [B, V, T, H, W, 3].

  They are what the first step gets; see `seen.first_batch`.
  """
  batch = seen.first_batch(task, task.task_config.train_data, CLIPS)
  return {name: views[:CLIPS].numpy() for name, views in task.views_of(batch).items()}


def confusion_picture(matrix: np.ndarray, names: list[str]) -> np.ndarray:
  """Counts as a picture: a row a class, the darker the more of it went to a column.

  Args:
    matrix: [C, C]; row: label, column: predicted class.
    names: of the classes, or none; written where there are not too many.

  Returns:
    [H, W, 3] uint8.
  """
  matrix = np.asarray(matrix, np.float64)
  shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
  colors = 255 + shares[..., None] * (_DARKEST - 255)
  cells = Image.fromarray(colors.round().astype(np.uint8))
  each = max(1, _SIDE // len(matrix))
  cells = cells.resize([each * len(matrix)] * 2, Image.Resampling.NEAREST)
  if not names or len(names) > _MOST_NAMED:
    return np.asarray(cells)
  picture = Image.new('RGB', (cells.width + _MARGIN, cells.height), 'white')
  picture.paste(cells, (_MARGIN, 0))
  draw = ImageDraw.Draw(picture)
  for row, name in enumerate(names):
    # The font that comes with the library has Latin letters.
    text = name[:18].encode('latin-1', 'replace').decode('latin-1')
    draw.text((_MARGIN - 4, (row + 0.5) * each), text, fill='black', anchor='rm')
  return np.asarray(picture)


# What runs are compared by: fields that begin so come first, the first of them foremost.
_FOREMOST = (
  *('task.train_data.global_batch_size', 'trainer.train_steps'),
  *('trainer.optimizer_config.learning_rate.', 'task.losses.'),
  *('task.train_data.augmentation.', 'task.train_data.sampler.', 'task.model.'),
  *('task.train_data.', 'task.', 'trainer.', ''),
)


def compared(values: Mapping[str, Any]) -> list[str]:
  """Names of the parameters that TensorBoard compares runs by, the foremost first.

  Left out are those of families that are not the chosen one, those that are not set, and
  where the data lies.

  Args:
    values: by dotted name; 'x.type' chooses among the groups below 'x'.
  """
  others = {
    f'{place}.{group}.'
    for name, kind in values.items()
    if name.endswith('.type') and any(k.startswith(f'{name[:-4]}{kind}.') for k in values)
    for place in [name[:-5]]
    for group in {
      k[len(place) + 1 :].partition('.')[0]
      for k in values
      if k.startswith(f'{place}.') and k.count('.') > name.count('.')
    }
    if group != kind
  }
  kept = [
    name
    for name, value in values.items()
    if value not in (None, '', 'None')
    and not name.endswith('input_path')
    and not any(name.startswith(other) for other in others)
  ]
  first = {
    name: next(n for n, x in enumerate(_FOREMOST) if name.startswith(x)) for name in kept
  }
  return sorted(kept, key=lambda name: first[name])


def _text(value: str) -> str:
  """A text as protocol buffers hold it; names of files need not be UTF-8."""
  return value.encode('utf-8', 'backslashreplace').decode()


class Board:
  """Writes it into the folders of a run that TensorBoard reads."""

  def __init__(self, folder: str, validation_folder: str, task: Any):
    """Initializes the board; nothing is written.

    Args:
      folder: of the run.
      validation_folder: of the event files of validation.
      task: whose views, classes and records are shown.
    """
    self._folder, self._validation, self._task = folder, validation_folder, task

  def begin(self, params: Any) -> None:
    """Writes the parameters of a run, so that TensorBoard compares runs by them."""
    from tensorboard.plugins.hparams import api

    plain = {
      name: value if isinstance(value, (bool, int, float)) else _text(str(value))
      for name, value in leaves.flat(params.as_dict()).items()
    }
    trial = _text(os.path.basename(os.path.normpath(files.shown(self._folder))))
    text = experiment.to_yaml(params).replace('\n', '\n    ')
    with tf.summary.create_file_writer(self._folder).as_default():
      names = compared(leaves.flat(params.as_dict()))
      # Of the scores in the folder of validation, which lies in the run's.
      group = os.path.basename(os.path.normpath(self._validation))
      scores = dict.fromkeys(map(scalars.published, self._task.score_headline))
      api.hparams_config(
        [api.HParam(name) for name in names],
        [api.Metric(tag, group=group, display_name=tag) for tag in scores],
      )
      api.hparams({name: plain[name] for name in names}, trial_id=trial)
      tf.summary.text('params', f'    {text}', 0)

  def views(self, writer: tf.summary.SummaryWriter) -> None:
    """Writes film strips of some training clips."""
    with writer.as_default():
      for name, clips in seen_views(self._task).items():
        for number, views in enumerate(clips):
          tf.summary.image(f'{name}/{number}', film_strip(views)[None], 0)

  def validated(
    self, writer: tf.summary.SummaryWriter, outputs: Mapping[str, np.ndarray], step: int
  ) -> None:
    """Writes what a validation's outputs show beside its scores.

    Args:
      writer: of validation.
      outputs: of all valid samples.
      step: that was validated.
    """
    matrix = self._task.confusion(outputs)
    if matrix is not None:
      names = list(self._task.label_names())
      with writer.as_default():
        tf.summary.image('confusion', confusion_picture(matrix, names)[None], step)
    if 'feature' in outputs:
      self._write_map(outputs)

  def _write_map(self, outputs: Mapping[str, np.ndarray]) -> None:
    """Writes the files of the embedding projector, in place of those before."""
    table = self._task.validation_index
    features = np.asarray(outputs['feature'], np.float32)
    most = max(1, min(_MOST_ROWS, _MOST_NUMBERS // features.shape[1]))
    rows = np.unique(np.linspace(0, len(features) - 1, most).round().astype(int))
    records, names = outputs['record'][rows], table.names()
    metadata = ['record\tclass\tvideo']
    for record, label in zip(records, outputs['label'][rows], strict=True):
      known = 0 <= label < len(table.label_names)
      named = table.label_names[label] if known else str(label)
      video = record if table.sources is None else table.sources[record]
      cells = (names[record], named, str(video))
      metadata.append('\t'.join(' '.join(cell.split()) for cell in cells))
    text = io.StringIO()
    np.savetxt(text, features[rows], '%.4g', '\t')
    for name, content in (
      (FEATURES, text.getvalue()),
      (METADATA, '\n'.join(metadata) + '\n'),
    ):
      path = os.path.join(self._validation, name)
      files.write_atomically(path, content.encode('utf-8', 'backslashreplace'))
    # TensorBoard shows weights of the checkpoint for folders that say nothing else. No path
    # leads upwards in a bucket.
    others = (self._folder, os.path.join(self._folder, 'train'))
    for folder in (self._validation, *(() if files.is_remote(self._folder) else others)):
      way = os.path.relpath(self._validation, folder)
      paths = [os.path.normpath(os.path.join(way, name)) for name in (FEATURES, METADATA)]
      config = (
        'embeddings {\n  tensor_name: "validation features"\n'
        f'  tensor_path: "{paths[0]}"\n  metadata_path: "{paths[1]}"\n}}\n'
      )
      files.write_atomically(os.path.join(folder, PROJECTOR), config.encode())

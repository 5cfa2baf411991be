"""What of a run is for TensorBoard alone: views, confusions, a map of features, parameters."""

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from official.video import files
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
    name = _text(os.path.basename(os.path.normpath(files.shown(self._folder))))
    text = experiment.to_yaml(params).replace('\n', '\n    ')
    with tf.summary.create_file_writer(self._folder).as_default():
      api.hparams(plain, trial_id=name)
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
    config = (
      'embeddings {\n  tensor_name: "validation features"\n'
      f'  tensor_path: "{FEATURES}"\n  metadata_path: "{METADATA}"\n}}\n'
    )
    for name, content in (
      (FEATURES, text.getvalue()),
      (METADATA, '\n'.join(metadata) + '\n'),
      (PROJECTOR, config),
    ):
      path = os.path.join(self._validation, name)
      files.write_atomically(path, content.encode('utf-8', 'backslashreplace'))

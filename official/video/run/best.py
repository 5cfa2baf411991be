"""The best checkpoint of a run, kept in a folder below its own.

Which one that is follows from the scores that came before a step, so a run that was stopped
anywhere keeps the one that an unbroken run would have kept.
"""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from official.core import config_definitions as cfg
from official.video import files, scalars
from official.video.checkpoints import saved
from official.video.errors import UserError
from official.video.run import journal

# Step and score of the checkpoint that is kept.
NOTE = 'best.json'
_COMPARISONS = ('higher', 'lower')


def of_config(
  config: cfg.TrainerConfig, model_dir: str, writes_to: str = ''
) -> 'BestCheckpoint | None':
  """What keeps the best checkpoint as the trainer's config asks; None if it does not.

  Args:
    config: its fields `best_checkpoint_...`.
    model_dir: the run's folder.
    writes_to: what it is kept in instead of the run's folder, by workers of which another
      one writes.

  Raises:
    UserError: the fields don't say which folder, score or order.
  """
  folder, metric = (
    config.best_checkpoint_export_subdir,
    config.best_checkpoint_eval_metric,
  )
  if not folder and not metric:
    return None
  if not (folder and metric):
    missing = 'eval_metric' if folder else 'export_subdir'
    raise UserError(
      f'trainer.best_checkpoint_{missing} is not set; the best checkpoint is kept in a '
      'folder by a score of validation, so name both'
    )
  if os.path.basename(folder) != folder or folder.startswith('.'):
    raise UserError(
      f'trainer.best_checkpoint_export_subdir {folder!r}: expected the name of a folder '
      "right below the run's, such as 'best'"
    )
  if config.best_checkpoint_metric_comp not in _COMPARISONS:
    raise UserError(
      f'trainer.best_checkpoint_metric_comp {config.best_checkpoint_metric_comp!r}: '
      f'expected {" or ".join(_COMPARISONS)}'
    )
  return BestCheckpoint(
    model_dir,
    folder,
    metric,
    config.best_checkpoint_metric_comp == 'higher',
    writes_to or model_dir,
  )


class BestCheckpoint:
  """Saves a checkpoint whenever validation scores better than before.

  What the Model Garden's trainer asks of a checkpoint exporter.

  Attributes:
    best_ckpt_logs: the best score so far, by the name that the config has for it.
  """

  def __init__(
    self, model_dir: str, folder: str, metric: str, higher: bool, writes_to: str
  ):
    """Reads which checkpoint is kept, and the scores of the run; nothing is written.

    Args:
      model_dir: the run's folder.
      folder: of the best checkpoint, below the run's.
      metric: name of the score, plain or published.
      higher: whether the score is to rise.
      writes_to: see `of_config`.
    """
    self.best_ckpt_logs: Mapping[str, float] = {}
    self._named, self._metric, self._higher = metric, scalars.published(metric), higher
    self._folder = os.path.join(writes_to, folder)
    self._note = os.path.join(self._folder, NOTE)
    # Read before the first evaluation, so that all workers come to the same answer.
    self._kept = _read_note(os.path.join(model_dir, folder, NOTE))
    self._scores = journal.Journal(model_dir).scores('validation', self._metric)
    self._checkpoints: saved.Checkpoints | None = None

  def maybe_export_checkpoint(
    self, checkpoint: tf.train.Checkpoint, eval_logs: Mapping[str, Any], global_step: int
  ) -> bool:
    """Saves the checkpoint if its score is better than all before; whether it was.

    Raises:
      UserError: the score is not among those of the validation.
    """
    step = int(global_step)
    logs = scalars.publish(eval_logs)
    if self._metric not in logs:
      raise UserError(
        f'trainer.best_checkpoint_eval_metric {self._metric!r}: the validation gives '
        f'{", ".join(sorted(logs))}'
      )
    score = float(logs[self._metric])
    before = self._best_before(step)
    self._scores[step] = score
    better = before is None or self._is_better(score, before)
    best = score if before is None or better else before
    self.best_ckpt_logs = {self._named: best}
    if better:
      self._save(checkpoint, step, score)
    return better

  def _best_before(self, step: int) -> float | None:
    """The score to beat at a step; None where nothing is kept."""
    if self._kept is None or self._kept[0] <= step:
      return None if self._kept is None else self._kept[1]
    # The run went back to a checkpoint from before the kept one.
    earlier = [score for at, score in self._scores.items() if at < step]
    ranked = sorted(earlier, key=lambda x: (math.isnan(x), -x if self._higher else x))
    return ranked[0] if ranked else None

  def _is_better(self, score: float, than: float) -> bool:
    if math.isnan(than):
      return not math.isnan(score)
    return score > than if self._higher else score < than

  def _save(self, checkpoint: tf.train.Checkpoint, step: int, score: float) -> None:
    if self._checkpoints is None:
      tf.io.gfile.makedirs(self._folder)
      self._checkpoints = saved.Checkpoints(checkpoint, self._folder, 1, 1)
    self._checkpoints.save(step)
    text = json.dumps({'step': step, self._metric: score})
    files.write_atomically(self._note, text.encode())
    self._kept = step, score


def kept(config: cfg.TrainerConfig, model_dir: str) -> dict[str, float]:
  """Step and score of a run's best checkpoint, by published name; empty where none is."""
  folder = config.best_checkpoint_export_subdir
  note = folder and _read_note(os.path.join(model_dir, folder, NOTE))
  if not note:
    return {}
  return {
    'step': note[0],
    scalars.published(config.best_checkpoint_eval_metric): note[1],
  }


def _read_note(path: str) -> tuple[int, float] | None:
  """Step and score of the kept checkpoint; None where none is kept whole."""
  if not tf.io.gfile.exists(path) or not saved.newest(os.path.dirname(path)):
    return None
  try:
    with tf.io.gfile.GFile(path) as file:
      note = json.loads(file.read())
    step = int(note.pop('step'))
    return step, float(next(iter(note.values())))
  except (tf.errors.OpError, ValueError, KeyError, StopIteration, AttributeError):
    return None

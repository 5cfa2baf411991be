"""Scores a checkpoint by its task's own protocol, such as frame mAP or tracking."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from official.video import files, scalars
from official.video.checkpoints import origin, restore
from official.video.evaluation import coverage
from official.video.run import console

# Of the names that scores are published by, those that are told.
_GROUPS = ('score', 'probe', 'pretext', 'loss')


def run(task, checkpoint: str | None, folder: str) -> dict[str, Any]:
  """Runs the task's protocol, and prints and writes what came of it.

  Args:
    task: of the experiment.
    checkpoint: prefix or folder; None for random weights.
    folder: where scores and predictions are written; nowhere if empty.

  Returns:
    The scores.

  Raises:
    UserError: the checkpoint does not fit, or data is missing.
  """
  found = task.check_origin(checkpoint, origin.HEADS) if checkpoint else None
  task.check_data(False)
  model = task.built_model()
  if checkpoint and found:
    restore.restore(model.checkpoint_items, checkpoint)
    found.tell()
  with files.storage_errors(folder):
    if folder:
      os.makedirs(folder, exist_ok=True)
    scores = task.run_protocol(model, folder)
  print(f'task       {"  ".join(_shown(scores))}')
  if 'protocol' in scores:
    print(scores['protocol'])
  for line in coverage.lines(scores):
    print(line)
  if folder:
    with files.storage_errors(folder):
      coverage.write(scores, folder)
  return scores


def _shown(scores: Mapping[str, Any]) -> Iterator[str]:
  """The scores of the task, as other protocols are told; scores.json has all."""
  for name, value in scores.items():
    published = scalars.published(name)
    if not isinstance(value, float) or published.partition('/')[0] not in _GROUPS:
      continue
    share = scalars.is_share(published)
    yield f'{name} ' + (f'{100 * value:.1f} %' if share else console.three(value))

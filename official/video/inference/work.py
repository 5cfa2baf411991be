"""What an embedding asks of a model for each file, on whatever machine that is done."""

import dataclasses
import math
import sys
from collections.abc import Collection, Sequence
from typing import Any

from official.video import files
from official.video.errors import UserError
from official.video.inference import footage, tables
from official.video.inference.journal import Journal
from official.video.inference.model import Model
from tfrecords_tools.progress import ProgressBar

# Of windows there are several in a file, so that a group of a few fills its batches.
_FILES_OF_WINDOWS = 4


@dataclasses.dataclass(frozen=True)
class Asked:
  """What is asked, the same for all files of an output.

  Attributes:
    outputs: their names, sorted.
    window_step: see `Model.answers`; so the others.
    window_length: see there.
    storage: see there.
    batch_size: see there.
  """

  outputs: Sequence[str]
  window_step: float
  window_length: float
  storage: footage.Storage
  batch_size: int

  def settings(self, model: Model) -> dict[str, Any]:
    """What rows that belong together have in common."""
    return {
      'identity': model.identity,
      'model': model.path,
      'outputs': list(self.outputs),
      'window_step': self.window_step,
      'window_length': self.window_length,
      'storage': dataclasses.asdict(self.storage),
    }

  def group(self, model: Model) -> int:
    """How many files share batches: what a kill costs, and what the last batch wastes."""
    if self.window_step:
      return _FILES_OF_WINDOWS
    return self.batch_size // math.gcd(self.batch_size, model.config.num_test_clips)

  def work_off(
    self,
    model: Model,
    paths: Sequence[str],
    journal: Journal,
    num_workers: int,
    bar: ProgressBar | None = None,
  ) -> None:
    """Journals what the model gives for files, and names those that give nothing.

    Args:
      model: that is asked.
      paths: whole groups.
      journal: where answers go; what it has already stays.
      num_workers: processes that decode ahead.
      bar: where to show progress; without, nobody looks on.
    """
    answers = model.answers(
      paths,
      window_step=self.window_step,
      window_length=self.window_length,
      storage=self.storage,
      num_workers=num_workers,
      batch_size=self.batch_size,
      group=self.group(model),
    )
    for answer in answers:
      if answer.failure:
        journal.fail(answer.path, answer.failure)
        if bar:
          tell_failure(answer.path, answer.failure)
      elif answer.path not in journal.done():
        values = {name: answer.outputs[name] for name in self.outputs}
        path = [answer.path] * len(answer.start)
        journal.add(tables.Block(path, answer.start, answer.end, values))
      if bar:
        bar.add(1, bool(answer.failure))


def tell_failure(path: str, reason: str) -> None:
  """Names a file that gives no rows."""
  print(f'skipped {files.shown(path)}: {reason}', file=sys.stderr)


def left(paths: Sequence[str], seen: Collection[str], group: int) -> list[str]:
  """The groups of files of which not all were seen, whole: so they round as before."""
  groups = [paths[first : first + group] for first in range(0, len(paths), group)]
  return [path for files in groups if set(files) - set(seen) for path in files]


def output_names(model: Model, outputs: Sequence[str]) -> list[str]:
  """The outputs that are asked for, sorted.

  Raises:
    UserError: the model has none of that name.
  """
  known = ['feature']
  known += ['probability'] if model.classifies else []
  known += ['embedding'] if model.reads_text else []
  for name in outputs:
    if name not in known:
      raise UserError(f'--outputs {name!r}: this model has {", ".join(known)}')
  return sorted(set(outputs or {'feature', model.output}))

"""Batch and steps of every registered experiment, known before TensorFlow is there.

`python -m official.video.settings.defaults` writes them anew after a change; a test says so.
"""

import functools
import json
import pathlib
import sys
from typing import NamedTuple

from official.video.settings import methods

PATH = pathlib.Path(__file__).with_suffix('.json')


class Defaults(NamedTuple):
  """What an experiment has where nothing else is said.

  Attributes:
    batch: clips of a training step.
    steps: of the run.
    epochs: of it, where the steps follow from the data; else 0.
  """

  batch: int
  steps: int
  epochs: float


@functools.cache
def known() -> dict[str, Defaults]:
  """Those of this library's experiments by name, as they were written down."""
  rows = json.loads(PATH.read_text())
  return {name: Defaults(*row) for name, row in rows.items()}


def registered() -> dict[str, Defaults]:
  """Those of this library's experiments as they are registered now."""
  from official.core import exp_factory
  from official.video.settings import experiment

  found = {}
  for name in experiment.experiment_names():
    if not name.startswith(methods.METHODS):
      continue  # Of another package.
    params = exp_factory.get_exp_config(name)
    trainer, batch = params.trainer, params.task.train_data.global_batch_size
    epochs = float(getattr(trainer, 'epochs', 0))
    found[name] = Defaults(batch, trainer.train_steps, epochs)
  return found


def text() -> str:
  """The file as it should be: a line an experiment."""
  rows = (
    f'  {json.dumps(name)}: {json.dumps(row)}' for name, row in registered().items()
  )
  return '{\n' + ',\n'.join(rows) + '\n}\n'


if __name__ == '__main__':
  PATH.write_text(text())
  print(f'wrote {PATH}', file=sys.stderr)

"""Which recipes stand for the rows that papers and public pages print.

python -m official.video.settings.rows > docs/rows.md
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator

import yaml

from official.video.settings import recipes

_TABLE = pathlib.Path(__file__).with_suffix('.yaml')
HEAD = """\
# Every published row and its recipe

Each row of the papers' and public pages' tables, the published figure, and the recipes that
are run one after the other for it: pretraining, then the protocol. A recipe's head has its
command; *a + b* is two files, `--config_file=a --config_file=b`. For 8 GPUs or a TPU slice see
[hardware.md](hardware.md). **None was run here: the data are not at hand.** An empty figure
could not be confirmed. Written by `python -m official.video.settings.rows`.

| method | pretraining, model | protocol | published, not measured here | source | recipes |
|---|---|---|---|---|---|
"""


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of a published table.

  Attributes:
    method: that it is of.
    model: and what it was pretrained on.
    protocol: that was scored.
    source: of the figure.
    stages: of each stage, its recipes by their short names.
    published: the figure; empty where none could be confirmed.
  """

  method: str
  model: str
  protocol: str
  source: str
  stages: tuple[tuple[str, ...], ...]
  published: str = ''

  def line(self) -> str:
    """Of the table."""
    recipes = ', then '.join(
      ' + '.join(f'[{name}](../configs/{name}.yaml)' for name in stage)
      for stage in self.stages
    )
    cells = (self.method, self.model, self.protocol, self.published, self.source, recipes)
    return f'| {" | ".join(cells)} |\n'


def read() -> Iterator[Row]:
  """All rows, in the order of the file."""
  for group in yaml.safe_load(_TABLE.read_text()):
    for row in group['rows']:
      stages = tuple(tuple(stage.split(' + ')) for stage in row.pop('files'))
      yield Row(group['method'], source=group['source'], stages=stages, **row)


def text() -> str:
  """The table's page."""
  return HEAD + ''.join(row.line() for row in read())


# Protocols that give the figures of rows: the task's own, in a run too and that of
# `official.video.temporal.detect`, or a probe's of `evaluate`.
_OWN = frozenset({'classify', 'task', 'validation', 'G-TAD'})
_PROBES = frozenset({'linear', 'linear_sgd', 'classify', 'task', 'validation'})


@functools.cache
def published(experiment: str, protocols: tuple[str, ...] = ('task',)) -> list[Row]:
  """The rows with a figure that some protocols of an experiment's evaluation measure.

  Args:
    experiment: name of it, or 'gtad' of `official.video.temporal.detect`.
    protocols: that were run, as ledgers name them; by default the task's own.
  """

  def measured(row: Row) -> bool:
    linear = row.protocol.startswith('linear')
    given = (_PROBES if linear else _OWN) & set(protocols)
    return bool(given) and recipes.experiment_of(row.stages[-1][0]) == experiment

  return [row for row in read() if row.published and measured(row)]


if __name__ == '__main__':
  print(text(), end='')

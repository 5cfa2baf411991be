"""An index beside a file of features: finds near rows without reading all of them.

A graph of neighbours (HNSW, of usearch), which holds the features as vectors of length 1
and is memory-mapped when it is asked.
"""

import json
import os
import pathlib
import sys
from collections.abc import Iterator

import numpy as np

from official.video import extras, files
from official.video.errors import UserError
from official.video.inference import tables

SUFFIX = 'usearch'
# Candidates that are looked at for each row that is told: what a graph misses is mostly
# among its next ones.
_MORE = 8


class Index:
  """Rows of a file of features by their nearness to a vector.

  Attributes:
    rows: how many it holds.
  """

  def __init__(self, table: tables.Table, name: str):
    """Opens the index of an output, which is made where the features have none yet.

    Args:
      table: of features.
      name: of the output.

    Raises:
      UserError: usearch is not installed, or the file can't be read or written.
    """
    extras.require('index', '--index')
    import usearch.index

    self._table, self._name = table, name
    self.path = f'{table.path}.{name}.{SUFFIX}'
    if not self._is_current():
      files.check_output(self.path, '--index', is_folder=False)
      self._make()
    try:
      graph = usearch.index.Index.restore(self.path, view=True)
    except (RuntimeError, ValueError, TypeError) as error:
      raise UserError(f'{self.path}: is no whole index; remove it') from error
    if graph is None:
      raise UserError(f'{self.path}: is no whole index; remove it')
    self._graph, self.rows = graph, len(graph)

  def nearest(self, vector: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows about as near to a unit vector [D] as any.

    Returns:
      Their numbers [n], and cosines [n], largest first, of equal ones the first row.
    """
    asked = min(self.rows, count * _MORE)
    rows = np.asarray(self._graph.search(vector, asked).keys, np.int64)
    rows = np.sort(rows)
    cosine = np.asarray(self._graph.get(rows), np.float32).reshape(len(rows), -1) @ vector
    order = np.argsort(-cosine, kind='stable')[:count]
    return rows[order], cosine[order]

  def _of(self) -> dict[str, int]:
    """What tells that the features are those of the index."""
    about = os.stat(self._table.path)
    return {'bytes': about.st_size, 'modified_ns': about.st_mtime_ns}

  def _is_current(self) -> bool:
    try:
      known = json.loads(pathlib.Path(f'{self.path}.json').read_text())
    except (OSError, ValueError):
      return False
    return known == self._of() and os.path.exists(self.path)

  def _make(self) -> None:
    import usearch.index

    found, graph, rows = self._of(), None, 0
    for values in units(self._table, self._name):
      if graph is None:
        graph = usearch.index.Index(ndim=values.shape[1], metric='ip', dtype='f32')
      # By one thread: of rows that several add at once, usearch leaves some unreachable
      # (1 in 1,000 with two threads, more than 1 in 100 with 16), and each time others.
      graph.add(np.arange(rows, rows + len(values)), values, threads=1)
      rows += len(values)
    if graph is None:
      raise UserError(f'{self._table.path}: holds no rows')
    partial = f'{self.path}.partial'
    with files.storage_errors(self.path):
      try:
        graph.save(partial)
        os.replace(partial, self.path)
      finally:
        pathlib.Path(partial).unlink(missing_ok=True)
      files.write_atomically(f'{self.path}.json', json.dumps(found).encode())
    print(f'{self.path}: an index of {rows} rows, for the next searches', file=sys.stderr)


def units(table: tables.Table, name: str) -> Iterator[np.ndarray]:
  """The rows of an output in blocks [n, D], each of length 1.

  Raises:
    UserError: the table has no output of that name.
  """
  for block in table.blocks():
    yield unit(output_of(table, block, name))


def output_of(table: tables.Table, block: tables.Block, name: str) -> np.ndarray:
  """[N, D] of an output; raises `UserError` where there is none of that name."""
  if name not in block.outputs:
    raise UserError(f'{table.path}: has no output {name!r}, only {list(block.outputs)}')
  return block.outputs[name]


def unit(rows: np.ndarray) -> np.ndarray:
  """Rows [N, D] of length 1; those of nothing stay."""
  return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

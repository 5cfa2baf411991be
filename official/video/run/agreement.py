"""Whether all workers of a run were told the same."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from official.video.data import index
from official.video.errors import UserError
from official.video.settings import leaves

# What each worker has of its own.
_OWN = frozenset({'runtime.task_index'})


def facts(
  params: Any, tables: Mapping[str, index.RecordIndex], gin: str
) -> dict[str, str]:
  """What has to be the same on every worker, by name.

  Args:
    params: the resolved experiment.
    tables: the records of each data config, by its name.
    gin: the gin bindings.
  """
  fields = leaves.flat(params.as_dict())
  found = {name: repr(value) for name, value in fields.items() if name not in _OWN}
  for name, table in tables.items():
    content = hashlib.sha256()
    for array in (table.file_id, table.size, table.labels, table.sources):
      content.update(b'' if array is None else np.ascontiguousarray(array).tobytes())
    found[f'the records of {name}'] = content.hexdigest()
  return found | {'the gin bindings': gin}


def _numbers(texts: list[str]) -> np.ndarray:
  """[N] float32 whole numbers that stand for texts; float32 holds 24 bits of them."""
  digests = [hashlib.sha256(text.encode()).hexdigest()[:6] for text in texts]
  return np.array([int(digest, 16) for digest in digests], np.float32)


def check(strategy: tf.distribute.Strategy, mine: Mapping[str, str]) -> None:
  """Compares facts over all workers, which wait for each other here.

  Raises:
    UserError: they differ; on every worker.
  """

  @tf.function(autograph=False)
  def gathered(row):
    # The collectives go by the device that a tensor was made on.
    return strategy.gather(strategy.run(tf.identity, args=(row,)), axis=0)

  names = sorted(mine)
  # Other experiments have other fields, and rows of other lengths can't be exchanged.
  for labels, texts in (
    (['the fields'], [' '.join(names)]),
    (names, [mine[name] for name in names]),
  ):
    rows = np.asarray(gathered(tf.constant(_numbers(texts)[None])))
    if differing := differences(rows, labels):
      more = f' and {len(differing) - 5} more' if len(differing) > 5 else ''
      raise UserError(
        f'the workers of this run differ in {", ".join(differing[:5])}{more}; start all '
        'with the same command and data, apart from runtime.task_index'
      )


def differences(rows: np.ndarray, names: list[str]) -> list[str]:
  """Names of the columns of [workers, N] that are not the same in all rows."""
  return [names[i] for i in np.flatnonzero((rows != rows[:1]).any(0))]

"""A ledger of evaluations: a line each, and the table that is made of it."""

import datetime
import hashlib
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from official.video import files
from official.video.errors import UserError
from official.video.evaluation import coverage
from official.video.settings import rows
from official.video.version import __version__

# Of a run's own folder, and of what evaluate writes to.
NAME = 'ledger.jsonl'
# The protocol of a run's own validations, of which its reports tell too.
VALIDATION = 'validation'
# What a score is not judged by.
_ASIDE = ('loss', 'cross_entropy', 'complete')


def entry(
  params: Any,
  name: str,
  source: str,
  protocols: Sequence[str],
  scores: Mapping[str, Any],
) -> dict[str, Any]:
  """What the ledger keeps of an evaluation.

  Args:
    params: resolved experiment.
    name: of the experiment.
    source: checkpoint or SavedModel that was scored; empty for random weights.
    protocols: that were run.
    scores: by name, or by protocol and name.

  Returns:
    Plain values: when, what (with the SHA-256 of the weights' index and of the config, and
    the step of a checkpoint), on which data, by which protocols, the scores with
    `complete`, and the versions.
  """
  import gin

  from official.video.settings import experiment

  # What gin binds is no part of the experiment's fields.
  config = (experiment.to_yaml(params) + gin.config_str()).encode()
  data = params.task.validation_data
  return plain(name, source or 'random weights', protocols, scores) | {
    'source_sha256': weights_hash(source) if source else '',
    'step': step_of(source) if source else None,
    'config_sha256': hashlib.sha256(config).hexdigest(),
    'data': data.input_path or data.tfds_name,
  }


def plain(
  name: str, source: str, protocols: Sequence[str], scores: Mapping[str, Any]
) -> dict[str, Any]:
  """As `entry`, of what is scored without an experiment: features, predictions.

  Args:
    name: what stands for an experiment.
    source: what was scored.
    protocols: that were run.
    scores: see `entry`.
  """
  return {
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'experiment': name,
    'source': source,
    'protocols': list(protocols),
    'scores': coverage.marked(scores),
    'versions': {
      'vidgarden': __version__,
      'tensorflow': importlib.metadata.version('tensorflow'),
    },
  }


def weights_hash(source: str) -> str:
  """SHA-256 of what tells weights apart: a checkpoint's index holds their checksums.

  Args:
    source: checkpoint, folder of checkpoints or SavedModel, one that was read.
  """
  import tensorflow as tf

  from official.video.checkpoints import restore

  index = os.path.join(source, 'variables', 'variables.index')
  if not tf.io.gfile.exists(index):
    index = f'{restore.find_checkpoint(source)}.index'
  with tf.io.gfile.GFile(index, 'rb') as file:
    return hashlib.sha256(file.read()).hexdigest()


def step_of(source: str) -> int | None:
  """Step that the name of a checkpoint tells; None where it tells none.

  Args:
    source: as of `weights_hash`.
  """
  import tensorflow as tf

  from official.video.checkpoints import restore

  if tf.io.gfile.exists(os.path.join(source, 'variables', 'variables.index')):
    return None
  found = re.search(r'-(\d+)$', restore.find_checkpoint(source))
  return int(found[1]) if found else None


def append(path: str, made: Mapping[str, Any]) -> None:
  """Adds a line to a ledger, which need not be there yet.

  Raises:
    UserError: it can't be written.
  """
  line = (json.dumps(made, sort_keys=True, default=float) + '\n').encode()
  with files.storage_errors(path):
    if files.is_remote(path):  # What has no appending gets all of it anew.
      import tensorflow as tf

      if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path, 'rb') as file:
          before = file.read()
        line = before + (b'' if before.endswith(b'\n') or not before else b'\n') + line
      files.write_atomically(path, line)
      return
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, 'ab+') as file:
      if file.tell():  # What a full disk left of a line gets none of this one.
        file.seek(-1, os.SEEK_END)
        line = line if file.read(1) == b'\n' else b'\n' + line
      # One write, so that evaluations at one time don't mix their lines.
      file.write(line)


def read(path: str) -> Iterator[dict[str, Any]]:
  """The entries of a ledger; of a line that was not written to its end a note is told.

  Raises:
    UserError: it can't be read, or a line is none of a ledger's.
  """
  try:
    if files.is_remote(path):
      import tensorflow as tf

      with files.storage_errors(path), tf.io.gfile.GFile(path, 'rb') as remote:
        lines = remote.read().splitlines()
    else:
      with open(path, 'rb') as file:
        lines = file.read().splitlines()
  except OSError as error:
    raise UserError(f'{path}: {error.strerror}; expected a ledger of evaluate') from error
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    try:
      made = json.loads(line)
    except (ValueError, RecursionError) as error:
      if not line.startswith(b'{"') or line.endswith(b'}'):
        raise UserError(f'{path}: line {number} is none that evaluate writes') from error
      print(f'note: {path}: line {number} was not written to its end', file=sys.stderr)
      continue
    try:
      _line(made)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise UserError(f'{path}: line {number} is none that evaluate writes') from error
    yield made


_COLUMNS = (
  *('experiment', 'weights', 'step', 'data', 'protocol', 'measured', 'counted'),
  'published, not measured here',
)
HEAD = f'| {" | ".join(_COLUMNS)} |\n{"|---" * len(_COLUMNS)}|\n'


def table(entries: Sequence[Mapping[str, Any]]) -> str:
  """Measured scores beside the published ones of the same protocol, as Markdown."""
  return HEAD + ''.join(map(_line, entries))


def _line(made: Mapping[str, Any]) -> str:
  scores = made['scores']
  measured = ', '.join(f'{name} {value:.4g}' for name, value in _floats(scores))
  counts = coverage.counts(scores)
  counted = ', '.join(f'{what} {k} of {n}' for what, (k, n) in counts.items())
  published = '; '.join(
    f'{row.published} ({row.model}; {row.protocol})'
    for row in rows.published(made['experiment'], tuple(made['protocols']))
  )
  weights = f'{made["source"]} {made.get("source_sha256", "")[:8]}'.strip()
  protocols = ', '.join(made['protocols'])
  if not scores.get('complete', True):
    counted += ': **not all**'
  step, data = made.get('step'), str(made.get('data') or '')
  cells = (
    *(made['experiment'], weights, '' if step is None else str(step), data),
    *(protocols, measured, counted, published),
  )
  plain = (' '.join(cell.replace('|', '/').split()) for cell in cells)
  return f'| {" | ".join(plain)} |\n'


def _floats(scores: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, float]]:
  for name, value in scores.items():
    if isinstance(value, Mapping):
      yield from _floats(value, f'{prefix}{name} ')
    elif isinstance(value, float) and name not in _ASIDE:
      yield prefix + name, value

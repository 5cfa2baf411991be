"""What a run was and what it scored, in its folder, for people and programs."""

import contextlib
import csv
import datetime
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from official.video import files, scalars
from official.video.data import index
from official.video.errors import UserError

SCORES = 'scores.jsonl'
TABLE = 'scores.csv'
STARTS = 'starts.jsonl'
PACKAGES = ('tensorflow', 'tf-keras', 'tf-models-official', 'numpy', 'vidgarden')


# Why a validation gave no scores.
FAILED = 'failed'
# What stands in a file of lines and is none of ours is put into one of this suffix.
ASIDE = '.set_aside'


def _parsed(line: bytes, fields: Mapping[str, type]) -> dict[str, Any] | None:
  """A line's object; None where it is not one with these fields."""
  try:
    value = json.loads(line)
  except (ValueError, RecursionError):
    return None
  fits = isinstance(value, dict) and all(
    type(value.get(name)) is kind for name, kind in fields.items()
  )
  return value if fits else None


def _read_lines(
  path: str, fields: Mapping[str, type] = {}
) -> tuple[list[dict[str, Any]], list[tuple[int, bytes]]]:
  """The objects of a file of lines; and number and content of lines that are none.

  A last line without its end, of a run that was killed while it wrote, is dropped.
  """
  if not tf.io.gfile.exists(path):
    return [], []
  with tf.io.gfile.GFile(path, 'rb') as file:
    lines = file.read().split(b'\n')
  values = [_parsed(line, fields) for line in lines]
  foreign = [
    (number, line)
    for number, (line, value) in enumerate(zip(lines, values, strict=True), 1)
    if value is None and line.strip() and number < len(lines)
  ]
  return [value for value in values if value is not None], foreign


def _set_aside(path: str, foreign: Sequence[tuple[int, bytes]]) -> None:
  """Keeps foreign lines in a file beside, and names them on stderr."""
  if not foreign:
    return
  with tf.io.gfile.GFile(path + ASIDE, 'ab') as file:
    file.write(b''.join(line + b'\n' for _, line in foreign))
  numbers = ', '.join(str(number) for number, _ in foreign[:5])
  more = f' and {len(foreign) - 5} more' if len(foreign) > 5 else ''
  print(
    f'note: {path}: line {numbers}{more}: not written by a run; set aside in '
    f'{os.path.basename(path)}{ASIDE}',
    file=sys.stderr,
  )


def _write_lines(path: str, lines: Sequence[Mapping[str, Any]]) -> None:
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  files.write_atomically(path, text.encode())


_REPORT = {'kind': str, 'step': int}


def read_scores(model_dir: str) -> tuple[list[dict[str, Any]], list[tuple[int, bytes]]]:
  """The reports of a run by the names of today; and what in their file is none.

  Args:
    model_dir: the run's folder; one without a report has none.
  """
  lines, foreign = _read_lines(os.path.join(model_dir, SCORES), _REPORT)
  return [scalars.read_line(line) for line in lines], foreign


class Journal:
  """The scores of a run, one JSON object a line: kind, step, scores by published name.

  A resumed run drops what was written after its checkpoint and writes it again, so the
  file holds each report once, as an unbroken run would have written it. A table beside it,
  for spreadsheets, has a row for each line, and a column for each name.
  """

  def __init__(self, model_dir: str):
    self._folder = model_dir
    self._path = os.path.join(model_dir, SCORES)
    lines, _ = read_scores(model_dir)
    self._written = {(line['kind'], line['step']) for line in lines if FAILED not in line}
    # Of the table; none before this process has written it.
    self._columns: list[str] = []

  def truncate(self, step: int) -> None:
    """Forgets what was reported after a step, and a validation that failed at it."""
    lines, foreign = read_scores(self._folder)
    _set_aside(self._path, foreign)
    lines = [
      line
      for line in lines
      if line['step'] < step or (line['step'] == step and FAILED not in line)
    ]
    self._written = {(line['kind'], line['step']) for line in lines}
    _write_lines(self._path, lines)
    self._write_table(lines)

  def has(self, kind: str, step: int) -> bool:
    """Whether there is a report of a kind, 'train' or 'validation', at a step."""
    return (kind, step) in self._written

  def scores(self, kind: str, name: str) -> dict[int, float]:
    """One score, by its plain or published name, of all reports of a kind, by step."""
    name = scalars.published(name)
    lines, _ = read_scores(self._folder)
    return {
      line['step']: line[name] for line in lines if line['kind'] == kind and name in line
    }

  def write(self, kind: str, step: int, scores: Mapping[str, Any]) -> None:
    """Adds a report, unless there is one of its kind and step."""
    if self.has(kind, step):
      return
    values = {
      name: np.asarray(value).item()
      for name, value in scores.items()
      if np.ndim(value) == 0
    }
    line = scalars.read_line({'kind': kind, 'step': step} | values)
    self._written.add((kind, step))
    with tf.io.gfile.GFile(self._path, 'a') as file:
      file.write(json.dumps(line) + '\n')
    if set(line) <= set(self._columns):
      with tf.io.gfile.GFile(os.path.join(self._folder, TABLE), 'a') as file:
        file.write(_rows([line], self._columns))
    else:
      self._write_table(read_scores(self._folder)[0])

  def _write_table(self, lines: Sequence[Mapping[str, Any]]) -> None:
    names = dict.fromkeys(name for line in lines for name in line)
    self._columns = list(dict.fromkeys(('kind', 'step', *names)))
    header = dict(zip(self._columns, self._columns, strict=True))
    text = _rows([header, *lines], self._columns)
    files.write_atomically(os.path.join(self._folder, TABLE), text.encode())


def _rows(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
  text = io.StringIO()
  csv.DictWriter(text, columns, lineterminator='\n').writerows(lines)
  return text.getvalue()


def last_validation(model_dir: str) -> dict[str, Any] | None:
  """The newest validation of a run that gave scores, with its step; None without one."""
  lines, _ = read_scores(model_dir)
  scored = [x for x in lines if x['kind'] == 'validation' and FAILED not in x]
  return max(scored, key=lambda line: line['step'], default=None)


def last_data(model_dir: str) -> dict[str, str]:
  """SHA-256 of each manifest that a run was last started with; empty where none tells."""
  lines, _ = _read_lines(os.path.join(model_dir, STARTS), {'manifests': dict})
  return lines[-1]['manifests'] if lines else {}


def _git(*arguments: str) -> str | None:
  command = ['git', '-C', os.path.dirname(os.path.abspath(__file__)), *arguments]
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _manifest_hashes(input_path: str) -> dict[str, str]:
  hashes: dict[str, str] = {}
  found: list[str] = []
  for part in files.split_paths(input_path):
    # What is missing is said by who reads it.
    with contextlib.suppress(UserError):
      found += index.input_files(part)
  for path in found:
    if path.endswith('.json'):
      with tf.io.gfile.GFile(path, 'rb') as file:
        hashes[files.shown(path)] = hashlib.sha256(file.read()).hexdigest()
    else:  # Files without a manifest are as long as their records make them.
      hashes[files.shown(path)] = f'{tf.io.gfile.stat(path).length} bytes'
  return hashes


def describe_start(
  params: Any, step: int, replicas: int, deterministic: bool
) -> dict[str, Any]:
  """What a start of a run is: enough to do it again."""
  # An installed package may lie in somebody else's checkout.
  ours = _git('ls-files', '--error-unmatch', os.path.basename(__file__)) is not None
  data = (params.task.train_data, params.task.validation_data)
  return {
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'step': step,
    'command': [sys.executable, *sys.argv],
    'git_revision': _git('rev-parse', 'HEAD') if ours else None,
    'git_changed': bool(_git('status', '--porcelain')) if ours else None,
    'python': platform.python_version(),
    'packages': {package: _version(package) for package in PACKAGES},
    'seed': params.task.train_data.seed,
    'deterministic': deterministic,
    'replicas': replicas,
    'devices': [device.name for device in tf.config.list_logical_devices()],
    'manifests': {
      path: digest
      for config in data
      for path, digest in _manifest_hashes(config.input_path).items()
    },
  }


def write_start(model_dir: str, start: Mapping[str, Any]) -> None:
  """Adds a line for this start to the run's folder."""
  path = os.path.join(model_dir, STARTS)
  lines, foreign = _read_lines(path)
  _set_aside(path, foreign)
  _write_lines(path, [*lines, start])


def last_start(model_dir: str) -> dict[str, Any]:
  """What `write_start` wrote last; empty where it wrote nothing."""
  lines, _ = _read_lines(os.path.join(model_dir, STARTS))
  return lines[-1] if lines else {}

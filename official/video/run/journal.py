"""What a run was and what it scored, in its folder, for people and programs."""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from official.video import files

SCORES = 'scores.jsonl'
STARTS = 'starts.jsonl'
PACKAGES = ('tensorflow', 'tf-keras', 'tf-models-official', 'numpy', 'vidgarden')


def _read_lines(path: str) -> list[dict[str, Any]]:
  if not tf.io.gfile.exists(path):
    return []
  with tf.io.gfile.GFile(path, 'r') as file:
    lines = file.read().splitlines()
  try:
    return [json.loads(line) for line in lines]
  except json.JSONDecodeError:  # A run that was killed while it wrote the last line.
    return [json.loads(line) for line in lines[:-1]]


def _write_lines(path: str, lines: Sequence[Mapping[str, Any]]) -> None:
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  files.write_atomically(path, text.encode())


class Journal:
  """The scores of a run, one JSON object a line: kind, step, scores by name.

  A resumed run drops what was written after its checkpoint and writes it again, so the
  file holds each report once, as an unbroken run would have written it.
  """

  def __init__(self, model_dir: str):
    self._path = os.path.join(model_dir, SCORES)
    self._written = {(line['kind'], line['step']) for line in _read_lines(self._path)}

  def truncate(self, step: int) -> None:
    """Forgets what was reported after a step."""
    lines = [line for line in _read_lines(self._path) if line['step'] <= step]
    self._written = {(line['kind'], line['step']) for line in lines}
    _write_lines(self._path, lines)

  def has(self, kind: str, step: int) -> bool:
    """Whether there is a report of a kind, 'train' or 'validation', at a step."""
    return (kind, step) in self._written

  def write(self, kind: str, step: int, scores: Mapping[str, Any] | None) -> None:
    """Adds a report, unless there is one of its kind and step."""
    if self.has(kind, step):
      return
    scalars = {
      name: np.asarray(value).item()
      for name, value in (scores or {}).items()
      if np.ndim(value) == 0
    }
    self._written.add((kind, step))
    with tf.io.gfile.GFile(self._path, 'a') as file:
      file.write(json.dumps({'kind': kind, 'step': step} | scalars) + '\n')


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
  hashes = {}
  for pattern in filter(None, (part.strip() for part in input_path.split(','))):
    inside = os.path.join(pattern, '*.manifest.json')
    matches = tf.io.gfile.glob(inside if tf.io.gfile.isdir(pattern) else pattern)
    for path in matches:
      if path.endswith('.json'):
        with tf.io.gfile.GFile(path, 'rb') as file:
          hashes[path] = hashlib.sha256(file.read()).hexdigest()
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
  _write_lines(path, [*_read_lines(path), start])

"""The folder of a run: whose it is, what is in it, what it is told at each start."""

import os
import sys
import uuid
from collections.abc import Mapping
from typing import Any

import gin
import tensorflow as tf

from official.video import files
from official.video.checkpoints import origin, saved
from official.video.errors import UserError
from official.video.run import journal
from official.video.settings import experiment, leaves

LOCK = 'run.lock'


def check(model_dir: str, mode: str) -> None:
  """Raises `UserError` for a folder that can't be a run's, or holds none to evaluate."""
  if not model_dir:
    raise UserError('--model_dir is missing; name the folder of the run')
  names = tf.io.gfile.listdir(model_dir) if tf.io.gfile.isdir(model_dir) else []
  if 'train' in mode and set(names) - {LOCK} and origin.PARAMS not in names:
    raise UserError(
      f'--model_dir {model_dir}: not empty and not a run (no params.yaml); use a new folder'
    )
  if mode.endswith('eval') and 'train' not in mode and not tf.io.gfile.isdir(model_dir):
    raise UserError(f'--model_dir {model_dir}: no such folder to evaluate')
  if mode == 'eval' and not saved.newest(model_dir):
    raise UserError(f'--model_dir {model_dir}: holds no checkpoint to evaluate')


def check_resumed(model_dir: str, params: Any) -> None:
  """Refuses to go on from a checkpoint without what another optimizer keeps in it.

  TensorFlow would let it begin at zero and say nothing; a moving average of weights that
  begins at zero is no net.

  Raises:
    UserError: the run's optimizer is another, or its moving average was switched on or off.
  """
  path = os.path.join(model_dir, origin.PARAMS)
  if not saved.newest(model_dir) or not tf.io.gfile.exists(path):
    return
  before = leaves.flat(experiment.parse_overrides(experiment.read_text(path), path))
  after = leaves.flat(params.as_dict())
  ema = 'trainer.optimizer_config.ema'
  averaged = [any(name.startswith(f'{ema}.') for name in of) for of in (before, after)]
  kind = 'trainer.optimizer_config.optimizer.type'
  if averaged[0] != averaged[1]:
    was, now = ('on' if on else 'off' for on in averaged)
    changed = f'{ema} is {now} and was {was}'
  elif before.get(kind, after[kind]) != after[kind]:
    changed = f'{kind} is {after[kind]!r} and was {before[kind]!r}'
  else:
    return
  raise UserError(
    f'--model_dir {model_dir}: {changed} in this run, whose checkpoint holds nothing to go '
    f'on with; set it back, or begin a new run with task.init_checkpoint={model_dir}'
  )


class RunFolder:
  """A run's folder while the run writes to it; no second run can.

  On local disks the kernel holds the lock, so it is gone with its process, however that
  ended. Remote file systems have no such lock: there the newest run owns the folder, and
  an older one finds that out before it saves again (`check_owned`).
  """

  def __init__(self, path: str):
    """Makes the folder where there is none and takes it.

    Raises:
      UserError: it can't be made, or another run has it.
    """
    self.path = path
    self._lock = os.path.join(path, LOCK)
    self._token = uuid.uuid4().hex
    try:
      tf.io.gfile.makedirs(path)
    except tf.errors.OpError as error:
      raise UserError(f"--model_dir {path}: can't be made: {error.message}") from error
    with files.storage_errors(path):
      self._take()

  def _take(self) -> None:
    if files.is_remote(self.path):
      files.write_atomically(self._lock, self._token.encode())
      return
    # Stays open as long as the run lives.
    self._file = files.opened_alone(
      self._lock,
      'a',
      f'--model_dir {self.path}: another run is writing to it; wait for its end or use '
      'another folder',
    )

  def release(self) -> None:
    """Lets the folder go."""
    if not files.is_remote(self.path):
      self._file.close()

  def check_owned(self) -> None:
    """Raises `UserError` if a newer run has taken the folder."""
    if not files.is_remote(self.path):
      return
    with tf.io.gfile.GFile(self._lock, 'r') as file:
      if file.read() != self._token:
        raise UserError(
          f'{self._lock}: another run has taken this folder; this one stops'
        )

  def begin(
    self,
    params: Any,
    step: int,
    replicas: int,
    deterministic: bool,
    remembered: Mapping[str, str],
  ) -> journal.Journal:
    """Writes what the run is, clears away what a killed one left, opens the journal.

    Args:
      params: the resolved experiment.
      step: where the run starts.
      replicas: of the distribution strategy.
      deterministic: whether TensorFlow's operations were made deterministic.
      remembered: texts of the task by file name.
    """
    start = journal.describe_start(params, step, replicas, deterministic)
    if step:
      self._check_data(start, deterministic)
    self._tell_changes(params)
    for name in tf.io.gfile.listdir(self.path):
      # What TensorFlow was writing of a checkpoint when the run was killed.
      if '.tempstate' in name or name.rstrip('/').endswith('_temp'):
        leftover = os.path.join(self.path, name)
        (tf.io.gfile.rmtree if tf.io.gfile.isdir(leftover) else tf.io.gfile.remove)(
          leftover
        )
    texts = {
      **remembered,
      origin.PARAMS: experiment.to_yaml(params),
      'config.gin': gin.config_str(),
    }
    for name, text in texts.items():
      files.write_atomically(os.path.join(self.path, name), text.encode())
    journal.write_start(self.path, start)
    run_journal = journal.Journal(self.path)
    run_journal.truncate(step)
    return run_journal

  def _check_data(self, start: Mapping[str, Any], deterministic: bool) -> None:
    """Names data and gin bindings that changed since the run was started last.

    Raises:
      UserError: they did, and the run is to be what an unbroken one is.
    """
    last = journal.last_start(self.path).get('manifests')
    last = last if isinstance(last, dict) else {}
    changed = [
      f'{path}: is not what it was when the run was last started'
      for path, digest in start['manifests'].items()
      if last.get(path, digest) != digest
    ]
    gin_path = os.path.join(self.path, 'config.gin')
    if tf.io.gfile.exists(gin_path):
      with tf.io.gfile.GFile(gin_path, 'rb') as file:
        if file.read() != gin.config_str().encode():
          changed.append(f'{gin_path}: the gin bindings are others now')
    if changed and deterministic:
      raise UserError(
        f'{"; ".join(changed)}; --deterministic goes on only as an unbroken run would: '
        'put it back, begin a new run, or leave the flag out'
      )
    for line in changed:
      print(f'note: {line}', file=sys.stderr)

  def _tell_changes(self, params: Any) -> None:
    """Names the fields that a resumed run changes, on stderr."""
    path = os.path.join(self.path, origin.PARAMS)
    if not tf.io.gfile.exists(path):
      return
    before = leaves.flat(experiment.parse_overrides(experiment.read_text(path), path))
    after = leaves.flat(params.as_dict())
    for name in sorted(before.keys() & after.keys()):
      if before[name] != after[name]:
        print(
          f'note: resumes with {name} {after[name]!r}, was {before[name]!r}',
          file=sys.stderr,
        )

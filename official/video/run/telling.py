"""What a run tells while it runs: its console, its trackers, and TensorBoard's pictures."""

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orbit
import tensorflow as tf

from official.video import files, scalars
from official.video.errors import UserError
from official.video.evaluation import coverage
from official.video.run import board, console, pace, trackers, watch
from official.video.settings import experiment, leaves

# Seconds between two movements of a bar.
_TICK = 0.2


class Teller:
  """Tells what a run does, in one form for all methods.

  A worker that does not write, and a run that only evaluates, tell no tracker and no
  TensorBoard.
  """

  def __init__(self, params: Any, trainer: Any, watched: watch.Watch, model_dir: str):
    """Initializes the teller; nothing is said yet.

    Args:
      params: the resolved experiment.
      trainer: of the run, with its task.
      watched: what is told, and where.
      model_dir: the run's folder.
    """
    self._params, self._watch, self._trainer = params, watched, trainer
    self._task, self._folder = trainer.task, model_dir
    self._console = watched.out
    self._trackers = trackers.Trackers(watched.trackers)
    data, config = params.task.train_data, params.trainer
    self._last, self._batch = config.train_steps, data.global_batch_size
    self._pace = pace.Pace(self._batch, self._last)
    self._chance = self._task.chance()
    self._outputs: dict[str, np.ndarray] = {}
    self._board: board.Board | None = None
    self._steps_per_epoch = 0
    self._begun = self._moved = time.monotonic()
    self._line: dict[str, str] = {}
    self._writes = self._noted = False

  def begin(
    self, step: int, validates: bool, train: orbit.utils.SummaryManager, validation: str
  ) -> None:
    """Says where and on what a training run begins, and starts what else is told.

    Args:
      step: that it begins at.
      validates: whether it validates on the way.
      train: of the summaries of training.
      validation: folder of the summaries of validation.

    Raises:
      UserError: a tracker can't start.
    """
    self._writes = True
    config, data = self._params.trainer, self._params.task.train_data
    interval = config.validation_interval if validates else 0
    self._pace = pace.Pace(self._batch, self._last, interval)
    steps = len(self._task.train_index) // self._batch * data.clips_per_decode
    self._steps_per_epoch = max(1, steps)
    self._tell_machine(step)
    self._trackers.start(leaves.flat(self._params.as_dict()), files.shown(self._folder))
    if self._watch.profile:
      first, last = self._watch.profile
      if first <= step or last > self._last:
        raise UserError(
          f'--profile={first}-{last}: this start takes the steps {step + 1} to '
          f'{self._last}; name some of them'
        )
      self._trainer.profile = self._watch.profile
      self._trainer.profile_folder = os.path.join(self._folder, 'train')
    if self._console.format == 'bar':
      self._trainer.on_step = self._tick
    if self._watch.pictures:
      self._board = board.Board(self._folder, validation, self._task)
      self._trainer.on_outputs = self._keep
      with self._spared():
        self._board.begin(self._params)
        if not step:
          self._board.views(train.summary_writer())

  @contextlib.contextmanager
  def _spared(self) -> Iterator[None]:
    """Lets a run go on without pictures where one can't be made."""
    try:
      yield
    except Exception as error:
      self._board = self._trainer.on_outputs = None
      text = f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'
      print(f'note: no pictures for TensorBoard: {text}', file=sys.stderr)

  def _keep(self, outputs: dict[str, np.ndarray]) -> None:
    self._outputs = outputs

  def _tell_machine(self, step: int) -> None:
    """What only TensorFlow knows: devices; and what came of batch and steps."""
    devices = _devices(self._trainer.strategy)
    epochs = self._last / self._steps_per_epoch
    facts = {
      'devices': devices,
      'replicas': self._trainer.strategy.num_replicas_in_sync,
      'parameters': self._trainer.model.count_params(),
      'batch': self._batch,
      'steps': self._last,
      'epochs': round(epochs, 2),
      'step': step,
    }
    parts = [f'devices    {", ".join(devices)}', f'{facts["parameters"]:,} parameters']
    # Whatever was not said at once, or otherwise.
    before = self._watch.told
    if before.get('batch') != self._batch:
      parts.append(f'batch {self._batch}')
    if before.get('steps') != self._last:
      parts.append(f'{self._last:,} steps')
    if round(before.get('epochs', 0.0), 2) != facts['epochs']:
      parts.append(f'{epochs:.3g} epochs')
    if step != (before.get('step') or 0):
      parts.append(f'goes on at step {step:,}')
    self._console.tell('machine', console.SEPARATOR.join(parts), facts)

  def trained(
    self, step: int, steps: int, output: Mapping[str, Any]
  ) -> tuple[dict[str, Any], dict[str, float]]:
    """Tells of a loop.

    Args:
      step: that was reached.
      steps: of the loop.
      output: what the task and the trainer report of it, by plain names.

    Returns:
      Its scalars by published name: those that an equal run would have too, and speeds.
    """
    speeds = self._pace.looped(
      steps, self._trainer.loop_seconds, self._trainer.waited_seconds
    )
    values = scalars.publish(output)
    if self._chance is not None:
      values['loss/chance'] = self._chance + values.get('loss/regularization', 0.0)
    line = {'step': f'step {step} of {self._last}'}
    if self._steps_per_epoch:
      line['epoch'] = f'epoch {step / self._steps_per_epoch:.1f}'
    line['loss'] = f'loss {console.three(float(values["loss/total"]))}'
    if self._chance is not None:
      line['loss'] += f' (chance {console.three(float(values["loss/chance"]))})'
    named = [scalars.published(name) for name in self._task.headline]
    figures = [
      console.scalar(name, float(values[name])) for name in named if name in values
    ]
    if figures:
      line['figures'] = console.SEPARATOR.join(figures)
    line['speed'] = f'{console.three(speeds["speed/clips_per_second"])} clips/s'
    if 'speed/input_wait' in speeds:
      line['wait'] = f'input wait {100 * speeds["speed/input_wait"]:.0f}%'
    line['memory'] = f'{speeds["speed/memory_gb"]:.1f} GB'
    left = self._pace.left(step)
    line['left'] = f'ETA {console.duration(left or 0)}'
    facts = {
      'step': step,
      'steps': self._last,
      'epoch': step / self._steps_per_epoch if self._steps_per_epoch else None,
      'seconds_left': left,
      **{name: _number(value) for name, value in (values | speeds).items()},
    }
    self._line = line
    self._console.report(line, facts, step / self._last)
    if self._writes:
      self._trackers.scalars('train', step, _numbers(values | speeds))
    return values, speeds

  def _tick(self) -> None:
    """Moves a bar between two reports."""
    now = time.monotonic()
    if now - self._moved < _TICK:
      return
    self._moved = now
    step = int(self._trainer.global_step.numpy())
    line = self._line | {'step': f'step {step} of {self._last}'}
    if left := self._pace.left(step):
      line['left'] = f'ETA {console.duration(left)}'
    self._console.report(line, {}, step / self._last, due=False)

  def validated(
    self,
    step: int,
    seconds: float,
    output: Mapping[str, Any],
    writer: tf.summary.SummaryWriter,
  ) -> dict[str, Any]:
    """Tells of a validation in one line; returns its scalars by published name.

    Args:
      step: that was validated.
      seconds: that it took.
      output: scores by plain name.
      writer: of the summaries of validation.
    """
    self._pace.validated(seconds)
    values = scalars.publish(output)
    parts = [f'validation at step {step}']
    if 'loss/total' in values:
      parts.append(f'loss {console.three(float(values["loss/total"]))}')
    metric = self._params.trainer.best_checkpoint_eval_metric
    names = dict.fromkeys(
      scalars.published(x) for x in (*self._task.score_headline, metric) if x
    )
    parts += [console.scalar(x, float(values[x])) for x in names if x in values]
    missing = coverage.missing(output)
    parts += [
      f'{"evaluated" if what == "records" else what} {k} of {n}'
      for what, (k, n) in coverage.counts(output).items()
      if what == 'records' or what in missing
    ]
    parts.append(f'{console.three(seconds)} s')
    facts = {'step': step, 'seconds': seconds}
    facts |= {name: _number(value) for name, value in values.items()}
    self._console.tell('validation', console.SEPARATOR.join(parts), facts)
    if missing and not self._noted:  # Once a run: the line itself has the numbers.
      self._noted = True
      self._console.tell('coverage', '\n'.join(coverage.notes(output)))
    if self._writes:
      self._trackers.scalars('validation', step, _numbers(values))
    if self._board and self._outputs:
      with self._spared():
        self._board.validated(writer, self._outputs, step)
    self._outputs = {}
    return values

  def note(self, kind: str, text: str) -> None:
    """Says a line."""
    self._console.tell(kind, text)

  def done(self, step: int, output: Mapping[str, Any], best: Mapping[str, Any]) -> None:
    """Says that training is over: its score, where it lies, and what comes next.

    Args:
      step: that was reached.
      output: the last validation's scores by plain name; empty without one.
      best: step and score of the best checkpoint, by name; empty without one.
    """
    folder, values = files.shown(self._folder), scalars.publish(output)
    names = [scalars.published(name) for name in self._task.score_headline]
    probes = [name for name in names if name.startswith(('probe/', 'score/'))]
    score = {name: values[name] for name in [*probes, *names] if name in values}
    parts = [
      f'done in {console.duration(time.monotonic() - self._begun)}',
      f'step {step}',
    ]
    parts += [
      console.scalar(name, float(value)) for name, value in list(score.items())[:1]
    ]
    for name, value in best.items():
      if name != 'step':
        parts.append(f'best {console.scalar(name, float(value))} at step {best["step"]}')
    parts.append(folder)
    name = self._watch.experiment
    commands = next_commands(self._params, name, folder) if name else {}
    lines = [f'  {command}  # {purpose}' for purpose, command in commands.items()]
    self._console.tell(
      'done',
      '\n'.join([console.SEPARATOR.join(parts), *(['next:', *lines] if lines else [])]),
      {
        'step': step,
        'seconds': time.monotonic() - self._begun,
        'folder': folder,
        'scores': {name: _number(value) for name, value in values.items()},
        'best': dict(best),
        'next': list(commands.values()),
      },
    )

  def end(self) -> None:
    """Ends what was started, however the run ended."""
    self._console.end_bar()
    self._trackers.end()


def _number(value: Any) -> Any:
  return np.asarray(value).item() if np.ndim(value) == 0 else None


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
  """The scalars among values."""
  return {
    name: float(value)
    for name, value in values.items()
    if np.ndim(value) == 0 and np.asarray(value).dtype.kind in 'biuf'
  }


def _devices(strategy: tf.distribute.Strategy) -> list[str]:
  """The devices of a strategy's replicas, equal ones counted."""
  if isinstance(strategy, tf.distribute.TPUStrategy):
    return [f'{strategy.num_replicas_in_sync} TPU cores']
  physical = tf.config.list_physical_devices('GPU')
  names = []
  for device in strategy.extended.worker_devices:
    spec = tf.DeviceSpec.from_string(device)
    if spec.device_type == 'GPU' and spec.device_index < len(physical):
      details = tf.config.experimental.get_device_details(physical[spec.device_index])
      names.append(details.get('device_name', 'GPU'))
    else:
      names.append(f'{spec.device_type or "CPU"} ({os.cpu_count()} cores)')
  counted = {name: names.count(name) for name in names}
  return [f'{n} x {name}' if n > 1 else name for name, n in counted.items()]


def next_commands(params: Any, name: str, folder: str) -> dict[str, str]:
  """What to do with a trained run: a command by its purpose.

  Args:
    params: the resolved experiment.
    name: of it.
    folder: of the run.
  """
  own = [f'--experiment={name}', f'--config_file={os.path.join(folder, "params.yaml")}']
  module, checkpoint = ['python', '-m'], f'--checkpoint={folder}'
  commands = {
    'a page of it': [*module, 'official.video.report', folder],
    'its curves and pictures': ['tensorboard', f'--logdir={folder}'],
    'what its features are good for' if '_pretrain' in name else 'its scores': [
      *(*module, 'official.video.evaluate'),
      *(_probe(params, name) or [*own, '--protocols=task']),
      *(checkpoint, f'--output_dir={os.path.join(folder, "scores")}'),
    ],
    'a SavedModel': [
      *(*module, 'official.video.export', *own),
      *(checkpoint, f'--export_dir={os.path.join(folder, "export")}'),
    ],
  }
  return {purpose: shlex.join(words) for purpose, words in commands.items()}


def _probe(params: Any, name: str) -> Sequence[str]:
  """Flags that probe a pretrained net on the data that it was trained on."""
  method, kind, rest = name.partition('_pretrain')
  known = experiment.experiment_names() if kind else []
  protocols = (f'{method}_{of}{rest}' for of in ('linear_eval', 'finetune'))
  probe = next((protocol for protocol in protocols if protocol in known), None)
  if probe is None:
    return []
  data = {
    f'task.{part}.input_path': getattr(params.task, part).input_path
    for part in ('train_data', 'validation_data')
  }
  named = ','.join(f'{field}={path or "..."}' for field, path in data.items())
  return [
    f'--experiment={probe}',
    '--protocols=knn,retrieval,linear',
    f'--params_override={named}',
  ]

"""The outer loop: which steps run between two reports, what is saved and when.

Everything here is a function of the step, so that a run that was stopped anywhere goes on
as if it had not been.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import orbit
import tensorflow as tf
from absl import logging

from official.core import config_definitions as cfg
from official.video import files
from official.video.checkpoints import saved
from official.video.errors import UserError
from official.video.evaluation import coverage
from official.video.run import interrupt, journal, run_folder, telling

# Between two looks for a new checkpoint.
_POLL_SECONDS = 1.0


class VideoController(orbit.Controller):
  """Orbit's controller with loops that end at fixed steps.

  Reports stand at multiples of `steps_per_loop` and of the validation interval, wherever
  the run was started; checkpoints and summaries follow the first report after each
  multiple of their intervals, of which 0 is never. A signal ends the loop after its step
  and saves a checkpoint.
  """

  def __init__(
    self,
    *,
    config: cfg.TrainerConfig,
    model_dir: str,
    stop: interrupt.Interrupt,
    start: str | None,
    teller: telling.Teller,
    enter: Callable[[int, Mapping[str, Any]], None] | None = None,
    stop_at_failed_validation: bool = False,
    **kwargs,
  ):
    """Initializes the controller and restores the latest checkpoint.

    Args:
      config: of the trainer.
      model_dir: the run's folder, the same for every worker.
      stop: tells of signals.
      start: the checkpoint to start from; None to begin anew.
      teller: told what is reported.
      enter: told of the step and the scores of each evaluation, for a ledger.
      stop_at_failed_validation: whether a validation that fails ends the run.
      **kwargs: of `orbit.Controller`.
    """
    self._config = config
    self._model_dir = model_dir
    self._stop = stop
    self._start = start
    self._teller = teller
    self._enter = enter
    self._stop_at_failed_validation = stop_at_failed_validation
    self._folder: run_folder.RunFolder | None = None
    self._journal: journal.Journal | None = None
    self._recoveries = 0
    super().__init__(**kwargs)

  def keep(self, owned: run_folder.RunFolder, run_journal: journal.Journal) -> None:
    """Keeps scores in a folder that this process owns."""
    self._folder, self._journal = owned, run_journal

  @property
  def step(self) -> int:
    """Steps done."""
    return int(self.global_step.numpy())

  def restore_checkpoint(self, checkpoint_path: str | None = None) -> None:
    """Restores a checkpoint, by default that of the start; without one, initializes.

    Every worker reads the run's folder, because each has variables of its own. Orbit's
    returns the path, and prints it then; which one it is was said at the start.
    """
    path = checkpoint_path or self._start
    with self.strategy.scope():
      if path:
        self.checkpoint_manager.checkpoint.restore(files.literal(path))
      else:
        self.evaluator.initialize()

  def train(self, steps: int, checkpoint_at_completion: bool = True) -> None:
    """Trains until the global step is `steps`.

    Raises:
      interrupt.Stopped: a signal came; a checkpoint was saved.
      UserError: loss or gradient was not finite, or too many records are damaged.
    """
    while self.step < steps:
      before = self.step
      self._train_loop(_next_multiple(before, self.steps_per_loop, steps))
      if _passed(before, self.step, self._config.checkpoint_interval):
        self.save_checkpoint()
    if checkpoint_at_completion:
      self.save_checkpoint()

  def train_and_evaluate(
    self, train_steps: int, eval_steps: int = -1, eval_interval: int | None = None
  ) -> dict[str, Any] | None:
    """Trains, and evaluates at every multiple of `eval_interval` and at the end.

    A checkpoint stands before each evaluation.
    """
    interval = eval_interval or train_steps
    output = None
    if self._evaluation_is_due(interval, train_steps):
      output = self._validate_and_heed(eval_steps)
    while self.step < train_steps:
      self.train(_next_multiple(self.step, interval, train_steps))
      output = self._validate_and_heed(eval_steps)
    return output

  def _validate_and_heed(self, steps: int) -> dict[str, Any] | None:
    """Validates, and lets a learning rate that follows the scores know them."""
    output = self.validate(steps)
    if output is not None:
      self.trainer.heed(self.step, output)
    return output

  def validate(self, steps: int = -1) -> dict[str, Any] | None:
    """Evaluates what was trained, once its checkpoint stands.

    A validation that fails is reported and kept in the journal; training goes on, and a
    run that is started again at this step makes up for it. With several workers it ends
    the run, because the others would wait for this one.

    Returns:
      The scores; None where it failed.
    """
    goes_on = not self._stop_at_failed_validation and self._alone
    if self._alone:
      self._stop.nothing_to_lose = True
    try:
      return self.evaluate(steps)
    except Exception as error:
      if not goes_on:
        raise
      reason = _reason(error)
      logging.info('validation failed', exc_info=True)
      print(
        f'validation at step {self.step} failed: {reason}; the checkpoint of this step '
        'stands, --stop_at_failed_validation ends the run here',
        file=sys.stderr,
      )
      if self._journal:
        self._journal.write('validation', self.step, {journal.FAILED: reason})
      return None
    finally:
      self._stop.nothing_to_lose = False

  @property
  def _alone(self) -> bool:
    return not self.strategy.extended._in_multi_worker_mode()

  def evaluate(self, steps: int = -1) -> dict[str, Any] | None:
    """Evaluates, and keeps the scores; a line says what they leave out.

    Args:
      steps: batches; -1 for all.

    Returns:
      Scores by plain name.
    """
    begun = time.monotonic()
    writer = self.eval_summary_manager.summary_writer()
    with writer.as_default():
      output = self.evaluator.evaluate(tf.constant(steps, tf.int32)) or {}
    for action in self.eval_actions:
      action(output)
    output = tf.nest.map_structure(orbit.utils.get_value, output)
    output = coverage.marked(output)
    seconds = time.monotonic() - begun
    values = self._teller.validated(self.step, seconds, output, writer)
    if self._journal:
      self._journal.write('validation', self.step, values)
    if self._enter:
      self._enter(self.step, output)
    self.eval_summary_manager.write_summaries(values)
    self.eval_summary_manager.flush()
    return output

  def evaluate_continuously(
    self, steps: int = -1, timeout: float | None = None, timeout_fn=None
  ) -> dict[str, Any] | None:
    """Evaluates each checkpoint that the run saves.

    Args:
      steps: batches an evaluation; -1 for all.
      timeout: seconds to wait for the next checkpoint; None to wait for ever.
      timeout_fn: called when they are over; ends the waiting if it returns true.

    Returns:
      The last scores.
    """
    output, seen, waited = None, None, 0.0
    while True:
      path = saved.newest(self._model_dir)
      if path and path != seen:
        seen, waited = path, 0.0
        self.restore_checkpoint(path)
        output = self.evaluate(steps)
        continue
      if timeout is not None and waited >= timeout:
        if timeout_fn is None or timeout_fn():
          return output
        waited = 0.0
      time.sleep(_POLL_SECONDS)
      waited += _POLL_SECONDS

  def save_checkpoint(self) -> None:
    """Saves a checkpoint, if there is none of this step."""
    if self._folder:
      self._folder.check_owned()
    if self.checkpoint_manager.checkpoint_interval:
      self.checkpoint_manager.save(self.step)

  def _evaluation_is_due(self, interval: int, last: int) -> bool:
    """Whether the run ended between reaching this step and evaluating it.

    Every worker looks into the run's journal, so that all come to the same answer.
    """
    step = self.step
    if not step or (step % interval and step != last):
      return False
    # A checkpoint of this step was written before its evaluation.
    if not self.trainer.has_heeded(step):
      return True
    return not journal.Journal(self._model_dir).has('validation', step)

  def _train_loop(self, until: int) -> None:
    """Runs steps until a report is due, and makes it."""
    before = self.step
    with self.summary_manager.summary_writer().as_default():
      output = self.trainer.train(tf.constant(until - self.step, tf.int32))
    if self.trainer.failed_step >= 0:
      self._recover(f'step {self.trainer.failed_step}: {self.trainer.failure()}')
      return
    if self.step == until:
      self._report(before, tf.nest.map_structure(orbit.utils.get_value, output))
    self.trainer.check_damage()
    if self.trainer.stop_agreed():
      self.save_checkpoint()
      self._teller.note(
        'stopped',
        f'stopped at step {self.step}, checkpoint saved; the same command goes on',
      )
      # The signal may have come to another worker.
      raise interrupt.Stopped(self._stop.number or signal.SIGTERM)

  def _report(self, before: int, output: dict[str, Any]) -> None:
    loss, bound = output['training_loss'], self._config.loss_upper_bound
    if loss > bound and self.step >= self._config.recovery_begin_steps:
      self._recover(f'training loss {loss:g} is above trainer.loss_upper_bound {bound:g}')
      return
    values, speeds = self._teller.trained(self.step, self.step - before, output)
    if self._journal:  # Speeds are no part of what an equal run gives again.
      self._journal.write('train', self.step, values)
    for action in self.train_actions:
      action(output)
    if _passed(before, self.step, self._config.summary_interval):
      self.summary_manager.write_summaries(values | speeds)
      self.summary_manager.flush()

  def _recover(self, reason: str) -> None:
    """Goes back to the last checkpoint if that is allowed, else stops.

    Raises:
      UserError: it is not allowed, or there is no checkpoint.
    """
    allowed = self._config.recovery_max_trials
    path = saved.latest(self._model_dir)
    if self._recoveries >= allowed or not path:
      tried = f' after {self._recoveries} recoveries' if self._recoveries else ''
      raise UserError(
        f'{reason}{tried}; the last checkpoint is {path or "none"}. Lower the learning '
        'rate or look at the records; trainer.recovery_max_trials=N goes on from that '
        'checkpoint with the next data, N times'
      )
    self._recoveries += 1
    reached = self.trainer.data_step
    self.restore_checkpoint(path)
    self.trainer.skip_data(reached)
    if self._journal:
      self._journal.truncate(self.step)
    print(f'note: {reason}; goes on from {os.path.basename(path)}', file=sys.stderr)


def _reason(error: Exception) -> str:
  """An error in one line; its kind too, where nobody wrote it for users."""
  text = ' '.join(str(error).split())[:500]
  return text if isinstance(error, UserError) else f'{type(error).__name__}: {text}'


def _passed(before: int, step: int, interval: int) -> bool:
  """Whether a multiple of an interval was reached after `before`; never of 0."""
  return bool(interval) and step // interval > before // interval


def _next_multiple(step: int, of: int, limit: int) -> int:
  return min((step // of + 1) * of, limit)

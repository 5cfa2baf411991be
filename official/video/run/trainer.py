"""The orbit trainer of every task, and the runner that drives it through its modes."""

import contextlib
import functools
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gin
import numpy as np
import orbit
import tensorflow as tf
import tf_keras
from tensorflow.python.framework import config as tf_config

from official.core import base_trainer, config_definitions, train_lib, train_utils
from official.modeling import optimization
from official.video import files
from official.video.checkpoints import origin, restore, saved
from official.video.data import checks, positions, reader, views
from official.video.errors import UserError
from official.video.evaluation import ledger
from official.video.losses import gather
from official.video.run import (
  agreement,
  best,
  controller,
  data_service,
  interrupt,
  run_folder,
  telling,
  watch,
)
from official.video.settings import schedule as schedules
from official.video.tasks import base


class _Later:
  """Stands for the training data until the step to start from is known."""


class VideoTrainer(base_trainer.Trainer):
  """The Model Garden's trainer, which starts and stops at any step.

  The input is a pure function of the step, so it is built when training begins, after
  the checkpoint was restored. What a report averages is checkpointed too. Evaluation
  gathers the samples of all replicas and hosts.

  Attributes:
    failed_step: the step whose loss or gradient was not finite, or -1. It and the steps
      after it were not taken.
    profile: first and last step to record by TensorFlow's profiler, into `profile_folder`;
      None for none.
    on_step: called after every step of a loop in Python; None for nothing.
    on_outputs: called with the outputs of a whole evaluation; None for nothing.
    loop_seconds: what the steps of the last `train` took, without building their graph
      where the graph has a clock.
    waited_seconds: of these, in which they waited for their batches; None without a clock.
  """

  def __init__(
    self,
    config: config_definitions.ExperimentConfig,
    task: base.VideoTask,
    train: bool,
    evaluate: bool,
    checkpoint_exporter: train_utils.BestCheckpointExporter | None = None,
    stop: interrupt.Interrupt | None = None,
  ):
    model = task.built_model()
    if train and (factors := task.told_multipliers(model)):
      print(f'note: learning rates times {factors}', file=sys.stderr)
    optimizer = train_utils.create_optimizer(task, config)
    # Keras makes an optimizer's variables at its first step; made here, a restore finds
    # all of them, also in a run that only evaluates.
    if isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer):
      optimizer._create_all_weights(model.trainable_variables)
    else:
      optimizer.build(model.trainable_variables)
    super().__init__(
      config,
      task,
      model=model,
      optimizer=optimizer,
      train=train,
      evaluate=evaluate,
      train_dataset=_Later(),
      validation_dataset=self._validation_input(config, task) if evaluate else None,
      checkpoint_exporter=checkpoint_exporter,
    )
    self._stop = stop or interrupt.Interrupt()
    self._train_loop_fn: Callable | None = None
    self._train_iter: Iterator | None = None
    self._eval_iter: Iterator | None = None
    self._averaged = False
    self._loops_in_graph = False
    self.profile: tuple[int, int] | None = None
    self.profile_folder = ''
    self._recording = False
    self.on_step: Callable[[], None] | None = None
    self.on_outputs: Callable[[dict[str, np.ndarray]], None] | None = None
    self.loop_seconds = 0.0
    self.waited_seconds: float | None = None
    with tf.device('/cpu:0'):
      self._failed_step = tf.Variable(-1, trainable=False, dtype=tf.int64)
      # Batches passed over by recoveries: the input is this far ahead of the step.
      self._skipped = tf.Variable(0, trainable=False, dtype=tf.int64)
      # When the first step of a loop began, and how long all waited for input; by the
      # graph's own clock, as building it takes long. No part of a checkpoint.
      self._clock = tf.Variable([0.0, 0.0], trainable=False, dtype=tf.float64)
    if train:
      self._bad_records = tf_keras.metrics.Sum('bad_records', tf.float32)
      # Share of the clips that show frames again, their videos being too short.
      self._wrapped = tf_keras.metrics.Mean('clips_wrapped', tf.float32)
      self._told_short = False
      # In a checkpoint a report is known by its place: what came later stands behind.
      later = [m for m in self.train_metrics if m.name in task.later_scalars]
      self._restored_metrics = tf.Module()
      self._restored_metrics.all = [
        *(metric for metric in self.train_metrics if metric not in later),
        self.train_loss,
        self._bad_records,
        *later,
      ]
      self.checkpoint.reports = self._restored_metrics
      self.checkpoint.skipped_batches = self._skipped
      self.checkpoint.clips_wrapped = self._wrapped
    # A schedule that follows the scores of validation, with a state of its own.
    schedule = _schedule_of(optimizer)
    self._heeding = schedule if isinstance(schedule, schedules.FollowsScores) else None
    if train and self._heeding:
      self.checkpoint.schedule = self._heeding.state

  def _validation_input(self, config, task: base.VideoTask):
    """The batches of one evaluation after the other."""
    data = config.task.validation_data
    places = positions.num_places(data, len(task.validation_index))
    # With stepped test clips only the records themselves tell how many there are.
    self._validation_batches = (
      None if data.test_clip_step else places // data.global_batch_size
    )

    # Orbit passes on what has this name.
    def batches(input_context=None):
      once = task.build_inputs(data, input_context)
      return once if self._validation_batches is None else once.repeat()

    return orbit.utils.make_distributed_dataset(tf.distribute.get_strategy(), batches)

  @property
  def failed_step(self) -> int:
    """See the class."""
    return int(self._failed_step.numpy())

  @property
  def data_step(self) -> int:
    """Which batch of the input the next step takes."""
    return int(self.global_step.numpy() + self._skipped.numpy())

  def skip_data(self, failed: int) -> None:
    """Goes on with the batch after a failed one, whatever step was restored."""
    self._skipped.assign(failed + 1 - int(self.global_step.numpy()))
    self._failed_step.assign(-1)
    self._train_dataset = _Later()

  @property
  def follows_scores(self) -> bool:
    """Whether the learning rate depends on what validation scores."""
    return self._heeding is not None

  def heed(self, step: int, scores: Mapping[str, Any]) -> None:
    """Hands a validation's scores to a learning rate that follows them."""
    if self._heeding:
      self._heeding.heed(step, scores)

  def has_heeded(self, step: int) -> bool:
    """Whether the learning rate knows the scores of a step; true where it needs none."""
    return self._heeding is None or int(self._heeding.state.heeded.numpy()) >= step

  def failure(self) -> str:
    """Why the failed step failed, and the records of its batch."""
    config, table = self.config.task.train_data, self.task.train_index
    batch = config.global_batch_size
    first = self.data_step // config.clips_per_decode * batch
    names = table.names()
    rows = [
      int(positions.training_position(place, len(table), batch, config.seed).row)
      for place in tf.range(first, first + min(batch, _NAMED), dtype=tf.int64)
    ]
    more = f' and {batch - _NAMED} more' if batch > _NAMED else ''
    rate = self.optimizer.learning_rate
    rate = float(rate(self.global_step) if callable(rate) else rate)
    return (
      f'the loss or a gradient is not finite, at a learning rate of {rate:.3g}; records '
      + ', '.join(names[row] for row in rows)
      + more
    )

  def train_loop_begin(self) -> None:
    """Builds the input from the current step on, the first time."""
    super().train_loop_begin()
    if isinstance(self._train_dataset, _Later):
      self.train_dataset = self.distribute_dataset(
        self.task.build_inputs,
        self.config.task.train_data,
        start_step=self.data_step,
      )

  def train(self, num_steps: tf.Tensor) -> dict[str, Any] | None:
    """Runs steps; what they report, or None where they were not all taken."""
    until = int(self.global_step.numpy()) + int(num_steps)
    self.train_loop_begin()
    if self._train_loop_fn is None:
      self._train_loop_fn = self.create_train_loop_fn()
    if self._train_iter is None:
      self._train_iter = iter(self.train_dataset)
    if self._loops_in_graph:
      self._stop.nothing_to_lose = False  # A loop in the graph does not say so.
    self._clock.assign(tf.zeros([2], tf.float64))
    called = time.time()
    with self._watched_service():
      self._run_steps(self._train_loop_fn, until)
    reached = int(self.global_step.numpy())  # Waits for what devices have not done yet.
    begun, waited = self._clock.numpy().tolist()
    self.loop_seconds = time.time() - (begun or called)
    self.waited_seconds = waited if begun else None
    return self.train_loop_end() if reached == until else None

  def _run_steps(self, loop: Callable, until: int) -> None:
    """Runs the loop, which pauses where the profiler's window begins and ends."""
    first, last = self.profile or (0, 0)
    step = int(self.global_step.numpy())
    for pause in sorted({x for x in (first - 1, last) if step < x < until} | {until}):
      if self.profile and step == first - 1:
        tf.profiler.experimental.start(self.profile_folder)
        self._recording = True
      loop(self._train_iter, tf.constant(pause - step, tf.int32))
      step = int(self.global_step.numpy())
      if step == last:
        self.end_profile()
      if step < pause:
        return

  def end_profile(self) -> None:
    """Writes what the profiler recorded, if it is recording."""
    if self._recording:
      self._recording = False
      tf.profiler.experimental.stop()

  def _watched_service(self) -> contextlib.AbstractContextManager:
    config = self.config.task.train_data
    if not config.enable_tf_data_service:
      return contextlib.nullcontext()
    return data_service.watched(
      config.tf_data_service_address, lambda: int(self.global_step.numpy())
    )

  def create_train_loop_fn(self):
    """A loop of steps that ends early when a signal came or a step failed."""
    options = self._train_options
    step = self.train_step
    # Workers of one run have to stop at one step; they agree on it between loops.
    alone = not self.strategy.extended._in_multi_worker_mode()

    def goes_on():
      healthy = self._failed_step < 0
      return tf.logical_and(healthy, ~self._stop.requested) if alone else healthy

    # What a loop in the graph spares, a call a step, is worth its building on accelerators.
    self._loops_in_graph = options.use_tf_while_loop and views.accelerated()
    if not self._loops_in_graph:
      step = tf.function(step, autograph=False) if options.use_tf_function else step

      def python_loop(iterator, num_steps):
        for _ in range(int(num_steps)):
          if goes_on():
            step(iterator)
            self._stop.nothing_to_lose = False
            if self.on_step:
              self.on_step()

      return python_loop

    def body(count, iterator):
      with tf.name_scope(''):  # Without it, every name in the step begins with 'while/'.
        step(iterator)
      return count + 1

    @tf.function(autograph=False)
    def graph_loop(iterator, num_steps):
      tf.while_loop(
        lambda count: tf.logical_and(count < num_steps, goes_on()),
        lambda count: [body(count, iterator)],
        [tf.constant(0)],
      )

    return graph_loop

  def train_step(self, iterator) -> None:
    """One step of the task, counted if it was finite."""
    config = self.config.runtime

    def step(inputs):
      run = self.task.train_step
      if config.enable_xla and config.num_gpus > 0:
        run = tf.function(run, jit_compile=True, autograph=False)
      self._bad_records.update_state(inputs['bad'])
      if 'wrapped' in inputs:
        self._wrapped.update_state(inputs['wrapped'])
      logs = run(
        inputs, model=self.model, optimizer=self.optimizer, metrics=self.train_metrics
      )
      self._train_loss.update_state(logs[self.task.loss])
      return logs['finite']

    finite = self.strategy.run(
      step, args=(self._next_batch(iterator),), options=self._runtime_options
    )
    finite = self.strategy.experimental_local_results(finite)[0]
    self._failed_step.assign(
      tf.where(finite, tf.constant(-1, tf.int64), self.global_step)
    )
    self.global_step.assign_add(tf.cast(finite, tf.int64))

  def _next_batch(self, iterator):
    """The next batch; how long it took to come is added up."""
    if not _has_clock(self.strategy):
      return next(iterator)
    with tf.device('/cpu:0'):
      asked = tf.timestamp()
    with tf.control_dependencies([asked]):
      batch = next(iterator)
    # Outside of a function everything is done in order anyway.
    came = [] if tf.executing_eagerly() else tf.nest.flatten(batch, True)
    with tf.control_dependencies(list({id(x.op): x.op for x in came}.values())):
      with tf.device('/cpu:0'):
        now = tf.timestamp()
      begun, waited = tf.unstack(self._clock)
      begun = tf.where(begun > 0, begun, asked)
      self._clock.assign(tf.stack([begun, waited + now - asked]))
    return batch

  def train_loop_end(self) -> dict[str, Any]:
    """Means over the loop, and how many records had to be replaced so far."""
    logs = super().train_loop_end() | {'bad_records': self._bad_records.result()}
    # Not all views tell.
    if self._wrapped.count.numpy() > 0:
      logs[self._wrapped.name] = share = self._wrapped.result()
      note = checks.note_short(self.config.task.train_data, float(share))
      if note and not self._told_short:
        print(note, file=sys.stderr)
      self._told_short = True  # Once a run, by its first loop.
      self._wrapped.reset_states()
    return logs

  def end_input(self) -> None:
    """Ends the reading of data; what is run after it begins anew at its own step."""
    self.end_profile()
    iterators = [self._train_iter, self._eval_iter]
    self._train_dataset = _Later()
    self._train_iter = self._eval_iter = None
    reader.let_go(iterators)

  def check_damage(self) -> None:
    """Raises `UserError` if more records are damaged than the config allows."""
    config = self.config.task.train_data
    seen = int(self.global_step.numpy()) * config.global_batch_size
    bad = int(self._bad_records.result())
    if bad > config.max_bad_fraction * max(seen, len(self.task.train_index)):
      raise UserError(
        f'{config.input_path or config.tfds_name}: {bad} of {seen} samples were damaged, '
        f'more than task.train_data.max_bad_fraction {config.max_bad_fraction:g}; the '
        'lines above name them; find all with python -m tfrecords_tools.validate and '
        'convert their sources again'
      )

  def stop_agreed(self) -> bool:
    """Whether a signal came to this worker, or to any worker of the run."""
    mine = self._stop.requested.numpy()
    if not self.strategy.extended._in_multi_worker_mode():
      return bool(mine)
    total = self._sum_over_replicas(tf.constant(float(mine)))
    return bool(self.strategy.experimental_local_results(total)[0] > 0)

  @tf.function(autograph=False)
  def _sum_over_replicas(self, value: tf.Tensor):
    def add(mine):
      context = tf.distribute.get_replica_context()
      # The collectives go by the device that a tensor was made on.
      return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(mine))

    return self.strategy.run(add, args=(value,))

  def evaluate(self, num_steps: tf.Tensor) -> Mapping[str, Any] | None:
    """Evaluates the first batches, or all of them where `num_steps` is -1."""
    steps = int(num_steps)
    whole = self._validation_batches
    if whole is not None:
      steps = whole if steps == -1 else min(steps, whole)
    # Each new iterator would compile the augmentation again and keep what it compiled.
    if self._eval_iter is None:
      self._eval_iter = iter(self.eval_dataset)
    at_the_end = False
    try:
      output = super().evaluate(tf.constant(steps))
      at_the_end = steps == whole
    finally:
      if not at_the_end:
        self._eval_iter = None
      if self._averaged:  # It ended in between: training goes on with its own weights.
        self._averaged = False
        self.optimizer.swap_weights()
    return output

  def eval_begin(self) -> None:
    """Resets the metrics, and takes averaged weights where there are some."""
    super().eval_begin()
    self._averaged = isinstance(self.optimizer, optimization.ExponentialMovingAverage)

  def eval_end(self, aggregated_logs=None) -> dict[str, Any]:
    """Scores what was collected, and gives the weights back."""
    logs = super().eval_end(aggregated_logs)
    self._averaged = False
    if self.on_outputs and aggregated_logs:
      self.on_outputs(self.task.joined(aggregated_logs))
    return logs

  @tf.autograph.experimental.do_not_convert
  def eval_step(self, iterator) -> Mapping[str, tf.Tensor]:
    """Outputs of one global validation batch, gathered from every replica and host."""
    outputs = self.strategy.run(
      self.task.validation_step, args=(next(iterator), self.model)
    )
    return {key: self._gathered(value) for key, value in outputs.items()}

  def _gathered(self, value) -> tf.Tensor:
    """A value of all replicas; not every type can be exchanged as it is."""
    # Replicas of one host come back as one object that has no type of its own.
    first = self.strategy.experimental_local_results(value)[0]
    carrier = gather.carrier_of(first.dtype)
    if carrier == first.dtype:
      return self.strategy.gather(value, axis=0)
    numbers = self.strategy.run(lambda v: tf.cast(v, carrier), args=(value,))
    return tf.cast(self.strategy.gather(numbers, axis=0), first.dtype)

  def eval_reduce(self, state=None, step_outputs=None):
    """Collects a batch's outputs; a signal ends the evaluation here."""
    if self._stop.number and not self.strategy.extended._in_multi_worker_mode():
      raise interrupt.Stopped(self._stop.number)
    return super().eval_reduce(state, step_outputs)


# Records of a failed batch that its message names.
_NAMED = 16


def _has_clock(strategy: tf.distribute.Strategy) -> bool:
  """Whether a step may look at the time: not on TPUs, nor where all is deterministic."""
  on_tpu = isinstance(strategy, tf.distribute.TPUStrategy)
  return not (on_tpu or tf_config.is_op_determinism_enabled())


def _schedule_of(optimizer) -> Any:
  """What an optimizer of either kind of Keras takes its learning rate from."""
  inner = getattr(optimizer, 'inner_optimizer', optimizer)
  if isinstance(inner, tf_keras.optimizers.legacy.Optimizer):
    return inner._hyper.get('learning_rate')
  return getattr(inner, '_learning_rate', None)


class ExperimentRunner(train_lib.OrbitExperimentRunner):
  """Runs an experiment in one of the Model Garden's modes."""

  def __init__(
    self,
    *,
    deterministic: bool = False,
    stop_at_failed_validation: bool = False,
    watched: watch.Watch | None = None,
    **kwargs,
  ):
    """Builds everything and restores the latest checkpoint; nothing is written.

    Args:
      deterministic: whether TensorFlow's operations were made deterministic; noted.
      stop_at_failed_validation: whether a validation that fails ends the run.
      watched: what of the run is told, and where; lines on standard output by default.
      **kwargs: of the Model Garden's runner.
    """
    self._stop = interrupt.Interrupt()
    self._deterministic = deterministic
    self._stop_at_failed_validation = stop_at_failed_validation
    self._watch = watched or watch.Watch()
    super().__init__(**kwargs)

  @functools.cached_property
  def _thrown_away(self) -> tempfile.TemporaryDirectory:
    """Goes with the runner, too, where its parts are refused before anything runs."""
    return tempfile.TemporaryDirectory(ignore_cleanup_errors=True)

  @property
  def _writes_to(self) -> str:
    """The run's folder on the worker that writes, on others one that is thrown away.

    Every worker has to save, since reading a variable may need all of them.
    """
    if self.strategy.extended.should_checkpoint:
      return self.model_dir
    return self._thrown_away.name

  def _build_trainer(self, task, train: bool, evaluate: bool) -> VideoTrainer:
    with self.strategy.scope():
      made = VideoTrainer(
        self.params,
        task,
        train,
        evaluate,
        self._build_best_checkpoint_exporter(),
        self._stop,
      )
    if made.follows_scores and train and self._mode != 'train_and_eval':
      kind = self.params.trainer.optimizer_config.learning_rate.type
      raise UserError(
        f'trainer.optimizer_config.learning_rate.type {kind!r}: follows the scores of '
        'validations between the steps; set task.validation_data.input_path and use '
        f'--mode=train_and_eval, not {self._mode}'
      )
    return made

  def _build_best_checkpoint_exporter(self) -> best.BestCheckpoint | None:
    """Keeps the best checkpoint, where the config names a folder for it."""
    # What evaluates a finished run may do it on other data.
    if self._mode == 'eval':
      return None
    return best.of_config(self.params.trainer, self.model_dir, self._writes_to)

  def _maybe_build_checkpoint_manager(self) -> saved.Checkpoints:
    """Refuses a run whose checkpoint is of another model before the trainer reads it."""
    self._start = saved.latest(self.model_dir)
    if self._start:
      restore.check({'model': self.trainer.model}, self._start)
      self.trainer.task.check_origin(self._start, origin.HEADS).tell()
    config, writes = self.params.trainer, self.strategy.extended.should_checkpoint
    return saved.Checkpoints(
      self.trainer.checkpoint,
      self._writes_to,
      config.max_to_keep if writes else 1,
      config.checkpoint_interval,
    )

  def _build_controller(
    self, trainer, evaluator, *args, **kwargs
  ) -> controller.VideoController:
    config = self.params.trainer
    self._teller = telling.Teller(self.params, self.trainer, self._watch, self.model_dir)
    chief = self.strategy.extended.should_save_summary
    summaries = self.model_dir if chief else self._thrown_away.name
    return controller.VideoController(
      config=config,
      model_dir=self.model_dir,
      stop=self._stop,
      strategy=self.strategy,
      trainer=trainer,
      evaluator=evaluator,
      global_step=self.trainer.global_step,
      steps_per_loop=config.steps_per_loop,
      checkpoint_manager=self.checkpoint_manager,
      start=self._start,
      stop_at_failed_validation=self._stop_at_failed_validation,
      teller=self._teller,
      enter=self._enter if chief else None,
      summary_dir=os.path.join(summaries, 'train'),
      eval_summary_dir=os.path.join(summaries, config.validation_summary_subdir),
      eval_actions=train_lib.actions.get_eval_actions(
        self.params, evaluator, self.model_dir
      ),
    )

  def _enter(self, step: int, scores: Mapping[str, Any]) -> None:
    """Adds an evaluation to the ledger of the run's folder."""
    newest = saved.newest(self.model_dir) or ''
    # A run that keeps no checkpoints evaluates weights that no file has.
    source = newest if newest.endswith(f'-{step}') else ''
    protocol = ledger.VALIDATION if 'train' in self._mode else 'task'
    made = ledger.entry(self.params, self._watch.experiment, source, [protocol], scores)
    made |= {'source': self.model_dir, 'step': step}
    ledger.append(os.path.join(self.model_dir, ledger.NAME), made)

  def run(self) -> Mapping[str, Any]:
    """Trains, evaluates or both; returns the last evaluation's scores.

    Raises:
      UserError: data or numbers are bad, or the folder is taken or can't be written.
      interrupt.Stopped: a signal ended the run, after a checkpoint.
    """
    writes = 'train' in self._mode and self.strategy.extended.should_checkpoint
    owned = run_folder.RunFolder(self.model_dir) if writes else None
    try:
      with self._stop, files.storage_errors(self.model_dir):
        if self.strategy.extended._in_multi_worker_mode():
          self._check_workers()
        if owned:
          self._begin(owned)
        output = self._run()
        if owned:
          kept = best.kept(self.params.trainer, self.model_dir)
          self._teller.done(self.controller.step, output, kept)
        return output
    except tf.errors.InvalidArgumentError as error:
      # Labels of files without a manifest are known only when they are read.
      if outside := re.search(
        r'a label is outside task\.model\.num_classes \d+', str(error)
      ):
        path = self.params.task.train_data.input_path
        raise UserError(f'{path}: {outside[0]}; set it higher') from error
      if lacking := re.search(r'the record (?:has no|lacks) [^\n\]]*', str(error)):
        raise UserError(
          f'{self.params.task.train_data.input_path}: one record after the other fails: '
          f'{lacking[0].strip()}; convert it again, or leave such records out'
        ) from error
      raise
    finally:
      self._teller.end()
      if owned:
        owned.release()
      if not self.strategy.extended.should_checkpoint:
        self._thrown_away.cleanup()
      self.trainer.end_input()

  def _check_workers(self) -> None:
    task = self.trainer.task
    tables = {}
    if 'train' in self._mode:
      tables['task.train_data'] = task.train_index
    if 'eval' in self._mode:
      tables['task.validation_data'] = task.validation_index
    found = agreement.facts(self.params, tables, gin.config_str())
    agreement.check(self.strategy, found | {'--mode': self._mode})

  def _begin(self, owned: run_folder.RunFolder) -> None:
    step, last = self.controller.step, self.params.trainer.train_steps
    self.controller.keep(
      owned,
      owned.begin(
        self.params,
        step,
        self.strategy.num_replicas_in_sync,
        self._deterministic,
        self.trainer.task.remembered(),
      ),
    )
    self._teller.begin(
      step,
      self._mode == 'train_and_eval',
      self.controller.summary_manager,
      os.path.join(self.model_dir, self.params.trainer.validation_summary_subdir),
    )
    if step >= last:
      self._teller.note(
        'note', f'already at step {step} of {last}: nothing left to train'
      )

  def _run(self) -> Mapping[str, Any]:
    trainer = self.params.trainer
    control: controller.VideoController = self.controller
    with self.strategy.scope():
      # Until the first step was taken, of which the tracing takes long.
      self._stop.nothing_to_lose = not self.strategy.extended._in_multi_worker_mode()
      if self._mode in ('train', 'train_and_post_eval'):
        control.train(steps=trainer.train_steps)
      if self._mode == 'train_and_post_eval':
        return control.validate(steps=trainer.validation_steps) or {}
      if self._mode == 'eval':
        return control.evaluate(steps=trainer.validation_steps) or {}
      if self._mode == 'train_and_eval':
        return (
          control.train_and_evaluate(
            train_steps=trainer.train_steps,
            eval_steps=trainer.validation_steps,
            eval_interval=trainer.validation_interval,
          )
          or {}
        )
      if self._mode == 'continuous_eval':
        return (
          control.evaluate_continuously(
            steps=trainer.validation_steps,
            timeout=trainer.continuous_eval_timeout,
            timeout_fn=lambda: self.trainer.global_step.numpy() >= trainer.train_steps,
          )
          or {}
        )
    return {}

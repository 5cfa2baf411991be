"""The orbit trainer of every task, and the runner that drives it through its modes."""

import re
from collections.abc import Mapping
from typing import Any

import orbit
import tensorflow as tf
import tf_keras
from absl import logging

from official.core import base_trainer, config_definitions, train_lib, train_utils
from official.video.checkpoints import restore
from official.video.data import reader
from official.video.errors import UserError
from official.video.tasks import base


class _Later:
  """Stands for the training data until the step to start from is known."""


class VideoTrainer(base_trainer.Trainer):
  """The Model Garden's trainer, whose input starts at the restored step.

  The input is a pure function of the step, so it is built when training begins, after
  the checkpoint was restored. Evaluation gathers the samples of all replicas and hosts.
  """

  def __init__(
    self,
    config: config_definitions.ExperimentConfig,
    task: base.VideoTask,
    train: bool,
    evaluate: bool,
    checkpoint_exporter: train_utils.BestCheckpointExporter | None = None,
  ):
    model = built(task)
    optimizer = train_utils.create_optimizer(task, config)
    # Keras makes a legacy optimizer's variables at its first step; made here, a restore
    # finds all of them, also in a run that only evaluates.
    if isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer):
      optimizer._create_all_weights(model.trainable_variables)
    super().__init__(
      config,
      task,
      model=model,
      optimizer=optimizer,
      train=train,
      evaluate=evaluate,
      train_dataset=_Later(),
      checkpoint_exporter=checkpoint_exporter,
    )

  def train_loop_begin(self) -> None:
    """Builds the input from the current step on, the first time."""
    super().train_loop_begin()
    if isinstance(self._train_dataset, _Later):
      self.train_dataset = self.distribute_dataset(
        self.task.build_inputs,
        self.config.task.train_data,
        start_step=int(self.global_step.numpy()),
      )

  def eval_step(self, iterator) -> Mapping[str, tf.Tensor]:
    """Outputs of one global validation batch, gathered from every replica and host."""
    outputs = self.strategy.run(
      self.task.validation_step, args=(next(iterator), self.model)
    )
    return {key: self.strategy.gather(value, axis=0) for key, value in outputs.items()}


def built(task: base.VideoTask) -> tf_keras.Model:
  """The task's model with its variables created, from a symbolic clip: nothing is run."""
  model = task.build_model()
  model(tf_keras.Input(tuple(task.task_config.train_data.feature_shape)))
  return model


class ExperimentRunner(train_lib.OrbitExperimentRunner):
  """Runs an experiment in one of the Model Garden's modes."""

  def _build_trainer(self, task, train: bool, evaluate: bool) -> VideoTrainer:
    with self.strategy.scope():
      return VideoTrainer(
        self.params, task, train, evaluate, self._build_best_checkpoint_exporter()
      )

  def _maybe_build_checkpoint_manager(self) -> tf.train.CheckpointManager | None:
    """Refuses a run whose checkpoint is of another model before the trainer reads it."""
    if tf.train.latest_checkpoint(self.model_dir):
      restore.check({'model': self.trainer.model}, self.model_dir)
    return super()._maybe_build_checkpoint_manager()

  def run(self) -> Mapping[str, Any]:
    """Trains, evaluates or both; returns the last evaluation's scores.

    Raises:
      UserError: the data is damaged or does not fit the head.
    """
    data = self.params.task
    configs = [data.train_data] if 'train' in self._mode else []
    try:
      with reader.damage_named(*configs, data.validation_data):
        return self._run()
    except tf.errors.InvalidArgumentError as error:
      # Labels of files without a manifest are known only when they are read.
      if outside := re.search(
        r'a label is outside task\.model\.num_classes \d+', str(error)
      ):
        raise UserError(
          f'{data.train_data.input_path}: {outside[0]}; set it higher'
        ) from error
      raise

  def _run(self) -> Mapping[str, Any]:
    trainer = self.params.trainer
    controller: orbit.Controller = self.controller
    logging.info('mode %s, model_dir %s', self._mode, self.model_dir)
    step = int(self.trainer.global_step.numpy())
    if 'train' in self._mode and step >= trainer.train_steps:
      print(f'already at step {step} of {trainer.train_steps}: nothing left to train')
    with self.strategy.scope():
      if self._mode in ('train', 'train_and_post_eval'):
        controller.train(steps=trainer.train_steps)
      if self._mode in ('eval', 'train_and_post_eval'):
        return controller.evaluate(steps=trainer.validation_steps) or {}
      if self._mode == 'train_and_eval':
        return (
          controller.train_and_evaluate(
            train_steps=trainer.train_steps,
            eval_steps=trainer.validation_steps,
            eval_interval=trainer.validation_interval,
          )
          or {}
        )
      if self._mode == 'continuous_eval':
        return (
          controller.evaluate_continuously(
            steps=trainer.validation_steps,
            timeout=trainer.continuous_eval_timeout,
            timeout_fn=lambda: self.trainer.global_step.numpy() >= trainer.train_steps,
          )
          or {}
        )
    return {}

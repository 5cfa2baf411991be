r"""Trains and evaluates a registered experiment.

  python -m official.video.train --experiment=cvrl_pretrain_kinetics400 \
    --mode=train_and_eval --model_dir=/runs/cvrl \
    --params_override=task.train_data.input_path=/data/k400/train.manifest.json

Precedence of a field: the experiment's default, then each --config_file in order, then
--params_override. The same command again resumes at the last checkpoint.
"""

import os
import sys
from collections.abc import Sequence

from absl import flags

from official.video import command_line
from official.video.errors import UserError

MODES = ('train', 'eval', 'train_and_eval', 'continuous_eval', 'train_and_post_eval')
FLAGS = flags.FLAGS


def define_flags() -> None:
  """The driver's flags."""
  command_line.define_experiment_flags()
  flags.DEFINE_string('model_dir', None, 'Folder of checkpoints and summaries.')
  flags.DEFINE_enum('mode', 'train_and_eval', MODES, 'What to run.')


def check_replicas(params, strategy) -> None:
  """Raises `UserError` where a global batch does not divide over the replicas."""
  replicas = strategy.num_replicas_in_sync
  for name in ('train_data', 'validation_data'):
    batch = getattr(params.task, name).global_batch_size
    if batch % replicas:
      raise UserError(
        f'task.{name}.global_batch_size {batch} is not divisible by the {replicas} '
        f'replicas; use {batch // replicas * replicas or replicas}'
      )


def check_model_dir(model_dir: str, mode: str) -> None:
  """Raises `UserError` for a folder that can't be a run's, or holds none to evaluate."""
  import tensorflow as tf

  if not model_dir:
    raise UserError('--model_dir is missing; name the folder of the run')
  names = tf.io.gfile.listdir(model_dir) if tf.io.gfile.isdir(model_dir) else []
  if 'train' in mode and names and 'params.yaml' not in names:
    raise UserError(
      f'--model_dir {model_dir}: not empty and not a run (no params.yaml); use a new folder'
    )
  if mode.endswith('eval') and 'train' not in mode and not tf.io.gfile.isdir(model_dir):
    raise UserError(f'--model_dir {model_dir}: no such folder to evaluate')
  if mode == 'eval' and not tf.train.latest_checkpoint(model_dir):
    raise UserError(f'--model_dir {model_dir}: holds no checkpoint to evaluate')


def tell_changes(params, path: str) -> None:
  """Names the fields that a resumed run changes, on stderr."""
  import tensorflow as tf

  from official.video import experiment

  if not tf.io.gfile.exists(path):
    return
  before = experiment.flat(experiment.parse_overrides(experiment.read_text(path), path))
  after = experiment.flat(params.as_dict())
  for name in sorted(before.keys() & after.keys()):
    if before[name] != after[name]:
      print(
        f'note: resumes with {name} {after[name]!r}, was {before[name]!r}',
        file=sys.stderr,
      )


def save_run(params, model_dir: str) -> None:
  """Writes the resolved config and the gin bindings into the run's folder."""
  import gin
  import tensorflow as tf

  from official.video import experiment

  try:
    tf.io.gfile.makedirs(model_dir)
  except tf.errors.OpError as error:
    raise UserError(f"--model_dir {model_dir}: can't be made: {error.message}") from error
  tell_changes(params, os.path.join(model_dir, 'params.yaml'))
  texts = {'params.yaml': experiment.to_yaml(params), 'config.gin': gin.config_str()}
  for name, text in texts.items():
    with tf.io.gfile.GFile(os.path.join(model_dir, name), 'w') as file:
      file.write(text)


def main(argv: Sequence[str]) -> None:
  """Runs the experiment that the flags ask for."""
  del argv
  params = command_line.load_experiment(FLAGS)
  if FLAGS.dry_run:
    from official.video import dry_run

    print(dry_run.describe(params, FLAGS.mode))
    return
  check_model_dir(FLAGS.model_dir, FLAGS.mode)
  from official.video import experiment, trainer

  strategy = command_line.strategy_of(params)
  check_replicas(params, strategy)
  task = experiment.build_task(params, FLAGS.model_dir)
  task.check_data('train' in FLAGS.mode)
  runner = trainer.ExperimentRunner(
    distribution_strategy=strategy,
    task=task,
    mode=FLAGS.mode,
    params=params,
    model_dir=FLAGS.model_dir,
  )
  if 'train' in FLAGS.mode:  # Only now is all known to fit, checkpoints too.
    save_run(params, FLAGS.model_dir)
  runner.run()


if __name__ == '__main__':
  define_flags()
  command_line.run(main)

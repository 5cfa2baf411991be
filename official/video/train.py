r"""Trains and evaluates a registered experiment.

  python -m official.video.train --experiment=cvrl_pretrain_kinetics400 \
    --mode=train_and_eval --model_dir=/runs/cvrl \
    --params_override=task.train_data.input_path=/data/k400/train.manifest.json

Precedence of a field: the experiment's default, then each --config_file in order, then
--params_override. The same command again resumes at the last checkpoint.
"""

import contextlib
import sys
from collections.abc import Sequence

from absl import flags

from official.video import files, scalars
from official.video.errors import UserError
from official.video.run import console, opening, trackers, watch
from official.video.settings import command_line

MODES = ('train', 'eval', 'train_and_eval', 'continuous_eval', 'train_and_post_eval')
FLAGS = flags.FLAGS


def define_flags() -> None:
  """The driver's flags."""
  command_line.define_experiment_flags()
  flags.DEFINE_string('model_dir', None, 'Folder of checkpoints and summaries.')
  flags.DEFINE_enum('mode', 'train_and_eval', MODES, 'What to run.')
  flags.DEFINE_bool(
    'profile_input',
    False,
    'Measure for a minute what the input gives by stage and what the step takes, say '
    'which one limits, and stop.',
  )
  flags.DEFINE_bool(
    'deterministic',
    False,
    'Use only operations whose results do not depend on timing: the same command then '
    'gives the same weights, bit for bit, however often it is stopped. Slower on GPUs.',
  )
  flags.DEFINE_bool(
    'stop_at_failed_validation',
    False,
    'End the run where a validation fails; by default that is said, and training goes on.',
  )
  flags.DEFINE_string(
    'fit',
    None,
    'Pick micro-batches, recomputation, batch and rate for the memory of a device, which the '
    'machine tells, or for so many gigabytes: --fit, --fit=24. --dry_run tells what it picks.',
  )
  flags.DEFINE_enum(
    'log_format',
    None,
    console.FORMATS,
    'How the run tells how it goes: a bar, a line a report, or a JSON object a line; by '
    'default a bar on a terminal, else lines.',
  )
  flags.DEFINE_multi_string(
    'tracker',
    [],
    'Trackers that are told all scores too, by the names under which modules of --import '
    'register them; see docs/tracking.md.',
  )
  flags.DEFINE_string(
    'profile',
    None,
    "Steps that TensorFlow's profiler records for TensorBoard, such as 100-110.",
  )
  flags.DEFINE_bool(
    'pictures',
    True,
    'Give TensorBoard views of some clips, confusions, a map of the features and the '
    'parameters beside the scores.',
  )


def check_replicas(params, replicas: int) -> None:
  """Raises `UserError` where a global batch does not divide over the replicas."""
  for name in ('train_data', 'validation_data'):
    batch = getattr(params.task, name).global_batch_size
    if batch % replicas:
      raise UserError(
        f'task.{name}.global_batch_size {batch} is not divisible by the {replicas} '
        f'replicas; use {batch // replicas * replicas or replicas}'
      )


def run(
  params,
  model_dir: str,
  mode: str = 'train_and_eval',
  *,
  deterministic: bool = False,
  stop_at_failed_validation: bool = False,
  strategy=None,
  watched: watch.Watch | None = None,
):
  """Runs a resolved experiment: what the driver, the demo, tests and benchmarks share.

  Args:
    params: of `experiment.load`.
    model_dir: folder of checkpoints and summaries; what is there goes on.
    mode: one of `MODES`.
    deterministic: whether TensorFlow may use only operations whose results do not depend
      on timing; it stays so for the process.
    stop_at_failed_validation: whether a validation that fails ends the run.
    strategy: of distribution; that of `params.runtime` by default.
    watched: what of the run is told, and where; lines on standard output by default.

  Returns:
    The runner, and the last evaluation's scores.

  Raises:
    UserError: settings, data or the folder don't fit.
  """
  import tf_keras

  from official.video.estimate import fit
  from official.video.run import run_folder, trainer
  from official.video.settings import fitting, ranges, schedule

  watched = watched or watch.Watch()
  for name in watched.trackers:
    trackers.TRACKERS.find(name)  # Before any work.
  ranges.check(params, mode)
  mode, note = fitting.mode_of(params, mode)
  _tell([note] if note else [])
  if model_dir:
    model_dir = files.encodable(model_dir, make='train' in mode)
  run_folder.check(model_dir, mode)
  if 'train' in mode:
    files.check_output(model_dir, '--model_dir')
    run_folder.check_resumed(model_dir, params)
  if deterministic:
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
  strategy = strategy or command_line.strategy_of(params)
  if 'train' in mode:
    schedule.check_intervals(params.trainer)
    rate = schedule.check(params.trainer).describe()
    watched.out.tell('schedule', f'rate       {rate}')
  params, task = checked(params, mode, strategy.num_replicas_in_sync, model_dir)
  if 'train' in mode and (note := fit.warning(params)):
    _tell([note])
  # Before anything runs: weights begin the same, also where no checkpoint was reached.
  tf_keras.utils.set_random_seed(params.task.train_data.seed)
  runner = trainer.ExperimentRunner(
    distribution_strategy=strategy,
    task=task,
    mode=mode,
    params=params,
    model_dir=model_dir,
    deterministic=deterministic,
    stop_at_failed_validation=stop_at_failed_validation,
    watched=watched,
  )
  return runner, runner.run()


def checked(params, mode: str, replicas: int, model_dir: str = ''):
  """An experiment and its task, fitted to the data, once both have passed all checks.

  Args:
    params: resolved experiment, whose numbers and schedule are in range.
    mode: one of `MODES`.
    replicas: of the strategy.
    model_dir: folder of checkpoints and summaries.

  Raises:
    UserError: settings or data don't fit.
  """
  from official.video.run import data_service
  from official.video.settings import experiment, fitting

  check_replicas(params, replicas)
  check_compilation(params, replicas)
  if 'train' in mode and params.task.train_data.enable_tf_data_service:
    data_service.check(params.task.train_data.tf_data_service_address)
  task = experiment.build_task(params, model_dir)
  params, notes = fitting.fitted(params, task, mode, replicas)
  if notes:
    _tell(notes)
    task = experiment.build_task(params, model_dir)
  task.check_data('train' in mode, 'eval' in mode)
  task.check_classes()
  if 'eval' in mode:
    check_best_metric(params.trainer, task)
  return params, task


def _tell(notes: Sequence[str]) -> None:
  for note in notes:
    print(note, file=sys.stderr)


def check_compilation(params, replicas: int) -> None:
  """Raises `UserError` where a step can't be compiled with XLA."""
  if params.runtime.enable_xla and replicas > 1 and params.runtime.tpu is None:
    raise UserError(
      f'runtime.enable_xla true on {replicas} replicas: TensorFlow compiles the step of one '
      'device only, or of TPUs; set it to false, or runtime.num_gpus to 1'
    )


def check_best_metric(config, task) -> None:
  """Raises `UserError` where the best checkpoint goes by a score that there is not."""
  name, folder = (
    config.best_checkpoint_eval_metric,
    config.best_checkpoint_export_subdir,
  )
  if bool(name) != bool(folder):
    raise UserError(
      f'trainer.best_checkpoint_export_subdir {folder!r} with '
      f'trainer.best_checkpoint_eval_metric {name!r}: set both, or none'
    )
  known = task.score_names
  if name and known and not scalars.is_among(name, known):
    raise UserError(
      f'trainer.best_checkpoint_eval_metric {name!r}: is no score of this task; known: '
      + ', '.join(map(scalars.published, known))
    )


def _profile_input(params) -> None:
  from official.video.data import views
  from official.video.estimate import profile_input
  from official.video.settings import experiment, fitting

  strategy = command_line.strategy_of(params)
  replicas = strategy.num_replicas_in_sync
  check_replicas(params, replicas)
  params, notes = fitting.fitted(params, experiment.build_task(params), 'train', replicas)
  _tell(notes)
  task = experiment.build_task(params)
  task.check_data(True, False)
  data = params.task.train_data
  stages = profile_input.input_stages(data, task.train_index)
  needed = profile_input.step_rate(params, task, strategy)
  with strategy.scope():
    on_device = views.augments_on_device(data)
    accelerated = views.accelerated()
  print(profile_input.describe(stages, needed, on_device, not accelerated))


def with_data(params, mode: str) -> str:
  """The mode, without what the experiment names no data for."""
  data = {'train': params.task.train_data, 'eval': params.task.validation_data}
  return '_and_'.join(
    part
    for part, config in data.items()
    if part in mode and (config.input_path or config.tfds_name)
  )


def _fit(params, mode: str, asked: str):
  """What `--fit` picks for the batch that the data fills."""
  from official.video.estimate import fit
  from official.video.settings import experiment, fitting

  if 'train' in with_data(params, mode):
    # How many micro-batches it takes is for the memory to say.
    whole = params.replace(task={'micro_batches': 1})
    task, replicas = experiment.build_task(whole), max(1, params.runtime.num_gpus)
    params, notes = fitting.fitted(whole, task, 'train', replicas)
    _tell(notes)
  return fit.apply(params, asked)


def _dry_run(
  params, model_dir: str | None, mode: str, fits: str | None, told: Sequence[str]
) -> None:
  """Prints what a run would be, then ends as the run would."""
  from official.video.estimate import dry_run
  from official.video.run import run_folder
  from official.video.settings import experiment, fitting

  fault = None
  try:
    for name in told:
      trackers.TRACKERS.find(name)
    command_line.check_precision(params.runtime)
    if fits is not None:
      params = _fit(params, mode, fits)
    if model_dir:
      run_folder.check(model_dir, mode)
      run_folder.check_resumed(model_dir, params)
    there = with_data(params, mode)
    if 'train' in there:
      _tell([note for note in [fitting.mode_of(params, mode)[1]] if note])
    if 'eval' in mode:
      check_best_metric(params.trainer, experiment.build_task(params))
    replicas = max(1, params.runtime.num_gpus)
    params, _ = checked(params, there, replicas, model_dir or '')
  except UserError as error:
    fault = error
  dry_run.tell(params, mode)
  if fault:
    raise fault


def main(argv: Sequence[str]) -> None:
  """Runs the experiment that the flags ask for."""
  del argv
  watched = watch.Watch(
    console.Console(FLAGS.log_format),
    FLAGS.tracker,
    watch.window(FLAGS.profile),
    FLAGS.pictures,
    FLAGS.experiment or '',
  )
  tells = not (FLAGS.dry_run or FLAGS.profile_input)
  with watched.out.with_notes() if tells else contextlib.nullcontext():
    _main(watched)


def _main(watched: watch.Watch) -> None:
  runs = FLAGS.list is None and not (FLAGS.dry_run or FLAGS.profile_input)
  if runs and FLAGS.experiment and FLAGS.model_dir:
    watched.told = opening.tell(
      watched.out,
      FLAGS.experiment,
      FLAGS.mode,
      FLAGS.model_dir,
      FLAGS.config_file,
      FLAGS.params_override,
    )
  params = command_line.load_experiment(FLAGS)
  if 'train' in FLAGS.mode:
    from official.video.settings import fitting

    note = fitting.linear_note(FLAGS.experiment, FLAGS.config_file, FLAGS.params_override)
    if note:
      watched.out.tell('note', note)
    params, note = fitting.unflipped(params, FLAGS.config_file, FLAGS.params_override)
    _tell([note] if note else [])
  if FLAGS.dry_run:
    _dry_run(params, FLAGS.model_dir, FLAGS.mode, FLAGS.fit, FLAGS.tracker)
    return
  if FLAGS.fit is not None:
    params = _fit(params, FLAGS.mode, FLAGS.fit)
  if FLAGS.profile_input:
    _profile_input(params)
    return
  run(
    params,
    FLAGS.model_dir,
    FLAGS.mode,
    deterministic=FLAGS.deterministic,
    stop_at_failed_validation=FLAGS.stop_at_failed_validation,
    watched=watched,
  )


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

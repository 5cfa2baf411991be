r"""Scores a checkpoint, an exported SavedModel or features without training a network.

  python -m official.video.evaluate --experiment=cvrl_linear_eval_ucf101 \
    --saved_model=/models/cvrl --protocols=knn,retrieval,linear --output_dir=/scores
  python -m official.video.evaluate --train_features=train.npy --test_features=test.npy

Protocols: `knn` (weighted k nearest neighbours), `retrieval` (R@k, test videos against
training videos), `linear` (logistic regression on the features, to convergence),
`linear_sgd` (a dense layer on them by the published schedule), `classify` (the trained
classifier's multi-view accuracy), `task` (the experiment's own evaluation, such as frame
mAP or tracking, with its prediction files). The experiment names the data and the test
views; features are files of official.video.embed, or folders with feature.npy and
labels.npy, as --features_dir keeps them.

On several hosts, which TF_CONFIG or runtime.worker_hosts names, the same command on each:
every host encodes its share into a folder that all of them see, the first one scores.
"""

import functools
import os
import sys
from collections.abc import Sequence

from absl import flags

from official.video import files
from official.video.errors import UserError
from official.video.scoring import PROTOCOLS
from official.video.settings import command_line

FLAGS = flags.FLAGS


def define_flags() -> None:
  """The driver's flags."""
  command_line.define_experiment_flags()
  flags.DEFINE_string('checkpoint', None, 'Checkpoint prefix or folder to score.')
  flags.DEFINE_string('saved_model', None, 'Exported SavedModel to score instead.')
  flags.DEFINE_bool(
    'random_weights', False, 'Score an untrained backbone, for comparison.'
  )
  flags.DEFINE_list(
    'protocols', ['knn', 'retrieval', 'linear'], f'Of {", ".join(PROTOCOLS)}.'
  )
  flags.DEFINE_string(
    'features_dir',
    None,
    'Folder that keeps the features, for the next evaluation of the same weights and data. '
    'By default they stand in --output_dir until the end: where an evaluation was stopped, '
    'the same command goes on.',
  )
  flags.DEFINE_string(
    'train_features',
    None,
    'File of embed, or folder, of features that are there already.',
  )
  flags.DEFINE_string('test_features', None, 'The same, of the test.')
  flags.DEFINE_string(
    'labels',
    None,
    'List of the files that embed read, a line each: path,label or path,label|label. By '
    'default a file is of the class that its folder is called after.',
  )
  flags.DEFINE_string('output_dir', None, 'Folder for scores.json and the predictions.')
  flags.DEFINE_string(
    'ledger',
    None,
    'File that gets a line of this evaluation, by default ledger.jsonl in --output_dir; '
    'official.video.results makes a table of it.',
  )


def check_protocols(names: Sequence[str], saved_model: str | None) -> None:
  """Raises `UserError` where protocols are not known or don't go together."""
  if not names:
    raise UserError(f'--protocols is empty; name some of {", ".join(PROTOCOLS)}')
  unknown = sorted(set(names) - set(PROTOCOLS))
  if unknown:
    raise UserError(f'--protocols: unknown {unknown[0]!r}; known: {", ".join(PROTOCOLS)}')
  if 'task' in names and (len(names) > 1 or saved_model):
    raise UserError(
      'protocol task: goes alone, with --checkpoint or --random_weights; run the other '
      'protocols in a command of their own'
    )


# What says which model is to make features of which data.
_OF_MODELS = (
  *('experiment', 'config_file', 'params_override', 'checkpoint', 'saved_model'),
  *('random_weights', 'features_dir', 'ledger', 'dry_run'),
)


def _check_files(values: flags.FlagValues) -> None:
  """Raises `UserError` for flags that don't go with features that are there already."""
  command_line.require(values, 'train_features', 'test_features')
  for name in _OF_MODELS:
    if values[name].value:
      raise UserError(f'--{name} with --train_features: nothing reads it; leave it out')
  if wrong := sorted({'classify', 'task'} & set(values.protocols)):
    raise UserError(
      f'--protocols={wrong[0]} with --train_features: takes the model; leave it out'
    )


def _check_hosts(values: flags.FlagValues) -> None:
  """Raises `UserError` for flags that don't go with several hosts."""
  if 'task' in values.protocols:
    raise UserError(
      '--protocols=task on several hosts: one host runs it; leave TF_CONFIG and '
      'runtime.worker_hosts out, or validate on all by official.video.train --mode=eval'
    )
  if values.random_weights:
    raise UserError(
      '--random_weights on several hosts: each would draw its own; use one host'
    )
  if not (values.features_dir or values.output_dir):
    raise UserError(
      'several hosts without --output_dir: name a folder that all of them see, or '
      '--features_dir'
    )


def main(argv: Sequence[str]) -> None:
  """Scores what the flags ask for."""
  del argv
  check_protocols(FLAGS.protocols, FLAGS.saved_model)
  if FLAGS.train_features or FLAGS.test_features:
    _check_files(FLAGS)
    output = FLAGS.output_dir or ''
    if output:
      files.check_output(output, '--output_dir')
    from official.video.scoring import of_files

    pair = FLAGS.train_features, FLAGS.test_features
    of_files.run(FLAGS.protocols, *pair, FLAGS.labels or '', output)
    return
  if FLAGS.labels:
    raise UserError('--labels without --train_features: nothing reads it; leave it out')
  params = command_line.load_experiment(FLAGS)
  if FLAGS.output_dir:
    files.check_output(FLAGS.output_dir, '--output_dir')
  if FLAGS.features_dir:
    files.check_output(FLAGS.features_dir, '--features_dir')
  if FLAGS.ledger:
    files.check_output(FLAGS.ledger, '--ledger', is_folder=False)
  if FLAGS.dry_run:
    from official.video.estimate import dry_run

    uses = ['validation_data']
    if {'classify', 'task'} & set(FLAGS.protocols):
      uses.append('classes')
    if set(FLAGS.protocols) - {'classify', 'task'}:
      uses.append('train_data')
    dry_run.tell(params, 'evaluate', uses)
    return
  given = [bool(FLAGS.checkpoint), bool(FLAGS.saved_model), FLAGS.random_weights]
  if given.count(True) != 1:
    raise UserError(
      'give exactly one of --checkpoint, --saved_model and --random_weights'
    )
  if FLAGS.features_dir and (FLAGS.random_weights or 'task' in FLAGS.protocols):
    other = '--random_weights' if FLAGS.random_weights else '--protocols=task'
    raise UserError(f'--features_dir with {other}: keeps no features; leave it out')
  from official.video.evaluation import sharing

  hosts = sharing.hosts_of(params.runtime)
  if hosts.count > 1:
    _check_hosts(FLAGS)
  from official.video.settings import experiment

  task = experiment.build_task(params)
  try:
    task.check_classes()
  except UserError as error:
    if {'classify', 'task'} & set(FLAGS.protocols):
      raise
    print(f'note: {error}; the head is not looked at here', file=sys.stderr)
  output = FLAGS.output_dir or ''
  if 'task' in FLAGS.protocols:
    from official.video.scoring import of_task

    batch = params.task.validation_data.global_batch_size
    gpus = params.runtime.num_gpus if task.protocol_is_shared else 1
    with command_line.encoding_strategy(gpus, batch).scope():
      scores = of_task.run(task, FLAGS.checkpoint, output)
  else:
    from official.video.scoring import of_features
    from official.video.serving import encoders

    encoder_of = functools.partial(
      encoders.encoder_of, params, task, FLAGS.checkpoint, FLAGS.saved_model
    )
    kept = of_features.Kept()
    place = FLAGS.features_dir or (output and os.path.join(output, of_features.PARTIAL))
    if place and not FLAGS.random_weights:
      source = FLAGS.checkpoint or FLAGS.saved_model
      if FLAGS.saved_model:
        encoders.require_saved_model(source)
      known = of_features.identity(params, source)
      kept = of_features.Kept(place, known, bool(FLAGS.features_dir), hosts)
    with command_line.encoding_strategy(params.runtime.num_gpus).scope():
      scores = of_features.run(params, task, FLAGS.protocols, encoder_of, output, kept)
  if hosts.index:
    return  # The first host scores.
  if FLAGS.ledger or output:
    from official.video.evaluation import ledger

    source = FLAGS.checkpoint or FLAGS.saved_model or ''
    made = ledger.entry(params, FLAGS.experiment, source, FLAGS.protocols, scores)
    ledger.append(FLAGS.ledger or os.path.join(output, ledger.NAME), made)


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

r"""Scores a checkpoint or an exported SavedModel without training a network.

  python -m official.video.evaluate --experiment=cvrl_linear_eval_ucf101 \
    --saved_model=/models/cvrl --protocols=knn,retrieval,linear --output_dir=/scores

Protocols: `knn` (weighted k nearest neighbours), `retrieval` (R@k, test videos against
training videos), `linear` (logistic regression on the features), `classify` (the trained
classifier's multi-view accuracy), `task` (the experiment's own evaluation, such as frame
mAP or tracking, with its prediction files). The experiment names the data and the test
views.
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


def main(argv: Sequence[str]) -> None:
  """Scores what the flags ask for."""
  del argv
  check_protocols(FLAGS.protocols, FLAGS.saved_model)
  params = command_line.load_experiment(FLAGS)
  if FLAGS.output_dir:
    files.check_output(FLAGS.output_dir, '--output_dir')
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

    scores = of_task.run(task, FLAGS.checkpoint, output)
  else:
    from official.video.scoring import of_features
    from official.video.serving import encoders

    encoder_of = functools.partial(
      encoders.encoder_of, params, task, FLAGS.checkpoint, FLAGS.saved_model
    )
    with command_line.encoding_strategy(params.runtime.num_gpus).scope():
      scores = of_features.run(params, task, FLAGS.protocols, encoder_of, output)
  if kept := FLAGS.ledger or (output and os.path.join(output, 'ledger.jsonl')):
    from official.video.scoring import ledger

    source = FLAGS.checkpoint or FLAGS.saved_model or ''
    made = ledger.entry(params, FLAGS.experiment, source, FLAGS.protocols, scores)
    ledger.append(kept, made)


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

r"""Scores a checkpoint or an exported SavedModel without training a network.

  python -m official.video.evaluate --experiment=cvrl_linear_eval_ucf101 \
    --saved_model=/models/cvrl --protocols=knn,retrieval,linear --output_dir=/scores

Protocols: `knn` (weighted k nearest neighbours), `retrieval` (R@k, test videos against
training videos), `linear` (logistic regression on the features), `classify` (the trained
classifier's multi-view accuracy), `task` (the experiment's own evaluation, such as frame
mAP or tracking, with its prediction files). The experiment names the data and the test
views.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from official.video import files
from official.video.errors import UserError
from official.video.evaluation import coverage
from official.video.settings import command_line

FLAGS = flags.FLAGS
PROTOCOLS = ('knn', 'retrieval', 'linear', 'classify', 'task')


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


def main(argv: Sequence[str]) -> None:
  """Scores what the flags ask for."""
  del argv
  if not FLAGS.protocols:
    raise UserError(f'--protocols is empty; name some of {", ".join(PROTOCOLS)}')
  unknown = sorted(set(FLAGS.protocols) - set(PROTOCOLS))
  if unknown:
    raise UserError(f'--protocols: unknown {unknown[0]!r}; known: {", ".join(PROTOCOLS)}')
  params = command_line.load_experiment(FLAGS)
  if FLAGS.output_dir:
    files.check_output(FLAGS.output_dir, '--output_dir')
  if FLAGS.dry_run:
    from official.video.estimate import dry_run

    print(dry_run.describe(params, 'evaluate'))
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
  if 'task' in FLAGS.protocols:
    _run_task(task)
  else:
    _run_on_features(params, task)


# What of the training data tells which videos make the gallery; the rest, how views are
# taken, is the test's.
_GALLERY_FIELDS = (
  'input_path',
  'tfds_name',
  'tfds_split',
  'tfds_data_dir',
  'label_fraction',
)


def _run_on_features(params, task) -> None:
  """Runs the protocols that score features of both splits."""
  from official.video.evaluation import extract, protocols
  from official.video.serving import encoders

  if task.multi_label:
    raise UserError(
      f'--protocols={",".join(FLAGS.protocols)} with task.multi_label: they score one '
      'label a clip; use --protocols=task, or set task.multi_label to false for those of '
      'the features by the first label'
    )
  needs_gallery = set(FLAGS.protocols) != {'classify'}
  task.check_data(needs_gallery)
  encoder = (
    encoders.saved_model_encoder(FLAGS.saved_model, task, 'classify' in FLAGS.protocols)
    if FLAGS.saved_model
    else encoders.checkpoint_encoder(params, task, FLAGS.checkpoint)
  )
  encoder = encoders.averaging(encoder, task.average)
  test_config = extract.test_config(params.task.validation_data)
  fields = {name: getattr(params.task.train_data, name) for name in _GALLERY_FIELDS}
  train_config = dataclasses.replace(test_config, **fields)
  test = extract.encode(test_config, task.validation_index, encoder, description='test')
  train, train_table = test, task.validation_index
  if needs_gallery:
    train_table = task.train_index
    train = extract.encode(train_config, train_table, encoder, description='gallery')
  scores = protocols.score(
    FLAGS.protocols, train, test, task.validation_index, train_table
  )
  report(scores)
  if FLAGS.output_dir:
    save(scores, test, task.validation_index, FLAGS.output_dir)


def _run_task(task) -> None:
  """Runs the task's own evaluation of a checkpoint.

  Raises:
    UserError: other protocols or sources are asked for beside it.
  """
  if FLAGS.protocols != ['task'] or FLAGS.saved_model:
    raise UserError(
      'protocol task: goes alone, with --checkpoint or --random_weights; run the other '
      'protocols in a command of their own'
    )
  from official.video.checkpoints import restore
  from official.video.run import trainer

  if FLAGS.checkpoint:
    found = task.check_origin(FLAGS.checkpoint, head=True)
  task.check_data(False)
  model = trainer.built(task)
  if FLAGS.checkpoint:
    restore.restore(model.checkpoint_items, FLAGS.checkpoint)
    found.tell()
  with files.storage_errors(FLAGS.output_dir or ''):
    if FLAGS.output_dir:
      os.makedirs(FLAGS.output_dir, exist_ok=True)
    scores = task.run_protocol(model, FLAGS.output_dir or '')
  for name, value in scores.items():
    print(
      f'{name:24s} {value:.4f}' if isinstance(value, float) else f'{name:24s} {value}'
    )
  for line in coverage.lines(scores):
    print(line)
  if FLAGS.output_dir:
    with files.storage_errors(FLAGS.output_dir):
      _save_scores(scores, FLAGS.output_dir)


def report(scores: dict[str, Any]) -> None:
  """Prints one line a protocol."""
  from official.video.evaluation import protocols

  for protocol in PROTOCOLS:
    if protocol in scores:
      values = '  '.join(
        f'{name} {100 * v:.1f} %' if name != protocols.NOT_SCORED else f'not scored, {v}'
        for name, v in scores[protocol].items()
      )
      print(f'{protocol:10s} {values}')
  for line in coverage.lines(scores):
    print(line)


def save(scores: dict[str, Any], test, table, output_dir: str) -> None:
  """Writes scores.json and, from a classifier, predictions.npz."""
  from official.video.evaluation import protocols

  with files.storage_errors(output_dir):
    os.makedirs(output_dir, exist_ok=True)
    _save_scores(scores, output_dir)
    if protocols.probabilities(test) is not None:
      path = os.path.join(output_dir, 'predictions.npz')
      protocols.predictions(test, table).save(path)


def _save_scores(scores: dict[str, Any], output_dir: str) -> None:
  text = json.dumps(coverage.marked(scores), indent=2) + '\n'
  files.write_atomically(os.path.join(output_dir, 'scores.json'), text.encode())


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

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
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import flags

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


def checkpoint_encoder(params, task, checkpoint: str | None) -> Callable:
  """Encodes with an experiment's model, from a checkpoint or (None) untrained.

  The outputs are 'feature' and, for a classification checkpoint, 'probability'.
  """
  import tensorflow as tf

  from official.video.augment import normalization
  from official.video.checkpoints import restore
  from official.video.configs import tasks
  from official.video.run import trainer

  model = trainer.built(task)
  has_head = False
  if checkpoint:
    classifier = isinstance(params.task, tasks.ClassificationTask)
    objects = {'backbone': model.backbone} | ({'head': model.head} if classifier else {})
    report = restore.restore(objects, checkpoint, required=('backbone',))
    has_head = classifier and any(name.startswith('head/') for name in report.restored)
    task.check_origin(checkpoint, head=has_head)

  @tf.function(reduce_retracing=True)
  def encode(clips):
    outputs = model(
      normalization.normalize(clips, params.task.zero_centering), training=False
    )
    result = {'feature': outputs['feature']}
    return result | (
      {'probability': tf.nn.softmax(outputs['output'])} if has_head else {}
    )

  return encode


def saved_model_encoder(path: str) -> Callable:
  """Encodes with the `clips` signature of an exported SavedModel.

  Raises:
    UserError: the folder holds none, or one without that signature.
  """
  import tensorflow as tf

  try:
    loaded = tf.saved_model.load(path)
  except OSError as error:
    raise UserError(
      f'--saved_model {path}: holds no SavedModel; export one first'
    ) from error
  if 'clips' not in loaded.signatures:
    raise UserError(
      f'--saved_model {path}: has the signatures {list(loaded.signatures)}, expected '
      "'clips'; export it with official.video.export"
    )
  signature = loaded.signatures['clips']

  def encode(clips, model=loaded):  # A signature alone does not keep its variables.
    del model
    outputs = signature(clips=clips)
    return {n: outputs[n] for n in ('feature', 'probability') if n in outputs}

  return encode


def averaging(encoder: Callable, average: str) -> Callable:
  """The encoder whose classifier's outputs are averaged over views as a task asks.

  For 'logit' it gives 'log_probability' in the place of 'probability'.
  """
  import tensorflow as tf

  from official.video.evaluation import classification

  classification.check_average(average)
  if average == 'probability':
    return encoder

  def encode(clips):
    outputs = dict(encoder(clips))
    if 'probability' in outputs:
      logs = classification.log_probabilities(outputs.pop('probability').numpy())
      outputs['log_probability'] = tf.constant(logs)
    return outputs

  return encode


def score(protocols: Sequence[str], train, test, table, train_table) -> dict[str, Any]:
  """Scores of encoded training and test data by protocol.

  Args:
    protocols: names out of `PROTOCOLS`.
    train: `extract.Encoded` training data.
    test: `extract.Encoded` test data.
    table: index of the test data.
    train_table: index of the training data.

  Raises:
    UserError: a clip has no label, or no classifier was trained.
  """
  from official.video.evaluation import baselines, classification, knn, retrieval

  for encoded, records in ((train, train_table), (test, table)):
    if len(encoded.labels) and encoded.labels.min() < 0:
      raise UserError(
        f'{records.files[0]}: holds clips without a label; convert the data with labels'
      )
  scores: dict[str, Any] = {
    'evaluated': len(test.labels),
    'expected': test.expected,
    'gallery': {'evaluated': len(train.labels), 'expected': train.expected},
  }
  classes = len(table.label_names) or int(max(train.labels.max(), test.labels.max())) + 1
  if 'knn' in protocols:
    votes = knn.knn_predict(train.feature, train.labels, test.feature, classes)
    scores['knn'] = {'top1': float(np.mean(votes.argmax(1) == test.labels))}
  if 'retrieval' in protocols:
    recalls = retrieval.class_retrieval(
      test.feature, test.labels, train.feature, train.labels
    )
    scores['retrieval'] = {f'R@{k}': value for k, value in recalls.items()}
  if 'linear' in protocols:
    probe = baselines.linear_probe(train.feature, train.labels, test.feature, test.labels)
    scores['linear'] = {'top1': probe.top1}
  if 'classify' in protocols:
    result = classification.evaluate(predictions(test, table), table.names())
    scores['classify'] = {
      'top1': result.top1,
      'mean_class_accuracy': result.mean_class_accuracy,
    }
  return scores


def predictions(test, table):
  """The classifier's predictions, named by record.

  Raises:
    UserError: the model has no classifier.
  """
  from official.video.evaluation import classification

  scores = _probabilities(test)
  if scores is None:
    raise UserError(
      'protocol classify: the model has no trained classifier; score a classification '
      "experiment's checkpoint or leave the protocol out"
    )
  names = table.names()
  return classification.Predictions(
    tuple(names[row] for row in test.records),
    test.labels,
    scores,
    tuple(table.label_names),
  )


def _probabilities(test) -> np.ndarray | None:
  """[N, C] class probabilities of records; None where the model has no classifier."""
  from official.video.evaluation import classification

  if 'log_probability' in test.outputs:
    return classification.softmax(test.outputs['log_probability'])
  return test.outputs.get('probability')


def main(argv: Sequence[str]) -> None:
  """Scores what the flags ask for."""
  del argv
  if not FLAGS.protocols:
    raise UserError(f'--protocols is empty; name some of {", ".join(PROTOCOLS)}')
  unknown = sorted(set(FLAGS.protocols) - set(PROTOCOLS))
  if unknown:
    raise UserError(f'--protocols: unknown {unknown[0]!r}; known: {", ".join(PROTOCOLS)}')
  params = command_line.load_experiment(FLAGS)
  if FLAGS.dry_run:
    from official.video.estimate import dry_run

    print(dry_run.describe(params, 'evaluate'))
    return
  if [bool(FLAGS.checkpoint), bool(FLAGS.saved_model), FLAGS.random_weights].count(
    True
  ) != 1:
    raise UserError(
      'give exactly one of --checkpoint, --saved_model and --random_weights'
    )
  from official.video.evaluation import extract
  from official.video.settings import experiment

  task = experiment.build_task(params)
  if 'task' in FLAGS.protocols:
    _run_task(task)
    return
  task.check_data('classify' not in FLAGS.protocols or len(FLAGS.protocols) > 1)
  encoder = (
    saved_model_encoder(FLAGS.saved_model)
    if FLAGS.saved_model
    else checkpoint_encoder(params, task, FLAGS.checkpoint)
  )
  encoder = averaging(encoder, getattr(params.task, 'average', 'probability'))
  test_config = extract.test_config(params.task.validation_data)
  train_config = dataclasses.replace(
    test_config,
    **{
      name: getattr(params.task.train_data, name)
      for name in (
        'input_path',
        'tfds_name',
        'tfds_split',
        'tfds_data_dir',
        'label_fraction',
      )
    },
  )
  needs_gallery = set(FLAGS.protocols) != {'classify'}
  test = extract.encode(test_config, task.validation_index, encoder, description='test')
  train = (
    extract.encode(train_config, task.train_index, encoder, description='gallery')
    if needs_gallery
    else test
  )
  scores = score(FLAGS.protocols, train, test, task.validation_index, task.train_index)
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

  task.check_data(False)
  model = trainer.built(task)
  if FLAGS.checkpoint:
    task.check_origin(FLAGS.checkpoint, head=True)
    restore.restore(model.checkpoint_items, FLAGS.checkpoint)
  if FLAGS.output_dir:
    os.makedirs(FLAGS.output_dir, exist_ok=True)
  scores = task.run_protocol(model, FLAGS.output_dir or '')
  for name, value in scores.items():
    print(
      f'{name:24s} {value:.4f}' if isinstance(value, float) else f'{name:24s} {value}'
    )
  for line in coverage.lines(scores):
    print(line)
  scores = {**scores, 'complete': coverage.is_complete(scores)}
  if FLAGS.output_dir:
    _save_scores(scores, FLAGS.output_dir)


def report(scores: dict[str, Any]) -> None:
  """Prints one line a protocol."""
  for protocol in PROTOCOLS:
    if protocol in scores:
      values = '  '.join(
        f'{name} {100 * v:.1f} %' for name, v in scores[protocol].items()
      )
      print(f'{protocol:10s} {values}')
  for line in coverage.lines(scores):
    print(line)


def save(scores: dict[str, Any], test, table, output_dir: str) -> None:
  """Writes scores.json and, from a classifier, predictions.npz."""
  os.makedirs(output_dir, exist_ok=True)
  _save_scores(scores, output_dir)
  if _probabilities(test) is not None:
    predictions(test, table).save(os.path.join(output_dir, 'predictions.npz'))


def _save_scores(scores: dict[str, Any], output_dir: str) -> None:
  from official.video import files

  text = json.dumps(scores, indent=2) + '\n'
  files.write_atomically(os.path.join(output_dir, 'scores.json'), text.encode())


if __name__ == '__main__':
  define_flags()
  command_line.run(main)

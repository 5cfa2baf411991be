r"""Scores a checkpoint on text-video retrieval or video question answering.

  python -m official.video.projects.gvilm.score --experiment=gvilm_retrieval_msrvtt \
    --checkpoint=/runs/gvilm --output_dir=/scores \
    --params_override=task.validation_data.input_path=records/test.manifest.json

Nothing is trained: with the checkpoint of pretraining, retrieval is zero-shot. Prints the
protocol with the scores. --output_dir takes scores.json and predictions.npz (embeddings,
or the answers given).
"""

import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from official.video.errors import UserError
from official.video.evaluation import coverage
from official.video.settings import command_line

FLAGS = flags.FLAGS
# Outputs of a sample that are kept as predictions.
_KEPT = (
  *('record', 'video_embed', 'captions_embed', 'caption_valid'),
  *('given', 'answers', 'question_valid'),
)


def define_flags() -> None:
  """The driver's flags."""
  command_line.define_experiment_flags()
  flags.DEFINE_string('checkpoint', None, 'Checkpoint prefix or folder.')
  flags.DEFINE_bool('random_weights', False, 'Score untrained weights, for comparison.')
  flags.DEFINE_string('output_dir', None, 'Folder for scores.json and predictions.npz.')


def outputs_of(task, model) -> dict[str, np.ndarray]:
  """What the task's validation keeps of all valid samples."""
  import tensorflow as tf

  from official.video.data import reader

  step = tf.function(lambda inputs: task.validation_step(inputs, model))
  state = None
  dataset = task.build_inputs(task.task_config.validation_data)
  for inputs in reader.each_batch(dataset):
    state = task.aggregate_logs(state, step(inputs))
  kept = {key: np.concatenate(values) for key, values in (state or {}).items()}
  if not kept or not len(kept['record']):
    raise UserError(
      f'{task.validation_index.files[0]} ...: none of the records can be read'
    )
  return kept


def restore_all(model, checkpoint: str):
  """Restores every named part of a model, loudly; the report."""
  from official.video.checkpoints import restore

  return restore.restore(dict(model.checkpoint_items), checkpoint)


def score(params, checkpoint: str | None) -> tuple[dict[str, Any], Mapping]:
  """Scores and predictions of an experiment's validation data.

  Args:
    params: resolved experiment.
    checkpoint: prefix or folder; None for untrained weights.

  Raises:
    UserError: the experiment is another one, or the checkpoint does not fit.
  """
  from official.video.run import trainer
  from official.video.settings import experiment

  from . import configs, qa, retrieval

  protocols = {
    configs.GvilmTask: retrieval.PROTOCOL,
    configs.QuestionTask: qa.PROTOCOL,
  }
  if type(params.task) not in protocols:
    raise UserError(
      '--experiment: expected a G-ViLM experiment of pretraining, retrieval or question '
      'answering'
    )
  task = experiment.build_task(params)
  if checkpoint:
    task.check_origin(checkpoint, head=True)
  task.check_data(False)
  model = trainer.built(task)
  if checkpoint:
    restore_all(model, checkpoint)
  outputs = outputs_of(task, model)
  scores = {'protocol': protocols[type(params.task)], **task.score(outputs)}
  scores['complete'] = coverage.is_complete(scores)
  return scores, {key: outputs[key] for key in _KEPT if key in outputs}


def report(scores: Mapping[str, Any]) -> None:
  """Prints a line a score."""
  print(scores['protocol'])
  for name, value in scores.items():
    if isinstance(value, float):
      print(f'{name:28s} {value:.4f}')
  for line in coverage.lines(scores):
    print(line)


def save(scores: Mapping[str, Any], predictions: Mapping, output_dir: str) -> None:
  """Writes scores.json and predictions.npz, each whole or not at all."""
  from official.video import files

  os.makedirs(output_dir, exist_ok=True)
  text = json.dumps(scores, indent=2) + '\n'
  files.write_atomically(os.path.join(output_dir, 'scores.json'), text.encode())
  buffer = io.BytesIO()
  np.savez(buffer, **predictions)
  path = os.path.join(output_dir, 'predictions.npz')
  files.write_atomically(path, buffer.getvalue())


def main(argv: Sequence[str]) -> None:
  """Scores."""
  del argv
  params = command_line.load_experiment(FLAGS)
  if FLAGS.dry_run:
    from official.video.estimate import dry_run

    print(dry_run.describe(params, 'score'))
    return
  if bool(FLAGS.checkpoint) == FLAGS.random_weights:
    raise UserError('give one of --checkpoint and --random_weights')
  scores, predictions = score(params, FLAGS.checkpoint)
  report(scores)
  if FLAGS.output_dir:
    save(scores, predictions, FLAGS.output_dir)


if __name__ == '__main__':
  define_flags()
  command_line.run(main)

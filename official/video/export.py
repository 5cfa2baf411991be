r"""Exports a trained model as a SavedModel that needs only TensorFlow to run.

  python -m official.video.export --experiment=cvrl_linear_eval_kinetics400 \
    --checkpoint=/runs/probe --export_dir=/models/cvrl

Signatures: `clips` (uint8 [B, T, H, W, 3], the default), `jpeg_frames` ([B, T] strings),
`records` ([B] serialized records). Each returns `feature`, `endpoint_<name>` and, from a
classification experiment, `probability`. `regions` (clips, and boxes float32 [B, N, 4])
returns `feature` and `region`.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from official.video import files
from official.video.errors import UserError
from official.video.settings import command_line

FLAGS = flags.FLAGS


def define_flags() -> None:
  """The driver's flags."""
  command_line.define_experiment_flags()
  flags.DEFINE_string('checkpoint', None, 'Checkpoint prefix or folder.', required=True)
  flags.DEFINE_string('export_dir', None, 'New folder of the SavedModel.', required=True)


def export(params, checkpoint: str, export_dir: str) -> None:
  """Writes the SavedModel of an experiment's model, whole or not at all.

  Args:
    params: resolved experiment.
    checkpoint: prefix or folder.
    export_dir: folder to create.

  Raises:
    UserError: the folder is not empty, or the checkpoint does not fit the model.
  """
  import tensorflow as tf

  from official.video.checkpoints import restore
  from official.video.configs import tasks
  from official.video.run import trainer
  from official.video.serving import module
  from official.video.settings import experiment

  files.check_output(export_dir, '--export_dir')
  shown, export_dir = export_dir, files.encodable(export_dir)
  if tf.io.gfile.isdir(export_dir) and tf.io.gfile.listdir(export_dir):
    raise UserError(f'--export_dir {shown}: not empty; name a new folder')
  task = experiment.build_task(params)
  task.check_classes()
  found = task.check_origin(checkpoint, head=True)
  model = trainer.built(task)
  classifies = isinstance(params.task, tasks.ClassificationTask)
  encoder = task.serving_module(model)
  whole = classifies or encoder
  objects = model.checkpoint_items if whole else model.serving_items
  try:
    report = restore.restore(objects, checkpoint)
  except restore.MissingError as error:
    raise UserError(f'{error}{_for_a_backbone()}') from error
  found.tell()
  encoder = encoder or module.EncoderModule(
    model,
    params.task.validation_data,
    params.task.zero_centering,
    classifies,
    task.average,
    task.multi_label,
    task.label_names() if classifies else (),
  )
  about = _about(params, task, report.path, found.frame_rate or task.frame_rate)
  save_atomically(encoder, about, export_dir)
  print(f'exported {files.shown(report.path)} to {shown}')


def _about(params, task, checkpoint: str, frame_rate: float | None) -> dict[str, Any]:
  """What assets.extra/vidgarden.json tells: what the model is, and of which clips.

  Args:
    params: resolved experiment.
    task: of it.
    checkpoint: prefix that was read.
    frame_rate: stored frames a second of the data that it was trained on, if known.
  """
  from official.video.configs import tasks
  from official.video.version import __version__

  classifies = isinstance(params.task, tasks.ClassificationTask)
  test = params.task.validation_data
  texts = task.vocabularies().items()
  return {
    'experiment': FLAGS.experiment if FLAGS.is_parsed() and 'experiment' in FLAGS else '',
    'checkpoint': files.shown(checkpoint),
    'label_names': list(task.label_names()) if classifies else [],
    'multi_label': task.multi_label,
    'zero_centering': params.task.zero_centering,
    'feature_shape': list(test.feature_shape),
    'temporal_stride': test.temporal_stride,
    'resize': test.resize,
    'frame_rate': frame_rate,
    # Backbone with its strides, dilations and widths, and the head on it.
    'model': params.task.model.as_dict(),
    # Of vocabularies, as they lie in the folder of a run.
    'sha256': {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts},
    'version': __version__,
  }


def _for_a_backbone() -> str:
  """Which experiments of the method export what holds no head."""
  from official.video.settings import experiment

  name = FLAGS.experiment if FLAGS.is_parsed() and 'experiment' in FLAGS else ''
  method = re.split('_(?:linear_eval|finetune|localization|tracking)', name)[0]
  others = [
    n for n in experiment.experiment_names() if n.startswith(f'{method}_pretrain')
  ]
  if not others or name in others:
    return ''
  return f'; a backbone alone is exported by --experiment={" or ".join(others)}'


def save_atomically(encoder, about: Mapping[str, Any], export_dir: str) -> None:
  """Saves an `EncoderModule` and assets.extra/vidgarden.json, whole or not at all."""
  import tensorflow as tf

  partial = export_dir.rstrip('/') + '.incomplete'
  _remove(partial)  # Of an export that was killed; its files would be part of this one.
  try:
    with files.storage_errors(export_dir):
      tf.saved_model.save(encoder, partial, signatures=encoder.signatures())
      extra = os.path.join(partial, 'assets.extra')
      tf.io.gfile.makedirs(extra)
      with tf.io.gfile.GFile(os.path.join(extra, 'vidgarden.json'), 'w') as file:
        file.write(json.dumps(about, indent=2) + '\n')
      if tf.io.gfile.isdir(export_dir) and not tf.io.gfile.listdir(export_dir):
        tf.io.gfile.rmtree(export_dir)
      tf.io.gfile.rename(partial, export_dir)
  except BaseException:
    _remove(partial)
    raise


def _remove(partial: str) -> None:
  import tensorflow as tf

  if tf.io.gfile.exists(partial):
    (tf.io.gfile.rmtree if tf.io.gfile.isdir(partial) else tf.io.gfile.remove)(partial)


def main(argv: Sequence[str]) -> None:
  """Exports what the flags ask for."""
  del argv
  params = command_line.load_experiment(FLAGS)
  if FLAGS.dry_run:
    from official.video.estimate import dry_run

    print(dry_run.describe(params, 'export'))
    return
  export(params, FLAGS.checkpoint, FLAGS.export_dir)


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

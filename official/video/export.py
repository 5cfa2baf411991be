r"""Exports a trained model as a SavedModel that needs only TensorFlow to run.

  python -m official.video.export --experiment=cvrl_linear_eval_kinetics400 \
    --checkpoint=/runs/probe --export_dir=/models/cvrl

Signatures: `clips` (uint8 [B, T, H, W, 3], the default), `jpeg_frames` ([B, T] strings),
`records` ([B] serialized records). Each returns `feature`, `endpoint_<name>` and, from a
classification experiment, `probability`. `regions` (clips, and boxes float32 [B, N, 4])
returns `feature` and `region`. `--tflite` adds a model for TensorFlow Lite.
"""

import hashlib
import json
import os
import re
import sys
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
  flags.DEFINE_string('checkpoint', None, 'Checkpoint prefix or folder.')
  flags.DEFINE_string('export_dir', None, 'New folder of the SavedModel.')
  flags.DEFINE_bool(
    'tflite',
    False,
    'Also write model.tflite there, for TensorFlow Lite: one clip of the size that the model '
    'was tested on to its feature, of a classifier probabilities, of G-ViLM the embedding.',
  )


def export(
  params,
  checkpoint: str,
  export_dir: str,
  experiment_name: str = '',
  tflite: bool = False,
) -> None:
  """Writes the SavedModel of an experiment's model, whole or not at all.

  Args:
    params: resolved experiment.
    checkpoint: prefix or folder.
    export_dir: folder to create.
    experiment_name: which the SavedModel tells; '' where it has none.
    tflite: whether a model for TensorFlow Lite is to lie beside it.

  Raises:
    UserError: the folder is not empty, or the checkpoint does not fit the model.
  """
  import tensorflow as tf

  from official.video.checkpoints import restore
  from official.video.configs import tasks
  from official.video.inference import loading
  from official.video.run import journal
  from official.video.serving import module
  from official.video.settings import experiment

  files.check_output(export_dir, '--export_dir')
  shown, export_dir = export_dir, files.encodable(export_dir)
  if tf.io.gfile.isdir(export_dir) and tf.io.gfile.listdir(export_dir):
    raise UserError(f'--export_dir {shown}: not empty; name a new folder')
  task = experiment.build_task(params)
  task.check_classes()
  task.check_origin(checkpoint)  # Before anything is built; it settles vocabularies.
  model = task.built_model()
  classifies = isinstance(params.task, tasks.ClassificationTask)
  encoder = task.serving_module(model)
  whole = classifies or encoder
  objects = model.checkpoint_items if whole else model.serving_items
  found = task.check_origin(checkpoint, objects)
  try:
    report = restore.restore(objects, checkpoint)
  except restore.MissingError as error:
    raise UserError(f'{error}{_for_a_backbone(experiment_name)}') from error
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
  about = {
    'experiment': experiment_name,
    'checkpoint': files.shown(report.path),
    **_about(params, task, found.frame_rate or task.frame_rate),
  }
  about |= loading.about(params, task, model, found)
  about['manifests'] = journal.last_data(found.folder) if found.folder else {}
  scores = journal.last_validation(found.folder) if found.folder else None
  save_atomically(encoder, about, export_dir, scores, tflite)
  print(f'exported {files.shown(report.path)} to {shown}')


def _about(params, task, frame_rate: float | None) -> dict[str, Any]:
  """What assets.extra/vidgarden.json tells: what the model is, and of which clips.

  Args:
    params: resolved experiment.
    task: of it.
    frame_rate: stored frames a second of the data that it was trained on, if known.
  """
  from official.video.configs import tasks
  from official.video.version import __version__

  classifies = isinstance(params.task, tasks.ClassificationTask)
  test = params.task.validation_data
  texts = task.vocabularies().items()
  return {
    'label_names': list(task.label_names()) if classifies else [],
    'multi_label': task.multi_label,
    'zero_centering': params.task.zero_centering,
    'feature_shape': list(test.feature_shape),
    'temporal_stride': test.temporal_stride,
    'stride_seconds': test.stride_seconds,
    'resize': test.resize,
    'frame_rate': frame_rate,
    # Backbone with its strides, dilations and widths, and the head on it.
    'model': params.task.model.as_dict(),
    # Of vocabularies, as they lie in the folder of a run.
    'sha256': {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts},
    'version': __version__,
  }


def _for_a_backbone(name: str) -> str:
  """Which experiments of the method of one export what holds no head."""
  from official.video.settings import experiment

  method = re.split('_(?:linear_eval|finetune|localization|tracking)', name)[0]
  others = [
    n for n in experiment.experiment_names() if n.startswith(f'{method}_pretrain')
  ]
  if not others or name in others:
    return ''
  return f'; a backbone alone is exported by --experiment={" or ".join(others)}'


def save_atomically(
  encoder,
  about: Mapping[str, Any],
  export_dir: str,
  scores: Mapping[str, Any] | None = None,
  tflite: bool = False,
) -> None:
  """Saves an `EncoderModule`, assets.extra/vidgarden.json and a card, whole or not at all.

  Args:
    encoder: to save.
    about: what it tells programs about itself.
    export_dir: folder to create.
    scores: of its run's last validation, for people.
    tflite: whether to write `lite.FILE` too.
  """
  import tensorflow as tf

  from official.video.serving import card, lite

  partial = export_dir.rstrip('/') + '.incomplete'
  _remove(partial)  # Of an export that was killed; its files would be part of this one.
  try:
    with files.storage_errors(export_dir):
      signatures = encoder.signatures()
      tf.saved_model.save(encoder, partial, signatures=signatures)
      extra = os.path.join(partial, 'assets.extra')
      tf.io.gfile.makedirs(extra)
      with tf.io.gfile.GFile(os.path.join(extra, 'vidgarden.json'), 'w') as file:
        file.write(json.dumps(about, indent=2) + '\n')
      with tf.io.gfile.GFile(os.path.join(partial, 'README.md'), 'w') as file:
        file.write(card.text(about, signatures, scores))
      if tflite:
        content, missing = lite.converted(encoder)
        with tf.io.gfile.GFile(os.path.join(partial, lite.FILE), 'wb') as file:
          file.write(content)
        if missing:
          print(
            f'note: {lite.FILE}: {", ".join(missing)} are no operations of TensorFlow '
            "Lite's own; it takes the Flex delegate to run it",
            file=sys.stderr,
          )
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

    dry_run.tell(params, 'export', ['classes'])
    return
  command_line.require(FLAGS, 'checkpoint', 'export_dir')
  export(params, FLAGS.checkpoint, FLAGS.export_dir, FLAGS.experiment, FLAGS.tflite)


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

"""Encoders of clips: an experiment's model from a checkpoint, or an exported SavedModel.

An encoder maps uint8 clips [B, T, H, W, 3] to a dict of arrays: 'feature' [B, C] and, of a
trained classifier, 'probability' [B, K]. It is for the devices of the strategy in whose scope
it was made.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from official.video import files
from official.video.augment import normalization
from official.video.checkpoints import origin, restore
from official.video.configs import tasks
from official.video.data import index
from official.video.errors import UserError
from official.video.evaluation import classification, encoding

# What an export tells about itself, below its folder.
ABOUT = 'assets.extra/vidgarden.json'
# Fields of the data config that say what clips are.
_CLIPS_ARE = ('feature_shape', 'temporal_stride', 'stride_seconds', 'resize')


def encoder_of(
  params, task, checkpoint: str | None, saved_model: str | None, classify: bool = False
) -> encoding.Encoder:
  """The encoder of an exported SavedModel where one is named, else of a checkpoint.

  See `saved_model_encoder` and `checkpoint_encoder`.
  """
  if saved_model:
    return saved_model_encoder(saved_model, task, classify)
  return checkpoint_encoder(params, task, checkpoint)


def checkpoint_encoder(params, task, checkpoint: str | None) -> encoding.Encoder:
  """Encodes with an experiment's model, from a checkpoint or (None) untrained.

  The outputs are 'feature' and, for a classification checkpoint, 'probability'.
  """
  model = task.built_model()
  has_head = False
  if checkpoint:
    classifier = isinstance(params.task, tasks.ClassificationTask)
    objects = {'backbone': model.backbone} | ({'head': model.head} if classifier else {})
    report = restore.restore(objects, checkpoint, required=('backbone',))
    has_head = classifier and any(name.startswith('head/') for name in report.restored)
    task.check_origin(checkpoint, ('head',) if has_head else ()).tell()

  more = {'probability': tf.nn.softmax} if has_head else {}
  return model_encoder(model, params.task.zero_centering, more)


def model_encoder(
  model,
  zero_centering: bool,
  of_head: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] | None = None,
) -> encoding.Encoder:
  """Encodes with a model that is restored.

  Args:
    model: `encoder.VideoModel`.
    zero_centering: the normalization that it was trained with.
    of_head: outputs beside 'feature', by name: what is made of the head's [B, D].
  """

  @tf.function(reduce_retracing=True, autograph=False)
  def encode(clips):
    outputs = model(normalization.normalize(clips, zero_centering), training=False)
    more = {name: make(outputs['output']) for name, make in (of_head or {}).items()}
    return {'feature': outputs['feature'], **more}

  return encoding.Encoder(encode)


def require_saved_model(path: str) -> None:
  """Raises `UserError` where a folder holds no SavedModel."""
  if not tf.saved_model.contains_saved_model(files.literal(path)):
    raise UserError(f'--saved_model {path}: holds no SavedModel; export one first')


def saved_model_encoder(path: str, task=None, classify: bool = False) -> encoding.Encoder:
  """Encodes with the `clips` signature of an exported SavedModel.

  Args:
    path: its folder.
    task: whose validation data it is to encode; where it is given, what the export was
      made for is compared with it, and told.
    classify: the task's labels are compared with its classes, so they have to be alike.

  Raises:
    UserError: the folder holds none, or one without that signature, or of other classes.
  """
  require_saved_model(path)
  notes = () if task is None else check_export(path, task, classify)
  try:
    loaded = tf.saved_model.load(files.literal(path))
  except OSError as error:
    raise UserError(
      f"--saved_model {path}: can't be read: {str(error).splitlines()[0]}"
    ) from error
  if 'clips' not in loaded.signatures:
    raise UserError(
      f'--saved_model {path}: has the signatures {list(loaded.signatures)}, expected '
      "'clips'; export it with official.video.export"
    )
  for note in notes:
    print(f'note: {files.shown(note)}', file=sys.stderr)
  signature = loaded.signatures['clips']

  def encode(clips, model=loaded):  # A signature alone does not keep its variables.
    del model
    outputs = signature(clips=clips)
    return {n: outputs[n] for n in ('feature', 'probability') if n in outputs}

  return encoding.Encoder(encode)


def check_export(path: str, task, classify: bool) -> tuple[str, ...]:
  """Compares what an export was made for with the data of a task.

  Args:
    path: folder of the SavedModel.
    task: see `saved_model_encoder`.
    classify: see there.

  Returns:
    What is to be told: where the task's clips are not those of the export, and what is
    assumed of an export that does not tell.

  Raises:
    UserError: the classes differ, or what the export tells about itself can't be read.
  """
  data = task.task_config.validation_data
  here = {name: getattr(data, name) for name in _CLIPS_ARE}
  here['feature_shape'] = list(data.feature_shape)
  rate = index.frame_rate(data)
  about = read_about(path)
  if about is None:
    facts = ', '.join(f'{name} {value}' for name, value in here.items())
    at = f', at {rate:g} frames a second' if rate else ''
    return (f'{path}: no {ABOUT} tells what it was made for; assumed: {facts}{at}',)
  if classify:
    names = task.validation_index.label_names
    source = data.input_path or data.tfds_name
    origin.refuse_labels(about.get('label_names') or (), path, names, source)
    if bool(about.get('multi_label')) != task.multi_label:
      raise UserError(
        f'{path}: its classifier was trained with task.multi_label '
        f'{not task.multi_label}, here it is {task.multi_label}; export one of the same'
      )
  notes = [
    f'{path}: was exported for task.validation_data.{name} {about[name]!r}; here {value!r}'
    for name, value in here.items()
    if about.get(name) not in (None, value)
  ]
  known = about.get('frame_rate')
  if known and rate and not origin.same_rate(known, rate):
    notes.append(
      f'{path}: was trained on frames stored at {known:g} a second; here {rate:g}'
    )
  return tuple(notes)


def read_about(path: str) -> dict[str, Any] | None:
  """What an export tells about itself; None where it does not."""
  name = os.path.join(files.encodable(path), ABOUT)
  if not tf.io.gfile.exists(name):
    return None
  try:
    with tf.io.gfile.GFile(name) as file:
      about = json.load(file)
  except (tf.errors.OpError, ValueError) as error:
    raise UserError(f'{path}/{ABOUT}: cannot be read; export the model again') from error
  if not isinstance(about, dict):
    raise UserError(f'{path}/{ABOUT}: holds no mapping; export the model again')
  return about


def averaging(encoder: encoding.Encoder, average: str) -> encoding.Encoder:
  """The encoder whose classifier's outputs are averaged over views as a task asks.

  For 'logit' it gives 'log_probability' in the place of 'probability'.
  """
  classification.check_average(average)
  if average == 'probability':
    return encoder

  def logarithms(outputs):
    if 'probability' in outputs:
      share = outputs.pop('probability')
      outputs['log_probability'] = classification.log_probabilities(share)
    return outputs

  return encoder.then(logarithms)

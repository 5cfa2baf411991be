"""Encoders of clips: an experiment's model from a checkpoint, or an exported SavedModel.

An encoder maps uint8 clips [B, T, H, W, 3] to a dict of tensors: 'feature' [B, C] and, of a
trained classifier, 'probability' [B, K].
"""

from collections.abc import Callable

import tensorflow as tf

from official.video import files
from official.video.augment import normalization
from official.video.checkpoints import restore
from official.video.configs import tasks
from official.video.errors import UserError
from official.video.evaluation import classification
from official.video.run import trainer


def checkpoint_encoder(params, task, checkpoint: str | None) -> Callable:
  """Encodes with an experiment's model, from a checkpoint or (None) untrained.

  The outputs are 'feature' and, for a classification checkpoint, 'probability'.
  """
  model = trainer.built(task)
  has_head = False
  if checkpoint:
    classifier = isinstance(params.task, tasks.ClassificationTask)
    objects = {'backbone': model.backbone} | ({'head': model.head} if classifier else {})
    report = restore.restore(objects, checkpoint, required=('backbone',))
    has_head = classifier and any(name.startswith('head/') for name in report.restored)
    task.check_origin(checkpoint, head=has_head).tell()

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
  try:
    loaded = tf.saved_model.load(files.literal(path))
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

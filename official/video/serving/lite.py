"""A model for TensorFlow Lite: what runs on phones and small boards."""

import contextlib
import os
import re
import sys
import tempfile

import tensorflow as tf

from official.video.errors import UserError
from official.video.serving import module

# Beside the SavedModel of the same export.
FILE = 'model.tflite'


def converted(encoder: module.EncoderModule) -> tuple[bytes, list[str]]:
  """Converts what `EncoderModule.lite` computes.

  Args:
    encoder: restored.

  Returns:
    The file's content, and which operations are not among TensorFlow Lite's own, so that
    whoever runs it needs its Flex delegate (`tensorflow` itself has it).

  Raises:
    UserError: it can't be converted.
  """
  spec = tf.TensorSpec([1, *encoder.clip_shape], tf.uint8, 'clips')
  function = tf.function(encoder.lite, autograph=False).get_concrete_function(spec)
  own, select = tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS
  # Of what else the encoder holds, such as a table of word pieces, nothing is converted.
  weights = tf.Module()
  weights.all = encoder.variables
  try:
    return _convert(weights, function, [own]), []
  except Exception as error:  # Of a kind that TensorFlow does not tell the name of.
    missing = sorted(set(re.findall(r"tf\.(\w+)' op is neither", str(error))))
    if not missing:
      raise UserError(f'--tflite: {str(error).splitlines()[0]}') from error
  try:
    return _convert(weights, function, [own, select]), missing
  except Exception as error:
    raise UserError(f'--tflite: {str(error).splitlines()[0]}') from error


def _convert(weights: tf.Module, function, operations) -> bytes:
  converter = tf.lite.TFLiteConverter.from_concrete_functions([function], weights)
  converter.target_spec.supported_ops = operations
  with _silence():
    return converter.convert()


@contextlib.contextmanager
def _silence():
  """Keeps off stderr what the converter's own library prints past every log level."""
  sys.stderr.flush()
  kept = os.dup(2)
  with tempfile.TemporaryFile() as nowhere:
    os.dup2(nowhere.fileno(), 2)
    try:
      yield
    finally:
      os.dup2(kept, 2)
      os.close(kept)

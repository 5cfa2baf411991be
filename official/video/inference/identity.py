"""What makes two models give the same features: weights, and how clips are fed to them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from official.video.configs import data as data_config


def of_model(model: Any, task_config: Any, reads_text: bool) -> str:
  """The digest of a restored model of a task.

  Args:
    model: `encoder.VideoModel`.
    task_config: of the task that it is a model of.
    reads_text: whether clips are compared with texts, so that the heads count too.
  """
  items = model.checkpoint_items if reads_text else model.serving_items
  variables = [variable for item in items.values() for variable in item.variables]
  config = task_config.validation_data
  return digest(variables, facts(config, task_config.zero_centering))


def facts(config: data_config.DataConfig, zero_centering: bool) -> dict[str, Any]:
  """What is done to frames before a backbone sees them."""
  # Without it, what earlier versions told.
  paced = {'stride_seconds': config.stride_seconds} if config.stride_seconds else {}
  return {
    'feature_shape': list(config.feature_shape),
    'temporal_stride': config.temporal_stride,
    'resize': config.resize,
    'zero_centering': zero_centering,
    **paced,
  }


def digest(variables: Iterable[tf.Variable], known: Mapping[str, Any]) -> str:
  """SHA-256, in hexadecimal, of weights and facts.

  It does not depend on the names or the order of the variables: a run and its export are
  one model.
  """
  weights = []
  for variable in variables:
    value = variable.numpy()
    head = f'{value.dtype.str}{value.shape}'.encode()
    weights.append(hashlib.sha256(head + value.tobytes()).hexdigest())
  text = json.dumps([sorted(weights), dict(known)], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()

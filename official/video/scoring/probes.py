"""A linear probe on an encoder, and both as one classifier."""

import dataclasses
import os
from typing import Any

import numpy as np
import tensorflow as tf

from official.video import files
from official.video.checkpoints import origin, restore
from official.video.evaluation import baselines, extract
from official.video.settings import experiment


@dataclasses.dataclass(frozen=True)
class Probed:
  """Features of both splits under one encoder, and the linear probe on them."""

  train: Any
  test: Any
  probe: Any


def probe(params, task, encoder, name: str, keep_clips: bool = False) -> Probed:
  """Encodes both splits of an experiment's task and fits a linear probe.

  Args:
    params: the experiment, which says what the test views are.
    task: of it.
    encoder: as `extract.encode` takes it.
    name: of the progress bars.
    keep_clips: also keep the first view of each record.
  """
  test_config = extract.test_config(params.task.validation_data)
  train_config = dataclasses.replace(
    test_config, input_path=params.task.train_data.input_path
  )
  encoded = [
    extract.encode(config, table, encoder, keep_clips, f'{name}, {split}')
    for config, table, split in (
      (train_config, task.train_index, 'train'),
      (test_config, task.validation_index, 'test'),
    )
  ]
  train, test = encoded
  probe = baselines.linear_probe(train.feature, train.labels, test.feature, test.labels)
  return Probed(train, test, probe)


# The probe takes features as they are, and the mean of its logits over the test views is
# that of the mean feature: so the exported classifier scores what the probe does.
HEAD = {'task.model.head.normalize_input': False, 'task.average': 'logit'}


def save_classifier(params, pretrained: str, probe, folder: str) -> None:
  """Writes the run folder of an encoder under a probe.

  Args:
    params: a linear evaluation with `HEAD`.
    pretrained: checkpoint of the encoder.
    probe: `baselines.LinearProbe`.
    folder: to be made.
  """
  task = experiment.build_task(params)
  model = task.built_model()
  task.check_origin(pretrained).tell()
  restore.restore_backbone(model.backbone, pretrained)
  # Classes that the probe has never seen come last.
  missing = task.num_classes - len(probe.bias)
  dense = model.head.output_dense
  dense.kernel.assign(np.pad(probe.kernel, [[0, 0], [0, missing]]))
  dense.bias.assign(np.pad(probe.bias, [0, missing], constant_values=probe.bias.min()))
  texts = task.remembered() | {origin.PARAMS: experiment.to_yaml(params)}
  for name, text in texts.items():
    files.write_atomically(os.path.join(folder, name), text.encode())
  checkpoint = tf.train.Checkpoint(model=model, **model.checkpoint_items)
  checkpoint.write(os.path.join(folder, 'ckpt-0'))
  tf.compat.v1.train.update_checkpoint_state(folder, 'ckpt-0')  # Which is the newest.

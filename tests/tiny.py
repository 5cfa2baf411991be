"""Any registered experiment at a size that trains in seconds."""

import pathlib

from official.core import config_definitions as cfg

from official.video.settings import experiment

BACKBONE = """
task:
  model:
    backbone:
      resnet_3d: {model_id: 10, width_multiplier: 0.125}
"""
PROJECTION = 'task.model.head: {hidden_dim: 16, num_hidden_layers: 1, output_dim: 8}'
# Two networks, each called twice: fewer layers are traced sooner.
PREDICTION = (
  'task.model: {predictor_dim: 16, projector_dim: 16, '
  'backbone: {type: c3d, c3d: {width_multiplier: 0.125}}}'
)


def shrink(params: cfg.ExperimentConfig, train, validation) -> cfg.ExperimentConfig:
  """Overrides what costs time, nothing else, and sets the data."""
  model = params.task.model
  # Temporal overlaps are told apart from 6 frames on; a context has at least three maps.
  long = hasattr(model, 'predictor_dim') or hasattr(model, 'local_head')
  frames = 8 if long else 4
  texts = [
    BACKBONE,
    f'task.train_data: {{input_path: "{train}", global_batch_size: 4, '
    f'feature_shape: [{frames}, 32, 32, 3]}}',
    f'task.validation_data: {{input_path: "{validation}", global_batch_size: 4, '
    f'feature_shape: [{frames}, 32, 32, 3], min_image_size: 0}}',
    'trainer: {train_steps: 2, steps_per_loop: 1, summary_interval: 1, '
    'validation_interval: 2, checkpoint_interval: 1}',
    'runtime.distribution_strategy: one_device',
  ]
  if hasattr(model, 'predictor_dim'):
    texts.append(PREDICTION)
  elif hasattr(model.head, 'output_dim'):
    texts.append(PROJECTION)
  else:
    texts.append('task.model.num_classes: 3')
    texts.append('task.validation_data: {num_test_clips: 2, min_image_size: 36}')
  for text in texts:
    experiment.apply_overrides(params, text, 'tiny')
  return params


def load(
  name: str, train: pathlib.Path, validation: pathlib.Path
) -> cfg.ExperimentConfig:
  """A registered experiment, shrunk."""
  return shrink(experiment.load(name), train, validation)

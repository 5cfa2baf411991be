"""CVRL's experiments: pretraining, and the protocols it was published with.

Learning rates are for the gradient of the global-mean loss, whatever the number of
replicas. The public code sums the replicas' gradients instead: its 0.32 on R replicas is
0.32 * R here. How many there were is not published; 128 is inferred from ConST-CL's public
config, whose 40.96 is 0.32 * 128.
"""

import dataclasses
import functools

from official.core import config_definitions as cfg
from official.modeling import hyperparams

from official.video.backbones import families
from official.video.configs import data, heads, protocols, tasks


@dataclasses.dataclass
class Losses(hyperparams.Config):
  """InfoNCE.

  Attributes:
    temperature: of the cosine similarities.
  """

  temperature: float = 0.1


@dataclasses.dataclass
class CvrlTask(tasks.PretrainTask):
  """CVRL pretraining."""

  losses: Losses = dataclasses.field(default_factory=Losses)
  l2_weight_decay: float = 1e-6


# Summed over replicas, of which 128 are inferred, not published; see the module.
PRETRAIN_LEARNING_RATE = 0.32 * 128
PRETRAIN_EPOCHS = 200


def pretrain(
  dataset: protocols.Dataset, epochs: int, batch: int = 1024
) -> cfg.ExperimentConfig:
  """Pretraining as published: R3D-50, 16 frames of stride 2 at 224 pixels, batch 1024."""
  steps = protocols.steps_of(dataset.train, batch, epochs)
  shape = (16, 224, 224, 3)
  return cfg.ExperimentConfig(
    task=CvrlTask(
      train_data=data.DataConfig(
        global_batch_size=batch, feature_shape=shape, num_views=2
      ),
      validation_data=data.DataConfig(
        global_batch_size=batch,
        is_training=False,
        feature_shape=shape,
        num_views=2,
        num_test_clips=1,
      ),
    ),
    trainer=protocols.trainer(
      PRETRAIN_LEARNING_RATE,
      steps,
      protocols.steps_of(dataset.train, batch, 5),
      protocols.steps_of(dataset.train, batch, 1),
    ),
  )


# The tiny experiments learn in minutes on two CPU cores: a 16-channel R3D-10 on 8 frames of
# 48 pixels, and Adam, which needs no long warm-up.
TINY_SHAPE = (8, 48, 48, 3)
TINY_VIDEOS = 960


def _tiny_backbone() -> families.Backbone:
  return families.of(
    'resnet_3d',
    model_id=10,
    width_multiplier=0.25,
    stem_conv_temporal_kernel_size=1,
    stem_conv_temporal_stride=1,
    temporal_kernel_sizes=(1, 3, 3, 3),
    temporal_strides=(1, 2, 2, 1),
  )


def tiny_pretrain() -> cfg.ExperimentConfig:
  """CVRL at a size that learns in minutes on two CPU cores."""
  experiment = pretrain(protocols.Dataset(0, TINY_VIDEOS), epochs=40, batch=64)
  task = experiment.task
  task.model.backbone = _tiny_backbone()
  task.model.head = heads.ProjectionHead(
    hidden_dim=128, num_hidden_layers=1, output_dim=64, norm_momentum=0.9
  )
  for config in (task.train_data, task.validation_data):
    config.feature_shape = TINY_SHAPE
    config.augmentation.area_range = (0.5, 1.0)
    config.augmentation.aspect_range = (0.75, 1.33)
  experiment.trainer = protocols.trainer(
    0.003, 600, 30, report_every=50, optimizer='adam'
  )
  return experiment


def tiny_classification(freeze: bool) -> cfg.ExperimentConfig:
  """Linear evaluation or fine-tuning of the tiny net."""
  learning_rate = 0.02 if freeze else 0.002
  experiment = protocols.classification(
    protocols.Dataset(0, TINY_VIDEOS), 20, 64, learning_rate, freeze
  )
  task = experiment.task
  task.model.backbone = _tiny_backbone()
  task.model.head.dropout_rate = 0.0
  task.train_data.feature_shape = task.validation_data.feature_shape = TINY_SHAPE
  task.train_data.augmentation.area_range = (0.5, 1.0)
  task.train_data.augmentation.aspect_range = (0.75, 1.33)
  task.validation_data.min_image_size = 0
  task.validation_data.num_test_clips = 3
  task.validation_data.num_test_crops = 1
  experiment.trainer = protocols.trainer(
    learning_rate, 300, 15, report_every=50, optimizer='adam'
  )
  return experiment


protocols.experiments(
  'cvrl',
  pretrain={
    'tiny': tiny_pretrain,
    '': lambda: protocols.of_any_data(
      lambda: pretrain(protocols.DATASETS['kinetics400'], PRETRAIN_EPOCHS),
      PRETRAIN_EPOCHS,
    ),
    **{
      name: functools.partial(pretrain, protocols.DATASETS[name], PRETRAIN_EPOCHS)
      for name in ('kinetics400', 'kinetics600')
    },
  },
  linear_eval={
    'tiny': functools.partial(tiny_classification, freeze=True),
    **protocols.of_datasets(protocols.linear_eval, protocols.LINEAR_EPOCHS),
  },
  finetune={
    'tiny': functools.partial(tiny_classification, freeze=False),
    **protocols.of_datasets(protocols.finetune, protocols.FINETUNE_EPOCHS),
  },
  localization={
    name: functools.partial(protocols.context_localization, frames)
    for name, frames in protocols.AVA_FRAMES.items()
  },
  tracking={'otb': protocols.tracking},
)

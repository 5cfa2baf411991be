"""CVRL's experiments: pretraining, and the protocols it was published with.

Learning rates are for the gradient of the global-mean loss, whatever the number of
replicas. The public code sums the replicas' gradients instead: its 0.32 on R replicas is
0.32 * R here.
"""

import dataclasses
import functools
from collections.abc import Callable

from official.core import config_definitions as cfg
from official.core import exp_factory
from official.modeling import hyperparams, optimization

from official.video.configs import backbones, data, heads, tasks


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


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Size and classes of a public data set.

  Attributes:
    classes: number of classes.
    train: training videos of the copy that the published schedules were counted on.
  """

  classes: int
  train: int


DATASETS = {
  'kinetics400': Dataset(400, 215_570),
  'kinetics600': Dataset(600, 366_016),
  'ucf101': Dataset(101, 9_537),
  'hmdb51': Dataset(51, 3_570),
}
# The published pretraining ran on 128 TPU cores with summed gradients; see the module.
PRETRAIN_LEARNING_RATE = 0.32 * 128


def cosine(
  learning_rate: float, steps: int, warmup_steps: int, optimizer: str = 'sgd'
) -> optimization.OptimizationConfig:
  """Cosine decay after linear warm-up from 0; SGD with momentum 0.9, or Adam."""
  settings = {'sgd': {'momentum': 0.9}, 'adam': {}}
  return optimization.OptimizationConfig(
    {
      'optimizer': {'type': optimizer, optimizer: settings[optimizer]},
      'learning_rate': {
        'type': 'cosine',
        'cosine': {'initial_learning_rate': learning_rate, 'decay_steps': steps},
      },
      'warmup': {
        'type': 'linear',
        'linear': {'warmup_steps': warmup_steps, 'warmup_learning_rate': 0.0},
      },
    }
  )


def trainer(
  learning_rate: float,
  steps: int,
  warmup_steps: int,
  report_every: int,
  optimizer: str = 'sgd',
) -> cfg.TrainerConfig:
  """Trainer that reports every so many steps and validates ten times.

  Checkpoints are at least 200 steps apart: an epoch of a small set is a few steps.
  """
  between = max(1, steps // (10 * report_every)) * report_every
  return cfg.TrainerConfig(
    train_steps=steps,
    steps_per_loop=report_every,
    summary_interval=report_every,
    checkpoint_interval=-(-200 // report_every) * report_every,
    validation_interval=between,
    optimizer_config=cosine(learning_rate, steps, warmup_steps, optimizer),
  )


def _steps(videos: int, batch: int, epochs: float) -> int:
  return round(videos * epochs / batch)


def pretrain(dataset: Dataset, epochs: int, batch: int = 1024) -> cfg.ExperimentConfig:
  """Pretraining as published: R3D-50, 16 frames of stride 2 at 224 pixels, batch 1024."""
  steps = _steps(dataset.train, batch, epochs)
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
    trainer=trainer(
      PRETRAIN_LEARNING_RATE,
      steps,
      _steps(dataset.train, batch, 5),
      _steps(dataset.train, batch, 1),
    ),
  )


def classification(
  dataset: Dataset,
  epochs: float,
  batch: int,
  learning_rate: float,
  freeze: bool,
  warmup_epochs: float = 5,
) -> cfg.ExperimentConfig:
  """A downstream protocol: 32 frames of stride 2, tested on 10 clips x 3 crops at 256."""
  steps = _steps(dataset.train, batch, epochs)
  return cfg.ExperimentConfig(
    task=tasks.ClassificationTask(
      model=tasks.ClassifierModel(
        num_classes=dataset.classes,
        freeze_backbone=freeze,
        head=heads.ClassificationHead(normalize_input=freeze),
      ),
      train_data=data.DataConfig(
        global_batch_size=batch,
        feature_shape=(32, 224, 224, 3),
        num_views=1,
        sampler=data.Sampler(name='random'),
        augmentation=data.Augmentation(policy='none'),
      ),
      validation_data=data.DataConfig(
        global_batch_size=min(batch, 64),
        is_training=False,
        feature_shape=(32, 256, 256, 3),
        min_image_size=256,
        num_test_clips=10,
        num_test_crops=3,
      ),
    ),
    trainer=trainer(
      learning_rate,
      steps,
      _steps(dataset.train, batch, warmup_epochs),
      max(1, _steps(dataset.train, batch, 1)),
    ),
  )


def linear_eval(dataset: Dataset) -> cfg.ExperimentConfig:
  """Linear evaluation as published: 100 epochs, batch 1024, learning rate 32."""
  return classification(dataset, 100, 1024, 32.0, freeze=True)


def finetune(dataset: Dataset) -> cfg.ExperimentConfig:
  """Fine-tuning of all weights; the schedule is ours, the paper's is not public."""
  experiment = classification(dataset, 50, 128, 0.16, freeze=False)
  experiment.task.model.head.dropout_rate = 0.5
  experiment.task.l2_weight_decay = 1e-5
  return experiment


# The tiny experiments learn in minutes on two CPU cores: a 16-channel R3D-10 on 8 frames of
# 48 pixels, and Adam, which needs no long warm-up.
TINY_SHAPE = (8, 48, 48, 3)
TINY_VIDEOS = 960


def _tiny_backbone() -> backbones.Backbone:
  return backbones.Backbone(
    type='resnet_3d',
    resnet_3d=backbones.ResNet3D(
      model_id=10,
      width_multiplier=0.25,
      stem_conv_temporal_kernel_size=1,
      stem_conv_temporal_stride=1,
      temporal_kernel_sizes=(1, 3, 3, 3),
      temporal_strides=(1, 2, 2, 1),
    ),
  )


def tiny_pretrain() -> cfg.ExperimentConfig:
  """CVRL at a size that learns in minutes on two CPU cores."""
  experiment = pretrain(Dataset(0, TINY_VIDEOS), epochs=40, batch=64)
  task = experiment.task
  task.model.backbone = _tiny_backbone()
  task.model.head = heads.ProjectionHead(
    hidden_dim=128, num_hidden_layers=1, output_dim=64, norm_momentum=0.9
  )
  for config in (task.train_data, task.validation_data):
    config.feature_shape = TINY_SHAPE
    config.augmentation.area_range = (0.5, 1.0)
    config.augmentation.aspect_range = (0.75, 1.33)
  experiment.trainer = trainer(0.003, 600, 30, report_every=50, optimizer='adam')
  return experiment


def tiny_classification(freeze: bool) -> cfg.ExperimentConfig:
  """Linear evaluation or fine-tuning of the tiny net."""
  learning_rate = 0.02 if freeze else 0.002
  experiment = classification(Dataset(0, TINY_VIDEOS), 20, 64, learning_rate, freeze)
  task = experiment.task
  task.model.backbone = _tiny_backbone()
  task.model.head.dropout_rate = 0.0
  task.train_data.feature_shape = task.validation_data.feature_shape = TINY_SHAPE
  task.train_data.augmentation.area_range = (0.5, 1.0)
  task.train_data.augmentation.aspect_range = (0.75, 1.33)
  task.validation_data.min_image_size = 0
  task.validation_data.num_test_clips = 3
  task.validation_data.num_test_crops = 1
  experiment.trainer = trainer(learning_rate, 300, 15, report_every=50, optimizer='adam')
  return experiment


def _register() -> None:
  table: dict[str, Callable[[], cfg.ExperimentConfig]] = {
    'cvrl_pretrain_tiny': tiny_pretrain,
    'cvrl_linear_eval_tiny': functools.partial(tiny_classification, freeze=True),
    'cvrl_finetune_tiny': functools.partial(tiny_classification, freeze=False),
  }
  for name in ('kinetics400', 'kinetics600'):
    table[f'cvrl_pretrain_{name}'] = functools.partial(
      pretrain, DATASETS[name], epochs=200
    )
  for name, dataset in DATASETS.items():
    table[f'cvrl_linear_eval_{name}'] = functools.partial(linear_eval, dataset)
    table[f'cvrl_finetune_{name}'] = functools.partial(finetune, dataset)
  for name, factory in table.items():
    exp_factory.register_config_factory(name)(factory)


_register()

"""CSTP's experiments: pretraining as published, fine-tuning with its test.

Learning rates are for the gradient of the global-mean loss, whatever the number of
replicas, as they were in the published runs.
"""

import dataclasses
import functools

from official.core import config_definitions as cfg
from official.modeling import hyperparams

from official.video.backbones import factory, families
from official.video.configs import data, heads, protocols, tasks

from . import optimizer


@dataclasses.dataclass
class Model(factory.Encoder):
  """Online and target network, predictor and pretext classifiers.

  What is None below is as published for the backbone.

  Attributes:
    backbone: of both networks; only the online one's activations can be recomputed.
    encoder: which backbone is evaluated, exported and read by other tasks: 'online' or
      'target'.
    target_init: 'online' copies the online network's first weights to the target;
      'independent' leaves the target its own, as CSTP's code does.
    target_momentum: share of the target's weights that is kept at each step.
    predictor_dim: hidden units of the predictor.
    projector_dim: hidden units of the projector; 0 for none.
    hidden_heads: whether the pretext classifiers have a hidden layer.
    spare_class: whether playback and rotation have a fifth class, which never occurs.
    normalize_feature: whether all heads see the feature at length 1.
  """

  backbone: families.Backbone = dataclasses.field(
    default_factory=lambda: families.of('r2plus1d')
  )
  encoder: str = 'online'
  target_init: str = 'online'
  target_momentum: float = 0.996
  predictor_dim: int = 4096
  projector_dim: int | None = None
  hidden_heads: bool | None = None
  spare_class: bool | None = None
  normalize_feature: bool | None = None


@dataclasses.dataclass
class Losses(hyperparams.Config):
  """The joint objective.

  Attributes:
    weights: of BYOL, spatial overlap, temporal overlap, playback rate and rotation. The
      last two terms are sums over both views.
  """

  weights: tuple[float, ...] = (0.1, 1.0, 1.0, 1.0, 1.0)


@dataclasses.dataclass
class CstpTask(tasks.PretrainTask):
  """CSTP pretraining."""

  model: Model = dataclasses.field(default_factory=Model)
  losses: Losses = dataclasses.field(default_factory=Losses)
  zero_centering: bool = True


@dataclasses.dataclass(frozen=True)
class Pretraining:
  """A published pretraining.

  Attributes:
    batch: clips a step, over all replicas.
    steps_per_epoch: of the published run.
    learning_rate: the largest.
  """

  batch: int
  steps_per_epoch: int
  learning_rate: float


@dataclasses.dataclass(frozen=True)
class Finetuning:
  """A fine-tuning.

  Attributes:
    classes: number of classes.
    steps_per_epoch: of split 1 at batch 60.
    learning_rate: from weights of Kinetics-400.
  """

  classes: int
  steps_per_epoch: int
  learning_rate: float = 0.02


PRETRAININGS = {
  'kinetics400': Pretraining(128, 1870, 0.09),
  'ucf101': Pretraining(60, 159, 0.03),
}
FINETUNINGS = {'ucf101': Finetuning(101, 158), 'hmdb51': Finetuning(51, 59)}
PRETRAIN_EPOCHS, FINETUNE_EPOCHS = 300, 100
CLIP_SHAPE = (16, 112, 112, 3)
AREA_RANGE, ASPECT_RANGE = (0.2, 1.0), (3 / 4, 4 / 3)
SHORT_SIDE = 128
# The published code scales with PIL.
RESIZE = 'bicubic_antialias'
# The longest test video of UCF101, of 1776 frames, has 30 clips.
TEST_CLIP_STEP, MOST_TEST_CLIPS = 60, 30


def _optimization(
  learning_rate: dict, clip: float | None = None
) -> optimizer.OptimizationConfig:
  settings = {'momentum': 0.9, 'l2_decay': 5e-4, 'global_clipnorm': clip}
  return optimizer.OptimizationConfig(
    {
      'optimizer': {'type': 'pytorch_sgd', 'pytorch_sgd': settings},
      'learning_rate': learning_rate,
    }
  )


def views(batch: int, training: bool) -> data.DataConfig:
  """Pairs of labelled views; in validation with one plain clip."""
  return data.DataConfig(
    global_batch_size=batch,
    is_training=training,
    feature_shape=CLIP_SHAPE,
    resize=RESIZE,
    temporal_stride=1,
    num_views=2,
    views='pretext',
    sampler=data.Sampler(name='pretext'),
    augmentation=data.Augmentation(
      policy='cstp', area_range=AREA_RANGE, aspect_range=ASPECT_RANGE
    ),
    num_test_clips=0 if training else 1,
    min_image_size=0 if training else SHORT_SIDE,
  )


def pretrain(published: Pretraining, epochs: int) -> cfg.ExperimentConfig:
  """Pretraining as published: 16 frames at 112 pixels, SGD, rates that rise then fall."""
  schedule = {
    'type': 'epochwise_cosine',
    'epochwise_cosine': {
      'peak_learning_rate': published.learning_rate,
      'epochs': epochs,
      'steps_per_epoch': published.steps_per_epoch,
    },
  }
  return cfg.ExperimentConfig(
    task=CstpTask(
      train_data=views(published.batch, True),
      validation_data=views(published.batch, False),
    ),
    trainer=protocols.trainer_of(
      _optimization(schedule, clip=18.0),
      epochs * published.steps_per_epoch,
      published.steps_per_epoch,
    ),
  )


def finetune(published: Finetuning, epochs: int, batch: int = 60) -> cfg.ExperimentConfig:
  """Fine-tuning of all weights on 16 frames of stride 4.

  The test takes a clip every 60 frames and one that ends the video, and the mean of all
  their logits.

  The published rate falls by 10 whenever the validation loss has rested; here it falls
  after 60 % and 80 % of the steps, unless `learning_rate.type` is 'plateau'.
  """
  steps, rate = epochs * published.steps_per_epoch, published.learning_rate
  schedule = {
    'type': 'stepwise',
    'stepwise': {
      'boundaries': (steps * 6 // 10, steps * 8 // 10),
      'values': (rate, rate / 10, rate / 100),
    },
  }
  return cfg.ExperimentConfig(
    task=tasks.ClassificationTask(
      zero_centering=True,
      average='logit',
      model=tasks.ClassifierModel(
        backbone=families.of('r2plus1d'),
        num_classes=published.classes,
        head=heads.ClassificationHead(normalize_input=True, batch_norm=True),
      ),
      train_data=data.DataConfig(
        global_batch_size=batch,
        feature_shape=CLIP_SHAPE,
        resize=RESIZE,
        temporal_stride=4,
        num_views=1,
        sampler=data.Sampler(name='fitting_or_repeated'),
        augmentation=data.Augmentation(
          policy='cstp_finetune',
          area_range=AREA_RANGE,
          aspect_range=ASPECT_RANGE,
          flip_probability=0.0,
        ),
      ),
      validation_data=data.DataConfig(
        global_batch_size=batch,
        is_training=False,
        feature_shape=CLIP_SHAPE,
        resize=RESIZE,
        temporal_stride=4,
        num_test_clips=MOST_TEST_CLIPS,
        test_clip_step=TEST_CLIP_STEP,
        min_image_size=SHORT_SIDE,
      ),
    ),
    trainer=protocols.trainer_of(
      _optimization(schedule), steps, published.steps_per_epoch
    ),
  )


# The tiny experiments run on two CPU cores: a narrow R(2+1)D on 8 frames of 48 pixels.
TINY_SHAPE = (8, 48, 48, 3)


def _shrink(experiment: cfg.ExperimentConfig) -> cfg.ExperimentConfig:
  task = experiment.task
  task.model.backbone.r2plus1d.width_multiplier = 0.25
  for config in (task.train_data, task.validation_data):
    config.feature_shape = TINY_SHAPE
    config.min_image_size = 0
    if config.num_views:
      config.augmentation.area_range = (0.3, 1.0)
  return experiment


def tiny_pretrain() -> cfg.ExperimentConfig:
  """CSTP at a size for two CPU cores."""
  experiment = _shrink(pretrain(Pretraining(32, 30, 0.05), epochs=20))
  experiment.task.model.projector_dim = experiment.task.model.predictor_dim = 128
  return experiment


def tiny_finetune() -> cfg.ExperimentConfig:
  """Fine-tuning of the tiny net; the data give the number of classes."""
  experiment = _shrink(finetune(Finetuning(0, 15, 0.05), epochs=20, batch=64))
  for config in (experiment.task.train_data, experiment.task.validation_data):
    config.temporal_stride = 2
  experiment.task.validation_data.test_clip_step = 14
  return experiment


protocols.experiments(
  'cstp',
  pretrain={
    'tiny': tiny_pretrain,
    '': lambda: protocols.of_any_data(
      lambda: pretrain(PRETRAININGS['kinetics400'], PRETRAIN_EPOCHS), PRETRAIN_EPOCHS
    ),
    **{
      name: functools.partial(pretrain, published, PRETRAIN_EPOCHS)
      for name, published in PRETRAININGS.items()
    },
  },
  finetune={
    'tiny': tiny_finetune,
    '': lambda: protocols.of_any_data(
      lambda: finetune(FINETUNINGS['ucf101'], FINETUNE_EPOCHS), FINETUNE_EPOCHS
    ),
    **{
      name: functools.partial(finetune, published, FINETUNE_EPOCHS)
      for name, published in FINETUNINGS.items()
    },
  },
)

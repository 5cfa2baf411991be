"""Schedules, data sets and downstream protocols that several methods share.

Learning rates are for the gradient of the global-mean loss, whatever the number of
replicas.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from official.core import config_definitions as cfg
from official.core import exp_factory
from official.modeling import optimization
from official.video.configs import data, heads, tasks


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


def experiments(
  method: str, **kinds: Mapping[str, Callable[[], cfg.ExperimentConfig]]
) -> None:
  """Registers a method's experiments as '<method>_<kind>_<name>'.

  Args:
    method: the first part of all names.
    **kinds: of each kind, such as `pretrain` or `linear_eval`, what makes the experiment by
      the last part of its name: a data set, or 'tiny'; '' for the kind itself.
  """
  for kind, factories in kinds.items():
    for name, factory in factories.items():
      full = '_'.join(filter(None, (method, kind, name)))
      exp_factory.register_config_factory(full)(factory)


def of_datasets(
  protocol: Callable[[Dataset], cfg.ExperimentConfig], epochs: float
) -> dict[str, Callable[[], cfg.ExperimentConfig]]:
  """What makes a protocol's experiment, by each of `DATASETS`, and '' for any data.

  Args:
    protocol: makes it.
    epochs: that it takes.
  """
  whole = DATASETS['kinetics400']
  return {
    '': lambda: of_any_data(lambda: protocol(whole), epochs),
    **{name: functools.partial(protocol, data) for name, data in DATASETS.items()},
  }


@dataclasses.dataclass
class EpochTrainer(cfg.TrainerConfig):
  """A trainer whose schedule follows from the records that there are.

  Attributes:
    epochs: passes over the training data; 0 leaves it to `train_steps`.
    rate_batch: the global batch that the learning rates are stated for. They grow in
      proportion to the batch in use; 0 takes them as they are.
  """

  epochs: float = 0.0
  rate_batch: int = 0


def of_any_data(
  make: Callable[[], cfg.ExperimentConfig], epochs: float
) -> cfg.ExperimentConfig:
  """An experiment for data of any size, with the classes that the data names.

  Args:
    make: makes the experiment for some data.
    epochs: to train.
  """
  experiment = make()
  fields = {
    field.name: getattr(experiment.trainer, field.name)
    for field in dataclasses.fields(cfg.TrainerConfig)
  }
  batch = experiment.task.train_data.global_batch_size
  experiment.trainer = EpochTrainer(**fields, epochs=epochs, rate_batch=batch)
  if 'num_classes' in experiment.task.model.as_dict():
    experiment.task.model.num_classes = 0
  return experiment


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
  """`trainer_of` a `cosine` schedule."""
  schedule = cosine(learning_rate, steps, warmup_steps, optimizer)
  return trainer_of(schedule, steps, report_every)


def trainer_of(
  optimizer: optimization.OptimizationConfig, steps: int, report_every: int
) -> cfg.TrainerConfig:
  """Trainer that reports every so many steps and validates ten times.

  Checkpoints are at least 200 steps apart, or the whole run: an epoch of a small set is a
  few steps.
  """
  between = max(1, steps // (10 * report_every)) * report_every
  return cfg.TrainerConfig(
    train_steps=steps,
    steps_per_loop=report_every,
    summary_interval=report_every,
    checkpoint_interval=min(steps, -(-200 // report_every) * report_every),
    validation_interval=between,
    optimizer_config=optimizer,
  )


def steps_of(videos: int, batch: int, epochs: float) -> int:
  """Steps of so many epochs."""
  return round(videos * epochs / batch)


# Of the downstream protocols.
WARMUP_EPOCHS = 5


def classification(
  dataset: Dataset,
  epochs: float,
  batch: int,
  learning_rate: float,
  freeze: bool,
  warmup_epochs: float = WARMUP_EPOCHS,
) -> cfg.ExperimentConfig:
  """A downstream protocol: 32 frames of stride 2, tested on 10 clips x 3 crops at 256."""
  steps = steps_of(dataset.train, batch, epochs)
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
      steps_of(dataset.train, batch, warmup_epochs),
      max(1, steps_of(dataset.train, batch, 1)),
    ),
  )


LINEAR_EPOCHS, LINEAR_BATCH, LINEAR_RATE = 100, 1024, 32.0
FINETUNE_EPOCHS = 50


def linear_eval(dataset: Dataset) -> cfg.ExperimentConfig:
  """Linear evaluation as of CVRL: 100 epochs, batch 1024, learning rate 32."""
  return classification(dataset, LINEAR_EPOCHS, LINEAR_BATCH, LINEAR_RATE, freeze=True)


def finetune(dataset: Dataset) -> cfg.ExperimentConfig:
  """Fine-tuning of all weights; the schedule is ours, the papers' are not public."""
  experiment = classification(dataset, FINETUNE_EPOCHS, 128, 0.16, freeze=False)
  experiment.task.model.head.dropout_rate = 0.5
  experiment.task.l2_weight_decay = 1e-5
  return experiment


def localization(
  steps: int, batch: int, report_every: int, learning_rate: float = 0.3
) -> cfg.ExperimentConfig:
  """Action localization: 32 frames of stride 2 about each key frame, res5 dilated.

  The test shows the whole frame at a short side of 256 pixels, up to 2.5 times as wide;
  training crops 256 x 256 pixels of frames scaled to 256 to 320.

  The published detector, schedule and clip length are not public; these are the usual
  ones of the field.
  """
  experiment = cfg.ExperimentConfig(
    task=tasks.LocalizationTask(
      train_data=_key_frames(batch, True), validation_data=_key_frames(batch, False)
    ),
    trainer=trainer(learning_rate, steps, steps // 8, report_every),
  )
  net = experiment.task.model.backbone.resnet_3d
  net.spatial_strides, net.spatial_dilations = (1, 2, 2, 1), (1, 1, 1, 2)
  return experiment


# About as many key frames as the training lists have.
AVA_FRAMES = {'ava': 184_465, 'ava_kinetics': 326_000}


def context_localization(frames: int, batch: int = 64) -> cfg.ExperimentConfig:
  """Action localization by ConST-CL's context transformer; 32 epochs of key frames."""
  epoch = steps_of(frames, batch, 1)
  experiment = localization(32 * epoch, batch, epoch)
  experiment.task.model.head.kind = 'context'
  experiment.task.l2_weight_decay = 1e-7
  return experiment


def _key_frames(batch: int, training: bool) -> data.DataConfig:
  return data.DataConfig(
    global_batch_size=batch,
    is_training=training,
    feature_shape=(32, 256, 256 if training else 640, 3),
    min_image_size=0 if training else 256,
    whole_frame=not training,
    views='key_frame',
    num_views=1 if training else 0,
    num_test_clips=0 if training else 1,
    augmentation=data.Augmentation(
      policy='none', short_side_range=(256, 320) if training else ()
    ),
    regions=data.Regions(generator='boxes', count=32),
  )


# Sequences of GOT-10k's training set.
GOT10K_SEQUENCES = 9_335


def tracking(
  sequences: int = GOT10K_SEQUENCES, pairs: int = 25, epochs: int = 40, batch: int = 256
) -> cfg.ExperimentConfig:
  """SiamFC on a frozen backbone, trained as VINCE's; the last stages are dilated.

  An epoch has so many pairs of each sequence, that is as many passes over the records.
  """
  steps = steps_of(sequences * pairs, batch, epochs)
  experiment = cfg.ExperimentConfig(
    task=tasks.TrackingTask(
      train_data=_pairs(batch, True), validation_data=_pairs(batch, False)
    ),
    trainer=trainer(0.01, steps, 1, max(1, steps // epochs)),
  )
  experiment.trainer.optimizer_config = optimization.OptimizationConfig(
    {
      'optimizer': {'type': 'adam', 'adam': {'epsilon': 1e-8}},
      'learning_rate': {
        'type': 'stepwise',
        'stepwise': {
          'boundaries': tuple(steps * quarter // 4 for quarter in (1, 2, 3)),
          'values': (0.01, 0.001, 0.0001, 0.00001),
        },
      },
    }
  )
  net = experiment.task.model.backbone.resnet_3d
  net.spatial_strides, net.spatial_dilations = (1, 2, 1, 1), (1, 1, 2, 4)
  return experiment


def _pairs(batch: int, training: bool) -> data.DataConfig:
  return data.DataConfig(
    global_batch_size=batch,
    is_training=training,
    feature_shape=(8, 255, 255, 3),
    views='siamese',
    num_views=2,
    augmentation=data.Augmentation(
      policy='none', flip_probability=0.5 if training else 0.0
    ),
  )

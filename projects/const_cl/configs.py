"""ConST-CL's experiments: pretraining, and the protocols it was published with.

Learning rates are for the gradient of the global-mean loss, whatever the number of
replicas. That the public config's 40.96 is meant so is an inference: the public code sums the
gradients of replicas, for which 40.96 would be far too much, and it is 0.32, CVRL's rate of
the same batch, times 128.
"""

import dataclasses
import functools
from collections.abc import Callable

from official.core import config_definitions as cfg
from official.modeling import hyperparams

from official.video.backbones import families
from official.video.configs import data, heads, protocols, tasks


@dataclasses.dataclass
class Model(tasks.PretrainModel):
  """Backbone, global and local head.

  Attributes:
    backbone: has endpoints for both heads; what is evaluated is that of the global one.
    local_endpoint: the endpoint under the local head; one with weights of its own, or the
      same.
    head: the global head.
    local_head: the memory and the decoder of the local head.
  """

  backbone: families.Backbone = dataclasses.field(
    default_factory=lambda: families.of('resnet_3dy')
  )
  local_endpoint: str = '5_1'
  head: heads.ProjectionHead = dataclasses.field(
    default_factory=lambda: heads.ProjectionHead(use_bias=False, norm_momentum=0.9)
  )
  local_head: heads.ContextHead = dataclasses.field(default_factory=heads.ContextHead)


@dataclasses.dataclass
class Losses(hyperparams.Config):
  """The joint objective.

  Attributes:
    global_temperature: of InfoNCE between clips.
    local_temperature: of the contrast between regions.
    global_weight: of the former; 0 trains the local branch alone.
    local_weight: of the latter; 0 trains the global branch alone.
    same_order: the regions of both views are the same objects in the same order, as
      those of the generator `tracks` are; each meets itself, and the others of its video
      are negatives too.
    reference_compatible: let regions that are masked be matched and be negatives.
  """

  global_temperature: float = 0.1
  local_temperature: float = 0.2
  global_weight: float = 1.0
  local_weight: float = 0.001
  same_order: bool = False
  reference_compatible: bool = False


@dataclasses.dataclass
class ConstClTask(tasks.PretrainTask):
  """ConST-CL pretraining."""

  model: Model = dataclasses.field(default_factory=Model)
  losses: Losses = dataclasses.field(default_factory=Losses)
  zero_centering: bool = True
  l2_weight_decay: float = 1e-6


def model_of(task: ConstClTask) -> Model:
  """A task's model, with what its regions decide.

  Random regions are read as the published code reads them, all others at the cells'
  middles, unless the local head's `half_pixel_centers` says.
  """
  head = task.model.local_head
  if head.half_pixel_centers is not None:
    return task.model
  exact = task.train_data.regions.generator != 'random'
  return task.model.replace(local_head=head.replace(half_pixel_centers=exact))


LEARNING_RATE = 40.96
WARMUP_STEPS = 2500
STEPS = 200_000
BATCH = 1024
# The copy that the published schedules were counted on.
VIDEOS = {'kinetics400': 235_693, 'kinetics600': 366_016}
CLIP_SHAPE = (16, 224, 224, 3)


def _views(training: bool) -> data.DataConfig:
  return data.DataConfig(
    global_batch_size=BATCH,
    is_training=training,
    feature_shape=CLIP_SHAPE,
    num_views=2,
    views='regions',
    num_test_clips=0 if training else 1,
  )


def pretrain(videos: int, steps: int) -> cfg.ExperimentConfig:
  """Pretraining as published: 16 frames of stride 2 at 224 pixels, 8 random regions."""
  return cfg.ExperimentConfig(
    task=ConstClTask(train_data=_views(True), validation_data=_views(False)),
    trainer=protocols.trainer(
      LEARNING_RATE, steps, WARMUP_STEPS, protocols.steps_of(videos, BATCH, 1)
    ),
  )


def classification(
  protocol: Callable[[protocols.Dataset], cfg.ExperimentConfig],
  dataset: protocols.Dataset,
) -> cfg.ExperimentConfig:
  """A shared protocol on the global branch; pixels are centred as in pretraining."""
  experiment = protocol(dataset)
  experiment.task.zero_centering = True
  return experiment


# The tiny experiments run on two CPU cores: a narrow R3D-10 on 8 frames of 64 pixels,
# whose maps stay 8 x 8 so that they hold regions.
TINY_SHAPE = (8, 64, 64, 3)
TINY_VIDEOS = 960


def tiny_backbone(kind: str) -> families.Backbone:
  """The tiny net, as 'resnet_3dy' or 'resnet_3d'."""
  backbone = families.of(kind)
  net = backbone.get()
  net.model_id, net.width_multiplier = 10, 0.25
  net.stem_conv_temporal_kernel_size = net.stem_conv_temporal_stride = 1
  net.temporal_kernel_sizes = (1, 3, 3, 3)
  net.temporal_strides, net.spatial_strides = (1, 2, 1, 1), (1, 2, 1, 1)
  return backbone


def _shrink(experiment: cfg.ExperimentConfig, kind: str) -> cfg.ExperimentConfig:
  task = experiment.task
  task.model.backbone = tiny_backbone(kind)
  for config in (task.train_data, task.validation_data):
    config.feature_shape = TINY_SHAPE
    config.min_image_size = 0
    if config.num_views:
      config.augmentation.area_range = (0.5, 1.0)
      config.augmentation.aspect_range = (0.75, 1.33)
  return experiment


def tiny_pretrain() -> cfg.ExperimentConfig:
  """ConST-CL at a size for two CPU cores; the local loss weighs more than published."""
  experiment = _shrink(pretrain(TINY_VIDEOS, 600), 'resnet_3dy')
  task = experiment.task
  task.model.head = heads.ProjectionHead(
    hidden_dim=128, num_hidden_layers=1, output_dim=64, use_bias=False, norm_momentum=0.9
  )
  task.model.local_head = heads.ContextHead(
    context_length=3, channels=32, num_layers=2, num_heads=2
  )
  task.losses.local_weight = 0.5
  for config in (task.train_data, task.validation_data):
    config.global_batch_size = 32
  experiment.trainer = protocols.trainer(0.003, 600, 30, 50, optimizer='adam')
  return experiment


def tiny_classification(freeze: bool) -> cfg.ExperimentConfig:
  """Linear evaluation or fine-tuning of the tiny net's global branch."""
  rate = 0.02 if freeze else 0.002
  dataset = protocols.Dataset(0, TINY_VIDEOS)
  experiment = _shrink(
    protocols.classification(dataset, 20, 64, rate, freeze), 'resnet_3d'
  )
  experiment.task.zero_centering = True
  experiment.task.validation_data.num_test_clips = 3
  experiment.task.validation_data.num_test_crops = 1
  experiment.trainer = protocols.trainer(rate, 300, 15, 50, optimizer='adam')
  return experiment


def _region_net(experiment: cfg.ExperimentConfig) -> cfg.ExperimentConfig:
  """Takes the pretrained local branch under the head, in the shape of the experiment."""
  model = experiment.task.model
  model.backbone.resnet_3dy.override(model.backbone.resnet_3d.as_dict())
  model.backbone.type = 'resnet_3dy'
  model.endpoint = '5_1'
  experiment.task.zero_centering = True
  return experiment


def localization(frames: int) -> cfg.ExperimentConfig:
  """Action localization by the context transformer on the local branch; 32 epochs."""
  return _region_net(protocols.context_localization(frames))


def tracking() -> cfg.ExperimentConfig:
  """SiamFC on the frozen local branch, trained on GOT-10k."""
  return _region_net(protocols.tracking())


def _tiny_net(experiment: cfg.ExperimentConfig) -> cfg.ExperimentConfig:
  model = experiment.task.model
  model.backbone = tiny_backbone('resnet_3dy')
  model.endpoint = '5_1'
  experiment.task.zero_centering = True
  return experiment


def tiny_localization() -> cfg.ExperimentConfig:
  """Localization of the tiny net, at a size for two CPU cores."""
  experiment = _tiny_net(protocols.localization(300, 32, 50))
  task = experiment.task
  task.model.head.kind = 'context'
  task.model.head.context = heads.ContextHead(
    context_length=3, channels=32, num_layers=2, num_heads=2
  )
  for config in (task.train_data, task.validation_data):
    config.feature_shape = TINY_SHAPE
    config.regions.count = 4
  task.train_data.augmentation.short_side_range = (64, 80)
  # Frames of the synthetic set are up to 16:9.
  task.validation_data.feature_shape = (8, 64, 120, 3)
  task.validation_data.min_image_size = 64
  experiment.trainer = protocols.trainer(0.003, 300, 15, 50, optimizer='adam')
  return experiment


def tiny_tracking() -> cfg.ExperimentConfig:
  """Tracking on the tiny net: search images of 127 pixels, exemplars of 63."""
  experiment = _tiny_net(protocols.tracking())
  task = experiment.task
  for config in (task.train_data, task.validation_data):
    config.feature_shape = (4, 127, 127, 3)
    config.global_batch_size = 16
  experiment.trainer = protocols.trainer(0.003, 200, 10, 50, optimizer='adam')
  return experiment


protocols.experiments(
  'const_cl',
  pretrain={
    'tiny': tiny_pretrain,
    '': lambda: protocols.of_any_data(
      lambda: pretrain(VIDEOS['kinetics400'], STEPS),
      round(STEPS * BATCH / VIDEOS['kinetics400']),
    ),
    **{n: functools.partial(pretrain, videos, STEPS) for n, videos in VIDEOS.items()},
  },
  linear_eval={
    'tiny': functools.partial(tiny_classification, freeze=True),
    **protocols.of_datasets(
      functools.partial(classification, protocols.linear_eval), protocols.LINEAR_EPOCHS
    ),
  },
  finetune={
    'tiny': functools.partial(tiny_classification, freeze=False),
    **protocols.of_datasets(
      functools.partial(classification, protocols.finetune), protocols.FINETUNE_EPOCHS
    ),
  },
  localization={
    'tiny': tiny_localization,
    **{
      name: functools.partial(localization, frames)
      for name, frames in protocols.AVA_FRAMES.items()
    },
  },
  tracking={'tiny': tiny_tracking, 'otb': tracking},
)

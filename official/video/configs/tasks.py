"""Configuration of the tasks that every method shares."""

import dataclasses

from official.core import config_definitions as cfg
from official.modeling import hyperparams
from official.video.configs import backbones, data, heads
from official.vision.configs import common


@dataclasses.dataclass
class PretrainModel(hyperparams.Config):
  """A backbone under a projection head.

  Attributes:
    backbone: its architecture.
    norm_activation: its batch norm.
    remat: see `ClassifierModel`.
    endpoint: the endpoint that is pooled.
    head: the projection.
  """

  backbone: backbones.Backbone = dataclasses.field(default_factory=backbones.Backbone)
  norm_activation: common.NormActivation = dataclasses.field(
    default_factory=backbones.norm_activation
  )
  remat: str = 'none'
  endpoint: str = '5'
  head: heads.ProjectionHead = dataclasses.field(default_factory=heads.ProjectionHead)


@dataclasses.dataclass
class ClassifierModel(hyperparams.Config):
  """A backbone under a classifier.

  Attributes:
    backbone: its architecture.
    norm_activation: its batch norm.
    remat: stages whose activations the backward pass recomputes instead of keeping them:
      'none', 'all', or names like 'stem,res2'. Saves memory, costs up to one more forward
      pass; results stay the same.
    endpoint: the endpoint that is pooled.
    head: the classifier.
    freeze_backbone: train the classifier only (linear evaluation).
    num_classes: classes; 0 takes them from the data's label names.
  """

  backbone: backbones.Backbone = dataclasses.field(default_factory=backbones.Backbone)
  norm_activation: common.NormActivation = dataclasses.field(
    default_factory=backbones.norm_activation
  )
  remat: str = 'none'
  endpoint: str = '5'
  head: heads.ClassificationHead = dataclasses.field(
    default_factory=heads.ClassificationHead
  )
  freeze_backbone: bool = False
  num_classes: int = 0


@dataclasses.dataclass
class VideoTask(cfg.TaskConfig):
  """What every task has.

  Attributes:
    init_checkpoint: checkpoint or folder whose backbone the run starts from.
    zero_centering: map pixels to [-1, 1] instead of [0, 1]; training, evaluation and
      export all follow it.
    l2_weight_decay: weight of half the squared norm of all kernels in the loss.
    micro_batches: parts that a replica's batch is computed in, one after the other, to
      save memory. The gradient stays that of the whole batch, also of a contrastive loss,
      for one more forward pass; but batch norm takes its statistics over a part of the
      batch, and moves its averages once for each part.
  """

  train_data: data.DataConfig = dataclasses.field(default_factory=data.DataConfig)
  validation_data: data.DataConfig = dataclasses.field(
    default_factory=lambda: data.DataConfig(is_training=False)
  )
  zero_centering: bool = False
  l2_weight_decay: float = 0.0
  micro_batches: int = 1


@dataclasses.dataclass
class OnlineKnn(hyperparams.Config):
  """The k-nearest-neighbour score during pretraining's validation.

  Attributes:
    k: neighbours that vote.
    temperature: of their weights.
  """

  k: int = 20
  temperature: float = 0.07


@dataclasses.dataclass
class PretrainTask(VideoTask):
  """Self-supervised pretraining of two augmented views a clip."""

  model: PretrainModel = dataclasses.field(default_factory=PretrainModel)
  online_knn: OnlineKnn = dataclasses.field(default_factory=OnlineKnn)


@dataclasses.dataclass
class ClassificationTask(VideoTask):
  """Linear evaluation or fine-tuning; its validation is the multi-view test.

  Attributes:
    label_smoothing: share of the target spread over all classes.
    average: what the test takes the mean of over a video's views: 'probability' or
      'logit'.
  """

  model: ClassifierModel = dataclasses.field(default_factory=ClassifierModel)
  label_smoothing: float = 0.0
  average: str = 'probability'

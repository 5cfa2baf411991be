"""CSTP's experiments: pretraining, fine-tuning and test as they were published."""

import dataclasses

from official.modeling import hyperparams
from official.vision.configs import common

from official.video.configs import backbones, tasks


@dataclasses.dataclass
class Model(hyperparams.Config):
  """Online and target network, predictor and pretext classifiers.

  What is None below is as published for the backbone.

  Attributes:
    backbone: its architecture, of both networks.
    norm_activation: batch norm of backbones and heads.
    remat: see `official.video.configs.tasks.ClassifierModel`; of the online network.
    endpoint: the endpoint that is pooled.
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

  backbone: backbones.Backbone = dataclasses.field(
    default_factory=lambda: backbones.Backbone(type='r2plus1d')
  )
  norm_activation: common.NormActivation = dataclasses.field(
    default_factory=backbones.norm_activation
  )
  remat: str = 'none'
  endpoint: str = '5'
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
class CstpTask(tasks.VideoTask):
  """CSTP pretraining."""

  model: Model = dataclasses.field(default_factory=Model)
  online_knn: tasks.OnlineKnn = dataclasses.field(default_factory=tasks.OnlineKnn)
  losses: Losses = dataclasses.field(default_factory=Losses)
  zero_centering: bool = True

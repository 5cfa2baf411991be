"""Configuration of the tasks that every method shares."""

import dataclasses

from official.core import config_definitions as cfg
from official.modeling import hyperparams
from official.video.backbones import factory
from official.video.configs import data, heads


@dataclasses.dataclass
class PretrainModel(factory.Encoder):
  """A backbone under a projection head.

  Attributes:
    head: the projection.
  """

  head: heads.ProjectionHead = dataclasses.field(default_factory=heads.ProjectionHead)


@dataclasses.dataclass
class ClassifierModel(factory.Encoder):
  """A backbone under a classifier.

  Attributes:
    head: the classifier.
    freeze_backbone: train the classifier only (linear evaluation).
    num_classes: classes; 0 takes them from the data's label names.
  """

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
class RateMultipliers(hyperparams.Config):
  """What the schedule's rate is multiplied by for a variable, decoupled decay included.

  Attributes:
    head: of all that is no part of the backbone.
    layer_decay: of the backbone's last stage or block; of the one before its square, and so
      on down to the stem or the embedding. What stands above the last, such as a
      transformer's final norm, takes the rate as it is.
  """

  head: float = 1.0
  layer_decay: float = 1.0


@dataclasses.dataclass
class Mixup(hyperparams.Config):
  """Training on mixtures of two clips and of their labels.

  None of either takes what gin binds, else the default; see `augment.mixing.Mixup`.

  Attributes:
    alpha: of the Beta distribution that the share of a clip in its mixture has on both
      sides; 0, the default, mixes nothing.
    group_size: clips in a row that are mixed with each other, by default 2; it divides
      every replica's batch, so that any number of replicas mixes the same.
  """

  alpha: float | None = None
  group_size: int | None = None


@dataclasses.dataclass
class ClassificationTask(VideoTask):
  """Linear evaluation or fine-tuning; its validation is the multi-view test.

  Attributes:
    learning_rate_multipliers: smaller rates for lower layers, a larger one for the head.
    label_smoothing: share of the target spread over all classes.
    mixup: mixtures of clips in training; 'accuracy' is then that of the label with the
      greater share. Spread labels are mixed too.
    average: what the test takes the mean of over a video's views: 'probability' or
      'logit'.
    multi_label: a clip may have several classes, or none: a sigmoid a class takes the
      place of the softmax, and mean average precision is scored.
  """

  model: ClassifierModel = dataclasses.field(default_factory=ClassifierModel)
  learning_rate_multipliers: RateMultipliers = dataclasses.field(
    default_factory=RateMultipliers
  )
  label_smoothing: float = 0.0
  mixup: Mixup = dataclasses.field(default_factory=Mixup)
  average: str = 'probability'
  multi_label: bool = False


@dataclasses.dataclass
class LocalizationModel(factory.Encoder):
  """A backbone under a head for boxes.

  Attributes:
    head: what is made of a box. A last stage of stride 1, dilated, suits boxes.
    freeze_backbone: train the head only.
    num_classes: classes; 0 takes them from the data's label names.
  """

  head: heads.ActionHead = dataclasses.field(default_factory=heads.ActionHead)
  freeze_backbone: bool = False
  num_classes: int = 0


@dataclasses.dataclass
class LocalizationTask(VideoTask):
  """Which actions are done in each box of a key frame; scored by frame mAP.

  Attributes:
    learning_rate_multipliers: smaller rates for lower layers, a larger one for the head.
    min_detection_score: detected boxes below it are not evaluated.
    iou_threshold: overlap from which on a box counts as found.
    test_scales: sizes that the test clip is shown in, of which the probabilities' mean is
      taken; 1 is `validation_data.min_image_size`.
    test_flip: whether the mean is also over each of them mirrored.
  """

  model: LocalizationModel = dataclasses.field(default_factory=LocalizationModel)
  learning_rate_multipliers: RateMultipliers = dataclasses.field(
    default_factory=RateMultipliers
  )
  min_detection_score: float = 0.8
  iou_threshold: float = 0.5
  test_scales: tuple[float, ...] = (1.0,)
  test_flip: bool = False


@dataclasses.dataclass
class Tracker(hyperparams.Config):
  """How a box is followed; the defaults are SiamFC's with three scales.

  Attributes:
    context: share of the target's sides that surrounds it in the exemplar.
    num_scales: sizes that are tried in each frame.
    scale_step: between two of them.
    scale_penalty: factor on the response of another size than the last.
    scale_rate: how far a new size is followed.
    window_influence: share of the cosine window in the response.
    upsampling: of the response, bicubic.
  """

  context: float = 0.5
  num_scales: int = 3
  scale_step: float = 1.0375
  scale_penalty: float = 0.9745
  scale_rate: float = 0.59
  window_influence: float = 0.176
  upsampling: int = 16


@dataclasses.dataclass
class TrackingModel(factory.Encoder):
  """A frozen backbone under two linear heads.

  Attributes:
    output_dim: channels of the heads. The last stages are dilated instead of strided, so
      that a cell is few pixels.
    response_scale: factor on the cross-correlation.
    freeze_backbone: train the heads only.
  """

  output_dim: int = 256
  response_scale: float = 0.001
  freeze_backbone: bool = True


@dataclasses.dataclass
class TrackingTask(VideoTask):
  """Following a box by its similarity to the first frame's; scored as OTB is.

  Attributes:
    tracker: the tracking loop.
    normalization: of the frames: 'imagenet', the mean and deviation that VINCE's tracker
      takes, or 'pretraining', as `zero_centering` says of the backbone's clips; the latter
      in runs before there was the field.
    positive_radius: in pixels of the search image; cells up to there are positive.
    benchmark: what results are filed under: 'OTB2015' or 'GOT-10k'.
    name: of the tracker, for the same.
  """

  model: TrackingModel = dataclasses.field(default_factory=TrackingModel)
  tracker: Tracker = dataclasses.field(default_factory=Tracker)
  normalization: str = 'imagenet'
  positive_radius: float = 16.0
  benchmark: str = 'OTB2015'
  name: str = 'vidgarden'

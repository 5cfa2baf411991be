"""G-ViLM's experiments: pretraining, and what it was evaluated by.

The paper gives few numbers of its optimisation; `paper` is what is known of it and
`small` what works at batches of 128 to 256 from pretrained encoders. Learning rates are
for the gradient of the global-mean loss.
"""

import dataclasses
import functools

from official.core import config_definitions as cfg
from official.modeling import hyperparams

from official.video.backbones import factory, families
from official.video.configs import data, heads, protocols, tasks

from . import optimizer

# Names of the views.
CAPTIONED, QUESTIONS = 'captioned', 'questions'


@dataclasses.dataclass
class CaptionedData(data.DataConfig):
  """Clips with texts.

  Attributes:
    num_nouns: noun phrases that are taken of a caption.
    noun_padding: what stands for phrases that a caption lacks: itself ('caption'), or
      nothing, which leaves them out of the loss ('none').
    num_captions: captions (or questions) of a clip that evaluation takes, at most; 0 takes
      all, of which the records are asked first.
  """

  views: str = CAPTIONED
  num_views: int = 1
  sampler: data.Sampler = dataclasses.field(
    default_factory=lambda: data.Sampler(name='segments')
  )
  augmentation: data.Augmentation = dataclasses.field(
    default_factory=lambda: data.Augmentation(policy='none', area_range=(0.49, 1.0))
  )
  num_nouns: int = 2
  noun_padding: str = 'caption'
  num_captions: int = 0


@dataclasses.dataclass
class Text(hyperparams.Config):
  """How texts become word pieces.

  Attributes:
    vocab_file: BERT's vocab.txt, or of kind 'clip' bpe_simple_vocab_16e6.txt.gz, merges.txt,
      or vocab.json beside that; empty for a small test vocabulary.
    max_length: word pieces of a caption or question, with those of begin and end.
    noun_length: word pieces of a prompted noun phrase; at most `max_length`. A caption that
      stands in for one has `max_length`.
  """

  vocab_file: str = ''
  max_length: int = 32
  noun_length: int = 16


@dataclasses.dataclass
class TextModel(hyperparams.Config):
  """The text encoder; the defaults are BERT-base, uncased.

  Attributes:
    kind: 'bert', or 'clip': the causal transformer on byte pairs that is CLIP's text tower.
    vocab_size: word pieces.
    hidden_size: width.
    num_layers: transformer blocks.
    num_heads: of their attention.
    mlp_dim: hidden units of their MLPs.
    max_positions: longest text.
    feature: what stands for a text: of BERT 'cls' (the last layer's first piece), 'pooler' or
      'mean'; of CLIP 'end', the piece that ends it.
    activation: of CLIP's MLPs: 'quick_gelu', OpenAI's, or another of `video_vit`'s.
    projection_dim: of CLIP's linear projection of that piece; 0 for none.
    init_checkpoint: checkpoint of `official.video.projects.gvilm.from_bert`, or `from_clip`,
      to start from.
  """

  kind: str = 'bert'
  vocab_size: int = 30522
  hidden_size: int = 768
  num_layers: int = 12
  num_heads: int = 12
  mlp_dim: int = 3072
  max_positions: int = 512
  feature: str = 'cls'
  activation: str = 'quick_gelu'
  projection_dim: int = 0
  init_checkpoint: str = ''


def _video_vit() -> families.Backbone:
  return families.of('video_vit')


@dataclasses.dataclass
class Model(factory.Encoder):
  """Video encoder, text encoder, projections.

  Attributes:
    backbone: the video encoder, a video_vit with groups; its parts for `remat` are called
      block_0, grouping_6 and so on.
    endpoint: what stands for a video: 'cls', 'tokens' or 'groups' (their mean).
    text: the text encoder.
    output_dim: of the common space.
    shared_text_projection: whether nouns share the captions' projection.
    contrast_temperature: of videos against captions, at first; it is learnt.
    grounding_temperature: of groups against nouns, at first; it is learnt.
    temperature_bounds: of both.
  """

  backbone: families.Backbone = dataclasses.field(default_factory=_video_vit)
  endpoint: str = 'cls'
  text: TextModel = dataclasses.field(default_factory=TextModel)
  output_dim: int = 256
  shared_text_projection: bool = True
  contrast_temperature: float = 0.07
  grounding_temperature: float = 0.07
  temperature_bounds: tuple[float, float] = (0.01, 0.5)


@dataclasses.dataclass
class Losses(hyperparams.Config):
  """The joint objective; a weight of 0 leaves a loss out and costs nothing.

  Attributes:
    temporal_weight: of the temporal grouping, equation 2.
    grounding_weight: of the spatial grounding, equations 4 to 6.
    contrast_weight: of videos against captions, equation 7.
    temporal_form: 'mse' or 'ce'.
    temporal_temperature: of equation 1.
    grounding_similarity: 'softmax', 'max' or 'soft_to_hard_st', equation 3.
    attention_temperature: of the nouns' attention over groups.
    shared_nouns_are_negatives: whether a caption with an equal noun phrase counts as
      wrong in the grounding.
    gumbel: whether noise is added to the grouping's logits in training.
  """

  temporal_weight: float = 1.0
  grounding_weight: float = 1.0
  contrast_weight: float = 1.0
  temporal_form: str = 'mse'
  temporal_temperature: float = 0.1
  grounding_similarity: str = 'softmax'
  attention_temperature: float = 0.07
  shared_nouns_are_negatives: bool = True
  gumbel: bool = True


@dataclasses.dataclass
class Paste(hyperparams.Config):
  """Cut-and-paste of the training clips.

  Attributes:
    enabled: whether clips are blended; without it there is no temporal grouping.
    group_size: clips in a row that lend each other their background; it divides every
      replica's batch, so that any number of replicas blends the same.
    half_open: whether the last time step always is background.
    shuffle_masks: give the loss masks in a random order, an ablation that can't be
      learnt from.
  """

  enabled: bool = True
  group_size: int = 2
  half_open: bool = False
  shuffle_masks: bool = False


def _validation() -> CaptionedData:
  return CaptionedData(is_training=False, num_views=0, num_test_clips=1)


@dataclasses.dataclass
class GvilmTask(tasks.PretrainTask):
  """Pretraining, and fine-tuning for retrieval, on captioned clips."""

  train_data: CaptionedData = dataclasses.field(default_factory=CaptionedData)
  validation_data: CaptionedData = dataclasses.field(default_factory=_validation)
  text: Text = dataclasses.field(default_factory=Text)
  model: Model = dataclasses.field(default_factory=Model)
  losses: Losses = dataclasses.field(default_factory=Losses)
  paste: Paste = dataclasses.field(default_factory=Paste)
  zero_centering: bool = True


@dataclasses.dataclass
class FusionHead(hyperparams.Config):
  """Question and video to an answer.

  Attributes:
    type: 'attention', in which the question's pieces attend to the video's tokens, or
      'concat' of both embeddings and their product.
    num_layers: fusion blocks of 'attention'.
    num_heads: of their attention.
    num_answers: size of the answer vocabulary.
    answers_file: answers by id, one a line, for messages and predictions; empty for
      numbers.
  """

  type: str = 'attention'
  num_layers: int = 2
  num_heads: int = 12
  num_answers: int = 1500
  answers_file: str = ''


@dataclasses.dataclass
class QuestionTask(tasks.VideoTask):
  """Open-ended video question answering."""

  train_data: CaptionedData = dataclasses.field(
    default_factory=lambda: CaptionedData(views=QUESTIONS)
  )
  validation_data: CaptionedData = dataclasses.field(
    default_factory=lambda: dataclasses.replace(_validation(), views=QUESTIONS)
  )
  text: Text = dataclasses.field(default_factory=lambda: Text(max_length=40))
  model: Model = dataclasses.field(default_factory=Model)
  head: FusionHead = dataclasses.field(default_factory=FusionHead)
  zero_centering: bool = True


# --- Optimisation ---------------------------------------------------------------------


def _cosine(rate: float, steps: int, warmup: int) -> dict:
  return {
    'learning_rate': {
      'type': 'cosine',
      'cosine': {'initial_learning_rate': rate, 'decay_steps': steps},
    },
    'warmup': {
      'type': 'linear',
      'linear': {'warmup_steps': warmup, 'warmup_learning_rate': 0.0},
    },
  }


def paper(rate: float, steps: int, warmup_share: float = 0.05):
  """SGD with momentum 0.9, linear warm-up, cosine to 0, gradients clipped to norm 1."""
  settings = {'type': 'sgd', 'sgd': {'momentum': 0.9, 'global_clipnorm': 1.0}}
  schedule = _cosine(rate, steps, round(warmup_share * steps))
  return optimizer.OptimizationConfig({'optimizer': settings, **schedule})


def small(rate: float, steps: int, warmup_share: float = 0.05, text_scale: float = 0.1):
  """AdamW for batches of 128 to 256; BERT moves at a tenth of the rate."""
  settings = {
    'type': 'scaled_adamw',
    'scaled_adamw': {'global_clipnorm': 1.0, 'scale': text_scale},
  }
  schedule = _cosine(rate, steps, round(warmup_share * steps))
  return optimizer.OptimizationConfig({'optimizer': settings, **schedule})


# --- Experiments ----------------------------------------------------------------------

CLIP_SHAPE = (32, 224, 224, 3)
SHORT_SIDE = 256
# VideoCC with 20 thousand pairs of ActivityNet Captions.
PAIRS = 3_320_000
# Pairs of a training video and one of its captions (of ActivityNet, its paragraph); epochs
# and learning rate of the fine-tuning. Its rates sum up to what can move the encoders'
# weights, most of which are about .04.
RETRIEVALS = {
  'msrvtt': (180_000, 10, 1e-5),
  'msvd': (48_774, 20, 1e-5),
  'activitynet': (10_009, 20, 5e-5),
}
# Word pieces of ActivityNet's paragraphs: 64 words.
PARAGRAPH_LENGTH = 96
# Answers, and epochs of the public recipe that was followed.
QUESTION_SETS = {'msrvtt': (1500, 6_513, 10), 'msvd': (2423, 1_161, 15)}
ACTION_SETS = {'ucf101': (101, 9_537), 'hmdb51': (51, 3_570)}


def _shape(config: data.DataConfig, batch: int, shape=CLIP_SHAPE, short=SHORT_SIDE):
  config.global_batch_size = batch
  config.feature_shape = shape
  if config.num_test_clips:
    config.min_image_size = short


def pretrain(preset: str = 'paper', batch: int = 1024) -> cfg.ExperimentConfig:
  """Pretraining: 32 frames at 224 pixels, ten epochs of 3.32 million pairs."""
  task = GvilmTask()
  _shape(task.train_data, batch)
  _shape(task.validation_data, 64)
  steps = PAIRS * 10 // batch
  optimization = paper(0.1, steps) if preset == 'paper' else small(1e-4, steps)
  return cfg.ExperimentConfig(
    task=task, trainer=protocols.trainer_of(optimization, steps, 100)
  )


def retrieval(dataset: str, batch: int = 128) -> cfg.ExperimentConfig:
  """Text-video retrieval: contrast alone, no blending; scored without training too.

  Epochs are counted in pairs of video and caption; a step draws one caption a video.
  """
  pairs, epochs, rate = RETRIEVALS[dataset]
  task = GvilmTask()
  task.losses.temporal_weight = task.losses.grounding_weight = 0.0
  task.paste.enabled = False
  _shape(task.train_data, batch)
  _shape(task.validation_data, 32)
  if dataset == 'activitynet':
    task.text.max_length = PARAGRAPH_LENGTH
  steps = pairs * epochs // batch
  optimization = small(rate, steps, text_scale=1.0)
  return cfg.ExperimentConfig(
    task=task, trainer=protocols.trainer_of(optimization, steps, 100)
  )


def question_answering(dataset: str, batch: int = 96) -> cfg.ExperimentConfig:
  """Open-ended question answering by classification of the answer."""
  answers, videos, epochs = QUESTION_SETS[dataset]
  task = QuestionTask()
  task.head.num_answers = answers
  _shape(task.train_data, batch)
  _shape(task.validation_data, 16)
  # An epoch of the videos meets one question of each; there are about 24 a video.
  steps = videos * 24 * epochs // batch
  return cfg.ExperimentConfig(
    task=task,
    trainer=protocols.trainer_of(small(5e-5, steps, text_scale=1.0), steps, 100),
  )


# Fine-tuning, and the linear probe.
ACTION_EPOCHS = (40, 50)


def action_recognition(dataset: str, freeze: bool) -> cfg.ExperimentConfig:
  """Linear probe or fine-tuning of one official split, tested on 4 clips x 3 crops."""
  classes, videos = ACTION_SETS[dataset]
  batch, epochs = 128 if freeze else 64, ACTION_EPOCHS[freeze]
  steps = videos * epochs // batch
  task = tasks.ClassificationTask(
    zero_centering=True,
    label_smoothing=0.0 if freeze else 0.1,
    model=tasks.ClassifierModel(
      backbone=_video_vit(),
      endpoint='cls',
      num_classes=classes,
      freeze_backbone=freeze,
      head=heads.ClassificationHead(),
    ),
    train_data=data.DataConfig(
      num_views=1,
      sampler=data.Sampler(name='random'),
      augmentation=data.Augmentation(policy='none', area_range=(0.49, 1.0)),
    ),
    validation_data=data.DataConfig(
      is_training=False, num_test_clips=4, num_test_crops=3
    ),
  )
  _shape(task.train_data, batch)
  _shape(task.validation_data, 16, short=224)
  optimization = paper(0.5 if freeze else 0.01, steps)
  return cfg.ExperimentConfig(
    task=task, trainer=protocols.trainer_of(optimization, steps, 20)
  )


def any_action_recognition(freeze: bool) -> cfg.ExperimentConfig:
  """The same for data of any size and classes."""
  return protocols.of_any_data(
    lambda: action_recognition('ucf101', freeze), ACTION_EPOCHS[freeze]
  )


# Alike in training and in the test, for the position codes stretch over the view: a frame
# of 16:9 at a short side of 216 fills it.
AVA_SHAPE, AVA_SHORT_SIDE = (32, 224, 384, 3), 216


def localization(
  frames: int = protocols.AVA_FRAMES['ava'], batch: int = 64
) -> cfg.ExperimentConfig:
  """Action localization: RoI features of the last tubelets, all weights trained.

  Detector, clip length and schedule of the published row are not known; 10 epochs of
  AdamW are what transformers of this size usually take.
  """
  epoch = protocols.steps_of(frames, batch, 1)
  steps = 10 * epoch
  experiment = protocols.localization(steps, batch, epoch)
  task = experiment.task
  task.zero_centering = True
  task.model.backbone, task.model.endpoint = _video_vit(), 'tokens'
  task.train_data.augmentation.short_side_range = (224, 280)
  _shape(task.train_data, batch, AVA_SHAPE)
  _shape(task.validation_data, batch, AVA_SHAPE, AVA_SHORT_SIDE)
  experiment.trainer = protocols.trainer_of(
    small(1e-4, steps, text_scale=1.0), steps, epoch
  )
  return experiment


# --- Tiny experiments: minutes on two CPU cores ---------------------------------------

TINY_SHAPE = (8, 48, 48, 3)


def tiny_backbone() -> families.Backbone:
  """Four blocks of width 64 on 4 x 6 x 6 tubelets, with eight groups."""
  return families.of(
    'video_vit',
    hidden_size=64,
    num_layers=4,
    num_heads=4,
    mlp_dim=128,
    tubelet=(2, 8, 8),
    grid=(4, 6, 6),
    num_groups=8,
    grouping_layers=(2, 3, 4),
  )


def _tiny_model() -> Model:
  return Model(
    backbone=tiny_backbone(),
    output_dim=32,
    text=TextModel(
      vocab_size=240,
      hidden_size=64,
      num_layers=2,
      num_heads=4,
      mlp_dim=128,
      max_positions=32,
    ),
  )


def _shrink(experiment: cfg.ExperimentConfig, batch: int, steps: int, rate: float):
  task = experiment.task
  if isinstance(task, GvilmTask | QuestionTask):
    task.model = _tiny_model()
    task.text.max_length, task.text.noun_length = 32, 16
  else:
    task.model.backbone = tiny_backbone()
    task.model.num_classes = 0
  for config in (task.train_data, task.validation_data):
    _shape(config, batch, TINY_SHAPE, 0)
    if config.num_views:
      config.augmentation.area_range = (0.7, 1.0)
      config.augmentation.aspect_range = (0.8, 1.25)
  experiment.trainer = protocols.trainer_of(
    small(rate, steps, text_scale=1.0), steps, min(50, steps)
  )
  return experiment


def tiny_pretrain() -> cfg.ExperimentConfig:
  """Pretraining from scratch on the synthetic captioned set."""
  return _shrink(pretrain('small'), 64, 600, 1e-3)


def tiny_retrieval() -> cfg.ExperimentConfig:
  """Fine-tuning of the tiny model for retrieval."""
  return _shrink(retrieval('msrvtt'), 64, 100, 3e-4)


def tiny_question_answering() -> cfg.ExperimentConfig:
  """Question answering of the tiny model."""
  experiment = _shrink(question_answering('msrvtt'), 32, 300, 1e-3)
  experiment.task.head = FusionHead(num_layers=1, num_heads=4, num_answers=8)
  return experiment


def tiny_action_recognition(freeze: bool) -> cfg.ExperimentConfig:
  """Probe or fine-tuning of the tiny video encoder."""
  return _shrink(action_recognition('ucf101', freeze), 64, 300, 2e-2 if freeze else 5e-4)


def tiny_localization() -> cfg.ExperimentConfig:
  """Localization of the tiny video encoder."""
  experiment = _shrink(localization(), 32, 300, 5e-4)
  task = experiment.task
  for config in (task.train_data, task.validation_data):
    config.feature_shape = (8, 48, 80, 3)
    config.regions.count = 4
  task.train_data.augmentation = data.Augmentation(
    policy='none', short_side_range=(48, 60)
  )
  task.validation_data.min_image_size = 45
  return experiment


protocols.experiments(
  'gvilm',
  pretrain={
    '': pretrain,
    'small': functools.partial(pretrain, 'small', 256),
    'tiny': tiny_pretrain,
  },
  retrieval={
    'tiny': tiny_retrieval,
    '': lambda: protocols.of_any_data(
      lambda: retrieval('msrvtt'), RETRIEVALS['msrvtt'][1]
    ),
    **{name: functools.partial(retrieval, name) for name in RETRIEVALS},
  },
  qa={
    'tiny': tiny_question_answering,
    **{name: functools.partial(question_answering, name) for name in QUESTION_SETS},
  },
  localization={'tiny': tiny_localization, 'ava': localization},
  **{
    kind: {
      'tiny': functools.partial(tiny_action_recognition, freeze),
      '': functools.partial(any_action_recognition, freeze),
      **{n: functools.partial(action_recognition, n, freeze) for n in ACTION_SETS},
    }
    for kind, freeze in (('linear_eval', True), ('finetune', False))
  },
)

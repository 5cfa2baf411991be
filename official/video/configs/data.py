"""Configuration of the input: where the records are, which views are made of a clip."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from official.modeling import hyperparams
from official.video.errors import FieldError

# Where the photometric policy may run.
PLACES = ('auto', 'device', 'host')
# When an index of frames is read by.
FRAME_INDICES = ('auto', 'always', 'never')


@dataclasses.dataclass
class Sampler(hyperparams.Config):
  """Which frames the views of a clip take; see `official.video.data.samplers`.

  Attributes:
    name: 'interval' (CVRL's two clips with a random gap), 'independent' (each view
      anywhere) or another name of the samplers' registry.
    form: of the interval's distribution: 'decreasing', 'uniform' or 'increasing'. None
      leaves it to gin, then to the paper's value; so do the other None fields.
    power: exponent of the interval's distribution.
    reference_compatible: reproduce the method's public code with its defects: the Model
      Garden's threshold, CSTP's overlaps.
    reference_store: of CSTP's public code, the data class that is reproduced.
  """

  name: str = 'interval'
  form: str | None = None
  power: float | None = None
  reference_compatible: bool | None = None
  reference_store: str | None = None


@dataclasses.dataclass
class Augmentation(hyperparams.Config):
  """How a training view is cropped and coloured.

  Attributes:
    policy: photometric policy by name, an entry of `augment.policies.POLICIES`: 'cvrl',
      'cvrl_paper', 'none', 'rand_augment', 'custom' (operations that gin lists), or a
      method's own. The numbers inside a policy are gin-configurable.
    area_range: share of the frame's area that a crop takes.
    aspect_range: width over height of a crop.
    short_side_range: instead of both, the least and the greatest short side in pixels that
      the frame is scaled to, uniformly drawn, before the view is cut from it: objects keep
      their aspect. Empty for crops by area and aspect.
    flip_probability: of the horizontal flip.
    consistent: one crop, flip and colour for all frames of a view; False draws them anew
      for each frame, CVRL's ablation.
    scaled_decoding: in training, decode JPEG frames at a half, a quarter or an eighth of
      their size where the crop is at least so many times the view each way: sooner, with
      crops within half a pixel of the view. False decodes all at full size, as evaluation
      always does.
  """

  policy: str = 'cvrl'
  area_range: tuple[float, float] = (0.3, 1.0)
  aspect_range: tuple[float, float] = (0.5, 2.0)
  short_side_range: tuple[int, ...] = ()
  flip_probability: float = 0.5
  consistent: bool = True
  scaled_decoding: bool = True


@dataclasses.dataclass
class Regions(hyperparams.Config):
  """Which boxes of a view are looked at; see `official.video.data.regions`.

  Attributes:
    generator: 'random', 'grid', 'superpixels', 'boxes' (the record's) or 'tracks' (the
      record's, in the same order in all views).
    count: boxes a view; missing ones are masked.
    detected_iou: of key frames, training also takes the detected boxes that overlap an
      annotated one so far, with the labels of the one that they overlap most; 0 takes none.
    reference_compatible: let 'random' draw as the Model Garden does, along the diagonal;
      None leaves it to gin, then to False.
  """

  generator: str = 'random'
  count: int = 8
  detected_iou: float = 0.0
  reference_compatible: bool | None = None


@dataclasses.dataclass
class DataConfig(hyperparams.Config):
  """One input of a task. Names are the Model Garden's where the meaning is.

  A clip becomes `num_views` augmented training views, or `num_test_clips` times
  `num_test_crops` test views, or both.

  Attributes:
    input_path: records: a manifest, a folder that holds one, a file pattern, or several
      of these separated by commas. What is there by its name is no pattern and no list.
    tfds_name: name of a TensorFlow Datasets video set to read instead.
    tfds_split: its split, such as 'train' or 'test[:10%]'.
    tfds_data_dir: folder of the prepared TFDS set; empty for TFDS's default.
    global_batch_size: clips a step, over all replicas.
    is_training: shuffled without end, each epoch in its own order; otherwise each record
      once, in order, the last batch padded and masked.
    feature_shape: frames, height, width and channels of a view.
    temporal_stride: distance between the frames of a view, in stored frames. A video that
      is shorter than a view starts again at its first frame.
    stride_seconds: the same distance in seconds, whatever the rate of a record is: clips are
      taken at `temporal_stride / stride_seconds` frames a second, so that starts (and all
      else that counts frames) lie a `temporal_stride`-th of it apart. 0 takes the stored
      frames as they are.
    num_views: augmented views of a clip.
    views: how they are made: 'augmented', or a method's own name for views that come with
      labels; see `official.video.data.views.VIEW_MAKERS`.
    sampler: the frames of the augmented views.
    augmentation: crop and colour of the augmented views.
    regions: boxes of the views, where the views come with some.
    num_test_clips: test clips a record, evenly spaced; with `test_clip_step` at most so
      many.
    test_clip_step: frames between the starts of test clips, so that a longer record has
      more of them; 0 spaces `num_test_clips` evenly.
    num_test_crops: test crops a clip: 1 (centre) or 3 (along the longer side).
    min_image_size: short side in pixels that the test crops are cut from; 0 means the
      crop takes the whole short side.
    whole_frame: the one test crop shows the whole frame, as wide as it is high there, in
      the middle of a black view: scaled to the short side of `min_image_size`, or to less
      where the view is too small for that; with 0, as large as fits.
    resize: the filter that frames are scaled with, in training and test: 'bilinear'
      (without antialiasing), 'bilinear_antialias' or 'bicubic_antialias' (PIL's filters).
    num_labels: labels of a clip that a batch has room for, beside its first one; a task
      that takes several sets it.
    sample_keys: whether a training batch holds the key of each sample's draws; a task that
      draws inside of its step sets it.
    label_fraction: share of each class's records that is used, the same ones for a seed.
    seed: of the order and of every draw.
    prefetch_buffer_size: batches prepared ahead; None lets tf.data choose.
    num_threads: threads of the input; None lets tf.data choose.
    ram_budget: gigabytes that the input's parallelism and buffers may take; None lets
      tf.data take half of what is free.
    augment_on: where the photometric policy runs: 'host', 'device' (inside the step; the
      host hands over uint8), or 'auto', which is the device where that is a GPU or TPU.
    clips_per_decode: steps in a row that use each decoded clip, cropped, flipped and
      coloured anew; above 1 it feeds an accelerator from a host that decodes too slowly.
    max_bad_fraction: share of the records that may turn out unreadable before training
      stops. Up to it, training takes another record in a bad one's place and says so.
    enable_tf_data_service: let the workers of a tf.data service make the batches.
    tf_data_service_address: its dispatcher, such as 'grpc://host:5050'.
    frame_index: 'auto' reads the frames alone that a sample takes where that is faster (it
      needs an index of frames beside the records; see docs/training.md), 'always' does so
      or says what is missing, 'never' reads whole records. Samples are the same, but for
      records whose damage lies in frames that none of them takes: only 'never' sees it.
    tf_data_service_job_name: what the dispatcher's logs call the job.
  """

  input_path: str = ''
  tfds_name: str = ''
  tfds_split: str = ''
  tfds_data_dir: str = ''
  global_batch_size: int = 0
  is_training: bool = True
  feature_shape: tuple[int, int, int, int] = (16, 224, 224, 3)
  temporal_stride: int = 2
  stride_seconds: float = 0.0
  num_views: int = 0
  views: str = 'augmented'
  sampler: Sampler = dataclasses.field(default_factory=Sampler)
  augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
  regions: Regions = dataclasses.field(default_factory=Regions)
  num_test_clips: int = 0
  test_clip_step: int = 0
  num_test_crops: int = 1
  min_image_size: int = 0
  whole_frame: bool = False
  resize: str = 'bilinear'
  num_labels: int = 0
  sample_keys: bool = False
  label_fraction: float = 1.0
  seed: int = 0
  prefetch_buffer_size: int | None = None
  num_threads: int | None = None
  ram_budget: float | None = None
  augment_on: str = 'auto'
  clips_per_decode: int = 1
  max_bad_fraction: float = 0.01
  frame_index: str = 'auto'
  enable_tf_data_service: bool = False
  tf_data_service_address: str = ''
  tf_data_service_job_name: str = 'video'


_USUAL = DataConfig()
# Frames that a second of a clip is taken for at most, and seconds between two.
_MOST_FRAMES, _MOST_SECONDS = 240, 60
_NO_TFDS = "'' without tfds_name"


def _rises(values: Sequence[float]) -> bool:
  return len(values) == 2 and 0 < values[0] <= values[1]


# By field, whether its value means something, and what is expected of it.
_RULES: dict[str, tuple[Callable[[DataConfig], bool], str]] = {
  'feature_shape': (
    lambda c: (
      len(c.feature_shape) == 4 and min(c.feature_shape) > 0 and c.feature_shape[-1] == 3
    ),
    'four positive sizes: frames, height, width, 3',
  ),
  'temporal_stride': (lambda c: c.temporal_stride > 0, 'at least 1'),
  'stride_seconds': (
    lambda c: (
      not c.stride_seconds
      or c.temporal_stride / _MOST_FRAMES <= c.stride_seconds <= _MOST_SECONDS
    ),
    f'0, or from temporal_stride / {_MOST_FRAMES} to {_MOST_SECONDS} seconds',
  ),
  'num_views': (lambda c: c.num_views >= 0, 'at least 0'),
  'num_test_clips': (lambda c: c.num_test_clips >= 0, 'at least 0'),
  'test_clip_step': (
    lambda c: c.test_clip_step >= 0 and bool(c.num_test_clips or not c.test_clip_step),
    'at least 0, and 0 without num_test_clips',
  ),
  'sample_keys': (
    lambda c: c.is_training or not c.sample_keys,
    'False in evaluation, which draws nothing',
  ),
  'label_fraction': (lambda c: 0 < c.label_fraction <= 1, 'in (0, 1]'),
  'augmentation.area_range': (
    lambda c: _rises(c.augmentation.area_range) and c.augmentation.area_range[1] <= 1,
    'two rising values in (0, 1]',
  ),
  'augmentation.aspect_range': (
    lambda c: _rises(c.augmentation.aspect_range),
    'two rising positive values',
  ),
  'augmentation.flip_probability': (
    lambda c: 0 <= c.augmentation.flip_probability <= 1,
    'in [0, 1]',
  ),
  'regions.count': (lambda c: c.regions.count > 0, 'at least 1'),
  'regions.detected_iou': (
    lambda c: (
      0 <= c.regions.detected_iou <= 1 and (c.is_training or not c.regions.detected_iou)
    ),
    'in [0, 1], and 0 in evaluation, which scores detected boxes by themselves',
  ),
  'augment_on': (
    lambda c: c.augment_on in (PLACES if c.num_views else ('auto',)),
    f'one of {", ".join(PLACES)}; auto where there are only test clips',
  ),
  'clips_per_decode': (
    lambda c: c.clips_per_decode == 1 or (c.clips_per_decode > 1 and c.is_training),
    'at least 1, and 1 in evaluation',
  ),
  'prefetch_buffer_size': (
    lambda c: c.prefetch_buffer_size is None or c.prefetch_buffer_size > 0,
    'at least 1, or null, which lets tf.data choose',
  ),
  'num_threads': (
    lambda c: c.num_threads is None or c.num_threads > 0,
    'at least 1, or null, which lets tf.data choose',
  ),
  'min_image_size': (lambda c: c.min_image_size >= 0, 'at least 0'),
  'max_bad_fraction': (
    lambda c: (
      0 <= c.max_bad_fraction <= 1
      and (c.is_training or c.max_bad_fraction == _USUAL.max_bad_fraction)
    ),
    f'in [0, 1], and {_USUAL.max_bad_fraction} in evaluation, which counts what it reads',
  ),
  'ram_budget': (lambda c: c.ram_budget is None or c.ram_budget > 0, 'positive'),
  'frame_index': (
    lambda c: c.frame_index in FRAME_INDICES,
    f'one of {", ".join(FRAME_INDICES)}',
  ),
  'enable_tf_data_service': (
    lambda c: (
      not c.enable_tf_data_service
      or (c.is_training and '://' in c.tf_data_service_address)
    ),
    'False in evaluation; in training it needs tf_data_service_address, such as '
    "'grpc://host:5050'",
  ),
  'tf_data_service_job_name': (
    lambda c: (
      c.enable_tf_data_service
      or c.tf_data_service_job_name == _USUAL.tf_data_service_job_name
    ),
    f'{_USUAL.tf_data_service_job_name!r} without enable_tf_data_service',
  ),
  'tf_data_service_address': (
    lambda c: c.enable_tf_data_service or not c.tf_data_service_address,
    "'' without enable_tf_data_service",
  ),
  'tfds_split': (lambda c: bool(c.tfds_name) or not c.tfds_split, _NO_TFDS),
  'tfds_data_dir': (lambda c: bool(c.tfds_name) or not c.tfds_data_dir, _NO_TFDS),
}


def check_ranges(config: DataConfig) -> None:
  """Raises `FieldError` where a field's value can mean nothing."""
  for name, (holds, expected) in _RULES.items():
    if not holds(config):
      value: Any = config
      for part in name.split('.'):
        value = getattr(value, part)
      raise FieldError(f'{name} {value!r}: expected {expected}')

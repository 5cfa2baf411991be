"""Finding out that a data config can't be met before anything is read."""

from official.video.configs import data as data_config
from official.video.data import index, views
from official.video.errors import UserError

_USUAL = data_config.DataConfig()
_NO_TFDS = "'' without tfds_name"


def _requirements(config: data_config.DataConfig) -> dict[str, tuple[bool, str]]:
  """Whether each field's value means something, and what is expected of it."""
  crop = config.augmentation
  return {
    'feature_shape': (
      len(config.feature_shape) == 4
      and min(config.feature_shape) > 0
      and config.feature_shape[-1] == 3,
      'four positive sizes: frames, height, width, 3',
    ),
    'temporal_stride': (config.temporal_stride > 0, 'at least 1'),
    'num_views': (config.num_views >= 0, 'at least 0'),
    'num_test_clips': (config.num_test_clips >= 0, 'at least 0'),
    'test_clip_step': (
      config.test_clip_step >= 0
      and bool(config.num_test_clips or not config.test_clip_step),
      'at least 0, and 0 without num_test_clips',
    ),
    'label_fraction': (0 < config.label_fraction <= 1, 'in (0, 1]'),
    'augmentation.area_range': (
      len(crop.area_range) == 2 and 0 < crop.area_range[0] <= crop.area_range[1] <= 1,
      'two rising values in (0, 1]',
    ),
    'augmentation.aspect_range': (
      len(crop.aspect_range) == 2 and 0 < crop.aspect_range[0] <= crop.aspect_range[1],
      'two rising positive values',
    ),
    'augmentation.flip_probability': (0 <= crop.flip_probability <= 1, 'in [0, 1]'),
    'regions.count': (config.regions.count > 0, 'at least 1'),
    'augment_on': (
      config.augment_on in (views.PLACES if config.num_views else ('auto',)),
      f'one of {", ".join(views.PLACES)}; auto where there are only test clips',
    ),
    'clips_per_decode': (
      config.clips_per_decode == 1
      or (config.clips_per_decode > 1 and config.is_training),
      'at least 1, and 1 in evaluation',
    ),
    'prefetch_buffer_size': (
      config.prefetch_buffer_size is None or config.prefetch_buffer_size > 0,
      'at least 1, or null, which lets tf.data choose',
    ),
    'num_threads': (
      config.num_threads is None or config.num_threads > 0,
      'at least 1, or null, which lets tf.data choose',
    ),
    'min_image_size': (config.min_image_size >= 0, 'at least 0'),
    'max_bad_fraction': (
      0 <= config.max_bad_fraction <= 1
      and (config.is_training or config.max_bad_fraction == _USUAL.max_bad_fraction),
      f'in [0, 1], and {_USUAL.max_bad_fraction} in evaluation, which counts what it reads',
    ),
    'ram_budget': (config.ram_budget is None or config.ram_budget > 0, 'positive'),
    'enable_tf_data_service': (
      not config.enable_tf_data_service
      or (config.is_training and '://' in config.tf_data_service_address),
      'False in evaluation; in training it needs tf_data_service_address, such as '
      "'grpc://host:5050'",
    ),
    'tf_data_service_job_name': (
      config.enable_tf_data_service
      or config.tf_data_service_job_name == _USUAL.tf_data_service_job_name,
      f'{_USUAL.tf_data_service_job_name!r} without enable_tf_data_service',
    ),
    'tf_data_service_address': (
      config.enable_tf_data_service or not config.tf_data_service_address,
      "'' without enable_tf_data_service",
    ),
    'tfds_split': (bool(config.tfds_name) or not config.tfds_split, _NO_TFDS),
    'tfds_data_dir': (bool(config.tfds_name) or not config.tfds_data_dir, _NO_TFDS),
  }


def check_ranges(config: data_config.DataConfig) -> None:
  """Raises `UserError` where a field's value can mean nothing."""
  for name, (holds, expected) in _requirements(config).items():
    if not holds:
      value = config
      for part in name.split('.'):
        value = getattr(value, part)
      raise UserError(f'{name} {value!r}: expected {expected}')


def check(
  config: data_config.DataConfig, table: index.RecordIndex, pipelines: int = 1
) -> None:
  """Raises `UserError` where the batches can't be made, before any is."""
  check_ranges(config)
  views.build_view_maker(config)
  batch = config.global_batch_size
  if batch < 1 or batch % pipelines:
    raise UserError(
      f'global_batch_size {batch}: expected a positive multiple of the {pipelines} input '
      'pipelines'
    )
  if config.is_training and len(table) < batch:
    raise UserError(
      f'global_batch_size {batch}: the data has only {len(table)} records '
      f'({table.files[0]} ...); use a batch of at most that'
    )
  if not config.num_views and not config.num_test_clips:
    raise UserError('num_views 0 and num_test_clips 0: set one, or nothing is read')
  if config.num_views and config.num_test_clips > 1:
    raise UserError(
      f'num_test_clips {config.num_test_clips} with num_views {config.num_views}: '
      'augmented views go with at most one test clip'
    )
  if config.is_training and config.num_test_clips > 1:
    raise UserError('num_test_clips > 1 needs is_training=False')

"""Finding out that a data config can't be met before anything is read."""

from official.video.configs import data as data_config
from official.video.data import index, views
from official.video.errors import FieldError


def check(
  config: data_config.DataConfig, table: index.RecordIndex, pipelines: int = 1
) -> None:
  """Raises `FieldError` where the batches can't be made, before any is."""
  data_config.check_ranges(config)
  views.build_view_maker(config)
  batch = config.global_batch_size
  if batch < 1 or batch % pipelines:
    raise FieldError(
      f'global_batch_size {batch}: expected a positive multiple of the {pipelines} input '
      'pipelines'
    )
  if config.is_training and len(table) < batch:
    raise FieldError(
      f'global_batch_size {batch}: the data has only {len(table)} records '
      f'({table.files[0]} ...); use a batch of at most that'
    )
  if not config.num_views and not config.num_test_clips:
    raise FieldError('num_views 0 and num_test_clips 0: set one, or nothing is read')
  if config.num_views and config.num_test_clips > 1:
    raise FieldError(
      f'num_test_clips {config.num_test_clips} with num_views {config.num_views}: '
      'augmented views go with at most one test clip'
    )
  if config.is_training and config.num_test_clips > 1:
    raise FieldError('num_test_clips > 1 needs is_training=False')

"""Finding out that a data config can't be met before anything is read."""

from collections.abc import Mapping

from official.video.configs import data as data_config
from official.video.data import contexts, index, records, views
from official.video.errors import FieldError, UserError


def check(
  config: data_config.DataConfig, table: index.RecordIndex, pipelines: int = 1
) -> None:
  """Raises `FieldError` where the batches can't be made, before any is."""
  data_config.check_ranges(config)
  maker = views.build_view_maker(config)
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
  _check_needs(maker, config, table)


def _check_needs(
  maker: views.ViewMaker, config: data_config.DataConfig, table: index.RecordIndex
) -> None:
  """Refuses data of which no record has what its views can't be made without."""
  for key, fix in maker.needs.items():
    if not contexts.any_has(table, key):
      raise UserError(
        f'{table.files[0]}: none of the records has {key} ({records.meaning_of(key)}), which '
        f'views {config.views!r} take; {fix}'
      )


def note_rates(
  name: str, config: data_config.DataConfig, rates: Mapping[float, int]
) -> str:
  """What to say where a stride of frames means different times in different records.

  Args:
    name: of the data config, for the message.
    config: of the data.
    rates: stored frames a second, and of how many records; see `index.frame_rates`.

  Returns:
    A line, or '' where all is well.
  """
  mixed = records.mixed_rates(rates)
  if config.stride_seconds or not mixed:
    return ''
  return (
    f'warning: {name}: {mixed}, so clips of temporal_stride {config.temporal_stride} have '
    f'different tempi; {name}.stride_seconds='
    f'{config.temporal_stride / next(iter(rates)):.4g} gives all the most common one'
  )


# From so many of the clips on it is worth a word that they show frames again.
_MANY_WRAPPED = 0.1


def note_short(config: data_config.DataConfig, share: float) -> str:
  """What to say where many clips are longer than their videos.

  Args:
    config: of the data.
    share: of the clips, that begin anew; see `samplers.begin_anew`.

  Returns:
    A line, or '' where few are.
  """
  if share < _MANY_WRAPPED:
    return ''
  part = 'train_data' if config.is_training else 'validation_data'
  frames, stride = config.feature_shape[0], config.temporal_stride
  long = f'{frames} frames of temporal_stride {stride}'
  if config.stride_seconds:
    long += (
      f' and stride_seconds {config.stride_seconds:g}, '
      f'{(frames - 1) * config.stride_seconds:.3g} s'
    )
  return (
    f'note: task.{part}: {100 * share:.0f} % of the clips show frames again, as their '
    f'videos are shorter than {long}; a smaller stride fits them'
  )

"""From the encoded frames of one clip to its views, and where their pixels are changed.

The host always samples, decodes, crops, resizes and flips. The photometric policy runs
on the host too, or inside the step on an accelerator; both call the same operations with
the same keys.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from official.video import draws, registry
from official.video.augment import geometric, policies
from official.video.configs import data as data_config
from official.video.configs import reads
from official.video.data import decoding, samplers, tempo
from official.video.errors import UserError


def augments_on_device(config: data_config.DataConfig) -> bool:
  """Whether the photometric policy runs in the step; 'auto': where that is accelerated.

  To be asked under the distribution strategy that the step runs under.

  Raises:
    UserError: `augment_on` is none of `configs.data.PLACES`.
  """
  registry.check_choice('augment_on', config.augment_on, data_config.PLACES)
  if config.augment_on == 'auto':
    return accelerated()
  return config.augment_on == 'device'


def accelerated() -> bool:
  """Whether the strategy in scope (or TensorFlow, without one) runs on a GPU or TPU."""
  if tf.distribute.has_strategy():
    devices = tf.distribute.get_strategy().extended.worker_devices
  else:
    devices = [device.name for device in tf.config.list_logical_devices()]
  return any('GPU' in device or 'TPU' in device for device in devices)


# Fields that shape views, and values that say that nothing is to be done.
_SHAPING = frozenset(
  {
    *('temporal_stride', 'stride_seconds', 'sampler', 'augmentation', 'regions'),
    'test_clip_step',
    *('num_test_crops', 'min_image_size', 'whole_frame', 'resize'),
    *('num_nouns', 'noun_padding', 'num_captions'),
  }
)
_HAS_RATE = (
  'tfrecords_tools.convert writes it; convert the data, or set stride_seconds to 0'
)
_NEUTRAL = (('augmentation.policy', 'none'), ('augmentation.flip_probability', 0.0))


class ViewMaker:
  """Makes the views of one clip, as a data config asks.

  Training views are sampled, cropped, flipped and coloured by draws of their own; test
  views are fixed. Decoding, cropping, resizing and flipping are one step a frame.

  Attributes:
    fields: keys of the record contract that samples are made of beside frames and label.
    needs: those without which there is no sample, by how records come to have them.
    places: whether the views come with places in them, such as boxes.
  """

  fields: Sequence[str] = ()
  needs: Mapping[str, str] = {}
  places = False

  def __init__(self, config: data_config.DataConfig):
    self._reads: set[str] = set()
    self._given = config
    # What is built or checked for all makers does not tell what this one uses.
    self._built_sampler = samplers.build_sampler(config.sampler)
    self._built_policy = _policy_of(config)
    if self.places and self._built_policy.moves:
      raise UserError(
        f'augmentation.policy {config.augmentation.policy!r}: moves what is seen, but not '
        f'the boxes or overlaps that views {config.views!r} tell; choose another policy'
      )
    _check_geometry(config)
    self.fields = (*self.fields, *tempo.fields(config))
    self.needs = {**self.needs, **dict.fromkeys(tempo.fields(config), _HAS_RATE)}
    self._config = reads.watched(config, self._reads)

  @property
  def _sampler(self) -> samplers.FrameSampler:
    """Of the config; which of its fields it takes, its constructor tells."""
    self._reads |= {
      f'sampler.{field.name}' for field in dataclasses.fields(data_config.Sampler)
    }
    return self._built_sampler

  @property
  def _policy(self) -> policies.Policy:
    self._reads.add('augmentation.policy')
    return self._built_policy

  def paced(self, clip: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A parsed record as samples are made of it: at the pace of `stride_seconds`."""
    return tempo.paced(clip, self._given)

  def check_all_used(self) -> None:
    """Refuses fields that are set and had no part in the samples that were made.

    To be called when all samples were traced.

    Raises:
      UserError: it names the first, and the value that it would take.
    """
    default = type(self._given)()
    if 'temporal_stride' in self._reads:  # Which is what the seconds are those of.
      self._reads.add('stride_seconds')
    for name, value, usual in reads.changed(self._given, default):
      group = name.partition('.')[0]
      neutral = (name, value) in _NEUTRAL
      if group in _SHAPING and name not in self._reads and not neutral:
        part = 'train_data' if self._given.is_training else 'validation_data'
        raise UserError(
          f'task.{part}.{name} {value!r}: views {self._given.views!r} with num_views '
          f'{self._given.num_views} and num_test_clips {self._given.num_test_clips} do not '
          f'read it; leave it {usual!r}'
        )

  def frame_indices(self, num_frames: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """[V, T] int32: which frames the augmented views of a clip take."""
    config, sampler = self._config, self._sampler
    takes_stride = getattr(sampler, 'takes_stride', True)  # Strangers' say nothing.
    stride = config.temporal_stride if takes_stride else 1
    return sampler(key, num_frames, config.feature_shape[0], stride, config.num_views)

  def frames_taken(self, clip: Mapping[str, tf.Tensor], key: tf.Tensor) -> tf.Tensor:
    """[V, T] int32: which frames of a clip `training_sample` takes, to be told.

    [0, 0] where a view is not a number of frames.
    """
    return self.frame_indices(tf.size(clip['frames']), key)

  def test_frames_taken(
    self, clip: Mapping[str, tf.Tensor], number: tf.Tensor
  ) -> tf.Tensor:
    """[T] int32: likewise of `test_sample`."""
    return self.test_indices(tf.size(clip['frames']), number)

  def training_sample(
    self, clip: Mapping[str, tf.Tensor], key: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """The augmented views of a parsed record, and what else comes with them.

    Args:
      clip: of `parsing.parse_record`, with the record's `fields`, then `paced`.
      key: int32 [2].

    Returns:
      See `training_views`; every tensor has the `clips_per_decode` repeats as first axis.
    """
    return self.training_views(clip['frames'], key)

  def test_sample(
    self, clip: Mapping[str, tf.Tensor], number: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """The views of a parsed record's test clip, and what else comes with them.

    Args:
      clip: as of `training_sample`.
      number: of the test clip.

    Returns:
      'test_views' [1, C, T, H, W, 3] uint8 and 'wrapped' [1] bool, see
      `samplers.begin_anew`; every tensor has a first axis of 1.
    """
    indices = self.test_indices(tf.size(clip['frames']), number)
    return {
      'test_views': self.test_views(clip['frames'], number)[None],
      'wrapped': samplers.begin_anew(indices)[None],
    }

  def training_views(
    self, frames: tf.Tensor, key: tf.Tensor, may_flip: bool | tf.Tensor = True
  ) -> dict[str, tf.Tensor]:
    """The augmented views of a clip, `clips_per_decode` times.

    The repeats show the same frames, decoded once, under crops, flips and colours of
    their own.

    Args:
      frames: [F] encoded frames.
      key: int32 [2].
      may_flip: whether the clip means the same mirrored.

    Returns:
      'views' [R, V, T, H, W, 3]: float32 in [0, 1], or uint8 before the photometric
      policy where that runs on the device, which then needs 'view_key' int32 [R, 2];
      'wrapped' [R] bool, see `samplers.begin_anew`.
    """
    indices = self.frame_indices(tf.size(frames), key)
    keys = self.repeat_keys(key)
    if self._config.augmentation.consistent:
      windows, flips = self.placements(frames, keys)
    else:
      windows, flips = self._placements_of_frames(frames, keys)
    clips = self.decoded(frames, indices, windows, flips & may_flip)
    return self.coloured(clips, keys, indices)

  def repeat_keys(self, key: tf.Tensor) -> list[tf.Tensor]:
    """The key of each repeat of a decoded clip."""
    repeats = range(1, self._config.clips_per_decode)
    return [key] + [draws.fold(key, f'repeat/{i}') for i in repeats]

  def coloured(
    self,
    clips: tf.Tensor,
    keys: Sequence[tf.Tensor],
    indices: tf.Tensor | None = None,
  ) -> dict[str, tf.Tensor]:
    """Runs the photometric policy, or leaves it to the device.

    Args:
      clips: uint8 [R, V, T, H, W, 3].
      keys: of each repeat, int32 [2].
      indices: of the clips' frames, [V, T].

    Returns:
      'views', 'view_key' where the device needs it, and 'wrapped' of given indices; see
      `training_views`.
    """
    made = {}
    if indices is not None:
      made['wrapped'] = tf.repeat(samplers.begin_anew(indices)[None], len(keys))
    policy = self._policy  # The device's too: it was asked for.
    if augments_on_device(self._config):
      return made | {'views': clips, 'view_key': tf.stack(keys)}
    views = [
      policy(clips[repeat, view], draws.fold(key, view), view)
      for repeat, key in enumerate(keys)
      for view in range(clips.shape[1])
    ]
    return made | {'views': tf.reshape(tf.stack(views), clips.shape)}

  def placements(
    self, frames: tf.Tensor, keys: Sequence[tf.Tensor]
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Crop windows int32 [V, R, 4] and flips bool [V, R], one of each view for each key."""
    size = decoding.frame_size(frames)
    view_keys = [
      [draws.fold(key, view) for key in keys] for view in range(self._config.num_views)
    ]
    probability = self._config.augmentation.flip_probability
    windows = [[self._window(k, *size) for k in repeats] for repeats in view_keys]
    flips = [
      [draws.bernoulli(k, 'flip', probability) for k in repeats] for repeats in view_keys
    ]
    return tf.convert_to_tensor(windows), tf.convert_to_tensor(flips)

  def _placements_of_frames(
    self, frames: tf.Tensor, keys: Sequence[tf.Tensor]
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """`placements` of each frame of each view: int32 [V, R, T, 4] and bool [V, R, T]."""
    steps = self._config.feature_shape[0]
    each = [key for clip in keys for key in tf.unstack(draws.fold_each(clip, steps))]
    windows, flips = self.placements(frames, each)
    shape = [-1, len(keys), steps]
    return tf.reshape(windows, [*shape, 4]), tf.reshape(flips, shape)

  def _window(self, key: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Draws the crop of a view."""
    crop = self._config.augmentation
    if crop.short_side_range:
      size = self._config.feature_shape[1:3]
      return geometric.random_short_side_window(
        key, height, width, size, crop.short_side_range
      )
    return geometric.random_resized_crop_window(
      key, height, width, crop.area_range, crop.aspect_range
    )

  def decoded(
    self,
    frames: tf.Tensor,
    indices: tf.Tensor,
    windows: tf.Tensor,
    flips: tf.Tensor,
    exactly: bool = False,
  ) -> tf.Tensor:
    """Decodes given frames and crops for each view and repeat.

    Args:
      frames: [F] encoded frames.
      indices: int32 [V, T], frames of each view.
      windows: int32 [V, R, 4], see `decoding.decode_clip`; or [V, R, T, 4], one of each
        frame.
      flips: bool [V, R] or [V, R, T].
      exactly: decode whole pixels, whatever `augmentation.scaled_decoding` says.

    Returns:
      uint8 [R, V, T, H, W, 3].
    """
    num_views, num_steps = indices.shape
    scaled = not exactly and self._config.is_training
    height, width = self._config.feature_shape[1:3]
    clips = decoding.decode_each(
      tf.gather(frames, tf.reshape(indices, [-1])),
      _of_frames(windows, 4, num_steps),
      (height, width),
      _of_frames(flips, 3, num_steps),
      self._config.resize,
      scaled and self._config.augmentation.scaled_decoding,
    )
    return tf.reshape(clips, [windows.shape[1], num_views, num_steps, height, width, 3])

  def num_test_clips(self, frames: tf.Tensor) -> tf.Tensor:
    """How many of the config's test clips a record of [F] encoded frames has, int32."""
    config = self._config
    if not config.test_clip_step:
      return tf.constant(config.num_test_clips)
    return samplers.num_stepped_clips(
      tf.size(frames),
      config.feature_shape[0],
      config.temporal_stride,
      config.num_test_clips,
      config.test_clip_step,
    )

  def test_views(self, frames: tf.Tensor, clip: tf.Tensor) -> tf.Tensor:
    """[F] encoded frames to the crops of one test clip, [C, T, H, W, 3] uint8."""
    indices = self.test_indices(tf.size(frames), clip)
    return test_crops(tf.gather(frames, indices), self._config)

  def test_indices(self, num_frames: tf.Tensor, clip: tf.Tensor) -> tf.Tensor:
    """[T] int32: which frames a test clip takes of so many."""
    config = self._config
    sizes = num_frames, config.feature_shape[0], config.temporal_stride
    if config.test_clip_step:
      return samplers.stepped_test_indices(
        *sizes, config.num_test_clips, config.test_clip_step
      )[clip]
    starts = samplers.test_starts(*sizes, config.num_test_clips)
    return samplers.clip_indices(starts[clip][None], *sizes[1:], num_frames)[0]


def _of_frames(values: tf.Tensor, rank: int, steps: int) -> tf.Tensor:
  """[V, R, ...] of views, or [V, R, T, ...] of frames with this rank, to [V T, R, ...]."""
  if values.shape.rank < rank:
    return tf.repeat(values, steps, 0)
  moved = tf.transpose(values, [0, 2, 1, *range(3, rank)])
  return tf.reshape(moved, [-1, *moved.shape[2:]])


def test_crops(frames: tf.Tensor, config: data_config.DataConfig) -> tf.Tensor:
  """[T] encoded frames to the crops of a test, [C, T, H, W, 3] uint8."""
  size = config.feature_shape[1:3]
  windows = test_windows(*decoding.frame_size(frames), config)
  return decoding.decode_crops(frames, windows, size, resize=config.resize)


test_crops.__test__ = False  # type: ignore[attr-defined]  # not a test, to pytest


def test_windows(
  height: tf.Tensor, width: tf.Tensor, config: data_config.DataConfig
) -> tf.Tensor:
  """Windows [C, 4] of the test crops, float32 where more than the crop has to be seen."""
  size = config.feature_shape[1:3]
  if config.whole_frame:
    window = geometric.whole_frame_window(height, width, size, config.min_image_size)
    return window[None]
  make = geometric.scaled_test_windows
  if config.resize == 'bilinear':
    # As of old: without a wide filter, cutting first loses next to nothing and saves
    # decoding; published scores were measured so.
    make = geometric.test_windows
  return make(height, width, size, config.num_test_crops, config.min_image_size)


test_windows.__test__ = False  # type: ignore[attr-defined]


def _check_geometry(config: data_config.DataConfig) -> None:
  """Raises `UserError` where a config's crops contradict each other or can't be."""
  decoding.FILTERS.find(config.resize)
  if config.whole_frame and config.num_test_crops != 1:
    raise UserError(
      f'whole_frame with num_test_crops {config.num_test_crops}: one crop shows the whole '
      'frame; set num_test_crops to 1'
    )
  crop, default = config.augmentation, data_config.Augmentation()
  short = tuple(crop.short_side_range)
  if short and (len(short) != 2 or not 0 < short[0] <= short[1]):
    raise UserError(
      f'augmentation.short_side_range {list(short)}: expected the least and the greatest '
      'short side in pixels, or nothing'
    )
  for name in ('area_range', 'aspect_range'):
    value = getattr(crop, name)
    if short and tuple(value) != getattr(default, name):
      raise UserError(
        f'augmentation.{name} {list(value)} with short_side_range {list(short)}: a crop is '
        'drawn by one of them; set short_side_range to [] or leave out the other'
      )


# A method that makes its views, and labels with them, in another way adds a subclass of
# `ViewMaker` here, under a name of its own.
VIEW_MAKERS: registry.Registry[Callable[[data_config.DataConfig], ViewMaker]] = (
  registry.Registry('views', {'augmented': ViewMaker})
)


def build_view_maker(config: data_config.DataConfig) -> ViewMaker:
  """The view maker that a config names.

  Raises:
    UserError: there is none of that name, or the config asks of it what can't be.
  """
  return VIEW_MAKERS.find(config.views)(config)


def augment_on_device(
  inputs: Mapping[str, tf.Tensor], config: data_config.DataConfig
) -> dict[str, tf.Tensor]:
  """Runs the photometric policy on a batch whose views left the host without it.

  Args:
    inputs: a batch of the reader.
    config: what the batch was read with.

  Returns:
    The batch with 'views' as float32 in [0, 1]; unchanged where the host did it all.
  """
  inputs = dict(inputs)
  if 'view_key' in inputs:
    policy = _policy_of(config)
    keys, views = inputs.pop('view_key'), inputs['views']
    inputs['views'] = tf.stack(
      [
        policy.batch(views[:, view], _fold_each(keys, view), view)
        for view in range(config.num_views)
      ],
      axis=1,
    )
  return inputs


def _policy_of(config: data_config.DataConfig) -> policies.Policy:
  crop = config.augmentation
  return policies.build_policy(crop.policy, crop.consistent)


def _fold_each(keys: tf.Tensor, view: int) -> tf.Tensor:
  return tf.map_fn(lambda key: draws.fold(key, view), keys)

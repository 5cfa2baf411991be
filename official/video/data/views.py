"""From the encoded frames of one clip to its views, and where their pixels are changed.

The host always samples, decodes, crops, resizes and flips. The photometric policy runs
on the host too, or inside the step on an accelerator; both call the same operations with
the same keys.
"""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from official.video import registry
from official.video.augment import geometric, policies
from official.video.configs import data as data_config
from official.video.data import decoding, draws, samplers
from official.video.errors import UserError

PLACES = ('auto', 'device', 'host')


def augments_on_device(config: data_config.DataConfig) -> bool:
  """Whether the photometric policy runs in the step; 'auto': where that is accelerated.

  To be asked under the distribution strategy that the step runs under.

  Raises:
    UserError: `augment_on` is none of `PLACES`.
  """
  if config.augment_on not in PLACES:
    raise UserError(
      f'augment_on {config.augment_on!r}: expected one of {", ".join(PLACES)}'
    )
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


class ViewMaker:
  """Makes the views of one clip, as a data config asks.

  Training views are sampled, cropped, flipped and coloured by draws of their own; test
  views are fixed. Decoding, cropping, resizing and flipping are one step a frame.

  Attributes:
    fields: context keys of the record contract that samples are made of beside frames
      and label.
  """

  fields: Sequence[str] = ()

  def __init__(self, config: data_config.DataConfig):
    self._config = config
    self._sampler = samplers.build_sampler(config.sampler)
    self._policy = policies.build_policy(config.augmentation.policy)

  def frame_indices(self, num_frames: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """[V, T] int32: which frames the augmented views of a clip take."""
    config = self._config
    return self._sampler(
      key,
      num_frames,
      config.feature_shape[0],
      config.temporal_stride,
      config.num_views,
    )

  def training_sample(
    self, clip: Mapping[str, tf.Tensor], key: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """All that training takes of a parsed record, `clips_per_decode` times.

    Args:
      clip: of `reader.parse_record`, with the record's `fields`.
      key: int32 [2].
    """
    return self.training_views(clip['frames'], key)

  def test_sample(
    self, clip: Mapping[str, tf.Tensor], number: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """All that evaluation takes of a parsed record's test clip, on a first axis of 1."""
    return {'test_views': self.test_views(clip['frames'], number)[None]}

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
      policy where that runs on the device, which then needs 'view_key' int32 [R, 2].
    """
    config = self._config
    indices = self.frame_indices(tf.size(frames), key)
    keys = [key] + [
      draws.fold(key, f'repeat/{i}') for i in range(1, config.clips_per_decode)
    ]
    clips = []
    for view in range(config.num_views):
      view_keys = [draws.fold(k, view) for k in keys]
      clips.append(self._crops(tf.gather(frames, indices[view]), view_keys, may_flip))
    return self.coloured(clips, keys)

  def coloured(
    self, clips: Sequence[tf.Tensor], keys: Sequence[tf.Tensor]
  ) -> dict[str, tf.Tensor]:
    """Runs the photometric policy, or leaves it to the device.

    Args:
      clips: for each view, uint8 [R, T, H, W, 3].
      keys: of each repeat, int32 [2].

    Returns:
      'views', and 'view_key' where the device needs it; see `training_views`.
    """
    if augments_on_device(self._config):
      return {'views': tf.stack(clips, axis=1), 'view_key': tf.stack(keys)}
    views = [
      tf.stack(
        [self._policy(repeats[i], draws.fold(k, view), view) for i, k in enumerate(keys)]
      )
      for view, repeats in enumerate(clips)
    ]
    return {'views': tf.stack(views, axis=1)}

  def _crops(
    self, frames: tf.Tensor, keys: list[tf.Tensor], may_flip: bool | tf.Tensor
  ) -> tf.Tensor:
    """One random crop of a view's frames for each key, uint8 [R, T, H, W, 3]."""
    crop = self._config.augmentation
    size = decoding.frame_size(frames)
    windows = [
      geometric.random_resized_crop_window(key, *size, crop.area_range, crop.aspect_range)
      for key in keys
    ]
    flips = [
      draws.bernoulli(key, 'flip', crop.flip_probability) & may_flip for key in keys
    ]
    height, width = self._config.feature_shape[1:3]
    return decoding.decode_crops(
      frames, tf.stack(windows), (height, width), tf.stack(flips)
    )

  def test_views(self, frames: tf.Tensor, clip: tf.Tensor) -> tf.Tensor:
    """[F] encoded frames to the crops of one test clip, [C, T, H, W, 3] uint8."""
    config = self._config
    num_steps, height, width, _ = config.feature_shape
    num_frames = tf.size(frames)
    starts = samplers.test_starts(
      num_frames, num_steps, config.temporal_stride, config.num_test_clips
    )
    indices = samplers.clip_indices(
      starts[clip][None], num_steps, config.temporal_stride, num_frames
    )[0]
    windows = geometric.test_windows(
      *decoding.frame_size(frames),
      (height, width),
      config.num_test_crops,
      config.min_image_size,
    )
    return decoding.decode_crops(tf.gather(frames, indices), windows, (height, width))


# A method that makes its views, and labels with them, in another way adds a subclass of
# `ViewMaker` here, under a name of its own.
VIEW_MAKERS: dict[str, Callable[[data_config.DataConfig], ViewMaker]] = {
  'augmented': ViewMaker
}


def build_view_maker(config: data_config.DataConfig) -> ViewMaker:
  """The view maker that a config names.

  Raises:
    UserError: there is none of that name, or the config asks of it what can't be.
  """
  return registry.find(VIEW_MAKERS, config.views, 'views')(config)


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
    policy = policies.build_policy(config.augmentation.policy)
    keys, views = inputs.pop('view_key'), inputs['views']
    inputs['views'] = tf.stack(
      [
        policy.batch(views[:, view], _fold_each(keys, view), view)
        for view in range(config.num_views)
      ],
      axis=1,
    )
  return inputs


def _fold_each(keys: tf.Tensor, view: int) -> tf.Tensor:
  return tf.map_fn(lambda key: draws.fold(key, view), keys)

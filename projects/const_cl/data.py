"""ConST-CL's two views with their regions."""

from collections.abc import Mapping

import tensorflow as tf

from official.video import draws
from official.video.configs import data as data_config
from official.video.data import decoding, regions, views
from official.video.errors import UserError
from official.video.heads.regions import key_frame

VIEWS = 'regions'


@views.VIEW_MAKERS.register(VIEWS)
class RegionViewMaker(views.ViewMaker):
  """Augmented views and, in the key frame of each, boxes.

  Annotated boxes are those next in time to the key frame, moved along with the view's
  crop and flip.
  """

  places = True

  def __init__(self, config: data_config.DataConfig):
    super().__init__(config)
    # Of the watched config: its fields are used here.
    self._generator = regions.build_generator(self._config.regions)
    if config.enable_tf_data_service and config.regions.generator == 'superpixels':
      raise UserError(
        "regions.generator 'superpixels' with enable_tf_data_service: superpixels are found "
        'in Python, which a service cannot run; turn it off or take other regions'
      )
    if config.num_views and self._generator.annotated:
      self.fields = (*self.fields, *regions.ANNOTATION_KEYS)

  def training_sample(
    self, clip: Mapping[str, tf.Tensor], key: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """As `ViewMaker.training_sample`, with the boxes.

    Returns:
      Also 'regions' float32 [R, V, N, 4] as shares of the views, and 'region_valid' bool
      [R, V, N].
    """
    config, frames = self._config, clip['frames']
    keys = self.repeat_keys(key)
    indices = self.frame_indices(tf.size(frames), key)
    windows, flips = self.placements(frames, keys)
    clips = self.decoded(frames, indices, windows, flips)
    middle = key_frame(config.feature_shape[0])
    boxes = []
    for view in range(config.num_views):
      annotated = self._annotations(clip, indices[view, middle])
      shown = [
        regions.Shown(
          draws.fold(k, view),
          k,
          clips[i, view, middle],
          windows[view, i],
          flips[view, i],
          decoding.frame_size(frames),
          *annotated,
        )
        for i, k in enumerate(keys)
      ]
      boxes.append([self._generator(s, config.regions.count) for s in shown])
    return self.coloured(clips, keys, indices) | {
      'regions': _stacked(boxes, 0),
      'region_valid': _stacked(boxes, 1),
    }

  def _annotations(self, clip: Mapping[str, tf.Tensor], frame: tf.Tensor):
    if self._generator.annotated:
      return regions.annotations_at(clip, frame)
    return tf.zeros([0, 4]), tf.zeros([0], tf.int64)


def _stacked(boxes: list, part: int) -> tf.Tensor:
  """[R, V, ...] of lists over views of lists over repeats."""
  return tf.stack([tf.stack([b[part] for b in view]) for view in boxes], axis=1)

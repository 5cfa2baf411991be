"""SavedModel signatures: uint8 clips, JPEG frames, records and regions to features."""

import dataclasses

import tensorflow as tf

from official.video import modeling
from official.video.augment import geometric, normalization
from official.video.configs import data as data_config
from official.video.data import decoding, reader, views


class EncoderModule(tf.Module):
  """A backbone, and a classifier where one was trained, with their own preprocessing.

  Every signature takes any batch size and returns 'feature' [B, C], 'endpoint_<name>'
  (the backbone's maps) and, with a classifier, 'probability' [B, K]; `regions` returns
  features of boxes instead of maps.
  """

  def __init__(
    self,
    model: modeling.VideoModel,
    config: data_config.DataConfig,
    zero_centering: bool,
    classifies: bool,
  ):
    """Initializes the module.

    Args:
      model: restored model.
      config: how a record becomes test views.
      zero_centering: the normalization that the model was trained with.
      classifies: the head's output are logits.
    """
    super().__init__(name='encoder')
    self._model = model
    self._config = config
    self._zero_centering = zero_centering
    self._classifies = classifies
    self._views = views.ViewMaker(dataclasses.replace(config, num_views=0))

  def _encode(self, clips: tf.Tensor) -> dict[str, tf.Tensor]:
    clips = normalization.normalize(clips, self._zero_centering)
    outputs = self._model.encode(clips)
    feature = outputs.pop('feature')
    result = {f'endpoint_{name}': value for name, value in outputs.items()}
    if self._classifies:
      logits = tf.cast(self._model.head(feature, training=False), tf.float32)
      result['probability'] = tf.nn.softmax(logits)
    return result | {'feature': feature}

  def clips(self, clips: tf.Tensor) -> dict[str, tf.Tensor]:
    """[B, T, H, W, 3] uint8 clips of any length and size."""
    return self._encode(clips)

  def regions(self, clips: tf.Tensor, boxes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Features of regions of [B, T, H, W, 3] uint8 clips of the model's size.

    Args:
      clips: as the `clips` signature takes them.
      boxes: float32 [B, N, 4] top, left, bottom, right as shares of the frame, in the
        frame after the clip's middle.

    Returns:
      'region' [B, N, C], 'feature' [B, C], and what the method adds for each region.
    """
    clips = normalization.normalize(clips, self._zero_centering)
    outputs = self._model.encode_regions(clips, boxes)
    maps = self._model.backbone.output_specs
    return {name: value for name, value in outputs.items() if name not in maps}

  def jpeg_frames(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
    """[B, T] JPEG frames: the centre crop of each, resized to the model's size."""
    _, height, width, _ = self._config.feature_shape

    def decode(clip: tf.Tensor) -> tf.Tensor:
      window = geometric.test_windows(
        *decoding.frame_size(clip), (height, width), 1, self._config.min_image_size
      )[0]
      return decoding.decode_clip(clip, window, (height, width), False)

    spec = tf.TensorSpec([None, height, width, 3], tf.uint8)
    return self._encode(tf.map_fn(decode, frames, fn_output_signature=spec))

  def records(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """[B] serialized records: all test views of each; scores are means over the views.

    Endpoints keep the views: [B, views, T', H', W', C].
    """
    config = self._config
    num_clips = max(1, config.num_test_clips)
    shape = [num_clips * config.num_test_crops, *config.feature_shape]

    def views(record: tf.Tensor) -> tf.Tensor:
      frames = reader.parse_record(record)['frames']
      clips = [self._views.test_views(frames, tf.constant(c)) for c in range(num_clips)]
      return tf.ensure_shape(tf.concat(clips, 0), shape)

    clips = tf.map_fn(
      views, serialized, fn_output_signature=tf.TensorSpec(shape, tf.uint8)
    )
    outputs = self._encode(tf.reshape(clips, [-1, *config.feature_shape]))

    def per_record(value: tf.Tensor) -> tf.Tensor:
      return tf.reshape(value, tf.concat([[-1, shape[0]], tf.shape(value)[1:]], 0))

    outputs = {name: per_record(value) for name, value in outputs.items()}
    means = {
      n: tf.reduce_mean(outputs[n], 1) for n in ('feature', 'probability') if n in outputs
    }
    return outputs | means

  def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """The concrete functions to save, by signature name."""
    specs = {
      'clips': tf.TensorSpec([None, None, None, None, 3], tf.uint8, 'clips'),
      'jpeg_frames': tf.TensorSpec([None, None], tf.string, 'frames'),
      'records': tf.TensorSpec([None], tf.string, 'serialized'),
    }
    traced = {
      name: tf.function(getattr(self, name)).get_concrete_function(spec)
      for name, spec in specs.items()
    }
    traced['regions'] = tf.function(self.regions).get_concrete_function(
      tf.TensorSpec([None, *self._config.feature_shape], tf.uint8, 'clips'),
      tf.TensorSpec([None, None, 4], tf.float32, 'boxes'),
    )
    return traced | {'serving_default': traced['clips']}

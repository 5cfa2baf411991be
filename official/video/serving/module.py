"""SavedModel signatures: uint8 clips, JPEG frames, records and regions to features."""

import dataclasses
import sys

import tensorflow as tf

from official.video.augment import normalization
from official.video.configs import data as data_config
from official.video.data import reader, views
from official.video.models import encoder

# Below it, the logarithm of a float32 probability has no meaning.
_TINY = 1.2e-38


class EncoderModule(tf.Module):
  """A backbone, and a classifier where one was trained, with their own preprocessing.

  Every signature takes any batch size and returns 'feature' [B, C], 'endpoint_<name>'
  (the backbone's maps) and, with a classifier, 'probability' [B, K]; `regions` returns
  features of boxes instead of maps.
  """

  def __init__(
    self,
    model: encoder.VideoModel,
    config: data_config.DataConfig,
    zero_centering: bool,
    classifies: bool,
    average: str = 'probability',
    multi_label: bool = False,
  ):
    """Initializes the module.

    Args:
      model: restored model.
      config: how a record becomes test views.
      zero_centering: the normalization that the model was trained with.
      classifies: the head's output are logits.
      average: what of them is averaged over a record's views; see `ClassificationTask`.
      multi_label: a probability is of its class alone; see there.
    """
    super().__init__(name='encoder')
    self._model = model
    self._config = config
    self._zero_centering = zero_centering
    self._classifies = classifies
    self._average = average
    self._multi_label = multi_label
    # A record is seen by one clip at least, whatever the task's own test looks at.
    test = dataclasses.replace(
      config, num_views=0, num_test_clips=max(1, config.num_test_clips)
    )
    self._views = views.ViewMaker(test)

  def _encode(self, clips: tf.Tensor) -> dict[str, tf.Tensor]:
    clips = normalization.normalize(clips, self._zero_centering)
    encoded = self._model.encode(clips)
    maps = {name: value for name, value in encoded.items() if name != 'feature'}
    result = {f'endpoint_{name}': value for name, value in maps.items()}
    if self._classifies:
      activation = tf.sigmoid if self._multi_label else tf.nn.softmax
      result['probability'] = activation(self._model.output_of(encoded))
    return result | {'feature': encoded['feature']}

  def clips(self, clips: tf.Tensor) -> dict[str, tf.Tensor]:
    """[B, T, H, W, 3] uint8 clips; those of another size than the model's are told."""
    # The signature's spec alone does not keep a runtime from passing other ranks on.
    clips = tf.ensure_shape(clips, [None, None, None, None, 3])
    with tf.control_dependencies([self._told(tf.shape(clips)[1:4])]):
      clips = tf.identity(clips)
    return self._encode(clips)

  def _told(self, size: tf.Tensor) -> tf.Tensor:
    """Prints a warning to stderr where clips are not of the model's size."""
    own = list(self._config.feature_shape[:3])

    def tell() -> tf.Tensor:
      told = tf.print(
        'warning: clips of',
        size,
        f'frames, rows and columns; the model was tested on {own}: resize them, or take '
        'its features for what they are',
        output_stream=sys.stderr,
      )
      with tf.control_dependencies([told]):
        return tf.constant(True)

    return tf.cond(tf.reduce_all(size == own), lambda: tf.constant(False), tell)

  def regions(self, clips: tf.Tensor, boxes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Features of regions of [B, T, H, W, 3] uint8 clips of the model's size.

    Args:
      clips: as the `clips` signature takes them.
      boxes: float32 [B, N, 4] top, left, bottom, right as shares of the frame, in the
        frame after the clip's middle.

    Returns:
      'region' [B, N, C], 'feature' [B, C], and what the method adds for each region.
    """
    clips = tf.ensure_shape(clips, [None, *self._config.feature_shape])
    boxes = tf.ensure_shape(boxes, [None, None, 4])
    clips = normalization.normalize(clips, self._zero_centering)
    outputs = self._model.encode_regions(clips, boxes)
    maps = self._model.backbone.output_specs
    return {name: value for name, value in outputs.items() if name not in maps}

  def jpeg_frames(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
    """[B, T] JPEG frames: the centre crop of each, resized to the model's size."""
    frames = tf.ensure_shape(frames, [None, None])
    config = dataclasses.replace(self._config, num_test_crops=1)
    spec = tf.TensorSpec([None, *config.feature_shape[1:]], tf.uint8)
    clips = tf.map_fn(
      lambda clip: views.test_crops(clip, config)[0], frames, fn_output_signature=spec
    )
    return self._encode(clips)

  def records(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """[B] serialized records: all test views of each; scores are means over the views.

    Endpoints keep the views: [B, views, T', H', W', C].
    """
    config = self._config
    serialized = tf.ensure_shape(serialized, [None])
    num_clips = max(1, config.num_test_clips)
    shape = [num_clips * config.num_test_crops, *config.feature_shape]

    def views(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      frames = reader.parse_record(record)['frames']
      clips = [self._views.test_views(frames, tf.constant(c)) for c in range(num_clips)]
      present = tf.range(num_clips) < tf.maximum(self._views.num_test_clips(frames), 1)
      weights = tf.cast(tf.repeat(present, config.num_test_crops), tf.float32)
      return tf.ensure_shape(tf.concat(clips, 0), shape), weights

    specs = tf.TensorSpec(shape, tf.uint8), tf.TensorSpec(shape[:1], tf.float32)
    clips, weights = tf.map_fn(views, serialized, fn_output_signature=specs)
    outputs = self._encode(tf.reshape(clips, [-1, *config.feature_shape]))

    def per_record(value: tf.Tensor) -> tf.Tensor:
      return tf.reshape(value, tf.concat([[-1, shape[0]], tf.shape(value)[1:]], 0))

    outputs = {name: per_record(value) for name, value in outputs.items()}
    return outputs | self._means(outputs, weights)

  def _means(
    self, outputs: dict[str, tf.Tensor], weights: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Scores of records, given those of their views and which views [B, V] count."""

    def mean(value: tf.Tensor) -> tf.Tensor:
      total = tf.reduce_sum(value * weights[..., None], 1)
      return total / tf.reduce_sum(weights, 1, keepdims=True)

    means = {'feature': mean(outputs['feature'])}
    if 'probability' in outputs:
      scores = outputs['probability']
      if self._average == 'logit':
        logs = tf.math.log(tf.maximum(scores, _TINY))
        if self._multi_label:
          logs -= tf.math.log(tf.maximum(1 - scores, _TINY))
          means['probability'] = tf.sigmoid(mean(logs))
        else:
          means['probability'] = tf.nn.softmax(mean(logs))
      else:
        means['probability'] = mean(scores)
    return means

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

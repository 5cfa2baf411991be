"""SavedModel signatures: uint8 clips, JPEG frames, records and regions to features."""

import dataclasses
import sys
from collections.abc import Sequence

import tensorflow as tf

from official.video.augment import normalization
from official.video.configs import data as data_config
from official.video.data import parsing, tempo, views
from official.video.models import encoder

# Below it, the logarithm of a float32 probability has no meaning.
_TINY = 1.2e-38
_CLIPS = tf.TensorSpec([None, None, None, None, 3], tf.uint8, 'clips')


def at_least_one(rows: tf.Tensor, padding: int | float | bytes = 0) -> tf.Tensor:
  """Rows [B, ...] as they are, or one of padding where there is none.

  Batch norm can't take an empty batch; what comes out of it is cut to the rows there were.
  """
  more = tf.maximum(0, 1 - tf.shape(rows)[0])
  missing = tf.fill(
    tf.concat([[more], tf.shape(rows)[1:]], 0), tf.constant(padding, rows.dtype)
  )
  return tf.ensure_shape(tf.concat([rows, missing], 0), [None, *rows.shape[1:]])


class EncoderModule(tf.__internal__.tracking.AutoTrackable):
  """A backbone, and a classifier where one was trained, with their own preprocessing.

  Every signature takes any batch size and returns 'feature' [B, C], 'endpoint_<name>'
  (the backbone's maps) and, with a classifier, 'probability' [B, K] and, where the classes
  have names, 'classes' [B, K]; `regions` returns features of boxes instead of maps.

  What is loaded can be called, and trained further: TF Hub's KerasLayer takes `__call__`,
  Keras 3's TFSMLayer `serve` and `serve_training`.

  Attributes:
    variables: of the model.
    trainable_variables: those of them that can be trained further, a frozen backbone's
      included.
    non_trainable_variables: the others.
    regularization_losses: none; TF Hub asks for them.
  """

  def __init__(
    self,
    model: encoder.VideoModel,
    config: data_config.DataConfig,
    zero_centering: bool,
    classifies: bool,
    average: str = 'probability',
    multi_label: bool = False,
    label_names: Sequence[str] = (),
  ):
    """Initializes the module.

    Args:
      model: restored model; nothing of it is frozen afterwards.
      config: how a record becomes test views.
      zero_centering: the normalization that the model was trained with.
      classifies: the head's output are logits.
      average: what of them is averaged over a record's views; see `ClassificationTask`.
      multi_label: a probability is of its class alone; see there.
      label_names: of the classes; empty where they have none.
    """
    super().__init__()
    model.backbone.trainable = True
    # Not tracked: Keras would save each layer's own functions beside these.
    object.__setattr__(self, '_model', model)
    self._config = config
    self._zero_centering = zero_centering
    self._classifies = classifies
    self._average = average
    self._multi_label = multi_label
    self._label_names = tuple(label_names)
    # A record is seen by one clip at least, whatever the task's own test looks at.
    test = dataclasses.replace(
      config, num_views=0, num_test_clips=max(1, config.num_test_clips)
    )
    self._views = views.ViewMaker(test)
    self._black = tf.io.encode_jpeg(tf.zeros(config.feature_shape[1:], tf.uint8)).numpy()
    self.variables = list(model.variables)
    self.trainable_variables = list(model.trainable_variables)
    self.non_trainable_variables = list(model.non_trainable_variables)
    self.regularization_losses: list = []

  def _encode(self, clips: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
    clips, count = at_least_one(clips), tf.shape(clips)[0]
    clips = normalization.normalize(clips, self._zero_centering)
    encoded = self._model.encode(clips, training)
    maps = {name: value for name, value in encoded.items() if name != 'feature'}
    result = {f'endpoint_{name}': value for name, value in maps.items()}
    if self._classifies:
      activation = tf.sigmoid if self._multi_label else tf.nn.softmax
      result['probability'] = activation(self._model.output_of(encoded))
      result |= self._classes(result['probability'])
    result['feature'] = encoded['feature']
    return {name: value[:count] for name, value in result.items()}

  def _classes(self, probability: tf.Tensor) -> dict[str, tf.Tensor]:
    """Names of the columns of [B, K] probabilities, for each row as servers ask."""
    if not self._label_names:
      return {}
    return {'classes': tf.broadcast_to(self._label_names, tf.shape(probability))}

  def _checked(self, clips: tf.Tensor) -> tf.Tensor:
    """[B, T, H, W, 3] clips as they are, unless there is nothing in them."""
    # The signature's spec alone does not keep a runtime from passing other ranks on.
    clips = tf.ensure_shape(clips, [None, None, None, None, 3])
    size = tf.shape(clips)[1:4]
    positive = tf.debugging.assert_positive(
      size, 'clips: expected [batch, frames, rows, columns, 3], with at least one of each'
    )
    with tf.control_dependencies([positive, self._told(size)]):
      return tf.identity(clips)

  @tf.function(autograph=False)
  def __call__(self, clips: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
    """As `serve`, or as `serve_training`."""
    return self.serve_training(clips) if training else self.serve(clips)

  @tf.function(autograph=False)
  def serve(self, clips: tf.Tensor) -> dict[str, tf.Tensor]:
    """What `clips` gives and training has too: clients hold both to be alike."""
    outputs = self.clips(clips)
    in_training = self.serve_training.get_concrete_function(_CLIPS).structured_outputs
    return {name: outputs[name] for name in in_training}

  @tf.function(autograph=False)
  def serve_training(self, clips: tf.Tensor) -> dict[str, tf.Tensor]:
    """In training mode, for those who train further: batch norm by the batch."""
    return self._encode(self._checked(clips), True)

  def clips(self, clips: tf.Tensor) -> dict[str, tf.Tensor]:
    """[B, T, H, W, 3] uint8 clips; those of another size than the model's are told."""
    return self._encode(self._checked(clips))

  @property
  def clip_shape(self) -> tuple[int, ...]:
    """[T, H, W, 3] of the clips that the model was tested on."""
    return tuple(self._config.feature_shape)

  def lite(self, clips: tf.Tensor) -> dict[str, tf.Tensor]:
    """What a small runtime can do: [B, T, H, W, 3] of that size to features and scores."""
    encoded = self._encode(clips)
    return {name: encoded[name] for name in ('feature', 'probability') if name in encoded}

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
    # Boxes may reach out of the frame a little, as detections do; NaN is nowhere.
    shares = tf.debugging.assert_equal(
      tf.reduce_all(tf.abs(boxes - 0.5) <= 1),
      True,
      'boxes: expected top, left, bottom, right as shares of the frame, from 0 to 1',
    )
    with tf.control_dependencies([shares]):
      boxes = tf.identity(boxes)
    count = tf.shape(clips)[0]
    clips = normalization.normalize(at_least_one(clips), self._zero_centering)
    outputs = self._model.encode_regions(clips, at_least_one(boxes))
    maps = self._model.backbone.output_specs
    return {name: value[:count] for name, value in outputs.items() if name not in maps}

  def jpeg_frames(self, frames: tf.Tensor) -> dict[str, tf.Tensor]:
    """[B, T] JPEG frames: the centre crop of each, resized to the model's size."""
    frames = tf.ensure_shape(frames, [None, None])
    some = tf.debugging.assert_positive(
      tf.shape(frames)[1], 'frames: expected [batch, frames], with at least one of each'
    )
    with tf.control_dependencies([some]):
      count = tf.shape(frames)[0]
    frames = at_least_one(frames, self._black)
    config = dataclasses.replace(self._config, num_test_crops=1)
    spec = tf.TensorSpec([None, *config.feature_shape[1:]], tf.uint8)
    clips = tf.map_fn(
      lambda clip: views.test_crops(clip, config)[0], frames, fn_output_signature=spec
    )
    return self._encode(clips[:count])

  def records(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """[B] serialized records: all test views of each; scores are means over the views.

    Endpoints keep the views: [B, views, T', H', W', C].
    """
    config = self._config
    serialized = tf.ensure_shape(serialized, [None])
    num_clips = max(1, config.num_test_clips)
    shape = [num_clips * config.num_test_crops, *config.feature_shape]

    def views(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      clip = parsing.parse_record(record, tempo.fields(config))
      frames = tempo.paced(clip, config)['frames']
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
      means |= self._classes(means['probability'])
    return means

  def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """The concrete functions to save, by signature name."""
    specs = {
      'clips': _CLIPS,
      'jpeg_frames': tf.TensorSpec([None, None], tf.string, 'frames'),
      'records': tf.TensorSpec([None], tf.string, 'serialized'),
    }
    traced = {
      name: tf.function(getattr(self, name), autograph=False).get_concrete_function(spec)
      for name, spec in specs.items()
    }
    traced['regions'] = tf.function(self.regions, autograph=False).get_concrete_function(
      tf.TensorSpec([None, *self._config.feature_shape], tf.uint8, 'clips'),
      tf.TensorSpec([None, None, 4], tf.float32, 'boxes'),
    )
    # Those that are no signatures are saved if they have been traced.
    self.serve.get_concrete_function(_CLIPS)
    for training in (False, True):
      self.__call__.get_concrete_function(_CLIPS, training=training)
    return traced | {'serving_default': traced['clips']}

"""The dual encoder: a video transformer with groups, BERT, and what they meet in."""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from official.video.augment import normalization
from official.video.backbones import factory
from official.video.errors import UserError
from official.video.models import encoder

from . import configs, text


class Temperature(tf_keras.layers.Layer):
  """A learnable temperature between two bounds, of which the gradient never vanishes."""

  def __init__(self, initial: float, bounds: Sequence[float], name: str):
    super().__init__(name=name, dtype='float32')
    self._low, high = (math.log(bound) for bound in bounds)
    self._span = high - self._low
    share = (math.log(initial) - self._low) / self._span
    if not 0 < share < 1:
      raise UserError(
        f'task.model.{name}_temperature {initial}: expected a number between the bounds '
        f'{list(bounds)}'
      )
    self._initial = math.log(share / (1 - share))
    self.build(())

  def build(self, input_shape) -> None:
    """Makes the variable, a logit of the place between the bounds' logarithms."""
    self.logit = self.add_weight(
      'temperature', (), initializer=tf_keras.initializers.Constant(self._initial)
    )
    super().build(input_shape)

  def value(self) -> tf.Tensor:
    """The temperature, float32."""
    return tf.exp(self._low + self._span * tf.sigmoid(self.logit))


class Projections(tf_keras.layers.Layer):
  """Linear maps of features to the common space, L2-normalized, and the temperatures.

  Attributes:
    contrast: temperature of videos against captions.
    grounding: temperature of groups against nouns.
  """

  def __init__(self, config: configs.Model, widths: tuple[int, int]):
    """Builds the layers.

    Args:
      config: of the model.
      widths: of the video's and of the text's features.
    """
    super().__init__(name='head', dtype='float32')
    bounds = tuple(config.temperature_bounds)
    self.contrast = Temperature(config.contrast_temperature, bounds, 'contrast')
    self.grounding = Temperature(config.grounding_temperature, bounds, 'grounding')

    def dense(name: str, width: int) -> tf_keras.layers.Dense:
      layer = tf_keras.layers.Dense(config.output_dim, name=name, dtype='float32')
      layer.build((None, width))
      return layer

    self.video = dense('video', widths[0])
    self.group = dense('group', widths[0])
    self.text = dense('text', widths[1])
    self.noun = self.text if config.shared_text_projection else dense('noun', widths[1])

  def project(self, name: str, features: tf.Tensor) -> tf.Tensor:
    """Unit vectors float32 `[..., output_dim]`; `name` is video, group, text or noun."""
    projected = getattr(self, name)(tf.cast(features, tf.float32))
    return tf.math.l2_normalize(projected, -1)

  def call(self, features: tf.Tensor) -> tf.Tensor:
    """The video embedding of pooled features `[B, C]`."""
    return self.project('video', features)


class GvilmModel(encoder.VideoModel):
  """Video encoder, text encoder and projections.

  Attributes:
    text_encoder: BERT or CLIP's tower, of captions and nouns.
    head: the projections and the temperatures.
  """

  head: Projections

  def __init__(self, config: configs.Model, freeze_backbone: bool = False):
    """Builds all variables.

    Raises:
      UserError: the configuration is impossible.
    """
    backbone = factory.build_encoder(config)
    specs = backbone.output_specs
    if not {'tokens', 'groups'} <= set(specs):
      raise UserError(
        f'task.model.backbone: the {config.backbone.type} has the endpoints '
        f'{", ".join(specs)}; G-ViLM takes tokens and groups too: a video_vit with '
        'num_groups above 0'
      )
    encoder = text.build_encoder(config.text)
    width = specs[config.endpoint][-1]
    super().__init__(
      backbone,
      Projections(config, (width, encoder.width)),
      config.endpoint,
      freeze_backbone,
    )
    self.text_encoder = encoder

  @property
  def checkpoint_items(self) -> dict[str, tf_keras.layers.Layer]:
    """The text encoder by name beside what every model has."""
    return super().checkpoint_items | {'text_encoder': self.text_encoder}

  def watch(
    self, clips: tf.Tensor, training: bool = False, keys: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Endpoints of normalized clips, and what the losses take of them.

    Args:
      clips: `[B, T, H, W, 3]`.
      training: see the backbone.
      keys: see the backbone.

    Returns:
      The endpoints with 'feature' `[B, C]`, 'video_embed' `[B, D]`, 'group_embed'
      `[B, M, D]` and 'clip_features' `[B, T', C]`, the mean tokens of each time step.
    """
    endpoints = self.backbone(clips, training=training, keys=keys)
    feature = _mean(endpoints[self.endpoint], [1, 2, 3])
    return endpoints | {
      'feature': feature,
      'video_embed': self.head.project('video', feature),
      'group_embed': self.head.project('group', endpoints['groups'][:, :, 0, 0]),
      'clip_features': _mean(endpoints['tokens'], [2, 3]),
    }

  def read(self, captions: tf.Tensor, nouns: tf.Tensor | None = None) -> dict:
    """Embeddings of texts, in one pass of the text encoder.

    Args:
      captions: ids int32 `[B, L]`.
      nouns: ids int32 `[B, K, L']` with L' at most L, or None.

    Returns:
      'text_embed' `[B, D]` and, with nouns, 'noun_embed' `[B, K, D]`.
    """
    if nouns is None:
      return {'text_embed': self.head.project('text', self.text_encoder(captions))}
    count, length = nouns.shape[1:]
    rows = tf.reshape(nouns, [-1, length])
    rows = tf.pad(rows, [[0, 0], [0, captions.shape[1] - length]])
    features = self.text_encoder(tf.concat([captions, rows], 0))
    batch = tf.shape(captions)[0]
    noun_features = tf.reshape(features[batch:], [-1, count, features.shape[-1]])
    return {
      'text_embed': self.head.project('text', features[:batch]),
      'noun_embed': self.head.project('noun', noun_features),
    }


def _mean(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
  return tf.reduce_mean(tf.cast(x, tf.float32), axes)


def encode_video(model: GvilmModel, clips: tf.Tensor, zero_centering: bool) -> Any:
  """Video embeddings `[B, D]` of uint8 or [0, 1] clips `[B, T, H, W, 3]`."""
  return model.watch(normalization.normalize(clips, zero_centering))['video_embed']

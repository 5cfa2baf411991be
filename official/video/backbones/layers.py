"""What the families of convolutional nets after PyTorch originals share.

A net is a functional model of plain layers. A layer with weights is called what the
original's module is, with '/' for '.', which makes the mapping of checkpoints mechanical.
Padding is explicit: TensorFlow's SAME puts the odd row of a strided window behind, where
the originals put it in front.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import tensorflow as tf
import tf_keras
from tensorflow.python.framework import config as tf_config

from official.modeling import hyperparams
from official.video import registry
from official.video.backbones import batch_norm
from official.video.errors import UserError

Size = tuple[int, int, int]  # Frames, rows, columns.
Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

ONE: Size = (1, 1, 1)
WEIGHT_INITS = ('standard', 'reference')


def symmetric_padding(kernel: Size) -> Padding:
  """Half of the window on either side, as PyTorch nets pad."""
  time, height, width = (size // 2 for size in kernel)
  return (time, time), (height, height), (width, width)


class MaxPool3D(tf_keras.layers.MaxPool3D):
  """Max pooling of `[B, T, H, W, C]`: in space, then through time.

  The maximum over a box is that of maxima, so both are poolings of images. On CPUs they are
  faster than TensorFlow's own in 3D, whose gradient goes to all of equal maxima; here, as in
  PyTorch, it goes to the first. TensorFlow Lite has none but these.
  """

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Pools."""
    # XLA has a gradient of pooled images, but none that it promises to be deterministic.
    if tf_config.is_op_determinism_enabled():
      return super().call(inputs)
    x = self._in_space(inputs)
    return x if self.pool_size[0] == self.strides[0] == 1 else self._through_time(x)

  def _in_space(self, x: tf.Tensor) -> tf.Tensor:
    """A clip is so many images of H x W."""
    images = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], 0))
    images.set_shape([None, *x.shape[2:]])
    pooled = tf.nn.max_pool2d(
      images, self.pool_size[1:], self.strides[1:], self.padding.upper()
    )
    clips = tf.reshape(pooled, tf.concat([tf.shape(x)[:2], tf.shape(pooled)[1:]], 0))
    clips.set_shape([*x.shape[:2], *pooled.shape[1:]])
    return clips

  def _through_time(self, x: tf.Tensor) -> tf.Tensor:
    """A clip is an image of T x HW."""
    batch, frames, height, width, channels = tf.unstack(tf.shape(x))
    image = tf.reshape(x, [batch, frames, height * width, channels])
    image.set_shape([*x.shape[:2], None, x.shape[4]])
    pooled = tf.nn.max_pool2d(
      image, (self.pool_size[0], 1), (self.strides[0], 1), self.padding.upper()
    )
    clips = tf.reshape(pooled, [batch, -1, height, width, channels])
    clips.set_shape([x.shape[0], pooled.shape[1], *x.shape[2:]])
    return clips


class PaddedMaxPool3D(MaxPool3D):
  """Max pooling of `[B, T, H, W, C]` padded by the dtype's lowest value."""

  def __init__(self, pool_size: Size, strides: Size, pads: Padding, **kwargs):
    """Initializes the layer.

    Args:
      pool_size: the window.
      strides: of the window.
      pads: (in front, behind) of each dimension.
      **kwargs: of `tf_keras.layers.MaxPool3D`.
    """
    super().__init__(pool_size, strides, **kwargs)
    self.pads = tuple(map(tuple, pads))

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Pads, then pools whole windows only."""
    paddings = ((0, 0), *self.pads, (0, 0))
    return super().call(tf.pad(inputs, paddings, constant_values=inputs.dtype.min))


class Pixels(tf_keras.layers.Layer):
  """Clips `[B, T, H, W, C]` less a mean and by a deviation of each channel."""

  def __init__(self, mean: Sequence[float], deviation: Sequence[float], **kwargs):
    """Initializes the layer.

    Args:
      mean: of a channel each; 0 if empty.
      deviation: of a channel each; 1 if empty.
      **kwargs: of `tf_keras.layers.Layer`.
    """
    super().__init__(**kwargs)
    self.mean, self.deviation = tuple(mean), tuple(deviation)

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Shifts and scales."""
    x = inputs - tf.constant(self.mean, inputs.dtype) if self.mean else inputs
    return x / tf.constant(self.deviation, x.dtype) if self.deviation else x


def shown(clips: tf.Tensor, config: Any) -> tf.Tensor:
  """Clips `[B, T, H, W, C]` as a net that was trained elsewhere has to see them.

  Padding comes after it, so it is of the mean colour, as where the net was trained.

  Args:
    clips: as tasks show them.
    config: of a family; its `pixel_mean` and `pixel_deviation` are read.
  """
  if not (config.pixel_mean or config.pixel_deviation):
    return clips
  return Pixels(config.pixel_mean, config.pixel_deviation, name='pixels')(clips)


def check_pixels(where: str, config: Any) -> None:
  """Raises a `UserError` for numbers that no clip can be normalized by.

  Args:
    where: 'backbone.<family>', for the message.
    config: see `shown`.
  """
  for field in ('pixel_mean', 'pixel_deviation'):
    values = getattr(config, field)
    zero = field == 'pixel_deviation' and any(value <= 0 for value in values)
    if len(values) not in (0, 3) or zero:
      raise UserError(
        f'{where}.{field} is {list(values)}; expected three numbers'
        f'{" above 0" if zero else ""}, of red, green and blue, or none'
      )


@dataclasses.dataclass
class ConvNetConfig(hyperparams.Config):
  """What the families after PyTorch originals have in common.

  Attributes:
    width_multiplier: factor of every channel count.
    weight_init: 'standard' draws kernels Glorot uniform and starts batch norm at scale 1
      and biases at 0; 'reference' does as CSTP's authors did, who also drew the scales,
      uniformly within ±sqrt(6 / channels), and the biases, within ±1 / sqrt(fan in); of
      CSTP's heads too.
    pixel_mean: what is taken off the pixels that a task shows, of red, green and blue;
      weights that were trained elsewhere may expect it. Nothing if empty.
    pixel_deviation: what they are divided by then.
  """

  width_multiplier: float = 1.0
  weight_init: str = 'standard'
  pixel_mean: tuple[float, ...] = ()
  pixel_deviation: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Units:
  """Applies the layers of one net, which share normalization and initial weights.

  Attributes:
    config: of the net's family; its width and its initial weights are read.
    norm_activation: normalization and activation.
  """

  config: ConvNetConfig
  norm_activation: batch_norm.NormActivation

  def width(self, filters: int) -> int:
    """Channels of a layer that has `filters` at full width."""
    return max(1, round(filters * self.config.width_multiplier))

  def conv(
    self,
    x: tf.Tensor,
    filters: int,
    kernel: Size,
    strides: Size = ONE,
    *,
    name: str,
    pads: Padding | None = None,
    use_bias: bool = False,
  ) -> tf.Tensor:
    """Convolves `[B, T, H, W, C]`, padded by `symmetric_padding` unless told otherwise."""
    pads = pads or symmetric_padding(kernel)
    same = strides == ONE and pads == symmetric_padding(kernel)
    if not same and any(map(any, pads)):
      x = tf_keras.layers.ZeroPadding3D(pads, name=f'{name}/pad')(x)
    return tf_keras.layers.Conv3D(
      filters,
      kernel,
      strides,
      padding='same' if same else 'valid',
      use_bias=use_bias,
      kernel_initializer='glorot_uniform',
      bias_initializer=self._bias_initializer(math.prod(kernel) * x.shape[-1]),
      name=name,
    )(x)

  def dense(self, x: tf.Tensor, units: int, activation: str, name: str) -> tf.Tensor:
    """A dense layer with bias on the last axis."""
    return tf_keras.layers.Dense(
      units,
      activation,
      bias_initializer=self._bias_initializer(x.shape[-1]),
      name=name,
    )(x)

  def norm(self, x: tf.Tensor, name: str) -> tf.Tensor:
    """Batch norm.

    Not synchronized, it moves its variance towards the unbiased one of the batch, as
    PyTorch does; synchronized, Keras takes the biased one, smaller by one part in the
    number of values a channel has.
    """
    options = self.norm_activation
    return batch_norm.BatchNormalization(
      momentum=options.norm_momentum,
      epsilon=options.norm_epsilon,
      gamma_initializer=self._gamma_initializer(x.shape[-1]),
      synchronized=options.use_sync_bn,
      name=name,
    )(x)

  def activate(self, x: tf.Tensor, name: str) -> tf.Tensor:
    """The activation."""
    return tf_keras.layers.Activation(self.norm_activation.activation, name=name)(x)

  def conv_norm(
    self,
    x: tf.Tensor,
    filters: int,
    kernel: Size,
    strides: Size = ONE,
    *,
    names: tuple[str, str],
    pads: Padding | None = None,
    use_bias: bool = False,
    activate: bool = True,
  ) -> tf.Tensor:
    """Convolution, batch norm and activation; `names` are the first two's."""
    conv, norm = names
    x = self.conv(x, filters, kernel, strides, name=conv, pads=pads, use_bias=use_bias)
    x = self.norm(x, norm)
    return self.activate(x, f'{norm}/activation') if activate else x

  def max_pool(
    self,
    x: tf.Tensor,
    window: Size,
    strides: Size,
    *,
    name: str,
    pads: Padding | None = None,
  ) -> tf.Tensor:
    """Max pooling, padded by `symmetric_padding` unless told otherwise."""
    pads = pads or symmetric_padding(window)
    if strides == ONE and pads == symmetric_padding(window):
      return MaxPool3D(window, strides, 'same', name=name)(x)
    return PaddedMaxPool3D(window, strides, pads, name=name)(x)

  def _gamma_initializer(self, channels: int) -> tf_keras.initializers.Initializer:
    if self.config.weight_init == 'standard':
      return tf_keras.initializers.Ones()
    return reference_scale(channels)

  def _bias_initializer(self, fan_in: int) -> tf_keras.initializers.Initializer:
    if self.config.weight_init == 'standard':
      return tf_keras.initializers.Zeros()
    return reference_bias(fan_in)


def reference_scale(channels: int) -> tf_keras.initializers.Initializer:
  """Batch norm's first scale in CSTP's public code: of either sign."""
  # It takes a scale for a matrix of `channels // 2` rows and columns.
  limit = math.sqrt(6 / (2 * max(1, channels // 2)))
  return tf_keras.initializers.RandomUniform(-limit, limit)


def reference_bias(fan_in: int) -> tf_keras.initializers.Initializer:
  """A layer's first bias in PyTorch."""
  limit = 1 / math.sqrt(fan_in)
  return tf_keras.initializers.RandomUniform(-limit, limit)


class VideoBackbone(tf_keras.Model):
  """A net from clips `[B, T, H, W, C]` to endpoints '1' to '5', `[B, T', H', W', C']`.

  A family extends it by its configuration's class, by `endpoints_of`, which applies the
  layers, and by `smallest_clip` where not every clip will do.
  """

  family: ClassVar[str]
  config_class: ClassVar[type[ConvNetConfig]]

  def __init__(
    self,
    config: ConvNetConfig | None = None,
    norm_activation: batch_norm.NormActivation | None = None,
    clip_shape: Sequence[int | None] = (None, None, None, 3),
    name: str | None = None,
  ):
    """Builds the net.

    Args:
      config: of the family; its defaults if None.
      norm_activation: normalization and activation;
        `batch_norm.NormActivation` by default.
      clip_shape: [T, H, W, C] of the input, None where any size is taken.
      name: of the model; the family's by default.

    Raises:
      UserError: if an option is impossible or the clip too small.
    """
    config = (config or self.config_class()).replace()
    norm = norm_activation or batch_norm.NormActivation()
    self.check(config)
    smallest = self.smallest_clip(config)
    _check_clip(self.family, clip_shape, smallest)
    clips = tf_keras.Input(tuple(clip_shape), name='clips')
    endpoints = self.endpoints_of(shown(clips, config), config, Units(config, norm))
    super().__init__(inputs=clips, outputs=endpoints, name=name or self.family)
    self._config = config

  @staticmethod
  def endpoints_of(clips: tf.Tensor, config: Any, units: Units) -> dict[str, tf.Tensor]:
    """Applies the family's layers to clips and returns the endpoints."""
    raise NotImplementedError

  @staticmethod
  def smallest_clip(config: Any) -> Size:
    """Fewest frames, rows and columns of which something reaches the last endpoint."""
    del config
    return ONE

  @classmethod
  def check(cls, config: Any) -> None:
    """Raises a `UserError` for impossible options; a family adds what is its own."""
    where = f'backbone.{cls.family}'
    if config.width_multiplier <= 0:
      raise UserError(
        f'{where}.width_multiplier is {config.width_multiplier}; '
        'expected a number above 0'
      )
    registry.check_choice(f'{where}.weight_init', config.weight_init, WEIGHT_INITS)
    check_pixels(where, config)

  def call(self, inputs: tf.Tensor, training: bool | None = None, mask=None):
    """Maps clips `[B, T, H, W, C]` to the dict of endpoints."""
    smallest = self.smallest_clip(self._config)
    _check_clip(self.family, inputs.shape[1:], smallest)
    if None in inputs.shape[1:4]:
      inputs = _checked_clip(inputs, smallest)
    return super().call(inputs, training=training, mask=mask)

  @property
  def output_specs(self) -> dict[str, tf.TensorShape]:
    """Static shape `[B, T', H', W', C]` of every endpoint."""
    return {name: tensor.shape for name, tensor in self.output.items()}


def pytorch_layers(backbone: tf_keras.Model) -> dict[str, tf_keras.layers.Layer]:
  """Every layer with weights, by the name of its module in the PyTorch original.

  Args:
    backbone: a net of this module's kind.

  Returns:
    Convolutions, batch norms and dense layers by names such as 'conv3.block1.bn1'.
  """
  return {
    layer.name.replace('/', '.'): layer for layer in backbone.layers if layer.weights
  }


def _checked_clip(clips: tf.Tensor, smallest: Size) -> tf.Tensor:
  """Clips of a size that is known when they come; an exported model meets any."""
  enough = tf.debugging.assert_greater_equal(
    tf.shape(clips)[1:4],
    tf.constant(smallest),
    'clips (frames, rows, columns): smaller than the net can take',
  )
  with tf.control_dependencies([enough]):
    return tf.identity(clips)


def _check_clip(family: str, shape: Sequence[int | None], smallest: Size) -> None:
  sizes = tuple(shape)[:3]
  if any(n is not None and n < least for n, least in zip(sizes, smallest, strict=True)):
    seen, least = (' x '.join(map(str, size)) for size in (sizes, smallest))
    raise UserError(
      f'backbone.{family}: clips are {seen} (frames, rows, columns); expected at least '
      f'{least}; lengthen or enlarge the clips (feature_shape of the data)'
    )

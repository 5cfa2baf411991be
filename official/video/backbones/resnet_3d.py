"""3D residual nets: the slow pathway's ResNet, from R3D-10 to R3D-200, of any width.

Object graph and arithmetic are those of the Model Garden's `resnet_3d` without
self-gating, squeeze-and-excitation and stochastic depth, so checkpoints of bottleneck
nets go both ways.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from official.video.backbones import batch_norm, factory
from official.video.configs import backbones as backbones_config
from official.video.errors import UserError

STAGES = ('res2', 'res3', 'res4', 'res5')
STEM_FILTERS = 64

# Depth to (bottleneck blocks?, blocks of each stage).
DEPTHS: dict[int, tuple[bool, tuple[int, int, int, int]]] = {
  10: (False, (1, 1, 1, 1)),
  18: (False, (2, 2, 2, 2)),
  34: (False, (3, 4, 6, 3)),
  50: (True, (3, 4, 6, 3)),
  101: (True, (3, 4, 23, 3)),
  152: (True, (3, 8, 36, 3)),
  200: (True, (3, 24, 36, 3)),
}

_serializable = tf_keras.utils.register_keras_serializable(package='Vidgarden')


class _Block(tf_keras.layers.Layer):
  """What both residual blocks share: options, shortcut, serialization."""

  expansion = 1

  def __init__(
    self,
    filters: int,
    temporal_kernel_size: int = 1,
    temporal_stride: int = 1,
    spatial_stride: int = 1,
    spatial_dilation: int = 1,
    input_dilation: int | None = None,
    activation: str = 'relu',
    use_sync_bn: bool = True,
    norm_momentum: float = 0.9,
    norm_epsilon: float = 1e-5,
    **kwargs,
  ):
    """Initializes the block.

    Args:
      filters: channels inside the block; it puts out `expansion` times as many.
      temporal_kernel_size: frames its temporal convolutions see.
      temporal_stride: of the block.
      spatial_stride: of the block.
      spatial_dilation: of its 3x3 convolutions; spatial_stride must then be 1.
      input_dilation: of the one of them that carries the spatial stride: it still sees
        what came before the block. spatial_dilation if None; else it is placed where the
        stride that spatial_dilation stands for had put it.
      activation: name of the activation.
      use_sync_bn: whether batch statistics are taken over all replicas.
      norm_momentum: share of the moving statistics kept at each step.
      norm_epsilon: added to the variance.
      **kwargs: of `tf_keras.layers.Layer`.
    """
    super().__init__(**kwargs)
    # A proxy, because Keras would track a plain dict as part of the checkpoint.
    self._options: Mapping[str, Any] = types.MappingProxyType(
      {
        'filters': filters,
        'temporal_kernel_size': temporal_kernel_size,
        'temporal_stride': temporal_stride,
        'spatial_stride': spatial_stride,
        'spatial_dilation': spatial_dilation,
        'input_dilation': input_dilation or spatial_dilation,
        'activation': activation,
        'use_sync_bn': use_sync_bn,
        'norm_momentum': norm_momentum,
        'norm_epsilon': norm_epsilon,
      }
    )
    self._filters = filters
    self._strides = (temporal_stride, spatial_stride, spatial_stride)
    self._activation = tf_keras.activations.get(activation)

  def build(self, input_shape) -> None:
    """Adds the shortcut's convolution where channels or resolution change."""
    out = self.expansion * self._filters
    self._projects = input_shape[-1] != out or self._strides != (1, 1, 1)
    if self._projects:
      self._shortcut_conv = _conv(out, (1, 1, 1), self._strides, name='shortcut/conv')
      self._norm0 = self._norm('shortcut/bn')
    super().build(input_shape)

  def get_config(self) -> dict[str, Any]:
    """Arguments that build an equal block."""
    return super().get_config() | dict(self._options)

  def _norm(self, name: str) -> tf_keras.layers.Layer:
    return _batch_norm(
      self._options['use_sync_bn'],
      self._options['norm_momentum'],
      self._options['norm_epsilon'],
      name,
    )

  def _entered(self, conv: tf_keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
    """Applies the convolution that carries the spatial stride, or did.

    SAME puts a strided window of three cells about the first cell only where the last one
    has a window too; else about the second. A dilation instead of the stride has to put
    it there as well, or it moves against the shortcut, which always begins at the first.
    """
    dilation = self._options['input_dilation']
    stride, rest = divmod(self._options['spatial_dilation'], dilation)
    if stride == 1 or rest:
      return conv(x)
    dynamic = tf.shape(x)
    shifts = [
      _shift(dynamic[axis] if x.shape[axis] is None else x.shape[axis], stride, dilation)
      for axis in (2, 3)
    ]
    x = tf.pad(x, [[0, 0], [0, 0], *([0, shift] for shift in shifts), [0, 0]])
    y = conv(x)
    return y[:, :, shifts[0] :, shifts[1] :]

  def _shortcut(self, inputs: tf.Tensor) -> tf.Tensor:
    return self._norm0(self._shortcut_conv(inputs)) if self._projects else inputs


@_serializable
class BottleneckBlock(_Block):
  """1x1 convolution through time, 3x3 in space, 1x1 to four times the channels.

  Every convolution is bias-free and followed by batch norm; the activation follows the
  first two and the addition. The first carries the temporal stride, the second the
  spatial one. The shortcut is the identity, or a strided 1x1x1 convolution with batch
  norm where the shape changes.
  """

  expansion = 4

  def build(self, input_shape) -> None:
    """Adds the three convolutions."""
    options, filters = self._options, self._filters
    time, space, _ = self._strides
    dilation = options['input_dilation']
    self._temporal_conv = _conv(
      filters,
      (options['temporal_kernel_size'], 1, 1),
      (time, 1, 1),
      name='temporal/conv',
    )
    self._norm1 = self._norm('temporal/bn')
    self._spatial_conv = _conv(
      filters, (1, 3, 3), (1, space, space), dilation, name='spatial/conv'
    )
    self._norm2 = self._norm('spatial/bn')
    self._expand_conv = _conv(4 * filters, (1, 1, 1), name='expand/conv')
    self._norm3 = self._norm('expand/bn')
    super().build(input_shape)

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Maps `[B, T, H, W, C]` to `[B, T', H', W', 4 * filters]`."""
    x = self._activation(self._norm1(self._temporal_conv(inputs)))
    x = self._activation(self._norm2(self._entered(self._spatial_conv, x)))
    x = self._norm3(self._expand_conv(x))
    return self._activation(x + self._shortcut(inputs))


@_serializable
class BasicBlock(_Block):
  """Two convolutions of kernel (temporal_kernel_size, 3, 3), as in R3D-18.

  Both see `temporal_kernel_size` frames; the first carries both strides. Batch norm,
  activations and shortcut are placed as in the bottleneck.
  """

  def build(self, input_shape) -> None:
    """Adds the two convolutions."""
    options, filters = self._options, self._filters
    kernel, dilation = (options['temporal_kernel_size'], 3, 3), options['input_dilation']
    self._first_conv = _conv(filters, kernel, self._strides, dilation, name='first/conv')
    self._norm1 = self._norm('first/bn')
    dilation = options['spatial_dilation']
    self._second_conv = _conv(filters, kernel, (1, 1, 1), dilation, 'second/conv')
    self._norm2 = self._norm('second/bn')
    super().build(input_shape)

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Maps `[B, T, H, W, C]` to `[B, T', H', W', filters]`."""
    x = self._activation(self._norm1(self._entered(self._first_conv, inputs)))
    x = self._norm2(self._second_conv(x))
    return self._activation(x + self._shortcut(inputs))


@_serializable
class ResNet3D(tf_keras.Model):
  """A 3D residual net: clips `[B, T, H, W, C]` to endpoints '2' to '5'.

  Endpoint e is what stage res<e> puts out. With the defaults (R3D-50), T frames of
  S x S pixels become `[B, T/2, S/32, S/32, 2048]` at endpoint '5'.

  Source: arXiv 2008.03800; basic blocks after arXiv 1711.11248.
  """

  def __init__(
    self,
    model_id: int = 50,
    width_multiplier: float = 1.0,
    stem_conv_temporal_kernel_size: int = 5,
    stem_conv_temporal_stride: int = 2,
    stem_pool_temporal_stride: int = 1,
    temporal_kernel_sizes: Sequence[int] = (1, 1, 3, 3),
    temporal_strides: Sequence[int] = (1, 1, 1, 1),
    spatial_strides: Sequence[int] = (1, 2, 2, 2),
    spatial_dilations: Sequence[int] = (1, 1, 1, 1),
    dilated_first_block: bool = False,
    activation: str = 'relu',
    use_sync_bn: bool = True,
    norm_momentum: float = 0.9,
    norm_epsilon: float = 1e-5,
    clip_shape: Sequence[int | None] = (None, None, None, 3),
    name: str = 'resnet_3d',
  ):
    """Builds the net.

    Args:
      model_id: depth, a key of `DEPTHS`.
      width_multiplier: see `configs.backbones.ResNet3D`, as for all up to
        dilated_first_block.
      stem_conv_temporal_kernel_size: frames.
      stem_conv_temporal_stride: frames.
      stem_pool_temporal_stride: frames.
      temporal_kernel_sizes: one a stage.
      temporal_strides: one a stage.
      spatial_strides: one a stage.
      spatial_dilations: one a stage.
      dilated_first_block: whether a stage's first block has its dilation throughout.
      activation: name of the activation.
      use_sync_bn: whether batch statistics are taken over all replicas.
      norm_momentum: share of the moving statistics kept at each step.
      norm_epsilon: added to the variance.
      clip_shape: [T, H, W, C] of the input, None where any size is taken.
      name: of the model.

    Raises:
      UserError: if the depth is unknown or the options contradict each other.
    """
    per_stage = {
      'temporal_kernel_sizes': tuple(temporal_kernel_sizes),
      'temporal_strides': tuple(temporal_strides),
      'spatial_strides': tuple(spatial_strides),
      'spatial_dilations': tuple(spatial_dilations),
    }
    _check(model_id, width_multiplier, per_stage, dilated_first_block)
    norm = {
      'use_sync_bn': use_sync_bn,
      'norm_momentum': norm_momentum,
      'norm_epsilon': norm_epsilon,
    }
    stem_options = {
      'stem_conv_temporal_kernel_size': stem_conv_temporal_kernel_size,
      'stem_conv_temporal_stride': stem_conv_temporal_stride,
      'stem_pool_temporal_stride': stem_pool_temporal_stride,
    }
    inputs = tf_keras.Input(tuple(clip_shape), name='clips')
    x = _stem(inputs, width_multiplier, activation, norm, **stem_options)
    endpoints = {}
    for index, stage in enumerate(STAGES):
      options = stage_options(per_stage, index, dilated_first_block)
      norm_options = norm | {'activation': activation}
      x = residual_stage(
        x, stage, model_id, index, width_multiplier, options | norm_options
      )
      endpoints[str(index + 2)] = x
    super().__init__(inputs=inputs, outputs=endpoints, name=name)
    self._options = types.MappingProxyType(
      {'model_id': model_id, 'width_multiplier': width_multiplier}
      | stem_options
      | per_stage
      | {'dilated_first_block': dilated_first_block, 'activation': activation}
      | norm
      | {'clip_shape': tuple(clip_shape), 'name': name}
    )

  @property
  def output_specs(self) -> dict[str, tf.TensorShape]:
    """Static shape `[B, T', H', W', C]` of every endpoint."""
    return {name: tensor.shape for name, tensor in self.output.items()}

  def get_config(self) -> dict[str, Any]:
    """Arguments that build an equal net."""
    return dict(self._options)

  @classmethod
  def from_config(cls, config, custom_objects=None):
    """Builds the net that `get_config` described."""
    del custom_objects
    return cls(**config)


@factory.BACKBONES.register('resnet_3d')
def build_resnet_3d(
  config: backbones_config.ResNet3D,
  norm_activation: backbones_config.NormActivation,
  input_specs: tf_keras.layers.InputSpec | None = None,
) -> ResNet3D:
  """Builds a `ResNet3D` from its configuration; see `factory.build_backbone`."""
  clip_shape = input_specs.shape[1:] if input_specs else (None, None, None, 3)
  return ResNet3D(
    **config.as_dict(), **norm_activation.as_dict(), clip_shape=tuple(clip_shape)
  )


def residual_stage(
  x: tf.Tensor,
  name: str,
  model_id: int,
  index: int,
  width_multiplier: float,
  options: dict[str, Any],
) -> tf.Tensor:
  """Applies one stage of residual blocks.

  Args:
    x: `[B, T, H, W, C]`.
    name: of the stage; its blocks are named '<name>/block_<i>'.
    model_id: depth of the net, which fixes the kind and the number of blocks.
    index: 0 for res2 to 3 for res5.
    width_multiplier: of the channels.
    options: remaining arguments of the first block; the others have no stride, and all
      of their input has the stage's dilation.

  Returns:
    `[B, T', H', W', C']`.
  """
  bottleneck, repeats = DEPTHS[model_id]
  block: Callable[..., _Block] = BottleneckBlock if bottleneck else BasicBlock
  filters = _width(STEM_FILTERS * 2**index, width_multiplier)
  for i in range(repeats[index]):
    x = block(filters, name=f'{name}/block_{i}', **options)(x)
    options = options | {
      'temporal_stride': 1,
      'spatial_stride': 1,
      'input_dilation': options['spatial_dilation'],
    }
  # Weightless, but the Model Garden has a layer here and checkpoints number all layers.
  return tf_keras.layers.Activation('linear', name=name)(x)


def stage_options(
  per_stage: Mapping[str, Any], index: int, dilated_first_block: bool
) -> dict[str, int]:
  """The options of one stage's first block out of those that are given for each stage.

  A dilation that replaces a stride leaves `stride - 1` cells between any two that the
  strided stage would have had. What looks at the stage's input has to step over the gaps
  there are in that one, not over its own: so the dilation of the stage before.
  """
  dilations = per_stage['spatial_dilations']
  before = dilations[index - 1] if index else 1
  return {
    'input_dilation': dilations[index] if dilated_first_block else before,
    'temporal_kernel_size': per_stage['temporal_kernel_sizes'][index],
    'temporal_stride': per_stage['temporal_strides'][index],
    'spatial_stride': per_stage['spatial_strides'][index],
    'spatial_dilation': dilations[index],
  }


def _stem(
  x: tf.Tensor,
  width_multiplier: float,
  activation: str,
  norm: dict[str, Any],
  stem_conv_temporal_kernel_size: int,
  stem_conv_temporal_stride: int,
  stem_pool_temporal_stride: int,
) -> tf.Tensor:
  filters = _width(STEM_FILTERS, width_multiplier)
  x = _conv(
    filters,
    (stem_conv_temporal_kernel_size, 7, 7),
    (stem_conv_temporal_stride, 2, 2),
    name='stem/conv',
  )(x)
  x = _batch_norm(**norm, name='stem/bn')(x)
  x = tf_keras.layers.Activation(activation, name='stem/activation')(x)
  return tf_keras.layers.MaxPool3D(
    (1 if stem_pool_temporal_stride == 1 else 3, 3, 3),
    (stem_pool_temporal_stride, 2, 2),
    padding='same',
    name='stem/pool',
  )(x)


def _shift(size: int | tf.Tensor, stride: int, dilation: int) -> int | tf.Tensor:
  """Cells that SAME puts a strided window of three beyond one without a stride.

  Args:
    size: cells along an axis of the map that is dilated instead of strided.
    stride: that the map would have been strided by.
    dilation: cells between two of the map's that the strided net has.
  """
  left_over = (-(-size // dilation) - 1) % stride
  if isinstance(size, int):
    return dilation if left_over else 0
  return tf.where(left_over > 0, dilation, 0)


def _conv(
  filters: int,
  kernel: tuple[int, int, int],
  strides: tuple[int, int, int] = (1, 1, 1),
  spatial_dilation: int = 1,
  name: str | None = None,
) -> tf_keras.layers.Layer:
  return tf_keras.layers.Conv3D(
    filters,
    kernel,
    strides,
    padding='same',
    dilation_rate=(1, spatial_dilation, spatial_dilation),
    use_bias=False,
    kernel_initializer='VarianceScaling',
    name=name,
  )


def _batch_norm(
  use_sync_bn: bool, norm_momentum: float, norm_epsilon: float, name: str
) -> tf_keras.layers.Layer:
  return batch_norm.BatchNormalization(
    momentum=norm_momentum, epsilon=norm_epsilon, synchronized=use_sync_bn, name=name
  )


def _width(filters: int, multiplier: float) -> int:
  return max(1, round(filters * multiplier))


def _check(
  model_id: int,
  width_multiplier: float,
  per_stage: dict[str, tuple],
  dilated_first_block: bool,
) -> None:
  where = 'backbone.resnet_3d'
  if model_id not in DEPTHS:
    known = ', '.join(map(str, DEPTHS))
    raise UserError(f'{where}.model_id is {model_id}; expected one of {known}')
  if width_multiplier <= 0:
    raise UserError(
      f'{where}.width_multiplier is {width_multiplier}; expected a number above 0'
    )
  for field, values in per_stage.items():
    if len(values) != len(STAGES) or min(values) < 1:
      raise UserError(
        f'{where}.{field} is {list(values)}; expected {len(STAGES)} integers of 1 or '
        'more, one each for res2 to res5'
      )
  bottleneck = DEPTHS[model_id][0]
  for index, stage in enumerate(STAGES):
    options = stage_options(per_stage, index, dilated_first_block)
    _check_dilation(f'{where}: {stage}', bottleneck, options)


def _check_dilation(where: str, bottleneck: bool, options: dict[str, int]) -> None:
  """Raises `UserError` where a dilated convolution would be strided."""
  pairs = [('spatial', 'spatial_dilation'), ('spatial', 'input_dilation')]
  if not bottleneck:  # A basic block's first convolution carries both strides.
    pairs.append(('temporal', 'input_dilation'))
  for kind, name in pairs:
    stride, dilation = options[f'{kind}_stride'], options[name]
    if stride > 1 and dilation > 1:
      which = 'dilation' if name == 'spatial_dilation' else 'an input of dilation'
      raise UserError(
        f'{where} has {kind} stride {stride} and {which} {dilation}; expected at most one '
        'above 1; set the stride of a dilated stage, and of those after it, to 1'
      )

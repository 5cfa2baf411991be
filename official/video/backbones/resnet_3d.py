"""3D residual nets: the slow pathway's ResNet, from R3D-10 to R3D-200, of any width.

Object graph and arithmetic are those of the Model Garden's `resnet_3d` without
self-gating, squeeze-and-excitation and stochastic depth, so checkpoints of bottleneck
nets go both ways.
"""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras

from official.modeling import hyperparams
from official.video import registry
from official.video.backbones import batch_norm, families, layers
from official.video.errors import UserError

STAGES = ('res2', 'res3', 'res4', 'res5')
STEM_FILTERS = 64
# In which blocks of a stage the temporal kernel is, counted from 0: its remainders by 2.
KERNEL_BLOCKS = {'all': (0, 1), 'even': (0,), 'odd': (1,)}
STRIDED = ('spatial', 'first')

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


class _PaddedConv3D(tf_keras.layers.Conv3D):
  """A convolution of a window's half on either side.

  No layer of padding before one: checkpoints of the Model Garden number all layers.
  """

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Pads by 0, then convolves whole windows only."""
    pads = layers.symmetric_padding(self.kernel_size)
    return super().call(tf.pad(inputs, ((0, 0), *pads, (0, 0))))


class _Block(tf_keras.layers.Layer):
  """What both residual blocks share: strides, norms, shortcut."""

  expansion = 1

  def __init__(
    self,
    filters: int,
    norm_activation: batch_norm.NormActivation,
    temporal_kernel_size: int = 1,
    temporal_stride: int = 1,
    spatial_stride: int = 1,
    spatial_dilation: int = 1,
    input_dilation: int | None = None,
    symmetric_padding: bool = False,
    strided_convolution: str = 'spatial',
    **kwargs,
  ):
    """Initializes the block.

    Args:
      filters: channels inside the block; it puts out `expansion` times as many.
      norm_activation: of every convolution.
      temporal_kernel_size: frames its temporal convolutions see.
      temporal_stride: of the block.
      spatial_stride: of the block.
      spatial_dilation: of its 3x3 convolutions; spatial_stride must then be 1.
      input_dilation: of the one of them that carries the spatial stride: it still sees
        what came before the block. spatial_dilation if None; else it is placed where the
        stride that spatial_dilation stands for had put it.
      symmetric_padding: whether strided windows are padded alike on both sides.
      strided_convolution: of a bottleneck, which carries the spatial stride.
      **kwargs: of `tf_keras.layers.Layer`.
    """
    super().__init__(**kwargs)
    self._symmetric, self.strided_convolution = symmetric_padding, strided_convolution
    self._filters = filters
    self._norm_activation = norm_activation.replace()
    self._temporal_kernel_size = temporal_kernel_size
    self._strides = (temporal_stride, spatial_stride, spatial_stride)
    self._dilation = spatial_dilation
    self._input_dilation = input_dilation or spatial_dilation
    self._activation = tf_keras.activations.get(norm_activation.activation)

  def build(self, input_shape) -> None:
    """Adds the shortcut's convolution where channels or resolution change."""
    out = self.expansion * self._filters
    self._projects = input_shape[-1] != out or self._strides != (1, 1, 1)
    if self._projects:
      self._shortcut_conv = _conv(out, (1, 1, 1), self._strides, name='shortcut/conv')
      self._norm0 = self._norm('shortcut/bn')
    super().build(input_shape)

  def _norm(self, name: str) -> tf_keras.layers.Layer:
    return _batch_norm(self._norm_activation, name)

  def _entered(self, conv: tf_keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
    """Applies the convolution that carries the spatial stride, or did.

    SAME puts a strided window of three cells about the first cell only where the last one
    has a window too; else about the second. A dilation instead of the stride has to put
    it there as well, or it moves against the shortcut, which always begins at the first.
    """
    dilation = self._input_dilation
    stride, rest = divmod(self._dilation, dilation)
    # Padded alike on both sides, every window is put about the first cell.
    if stride == 1 or rest or self._symmetric:
      return conv(x)
    dynamic = tf.shape(x)
    shifts = [
      _shift(dynamic[axis] if x.shape[axis] is None else x.shape[axis], stride, dilation)
      for axis in (2, 3)
    ]
    x = tf.pad(x, [[0, 0], [0, 0], *([0, shift] for shift in shifts), [0, 0]])
    y = conv(x)
    return y[:, :, shifts[0] :, shifts[1] :]

  def pytorch_layers(self) -> dict[str, tf_keras.layers.Layer]:
    """Layers of a built block by what torchvision's blocks of images call them."""
    if not self._projects:
      return self._own_layers()
    shortcut = {'downsample.0': self._shortcut_conv, 'downsample.1': self._norm0}
    return self._own_layers() | shortcut

  def _own_layers(self) -> dict[str, tf_keras.layers.Layer]:
    raise NotImplementedError

  def _shortcut(self, inputs: tf.Tensor) -> tf.Tensor:
    return self._norm0(self._shortcut_conv(inputs)) if self._projects else inputs


class BottleneckBlock(_Block):
  """1x1 convolution through time, 3x3 in space, 1x1 to four times the channels.

  Every convolution is bias-free and followed by batch norm; the activation follows the
  first two and the addition. The first carries the temporal stride, the second (or the
  first too, as in the first residual nets) the spatial one. The shortcut is the identity,
  or a strided 1x1x1 convolution with batch norm where the shape changes.
  """

  expansion = 4

  def build(self, input_shape) -> None:
    """Adds the three convolutions."""
    filters = self._filters
    time, space, _ = self._strides
    first, second = (space, 1) if self.strided_convolution == 'first' else (1, space)
    self._temporal_conv = _conv(
      filters,
      (self._temporal_kernel_size, 1, 1),
      (time, first, first),
      name='temporal/conv',
      symmetric=self._symmetric,
    )
    self._norm1 = self._norm('temporal/bn')
    self._spatial_conv = _conv(
      filters,
      (1, 3, 3),
      (1, second, second),
      self._input_dilation,
      name='spatial/conv',
      symmetric=self._symmetric,
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

  def _own_layers(self) -> dict[str, tf_keras.layers.Layer]:
    return {
      **{'conv1': self._temporal_conv, 'bn1': self._norm1},
      **{'conv2': self._spatial_conv, 'bn2': self._norm2},
      **{'conv3': self._expand_conv, 'bn3': self._norm3},
    }


class BasicBlock(_Block):
  """Two convolutions of kernel (temporal_kernel_size, 3, 3), as in R3D-18.

  Both see `temporal_kernel_size` frames; the first carries both strides. Batch norm,
  activations and shortcut are placed as in the bottleneck.
  """

  def build(self, input_shape) -> None:
    """Adds the two convolutions."""
    filters, kernel = self._filters, (self._temporal_kernel_size, 3, 3)
    self._first_conv = _conv(
      filters,
      kernel,
      self._strides,
      self._input_dilation,
      name='first/conv',
      symmetric=self._symmetric,
    )
    self._norm1 = self._norm('first/bn')
    self._second_conv = _conv(filters, kernel, (1, 1, 1), self._dilation, 'second/conv')
    self._norm2 = self._norm('second/bn')
    super().build(input_shape)

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Maps `[B, T, H, W, C]` to `[B, T', H', W', filters]`."""
    x = self._activation(self._norm1(self._entered(self._first_conv, inputs)))
    x = self._norm2(self._second_conv(x))
    return self._activation(x + self._shortcut(inputs))

  def _own_layers(self) -> dict[str, tf_keras.layers.Layer]:
    return {
      **{'conv1': self._first_conv, 'bn1': self._norm1},
      **{'conv2': self._second_conv, 'bn2': self._norm2},
    }


@dataclasses.dataclass
class ResNet3DConfig(hyperparams.Config):
  """A 3D residual net; the defaults are the R3D-50 that CVRL pretrains.

  Attributes:
    model_id: depth; 10, 18 and 34 have basic blocks; 50, 101, 152 and 200 bottlenecks.
    width_multiplier: factor of every channel count, the stem's included.
    stem_conv_temporal_kernel_size: frames that the 7x7 stem convolution sees.
    stem_conv_temporal_stride: temporal stride of the stem convolution.
    stem_pool_temporal_stride: temporal stride of the stem's max pooling, whose temporal
      kernel is 1 where this is 1, else 3.
    temporal_kernel_sizes: of stages res2 to res5, the same in all blocks of a stage.
    temporal_strides: of stages res2 to res5.
    spatial_strides: of stages res2 to res5.
    spatial_dilations: of the 3x3 convolutions in stages res2 to res5. A dilated stage has
      spatial stride 1: detection and tracking trade one for the other.
    dilated_first_block: whether the first block of a dilated stage is dilated as the
      others are. By default the convolution that had the stride keeps the dilation of the
      stage before, so that dilation 2 computes what stride 2 did, at every other cell,
      with the same weights. A run whose params.yaml lacks this field was dilated
      throughout: its checkpoints load, and true computes what they were trained with.
    symmetric_padding: whether strided windows are padded alike on both sides, as in
      PyTorch; else by TensorFlow's rule, behind where the number is odd. They differ by a
      cell at even sizes.
    temporal_kernel_blocks: of stages res2 to res5, which blocks have the temporal kernel,
      'all', or the 'even' or 'odd' ones, counted from 0; the others see one frame.
    res2_pool_temporal_stride: frames that max pooling makes one of between res2 and res3,
      after endpoint '2'.
    strided_convolution: of a stage's first bottleneck, what carries the spatial stride:
      the 'spatial' convolution, or the 'first' one, as Keras Applications' nets have it.
    pixel_mean: what is taken off the pixels that a task shows, of red, green and blue;
      weights that were trained elsewhere may expect it. Nothing if empty.
    pixel_deviation: what they are divided by then.
  """

  model_id: int = 50
  width_multiplier: float = 1.0
  stem_conv_temporal_kernel_size: int = 5
  stem_conv_temporal_stride: int = 2
  stem_pool_temporal_stride: int = 1
  temporal_kernel_sizes: tuple[int, ...] = (1, 1, 3, 3)
  temporal_strides: tuple[int, ...] = (1, 1, 1, 1)
  spatial_strides: tuple[int, ...] = (1, 2, 2, 2)
  spatial_dilations: tuple[int, ...] = (1, 1, 1, 1)
  dilated_first_block: bool = False
  symmetric_padding: bool = False
  temporal_kernel_blocks: tuple[str, ...] = ('all', 'all', 'all', 'all')
  res2_pool_temporal_stride: int = 1
  strided_convolution: str = 'spatial'
  pixel_mean: tuple[float, ...] = ()
  pixel_deviation: tuple[float, ...] = ()


@families.family('resnet_3d', ResNet3DConfig)
class ResNet3D(tf_keras.Model):
  """A 3D residual net: clips `[B, T, H, W, C]` to endpoints '2' to '5'.

  Endpoint e is what stage res<e> puts out. With the defaults (R3D-50), T frames of
  S x S pixels become `[B, T/2, S/32, S/32, 2048]` at endpoint '5'.

  Source: arXiv 2008.03800; basic blocks after arXiv 1711.11248.
  """

  def __init__(
    self,
    config: ResNet3DConfig,
    norm_activation: batch_norm.NormActivation,
    clip_shape: Sequence[int | None] = (None, None, None, 3),
    name: str = 'resnet_3d',
  ):
    """Builds the net.

    Args:
      config: depth, width, kernels and strides.
      norm_activation: normalization and activation of every layer.
      clip_shape: [T, H, W, C] of the input, None where any size is taken.
      name: of the model.

    Raises:
      UserError: if the depth is unknown or the options contradict each other.
    """
    _check(config)
    inputs = tf_keras.Input(tuple(clip_shape), name='clips')
    x = _stem(layers.shown(inputs, config), config, norm_activation)
    endpoints = {}
    for index, stage in enumerate(STAGES):
      x = residual_stage(x, stage, index, config, norm_activation)
      endpoints[str(index + 2)] = x
      window = (config.res2_pool_temporal_stride, 1, 1)
      if index == 0 and window != layers.ONE:
        x = layers.MaxPool3D(window, window, name=f'{stage}/pool')(x)
    super().__init__(inputs=inputs, outputs=endpoints, name=name)

  @property
  def output_specs(self) -> dict[str, tf.TensorShape]:
    """Static shape `[B, T', H', W', C]` of every endpoint."""
    return {name: tensor.shape for name, tensor in self.output.items()}


def pytorch_layers(backbone: tf_keras.Model) -> dict[str, tf_keras.layers.Layer]:
  """Every layer with weights, by the name of its counterpart in torchvision's image nets.

  Args:
    backbone: a `ResNet3D`.
  """
  found = {'conv1': backbone.get_layer('stem/conv'), 'bn1': backbone.get_layer('stem/bn')}
  for index, stage in enumerate(STAGES, 1):
    found |= stage_layers(backbone, stage, f'layer{index}')
  return found


def stage_layers(
  net: tf_keras.Model, stage: str, name: str
) -> dict[str, tf_keras.layers.Layer]:
  """The layers with weights of one stage.

  Args:
    net: that has its blocks.
    stage: as `residual_stage` named it.
    name: what the modules begin with.
  """
  found: dict[str, tf_keras.layers.Layer] = {}
  for layer in net.layers:
    if isinstance(layer, _Block) and layer.name.startswith(f'{stage}/block_'):
      begin = f'{name}.{layer.name.rpartition("_")[2]}'
      found |= {f'{begin}.{part}': one for part, one in layer.pytorch_layers().items()}
  return found


def residual_stage(
  x: tf.Tensor,
  name: str,
  index: int,
  config: ResNet3DConfig,
  norm_activation: batch_norm.NormActivation,
) -> tf.Tensor:
  """Applies one stage of residual blocks.

  Args:
    x: `[B, T, H, W, C]`.
    name: of the stage; its blocks are named '<name>/block_<i>'.
    index: 0 for res2 to 3 for res5.
    config: of the net.
    norm_activation: of the net.

  Returns:
    `[B, T', H', W', C']`.
  """
  bottleneck, repeats = DEPTHS[config.model_id]
  block: Callable[..., _Block] = BottleneckBlock if bottleneck else BasicBlock
  filters = _width(STEM_FILTERS * 2**index, config.width_multiplier)
  options = _first_block(config, index)
  kernel = options.pop('temporal_kernel_size')
  temporal = KERNEL_BLOCKS[config.temporal_kernel_blocks[index]]
  for i in range(repeats[index]):
    x = block(
      filters,
      norm_activation,
      name=f'{name}/block_{i}',
      temporal_kernel_size=kernel if i % 2 in temporal else 1,
      symmetric_padding=config.symmetric_padding,
      strided_convolution=config.strided_convolution,
      **options,
    )(x)
    # The others have no stride, and all of their input has the stage's dilation.
    options |= {
      'temporal_stride': 1,
      'spatial_stride': 1,
      'input_dilation': options['spatial_dilation'],
    }
  # Weightless, but the Model Garden has a layer here and checkpoints number all layers.
  return tf_keras.layers.Activation('linear', name=name)(x)


def _first_block(config: ResNet3DConfig, index: int) -> dict[str, int]:
  """The options of one stage's first block out of those that are given for each stage.

  A dilation that replaces a stride leaves `stride - 1` cells between any two that the
  strided stage would have had. What looks at the stage's input has to step over the gaps
  there are in that one, not over its own: so the dilation of the stage before.
  """
  dilations = config.spatial_dilations
  before = dilations[index - 1] if index else 1
  return {
    'input_dilation': dilations[index] if config.dilated_first_block else before,
    'temporal_kernel_size': config.temporal_kernel_sizes[index],
    'temporal_stride': config.temporal_strides[index],
    'spatial_stride': config.spatial_strides[index],
    'spatial_dilation': dilations[index],
  }


def _stem(
  x: tf.Tensor,
  config: ResNet3DConfig,
  norm_activation: batch_norm.NormActivation,
) -> tf.Tensor:
  x = _conv(
    _width(STEM_FILTERS, config.width_multiplier),
    (config.stem_conv_temporal_kernel_size, 7, 7),
    (config.stem_conv_temporal_stride, 2, 2),
    name='stem/conv',
    symmetric=config.symmetric_padding,
  )(x)
  x = _batch_norm(norm_activation, 'stem/bn')(x)
  activation = norm_activation.activation
  x = tf_keras.layers.Activation(activation, name='stem/activation')(x)
  stride = config.stem_pool_temporal_stride
  window, strides = (1 if stride == 1 else 3, 3, 3), (stride, 2, 2)
  if config.symmetric_padding:
    pads = layers.symmetric_padding(window)
    return layers.PaddedMaxPool3D(window, strides, pads, name='stem/pool')(x)
  return layers.MaxPool3D(window, strides, padding='same', name='stem/pool')(x)


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
  symmetric: bool = False,
) -> tf_keras.layers.Layer:
  # Without a stride, TensorFlow pads alike on both sides too.
  padded = symmetric and max(strides) > 1
  return (_PaddedConv3D if padded else tf_keras.layers.Conv3D)(
    filters,
    kernel,
    strides,
    padding='valid' if padded else 'same',
    dilation_rate=(1, spatial_dilation, spatial_dilation),
    use_bias=False,
    kernel_initializer='VarianceScaling',
    name=name,
  )


def _batch_norm(options: batch_norm.NormActivation, name: str) -> tf_keras.layers.Layer:
  return batch_norm.BatchNormalization(
    momentum=options.norm_momentum,
    epsilon=options.norm_epsilon,
    synchronized=options.use_sync_bn,
    name=name,
  )


def _width(filters: int, multiplier: float) -> int:
  return max(1, round(filters * multiplier))


def _check(config: ResNet3DConfig) -> None:
  where = 'backbone.resnet_3d'
  registry.check_choice(f'{where}.model_id', config.model_id, DEPTHS)
  if config.width_multiplier <= 0:
    raise UserError(
      f'{where}.width_multiplier is {config.width_multiplier}; expected a number above 0'
    )
  for field in (
    'temporal_kernel_sizes',
    'temporal_strides',
    'spatial_strides',
    'spatial_dilations',
  ):
    values = getattr(config, field)
    if len(values) != len(STAGES) or min(values) < 1:
      raise UserError(
        f'{where}.{field} is {list(values)}; expected {len(STAGES)} integers of 1 or '
        'more, one each for res2 to res5'
      )
  if config.dilated_first_block and max(config.spatial_dilations) == 1:
    raise UserError(
      f'{where}.dilated_first_block is true, but no stage is dilated; set '
      'spatial_dilations, or leave it false'
    )
  if config.res2_pool_temporal_stride < 1:
    raise UserError(
      f'{where}.res2_pool_temporal_stride is {config.res2_pool_temporal_stride}; expected '
      '1 or more'
    )
  layers.check_pixels(where, config)
  bottleneck = DEPTHS[config.model_id][0]
  _check_blocks(where, config, bottleneck)
  for index, stage in enumerate(STAGES):
    _check_dilation(f'{where}: {stage}', bottleneck, _first_block(config, index))


def _check_blocks(where: str, config: ResNet3DConfig, bottleneck: bool) -> None:
  """Raises `UserError` where blocks can't be as is asked for."""
  blocks = config.temporal_kernel_blocks
  if len(blocks) != len(STAGES):
    raise UserError(
      f'{where}.temporal_kernel_blocks is {list(blocks)}; expected {len(STAGES)} of '
      f'{", ".join(KERNEL_BLOCKS)}, one each for res2 to res5'
    )
  for value in blocks:
    registry.check_choice(f'{where}.temporal_kernel_blocks', value, KERNEL_BLOCKS)
  field = f'{where}.strided_convolution'
  registry.check_choice(field, config.strided_convolution, STRIDED)
  if config.strided_convolution == 'spatial':
    return
  if not bottleneck or max(config.spatial_dilations) > 1:
    reason = 'dilated stages' if bottleneck else 'basic blocks'
    raise UserError(
      f"{field} is 'first', which bottlenecks without dilation have; model_id "
      f"{config.model_id} has {reason} here; use 'spatial'"
    )


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

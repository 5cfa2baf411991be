"""Configurations of the backbones: one dataclass a family, one field of `Backbone`."""

import dataclasses

from official.modeling import hyperparams


@dataclasses.dataclass
class NormActivation(hyperparams.Config):
  """Batch normalization and activation; the defaults are those of video pretraining.

  The Model Garden's class of this name has the same fields; importing that one imports
  all of its detection code.

  Attributes:
    activation: of Keras, by name.
    use_sync_bn: take the statistics over all replicas.
    norm_momentum: of the moving statistics.
    norm_epsilon: added to the variance.
  """

  activation: str = 'relu'
  use_sync_bn: bool = True
  norm_momentum: float = 0.9
  norm_epsilon: float = 1e-5


@dataclasses.dataclass
class ResNet3D(hyperparams.Config):
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


@dataclasses.dataclass
class ResNet3DY(ResNet3D):
  """A 3D residual net with two last stages; the defaults are the one of ConST-CL."""


@dataclasses.dataclass
class ConvNet(hyperparams.Config):
  """What the families after PyTorch originals have in common.

  Attributes:
    width_multiplier: factor of every channel count.
    weight_init: 'standard' draws kernels Glorot uniform and starts batch norm at scale 1
      and biases at 0; 'reference' does as CSTP's authors did, who also drew the scales,
      uniformly within ±sqrt(6 / channels), and the biases, within ±1 / sqrt(fan in); of
      CSTP's heads too.
  """

  width_multiplier: float = 1.0
  weight_init: str = 'standard'


@dataclasses.dataclass
class R2Plus1D(ConvNet):
  """R(2+1)D; the defaults are the net that CSTP pretrains.

  Attributes:
    stage_blocks: residual blocks of stages conv2 to conv5.
  """

  stage_blocks: tuple[int, ...] = (1, 1, 1, 1)


@dataclasses.dataclass
class C3D(ConvNet):
  """C3D with batch norm. Clips have 8 frames and 16 rows and columns at least."""


@dataclasses.dataclass
class R3D(ConvNet):
  """A 3D residual net padded as in PyTorch; the defaults are R3D-18.

  Attributes:
    model_id: depth: 10, 18 or 34.
    shortcut_type: where the shape changes, 'A' subsamples and appends channels of 0, 'B'
      is a strided 1x1x1 convolution with batch norm.
  """

  model_id: int = 18
  shortcut_type: str = 'B'


@dataclasses.dataclass
class S3D(ConvNet):
  """S3D; the defaults are S3D-G.

  Attributes:
    gating: whether each branch of an inception block weighs its channels by a gate.
    slow: whether the first convolution keeps all frames, which takes clips of 3 frames
      or more; else of 5. Rows and columns are 17 at least.
  """

  gating: bool = True
  slow: bool = False


@dataclasses.dataclass
class I3D(ConvNet):
  """I3D, the inflated Inception v1."""


@dataclasses.dataclass
class VideoViT(hyperparams.Config):
  """A video transformer; the defaults are the ViT-B that G-ViLM pretrains.

  Attributes:
    hidden_size: width of all tokens.
    num_layers: transformer blocks.
    num_heads: of their attention.
    mlp_dim: hidden units of their MLPs.
    tubelet: frames, rows and columns of a token.
    grid: tubelets in time, height and width that the position table is stored for, those
      of the pretraining. Other clips interpolate it.
    num_groups: group tokens; 0 for a plain transformer.
    grouping_layers: after which blocks, from 1, a grouping block follows.
    assignment: of tubelets to groups: 'straight_through' (to the best group, with the
      gradient of the softmax), 'soft', or 'stopped' (without a gradient).
    aggregation: what a group takes in of its tubelets: their 'mean' or 'sum'.
    pre_attention: whether the groups of a grouping block first attend to the tubelets.
    drop_path: share of the samples that skip the last block in training; it grows
      linearly from 0 at the first.
  """

  hidden_size: int = 768
  num_layers: int = 12
  num_heads: int = 12
  mlp_dim: int = 3072
  tubelet: tuple[int, int, int] = (2, 16, 16)
  grid: tuple[int, int, int] = (16, 14, 14)
  num_groups: int = 32
  grouping_layers: tuple[int, ...] = (6, 9, 12)
  assignment: str = 'straight_through'
  aggregation: str = 'mean'
  pre_attention: bool = False
  drop_path: float = 0.0


@dataclasses.dataclass
class Backbone(hyperparams.OneOfConfig):
  """The backbone of a model.

  Attributes:
    type: name of the family, which is the name of the field that configures it.
    resnet_3d: 3D residual nets, the Model Garden's.
    resnet_3dy: the same with a second last stage.
    r2plus1d: R(2+1)D.
    c3d: C3D with batch norm.
    r3d: 3D residual nets padded as in PyTorch.
    s3d: S3D and S3D-G.
    i3d: I3D.
    video_vit: video transformers, with group tokens or without.
  """

  type: str | None = 'resnet_3d'
  resnet_3d: ResNet3D = dataclasses.field(default_factory=ResNet3D)
  resnet_3dy: ResNet3DY = dataclasses.field(default_factory=ResNet3DY)
  r2plus1d: R2Plus1D = dataclasses.field(default_factory=R2Plus1D)
  c3d: C3D = dataclasses.field(default_factory=C3D)
  r3d: R3D = dataclasses.field(default_factory=R3D)
  s3d: S3D = dataclasses.field(default_factory=S3D)
  i3d: I3D = dataclasses.field(default_factory=I3D)
  video_vit: VideoViT = dataclasses.field(default_factory=VideoViT)


def add_family(name: str, config: type[hyperparams.Config]) -> None:
  """Lets `Backbone` choose a family that another package brings.

  To be called when that is imported: what was configured before knows nothing of it.

  Args:
    name: of the family, and of the field that configures it.
    config: of the family.

  Raises:
    ValueError: something else has the name.
  """
  global Backbone
  if name in {field.name for field in dataclasses.fields(Backbone)}:
    raise ValueError(f'backbone.{name} is a field already; choose another name')
  Backbone = dataclasses.make_dataclass(  # type: ignore[misc,assignment]
    'Backbone',
    [(name, config, dataclasses.field(default_factory=config))],
    bases=(Backbone,),
    namespace={'__doc__': Backbone.__doc__, '__module__': __name__},
  )

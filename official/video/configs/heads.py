"""Configurations of the heads."""

import dataclasses

from official.modeling import hyperparams


@dataclasses.dataclass
class ProjectionHead(hyperparams.Config):
  """The MLP between backbone and contrastive loss; the defaults are CVRL's.

  Whether its batch norm is synchronized follows the backbone's.

  Attributes:
    hidden_dim: units of each hidden layer.
    num_hidden_layers: how many times dense, BN and ReLU precede the last dense layer.
    output_dim: size of the embedding.
    use_bias: whether the hidden dense layers have a bias; the last one always does.
    normalize_input: whether the feature is L2-normalized first.
    norm_momentum: share of the moving statistics kept at each step.
    norm_epsilon: added to the variance.
  """

  hidden_dim: int = 2048
  num_hidden_layers: int = 3
  output_dim: int = 128
  use_bias: bool = True
  normalize_input: bool = False
  norm_momentum: float = 0.997
  norm_epsilon: float = 1e-5


@dataclasses.dataclass
class ClassificationHead(hyperparams.Config):
  """The classifier of probes and fine-tuning; the data's label map gives its size.

  Attributes:
    type: 'linear' on the pooled feature, or 'temporal_convolution' on the last map, I3D's,
      which takes none of the options below.
    normalize_input: whether the feature is L2-normalized first.
    dropout_rate: share of the feature dropped while training.
    batch_norm: whether batch norm comes before that, with momentum 0.9 and epsilon 1e-5.
  """

  type: str = 'linear'
  normalize_input: bool = False
  dropout_rate: float = 0.0
  batch_norm: bool = False


@dataclasses.dataclass
class ContextHead(hyperparams.Config):
  """Regions that attend to the maps about the key frame; the defaults are ConST-CL's.

  Attributes:
    samples: of a region along either axis.
    context_length: maps that are remembered, an odd number.
    position_code: whether what is remembered says where it was.
    channels: of an attention head.
    num_layers: of the decoder.
    num_heads: of a layer.
    norm_epsilon: of layer norm.
    half_pixel_centers: whether a region reads the cells at their middles; false reads it
      half a cell off, as the Model Garden's aligner does (see
      `official.video.heads.regions`). None is true, but for ConST-CL's pretraining on
      random regions, which was published with that aligner.
  """

  samples: int = 4
  context_length: int = 5
  position_code: bool = True
  channels: int = 128
  num_layers: int = 3
  num_heads: int = 3
  norm_epsilon: float = 1e-12
  half_pixel_centers: bool | None = None


@dataclasses.dataclass
class ActionHead(hyperparams.Config):
  """From the maps of a clip and boxes to what is done in each box.

  Attributes:
    kind: 'roi' pools the box from the mean of all maps; 'context' lets it attend to the
      maps about the key frame.
    samples: of a box along either axis, for 'roi'.
    dropout_rate: share of the pooled feature dropped while training, for 'roi'.
    half_pixel_centers: whether a box reads the cells at their middles, for 'roi'; see
      `ContextHead`.
    context: the memory and the decoder, for 'context'.
  """

  kind: str = 'roi'
  samples: int = 7
  dropout_rate: float = 0.0
  half_pixel_centers: bool = True
  context: ContextHead = dataclasses.field(default_factory=ContextHead)

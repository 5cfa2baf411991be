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

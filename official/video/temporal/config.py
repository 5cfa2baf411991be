"""What the G-TAD detector, its training and its decoding are told."""

import dataclasses
from collections.abc import Sequence

from official.modeling import hyperparams
from official.video.errors import UserError
from official.video.settings import experiment


@dataclasses.dataclass
class Gtad(hyperparams.Config):
  """The detector and its training; the defaults are the public ActivityNet branch's.

  Attributes:
    steps: T, that every video's features are rescaled to; None: what an .npz of windows
      has, else 100.
    hidden_dim: channels of the sequence.
    anchor_dim: channels of a span, at first.
    map_dim: channels of a span, after that.
    input_groups: of the first convolution.
    cardinality: groups of the graph blocks' inner convolutions, of four channels each.
    neighbors: of a node in the semantic graph, itself included.
    inner_samples: bins that a span is read in, of the sequence.
    context_samples: bins that a span is read in, of its nodes' neighbours.
    widening: share of its length that a span is widened by, on either side.
    learning_rate: at first; it falls to a tenth after half of the epochs.
    weight_decay: of Adam, half of each weight's square in the loss.
    batch_size: videos a step.
    epochs: of training.
    clip_norm: of the gradient; 0: none. OpenTAD's G-TAD clips at 1.
    checkpoint: 'best', the epoch of least validation loss, or 'last'.
    border_peaks: whether a span must begin at a peak of the starts and end at one of the
      ends; else every span is a proposal.
    nms_sigma: of the soft suppression.
    max_proposals: spans that are kept a video.
    top_classes: of the video's classes that every span is emitted with.
    seed: of weights, order and draws.
  """

  steps: int | None = None
  hidden_dim: int = 256
  anchor_dim: int = 512
  map_dim: int = 128
  input_groups: int = 4
  cardinality: int = 32
  neighbors: int = 3
  inner_samples: int = 32
  context_samples: int = 4
  widening: float = 0.5
  learning_rate: float = 4e-3
  weight_decay: float = 1e-4
  batch_size: int = 16
  epochs: int = 10
  clip_norm: float = 0.0
  checkpoint: str = 'best'
  border_peaks: bool = True
  nms_sigma: float = 0.8
  max_proposals: int = 100
  top_classes: int = 2
  seed: int = 0


_LEAST = {
  **dict.fromkeys(('hidden_dim', 'anchor_dim', 'map_dim', 'input_groups'), 1),
  **dict.fromkeys(('cardinality', 'neighbors', 'inner_samples', 'context_samples'), 1),
  **dict.fromkeys(('batch_size', 'epochs', 'max_proposals', 'top_classes'), 1),
  **dict.fromkeys(('widening', 'learning_rate', 'weight_decay', 'clip_norm'), 0),
  'seed': 0,
}


def load(config_files: Sequence[str] = (), params_override: str = '') -> Gtad:
  """The defaults, then files in order, then overrides.

  Args:
    config_files: YAML files of fields, or recipes by their short names.
    params_override: fields as a.b=1,c.d=2 or YAML, or a file of them.

  Raises:
    UserError: a file can't be read, or sets what is no field or of another type.
  """
  config = Gtad()
  for text, source in experiment.texts(config_files, params_override):
    experiment.apply_overrides(config, text, source)
  return config


def check(config: Gtad, steps: int, channels: int) -> None:
  """Refuses values that no detector can be built of.

  Args:
    config: what was asked for.
    steps: of the features.
    channels: of the features.

  Raises:
    UserError: it names the field, the value and what is expected.
  """
  for name, least in _LEAST.items():
    if getattr(config, name) < least:
      raise UserError(f'{name} {getattr(config, name)}: expected at least {least}')
  if steps < 3:
    raise UserError(f'steps {steps}: expected at least 3; a peak has two neighbours')
  if config.nms_sigma <= 0:
    raise UserError(f'nms_sigma {config.nms_sigma}: expected a number above 0')
  if config.checkpoint not in ('best', 'last'):
    raise UserError(f"checkpoint {config.checkpoint!r}: expected 'best' or 'last'")
  if config.neighbors > steps:
    raise UserError(f'neighbors {config.neighbors}: expected at most the {steps} steps')
  sizes = {'channels of the features': channels, 'of hidden_dim': config.hidden_dim}
  for what, size in sizes.items():
    if size % config.input_groups:
      raise UserError(
        f'input_groups {config.input_groups}: expected a divisor of the {size} {what}; '
        'set input_groups by --params_override'
      )

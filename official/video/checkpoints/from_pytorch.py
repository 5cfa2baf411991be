r"""Converts the backbone of a CSTP `.pth` file to a checkpoint, and back.

  python -m official.video.checkpoints.from_pytorch --backbone=r2plus1d \
    --pytorch_file=save_300.pth --checkpoint=/runs/r2plus1d/ckpt

  python -m official.video.checkpoints.from_pytorch --reverse --backbone=r2plus1d \
    --checkpoint=/runs/r2plus1d/ckpt --pytorch_file=backbone.pth

Pretrained and fine-tuned files, with and without the `module.` of data-parallel training.
The checkpoint holds `backbone`, which any task restores. Every key of the backbone and
every variable has to have its counterpart, or nothing is written; what else the file holds
(target network, projector, predictor, heads) is listed. PyTorch is not needed, and no code
in the file is executed.
"""

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from official.video import command_line
from official.video.errors import UserError

FLAGS = flags.FLAGS

# Each family's model id and depth in CSTP's files, which its loader compares.
ARCHITECTURES: Mapping[str, str] = {
  'r2plus1d': 'r21d_byol-1',
  'c3d': 'c3d_byol-1',
  'r3d': 'r3d_byol-18',
  's3d': 's3d_byol-1',
  'i3d': 'i3d_byol-1',
}
DEFAULT_PREFIX = 'module.online_net'
# Modules beside the backbone, by what its own prefix is in the file.
_BESIDE = (
  *('online_net', 'target_net', 'predictor', 'overlap_spa', 'overlap_tem', 'pb_cls'),
  *('rotate_cls', 'rot_cls', 'classify', 'cls_bn', 'classify_bn'),
)
# Modules that CSTP keeps inside of the network that is the backbone.
_INSIDE = ('project', 'conv3d_0c_1x1_custom')


def define_flags() -> None:
  """The driver's flags."""
  flags.DEFINE_enum(
    'backbone', None, list(ARCHITECTURES), "The backbone's family.", required=True
  )
  flags.DEFINE_string(
    'pytorch_file', None, 'The .pth file; written with --reverse.', required=True
  )
  flags.DEFINE_string(
    'checkpoint', None, 'Prefix of the checkpoint; read with --reverse.', required=True
  )
  flags.DEFINE_bool('reverse', False, 'From the checkpoint to the .pth file.')
  flags.DEFINE_string(
    'prefix',
    DEFAULT_PREFIX,
    "What the backbone's keys begin with in the file; empty for a file of a bare "
    'backbone. Reading, module. may be left out.',
  )
  flags.DEFINE_string(
    'params_override',
    '',
    "Fields of the backbone's configuration that are not CSTP's: r3d.model_id=34.",
  )


def build_backbone(family: str, overrides: str = '') -> Any:
  """Builds a backbone and its mapping.

  Args:
    family: one of `ARCHITECTURES`.
    overrides: of the configuration, as in --params_override.

  Returns:
    The model, and its layers by PyTorch module.
  """
  from official.video import experiment
  from official.video.backbones import build_backbone as build
  from official.video.configs import backbones

  config = backbones.Backbone(type=family)
  experiment.apply_overrides(config, overrides, '--params_override')
  backbone = build(config)
  module = importlib.import_module(f'official.video.backbones.{family}')
  return backbone, module.pytorch_layers(backbone)


def split_state_dict(
  state_dict: Mapping[str, np.ndarray], prefix: str
) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
  """Takes the backbone out of a state dict.

  Args:
    state_dict: tensors by key, 'module.' taken off.
    prefix: of the backbone's keys, without 'module.' and the dot behind.

  Returns:
    The backbone's tensors by key without the prefix; the keys of modules that CSTP has
    beside it; all other keys.
  """
  begin = f'{prefix}.' if prefix else ''
  inside = tuple(f'{begin}{name}.' for name in _INSIDE)
  beside = tuple(f'{name}.' for name in _BESIDE)
  backbone, others, unknown = {}, [], []
  for key, tensor in state_dict.items():
    if key.startswith(inside):
      others.append(key)
    elif prefix and key.startswith(begin):
      backbone[key.removeprefix(begin)] = tensor
    elif key.startswith(beside):
      others.append(key)
    elif prefix:
      unknown.append(key)
    else:
      backbone[key] = tensor
  return backbone, others, unknown


def read_backbone(
  backbone: Any, layers: Mapping[str, Any], pytorch_file: str, prefix: str
) -> Sequence[str]:
  """Gives a backbone the values of a `.pth` file, all of them or none, and prints which.

  Args:
    backbone: built.
    layers: its layers by PyTorch module.
    pytorch_file: to read.
    prefix: what the backbone's keys begin with, as in --prefix.

  Returns:
    The keys that are not part of the backbone.

  Raises:
    UserError: the file can't be read, or it and the backbone do not match.
  """
  from official.video.checkpoints import pytorch_file as files
  from official.video.checkpoints import pytorch_mapping

  state_dict = pytorch_mapping.without_data_parallel(files.read_state_dict(pytorch_file))
  prefix = prefix.removeprefix(pytorch_mapping.DATA_PARALLEL).strip('.')
  own, others, unknown = split_state_dict(state_dict, prefix)
  if not own:
    raise UserError(
      f"{pytorch_file}: no key begins with '{prefix}.', but there are "
      f'{pytorch_mapping.some(list(state_dict))}; name what the keys of the backbone '
      'begin with by --prefix'
    )
  assignments, unmatched = pytorch_mapping.convert(own, layers)
  unmatched = pytorch_mapping.Unmatched(
    unmatched.missing, [*unmatched.unexpected, *unknown], unmatched.unfit
  )
  if unmatched:
    raise UserError(
      f'{pytorch_file}: does not match the {backbone.name} ({unmatched}); check '
      '--backbone, --prefix and --params_override'
    )
  pytorch_mapping.apply(assignments)
  _print_mapping(own, prefix, layers)
  return others


def _print_mapping(
  tensors: Mapping[str, np.ndarray], prefix: str, layers: Mapping[str, Any]
) -> None:
  """A line a key of the backbone: which variable it is."""
  from official.video.checkpoints import pytorch_mapping

  begin = f'{prefix}.' if prefix else ''
  for key, weight in pytorch_mapping.weights(layers).items():
    if key in tensors:
      shape = list(weight.variable.shape)
      print(f'{begin}{key} {list(weight.shape)} -> {weight.name} {shape}')


def to_tensorflow(
  family: str, overrides: str, source: str, target: str, prefix: str
) -> None:
  """Writes the checkpoint of the backbone in a `.pth` file.

  Args:
    family: one of `ARCHITECTURES`.
    overrides: of its configuration.
    source: the `.pth` file.
    target: prefix of the checkpoint, which must be new.
    prefix: what the backbone's keys begin with.

  Raises:
    UserError: see `read_backbone`; or the checkpoint exists or can't be written.
  """
  import tensorflow as tf

  _require_new('--checkpoint', target, f'{target}.index')
  backbone, layers = build_backbone(family, overrides)
  others = read_backbone(backbone, layers, source, prefix)
  for key in others:
    print(f'{key}: not part of the backbone')
  try:
    tf.io.gfile.makedirs(os.path.dirname(os.path.abspath(target)))
    tf.train.Checkpoint(backbone=backbone).write(target)
  except (tf.errors.OpError, OSError) as error:
    raise UserError(f"--checkpoint {target}: can't be written: {_line(error)}") from error
  print(
    f'{len(backbone.variables)} variables of the {family} from {source} to {target}; '
    f'{len(others)} keys are not part of the backbone'
  )


def to_pytorch(
  family: str, overrides: str, source: str, target: str, prefix: str
) -> None:
  """Writes the `.pth` file of the backbone in a checkpoint, as CSTP's scripts load it.

  Batch norms' counts of steps, which checkpoints lack and nothing depends on, are 0.

  Args:
    family: one of `ARCHITECTURES`.
    overrides: of its configuration.
    source: prefix or folder of the checkpoint.
    target: the `.pth` file, which must be new.
    prefix: what its keys shall begin with.

  Raises:
    UserError: the checkpoint does not match, or the file exists or can't be written.
  """
  from official.video.checkpoints import pytorch_file, pytorch_mapping, restore

  _require_new('--pytorch_file', target, target)
  backbone, layers = build_backbone(family, overrides)
  restore.restore_backbone(backbone, source)
  begin = f'{prefix}.' if prefix else ''
  tensors = pytorch_mapping.to_state_dict(layers)
  state_dict = {begin + key: tensor for key, tensor in tensors.items()}
  os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
  content = {'epoch': 1, 'arch': ARCHITECTURES[family], 'state_dict': state_dict}
  pytorch_file.write(target, content)
  _print_mapping(tensors, prefix, layers)
  print(f'{len(state_dict)} tensors of the {family} from {source} to {target}')


def _require_new(flag: str, name: str, file: str) -> None:
  if os.path.exists(file):
    raise UserError(f'{flag} {name}: exists; name a new one, or remove it')


def _line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0]


def main(argv: Sequence[str]) -> None:
  """Converts."""
  del argv
  values = (FLAGS.backbone, FLAGS.params_override)
  if FLAGS.reverse:
    to_pytorch(*values, FLAGS.checkpoint, FLAGS.pytorch_file, FLAGS.prefix.strip('.'))
  else:
    to_tensorflow(*values, FLAGS.pytorch_file, FLAGS.checkpoint, FLAGS.prefix)


if __name__ == '__main__':
  define_flags()
  command_line.run(main)

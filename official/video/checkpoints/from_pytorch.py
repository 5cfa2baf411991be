r"""Converts a CSTP `.pth` file to a checkpoint, and back.

  python -m official.video.checkpoints.from_pytorch --backbone=r2plus1d \
    --pytorch_file=save_300.pth --checkpoint=/runs/r2plus1d/ckpt

  python -m official.video.checkpoints.from_pytorch --reverse --backbone=r2plus1d \
    --checkpoint=/runs/r2plus1d/ckpt --pytorch_file=backbone.pth

Pretrained and fine-tuned files, with and without the `module.` of data-parallel training.
The checkpoint holds `backbone`, which any task restores. Every key of the backbone and
every variable has to have its counterpart, or nothing is written; what else the file holds
(target network, projector, predictor, heads) is listed. PyTorch is not needed, and no code
in the file is executed.

  python -m official.video.checkpoints.from_pytorch --experiment=cstp_pretrain_ucf101 \
    --pytorch_file=save_300.pth --checkpoint=/runs/cstp/ckpt

With --experiment in the place of --backbone the whole model is converted: both networks,
the predictor and the pretext classifiers, or a fine-tuned network with its classifier. It
needs `task.model.num_classes` there, by --params_override.
"""

import dataclasses
import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from official.video.errors import UserError
from official.video.settings import command_line

FLAGS = flags.FLAGS

# Each family's model id and depth in CSTP's files, which its loader compares.
ARCHITECTURES: Mapping[str, str] = {
  'r2plus1d': 'r21d_byol-1',
  'c3d': 'c3d_byol-1',
  'r3d': 'r3d_byol-18',
  's3d': 's3d_byol-1',
  'i3d': 'i3d_byol-1',
}
DEFAULT_PREFIX, WHOLE_PREFIX = 'module.online_net', 'module'
# Modules beside the backbone, by what its own prefix is in the file.
_BESIDE = (
  *('online_net', 'target_net', 'predictor', 'overlap_spa', 'overlap_tem', 'pb_cls'),
  *('rotate_cls', 'rot_cls', 'classify', 'cls_bn', 'classify_bn'),
)
# Modules that CSTP keeps inside of the network that is the backbone.
_INSIDE = ('project', 'conv3d_0c_1x1_custom')


def define_flags() -> None:
  """The driver's flags."""
  flags.DEFINE_enum('backbone', None, list(ARCHITECTURES), "The backbone's family.")
  flags.DEFINE_string(
    'experiment', None, 'Converts the whole model of this experiment instead.'
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
    None,
    f"What the keys begin with in the file, by default {DEFAULT_PREFIX} for a backbone's "
    f'and {WHOLE_PREFIX} for a whole model; empty for a file of a bare backbone. Reading, '
    'module. may be left out.',
  )
  flags.DEFINE_string(
    'params_override',
    '',
    "Fields of the backbone's configuration that are not CSTP's, r3d.model_id=34, or of "
    "the experiment's.",
  )


@dataclasses.dataclass(frozen=True)
class Convertible:
  """What a file is converted to or from.

  Attributes:
    name: for messages.
    family: one of `ARCHITECTURES`.
    layers: by PyTorch module.
    objects: what a checkpoint of it holds, by name.
    required: the names of those that a checkpoint has to hold.
    whole: whether every key of a file has to have its counterpart.
  """

  name: str
  family: str
  layers: Mapping[str, Any]
  objects: Mapping[str, Any]
  required: str
  whole: bool = False

  @property
  def variables(self) -> int:
    """How many variables it has."""
    return len({id(v) for o in self.objects.values() for v in o.variables})


def build_model(name: str, overrides: str = '') -> Convertible:
  """The model of an experiment, which has to have a PyTorch original.

  Args:
    name: of the experiment.
    overrides: of its fields, as in --params_override.

  Raises:
    UserError: no such experiment, or no original.
  """
  from official.video.checkpoints import pytorch_models
  from official.video.settings import experiment

  params = experiment.load(name, params_override=overrides)
  family = str(params.task.model.backbone.type)
  if family not in ARCHITECTURES:
    raise UserError(
      f'--experiment {name}: its backbone is {family}; the files are of '
      f'{", ".join(ARCHITECTURES)}; add task.model.backbone.type=... to --params_override'
    )
  if getattr(params.task.model, 'num_classes', 1) == 0:
    raise UserError(
      f'--experiment {name}: task.model.num_classes 0: set the number of classes by '
      '--params_override'
    )
  model = experiment.build_task(params).built_model()
  layers = pytorch_models.layers_of(model, family)
  objects = {'model': model, **model.checkpoint_items}
  return Convertible(name, family, layers, objects, 'model', whole=True)


def build_backbone(family: str, overrides: str = '') -> Any:
  """Builds a backbone and its mapping.

  Args:
    family: one of `ARCHITECTURES`.
    overrides: of the configuration, as in --params_override.

  Returns:
    The model, and its layers by PyTorch module.
  """
  from official.video.backbones import factory, families
  from official.video.settings import experiment

  config = families.of(family)
  experiment.apply_overrides(config, overrides, '--params_override')
  backbone = factory.build_backbone(config)
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


def read(target: Convertible, pytorch_file: str, prefix: str) -> Sequence[str]:
  """Gives variables the values of a `.pth` file, all of them or none, and prints which.

  Args:
    target: built.
    pytorch_file: to read.
    prefix: what the keys begin with, as in --prefix.

  Returns:
    The keys that are not part of the backbone.

  Raises:
    UserError: the file can't be read, or it and the target do not match.
  """
  from official.video.checkpoints import pytorch_file as files
  from official.video.checkpoints import pytorch_mapping

  state_dict = pytorch_mapping.without_data_parallel(files.read_state_dict(pytorch_file))
  prefix = f'{prefix}.'.removeprefix(pytorch_mapping.DATA_PARALLEL).strip('.')
  own: dict[str, np.ndarray] = dict(state_dict)
  others: list[str] = []
  unknown: list[str] = []
  if not target.whole:
    own, others, unknown = split_state_dict(state_dict, prefix)
  if not own:
    raise UserError(
      f"{pytorch_file}: no key begins with '{prefix}.', but there are "
      f'{pytorch_mapping.some(list(state_dict))}; name what the keys of the backbone '
      'begin with by --prefix'
    )
  assignments, unmatched = pytorch_mapping.convert(own, target.layers)
  unmatched = pytorch_mapping.Unmatched(
    unmatched.missing, [*unmatched.unexpected, *unknown], unmatched.unfit
  )
  if unmatched:
    raise UserError(
      f'{pytorch_file}: does not match the {target.name} ({unmatched}); check '
      f'--{"experiment" if target.whole else "backbone"}, --prefix and --params_override'
    )
  pytorch_mapping.apply(assignments)
  _print_mapping(own, prefix, target.layers)
  return others


def _print_mapping(
  tensors: Mapping[str, np.ndarray], prefix: str, layers: Mapping[str, Any]
) -> None:
  """A line a key: which variable it is."""
  from official.video.checkpoints import pytorch_mapping

  begin = f'{prefix}.' if prefix else ''
  for key, weight in pytorch_mapping.weights(layers).items():
    if key in tensors:
      shape = list(weight.variable.shape)
      print(f'{begin}{key} {list(weight.shape)} -> {weight.name} {shape}')


def to_tensorflow(target: Convertible, source: str, path: str, prefix: str) -> None:
  """Writes the checkpoint of what a `.pth` file holds.

  Args:
    target: built.
    source: the `.pth` file.
    path: prefix of the checkpoint, which must be new.
    prefix: what the keys begin with.

  Raises:
    UserError: see `read`; or the checkpoint exists or can't be written.
  """
  import tensorflow as tf

  others = read(target, source, prefix)
  for key in others:
    print(f'{key}: not part of the backbone')
  try:
    tf.io.gfile.makedirs(os.path.dirname(os.path.abspath(path)))
    tf.train.Checkpoint(**target.objects).write(path)
  except (tf.errors.OpError, OSError) as error:
    raise UserError(f"--checkpoint {path}: can't be written: {_line(error)}") from error
  print(
    f'{target.variables} variables of the {target.name} from {source} to {path}; '
    f'{len(others)} keys are not part of the backbone'
  )


def to_pytorch(target: Convertible, source: str, path: str, prefix: str) -> None:
  """Writes the `.pth` file of what a checkpoint holds, as CSTP's scripts load it.

  Batch norms' counts of steps, which checkpoints lack and nothing depends on, are 0.

  Args:
    target: built.
    source: prefix or folder of the checkpoint.
    path: the `.pth` file, which must be new.
    prefix: what its keys shall begin with.

  Raises:
    UserError: the checkpoint does not match, or the file can't be written.
  """
  from official.video.checkpoints import pytorch_file, pytorch_mapping, restore

  wanted = {target.required: target.objects[target.required]}
  restore.restore(wanted, source)
  begin = f'{prefix}.' if prefix else ''
  tensors = pytorch_mapping.to_state_dict(target.layers)
  state_dict = {begin + key: tensor for key, tensor in tensors.items()}
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  content = {'epoch': 1, 'arch': ARCHITECTURES[target.family], 'state_dict': state_dict}
  pytorch_file.write(path, content)
  _print_mapping(tensors, prefix, target.layers)
  print(f'{len(state_dict)} tensors of the {target.name} from {source} to {path}')


def _require_new(flag: str, name: str, file: str) -> None:
  if os.path.exists(file):
    raise UserError(f'{flag} {name}: exists; name a new one, or remove it')


def _line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0]


def _target(experiment: str | None, family: str, override: str) -> Convertible:
  """An experiment's whole model, or without one a backbone of a family."""
  if experiment:
    return build_model(experiment, override)
  backbone, layers = build_backbone(family, override)
  return Convertible(family, family, layers, {'backbone': backbone}, 'backbone')


def main(argv: Sequence[str]) -> None:
  """Converts."""
  del argv
  if bool(FLAGS.backbone) == bool(FLAGS.experiment):
    raise UserError(
      'give exactly one of --backbone (the backbone of a file, one of '
      f'{", ".join(ARCHITECTURES)}) and --experiment (the whole model)'
    )
  prefix = FLAGS.prefix
  if prefix is None:
    prefix = WHOLE_PREFIX if FLAGS.experiment else DEFAULT_PREFIX
  named = FLAGS.experiment, FLAGS.backbone, FLAGS.params_override
  if FLAGS.reverse:
    _require_new('--pytorch_file', FLAGS.pytorch_file, FLAGS.pytorch_file)
    to_pytorch(_target(*named), FLAGS.checkpoint, FLAGS.pytorch_file, prefix.strip('.'))
  else:
    _require_new('--checkpoint', FLAGS.checkpoint, f'{FLAGS.checkpoint}.index')
    to_tensorflow(_target(*named), FLAGS.pytorch_file, FLAGS.checkpoint, prefix)


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

r"""Converts PyTorch's weights, of CSTP or of public libraries, to a checkpoint, and back.

  python -m official.video.checkpoints.from_pytorch --backbone=r2plus1d \
    --pytorch_file=save_300.pth --checkpoint=/runs/r2plus1d/ckpt

  python -m official.video.checkpoints.from_pytorch --reverse --backbone=r2plus1d \
    --checkpoint=/runs/r2plus1d/ckpt --pytorch_file=backbone.pth

Pretrained and fine-tuned files, with and without the `module.` of data-parallel training.
The checkpoint holds `backbone`, which any task restores. Every key of the backbone and
every variable has to have its counterpart, or nothing is written; what else the file holds
(target network, projector, predictor, heads) is listed. PyTorch is not needed, and no code
in the file is executed. What is to be written and is called `.safetensors` becomes
one, any other what torch.save writes.

  python -m official.video.checkpoints.from_pytorch --experiment=cstp_pretrain_ucf101 \
    --pytorch_file=save_300.pth --checkpoint=/runs/cstp/ckpt

With --experiment in the place of --backbone the whole model is converted: both networks,
the predictor and the pretext classifiers, or a fine-tuned network with its classifier. It
needs `task.model.num_classes` there, by --params_override.

  python -m official.video.checkpoints.from_pytorch --backbone=resnet_3d \
    --pytorch_file=SLOW_8x8_R50.pyth --checkpoint=/slow/ckpt

Nets of torchvision (r3d_18, mc3_18, r2plus1d_18, s3d), of SlowFast and of PyTorchVideo
(slow_r50, c2d_r50, i3d_r50) are known by their keys, or by --layout. Their weights are
taken as they are. What else makes their function, such as the pixels' normalization, are
fields of the backbone: they are printed, and kept beside the checkpoint, so that a task of
others is refused. Back, a net that is one of theirs gets their names, and a video_vit that
is a ViViT Hugging Face's; other nets get the names of their own layers,
and the file keeps the fields that make the function of their weights, as the text `vidgarden`
(of a .safetensors in its metadata): read again, they are those of the net.
"""

import dataclasses
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from official.video.checkpoints import pytorch_layouts
from official.video.errors import UserError
from official.video.settings import command_line

FLAGS = flags.FLAGS
# Of batch norm, where nothing else is said.
EPSILON = 1e-5

# Families that CSTP has none of, under the names of nets for images.
OTHERS = ('resnet_3d', 'resnet_3dy', 'video_vit')
# Each family's model id and depth in CSTP's files, which its loader compares.
ARCHITECTURES: Mapping[str, str] = {
  'r2plus1d': 'r21d_byol-1',
  'c3d': 'c3d_byol-1',
  'r3d': 'r3d_byol-18',
  's3d': 's3d_byol-1',
  'i3d': 'i3d_byol-1',
}
FAMILIES = (*ARCHITECTURES, *OTHERS)
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
  flags.DEFINE_enum('backbone', None, FAMILIES, "The backbone's family.")
  flags.DEFINE_enum(
    'layout',
    None,
    pytorch_layouts.NAMES,
    'Whose names the file has; by default what its keys tell, and with --reverse what the '
    "net's function tells.",
  )
  flags.DEFINE_string(
    'experiment', None, 'Converts the whole model of this experiment instead.'
  )
  flags.DEFINE_string(
    'pytorch_file',
    None,
    'The .pth or .safetensors file; written with --reverse.',
    required=True,
  )
  flags.DEFINE_string(
    'checkpoint', None, 'Prefix of the checkpoint; read with --reverse.', required=True
  )
  flags.DEFINE_bool('reverse', False, 'From the checkpoint to the file of PyTorch.')
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
    "Fields of the backbone's configuration that are neither the original's nor told by "
    "the file, r3d.model_id=34, or of the experiment's.",
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
    layout: whose names `layers` has; None for those of the family's own layers.
    config: of the family.
    epsilon: of batch norm.
    activation: of the layers.
    zero_centering: whether it is shown pixels in [-1, 1], else in [0, 1]; None where that is
      for the task to say.
  """

  name: str
  family: str
  layers: Mapping[str, Any]
  objects: Mapping[str, Any]
  required: str
  whole: bool = False
  layout: pytorch_layouts.Layout | None = None
  config: Any = None
  epsilon: float = EPSILON
  activation: str = 'relu'
  zero_centering: bool | None = None

  @property
  def variables(self) -> int:
    """How many variables it has."""
    return len({id(v) for o in self.objects.values() for v in o.variables})


def build_model(
  name: str, overrides: str = '', layout: pytorch_layouts.Layout | None = None
) -> Convertible:
  """The model of an experiment, which has to have a PyTorch original.

  Args:
    name: of the experiment.
    overrides: of its fields, as in --params_override.
    layout: whose classifier it is; None for CSTP's models.

  Raises:
    UserError: no such experiment, or no original.
  """
  from official.video.checkpoints import pytorch_models
  from official.video.settings import experiment

  params = experiment.load(name, params_override=overrides)
  family = str(params.task.model.backbone.type)
  if layout is None and family not in ARCHITECTURES:
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
  if layout:
    layers = pytorch_models.classifier_of(model, params.task, layout)
  else:
    layers = pytorch_models.layers_of(model, family)
  objects = {'model': model, **model.checkpoint_items}
  return Convertible(
    name,
    family,
    layers,
    objects,
    'model',
    whole=True,
    layout=layout,
    config=params.task.model.backbone.get(),
    epsilon=params.task.model.norm_activation.norm_epsilon,
  )


def build_backbone(family: str, overrides: str = '') -> Any:
  """Builds a backbone and its mapping.

  Args:
    family: one of `FAMILIES`.
    overrides: of the configuration, as in --params_override.

  Returns:
    The model, and its layers by PyTorch module.
  """
  target = convertible(family, overrides)
  return target.objects['backbone'], target.layers


def convertible(
  family: str,
  overrides: str = '',
  fields: Mapping[str, Any] | None = None,
  epsilon: float = EPSILON,
) -> Convertible:
  """A backbone, by the modules of its own layers.

  Args:
    family: one of `FAMILIES`.
    overrides: of the configuration, as in --params_override.
    fields: of the family's configuration, before the overrides.
    epsilon: of batch norm.
  """
  from official.video.backbones import batch_norm, factory, families
  from official.video.checkpoints import names
  from official.video.settings import experiment

  config = families.of(family, **(fields or {}))
  experiment.apply_overrides(config, overrides, '--params_override')
  norm = batch_norm.NormActivation()
  norm.norm_epsilon = epsilon
  backbone = factory.build_backbone(config, norm)
  module = importlib.import_module(f'official.video.backbones.{family}')
  objects = {'backbone': backbone}
  # Those of a transformer are called as checkpoints' variables are.
  layers = getattr(module, 'pytorch_layers', names.modules)(backbone)
  return Convertible(
    family, family, layers, objects, 'backbone', config=config.get(), epsilon=epsilon
  )


def named_by(target: Convertible, layout: pytorch_layouts.Layout) -> Convertible:
  """The same by a library's modules."""
  layers = layout.renamed(target.layers, target.config)
  return dataclasses.replace(target, name=layout.title, layers=layers, layout=layout)


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


def read_file(path: str) -> dict[str, np.ndarray]:
  """The tensors of a `.pth` or `.safetensors` file by key, without 'module.' before all.

  Raises:
    UserError: it can't be read.
  """
  from official.video.checkpoints import pytorch_file, pytorch_mapping, tensor_file

  is_safe = tensor_file.kind_of(path) == '.safetensors'
  read_tensors = tensor_file.read_safetensors if is_safe else pytorch_file.read_state_dict
  return pytorch_mapping.without_data_parallel(read_tensors(path))


# Under this a file that `to_pytorch` wrote keeps what makes the function of its weights.
_KEPT = 'vidgarden'
_KEPT_FIELDS = ('fields', 'norm_epsilon', 'zero_centering')


def _meaning_in(path: str, family: str) -> dict[str, Any]:
  """What a file of ours keeps of the net that its weights are of; empty where it is none.

  Args:
    path: of the file, which was read before.
    family: that is asked for.

  Raises:
    UserError: the weights are of another family.
  """
  from official.video.checkpoints import pytorch_file, tensor_file

  if tensor_file.kind_of(path) == '.safetensors':
    text = tensor_file.read_texts(path).get(_KEPT, '')
  else:
    text = pytorch_file.read_text(path, _KEPT)
  if not text:
    return {}
  try:
    kept = dict(json.loads(text))
    kept = {name: kept[name] for name in ('backbone', *_KEPT_FIELDS)}
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f'{path}: what it keeps under {_KEPT!r} is damaged') from error
  if (there := kept['backbone']) != family:
    raise UserError(f'{path}: holds the weights of an {there}; give --backbone={there}')
  return kept


def read(
  target: Convertible,
  state_dict: Mapping[str, np.ndarray],
  pytorch_file: str,
  prefix: str,
) -> Sequence[str]:
  """Gives variables the values of a `.pth` file, all of them or none, and prints which.

  Args:
    target: built.
    state_dict: see `read_file`.
    pytorch_file: that it is of, for messages.
    prefix: what the keys begin with, as in --prefix.

  Returns:
    The keys that are not part of the backbone.

  Raises:
    UserError: it and the target do not match.
  """
  from official.video.checkpoints import pytorch_mapping

  prefix = f'{prefix}.'.removeprefix(pytorch_mapping.DATA_PARALLEL).strip('.')
  own: dict[str, np.ndarray] = dict(state_dict)
  others: list[str] = []
  unknown: list[str] = []
  if target.layout:
    if not target.whole:
      own, others = target.layout.split(state_dict)
  elif not target.whole:
    own, others, unknown = split_state_dict(state_dict, prefix)
  if not own:
    begins = f"begins with '{prefix}.'" if prefix else 'is of a bare backbone'
    raise UserError(
      f'{pytorch_file}: no key {begins}, but there are '
      f'{pytorch_mapping.some(list(state_dict))}; name what the keys of the backbone '
      'begin with by --prefix'
    )
  pytorch_mapping.check_finite(own, pytorch_file)
  assignments, unmatched = pytorch_mapping.convert(own, target.layers)
  unmatched = pytorch_mapping.Unmatched(
    unmatched.missing, [*unmatched.unexpected, *unknown], unmatched.unfit
  )
  if unmatched:
    raise UserError(
      f'{pytorch_file}: does not match the {target.name} ({unmatched}); check '
      f'--{"experiment" if target.whole else "backbone"}, --layout, --prefix and '
      '--params_override'
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


def to_tensorflow(
  target: Convertible,
  state_dict: Mapping[str, np.ndarray],
  source: str,
  path: str,
  prefix: str,
) -> None:
  """Writes the checkpoint of what a `.pth` file holds.

  Args:
    target: built.
    state_dict: see `read_file`.
    source: the `.pth` file.
    path: prefix of the checkpoint, which must be new.
    prefix: what the keys begin with.

  Raises:
    UserError: see `read`; or the checkpoint exists or can't be written.
  """
  import tensorflow as tf

  from official.video.checkpoints import origin, pytorch_mapping

  others = read(target, state_dict, source, prefix)
  for key in others:
    print(f'{key}: not part of the backbone')
  try:
    tf.io.gfile.makedirs(os.path.dirname(os.path.abspath(path)))
    tf.train.Checkpoint(**target.objects).write(path)
    if target.layout or target.zero_centering is not None:
      net, centred = target.config.as_dict(), bool(target.zero_centering)
      keys = pytorch_mapping.weights(target.layers)
      normed = any(key.endswith('running_mean') for key in keys)
      epsilon = target.epsilon if normed else None
      origin.write_converted(path, target.family, net, epsilon, zero_centering=centred)
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
  from official.video.checkpoints import (
    pytorch_file,
    pytorch_mapping,
    restore,
    tensor_file,
  )

  wanted = {target.required: target.objects[target.required]}
  restore.restore(wanted, source)
  begin = f'{prefix}.' if prefix else ''
  tensors = pytorch_mapping.to_state_dict(target.layers)
  state_dict = {begin + key: tensor for key, tensor in tensors.items()}
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  kept = _meaning_of(target)
  if tensor_file.is_safetensors(path):
    tensor_file.write_safetensors(path, state_dict, kept)
  else:
    pytorch_file.write(path, {**_content(target, state_dict), **kept})
  _print_mapping(tensors, prefix, target.layers)
  print(f'{len(state_dict)} tensors of the {target.name} from {source} to {path}')


def _meaning_of(target: Convertible) -> dict[str, str]:
  """What a file of a backbone by our own names keeps of it; libraries' have their own."""
  if target.layout or target.whole or target.config is None:
    return {}
  kept = {
    'backbone': target.family,
    'fields': target.config.as_dict(),
    'norm_epsilon': target.epsilon,
    'zero_centering': bool(target.zero_centering),
  }
  return {_KEPT: json.dumps(kept)}


def _content(target: Convertible, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
  """What a file holds around the tensors where its readers expect it."""
  if target.layout is None:
    arch = ARCHITECTURES.get(target.family, target.family)
    return {'epoch': 1, 'arch': arch, 'state_dict': state_dict}
  wrapper = target.layout.wrapper
  return {wrapper: state_dict} if wrapper else state_dict


# What torch.save's files are called.
_SUFFIXES = ('.pth', '.pt', '.pyth', '.bin', '.tar', '.ckpt', '.safetensors')


def _check_suffix(path: str) -> None:
  """Raises `UserError` for a file to write whose name says that it is another kind."""
  if os.path.splitext(path)[1].lower() not in _SUFFIXES:
    raise UserError(
      f'--pytorch_file {path}: is written as PyTorch does, or as safetensors; call it .pth or '
      '.safetensors'
    )


def _require_new(flag: str, name: str, file: str) -> None:
  if os.path.exists(file):
    raise UserError(f'{flag} {name}: exists; name a new one, or remove it')


def _line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0]


def layout_in(
  name: str | None, family: str | None, tensors: Mapping[str, np.ndarray], file: str
) -> pytorch_layouts.Layout | None:
  """Whose names a file has; None for those of our own layers.

  Args:
    name: as in --layout; None goes by the keys.
    family: as in --backbone; None for any.
    tensors: see `read_file`.
    file: for messages.

  Raises:
    UserError: the keys are those of another family, or not of the layout.
  """
  found = pytorch_layouts.recognized(tensors)
  if name == pytorch_layouts.OWN or (found is None and name is None):
    return None
  if found is None or name not in (None, found.name):
    raise UserError(
      f'{file}: its keys are {f"those of {found.name}" if found else "of no known library"}'
      f', such as {next(iter(tensors), "none")}; expected {name}; leave --layout out, or '
      'name the one that it has'
    )
  if family not in (None, found.family):
    raise UserError(
      f'{file}: the keys are those of a {found.title}; use --backbone={found.family}'
    )
  return found


@dataclasses.dataclass(frozen=True)
class Request:
  """The driver's flags, as they are described there."""

  pytorch_file: str
  checkpoint: str
  backbone: str | None
  experiment: str | None
  layout: str | None
  prefix: str | None
  overrides: str


def _read_foreign(
  request: Request, layout: pytorch_layouts.Layout, tensors: Mapping[str, np.ndarray]
) -> Convertible:
  """The target that a library's file fits, after saying what it is."""
  from official.video.checkpoints import origin

  try:
    fields = layout.config_of(tensors)
    target = convertible(layout.family, request.overrides, fields, layout.epsilon)
  except UserError as error:
    raise UserError(f'{request.pytorch_file}: {error}') from error
  mean, deviation = layout.pixels
  print(
    f'{request.pytorch_file}: the names of a {layout.title}, of pixels in [0, 1] less '
    f'{list(mean)} by {list(deviation)}'
  )
  kind, epsilon = layout.family, target.epsilon
  net = {f'model.backbone.{kind}.{name}': getattr(target.config, name) for name in fields}
  norm = {} if epsilon == EPSILON else {'model.norm_activation.norm_epsilon': epsilon}
  told = origin.written_overrides({'model.backbone.type': kind, **net, **norm})
  print(f'tasks that start from it need --params_override={told}')
  return named_by(target, layout)


def _in(request: Request) -> None:
  prefix, tensors = request.prefix, read_file(request.pytorch_file)
  layout = None
  if prefix is None or request.layout:
    layout = layout_in(request.layout, request.backbone, tensors, request.pytorch_file)
  if layout and prefix:
    raise UserError(
      f'--prefix {prefix}: the keys of a {layout.title} have none; leave it out'
    )
  if request.experiment:
    target = build_model(request.experiment, request.overrides, layout)
  elif layout:
    target = _read_foreign(request, layout, tensors)
  else:
    assert request.backbone
    target = _read_own(request)
  prefix = _prefix_of(target) if prefix is None else prefix
  to_tensorflow(target, tensors, request.pytorch_file, request.checkpoint, prefix)


def _read_own(request: Request) -> Convertible:
  """The net of a file by our own names, with what the file keeps of it."""
  from official.video.checkpoints import origin

  family = str(request.backbone)
  kept = _meaning_in(request.pytorch_file, family)
  if not kept:
    return convertible(family, request.overrides)
  try:
    target = convertible(family, request.overrides, kept['fields'], kept['norm_epsilon'])
  except (KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f'{request.pytorch_file}: keeps fields of a {family} that this version has not: {error}'
    ) from error
  told = _told(target, kept['zero_centering'])
  print(
    f'tasks that start from it need --params_override={origin.written_overrides(told)}'
  )
  return dataclasses.replace(target, zero_centering=kept['zero_centering'])


def _told(target: Convertible, zero_centering: bool) -> dict[str, Any]:
  """Fields of a task that are not its defaults, by their paths."""
  from official.video.backbones import families

  kind, usual = target.family, families.of(target.family).get().as_dict()
  own = target.config.as_dict().items()
  # What went through a file is a list where it was a tuple.
  told = {
    f'model.backbone.{kind}.{n}': x
    for n, x in own
    if json.dumps(x) != json.dumps(usual[n])
  }
  norm = (
    {}
    if target.epsilon == EPSILON
    else {'model.norm_activation.norm_epsilon': target.epsilon}
  )
  return {'model.backbone.type': kind, **told, **norm, 'zero_centering': zero_centering}


def _prefix_of(target: Convertible) -> str:
  """What keys begin with where nothing else is said."""
  if target.layout or target.family not in ARCHITECTURES:
    return ''
  return WHOLE_PREFIX if target.whole else DEFAULT_PREFIX


def _of_run(checkpoint: str, family: str) -> tuple[Mapping[str, Any], float, str, bool]:
  """Fields, epsilon, activation and centring that a run or a converter tells of."""
  from official.video.checkpoints import origin

  found = origin.of(checkpoint)
  task = found.task or found.converted or {}
  model = task.get('model') or {}
  net = (model.get('backbone') or {}).get(family) or {}
  norm = model.get('norm_activation') or {}
  epsilon, activation = norm.get('norm_epsilon', EPSILON), norm.get('activation', 'relu')
  return net, epsilon, activation, bool(task.get('zero_centering'))


def layout_out(name: str | None, target: Convertible) -> pytorch_layouts.Layout | None:
  """Whose names a net is given; None for those of our own layers.

  Args:
    name: as in --layout; None gives the first of which the net is one.
    target: by our own modules.

  Raises:
    UserError: the library has no such net.
  """
  if name == pytorch_layouts.OWN:
    return None
  if name is None:
    for layout in pytorch_layouts.LAYOUTS:
      if layout.family == target.family and not layout.misfit(
        target.config, target.epsilon, target.activation
      ):
        return layout
    return None
  layout = pytorch_layouts.of(name, target.family)
  if reason := layout.misfit(target.config, target.epsilon, target.activation):
    raise UserError(
      f'--layout {name}: the net is none of {name}: {reason}, so that it would compute '
      f'something else; use --layout={pytorch_layouts.OWN}'
    )
  return layout


def _pixels_of(config: Any) -> str:
  """What a net of ours takes off its pixels, which no state dict holds."""
  mean, deviation = (
    list(getattr(config, name, ())) for name in ('pixel_mean', 'pixel_deviation')
  )
  if not mean and not deviation:
    return "as the task showed them, without the library's normalization"
  return f'in [0, 1] less {mean or 0} by {deviation or 1}'


def _out(request: Request) -> None:
  layout, prefix, centred = None, request.prefix, False
  if request.experiment:
    if request.layout not in (None, pytorch_layouts.OWN):
      raise UserError(
        f'--layout {request.layout}: is of a backbone; give --backbone in the place of '
        '--experiment'
      )
    target = build_model(request.experiment, request.overrides)
  else:
    assert request.backbone
    family = request.backbone
    fields, epsilon, activation, centred = _of_run(request.checkpoint, family)
    target = convertible(family, request.overrides, fields, epsilon)
    target = dataclasses.replace(target, activation=activation, zero_centering=centred)
    # Whoever names a prefix means names of our own.
    layout = (
      layout_out(request.layout, target) if prefix is None or request.layout else None
    )
  if layout:
    target = named_by(target, layout)
    print(
      f'{request.pytorch_file}: gets the names of a {layout.title}; show it pixels '
      f'{_pixels_of(target.config)}'
    )
  elif not target.whole:
    told = ', '.join(f'{n} {x}' for n, x in _told(target, bool(centred)).items())
    print(
      f'{request.pytorch_file}: gets the names of our own layers; show it pixels '
      f'{_pixels_of(target.config)}; what it is by our fields is kept in it: {told}'
    )
  prefix = _prefix_of(target) if prefix is None else prefix.strip('.')
  to_pytorch(target, request.checkpoint, request.pytorch_file, prefix)


def main(argv: Sequence[str]) -> None:
  """Converts."""
  del argv
  if bool(FLAGS.backbone) == bool(FLAGS.experiment):
    raise UserError(
      'give exactly one of --backbone (the backbone of a file, one of '
      f'{", ".join(FAMILIES)}) and --experiment (the whole model)'
    )
  request = Request(
    FLAGS.pytorch_file,
    FLAGS.checkpoint,
    FLAGS.backbone,
    FLAGS.experiment,
    FLAGS.layout,
    FLAGS.prefix,
    FLAGS.params_override,
  )
  if FLAGS.reverse:
    _check_suffix(FLAGS.pytorch_file)
    _require_new('--pytorch_file', FLAGS.pytorch_file, FLAGS.pytorch_file)
    _out(request)
  else:
    _require_new('--checkpoint', FLAGS.checkpoint, f'{FLAGS.checkpoint}.index')
    _in(request)


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

r"""Starts a 3D residual net from the weights of one for images: inflation.

  python -m official.video.checkpoints.from_image_resnet --source=resnet50.safetensors \
    --checkpoint=/inflated/ckpt

Reads PyTorch's layout (torchvision's and timm's names, bare or behind a prefix such as MoCo's
`module.encoder_q.`, or numbered as in a sequence; .safetensors or .pth; no code in the file
is executed), Keras Applications' ResNet50, 101 and 152 (.h5, .keras), the Model Garden's
image checkpoints, SimCLR's of TensorFlow (`base_model/conv2d_7/kernel`), and Haiku's names
(`res_net50/~/initial_conv/w`), in a .safetensors, or in the .pkl that BYOL's code writes,
whose nets are `--prefix=online/` and `--prefix=target/`. A kernel gets its time by
--inflation: `average`, all frames alike (I3D's rule), or `central_frame`. Batch norm is taken
as it is, so a still clip is mapped as its image is: everywhere by `central_frame`; by
`average` where no window reaches past the ends of the clip. Paddings and strides become those
of the net (the fields `symmetric_padding` and `strided_convolution` of a resnet_3d; SimCLR's
pooling alone lies a pixel apart at even sizes). An r2plus1d gets either sign of each map of a
ResNet-18 or -34 in a channel of its own, between the halves of its convolutions. A folder is
a run of this library on single frames, whose resnet_3d has no kernel in time
(cvrl/pretrain_kinetics600_frames).

What the pixels were that the net for images was trained on (--pixels) becomes the fields
`pixel_mean` and `pixel_deviation` of the backbone, of what tasks show: [0, 1], or with
--zero_centering [-1, 1]. The checkpoint holds `backbone`; name it by task.init_checkpoint.
What tasks have to set to be the same function is printed, kept beside the checkpoint, and
compared with what a task that starts from it sets.
"""

import importlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from official.video.checkpoints import from_image_vit
from official.video.checkpoints.pixels import PIXELS
from official.video.errors import UserError
from official.video.settings import command_line

FLAGS = flags.FLAGS
# What makes an r2plus1d a net for images in each frame.
_SPLIT: Mapping[str, Any] = {
  'mid_width': 'double',
  'shortcut': 'plain',
  'stem_pool': True,
}
# What nets were trained on, where it is not ImageNet's mean and deviation, and those whose
# strided windows are padded alike on both sides: by `_kind`.
_PIXELS_OF: Mapping[str, str] = {'keras': 'caffe', 'simclr': 'unit'}
_PADDED_ALIKE = ('pytorch', 'keras', 'simclr')
_NORM = ('weight', 'bias', 'running_mean', 'running_var')
_DEPTH_FIELDS = {'resnet_3d': 'model_id', 'r3d': 'model_id', 'r2plus1d': 'stage_blocks'}
FAMILIES = ('resnet_3d', 'r3d', 'r2plus1d')
# Why no others: nothing of them is a residual net's.
REFUSED: Mapping[str, str] = {
  's3d': 'its blocks are of Inception',
  'i3d': 'its blocks are of Inception',
  'c3d': 'it has no shortcuts',
}
# A key that every residual net of PyTorch's layout has.
_SIGN = 'layer1.0.conv1.weight'
# What belongs to the net; beside it lie classifiers, projections, prototypes, queues.
_OF_NET = re.compile(r'(conv1|bn1|layer\d+)\.')
# Of the Model Garden's image nets: a key of its stem, and what layers are called in blocks.
_GARDEN = re.compile(r'(.*/)?layer_with_weights-(\d+)/(.*)/\.ATTRIBUTES/VARIABLE_VALUE')
_GARDEN_PARTS = {
  **{f'_conv{n}': f'conv{n}' for n in (1, 2, 3)},
  **{f'_norm{n}': f'bn{n}' for n in (1, 2, 3)},
  '_shortcut': 'downsample.0',
  '_norm0': 'downsample.1',
}
# Of Keras Applications' nets of the first version, whose blocks begin with their stride.
_KERAS = re.compile(r'conv(\d)(?:_block(\d+)_(\d))?_(conv|bn)/(\w+)')
_KERAS_SIGN, _KERAS_EPSILON = 'conv2_block1_1_conv/kernel', 1.001e-5
# Of a net whose children are numbered: torchvision's, its pooling and its ReLU counted.
_PLACES = {'0': 'conv1', '1': 'bn1', **{str(i): f'layer{i - 3}' for i in range(4, 8)}}
_NUMBERED_SIGN = '4.0.conv1.weight'
_GARDEN_WEIGHTS = {
  'kernel': 'weight',
  'gamma': 'weight',
  'beta': 'bias',
  'moving_mean': 'running_mean',
  'moving_variance': 'running_var',
}


def define_flags() -> None:
  """The driver's flags."""
  flags.DEFINE_string(
    'source',
    None,
    '.safetensors, .pth, .pkl, .h5, .keras, the prefix of a checkpoint, or the folder of a '
    'run.',
    required=True,
  )
  flags.DEFINE_string('checkpoint', None, 'Prefix to write.', required=True)
  flags.DEFINE_enum(
    'backbone', 'resnet_3d', (*FAMILIES, *REFUSED), 'The family to start.'
  )
  flags.DEFINE_enum(
    'inflation', 'average', from_image_vit.INFLATIONS, 'How kernels get their time.'
  )
  flags.DEFINE_enum(
    'pixels',
    None,
    list(PIXELS),
    "What the net was trained on: less ImageNet's mean, by its deviation (torchvision, timm, "
    "the Model Garden, MoCo, BYOL), [0, 1] (SimCLR), [-1, 1], or caffe's (Keras). By default "
    "Keras' for its files, SimCLR's for those of its names, and imagenet for others.",
  )
  flags.DEFINE_bool(
    'zero_centering', False, 'Whether the task that starts from it has zero_centering.'
  )
  flags.DEFINE_string(
    'prefix',
    '',
    'What the keys of the net begin with, where the file holds several nets.',
  )
  flags.DEFINE_string(
    'params_override', '', 'Fields of the family: model_id=101,width_multiplier=2.'
  )


def image_net(tensors: Mapping[str, np.ndarray], source: str, prefix: str = ''):
  """The tensors of a residual net for images, by torchvision's names.

  Args:
    tensors: of a file.
    source: the file, for messages.
    prefix: what the keys of the net begin with; '' finds it where there is one net.

  Returns:
    Tensors in PyTorch's layout by name, and the other keys of the file.

  Raises:
    UserError: there is no such net, or several.
  """
  net, others = _named_as_torchvision(tensors, source, prefix)
  _check_whole(net, source)
  return net, others


def _kind(tensors: Mapping[str, np.ndarray]) -> str:
  """Whose names a file has: 'keras', 'garden', 'simclr', 'haiku' or 'pytorch'."""
  if _KERAS_SIGN in tensors:
    return 'keras'
  blocks = [match for key in tensors if (match := _GARDEN.fullmatch(key))]
  if any(match[3].startswith('_conv1/') for match in blocks):
    return 'garden'
  for kind, sign in (('simclr', _SIMCLR_SIGN), ('haiku', _HAIKU_SIGN)):
    if any(sign.search(key) for key in tensors):
      return kind
  return 'pytorch'


def _named_as_torchvision(tensors: Mapping[str, np.ndarray], source: str, prefix: str):
  kind = _kind(tensors)
  if prefix and kind in ('keras', 'garden', 'simclr'):
    raise UserError(
      f'{source}: holds one net, whose names need no --prefix; leave it out'
    )
  if kind == 'keras':
    return _of_keras(tensors)
  if kind == 'garden':
    return _of_garden(tensors, source)
  if kind == 'simclr':
    return _of_simclr(tensors, source)
  if kind == 'haiku':
    return _of_haiku(tensors, source, prefix)
  if any('_preact_bn/' in key for key in tensors):
    raise UserError(
      f'{source}: is a ResNet of the second version, whose batch norms stand before the '
      'convolutions, which no family does; take ResNet50, 101 or 152'
    )
  tensors, numbered = _unnumbered(tensors), tensors
  found = sorted(key[: -len(_SIGN)] for key in tensors if key.endswith(_SIGN))
  if not any(one.startswith(prefix) for one in found):
    raise UserError(
      f'{source}: no key {prefix}...{_SIGN}; expected a residual net for images with '
      "torchvision's names, or of Keras Applications or the Model Garden; it holds "
      f'{", ".join(list(numbered)[:3])}'
    )
  begin = _the_one(found, source, prefix)
  own = {k.removeprefix(begin): v for k, v in tensors.items() if k.startswith(begin)}
  net = {key: value for key, value in own.items() if _OF_NET.match(key)}
  _check_plain(net, source)
  return net, [key for key in tensors if key.removeprefix(begin) not in net]


def _the_one(begins: Sequence[str], source: str, prefix: str) -> str:
  """What the keys of the net begin with that --prefix means."""
  found = [one for one in begins if one.startswith(prefix)]
  if len(found) != 1:
    raise UserError(
      f'{source}: holds {len(begins)} nets, {", ".join(begins)}; name one by --prefix'
    )
  return found[0]


def _unnumbered(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
  """Torchvision's names where a sequence numbers its children; else the same."""
  begins = {
    key[: -len(_NUMBERED_SIGN)] for key in tensors if key.endswith(_NUMBERED_SIGN)
  }
  begins = {x for x in begins if f'{x}0.weight' in tensors and x[-1:] in ('', '.')}
  found = {}
  for key, value in tensors.items():
    begin = next((x for x in begins if key.startswith(x)), None)
    number, dot, rest = key.removeprefix(begin or '').partition('.')
    known = begin is not None and number in _PLACES
    found[f'{begin}{_PLACES[number]}{dot}{rest}' if known else key] = value
  return found


def _check_plain(net: Mapping[str, np.ndarray], source: str) -> None:
  """Raises `UserError` for relatives of residual nets that no family is."""
  if any(re.match(r'conv1\.\d', key) for key in net):
    raise UserError(
      f'{source}: its stem is of several convolutions (a deep stem, as of ResNet-D), which '
      'no family has; take a net whose stem is one of 7x7'
    )
  pooled = [key for key in net if re.search(r'downsample\.2\.', key)]
  if pooled:
    raise UserError(
      f'{source}: {pooled[0]}: its shortcuts pool before they convolve (as of ResNet-D), '
      'which no family does'
    )


def _check_whole(net: Mapping[str, np.ndarray], source: str) -> None:
  """Raises `UserError` where a convolution or the batch norm behind it is missing."""
  modules = {'conv1', *(key.rpartition('.')[0] for key, x in net.items() if x.ndim == 4)}
  norms = [key.rpartition('.')[0] for key in net if key.endswith('.running_mean')]
  modules |= {re.sub(r'bn(\d)$', r'conv\1', norm) for norm in norms if 'bn' in norm}
  modules |= {norm.replace('sample.1', 'sample.0') for norm in norms if 'bn' not in norm}
  for module in sorted(modules):
    norm = re.sub(r'conv(\d)$', r'bn\1', module).replace('sample.0', 'sample.1')
    for key in (f'{module}.weight', *(f'{norm}.{part}' for part in _NORM)):
      if key not in net:
        raise UserError(
          f'{source}: lacks {key}; expected a whole residual net with a batch norm behind '
          'each convolution (no group norm, no folded one)'
        )


# SimCLR's, whose layers TensorFlow numbered as they were made: shortcuts come first.
_SIMCLR_SIGN = re.compile(r'(?:^|/)base_model/conv2d_1/kernel')
_SIMCLR = re.compile(r'(?:.*/)?base_model/(conv2d|batch_normalization)(?:_(\d+))?/(\w+)')
# BYOL's and others' of Haiku's `ResNet50`, its parameters and its state.
_HAIKU_SIGN = re.compile(r'(?:^|(?<=/))res_?net\d*/~/initial_conv/w$')
_HAIKU_STATE = re.compile(r'((?:.*/)?)res_?net\d*/~/(?:.*/)?(?:mean|var)_ema/')
_HAIKU = re.compile(
  r'(?:.*/)?res_?net\d*/~/(?:block_group_(\d)/~/block_(\d+)/~/)?'
  r'(\w+?)(?:/~/(mean|var)_ema)?/(\w+)'
)


def _of_simclr(tensors: Mapping[str, np.ndarray], source: str):
  """As `image_net`, of SimCLR's ResNet-50, 101 or 152 by TensorFlow."""
  found: dict[tuple[str, int], dict[str, np.ndarray]] = {}
  others = []
  for key, value in tensors.items():
    match = _SIMCLR.fullmatch(key)
    if match and match[3] in _GARDEN_WEIGHTS:
      found.setdefault((match[1], int(match[2] or 0)), {})[match[3]] = value
    else:  # The heads, and slots of the optimizer.
      others.append(key)
  kernels = {
    n: x['kernel'] for (kind, n), x in found.items() if kind == 'conv2d' and 'kernel' in x
  }
  # A hole in the numbers would shift all that comes behind it.
  for number in range(1 + max(number for _, number in found)):
    if number not in kernels:
      name = f'conv2d_{number}' if number else 'conv2d'
      raise UserError(f'{source}: lacks base_model/{name}/kernel; expected a whole net')
  if kernels[0].shape[:2] != (7, 7):
    raise UserError(
      f'{source}: its stem is not one convolution of 7x7, which no family has'
    )
  net, places, number = {}, {0: 'conv1'}, 1
  for stage, block in _blocks_of(kernels):
    names = ['downsample.0'] if block == 0 else []
    for name in (*names, 'conv1', 'conv2', 'conv3'):
      places[number] = f'layer{stage}.{block}.{name}'
      number += 1
  for (kind, place), weights in found.items():
    if place not in places:
      others += [f'{kind}_{place}/{name}' for name in weights]
      continue
    module = places[place]
    if kind != 'conv2d':
      module = re.sub(r'conv(\d)$', r'bn\1', module).replace('sample.0', 'sample.1')
    for name, value in weights.items():
      value = np.moveaxis(value, (-1, -2), (0, 1)) if name == 'kernel' else value
      net[f'{module}.{_GARDEN_WEIGHTS[name]}'] = value
  return net, others


def _blocks_of(kernels: Mapping[int, np.ndarray]) -> list[tuple[int, int]]:
  """Stage and number of each bottleneck, from the kernels in the order of their making.

  A stage begins with a shortcut of 1x1 and a convolution of 1x1 of the same input.
  """
  blocks, stage, block, at = [], 0, 0, 1
  while at < len(kernels) and at + 1 in kernels:
    first, second = kernels[at], kernels[at + 1]
    begins = first.shape[:2] == second.shape[:2] == (1, 1)
    stage, block = (stage + 1, 0) if begins else (stage, block + 1)
    blocks.append((stage, block))
    at += 4 if begins else 3
  return blocks


def _of_haiku(tensors: Mapping[str, np.ndarray], source: str, prefix: str):
  """As `image_net`, of Haiku's ResNet of the first version."""
  net, others = {}, []
  begins = {key[: sign.start()] for key in tensors if (sign := _HAIKU_SIGN.search(key))}
  begin = _the_one(sorted(begins), source, prefix)
  states = {sign[1] for key in tensors if (sign := _HAIKU_STATE.match(key))}
  if begin not in states and len(states) == 1:  # Beside the parameters.
    (apart,) = states
    tensors = {
      begin + key.removeprefix(apart) if _HAIKU_STATE.match(key) else key: value
      for key, value in tensors.items()
    }
  for key, value in tensors.items():
    match = _HAIKU.fullmatch(key) if key.startswith(begin) else None
    name = _haiku_name(*match.groups()) if match else None
    if name is None:
      others.append(key)
    elif name.endswith('.weight') and value.ndim == 4 and match and match[5] == 'w':
      net[name] = np.moveaxis(value, (-1, -2), (0, 1))
    else:
      net[name] = value.reshape(-1)  # Haiku's have an axis for each of the pixels'.
  return net, others


def _haiku_name(
  group: str | None, block: str | None, part: str, moment: str | None, weight: str
) -> str | None:
  """Torchvision's name of a tensor of Haiku; None for what is no weight of the net."""
  if moment:
    weight = f'{moment}_{weight}'
  told = {'w': 'weight', 'scale': 'weight', 'offset': 'bias'}
  told |= {'mean_average': 'running_mean', 'var_average': 'running_var'}
  number = re.fullmatch(r'(conv|batchnorm)_(\d)', part)
  if group is None:
    module = {'initial_conv': 'conv1', 'initial_batchnorm': 'bn1'}.get(part)
  elif number:
    kind = 'conv' if number[1] == 'conv' else 'bn'
    module = f'layer{int(group) + 1}.{block}.{kind}{int(number[2]) + 1}'
  else:
    place = {'shortcut_conv': 0, 'shortcut_batchnorm': 1}.get(part)
    module = (
      None if place is None else f'layer{int(group) + 1}.{block}.downsample.{place}'
    )
  return f'{module}.{told[weight]}' if module and weight in told else None


def _of_keras(tensors: Mapping[str, np.ndarray]):
  """As `image_net`, of Keras Applications' ResNet50, 101 or 152.

  What a convolution adds is taken off the mean of the batch norm after it.
  """
  net: dict[str, np.ndarray] = {}
  others, biases = [], {}
  for key, value in tensors.items():
    match = _KERAS.fullmatch(key)
    if not match:
      others.append(key)
      continue
    stage, block, number, kind, weight = match.groups()
    module = kind + (number or '1')
    if number == '0':
      module = f'downsample.{int(kind == "bn")}'
    if block:
      module = f'layer{int(stage) - 1}.{int(block) - 1}.{module}'
    if weight == 'bias':
      after = module.replace('conv', 'bn').replace('downsample.0', 'downsample.1')
      biases[f'{after}.running_mean'] = value
      continue
    value = np.moveaxis(value, (-1, -2), (0, 1)) if weight == 'kernel' else value
    net[f'{module}.{_GARDEN_WEIGHTS[weight]}'] = value
  return {key: value - biases.get(key, 0) for key, value in net.items()}, others


def _of_epsilon(
  net: Mapping[str, np.ndarray], theirs: float, ours: float
) -> dict[str, np.ndarray]:
  """The same function by batch norms of another epsilon."""
  result = dict(net)
  for key, variance in net.items():
    if key.endswith('.running_var'):
      scale = key.replace('.running_var', '.weight')
      factor = np.sqrt((np.float64(variance) + ours) / (np.float64(variance) + theirs))
      result[scale] = (net[scale] * factor).astype(net[scale].dtype)
  return result


def _of_garden(tensors: Mapping[str, np.ndarray], source: str):
  """As `image_net`, of a checkpoint of the Model Garden's `resnet.ResNet`."""
  found: dict[tuple[int, str], np.ndarray] = {}
  others = []
  for key, value in tensors.items():
    match = _GARDEN.fullmatch(key)
    # Optimizers keep slots under the same paths.
    if match and '.OPTIMIZER_SLOT' not in key:
      found[int(match[2]), match[3]] = value
    else:
      others.append(key)
  blocks = sorted({at for at, name in found if name.startswith('_conv1/')})
  net, stage, number = {}, 0, 0
  places: dict[int, str] = {0: 'conv1', 1: 'bn1'}
  for at in blocks:
    # A stage begins where the shortcut is projected.
    stage, number = (
      (stage + 1, 0) if (at, '_shortcut/kernel') in found else (stage, number)
    )
    places[at] = f'layer{max(stage, 1)}.{number}'
    number += 1
  for (at, name), value in found.items():
    part, _, weight = name.rpartition('/')
    known = weight in _GARDEN_WEIGHTS and (not part or part in _GARDEN_PARTS)
    if at not in places or not known:
      others.append(f'layer_with_weights-{at}/{name}')
      continue
    module = f'{places[at]}.{_GARDEN_PARTS[part]}' if part else places[at]
    value = np.moveaxis(value, (-1, -2), (0, 1)) if weight == 'kernel' else value
    net[f'{module}.{_GARDEN_WEIGHTS[weight]}'] = value
  if not {'conv1.weight', 'bn1.weight'} <= net.keys():
    raise UserError(f'{source}: its first layers are not those of a residual net')
  return net, others


def inflated(
  net: Mapping[str, np.ndarray], mapping: Mapping[str, Any], how: str
) -> dict[str, np.ndarray]:
  """The tensors of a net for clips: kernels [O, I, H, W] become [O, I, T, H, W].

  Args:
    net: see `image_net`.
    mapping: layers by module, see `pytorch_mapping`.
    how: one of `from_image_vit.INFLATIONS`.
  """
  from official.video.checkpoints import pytorch_mapping

  wanted = pytorch_mapping.weights(mapping)
  result = {}
  for key, value in net.items():
    if value.ndim == 4 and key in wanted and len(wanted[key].shape) == 5:
      # Time first, as `from_image_vit` has it, then where PyTorch does.
      frames = wanted[key].shape[2]
      value = np.moveaxis(from_image_vit.inflated(value, frames, how), 0, 2)
    result[key] = value
  return result


def pixel_fields(pixels: str, zero_centering: bool = False) -> dict[str, Any]:
  """Fields of a family that make of a task's pixels what a net was trained on.

  Args:
    pixels: of `PIXELS`.
    zero_centering: whether the task shows [-1, 1]; else [0, 1].
  """
  mean, deviation = (np.array(x) for x in PIXELS[pixels])
  if zero_centering:
    mean, deviation = 2 * mean - 1, 2 * deviation
  if not mean.any() and (deviation == 1).all():
    return {}
  return {
    'pixel_mean': tuple(round(float(x), 8) for x in mean),
    'pixel_deviation': tuple(round(float(x), 8) for x in deviation),
  }


def split(
  net: Mapping[str, np.ndarray], mapping: Mapping[str, Any], how: str
) -> dict[str, np.ndarray]:
  """The tensors of an r2plus1d, whose halves have an activation between them.

  A map and its negative are passed on, and x = relu(x) - relu(-x) is put together after.

  Args:
    net: see `image_net`, of basic blocks.
    mapping: layers of an r2plus1d of mid_width 'double' by module.
    how: one of `from_image_vit.INFLATIONS`.
  """
  result: dict[str, np.ndarray] = {}
  for key, kernel in net.items():
    module, _, weight = key.rpartition('.')
    if kernel.ndim != 4:
      continue
    name, norm = _of_r2plus1d(module)
    theirs = re.sub(r'conv(\d)$', r'bn\1', module).replace('sample.0', 'sample.1')
    values = {part: net[f'{theirs}.{part}'] for part in _NORM}
    if 'downsample' in module:
      result[f'{name}.{weight}'] = kernel[:, :, None]
      result |= {f'{norm}.{part}': value for part, value in values.items()}
      continue
    result[f'{name}.spatial_conv.weight'] = np.concatenate([kernel, -kernel])[:, :, None]
    for part, value in values.items():
      signed = part in ('bias', 'running_mean')
      result[f'{name}.bn.{part}'] = np.concatenate([value, -value if signed else value])
    ones, zeros = np.ones(len(kernel)), np.zeros(len(kernel))
    both = np.concatenate([np.diag(ones), -np.diag(ones)], 1)[:, :, None, None]
    frames = mapping['conv1.temporal_conv'].kernel_size[0]
    time = np.moveaxis(from_image_vit.inflated(both, frames, how), 0, 2)
    result[f'{name}.temporal_conv.weight'] = time.astype(np.float32)
    # It changes nothing.
    same = ones, zeros, zeros, ones - mapping['bn1'].epsilon
    for part, value in zip(_NORM, same, strict=True):
      result[f'{norm}.{part}'] = value.astype(np.float32)
  return result


def _of_r2plus1d(module: str) -> tuple[str, str]:
  """Convolution and batch norm that stand for one of an image's net."""
  if module == 'conv1':
    return 'conv1', 'bn1'
  match = re.fullmatch(r'layer(\d)\.(\d+)\.(.+)', module)
  assert match, module
  block = 'block1' if match[2] == '0' else f'blocks.{int(match[2]) - 1}'
  begin = f'conv{int(match[1]) + 1}.{block}'
  if match[3] == 'downsample.0':
    return f'{begin}.downsampleconv', f'{begin}.downsamplebn'
  return f'{begin}.{match[3]}', f'{begin}.{match[3].replace("conv", "bn")}'


def fields_of(
  tensors: Mapping[str, np.ndarray],
  family: str,
  pixels: str | None = None,
  zero_centering: bool = False,
) -> dict[str, Any]:
  """Fields of a family without which it is another function of a file's net.

  Args:
    tensors: of the file.
    family: of `FAMILIES`.
    pixels: of `PIXELS`, what the net was trained on; None for what the kind of file has.
    zero_centering: whether tasks show it [-1, 1]; else [0, 1].

  Raises:
    UserError: nothing makes it the same function.
  """
  if family in REFUSED:
    raise UserError(
      f'--backbone {family}: {REFUSED[family]}, so no residual net is one; use one of '
      f'{", ".join(FAMILIES)}'
    )
  kind = _kind(tensors)
  shown = pixel_fields(pixels or _PIXELS_OF.get(kind, 'imagenet'), zero_centering)
  if family == 'resnet_3d':
    padded = {'symmetric_padding': True} if kind in _PADDED_ALIKE else {}
    strided = {'strided_convolution': 'first'} if kind == 'keras' else {}
    return {**strided, **padded, **shown}
  bottleneck = re.compile(r'\d\.0\.conv3\.weight$|_conv3/kernel')
  if kind not in ('pytorch', 'garden') or any(bottleneck.search(x) for x in tensors):
    raise UserError(
      f'--backbone {family}: has basic blocks, the file bottlenecks; use resnet_3d'
    )
  if family == 'r3d':
    return shown
  pattern = re.compile(r'(?:^|\.)layer(\d)\.(\d+)\.conv1\.weight')
  found = {
    match.groups() for key in _unnumbered(tensors) if (match := pattern.search(key))
  }
  stages = [stage for stage, _ in found]
  counts = tuple(stages.count(stage) for stage in sorted(set(stages)))
  return {**_SPLIT, **({'stage_blocks': counts} if counts else {}), **shown}


def load(
  backbone: Any,
  family: str,
  source: str,
  how: str = 'average',
  prefix: str = '',
  pixels: str | None = None,
) -> list[str]:
  """Gives a built backbone the weights of a residual net for images.

  Args:
    backbone: of a family of `FAMILIES`, with the fields that `fields_of` tells.
    family: its name.
    source: .safetensors, .pth, .h5, .keras, or the prefix of a checkpoint.
    how: one of `from_image_vit.INFLATIONS`.
    prefix: see `image_net`.
    pixels: see `fields_of`.

  Returns:
    Keys that were not used, such as the classifier's.

  Raises:
    UserError: the file is of another kind, or of another net.
  """
  from official.video.checkpoints import pytorch_mapping, tensor_file

  tensors = tensor_file.read_tensors(source)
  fields_of(tensors, family)  # Or nothing makes it the same.
  kind = _kind(tensors)
  net, others = image_net(tensors, source, prefix)
  module = importlib.import_module(f'official.video.backbones.{family}')
  mapping = module.pytorch_layers(backbone)
  _check_strides(backbone, family, kind == 'keras', source)
  if (pixels or _PIXELS_OF.get(kind)) == 'caffe':  # Its kernel sees blue first.
    net = {**net, 'conv1.weight': net['conv1.weight'][:, ::-1]}
  if kind == 'keras':
    net = _of_epsilon(net, _KERAS_EPSILON, mapping['bn1'].epsilon)
  inflate = inflated
  if family == 'r2plus1d':
    _check_split(backbone, len(net['conv1.weight']), source)
    inflate = split
  pytorch_mapping.check_finite(net, source)
  assignments, unmatched = pytorch_mapping.convert(inflate(net, mapping, how), mapping)
  if unmatched:
    raise UserError(
      f'{source}: does not match the {family} ({unmatched}); set its depth and width by '
      f'--params_override={_DEPTH_FIELDS[family]}=...,width_multiplier=...'
    )
  pytorch_mapping.apply(assignments)
  return others


def load_frames(backbone: Any, config: Any, source: str, how: str = 'average') -> None:
  """Gives a built resnet_3d the weights of a run that was trained on single frames.

  Args:
    backbone: built.
    config: its `families.Backbone`.
    source: folder or checkpoint of the run, whose net is the same but that its kernels
      take one frame; what pixels it was shown, tasks that start from it show too.
    how: one of `from_image_vit.INFLATIONS`.

  Raises:
    UserError: the run has another net.
  """
  from official.video.backbones import factory, families, resnet_3d
  from official.video.checkpoints import pytorch_mapping, restore

  fields = config.get().as_dict() | {
    'stem_conv_temporal_kernel_size': 1,
    'stem_conv_temporal_stride': 1,
    'temporal_kernel_sizes': (1, 1, 1, 1),
    'temporal_strides': (1, 1, 1, 1),
  }
  still = factory.build_backbone(families.of('resnet_3d', **fields))
  restore.restore({'backbone': still}, source)
  tensors = pytorch_mapping.to_state_dict(resnet_3d.pytorch_layers(still))
  net = {key: x[:, :, 0] if x.ndim == 5 else x for key, x in tensors.items()}
  mapping = resnet_3d.pytorch_layers(backbone)
  assignments, unmatched = pytorch_mapping.convert(inflated(net, mapping, how), mapping)
  assert not unmatched, unmatched  # Both are of one config.
  pytorch_mapping.apply(assignments)


def _check_strides(backbone: Any, family: str, first: bool, source: str) -> None:
  """Raises `UserError` where another convolution of a block carries the stride."""
  if family != 'resnet_3d':
    return
  here = backbone.get_layer('res3/block_0').strided_convolution
  there = 'first' if first else 'spatial'
  if here != there:
    raise UserError(
      f'{source}: the {there} convolution of its blocks carries the stride, here the {here} '
      f'one; use --params_override=strided_convolution={there}'
    )


def _check_split(backbone: Any, width: int, source: str) -> None:
  """Raises `UserError` where no map of an image has room for either sign, or a pooling."""
  layers = {layer.name: layer for layer in backbone.layers}
  mid = layers['conv1/spatial_conv'].filters
  if 'maxpool' not in layers or mid != 2 * width:
    raise UserError(
      f'{source}: fits an r2plus1d of its width and of {_written(_SPLIT)}; add what lacks to '
      '--params_override'
    )


def _written(fields: Mapping[str, Any]) -> str:
  return ','.join(f'{name}={str(value).lower()}' for name, value in fields.items())


def _convert_run(
  source: str, checkpoint: str, how: str, overrides: str, given: Mapping[str, bool]
) -> None:
  """Inflates a run's net; refuses what is said of other people's files.

  Args:
    source: the folder of the run.
    checkpoint: prefix to write.
    how: one of `from_image_vit.INFLATIONS`.
    overrides: of the resnet_3d, as in --params_override.
    given: by name, whether a flag of other people's files was.
  """
  from official.video.backbones import factory, families
  from official.video.checkpoints import origin, saved
  from official.video.settings import experiment

  for name in (name for name, was in given.items() if was):
    raise UserError(
      f'--{name}: of a run, as {source} is, a resnet_3d is inflated with the pixels '
      'that it was shown; leave it out'
    )
  run = origin.of(source).task or {}
  known = (run.get('model') or {}).get('backbone') or {}
  own = known.get('resnet_3d') or {}
  config = families.of('resnet_3d')
  config.get().override({n: x for n, x in own.items() if n not in _IN_TIME})
  if overrides:
    experiment.apply_overrides(config.get(), overrides, '--params_override')
  backbone = factory.build_backbone(config)
  load_frames(backbone, config, source, how)
  saved.write_converted(checkpoint, source, [], backbone)
  _leave(checkpoint, config, bool(run.get('zero_centering')))


# Fields of a run on single frames that its inflated net has of its own.
_IN_TIME = (
  *('stem_conv_temporal_kernel_size', 'stem_conv_temporal_stride'),
  *('temporal_kernel_sizes', 'temporal_strides', 'temporal_kernel_blocks'),
)


def _leave(
  checkpoint: str, config: Any, zero_centering: bool, needed: Collection[str] = ()
) -> None:
  """Says what tasks have to be to mean the same, and leaves it beside the checkpoint."""
  from official.video.backbones import families
  from official.video.checkpoints import origin

  family, kept = config.type, config.get().as_dict()
  usual = families.of(family).get().as_dict()
  named = {n: x for n, x in kept.items() if n in needed or x != usual[n]}
  paths = {f'model.backbone.{family}.{name}': x for name, x in named.items()}
  if family != families.Backbone().type or paths:
    paths = {'model.backbone.type': family, **paths}
  told = origin.written_overrides({**paths, 'zero_centering': zero_centering})
  print(f'tasks that start from it need --params_override={told}')
  origin.write_converted(checkpoint, family, kept, zero_centering=zero_centering)


def main(argv: Sequence[str]) -> None:
  """Converts."""
  del argv
  from official.video.backbones import factory, families
  from official.video.checkpoints import saved, tensor_file
  from official.video.settings import experiment

  saved.check_new(FLAGS.checkpoint)
  if os.path.isdir(FLAGS.source):
    given = {
      'backbone': FLAGS.backbone != 'resnet_3d',
      'prefix': bool(FLAGS.prefix),
      'pixels': FLAGS.pixels is not None,
      'zero_centering': FLAGS.zero_centering,
    }
    overrides = FLAGS.params_override
    _convert_run(FLAGS.source, FLAGS.checkpoint, FLAGS.inflation, overrides, given)
    return
  tensors = tensor_file.read_tensors(FLAGS.source)
  needed = fields_of(tensors, FLAGS.backbone, FLAGS.pixels, FLAGS.zero_centering)
  config = families.of(FLAGS.backbone, **needed)
  asked = families.of(FLAGS.backbone, **needed).get()
  if FLAGS.params_override:
    experiment.apply_overrides(config.get(), FLAGS.params_override, '--params_override')
  for name in ('symmetric_padding', 'strided_convolution'):
    if (here := getattr(config.get(), name, None)) != (
      there := getattr(asked, name, None)
    ):
      raise UserError(
        f'--params_override {name}={here}: that of the file is {there}, and with another its '
        'weights compute something else; leave it out'
      )
  backbone = factory.build_backbone(config)
  others = load(
    backbone, FLAGS.backbone, FLAGS.source, FLAGS.inflation, FLAGS.prefix, FLAGS.pixels
  )
  saved.write_converted(FLAGS.checkpoint, FLAGS.source, others, backbone)
  _leave(FLAGS.checkpoint, config, FLAGS.zero_centering, needed)


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

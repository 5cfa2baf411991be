r"""Starts a 3D residual net from the weights of one for images: inflation.

  python -m official.video.checkpoints.from_image_resnet --source=resnet50.safetensors \
    --checkpoint=/inflated/ckpt

Reads PyTorch's layout (torchvision's and timm's names, bare or behind a prefix such as MoCo's
`module.encoder_q.`, or numbered as in a sequence; .safetensors or .pth; no code in the file
is executed), Keras Applications' ResNet50, 101 and 152 (.h5, .keras), and the Model Garden's
image checkpoints. A kernel gets its time by --inflation: `average`, all frames
alike (I3D's rule), or `central_frame`. Batch norm is taken as it is, so a still clip is
mapped as its image is: everywhere by `central_frame`; by `average` where no window reaches
past the ends of the clip. PyTorch pads windows of stride 2 on both sides, resnet_3d (as the
Model Garden) at the end; both see the same at sizes such as 225 or 257, at 224 windows lie a
pixel apart. The families r3d and r2plus1d pad as PyTorch does, and so does resnet_3d with
--params_override=symmetric_padding=true, which Keras' nets always get, with the strides
where they have them. An r2plus1d gets either sign of each map of a ResNet-18 or -34 in a
channel of its own, between the halves of its convolutions. A folder is a run of this library
on single frames, whose resnet_3d has no kernel in time (cvrl/pretrain_kinetics600_frames).

What the pixels were that the net for images was trained on (--pixels) goes into its first
convolution and batch norm, so that it is shown [0, 1], or with --zero_centering [-1, 1], as
tasks do; cells at the border, where windows reach past the image, see black in the place of
the mean colour. The checkpoint holds `backbone`; name it by task.init_checkpoint.
"""

import importlib
import os
import re
from collections.abc import Mapping, Sequence
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
    '.safetensors, .pth, .h5, .keras, the prefix of a checkpoint, or the folder of a run.',
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
    "the Model Garden, MoCo), [0, 1] (SimCLR), [-1, 1], or caffe's, which is the default for "
    "Keras' files and imagenet for others.",
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
  if _KERAS_SIGN in tensors:
    return _of_keras(tensors)
  blocks = [match for key in tensors if (match := _GARDEN.fullmatch(key))]
  if any(match[3].startswith('_conv1/') for match in blocks):
    return _of_garden(tensors, source)
  tensors, numbered = _unnumbered(tensors), tensors
  found = sorted(key[: -len(_SIGN)] for key in tensors if key.endswith(_SIGN))
  if prefix:
    found = [one for one in found if one.startswith(prefix)]
  if not found:
    raise UserError(
      f'{source}: no key {prefix}...{_SIGN}; expected a residual net for images with '
      "torchvision's names, or of Keras Applications or the Model Garden; it holds "
      f'{", ".join(list(numbered)[:3])}'
    )
  if len(found) > 1:
    raise UserError(
      f'{source}: holds {len(found)} nets, {", ".join(found)}; name one by --prefix'
    )
  (begin,) = found
  own = {k.removeprefix(begin): v for k, v in tensors.items() if k.startswith(begin)}
  net = {key: value for key, value in own.items() if _OF_NET.match(key)}
  _check_plain(net, source)
  return net, [key for key in tensors if key.removeprefix(begin) not in net]


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


def shown_other_pixels(
  net: Mapping[str, np.ndarray], pixels: str, zero_centering: bool = False
) -> dict[str, np.ndarray]:
  """The same function of other pixels, but at the border of an image.

  Args:
    net: see `image_net`.
    pixels: of `PIXELS`, what the net was trained on.
    zero_centering: whether it is shown [-1, 1]; else [0, 1].
  """
  mean, deviation = (np.array(x, np.float32)[:, None, None] for x in PIXELS[pixels])
  half = 0.5 if zero_centering else 0.0
  kernel = net['conv1.weight']
  # Its kernel sees blue first.
  scaled = (kernel[:, ::-1] if pixels == 'caffe' else kernel) / deviation
  # The convolution of what stays the same everywhere is a constant a channel.
  constant = (scaled * (mean - half)).sum((1, 2, 3))
  return {
    **net,
    'conv1.weight': scaled * (0.5 if zero_centering else 1.0),
    'bn1.running_mean': net['bn1.running_mean'] + constant,
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


def fields_of(tensors: Mapping[str, np.ndarray], family: str) -> dict[str, Any]:
  """Fields of a family without which it is another function of a file's net.

  Args:
    tensors: of the file.
    family: of `FAMILIES`.

  Raises:
    UserError: nothing makes it the same function.
  """
  if family in REFUSED:
    raise UserError(
      f'--backbone {family}: {REFUSED[family]}, so no residual net is one; use one of '
      f'{", ".join(FAMILIES)}'
    )
  keras = _KERAS_SIGN in tensors
  if family == 'resnet_3d':
    return {'strided_convolution': 'first', 'symmetric_padding': True} if keras else {}
  bottleneck = re.compile(r'\d\.0\.conv3\.weight$|_conv3/kernel')
  if keras or any(bottleneck.search(key) for key in tensors):
    raise UserError(
      f'--backbone {family}: has basic blocks, the file bottlenecks; use resnet_3d'
    )
  if family == 'r3d':
    return {}
  pattern = re.compile(r'(?:^|\.)layer(\d)\.(\d+)\.conv1\.weight')
  found = {
    match.groups() for key in _unnumbered(tensors) if (match := pattern.search(key))
  }
  stages = [stage for stage, _ in found]
  counts = tuple(stages.count(stage) for stage in sorted(set(stages)))
  return {**_SPLIT, **({'stage_blocks': counts} if counts else {})}


def load(
  backbone: Any,
  family: str,
  source: str,
  how: str = 'average',
  prefix: str = '',
  pixels: str | None = None,
  zero_centering: bool = False,
) -> list[str]:
  """Gives a built backbone the weights of a residual net for images.

  Args:
    backbone: of a family of `FAMILIES`, with the fields that `fields_of` tells.
    family: its name.
    source: .safetensors, .pth, .h5, .keras, or the prefix of a checkpoint.
    how: one of `from_image_vit.INFLATIONS`.
    prefix: see `image_net`.
    pixels: see `shown_other_pixels`; None for what the kind of file has.
    zero_centering: see there.

  Returns:
    Keys that were not used, such as the classifier's.

  Raises:
    UserError: the file is of another kind, or of another net.
  """
  from official.video.checkpoints import pytorch_mapping, tensor_file

  tensors = tensor_file.read_tensors(source)
  fields_of(tensors, family)  # Or nothing makes it the same.
  keras = _KERAS_SIGN in tensors
  net, others = image_net(tensors, source, prefix)
  module = importlib.import_module(f'official.video.backbones.{family}')
  mapping = module.pytorch_layers(backbone)
  _check_strides(backbone, family, keras, source)
  net = shown_other_pixels(
    net, pixels or ('caffe' if keras else 'imagenet'), zero_centering
  )
  if keras:
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
  from official.video.checkpoints import saved
  from official.video.settings import experiment

  for name in (name for name, was in given.items() if was):
    raise UserError(
      f'--{name}: of a run, as {source} is, a resnet_3d is inflated with the pixels '
      'that it was shown; leave it out'
    )
  config = families.of('resnet_3d')
  if overrides:
    experiment.apply_overrides(config.get(), overrides, '--params_override')
  backbone = factory.build_backbone(config)
  load_frames(backbone, config, source, how)
  saved.write_converted(checkpoint, source, [], backbone)


def main(argv: Sequence[str]) -> None:
  """Converts."""
  del argv
  from official.video.backbones import factory, families
  from official.video.checkpoints import origin, saved, tensor_file
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
  needed = fields_of(tensor_file.read_tensors(FLAGS.source), FLAGS.backbone)
  config = families.of(FLAGS.backbone, **needed)
  if FLAGS.params_override:
    experiment.apply_overrides(config.get(), FLAGS.params_override, '--params_override')
  backbone = factory.build_backbone(config)
  others = load(
    backbone,
    FLAGS.backbone,
    FLAGS.source,
    FLAGS.inflation,
    FLAGS.prefix,
    FLAGS.pixels,
    FLAGS.zero_centering,
  )
  saved.write_converted(FLAGS.checkpoint, FLAGS.source, others, backbone)
  if needed:
    kept = {name: getattr(config.get(), name) for name in needed}
    paths = {f'model.backbone.{FLAGS.backbone}.{name}': x for name, x in kept.items()}
    told = origin.written_overrides({'model.backbone.type': FLAGS.backbone, **paths})
    print(f'tasks that start from it need --params_override={told}')
    centred = FLAGS.zero_centering
    origin.write_converted(FLAGS.checkpoint, FLAGS.backbone, kept, zero_centering=centred)


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

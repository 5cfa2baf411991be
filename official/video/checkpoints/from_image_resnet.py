r"""Starts a 3D residual net from the weights of one for images: inflation.

  python -m official.video.checkpoints.from_image_resnet --source=resnet50.safetensors \
    --checkpoint=/inflated/ckpt

Reads PyTorch's layout (torchvision's and timm's names, bare or behind a prefix such as MoCo's
`module.encoder_q.`; .safetensors or .pth; no code in the file is executed), and the Model
Garden's image checkpoints. A kernel gets its time by --inflation: `average`, all frames
alike (I3D's rule), or `central_frame`. Batch norm is taken as it is, so a still clip is
mapped as its image is: everywhere by `central_frame`; by `average` where no window reaches
past the ends of the clip. PyTorch pads windows of stride 2 on both sides, resnet_3d (as the
Model Garden) at the end; both see the same at sizes such as 225 or 257, at 224 windows lie a
pixel apart. The family r3d pads as PyTorch does. What the pixels were that the net for images
was trained on (--pixels) goes into its first convolution and batch norm, so that it is shown
[0, 1], or with --zero_centering [-1, 1], as tasks do; cells at the border, where windows reach
past the image, see black in the place of the mean colour. The checkpoint holds `backbone`;
name it by task.init_checkpoint.
"""

import importlib
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
FAMILIES = ('resnet_3d', 'r3d')
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
    'source', None, '.safetensors, .pth, or the prefix of a checkpoint.', required=True
  )
  flags.DEFINE_string('checkpoint', None, 'Prefix to write.', required=True)
  flags.DEFINE_enum('backbone', 'resnet_3d', FAMILIES, 'The family to start.')
  flags.DEFINE_enum(
    'inflation', 'average', from_image_vit.INFLATIONS, 'How kernels get their time.'
  )
  flags.DEFINE_enum(
    'pixels',
    'imagenet',
    list(PIXELS),
    "What the net was trained on: less ImageNet's mean, by its deviation (torchvision, timm, "
    'the Model Garden, MoCo), [0, 1] (SimCLR), or [-1, 1].',
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
  blocks = [match for key in tensors if (match := _GARDEN.fullmatch(key))]
  if any(match[3].startswith('_conv1/') for match in blocks):
    return _of_garden(tensors, source)
  found = sorted(key[: -len(_SIGN)] for key in tensors if key.endswith(_SIGN))
  if prefix:
    found = [one for one in found if one.startswith(prefix)]
  if not found:
    raise UserError(
      f'{source}: no key {prefix}...{_SIGN}; expected a residual net for images with '
      f"torchvision's names, or of the Model Garden; it holds {', '.join(list(tensors)[:3])}"
    )
  if len(found) > 1:
    raise UserError(
      f'{source}: holds {len(found)} nets, {", ".join(found)}; name one by --prefix'
    )
  (begin,) = found
  own = {k.removeprefix(begin): v for k, v in tensors.items() if k.startswith(begin)}
  net = {key: value for key, value in own.items() if _OF_NET.match(key)}
  return net, [key for key in tensors if key.removeprefix(begin) not in net]


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
  scaled = net['conv1.weight'] / deviation
  # The convolution of what stays the same everywhere is a constant a channel.
  constant = (scaled * (mean - half)).sum((1, 2, 3))
  return {
    **net,
    'conv1.weight': scaled * (0.5 if zero_centering else 1.0),
    'bn1.running_mean': net['bn1.running_mean'] + constant,
  }


def load(
  backbone: Any,
  family: str,
  source: str,
  how: str = 'average',
  prefix: str = '',
  pixels: str = 'imagenet',
  zero_centering: bool = False,
) -> list[str]:
  """Gives a built backbone the weights of a residual net for images.

  Args:
    backbone: of a family of `FAMILIES`.
    family: its name.
    source: .safetensors, .pth, or the prefix of a checkpoint.
    how: one of `from_image_vit.INFLATIONS`.
    prefix: see `image_net`.
    pixels: see `shown_other_pixels`.
    zero_centering: see there.

  Returns:
    Keys that were not used, such as the classifier's.

  Raises:
    UserError: the file is of another kind, or of another net.
  """
  from official.video.checkpoints import pytorch_mapping, tensor_file

  net, others = image_net(tensor_file.read_tensors(source), source, prefix)
  module = importlib.import_module(f'official.video.backbones.{family}')
  mapping = module.pytorch_layers(backbone)
  net = shown_other_pixels(net, pixels, zero_centering)
  assignments, unmatched = pytorch_mapping.convert(inflated(net, mapping, how), mapping)
  if unmatched:
    raise UserError(
      f'{source}: does not match the {family} ({unmatched}); set its depth and width by '
      '--params_override=model_id=...,width_multiplier=...'
    )
  pytorch_mapping.apply(assignments)
  return others


def main(argv: Sequence[str]) -> None:
  """Converts."""
  del argv
  from official.video.backbones import factory, families
  from official.video.checkpoints import saved
  from official.video.settings import experiment

  config = families.Backbone(type=FLAGS.backbone)
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


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

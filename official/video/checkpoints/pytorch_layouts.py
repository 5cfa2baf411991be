"""Names that public PyTorch libraries give to nets of our families, and what those expect.

A layout renames the modules of a family. Weights are taken as they are, so what else makes
the function is a matter of configuration: fields of the backbone (pixels' normalization
among them) and batch norm's epsilon. What of it the shapes of a file tell is read off them,
the rest is what the library has.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from official.video.checkpoints import pixels, vit_layouts
from official.video.errors import UserError

Tensors = Mapping[str, np.ndarray]

# The names of CSTP's originals, which are those of our families' own layers.
OWN = 'cstp'
_FULL_WIDTH = 64
_KINETICS = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
_SLOWFAST = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
_RES2_POOL = 'res2_pool_temporal_stride'
_BRANCHES = {'1': 'a', '2': 'b', '3': 'c'}


@dataclasses.dataclass(frozen=True)
class Layout:
  """How a library names a family, and what its net computes with.

  Attributes:
    name: of the library.
    family: of ours.
    sign: a key by which its files are known.
    public: one of our modules by its name there.
    fields: of our family, as the shapes of a file tell them and the library has them.
    fixed: fields that no shape tells; a net with others is none of the library's.
    classifier: pattern of what the keys of its classifier begin with.
    head: the module of the classifier, where it is a dense layer on the mean of the last
      map; '' where it is something else.
    pixels: mean and deviation of pixels in [0, 1].
    epsilon: of batch norm; 0 where there is none.
    wrapper: the name under which its files hold the state dict; '' for none.
    other: why a config with the fixed fields is of none of its nets all the same.
  """

  name: str
  family: str
  sign: str
  public: Callable[[str, Any], str]
  fields: Callable[[Tensors], dict[str, Any]]
  fixed: Mapping[str, Any]
  classifier: str
  head: str = ''
  pixels: tuple[Sequence[float], Sequence[float]] = _KINETICS
  epsilon: float = 1e-5
  wrapper: str = ''
  other: Callable[[Any], str] = lambda config: ''

  @property
  def title(self) -> str:
    """For messages."""
    return f'{self.name} {self.family}'

  def config_of(self, tensors: Tensors) -> dict[str, Any]:
    """All fields of our family that make the function of a file's net.

    Raises:
      UserError: the file is of a net that our family can't be.
    """
    try:
      read = self.fields(tensors)
    except (KeyError, IndexError) as error:
      raise UserError(
        f"the keys are {self.name}'s of a {self.family}, but {error} is missing"
      ) from error
    mean, deviation = self.pixels
    return {**self.fixed, **read, 'pixel_mean': mean, 'pixel_deviation': deviation}

  def misfit(self, config: Any, epsilon: float, activation: str = 'relu') -> str:
    """Why a net of ours is none of the library's; '' where it is one.

    Args:
      config: of the family.
      epsilon: of its batch norm.
      activation: of its layers.
    """
    for name, value in self.fixed.items():
      seen = getattr(config, name)
      if _plain(seen) != _plain(value):
        return f'{name} is {_shown(seen)}, there {_shown(value)}'
    if self.epsilon and epsilon != self.epsilon:
      return f'norm_epsilon is {epsilon:g}, there {self.epsilon:g}'
    if self.epsilon and activation != 'relu':
      return f'the activation is {activation}, there relu'
    return self.other(config)

  def renamed(self, layers: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Layers by the library's modules, of layers by ours.

    Args:
      layers: see the family's `pytorch_layers`.
      config: of the family.
    """
    # One of our families has layers under the names of their stages too.
    own = {name: x for name, x in layers.items() if not re.match(r'block\d\.', name)}
    return {self.public(name, config): layer for name, layer in own.items()}

  def head_of(self, config: Any) -> str:
    """The module of the classifier in a net of a family's config."""
    return self.head.format(last=6 if getattr(config, _RES2_POOL, 1) > 1 else 5)

  def split(self, tensors: Tensors) -> tuple[dict[str, np.ndarray], list[str]]:
    """The tensors of the net by key, and the keys of its classifier."""
    others = [key for key in tensors if re.match(self.classifier, key)]
    return {key: x for key, x in tensors.items() if key not in others}, others


def _plain(value: Any) -> Any:
  return list(value) if isinstance(value, tuple | list) else value


def _shown(value: Any) -> str:
  return str(_plain(value)).lower() if isinstance(value, bool) else str(_plain(value))


def _substituted(name: str, rules: Sequence[tuple[str, str]]) -> str:
  """The first rule that fits the whole name."""
  for pattern, new in rules:
    if match := re.fullmatch(pattern, name):
      return match.expand(new)
  raise ValueError(f'{name}: no rule renames it')


# --- torchvision ----------------------------------------------------------------------

_R3D = (
  (r'conv1', r'stem.0'),
  (r'bn1', r'stem.1'),
  (r'(layer\d\.\d+)\.conv(\d)', r'\1.conv\2.0'),
  (r'(layer\d\.\d+)\.bn(\d)', r'\1.conv\2.1'),
  (r'(layer\d\.\d+\.downsample\.\d)', r'\1'),
)
_SPLIT = {'spatial_conv': '0', 'bn': '1', 'temporal_conv': '3'}


def _r3d(name: str, config: Any) -> str:
  del config
  return _substituted(name, _R3D)


def _other_than_r3d(config: Any) -> str:
  kernels = tuple(config.temporal_kernel_sizes)
  if config.stem_conv_temporal_kernel_size != 3 or set(kernels) - {1, 3}:
    return 'stem_conv_temporal_kernel_size is 3 there, and temporal_kernel_sizes 1 or 3'
  if tuple(config.temporal_strides) != _strides_of(kernels):
    return f'temporal_strides are {list(_strides_of(kernels))} there'
  return ''


def _other_than_r2plus1d(config: Any) -> str:
  return '' if config.stem_mid_filters else 'stem_mid_filters is 0, there 45'


def _r2plus1d(name: str, config: Any) -> str:
  """'conv2.blocks.0.conv1.bn' becomes 'layer1.1.conv1.0.1'."""
  del config
  if name == 'bn1':
    return 'stem.4'
  if match := re.fullmatch(r'conv1\.(\w+)', name):
    return f'stem.{_SPLIT[match[1]]}'
  match = re.fullmatch(r'conv(\d)\.(?:block1|blocks\.(\d+))\.(.+)', name)
  assert match, name
  number = 0 if match[2] is None else int(match[2]) + 1
  return f'layer{int(match[1]) - 1}.{number}.{_of_split_block(match[3])}'


def _of_split_block(part: str) -> str:
  plain = {'downsampleconv': 'downsample.0', 'downsamplebn': 'downsample.1'}
  if part in plain:
    return plain[part]
  if match := re.fullmatch(r'bn(\d)', part):
    return f'conv{match[1]}.1'
  conv, _, half = part.partition('.')
  return f'{conv}.0.{_SPLIT[half]}'


# Poolings have numbers too.
_FEATURES = {
  **{'Conv_1a': 0, 'Conv_2b': 2, 'Conv_2c': 3, 'Mixed_3b': 5, 'Mixed_3c': 6},
  **{f'Mixed_4{letter}': n for n, letter in enumerate('bcdef', 8)},
  **{'Mixed_5b': 14, 'Mixed_5c': 15},
}
_S3D = (
  (r'branch0\.0\.conv', r'branch0.0'),
  (r'branch0\.0\.bn', r'branch0.1'),
  (r'(.*?)\.?conv', r'\1.0'),
  (r'(.*?)\.?bn', r'\1.1'),
  (r'(.*?)\.?conv1', r'\1.0.0'),
  (r'(.*?)\.?bn1', r'\1.0.1'),
  (r'(.*?)\.?conv2', r'\1.1.0'),
  (r'(.*?)\.?bn2', r'\1.1.1'),
)


def _s3d(name: str, config: Any) -> str:
  """'Mixed_3b.branch1.1.conv1' becomes 'features.5.branch1.1.0.0'."""
  del config
  unit, _, rest = name.partition('.')
  return f'features.{_FEATURES[unit]}.{_substituted(rest, _S3D).lstrip(".")}'


def _width(kernel: np.ndarray) -> float:
  return kernel.shape[0] / _FULL_WIDTH


def _block_counts(tensors: Tensors, pattern: str) -> tuple[int, ...]:
  """Blocks of each stage, by a pattern of stage and number in the first of a block's keys."""
  found: dict[int, set[int]] = {}
  for key in tensors:
    if match := re.match(pattern, key):
      found.setdefault(int(match[1]), set()).add(int(match[2]))
  return tuple(len(found[stage]) for stage in sorted(found))


def _depth(counts: tuple[int, ...], known: Mapping[int, Any], what: str) -> int:
  for depth, repeats in known.items():
    if tuple(repeats) == counts:
      return depth
  raise UserError(f'a {what} of {list(counts)} blocks; known are {list(known)} layers')


def _fields_of_r3d(tensors: Tensors) -> dict[str, Any]:
  from official.video.backbones import r3d

  counts = _block_counts(tensors, r'layer(\d)\.(\d+)\.conv1\.0\.weight')
  kernels = tuple(
    tensors[f'layer{stage}.0.conv1.0.weight'].shape[2] for stage in range(1, 5)
  )
  stem = tensors['stem.0.weight']
  return {
    'model_id': _depth(counts, r3d.DEPTHS, 'r3d'),
    'width_multiplier': _width(stem),
    'stem_conv_temporal_kernel_size': stem.shape[2],
    'temporal_kernel_sizes': kernels,
    'temporal_strides': _strides_of(kernels),
  }


def _strides_of(kernels: Sequence[int]) -> tuple[int, ...]:
  """What sees one frame keeps all of them."""
  return (1, *(2 if size > 1 else 1 for size in kernels[1:]))


def _fields_of_r2plus1d(tensors: Tensors) -> dict[str, Any]:
  width = _width(tensors['stem.3.weight'])
  return {
    'width_multiplier': width,
    'stage_blocks': _block_counts(tensors, r'layer(\d)\.(\d+)\.conv1\.1\.weight'),
    'stem_mid_filters': round(tensors['stem.0.weight'].shape[0] / width),
  }


def _fields_of_s3d(tensors: Tensors) -> dict[str, Any]:
  return {'width_multiplier': _width(tensors['features.0.0.0.weight'])}


# --- SlowFast and PyTorchVideo --------------------------------------------------------


def _slowfast(name: str, config: Any) -> str:
  """'layer1.0.conv2' becomes 's2.pathway0_res0.branch2.b'."""
  del config
  if name in ('conv1', 'bn1'):
    return f's1.pathway0_stem.{name[:-1]}'
  stage, number, part = _block_of(name)
  begin = f's{stage + 1}.pathway0_res{number}'
  if part.startswith('downsample'):
    return f'{begin}.branch1{"_bn" if part.endswith("1") else ""}'
  branch = f'{begin}.branch2.{_BRANCHES[part[-1]]}'
  return f'{branch}_bn' if part.startswith('bn') else branch


def _pytorchvideo(name: str, config: Any) -> str:
  """'layer1.0.conv2' becomes 'blocks.1.res_blocks.0.branch2.conv_b'."""
  if name in ('conv1', 'bn1'):
    return 'blocks.0.conv' if name == 'conv1' else 'blocks.0.norm'
  stage, number, part = _block_of(name)
  # The pooling is a block there.
  place = stage + (stage > 1 and config.res2_pool_temporal_stride > 1)
  begin = f'blocks.{place}.res_blocks.{number}'
  if part.startswith('downsample'):
    return f'{begin}.branch1_{"norm" if part.endswith("1") else "conv"}'
  kind = 'norm' if part.startswith('bn') else 'conv'
  return f'{begin}.branch2.{kind}_{_BRANCHES[part[-1]]}'


def _block_of(name: str) -> tuple[int, int, str]:
  match = re.fullmatch(r'layer(\d)\.(\d+)\.(.+)', name)
  assert match, name
  return int(match[1]), int(match[2]), match[3]


def _other_than_slow(config: Any) -> str:
  from official.video.backbones import resnet_3d

  if not resnet_3d.DEPTHS[config.model_id][0]:
    return f'model_id {config.model_id} has basic blocks, which see other frames there'
  pool = config.res2_pool_temporal_stride
  return f'{_RES2_POOL} is {pool}, there 1 or 2' if pool > 2 else ''


def _fields_of_slow(stem: np.ndarray, kernels: Sequence[Sequence[int]]) -> dict[str, Any]:
  """Fields of the stem's kernel and the blocks' temporal kernels, stage by stage."""
  from official.video.backbones import resnet_3d

  depths = {
    depth: repeats
    for depth, (bottleneck, repeats) in resnet_3d.DEPTHS.items()
    if bottleneck
  }
  counts = tuple(map(len, kernels))
  return {
    'model_id': _depth(counts, depths, 'resnet_3d of bottlenecks'),
    'width_multiplier': _width(stem),
    'stem_conv_temporal_kernel_size': stem.shape[2],
    'temporal_kernel_sizes': tuple(map(max, kernels)),
    'temporal_kernel_blocks': tuple(map(_blocks_with_kernel, kernels)),
  }


def _blocks_with_kernel(sizes: Sequence[int]) -> str:
  """Which of a stage's blocks see more frames than one, as our field has it."""
  from official.video.backbones import resnet_3d

  largest = max(sizes)
  for name, remainders in resnet_3d.KERNEL_BLOCKS.items():
    if all(
      size == (largest if i % 2 in remainders else 1) for i, size in enumerate(sizes)
    ):
      return name
  raise UserError(f'blocks of a stage see {list(sizes)} frames, which no field expresses')


def _fields_of_slowfast(tensors: Tensors) -> dict[str, Any]:
  if other := next((key for key in tensors if '.pathway1_' in key), ''):
    raise UserError(
      f'{other}: the net has two pathways; only those of one are a resnet_3d'
    )
  pattern = r's(\d)\.pathway0_res(\d+)\.branch2\.a\.weight'
  counts = _block_counts(tensors, pattern)
  kernels = [
    [tensors[f's{stage}.pathway0_res{i}.branch2.a.weight'].shape[2] for i in range(count)]
    for stage, count in enumerate(counts, 2)
  ]
  found = _fields_of_slow(tensors['s1.pathway0_stem.conv.weight'], kernels)
  # No key tells; of the repository's nets, C2D's and I3D's have it and Slow has not.
  slow = found['temporal_kernel_sizes'][0] == 1 < max(found['temporal_kernel_sizes'])
  return {**found, 'res2_pool_temporal_stride': 1 if slow else 2}


def _fields_of_pytorchvideo(tensors: Tensors) -> dict[str, Any]:
  pattern = r'blocks\.(\d+)\.res_blocks\.(\d+)\.branch2\.conv_a\.weight'
  matches = (re.match(pattern, key) for key in tensors)
  places = sorted({int(match[1]) for match in matches if match})
  kernels = [
    [
      tensors[f'blocks.{place}.res_blocks.{i}.branch2.conv_a.weight'].shape[2]
      for i in range(count)
    ]
    for place, count in zip(places, _block_counts(tensors, pattern), strict=True)
  ]
  found = _fields_of_slow(tensors['blocks.0.conv.weight'], kernels)
  return {**found, 'res2_pool_temporal_stride': 2 if places[1:2] == [3] else 1}


# --- Hugging Face ---------------------------------------------------------------------

_VIVIT = vit_layouts.HUGGING_FACE


def _vivit(name: str, config: Any) -> str:
  del config
  return _VIVIT.module(name)


def _fields_of_vivit(tensors: Tensors) -> dict[str, Any]:
  del tensors
  raise UserError(
    'a transformer, whose table of positions is resampled; convert it by python -m '
    'official.video.checkpoints.from_image_vit'
  )


_SLOW_FIXED: Mapping[str, Any] = {
  'symmetric_padding': True,
  'stem_conv_temporal_stride': 1,
  'stem_pool_temporal_stride': 1,
  'temporal_strides': (1, 1, 1, 1),
  'spatial_strides': (1, 2, 2, 2),
  'spatial_dilations': (1, 1, 1, 1),
  'strided_convolution': 'spatial',
}

LAYOUTS: tuple[Layout, ...] = (
  Layout(
    'torchvision',
    'r2plus1d',
    'stem.3.weight',
    _r2plus1d,
    _fields_of_r2plus1d,
    {'mid_width': 'block', 'shortcut': 'plain', 'stem_pool': False},
    r'fc\.',
    'fc',
    other=_other_than_r2plus1d,
  ),
  Layout(
    'torchvision',
    'r3d',
    'stem.0.weight',
    _r3d,
    _fields_of_r3d,
    {'stem_pool': False, 'shortcut_type': 'B'},
    r'fc\.',
    'fc',
    other=_other_than_r3d,
  ),
  Layout(
    'torchvision',
    's3d',
    'features.0.0.0.weight',
    _s3d,
    _fields_of_s3d,
    {'gating': False, 'slow': False},
    r'classifier\.',
    epsilon=1e-3,
  ),
  Layout(
    'slowfast',
    'resnet_3d',
    's1.pathway0_stem.conv.weight',
    _slowfast,
    _fields_of_slowfast,
    _SLOW_FIXED,
    r'head\.',
    'head.projection',
    pixels=_SLOWFAST,
    wrapper='model_state',
    other=_other_than_slow,
  ),
  Layout(
    'pytorchvideo',
    'resnet_3d',
    'blocks.0.conv.weight',
    _pytorchvideo,
    _fields_of_pytorchvideo,
    _SLOW_FIXED,
    r'blocks\.[56]\.proj\.',
    'blocks.{last}.proj',
    pixels=_SLOWFAST,
    wrapper='model_state',
    other=_other_than_slow,
  ),
  Layout(
    'huggingface',
    'video_vit',
    _VIVIT.sign,
    _vivit,
    _fields_of_vivit,
    {
      **{'num_groups': 0, 'norm_epsilon': 1e-6, **_VIVIT.fields_of_videos},
      **{'cls_token': True, 'positions': 'learned', 'pre_norm': False},
      'final_norm': 'tokens',
    },
    '',
    pixels=pixels.PIXELS[_VIVIT.pixels],
    epsilon=0.0,
  ),
)
NAMES = (OWN, *dict.fromkeys(layout.name for layout in LAYOUTS))


def recognized(tensors: Tensors) -> Layout | None:
  """The layout of a file's keys; None for those that are none of `LAYOUTS`."""
  for layout in LAYOUTS:
    if any(layout.sign in (key, key.partition('.')[2]) for key in tensors):
      return layout
  return None


def of(name: str, family: str) -> Layout:
  """A library's layout of a family.

  Raises:
    UserError: it has no such net.
  """
  for layout in LAYOUTS:
    if (layout.name, layout.family) == (name, family):
      return layout
  known = ', '.join(layout.name for layout in LAYOUTS if layout.family == family)
  raise UserError(
    f'--layout {name}: names no {family}; of a {family} there are '
    f'{OWN}{", " if known else ""}{known}'
  )

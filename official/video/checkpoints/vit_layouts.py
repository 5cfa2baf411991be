"""The layouts in which vision transformers are published, and what their files tell.

A layout says by which keys it keeps the parts of a `VideoViT`: 'cls', 'position', 'kernel',
'bias', the norms 'pre_norm' and 'norm', and of block N 'N.attention_norm', 'N.query' and so
on, whose weights are 'N.query.kernel' and 'N.query.bias'.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from official.video.errors import UserError

# The heads of published transformers are 64 wide, but for those of these widths.
_HEAD_WIDTH = 64
_HEADS = {1280: 16, 1408: 16, 1664: 16}
_ATTENTION = ('query', 'key', 'value')
# Tubelets of an image's transformer in time, and of VideoMAE's, whose table is in no file.
_FRAMES, _GRID_FRAMES = 2, 16
_VIDEOMAE_GRID = (8, 14, 14)
Row = tuple[str, Callable[[np.ndarray], np.ndarray]]


def _same(x: np.ndarray) -> np.ndarray:
  return x


@dataclasses.dataclass(frozen=True)
class Layout:
  """The keys of one layout, behind a prefix.

  Attributes:
    name: for messages.
    sign: a key that all files of the layout have.
    keys: of class token, positions, the patches' convolution and the norms; what a layout
      never has is left out.
    block: what the keys of block {} begin with.
    parts: keys of a block's layers, behind that.
    own: what keys of the transformer begin with; one that is not taken is refused.
    fused: query, key and value in one, as 'parts'; '' where they are apart.
    fused_joint: between these and their weights.
    pixels: what its nets were trained on, of `pixels.PIXELS`.
    fields: of the backbone, that its files do not show.
    fields_of_videos: those of its transformers for videos that have a table.
    needed: keys that another family with the same sign lacks.
    classifier: the key of its dense layer over classes; '' where there never is one.
    kernel: how kernels are called.
    scale: how the scales of norms are.
    joint: what stands before these.
    transposed: whether kernels are [out, in], and convolutions [D, C, ...].
  """

  name: str
  sign: str
  keys: Mapping[str, str]
  block: str
  parts: Mapping[str, str]
  own: tuple[str, ...]
  fused: str = ''
  fused_joint: str = '.'
  pixels: str = 'centred'
  fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  fields_of_videos: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  needed: tuple[str, ...] = ()
  classifier: str = ''
  kernel: str = 'weight'
  scale: str = 'weight'
  joint: str = '.'
  transposed: bool = True

  def module(self, name: str) -> str:
    """The key of a layer of a `VideoViT`, without a prefix and what its weights are called.

    Args:
      name: by `names.modules`: 'embedding.tubelet', 'block_3.query', 'norm'.

    Raises:
      ValueError: the layout has no such layer.
    """
    match = re.fullmatch(r'block_(\d+)\.(\w+)', name)
    if match and match[2] in self.parts:
      return self.block.format(match[1]) + self.parts[match[2]]
    part = name if match else name.replace('tubelet', 'patches').split('.')[-1]
    if part not in self.keys:
      raise ValueError(f'{name}: {self.name} names have none')
    return self.keys[part]


_HF_PARTS = {
  'attention_norm': 'layernorm_before',
  'mlp_norm': 'layernorm_after',
  **{part: f'attention.attention.{part}' for part in _ATTENTION},
  'output': 'attention.output.dense',
  'mlp_1': 'intermediate.dense',
  'mlp_2': 'output.dense',
}
_TIMM_PARTS = {
  'attention_norm': 'norm1',
  'mlp_norm': 'norm2',
  'output': 'attn.proj',
  'mlp_1': 'mlp.fc1',
  'mlp_2': 'mlp.fc2',
}
_CLIP_PARTS = {
  'attention_norm': 'layer_norm1',
  'mlp_norm': 'layer_norm2',
  **{part: f'self_attn.{part[0]}_proj' for part in _ATTENTION},
  'output': 'self_attn.out_proj',
  'mlp_1': 'mlp.fc1',
  'mlp_2': 'mlp.fc2',
}
_OPENAI_PARTS = {
  'attention_norm': 'ln_1',
  'mlp_norm': 'ln_2',
  'output': 'attn.out_proj',
  'mlp_1': 'mlp.c_fc',
  'mlp_2': 'mlp.c_proj',
}
_CLIP_FIELDS = {'activation': 'quick_gelu', 'norm_epsilon': 1e-5}
_ORIGINAL_PARTS = {
  'attention_norm': 'LayerNorm_0',
  'mlp_norm': 'LayerNorm_2',
  **{part: f'MultiHeadDotProductAttention_1/{part}' for part in _ATTENTION},
  'output': 'MultiHeadDotProductAttention_1/out',
  'mlp_1': 'MlpBlock_3/Dense_0',
  'mlp_2': 'MlpBlock_3/Dense_1',
}
HUGGING_FACE = Layout(
  name="Hugging Face's",
  sign='embeddings.patch_embeddings.projection.weight',
  keys={
    'cls': 'embeddings.cls_token',
    'position': 'embeddings.position_embeddings',
    'patches': 'embeddings.patch_embeddings.projection',
    'norm': 'layernorm',
    'mean_norm': 'fc_norm',
  },
  block='encoder.layer.{}.',
  parts=_HF_PARTS,
  own=('embeddings.', 'encoder.layer.'),
  # ViViT's `gelu_fast`.
  fields_of_videos={'activation': 'gelu_tanh'},
  classifier='classifier',
)
LAYOUTS = (
  Layout(
    name="the original's",
    sign='Transformer/encoder_norm/scale',
    keys={
      'cls': 'cls',
      'position': 'Transformer/posembed_input/pos_embedding',
      'patches': 'embedding',
      'norm': 'Transformer/encoder_norm',
    },
    block='Transformer/encoderblock_{}/',
    parts=_ORIGINAL_PARTS,
    own=('Transformer/', 'embedding/'),
    kernel='kernel',
    scale='scale',
    joint='/',
    transposed=False,
  ),
  HUGGING_FACE,
  Layout(
    name="timm's",
    sign='patch_embed.proj.weight',
    keys={
      'cls': 'cls_token',
      'position': 'pos_embed',
      'patches': 'patch_embed.proj',
      'pre_norm': 'norm_pre',
      'norm': 'norm',
      'mean_norm': 'fc_norm',
    },
    block='blocks.{}.',
    parts=_TIMM_PARTS,
    own=(
      *('blocks.', 'patch_embed.', 'norm_pre.', 'cls_token', 'pos_embed'),
      *('dist_token', 'reg_token', 'register_tokens', 'time_embed', 'temporal_embed'),
    ),
    fused='attn.qkv',
    classifier='head',
  ),
  Layout(
    name="Hugging Face's CLIP",
    sign='embeddings.patch_embedding.weight',
    keys={
      'cls': 'embeddings.class_embedding',
      'position': 'embeddings.position_embedding.weight',
      'patches': 'embeddings.patch_embedding',
      'pre_norm': 'pre_layrnorm',
      'norm': 'post_layernorm',
    },
    block='encoder.layers.{}.',
    parts=_CLIP_PARTS,
    own=('embeddings.', 'encoder.layers.'),
    pixels='clip',
    fields=_CLIP_FIELDS,
    needed=('embeddings.class_embedding', 'pre_layrnorm.weight'),
  ),
  Layout(
    name="OpenAI's CLIP",
    sign='class_embedding',
    keys={
      'cls': 'class_embedding',
      'position': 'positional_embedding',
      'patches': 'conv1',
      'pre_norm': 'ln_pre',
      'norm': 'ln_post',
    },
    block='transformer.resblocks.{}.',
    parts=_OPENAI_PARTS,
    own=('transformer.', 'conv1.'),
    fused='attn.in_proj',
    fused_joint='_',
    pixels='clip',
    fields=_CLIP_FIELDS,
    needed=('conv1.weight', 'ln_pre.weight'),
  ),
)
# The text towers of CLIP, whose blocks have the names of its image towers'. Of them 'tokens'
# and 'position' are tables, and 'projection' a matrix beside the transformer.
TEXT_LAYOUTS = (
  Layout(
    name="Hugging Face's CLIP",
    sign='embeddings.token_embedding.weight',
    keys={
      'tokens': 'embeddings.token_embedding.weight',
      'position': 'embeddings.position_embedding.weight',
      'norm': 'final_layer_norm',
      'projection': 'text_projection.weight',
    },
    block='encoder.layers.{}.',
    parts=_CLIP_PARTS,
    own=('embeddings.', 'encoder.layers.'),
  ),
  Layout(
    name="OpenAI's CLIP",
    sign='token_embedding.weight',
    keys={
      'tokens': 'token_embedding.weight',
      'position': 'positional_embedding',
      'norm': 'ln_final',
      'projection': 'text_projection',
    },
    block='transformer.resblocks.{}.',
    parts=_OPENAI_PARTS,
    own=('transformer.',),
    fused='attn.in_proj',
    fused_joint='_',
  ),
)
_FREE = re.compile(r'mask_token$|position_ids$')


def variables_of_block(block: Any) -> dict[str, Any]:
  """Variables of a `video_vit.Block` by the parts of a layout: 'query.kernel' and so on."""
  found: dict[str, Any] = {}
  for name in ('attention_norm', 'mlp_norm'):
    layer = getattr(block, name)
    found[f'{name}.scale'], found[f'{name}.offset'] = layer.gamma, layer.beta
  for part in (*_ATTENTION, 'output', 'mlp_1', 'mlp_2'):
    layer = block.output_dense if part == 'output' else getattr(block, part)
    found[f'{part}.kernel'], found[f'{part}.bias'] = layer.kernel, layer.bias
  return found


@dataclasses.dataclass(frozen=True)
class Source:
  """A file's transformer.

  Attributes:
    path: of the file, for messages.
    tensors: all of the file by key.
    layout: theirs.
    prefix: what stands before the layout's keys.
  """

  path: str
  tensors: Mapping[str, np.ndarray]
  layout: Layout
  prefix: str

  def key(self, part: str) -> str:
    """The key of a part of `Layout.keys`."""
    return self.prefix + self.layout.keys.get(part, '?')

  def has(self, part: str) -> bool:
    """Whether the file holds class token, positions, or a norm."""
    return self.key(part) in self.tensors or bool(self._norm_key(part))

  def _norm_key(self, part: str) -> str:
    """The key of a norm without its weights; '' where there is none."""
    return self._beside(self.layout.keys.get(part, '?'), self.layout.scale)

  def _beside(self, name: str, weight: str) -> str:
    """The key of a layer that has a weight; '' where there is none.

    Hugging Face keeps norm of the mean and classifier beside the transformer, not in it.
    """
    outer = re.sub(r'[^.]+\.$', '', self.prefix)
    for key in (self.prefix + name, outer + name):
      if key + self.layout.joint + weight in self.tensors:
        return key
    return ''

  def classifier(self) -> tuple[np.ndarray, np.ndarray] | None:
    """Kernel `[D, classes]` and bias of a video net's classifier; None without one.

    Raises:
      UserError: it does not fit the net.
    """
    layout = self.layout
    key = layout.classifier and self._beside(layout.classifier, layout.kernel)
    if not key or not self.of_videos:
      return None
    kernel = self.tensors[key + layout.joint + layout.kernel]
    width = self.patches()[0].shape[-1]
    bias = self.tensors.get(f'{key}{layout.joint}bias')
    bias = np.zeros(len(kernel), np.float32) if bias is None else bias
    if kernel.ndim != 2 or kernel.shape[1] != width or bias.shape != kernel.shape[:1]:
      raise UserError(
        f'{self.path}: {key} is {list(kernel.shape)} with a bias of {list(bias.shape)}; '
        f'expected classes of {width} weights each'
      )
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
      raise UserError(
        f'{self.path}: {key} has numbers that are not finite; copy it again'
      )
    return kernel.T, bias

  def is_classifiers(self, key: str) -> bool:
    """Whether a key is one of the classifier's."""
    begin = self._beside(self.layout.classifier, self.layout.kernel)
    return bool(begin) and key.startswith(begin + self.layout.joint)

  @property
  def kernel_key(self) -> str:
    """Of the patches' kernel."""
    return self.key('patches') + self.layout.joint + self.layout.kernel

  @property
  def bias_key(self) -> str:
    """Of their bias."""
    return self.key('patches') + self.layout.joint + 'bias'

  def patches(self) -> tuple[np.ndarray, np.ndarray]:
    """Kernel `[(T,) H, W, C, D]` and bias `[D]` of the patches.

    Raises:
      UserError: they are not there, or of no three channels.
    """
    kernel = self.tensors.get(self.kernel_key)
    if kernel is None or kernel.ndim not in (4, 5):
      raise UserError(
        f'{self.path}: {self.kernel_key} is no kernel of patches or tubelets'
      )
    if self.layout.transposed:
      kernel = np.moveaxis(kernel, (1, 0), (-2, -1))
    bias = self.tensors.get(self.bias_key)
    bias = np.zeros(kernel.shape[-1], np.float32) if bias is None else bias
    if kernel.shape[-2] != 3 or bias.shape != kernel.shape[-1:]:
      raise UserError(
        f'{self.path}: {self.kernel_key} is {list(kernel.shape)} and its bias '
        f'{list(bias.shape)}; expected 3 channels, and a bias a unit'
      )
    return kernel, bias

  @property
  def of_videos(self) -> bool:
    """Whether the kernel has a time axis."""
    return self.tensors[self.kernel_key].ndim == 5

  def layers(self) -> int:
    """How many blocks there are."""
    start, end = (self.prefix + self.layout.block).split('{}')
    pattern = re.compile(re.escape(start) + r'(\d+)' + re.escape(end))
    return len({m[1] for key in self.tensors if (m := pattern.match(key))})

  def structure(self) -> dict[str, Any]:
    """The backbone's fields that the file shows, whatever a net is called."""
    fields: dict[str, Any] = {
      'cls_token': self.has('cls'),
      'pre_norm': self.has('pre_norm'),
      'final_norm': 'mean' if self.has('mean_norm') else 'tokens',
      'positions': 'learned',
    }
    if self.of_videos and not self.has('position') and not self.has('cls'):
      fields['positions'] = 'sinusoidal'
    query = self.tensors.get(self._row(0, 'query', 'kernel')[0])
    if query is not None and query.ndim == 3:
      fields['num_heads'] = query.shape[1]
    return fields

  def fields(self) -> dict[str, Any]:
    """The fields of a backbone that takes the file, as far as it or its layout tells.

    Raises:
      UserError: it is no transformer's.
    """
    kernel, _ = self.patches()
    width = kernel.shape[-1]
    fields = self.structure() | dict(self.layout.fields)
    fields = {'num_heads': _HEADS.get(width) or max(1, width // _HEAD_WIDTH)} | fields
    inner = self.tensors.get(self._row(0, 'mlp_1', 'bias')[0])
    if inner is None:
      raise UserError(
        f'{self.path}: lacks {self._row(0, "mlp_1", "bias")[0]}; expected a vision '
        f'transformer with {self.layout.name} names'
      )
    fields |= {
      'hidden_size': width,
      'num_layers': self.layers(),
      'mlp_dim': len(inner),
      'tubelet': (*(kernel.shape[:-4] or (_FRAMES,)), *kernel.shape[-4:-2]),
    }
    if fields['positions'] == 'sinusoidal':
      fields['grid'] = _VIDEOMAE_GRID
    elif self.of_videos:
      fields |= self.layout.fields_of_videos
    elif self.has('position'):
      side = round((self.positions().shape[1] - fields['cls_token']) ** 0.5)
      fields['grid'] = (_GRID_FRAMES, side, side)
    return fields

  def pixels(self) -> str:
    """What the net was trained on, as far as its layout tells, of `pixels.PIXELS`."""
    videomae = self.structure()['positions'] == 'sinusoidal'
    return 'imagenet' if videomae else self.layout.pixels

  def positions(self) -> np.ndarray:
    """The table `[1, K + N, D]`; the first K codes are the class token's."""
    table = self.tensors[self.key('position')]
    return table[None] if table.ndim == 2 else table

  def rows(self, fields: Mapping[str, Any], layers: int) -> Iterator[tuple[str, Row]]:
    """Each weight of the transformer, the key that holds it, and how that is laid out.

    Patches and positions are left out: they depend on tubelet and grid.
    """
    if fields['cls_token']:
      yield 'cls', (self.key('cls'), lambda x: x.reshape(1, 1, -1))
    if fields['pre_norm']:
      yield from self._norm('pre_norm', self._norm_key('pre_norm'))
    last = 'mean_norm' if fields['final_norm'] == 'mean' else 'norm'
    yield from self._norm('norm', self._norm_key(last) or self.key(last))
    for number in range(layers):
      for part in ('attention_norm', 'mlp_norm'):
        key = self._block(number) + self.layout.parts[part]
        yield from self._norm(f'{number}.{part}', key)
      for part in (*_ATTENTION, 'output', 'mlp_1', 'mlp_2'):
        for weight in ('kernel', 'bias'):
          yield f'{number}.{part}.{weight}', self._row(number, part, weight)

  def _norm(self, part: str, key: str) -> Iterator[tuple[str, Row]]:
    key += self.layout.joint
    yield f'{part}.scale', (key + self.layout.scale, _same)
    yield f'{part}.offset', (f'{key}bias', _same)

  def _block(self, number: int) -> str:
    return self.prefix + self.layout.block.format(number)

  def _row(self, number: int, part: str, weight: str) -> Row:
    layout, block = self.layout, self._block(number)
    if part in _ATTENTION and weight == 'bias':
      found = self._lone_bias(block, part)
      if found:
        return found
    if part in _ATTENTION and layout.fused:
      third = _ATTENTION.index(part)
      key = block + layout.fused + layout.fused_joint
      key += layout.kernel if weight == 'kernel' else 'bias'
      return key, lambda x: np.split(x, 3)[third].T  # Of a bias this is the same.
    key = block + layout.parts[part] + layout.joint
    if weight == 'bias':
      return f'{key}bias', lambda x: x.reshape(-1)
    if layout.transposed:
      return key + layout.kernel, lambda x: x.T
    # [D, heads, D / heads] or the other way round; the inner layers' are plain.
    joined = (-1, self._width()) if part == 'output' else (self._width(), -1)
    return key + layout.kernel, lambda x: x.reshape(joined) if x.ndim == 3 else x

  def _lone_bias(self, block: str, part: str) -> Row | None:
    """VideoMAE's: of query and value beside their kernels, of keys none, which is 0.

    A bias of keys changes no softmax, so its gradient is 0 too.
    """
    stem = re.sub(r'[^.]+$', '', self.layout.fused or self.layout.parts.get('query', ''))
    if f'{block}{stem}q_bias' not in self.tensors:
      return None
    if part == 'key':
      return f'{block}{stem}q_bias', np.zeros_like
    return f'{block}{stem}{part[0]}_bias', _same

  def _width(self) -> int:
    return self.tensors[self.kernel_key].shape[-1]

  def refuse_unused(self, used: set[str], layers: int) -> None:
    """Raises `UserError` where the transformer has a part that no variable takes."""
    for key in sorted(set(self.tensors) - used):
      name = key.removeprefix(self.prefix)
      own = key.startswith(self.prefix) and name.startswith(self.layout.own)
      if own and not _FREE.search(name):
        raise UserError(
          f'{self.path}: holds {key}, for which a video_vit of {layers} layers has no '
          f'place (the file has {self.layers()}); only plain vision transformers are taken'
        )


def recognized(tensors: Mapping[str, np.ndarray], path: str, prefix: str = '') -> Source:
  """The transformer of a file, of several the one whose keys begin with the prefix.

  Raises:
    UserError: there is none, or there are several.
  """
  for layout in LAYOUTS:
    found = sorted(
      key[: -len(layout.sign)] for key in tensors if f'.{key}'.endswith(f'.{layout.sign}')
    )
    found = [one for one in found if one.startswith(prefix)]
    if len(found) > 1:
      raise UserError(
        f'{path}: holds {len(found)} vision transformers, {", ".join(found)}; name one by '
        '--prefix'
      )
    if not found:
      continue
    lacking = [key for key in layout.needed if found[0] + key not in tensors]
    if lacking:
      raise UserError(
        f'{path}: lacks {found[0]}{lacking[0]}; expected a vision transformer with '
        f'{layout.name} names'
      )
    return Source(path, tensors, layout, found[0])
  raise UserError(
    f'{path}: no key {prefix}...{" or ...".join(layout.sign for layout in LAYOUTS)}; expected '
    f'a vision transformer; it holds {", ".join(sorted(tensors)[:3])} ...'
  )

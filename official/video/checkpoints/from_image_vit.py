r"""Starts a video transformer from the weights of one for images, or for videos.

  python -m official.video.checkpoints.from_image_vit --source=vit/model.safetensors \
    --checkpoint=/vit/ckpt

Reads Hugging Face's layout (.safetensors, .bin) and the original one (.npz). The patch
kernel becomes that of a tubelet's central frame, or with --inflation=average of all frames
alike; position codes repeat over time and are interpolated over space. A transformer for
videos (ViViT with joint attention, such as B/16x2), whose kernel has a time axis, is taken
as it is, table and kernel; its layers are these, but for its GELU, which is approximated by
tanh. Group tokens and grouping blocks have no counterpart and are drawn. The checkpoint
holds `backbone`; name it by task.init_checkpoint.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import flags

from official.video.errors import UserError
from official.video.settings import command_line

FLAGS = flags.FLAGS
INFLATIONS = ('central_frame', 'average')


def define_flags() -> None:
  """The driver's flags."""
  flags.DEFINE_string('source', None, '.safetensors, .bin or .npz.', required=True)
  flags.DEFINE_string('checkpoint', None, 'Prefix to write.', required=True)
  flags.DEFINE_enum(
    'inflation', 'central_frame', INFLATIONS, 'How the patch kernel gets its time.'
  )
  flags.DEFINE_string(
    'params_override', '', 'Fields of the video_vit: hidden_size=384,num_heads=6.'
  )


def inflated(kernel: np.ndarray, frames: int, how: str = 'central_frame') -> np.ndarray:
  """A tubelet's kernel [frames, H, W, C, D] of a patch's [H, W, C, D].

  Args:
    kernel: of an image.
    frames: of a tubelet.
    how: 'central_frame' (all other frames are 0) or 'average'. Either maps a still clip
      as its image is mapped.
  """
  if how == 'average':
    return np.repeat(kernel[None] / frames, frames, 0)
  result = np.zeros((frames, *kernel.shape), kernel.dtype)
  result[frames // 2] = kernel
  return result


def inflated_positions(table: np.ndarray, grid: Sequence[int]) -> np.ndarray:
  """Position codes [1, 1 + T*H*W, D] of an image's [1, 1 + h*h, D].

  Raises:
    UserError: the image's codes are not those of a square with a class token.
  """
  from official.video.backbones import video_vit

  side = round((table.shape[1] - 1) ** 0.5)
  if side * side != table.shape[1] - 1:
    raise UserError(
      f'--source: {table.shape[1]} position codes; expected a class token and a square'
    )
  flat = video_vit.resized_positions(
    np.asarray(table, np.float32), (1, side, side), (1, *grid[1:])
  )
  flat = np.asarray(flat)
  return np.concatenate([flat[:, :1], np.tile(flat[:, 1:], (1, grid[0], 1))], 1)


def video_positions(table: np.ndarray, grid: Sequence[int]) -> np.ndarray:
  """The position codes of a video transformer, as they are.

  How many of them lie in time is written nowhere (3136 are 16x14x14 and 56x56), so a table
  of another grid can't be resampled here.

  Raises:
    UserError: the codes are not those of the grid.
  """
  count = 1 + grid[0] * grid[1] * grid[2]
  if table.shape[1] != count:
    raise UserError(
      f'--source: {table.shape[1]} position codes of a transformer for videos; a grid of '
      f'{list(grid)} has {count}. Set --params_override=grid=[T,H,W] to the tubelets that '
      'it was trained on; clips of other sizes are interpolated in the model'
    )
  return table


def video_kernel(kernel: np.ndarray, tubelet: Sequence[int]) -> np.ndarray:
  """The kernel [frames, H, W, C, D] of a video transformer, as it is.

  Raises:
    UserError: it is of another tubelet.
  """
  if kernel.shape[:3] != tuple(tubelet):
    sizes = ','.join(map(str, kernel.shape[:3]))
    raise UserError(
      f'--source: tubelets of [{sizes}], not {list(tubelet)}; use '
      f'--params_override=tubelet=[{sizes}]'
    )
  return kernel


def _same(x: np.ndarray) -> np.ndarray:
  return x


class _Layout:
  """Where one layout keeps what; collects (variable, key, change) by name."""

  def __init__(self, backbone: Any, inflation: str, prefix: str, of_videos: bool):
    self.found: dict[str, tuple[Any, str, Callable]] = {}
    self._prefix = prefix
    self._inflation, self._of_videos = inflation, of_videos
    self.embed(backbone.embedding, backbone.config)
    for number, block in enumerate(backbone.blocks):
      self.block(number, block)
    self.norm(backbone.norm, self.last_norm)

  last_norm = ''
  # How layer norm's and dense layers' weights are called.
  scale, offset, kernel = '', '', ''
  separator = '.'

  def add(self, variable, key: str, change: Callable = _same) -> None:
    key = self._prefix + key
    self.found[variable.name + key] = (variable, key, change)

  def norm(self, layer, key: str) -> None:
    self.add(layer.gamma, key + self.separator + self.scale)
    self.add(layer.beta, key + self.separator + self.offset)

  def dense(self, layer, key: str) -> None:
    kernel, bias = tuple(layer.kernel.shape), tuple(layer.bias.shape)
    self.add(
      layer.kernel,
      key + self.separator + self.kernel,
      lambda x: self.laid_out(x).reshape(kernel),
    )
    self.add(layer.bias, key + self.separator + 'bias', lambda x: x.reshape(bias))

  def laid_out(self, kernel: np.ndarray) -> np.ndarray:
    return kernel

  def tubelet(self, kernel: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """The tubelets' kernel, of one with channels last."""
    if self._of_videos:
      return video_kernel(kernel, sizes)
    return inflated(kernel, sizes[0], self._inflation)

  def positions(self, table: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """The position codes of a grid."""
    return (video_positions if self._of_videos else inflated_positions)(table, grid)

  def embed(self, embedding, config) -> None:
    raise NotImplementedError

  def block(self, number: int, block) -> None:
    raise NotImplementedError


_PROJECTION = 'embeddings.patch_embeddings.projection.weight'
_PREFIXES = ('', 'vit.', 'vivit.')


class _HuggingFace(_Layout):
  scale, offset, kernel = 'weight', 'bias', 'weight'
  last_norm = 'layernorm'

  def laid_out(self, kernel: np.ndarray) -> np.ndarray:
    return kernel.T

  def embed(self, embedding, config) -> None:
    self.add(embedding.cls, 'embeddings.cls_token')
    self.add(
      embedding.position,
      'embeddings.position_embeddings',
      lambda x: self.positions(x, config.grid),
    )
    self.add(
      embedding.tubelet.kernel,
      _PROJECTION,
      # [D, C, ...] to [..., C, D].
      lambda x: self.tubelet(np.moveaxis(x, (1, 0), (-2, -1)), config.tubelet),
    )
    self.add(embedding.tubelet.bias, _PROJECTION.replace('weight', 'bias'))

  def block(self, number: int, block) -> None:
    key = f'encoder.layer.{number}'
    self.norm(block.attention_norm, f'{key}.layernorm_before')
    self.norm(block.mlp_norm, f'{key}.layernorm_after')
    for part in ('query', 'key', 'value'):
      self.dense(getattr(block, part), f'{key}.attention.attention.{part}')
    self.dense(block.output_dense, f'{key}.attention.output.dense')
    self.dense(block.mlp_1, f'{key}.intermediate.dense')
    self.dense(block.mlp_2, f'{key}.output.dense')


_KERNEL = 'embedding/kernel'


class _Original(_Layout):
  scale, offset, kernel = 'scale', 'bias', 'kernel'
  separator = '/'
  last_norm = 'Transformer/encoder_norm'

  def embed(self, embedding, config) -> None:
    self.add(embedding.cls, 'cls')
    self.add(
      embedding.position,
      'Transformer/posembed_input/pos_embedding',
      lambda x: self.positions(x, config.grid),
    )
    self.add(
      embedding.tubelet.kernel,
      _KERNEL,
      lambda x: self.tubelet(x, config.tubelet),
    )
    self.add(embedding.tubelet.bias, 'embedding/bias')

  def block(self, number: int, block) -> None:
    key = f'Transformer/encoderblock_{number}'
    self.norm(block.attention_norm, f'{key}/LayerNorm_0')
    self.norm(block.mlp_norm, f'{key}/LayerNorm_2')
    attention = f'{key}/MultiHeadDotProductAttention_1'
    for part in ('query', 'key', 'value'):
      self.dense(getattr(block, part), f'{attention}/{part}')
    self.dense(block.output_dense, f'{attention}/out')
    self.dense(block.mlp_1, f'{key}/MlpBlock_3/Dense_0')
    self.dense(block.mlp_2, f'{key}/MlpBlock_3/Dense_1')


def load(backbone: Any, source: str, inflation: str = 'central_frame') -> list[str]:
  """Gives a built `VideoViT` the weights of a transformer for images or for videos.

  Args:
    backbone: built.
    source: .safetensors, .bin or .npz.
    inflation: one of `INFLATIONS`.

  Returns:
    Names of the tensors that were not used, such as the image's classifier.

  Raises:
    UserError: the file is of another kind, or its sizes differ.
  """
  from official.video.checkpoints import tensor_file

  tensors = tensor_file.read_tensors(source)
  layout: type[_Layout]
  if 'Transformer/encoder_norm/scale' in tensors:
    layout, prefix, kernel = _Original, '', _KERNEL
  else:
    found = [p for p in _PREFIXES if f'{p}embeddings.cls_token' in tensors]
    layout, prefix = _HuggingFace, found[0] if found else ''
    kernel = prefix + _PROJECTION
  # A kernel of a tubelet has a time axis, that of a patch has none.
  of_videos = kernel in tensors and tensors[kernel].ndim == 5
  mapped = layout(backbone, inflation, prefix, of_videos).found
  return tensor_file.assign_all(mapped, tensors, source)


def main(argv: Sequence[str]) -> None:
  """Converts."""
  del argv
  from official.video.backbones import factory, families
  from official.video.checkpoints import saved
  from official.video.settings import experiment

  config = families.of('video_vit')
  if FLAGS.params_override:
    experiment.apply_overrides(config.get(), FLAGS.params_override, '--params_override')
  backbone = factory.build_backbone(config)
  ignored = load(backbone, FLAGS.source, FLAGS.inflation)
  saved.write_converted(FLAGS.checkpoint, FLAGS.source, ignored, backbone)


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

r"""Starts a video transformer from the weights of one for images.

  python -m official.video.checkpoints.from_image_vit --source=vit/model.safetensors \
    --checkpoint=/vit/ckpt

Reads Hugging Face's layout (.safetensors, .bin) and the original one (.npz). The patch
kernel becomes that of a tubelet's central frame, or with --inflation=average of all frames
alike; position codes repeat over time and are interpolated over space. Group tokens and
grouping blocks have no counterpart and are drawn. The checkpoint holds `backbone`; name it
by task.init_checkpoint.
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


def _same(x: np.ndarray) -> np.ndarray:
  return x


class _Layout:
  """Where one layout keeps what; collects (variable, key, change) by name."""

  def __init__(self, backbone: Any, inflation: str, prefix: str):
    self.found: dict[str, tuple[Any, str, Callable]] = {}
    self._prefix = prefix
    embedding, config = backbone.embedding, backbone.config
    self.embed(embedding, config, inflation)
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

  def embed(self, embedding, config, inflation: str) -> None:
    raise NotImplementedError

  def block(self, number: int, block) -> None:
    raise NotImplementedError


class _HuggingFace(_Layout):
  scale, offset, kernel = 'weight', 'bias', 'weight'
  last_norm = 'layernorm'

  def laid_out(self, kernel: np.ndarray) -> np.ndarray:
    return kernel.T

  def embed(self, embedding, config, inflation: str) -> None:
    self.add(embedding.cls, 'embeddings.cls_token')
    self.add(
      embedding.position,
      'embeddings.position_embeddings',
      lambda x: inflated_positions(x, config.grid),
    )
    key = 'embeddings.patch_embeddings.projection'
    frames = config.tubelet[0]
    self.add(
      embedding.tubelet.kernel,
      f'{key}.weight',
      lambda x: inflated(x.transpose(2, 3, 1, 0), frames, inflation),
    )
    self.add(embedding.tubelet.bias, f'{key}.bias')

  def block(self, number: int, block) -> None:
    key = f'encoder.layer.{number}'
    self.norm(block.attention_norm, f'{key}.layernorm_before')
    self.norm(block.mlp_norm, f'{key}.layernorm_after')
    for part in ('query', 'key', 'value'):
      self.dense(getattr(block, part), f'{key}.attention.attention.{part}')
    self.dense(block.output_dense, f'{key}.attention.output.dense')
    self.dense(block.mlp_1, f'{key}.intermediate.dense')
    self.dense(block.mlp_2, f'{key}.output.dense')


class _Original(_Layout):
  scale, offset, kernel = 'scale', 'bias', 'kernel'
  separator = '/'
  last_norm = 'Transformer/encoder_norm'

  def embed(self, embedding, config, inflation: str) -> None:
    self.add(embedding.cls, 'cls')
    self.add(
      embedding.position,
      'Transformer/posembed_input/pos_embedding',
      lambda x: inflated_positions(x, config.grid),
    )
    frames = config.tubelet[0]
    self.add(
      embedding.tubelet.kernel,
      'embedding/kernel',
      lambda x: inflated(x, frames, inflation),
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
  """Gives a built `VideoViT` the weights of an image transformer.

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
  if 'Transformer/encoder_norm/scale' in tensors:
    layout: _Layout = _Original(backbone, inflation, '')
  else:
    prefix = 'vit.' if 'vit.embeddings.cls_token' in tensors else ''
    layout = _HuggingFace(backbone, inflation, prefix)
  return tensor_file.assign_all(layout.found, tensors, source)


def main(argv: Sequence[str]) -> None:
  """Converts."""
  del argv
  import tensorflow as tf

  from official.video.backbones import build_backbone
  from official.video.configs import backbones
  from official.video.settings import experiment

  config = backbones.Backbone(type='video_vit')
  if FLAGS.params_override:
    experiment.apply_overrides(config.get(), FLAGS.params_override, '--params_override')
  backbone = build_backbone(config)
  ignored = load(backbone, FLAGS.source, FLAGS.inflation)
  path = tf.train.Checkpoint(backbone=backbone).write(FLAGS.checkpoint)
  print(f'{backbone.count_params():,} parameters, {FLAGS.source} to {path}')
  if ignored:
    print(f'ignored {len(ignored)} tensors: {", ".join(ignored[:5])}')


if __name__ == '__main__':
  define_flags()
  command_line.run(main)

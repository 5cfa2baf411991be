r"""Converts the text tower of a public CLIP to the text encoder's checkpoint.

  python -m official.video.projects.gvilm.from_clip --source=clip/model.safetensors \
    --checkpoint=/clip/ckpt

Reads Hugging Face's and OpenAI's (OpenCLIP's) names, of whole models or of their text towers
(.safetensors, .bin, .pth; no code in the file is executed). The checkpoint holds
`text_encoder`; name it by task.model.text.init_checkpoint, and set task.model.text as printed.
The vocabulary lies beside it where it lay beside the source (bpe_simple_vocab_16e6.txt.gz,
merges.txt), or is named by --vocab_file; else name it by task.text.vocab_file. The image
tower is converted by official.video.checkpoints.from_image_vit.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from official.video import registry
from official.video.checkpoints import vit_layouts
from official.video.errors import UserError
from official.video.settings import command_line

FLAGS = flags.FLAGS
# Width of a head in every published CLIP's text tower.
_HEAD_WIDTH = 64
_VOCABULARIES = ('merges.txt', 'bpe_simple_vocab_16e6.txt.gz')
ACTIVATIONS = ('quick_gelu', 'gelu')
_PLAIN = {'cls_token': False, 'pre_norm': False, 'final_norm': 'tokens'}


def define_flags() -> None:
  """The driver's flags."""
  flags.DEFINE_string('source', None, '.safetensors, .bin or .pth.', required=True)
  flags.DEFINE_string('checkpoint', None, 'Prefix to write.', required=True)
  flags.DEFINE_integer('num_heads', 0, 'Attention heads; 0 for heads of width 64.')
  flags.DEFINE_enum(
    'activation',
    ACTIVATIONS[0],
    ACTIVATIONS,
    "Of its MLPs: OpenAI's, or the GELU of nets that LAION trained.",
  )
  flags.DEFINE_string('vocab_file', '', 'Its merges, if they do not lie beside --source.')


def recognized(tensors: Mapping[str, np.ndarray], path: str) -> vit_layouts.Source:
  """The text tower of a file.

  Raises:
    UserError: it holds none, or several.
  """
  for layout in vit_layouts.TEXT_LAYOUTS:
    found = sorted(
      key[: -len(layout.sign)] for key in tensors if f'.{key}'.endswith(f'.{layout.sign}')
    )
    if len(found) > 1:
      raise UserError(f'{path}: holds {len(found)} text towers, {", ".join(found)}')
    if found:
      return vit_layouts.Source(path, tensors, layout, found[0])
  signs = ' or ...'.join(layout.sign for layout in vit_layouts.TEXT_LAYOUTS)
  raise UserError(
    f'{path}: no key ...{signs}; expected the weights of a CLIP; it holds '
    f'{", ".join(sorted(tensors)[:3])} ...'
  )


def _projection(found: vit_layouts.Source) -> str:
  """The key of the text projection, which Hugging Face keeps beside the tower; or ''."""
  name = found.layout.keys['projection']
  outer = re.sub(r'[^.]+\.$', '', found.prefix)
  return next((x + name for x in (found.prefix, outer) if x + name in found.tensors), '')


def config_of(
  found: vit_layouts.Source, num_heads: int = 0, activation: str = ACTIVATIONS[0]
) -> Any:
  """The text encoder's configuration that a file's tower is of.

  Raises:
    UserError: its tables are not those of a CLIP.
  """
  from . import clip_text, configs, text

  registry.check_choice('--activation', activation, ACTIVATIONS)
  tokens, position = (
    found.tensors.get(found.key(part), np.zeros(0)) for part in ('tokens', 'position')
  )
  inner = dict(found.rows(_PLAIN, 1))['0.mlp_1.bias'][0]
  if tokens.ndim != 2 or position.ndim != 2 or inner not in found.tensors:
    raise UserError(
      f'{found.path}: {found.key("tokens")} is {list(tokens.shape)}, '
      f'{found.key("position")} {list(position.shape)}; expected two tables, and '
      f'transformer blocks with {inner}'
    )
  projection = _projection(found)
  shape = found.tensors[projection].shape if projection else (0, 0)
  return configs.TextModel(
    kind=text.CLIP,
    vocab_size=tokens.shape[0],
    hidden_size=tokens.shape[1],
    num_layers=found.layers(),
    num_heads=num_heads or max(1, tokens.shape[1] // _HEAD_WIDTH),
    mlp_dim=len(found.tensors[inner]),
    max_positions=position.shape[0],
    feature=clip_text.FEATURE,
    activation=activation,
    projection_dim=shape[0 if projection.endswith('.weight') else -1],
  )


def variables_of(
  encoder: Any, found: vit_layouts.Source
) -> dict[str, tuple[Any, str, Callable]]:
  """Each variable of a `ClipTextEncoder`, the tensor it takes and how that is laid out."""
  variables = {'norm.scale': encoder.norm.gamma, 'norm.offset': encoder.norm.beta}
  for number, block in enumerate(encoder.blocks):
    variables |= {
      f'{number}.{name}': variable
      for name, variable in vit_layouts.variables_of_block(block).items()
    }
  rows = {
    name: (variables[name], *row) for name, row in found.rows(_PLAIN, len(encoder.blocks))
  }

  def same(x: np.ndarray) -> np.ndarray:
    return x

  rows['tokens'] = (encoder.words.embeddings, found.key('tokens'), same)
  rows['position'] = (encoder.position, found.key('position'), same)
  if encoder.projection is not None:
    key = _projection(found)
    turned = np.transpose if key.endswith('.weight') else same
    rows['projection'] = (encoder.projection.kernel, key, turned)
  return rows


def _vocabulary(source: str, vocab_file: str) -> tuple[str, Sequence[str] | None]:
  """Path and merges of the vocabulary of a source; ('', None) where none is there."""
  from . import byte_pairs

  folder = os.path.dirname(source)
  beside = [
    path for n in _VOCABULARIES if os.path.exists(path := os.path.join(folder, n))
  ]
  path = vocab_file or next(iter(beside), '')
  return path, byte_pairs.read_merges(path) if path else None


def convert(
  source: str,
  checkpoint: str,
  num_heads: int = 0,
  activation: str = ACTIVATIONS[0],
  vocab_file: str = '',
) -> Any:
  """Writes the checkpoint of a CLIP's text tower, and prints its configuration.

  Returns:
    The text encoder.

  Raises:
    UserError: the source is no CLIP, or is damaged, or its vocabulary is another one's.
  """
  from official.video import files
  from official.video.checkpoints import saved, tensor_file

  from . import from_bert, text

  saved.check_new(checkpoint)
  found = recognized(tensor_file.read_tensors(source), source)
  config = config_of(found, num_heads, activation)
  path, merges = _vocabulary(source, vocab_file)
  kind = text.KINDS.find(text.CLIP)
  beside = os.path.join(os.path.dirname(checkpoint), kind.file)
  if merges is not None:
    kind.check(merges, path, config.vocab_size)
    if os.path.exists(beside) and kind.read(beside) != merges:
      raise UserError(
        f'--checkpoint {checkpoint}: {beside} is there, of another vocabulary than {path}; '
        'name another folder'
      )
  encoder = text.build_encoder(config)
  rows = variables_of(encoder, found)
  found.refuse_unused({key for _, key, _ in rows.values()}, config.num_layers)
  ignored = tensor_file.assign_all(rows, dict(found.tensors), source)
  from_bert.save(encoder, config, source, checkpoint, ignored)
  if merges is None:
    print(f'no {" or ".join(_VOCABULARIES)} beside it; name one by task.text.vocab_file')
  else:
    if not os.path.exists(beside):
      files.write_atomically(beside, kind.written(merges).encode())
    print(f'its vocabulary is {beside}, of {path}')
  return encoder


def main(argv: Sequence[str]) -> None:
  """Converts."""
  del argv
  convert(
    FLAGS.source, FLAGS.checkpoint, FLAGS.num_heads, FLAGS.activation, FLAGS.vocab_file
  )


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

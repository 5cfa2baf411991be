r"""Converts a public BERT to the text encoder's checkpoint.

  python -m official.video.projects.gvilm.from_bert --source=bert/model.safetensors \
    --checkpoint=/bert/ckpt

Reads Hugging Face's layout (.safetensors, .bin) and the original one (the prefix of a
TensorFlow checkpoint). The checkpoint holds `text_encoder`; name it by
task.model.text.init_checkpoint, and the same model's vocab.txt by task.text.vocab_file.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from official.video.errors import UserError
from official.video.settings import command_line

FLAGS = flags.FLAGS
# Width of a head in every published BERT.
_HEAD_WIDTH = 64
_ORIGINAL = 'bert/embeddings/word_embeddings'


def define_flags() -> None:
  """The driver's flags."""
  flags.DEFINE_string(
    'source', None, '.safetensors, .bin, or prefix of a checkpoint.', required=True
  )
  flags.DEFINE_string('checkpoint', None, 'Prefix to write.', required=True)
  flags.DEFINE_integer('num_heads', 0, 'Attention heads; 0 for heads of width 64.')


def hugging_face_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Tensors under Hugging Face's names and in its layout, without the prefix `bert.`.

  The original's kernels lie the other way round; its optimizer slots are left out.
  """
  original = _ORIGINAL in tensors
  named = {}
  for key, tensor in tensors.items():
    name = key
    if original:
      if not key.startswith('bert/') or re.search(r'/adam_[mv]$', key):
        continue
      tensor = tensor.T if key.endswith('/kernel') else tensor
      name = re.sub(r'layer_(\d+)', r'layer.\1', key).replace('/', '.')
      name = re.sub(r'\.kernel$', '.weight', name)
      name = re.sub(r'(_embeddings)$', r'\1.weight', name)
    name = re.sub(r'\.gamma$', '.weight', re.sub(r'\.beta$', '.bias', name))
    named[name.removeprefix('bert.')] = tensor
  return named


def config_of(tensors: Mapping[str, np.ndarray], num_heads: int = 0):
  """The text encoder's configuration that tensors under Hugging Face's names are of.

  Raises:
    UserError: they are not those of a BERT.
  """
  from . import configs

  try:
    words = tensors['embeddings.word_embeddings.weight']
    positions = tensors['embeddings.position_embeddings.weight']
    inner = tensors['encoder.layer.0.intermediate.dense.weight']
  except KeyError as error:
    raise UserError(f'--source: lacks {error}; expected the weights of a BERT') from error
  layers = {m[1] for key in tensors if (m := re.match(r'encoder\.layer\.(\d+)\.', key))}
  return configs.TextModel(
    vocab_size=words.shape[0],
    hidden_size=words.shape[1],
    num_layers=len(layers),
    num_heads=num_heads or max(1, words.shape[1] // _HEAD_WIDTH),
    mlp_dim=inner.shape[0],
    max_positions=positions.shape[0],
  )


def _same(x: np.ndarray) -> np.ndarray:
  return x


def variables_of(bert: Any) -> dict[str, tuple[Any, str, Callable]]:
  """Each variable of a `BertEncoderV2`, the tensor it takes and how that is laid out."""
  found: dict[str, tuple[Any, str, Callable]] = {}

  def add(variable, key, change=_same):
    found[key] = (variable, key, change)

  def add_norm(layer, key):
    add(layer.gamma, f'{key}.weight')
    add(layer.beta, f'{key}.bias')

  def add_dense(layer, key):
    shape = tuple(layer.kernel.shape)
    add(layer.kernel, f'{key}.weight', lambda x: x.T.reshape(shape))
    bias = tuple(layer.bias.shape)
    add(layer.bias, f'{key}.bias', lambda x: x.reshape(bias))

  for layer, name in (
    (bert._embedding_layer, 'word'),
    (bert._position_embedding_layer, 'position'),
    (bert._type_embedding_layer, 'token_type'),
  ):
    add(layer.weights[0], f'embeddings.{name}_embeddings.weight')
  add_norm(bert._embedding_norm_layer, 'embeddings.LayerNorm')
  for number, block in enumerate(bert._transformer_layers):
    prefix = f'encoder.layer.{number}'
    attention = block._attention_layer
    for part in ('query', 'key', 'value'):
      add_dense(getattr(attention, f'_{part}_dense'), f'{prefix}.attention.self.{part}')
    add_dense(attention._output_dense, f'{prefix}.attention.output.dense')
    add_norm(block._attention_layer_norm, f'{prefix}.attention.output.LayerNorm')
    add_dense(block._intermediate_dense, f'{prefix}.intermediate.dense')
    add_dense(block._output_dense, f'{prefix}.output.dense')
    add_norm(block._output_layer_norm, f'{prefix}.output.LayerNorm')
  add_dense(bert._pooler_layer, 'pooler.dense')
  return found


def save(
  encoder: Any, config: Any, source: str, checkpoint: str, ignored: Sequence[str]
) -> None:
  """Writes a converted text encoder, tells its configuration and keeps that beside it.

  Args:
    encoder: with its weights.
    config: its own, of `configs.TextModel`.
    source: the file that it was made of.
    checkpoint: prefix.
    ignored: names of the file's tensors that were not used.
  """
  from official.video.checkpoints import origin, saved

  from . import configs

  path = saved.write(checkpoint, text_encoder=encoder)
  fields = config.as_dict()
  origin.write_converted_text(checkpoint, fields)
  count = sum(int(np.prod(v.shape)) for v in encoder.variables)
  usual = configs.TextModel().as_dict()
  sizes = ('vocab_size', 'hidden_size', 'num_layers', 'num_heads', 'mlp_dim')
  told = [
    f'{name}={value}'
    for name, value in fields.items()
    if name in (*sizes, 'max_positions') or value != usual[name]
  ]
  print(f'{count:,} parameters from {source} to {path}')
  print(f'set task.model.text: {", ".join(told)}')
  if ignored:
    print(f'ignored {len(ignored)} tensors: {", ".join(ignored[:5])}')


def convert(source: str, checkpoint: str, num_heads: int = 0) -> Any:
  """Writes the checkpoint of a BERT, and prints its configuration.

  Returns:
    The text encoder.

  Raises:
    UserError: the source is no BERT, or is damaged.
  """
  from official.video.checkpoints import tensor_file

  from . import text

  tensors = hugging_face_names(tensor_file.read_tensors(source))
  config = config_of(tensors, num_heads)
  encoder = text.TextEncoder(config)
  ignored = tensor_file.assign_all(variables_of(encoder.bert), tensors, source)
  save(encoder, config, source, checkpoint, ignored)
  return encoder


def main(argv: Sequence[str]) -> None:
  """Converts."""
  del argv
  convert(FLAGS.source, FLAGS.checkpoint, FLAGS.num_heads)


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)

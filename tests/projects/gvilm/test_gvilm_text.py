import json
import random
import struct

import numpy as np
import pytest
import tensorflow as tf

from official.video.checkpoints import restore, tensor_file
from official.video.errors import UserError
from official.video.projects.gvilm import configs, from_bert, portable, text

SMALL = {
  'vocab_size': 7,
  'hidden_size': 8,
  'num_layers': 2,
  'num_heads': 2,
  'mlp_dim': 12,
  'max_positions': 9,
}


def test_word_pieces_by_hand():
  pieces = text.WordPiece()
  vocabulary = pieces.vocabulary
  ids = pieces(tf.constant([['A red Star!', 'ab'], ['', 'a ' * 20]]), 7).numpy()
  names = [[[vocabulary[i] for i in row] for row in pair] for pair in ids]
  assert names[0][0] == ['[CLS]', 'a', 'red', 'star', '!', '[SEP]', '[PAD]']
  assert names[0][1] == ['[CLS]', 'a', '##b', '[SEP]'] + ['[PAD]'] * 3
  assert names[1][0] == ['[CLS]', '[SEP]'] + ['[PAD]'] * 5
  assert names[1][1] == ['[CLS]'] + ['a'] * 5 + ['[SEP]']


def test_vocabularies_are_checked(tmp_path):
  bad = tmp_path / 'vocab.txt'
  bad.write_text('a\nb\n')
  with pytest.raises(UserError, match=r'lacks \[PAD\]'):
    text.read_vocabulary(str(bad))
  with pytest.raises(UserError, match='can not be read'):
    text.read_vocabulary(str(tmp_path / 'none.txt'))
  with pytest.raises(UserError, match='vocab_size 3'):
    text.KINDS.find('bert').check(text.read_vocabulary(), '', 3)
  pieces = text.read_vocabulary()
  text.KINDS.find('bert').check(pieces, '', len(pieces))


@pytest.mark.parametrize('feature', ['cls', 'pooler', 'mean'])
def test_padding_does_not_change_features(feature):
  encoder = text.TextEncoder(configs.TextModel(**SMALL, feature=feature))
  short = tf.constant([[2, 5, 3]])
  long = tf.constant([[2, 5, 3, 0, 0, 0]])
  np.testing.assert_allclose(encoder(short), encoder(long), atol=1e-5)
  assert encoder(short).shape == (1, 8)


def hugging_face_tensors(prefix=''):
  rng = np.random.default_rng(0)
  d, inner = 8, 12
  shapes = {
    'embeddings.word_embeddings.weight': (7, d),
    'embeddings.position_embeddings.weight': (9, d),
    'embeddings.token_type_embeddings.weight': (2, d),
    'embeddings.LayerNorm.weight': (d,),
    'embeddings.LayerNorm.bias': (d,),
    'pooler.dense.weight': (d, d),
    'pooler.dense.bias': (d,),
  }
  for i in range(2):
    layer = f'encoder.layer.{i}'
    for part in ('self.query', 'self.key', 'self.value', 'output.dense'):
      shapes[f'{layer}.attention.{part}.weight'] = (d, d)
      shapes[f'{layer}.attention.{part}.bias'] = (d,)
    for part in ('attention.output.LayerNorm', 'output.LayerNorm'):
      shapes[f'{layer}.{part}.weight'] = shapes[f'{layer}.{part}.bias'] = (d,)
    shapes[f'{layer}.intermediate.dense.weight'] = (inner, d)
    shapes[f'{layer}.intermediate.dense.bias'] = (inner,)
    shapes[f'{layer}.output.dense.weight'] = (d, inner)
    shapes[f'{layer}.output.dense.bias'] = (d,)
  return {
    prefix + name: rng.normal(size=shape).astype(np.float32) * 0.5
    for name, shape in shapes.items()
  }


def write_safetensors(path, tensors):
  header, data = {'__metadata__': {'format': 'pt'}}, b''
  for name, tensor in tensors.items():
    raw = tensor.tobytes()
    header[name] = {
      'dtype': {'f4': 'F32', 'f2': 'F16'}[tensor.dtype.str[1:]],
      'shape': list(tensor.shape),
      'data_offsets': [len(data), len(data) + len(raw)],
    }
    data += raw
  encoded = json.dumps(header).encode()
  path.write_bytes(struct.pack('<Q', len(encoded)) + encoded + data)
  return str(path)


def bert(tensors, ids, heads=2):
  """An independent BERT in NumPy on Hugging Face's names; float64."""
  t = {name: value.astype(np.float64) for name, value in tensors.items()}

  def norm(x, key):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return x * t[f'{key}.weight'] + t[f'{key}.bias']

  def dense(x, key):
    return x @ t[f'{key}.weight'].T + t[f'{key}.bias']

  def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

  x = t['embeddings.word_embeddings.weight'][ids]
  x = x + t['embeddings.position_embeddings.weight'][: len(ids)]
  x = norm(x + t['embeddings.token_type_embeddings.weight'][0], 'embeddings.LayerNorm')
  for i in range(2):
    layer = f'encoder.layer.{i}'
    q, k, v = (
      dense(x, f'{layer}.attention.self.{p}').reshape(len(ids), heads, -1)
      for p in ('query', 'key', 'value')
    )
    logits = np.einsum('ihd,jhd->hij', q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    taken = np.einsum('hij,jhd->ihd', weights, v).reshape(len(ids), -1)
    x = norm(
      x + dense(taken, f'{layer}.attention.output.dense'),
      f'{layer}.attention.output.LayerNorm',
    )
    inner = gelu(dense(x, f'{layer}.intermediate.dense'))
    x = norm(x + dense(inner, f'{layer}.output.dense'), f'{layer}.output.LayerNorm')
  return x


def original_layout(tensors):
  """The same tensors as Google's checkpoint names and lays them."""
  named = {}
  for name, tensor in tensors.items():
    key = 'bert/' + name.replace('layer.', 'layer_').replace('.', '/')
    if key.endswith('_embeddings/weight'):
      key = key.removesuffix('/weight')
    elif 'LayerNorm' in key:
      key = key.replace('/weight', '/gamma').replace('/bias', '/beta')
    elif key.endswith('/weight'):
      key, tensor = key.removesuffix('weight') + 'kernel', tensor.T
    named[key] = tensor
  return named


@pytest.mark.parametrize('layout', ['hugging_face', 'prefixed', 'original'])
def test_a_converted_bert_computes_what_bert_does(layout, tmp_path, equality):
  plain = hugging_face_tensors()
  if layout == 'original':
    source = str(tmp_path / 'bert_model.npz')
    named = original_layout(plain) | {'bert/pooler/dense/kernel/adam_m': np.zeros(3)}
    np.savez(source, **named)
  else:
    prefix = 'bert.' if layout == 'prefixed' else ''
    named = {prefix + name: value for name, value in plain.items()}
    named['cls.predictions.bias'] = np.zeros(7, np.float32)
    source = write_safetensors(tmp_path / 'model.safetensors', named)
  from_bert.convert(source, str(tmp_path / 'ckpt'), num_heads=2)
  encoder = text.TextEncoder(configs.TextModel(**SMALL))
  restore.restore({'text_encoder': encoder}, str(tmp_path / 'ckpt'))
  ids = np.array([2, 5, 6, 1, 3])
  expected = bert(plain, ids)
  actual = encoder.outputs(tf.constant(ids[None], tf.int32))['sequence_output'][0]
  equality('BERT, features of words', actual, expected)


def test_the_original_checkpoint_is_read_by_its_prefix(tmp_path):
  variables = {
    key: tf.Variable(value, name=key)
    for key, value in original_layout(hugging_face_tensors()).items()
  }
  prefix = str(tmp_path / 'bert_model.ckpt')
  tf.raw_ops.SaveV2(
    prefix=prefix,
    tensor_names=list(variables),
    shape_and_slices=[''] * len(variables),
    tensors=[v.value() for v in variables.values()],
  )
  encoder = from_bert.convert(prefix, str(tmp_path / 'out'), num_heads=2)
  assert encoder.width == 8


def test_damaged_and_foreign_files_are_one_error(tmp_path):
  good = tmp_path / 'model.safetensors'
  write_safetensors(good, hugging_face_tensors())
  data = good.read_bytes()
  for number, bad in enumerate((data[:5], data[: len(data) // 2], b'\xff' * 64)):
    path = tmp_path / f'{number}.safetensors'
    path.write_bytes(bad)
    with pytest.raises(UserError, match='no whole safetensors file'):
      tensor_file.read_tensors(str(path))
  other = tmp_path / 'other.npz'
  np.savez(other, a=np.zeros(2))
  with pytest.raises(UserError, match='weights of a BERT'):
    from_bert.convert(str(other), str(tmp_path / 'x'))
  with pytest.raises(UserError, match='prefix of a TensorFlow'):
    tensor_file.read_tensors(str(tmp_path / 'nothing'))


def test_half_precision_is_widened(tmp_path):
  stored = np.arange(6, dtype=np.float16).reshape(2, 3)
  path = write_safetensors(tmp_path / 'half.safetensors', {'a': stored})
  read = tensor_file.read_tensors(path)['a']
  assert read.dtype == np.float32
  np.testing.assert_array_equal(read, stored)


def _texts(vocabulary) -> list[str]:
  """Words, characters of all of Unicode, and what BERT treats on its own."""
  rng = random.Random(0)
  anything = [c for c in range(0x30000) if not 0xD800 <= c < 0xE000]
  kinds = [
    lambda: chr(rng.randrange(0x250)),
    lambda: chr(rng.choice(anything)),
    lambda: rng.choice('abcdefghij klmnop,.;!?-'),
    lambda: rng.choice(vocabulary) + rng.choice(['', ' ']),
  ]
  drawn = [''.join(k() for _ in range(rng.randrange(25))) for k in kinds * 150]
  return [
    '',
    ' ',
    *('x' * n for n in (99, 100, 101)),
    'é' * 51,
    'ÀÉÎ õü ß İ ﬁ ΟΔΥΣΣΕΥΣ',
    '你好world 한국어 😀',
    "don't [CLS] ##a a##\x00\x1d\u200b\ufffd",
    *drawn,
  ]


def test_an_export_reads_texts_as_the_training_does():
  vocabulary = text.read_vocabulary()
  texts = tf.constant(_texts(vocabulary))
  expected = text.WordPiece(vocabulary)(texts, 32)
  assert len(np.unique(expected)) > 200
  ids = tf.function(portable.PortableWordPiece(vocabulary))(texts, 32)
  np.testing.assert_array_equal(ids, expected)


def test_an_export_reads_whole_words():
  vocabulary = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', 'ball', '##s', 'b', '##all', '##a')
  pieces = portable.PortableWordPiece(vocabulary)
  ids = pieces(tf.constant(['Balls ba', 'b, call', 'bs' + 's' * 9]), 6)
  # The longest piece first; what does not end in a piece is unknown as a whole.
  assert ids.numpy().tolist() == [
    [2, 4, 5, 6, 8, 3],
    [2, 6, 1, 1, 3, 0],
    [2, 6, 5, 5, 5, 3],
  ]

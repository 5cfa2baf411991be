"""From strings to word pieces, and from these to features by BERT, or by CLIP's tower."""

import dataclasses
import functools
import io
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras
from official.nlp.modeling import networks

from official.video import files, registry
from official.video.errors import UserError

from . import byte_pairs, clip_text, configs, portable

# Letters, digits and the words of the synthetic set: for tests and tiny runs.
TEST_VOCABULARY = pathlib.Path(__file__).with_name('vocab_test.txt')
_SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]')


@functools.cache
def read_vocabulary(path: str = '') -> tuple[str, ...]:
  """Word pieces by id, one a line; of the shipped test vocabulary without a path.

  Raises:
    UserError: the file can't be read or lacks a special piece.
  """
  path = path or os.fspath(TEST_VOCABULARY)
  try:
    with tf.io.gfile.GFile(files.encodable(path)) as file:
      pieces = tuple(line.rstrip('\r\n') for line in file)
  except (tf.errors.OpError, UnicodeDecodeError) as error:
    raise UserError(f'task.text.vocab_file {path}: can not be read') from error
  missing = [piece for piece in _SPECIAL if piece not in pieces]
  if missing or pieces[0] != _SPECIAL[0]:
    raise UserError(
      f'task.text.vocab_file {path}: lacks {", ".join(missing) or "[PAD] as its first"}; '
      "expected BERT's vocab.txt, a word piece a line"
    )
  return pieces


class WordPiece(tf.Module):
  """Turns strings into word-piece ids [CLS] ... [SEP], lower-cased, cut and padded by 0.

  Its operations are those of `tensorflow_text`; what is exported has
  `portable.PortableWordPiece`.
  """

  def __init__(self, vocabulary: Sequence[str] = ()):
    """Initializes the tokenizer of word pieces by id; by default the test vocabulary."""
    # Takes a second, and only what meets text needs it.
    import tensorflow_text

    super().__init__(name='word_piece')
    self.vocabulary = tuple(vocabulary) or read_vocabulary()
    with tf.init_scope():  # It may be made while a graph is traced, and outlives that.
      self._tokenizer = tensorflow_text.FastBertTokenizer(
        list(self.vocabulary), token_out_type=tf.int32, lower_case_nfd_strip_accents=True
      )
    self._begin = self.vocabulary.index('[CLS]')
    self._end = self.vocabulary.index('[SEP]')

  def __call__(self, texts: tf.Tensor, length: int) -> tf.Tensor:
    """Ids int32 `[..., length]` of strings `[...]`."""
    return self.cut(texts, length)[0]

  def cut(self, texts: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Ids int32 `[..., length]` of strings `[...]`, and which of them lost pieces."""
    whole = self._tokenizer.tokenize(tf.reshape(texts, [-1]))
    return byte_pairs.framed(whole, texts, length, self._begin, self._end)

  def text_of(self, ids: Sequence[int]) -> str:
    """The text that is left of ids `[L]`: word pieces put together."""
    end = ids.index(self._end) if self._end in ids else len(ids)
    pieces = [self.vocabulary[number] for number in ids[:end] if number != self._begin]
    return ' '.join(pieces).replace(' ##', '')


def _first(outputs: dict[str, tf.Tensor], mask: tf.Tensor) -> tf.Tensor:
  del mask
  return outputs['sequence_output'][:, 0]


def _pooler(outputs: dict[str, tf.Tensor], mask: tf.Tensor) -> tf.Tensor:
  del mask
  return outputs['pooled_output']


def _mean(outputs: dict[str, tf.Tensor], mask: tf.Tensor) -> tf.Tensor:
  sequence = outputs['sequence_output']
  weight = tf.cast(mask, sequence.dtype)[:, :, None]
  return tf.reduce_sum(sequence * weight, 1) / tf.reduce_sum(weight, 1)


# What stands for a whole text, from BERT's outputs and the mask of the pieces.
FEATURES: registry.Registry[Callable] = registry.Registry(
  'task.model.text.feature', {'cls': _first, 'pooler': _pooler, 'mean': _mean}
)


class TextEncoder(tf_keras.layers.Layer):
  """BERT on word-piece ids, without dropout, whose masks a resumed run could not redraw.

  Attributes:
    bert: the Model Garden's encoder.
    width: of its features.
    sequence_width: of a piece's.
  """

  def __init__(self, config: configs.TextModel, name: str = 'text_encoder'):
    """Builds all variables.

    Raises:
      UserError: the configuration is impossible.
    """
    super().__init__(name=name)
    if config.feature == clip_text.FEATURE:
      raise UserError(
        f'task.model.text.feature {config.feature!r}: is of kind {CLIP!r}; BERT has '
        f'{", ".join(FEATURES)}'
      )
    self._feature = FEATURES.find(config.feature)
    self.width = self.sequence_width = config.hidden_size
    self.bert = networks.BertEncoderV2(
      vocab_size=config.vocab_size,
      hidden_size=config.hidden_size,
      num_layers=config.num_layers,
      num_attention_heads=config.num_heads,
      inner_dim=config.mlp_dim,
      max_sequence_length=config.max_positions,
      type_vocab_size=2,
      output_dropout=0.0,
      attention_dropout=0.0,
      name='bert',
    )
    self(tf_keras.Input([config.max_positions], dtype=tf.int32))

  def mask(self, ids: tf.Tensor) -> tf.Tensor:
    """Which pieces there are, bool `[B, L]` of ids."""
    return ids != 0

  def outputs(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
    """BERT's outputs for ids `[B, L]`; id 0 is padding."""
    inputs = {
      'input_word_ids': ids,
      'input_mask': tf.cast(ids != 0, tf.int32),
      'input_type_ids': tf.zeros_like(ids),
    }
    return self.bert(inputs)

  def pooled(self, outputs: dict[str, tf.Tensor], mask: tf.Tensor) -> tf.Tensor:
    """Features `[B, D]` of BERT's outputs and which pieces there are `[B, L]`."""
    return self._feature(outputs, mask)

  def call(self, ids: tf.Tensor) -> tf.Tensor:
    """Features `[B, D]` of ids `[B, L]`."""
    return self.pooled(self.outputs(ids), self.mask(ids))


BERT, CLIP = 'bert', 'clip'


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of text encoder, and of vocabulary.

  Attributes:
    encoder: of a text model's config.
    reads: fields of the config that it reads, beside those of every kind.
    file: what a run keeps its vocabulary in.
    read: a vocabulary of a published file, or without a path a small one for tests.
    parsed: one of the text that a run keeps, and of the name of that.
    written: that text.
    size: how many ids a vocabulary makes.
    tokenizer: of a vocabulary, for training.
    portable: the same by TensorFlow's own operations.
    published: what published vocabularies are called.
    small: what the one without a path is.
  """

  encoder: Callable[[configs.TextModel], Any]
  reads: Sequence[str]
  file: str
  read: Callable[[str], tuple[str, ...]]
  parsed: Callable[[str, str], tuple[str, ...]]
  written: Callable[[Sequence[str]], str]
  size: Callable[[Sequence[str]], int]
  tokenizer: Callable[[Sequence[str]], Any]
  portable: Callable[[Sequence[str]], Any]
  published: str
  small: str

  def check(self, vocabulary: Sequence[str], vocab_file: str, vocab_size: int) -> None:
    """Raises `UserError` where the embedding is not of the vocabulary's size.

    Args:
      vocabulary: of `read`.
      vocab_file: where it comes from; empty for the test vocabulary or a run's own.
      vocab_size: of the text encoder.
    """
    size = self.size(vocabulary)
    if size == vocab_size:
      return
    own = self.small if vocabulary == self.read('') else "the run's own vocabulary"
    raise UserError(
      f'task.model.text.vocab_size {vocab_size}: {vocab_file or own} has {size} word '
      f'pieces; name {self.published} by task.text.vocab_file, or set the size'
    )


def _lines(text: str, path: str) -> tuple[str, ...]:
  del path
  # Other characters that end lines are word pieces.
  return tuple(line.rstrip('\r\n') for line in io.StringIO(text))


KINDS: registry.Registry[Kind] = registry.Registry(
  'task.model.text.kind',
  {
    BERT: Kind(
      TextEncoder,
      (),
      'vocab.txt',
      read_vocabulary,
      _lines,
      lambda pieces: '\n'.join(pieces) + '\n',
      len,
      WordPiece,
      portable.PortableWordPiece,
      "BERT's vocab.txt",
      f'the test vocabulary {TEST_VOCABULARY.name}',
    ),
    CLIP: Kind(
      clip_text.ClipTextEncoder,
      ('activation', 'projection_dim'),
      'merges.txt',
      byte_pairs.read_merges,
      byte_pairs.parsed,
      byte_pairs.written,
      byte_pairs.size_of,
      byte_pairs.BytePairs,
      byte_pairs.BytePairs,
      "CLIP's bpe_simple_vocab_16e6.txt.gz, merges.txt or vocab.json",
      'a vocabulary of bytes alone',
    ),
  },
)


def build_encoder(config: configs.TextModel) -> Any:
  """The text encoder that a config names.

  Raises:
    UserError: there is none of that kind, or it does not read a field that is set.
  """
  kind = KINDS.find(config.kind)
  if config.hidden_size % config.num_heads:
    raise UserError(
      f'task.model.text.num_heads {config.num_heads}: does not divide hidden_size '
      f'{config.hidden_size}'
    )
  usual = configs.TextModel()
  for other in KINDS:
    for name in set(KINDS.find(other).reads) - set(kind.reads):
      if getattr(config, name) != getattr(usual, name):
        raise UserError(
          f'task.model.text.{name} {getattr(config, name)!r}: kind {config.kind!r} does not '
          f'read it; leave it {getattr(usual, name)!r}'
        )
  return kind.encoder(config)

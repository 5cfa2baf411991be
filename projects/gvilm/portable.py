"""Word pieces by TensorFlow's own operations, for SavedModels that need nothing else.

`text.WordPiece` uses operations of `tensorflow_text`, which a client would have to load.
What they do to single characters is asked of them when a model is exported, so that both
agree; what they do to words, the longest piece first, is written here.
"""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# BERT takes longer words for unknown.
_MAX_BYTES = 100
# What the table gives for other characters; nothing becomes it.
_SAME = '\0'
_SURROGATES = range(0xD800, 0xE000)


@functools.cache
def characters() -> tuple[dict[str, str], str, str]:
  """What `tensorflow_text` makes of each character of Unicode.

  Returns:
    What becomes something else, lower-cased, without its accents or gone; expressions
    for those that end a word, and for those that are words of their own.
  """
  import tensorflow_text

  everything = [chr(code) for code in range(0x110000) if code not in _SURROGATES]
  normalizer = tensorflow_text.FastBertNormalizer(lower_case_nfd_strip_accents=True)
  encoded = [character.encode() for character in everything]
  normal = [text.decode() for text in normalizer.normalize(tf.constant(encoded)).numpy()]
  changed = {c: n for c, n in zip(everything, normal, strict=True) if c != n}
  # Between two letters a character joins them to one unknown word, parts them, or stands
  # between them.
  tokenizer = tensorflow_text.FastWordpieceTokenizer(['a', '##a', '[UNK]'])
  between = [b'a' + text + b'a' for text in encoded]
  pieces = tokenizer.tokenize(tf.constant(between))
  counts, last = pieces.row_lengths().numpy(), pieces[:, -1:].values.numpy()
  parted = (last == 0) & (np.array(between) != b'aaa')
  return (
    changed,
    _expression([everything[i] for i in np.flatnonzero(parted & (counts == 2))]),
    _expression([everything[i] for i in np.flatnonzero(parted & (counts == 3))]),
  )


def _expression(chosen: Sequence[str]) -> str:
  """A class of characters for RE2, of ranges."""
  codes = np.array([ord(c) for c in chosen])
  starts = np.flatnonzero(np.diff(codes, prepend=-2) > 1)
  ends = [*(starts[1:] - 1), len(codes) - 1]
  ranges = (
    f'\\x{{{codes[i]:x}}}-\\x{{{codes[j]:x}}}' for i, j in zip(starts, ends, strict=True)
  )
  return f'[{"".join(ranges)}]'


class PortableWordPiece(tf.Module):
  """As `text.WordPiece`: strings to word-piece ids [CLS] ... [SEP], cut and padded by 0."""

  def __init__(self, vocabulary: Sequence[str]):
    """Initializes the tokenizer of word pieces by id."""
    super().__init__(name='portable_word_piece')
    changed, self._spaces, self._words = characters()
    self._changed = _table(list(changed), list(changed.values()), _SAME)
    self._ids = _table(vocabulary, range(len(vocabulary)), -1)
    self._longest = max(len(piece.removeprefix('##')) for piece in vocabulary)
    self._begin, self._end, self._unknown = map(
      vocabulary.index, ('[CLS]', '[SEP]', '[UNK]')
    )

  def __call__(self, texts: tf.Tensor, length: int) -> tf.Tensor:
    """Ids int32 `[B, length]` of strings `[B]`."""
    words = self._split(texts)
    pieces = words.with_values(self._pieces(words.values)).merge_dims(1, 2)
    pieces = pieces[:, : length - 2]
    row = tf.ones([pieces.nrows(), 1], tf.int32)
    ids = tf.concat([row * self._begin, pieces, row * self._end], 1)
    return ids.to_tensor(0, shape=[None, length])

  def _split(self, texts: tf.Tensor) -> tf.RaggedTensor:
    """Words `[B, (W)]`, normalized, of strings `[B]`."""
    letters = tf.strings.unicode_split(texts, 'UTF-8')
    found = self._changed.lookup(letters.values)
    values = tf.where(found == _SAME, letters.values, found)
    texts = tf.strings.reduce_join(letters.with_values(values), -1)
    texts = tf.strings.regex_replace(texts, self._spaces, ' ')
    texts = tf.strings.regex_replace(texts, f'({self._words})', r' \1 ')
    return tf.strings.split(texts)

  def _pieces(self, words: tf.Tensor) -> tf.RaggedTensor:
    """Ids `[N, (P)]` of words `[N]`: the longest piece that fits, again and again."""
    sizes = tf.strings.length(words, 'UTF8_CHAR')
    lengths = tf.range(1, self._longest + 1)
    count = tf.size(words)

    def step(place, starts, known, found):
      going = known & (starts < sizes)
      # Where a word has ended there is nothing to look for; its start has to exist still.
      first = tf.minimum(starts, tf.maximum(sizes - 1, 0))
      shape = [count, self._longest]
      candidates = tf.strings.substr(
        tf.broadcast_to(words[:, None], shape),
        tf.broadcast_to(first[:, None], shape),
        tf.broadcast_to(lengths[None], shape),
        'UTF8_CHAR',
      )
      inner = tf.broadcast_to(tf.where(starts > 0, '##', '')[:, None], shape)
      ids = self._ids.lookup(tf.strings.join([inner, candidates]))
      taken = tf.minimum(lengths[None], (sizes - first)[:, None])
      best = tf.argmax(tf.where(ids >= 0, taken, 0), 1, tf.int32)[:, None]
      piece = tf.gather(ids, best, batch_dims=1)[:, 0]
      size = tf.gather(taken, best, batch_dims=1)[:, 0]
      found = found.write(place, tf.where(going & (piece >= 0), piece, -1))
      known &= ~going | (piece >= 0)
      return place + 1, tf.where(going & known, starts + size, starts), known, found

    known = tf.strings.length(words) <= _MAX_BYTES
    array = tf.TensorArray(tf.int32, 0, dynamic_size=True, element_shape=[None])
    _, _, known, found = tf.while_loop(
      lambda place, starts, known, found: tf.reduce_any(known & (starts < sizes)),
      step,
      (0, tf.zeros_like(sizes), known, array.write(0, tf.fill([count], -1))),
    )
    ids = tf.transpose(found.stack())
    ids = tf.where(known[:, None], ids, -1)
    unknown = tf.where(known, -1, self._unknown)
    ids = tf.concat([unknown[:, None], ids], 1)
    return tf.ragged.boolean_mask(ids, ids >= 0)


def _table(keys: Sequence[str], values: Sequence, default) -> tf.lookup.StaticHashTable:
  initializer = tf.lookup.KeyValueTensorInitializer(
    list(keys), list(values), tf.string, tf.constant(default).dtype
  )
  return tf.lookup.StaticHashTable(initializer, default)

"""CLIP's byte pairs: strings to ids by TensorFlow's own operations, in training and export.

The vocabulary is a list of merges, best first: of two neighbouring pieces of a word those are
joined that come first in the list, again and again. Ids are those of the bytes, of bytes that
end a word, of the merges, and of what begins and ends a text.

Source: arXiv 2103.00020 and its tokenizer, of which a text's repair (ftfy) and HTML entities
are left out; what begins or ends texts is, written in one, ordinary characters.
"""

import functools
import gzip
import json
import os
from collections.abc import Sequence

import tensorflow as tf

from official.video import files
from official.video.errors import UserError

# What a word's last piece ends with in vocabularies.
END = '</w>'
# The published list goes on after those that the published nets know.
_MERGES = 49_152 - 256 - 2
_HEADER = '#version: 0.2'
_BYTES = 256
_SPACES = r'[\s\v\x1c-\x1f\x{85}\pZ]+'
# Words, as they are split after they are lower-cased.
_WORDS = r"('s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+)"


@functools.cache
def letters_of_bytes() -> dict[int, str]:
  """The character that stands for each byte in vocabularies, in the order of their ids.

  Bytes that are printable stand for themselves, and come first.
  """
  plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [byte for byte in range(_BYTES) if byte not in plain]
  letters = {byte: chr(byte) for byte in plain}
  return letters | {byte: chr(_BYTES + number) for number, byte in enumerate(others)}


def size_of(merges: Sequence[str]) -> int:
  """How many ids a list of merges makes."""
  return 2 * _BYTES + len(merges) + 2


def _pieces(merges: Sequence[str], path: str) -> dict[str, int]:
  """Ids of all pieces of a vocabulary.

  Raises:
    UserError: a merge is none: not of two pieces that are there, or there already.
  """
  letters = letters_of_bytes().values()
  names = [*letters, *(letter + END for letter in letters)]
  ids = {name: number for number, name in enumerate(names)}
  for number, merge in enumerate(merges):
    left, _, right = merge.partition(' ')
    if left not in ids or right not in ids or left.endswith(END):
      raise UserError(
        f'task.text.vocab_file {path}: merge {number + 1}, {merge!r}, is not of two pieces '
        "that come before it; expected CLIP's merges, two pieces a line"
      )
    if left + right in ids:
      raise UserError(
        f'task.text.vocab_file {path}: merge {number + 1}, {merge!r}, makes a piece that '
        "there is already; expected CLIP's merges"
      )
    ids[left + right] = len(ids)
  return ids


def parsed(text: str, path: str) -> tuple[str, ...]:
  """The merges of a list's text, those behind the published nets' left out.

  Raises:
    UserError: it is no such list.
  """
  # Other characters that end lines are no ends of merges.
  lines = [line.rstrip('\r') for line in text.split('\n')]
  if lines and '#version' in lines[0]:
    lines = lines[1:]
  merges = tuple(line for line in lines if line)[:_MERGES]
  _pieces(merges, path)
  return merges


def read_merges(path: str = '') -> tuple[str, ...]:
  """Merges of a published vocabulary; none, so that bytes are the pieces, without a path.

  Args:
    path: OpenAI's bpe_simple_vocab_16e6.txt.gz, Hugging Face's merges.txt, or its vocab.json,
      whose merges.txt lies beside it and whose ids then have to be those of the merges.

  Raises:
    UserError: the file can't be read, or is none of these.
  """
  if not path:
    return ()
  if path.lower().endswith('.json'):
    merges = read_merges(os.path.join(os.path.dirname(path), 'merges.txt'))
    _check_ids(_read(path), merges, path)
    return merges
  return parsed(_read(path), path)


def _read(path: str) -> str:
  try:
    with tf.io.gfile.GFile(files.encodable(path), 'rb') as file:
      content = file.read()
    return (gzip.decompress(content) if content[:2] == b'\x1f\x8b' else content).decode()
  except (tf.errors.OpError, UnicodeDecodeError, OSError, EOFError) as error:
    raise UserError(
      f'task.text.vocab_file {path}: can not be read; expected '
      "CLIP's bpe_simple_vocab_16e6.txt.gz, merges.txt, or vocab.json beside a merges.txt"
    ) from error


def _check_ids(text: str, merges: Sequence[str], path: str) -> None:
  try:
    told = json.loads(text)
  except ValueError as error:
    raise UserError(f'task.text.vocab_file {path}: is no JSON: {error}') from error
  ids = _pieces(merges, path)
  ids |= {'<|startoftext|>': len(ids), '<|endoftext|>': len(ids) + 1}
  if told != ids:
    raise UserError(
      f'task.text.vocab_file {path}: its ids are not those of the merges.txt beside it; '
      "name the vocab.json of the same model, CLIP's"
    )


def written(merges: Sequence[str]) -> str:
  """A list of merges as a run keeps it, and as Hugging Face writes it."""
  return ''.join(f'{line}\n' for line in (_HEADER, *merges))


class BytePairs(tf.Module):
  """Turns strings into ids of byte pairs, from the text's begin to its end.

  Attributes:
    vocabulary: the merges.
    end: id of what ends a text.
  """

  def __init__(self, merges: Sequence[str] = ()):
    """Initializes the tokenizer of merges, best first."""
    super().__init__(name='byte_pairs')
    self.vocabulary = tuple(merges)
    ids = _pieces(self.vocabulary, 'of the tokenizer')
    self._count = len(ids)
    self._begin, self.end = self._count, self._count + 1
    pairs = [merge.partition(' ')[::2] for merge in self.vocabulary]
    keys = [ids[left] * self._count + ids[right] for left, right in pairs]
    with tf.init_scope():  # It may be made while a graph is traced, and outlives that.
      order = list(letters_of_bytes())
      self._bytes = tf.constant([order.index(byte) for byte in range(_BYTES)], tf.int32)
      self._ranks = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
          tf.constant([*keys, -1], tf.int64),
          tf.constant([*range(len(keys)), len(keys)], tf.int64),
        ),
        len(keys),
      )
    self._none = len(keys)

  def __call__(self, texts: tf.Tensor, length: int) -> tf.Tensor:
    """Ids int32 `[..., length]` of strings `[...]`, cut and padded by 0."""
    return self.cut(texts, length)[0]

  def text_of(self, ids: Sequence[int]) -> str:
    """The text that is left of ids `[L]`: pieces put together."""
    end = ids.index(self.end) if self.end in ids else len(ids)
    pieces = list(_pieces(self.vocabulary, 'of the tokenizer'))
    letters = ''.join(pieces[number] for number in ids[:end] if number != self._begin)
    byte_of = {letter: byte for byte, letter in letters_of_bytes().items()}
    words = letters.split(END)
    read = (bytes(byte_of[x] for x in word).decode(errors='replace') for word in words)
    return ' '.join(read).strip()

  def cut(self, texts: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Ids int32 `[..., length]` of strings `[...]`, and which of them lost pieces."""
    whole = self.pieces(tf.reshape(texts, [-1]))
    return framed(whole, texts, length, self._begin, self.end)

  def pieces(self, texts: tf.Tensor) -> tf.RaggedTensor:
    """All ids int32 `[B, (P)]` of strings `[B]`, without begin and end."""
    # What is no UTF-8 becomes the character for that.
    texts = tf.strings.unicode_transcode(texts, 'UTF-8', 'UTF-8')
    texts = tf.strings.lower(texts, 'utf-8')
    texts = tf.strings.regex_replace(texts, _SPACES, ' ')
    words = tf.strings.split(tf.strings.regex_replace(texts, _WORDS, r' \1 '))
    unique, place = tf.unique(words.values)
    made = tf.gather(self._of_words(unique), place)
    return words.with_values(made).merge_dims(1, 2)

  def _of_words(self, words: tf.Tensor) -> tf.RaggedTensor:
    """Ids int32 `[N, (P)]` of words `[N]`: of all pairs the best is joined, until none is."""
    letters = tf.strings.bytes_split(words)
    codes = tf.io.decode_raw(letters.values, tf.uint8)[:, 0]
    ids = letters.with_values(tf.gather(self._bytes, tf.cast(codes, tf.int32)))
    sizes = tf.cast(ids.row_lengths(), tf.int32)
    dense = ids.to_tensor(-1)
    width = tf.shape(dense)[1]
    # A word's last byte is a piece of its own.
    last = tf.range(width)[None] == sizes[:, None] - 1
    dense = tf.where(last, dense + _BYTES, dense)
    rows = tf.range(tf.shape(dense)[0])

    def step(dense, rows):
      some = tf.gather(dense, rows)
      ranks = self._ranks_of(some)
      best, at = tf.reduce_min(ranks, 1), tf.argmin(ranks, 1, tf.int32)
      going = best < self._none
      some, best, at, rows = (tf.boolean_mask(x, going) for x in (some, best, at, rows))
      places = tf.range(width)[None]
      joined = tf.cast(best, tf.int32)[:, None] + 2 * _BYTES
      following = tf.concat([some[:, 1:], tf.fill([tf.shape(some)[0], 1], -1)], 1)
      # What stood behind the pair moves up.
      some = tf.where(places == at[:, None], joined, some)
      some = tf.where(places > at[:, None], following, some)
      return tf.tensor_scatter_nd_update(dense, rows[:, None], some), rows

    dense, _ = tf.while_loop(
      lambda dense, rows: tf.size(rows) > 0,
      step,
      (dense, tf.boolean_mask(rows, sizes > 1)),
      shape_invariants=(tf.TensorShape([None, None]), tf.TensorShape([None])),
    )
    return tf.ragged.boolean_mask(dense, dense >= 0)

  def _ranks_of(self, ids: tf.Tensor) -> tf.Tensor:
    """Places in the list of merges int64 `[N, L - 1]` of neighbours; of none, behind it."""
    left, right = tf.cast(ids[:, :-1], tf.int64), tf.cast(ids[:, 1:], tf.int64)
    keys = tf.where(right >= 0, left * self._count + right, -1)
    return self._ranks.lookup(keys)


def framed(
  pieces: tf.RaggedTensor, texts: tf.Tensor, length: int, begin: int, end: int
) -> tuple[tf.Tensor, tf.Tensor]:
  """Ids int32 `[..., length]` between a begin and an end, and which texts lost pieces.

  Args:
    pieces: ids `[B, (P)]`.
    texts: strings `[...]`, as many.
    length: of the result.
    begin: id before each text.
    end: id behind it.
  """
  shape = tf.shape(texts)
  lost = tf.reshape(pieces.row_lengths() > length - 2, shape)
  kept = pieces[:, : length - 2]
  row = tf.ones([kept.nrows(), 1], tf.int32)
  ids = tf.concat([row * begin, kept, row * end], 1).to_tensor(0)
  ids = tf.pad(ids, [[0, 0], [0, length - tf.shape(ids)[1]]])
  static = [*texts.shape, length] if texts.shape.rank is not None else None
  ids = tf.reshape(ids, tf.concat([shape, [length]], 0))
  return tf.ensure_shape(ids, static), tf.ensure_shape(lost, texts.shape)

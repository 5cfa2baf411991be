"""Noun phrases of captions, extracted once, when videos are converted."""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence

from official.video import extras
from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.datasets.source import Listing, SourceClip

Token = tuple[str, str]  # A word and its Penn Treebank tag.
Chunker = Callable[[str], list[list[Token]]]

_SPACY_MODEL = 'en_core_web_sm'
_MAX_WORDS = 4
_STRIPPED = frozenset({'DT', 'PRP$', 'WDT', 'PDT'})
# Heads that name the medium or a place in it, and no thing.
_GENERIC = frozenset(
  re.findall(r'\S+', 'video clip photo image picture view background close-up footage')
)
_STOP_WORDS = frozenset(
  re.findall(
    r'\S+',
    """
    a an the this that these those my your his her its our their some any each every and or
    but of in on at by for with from to into onto over under near behind beside between
    through across around along is are was were be been being am do does did has have had he
    she it they we you i who which what while as then there up down off out very not no left
    right front top bottom next
  """,
  )
)
# Words in -ing count as verbs from this length on: 'sliding', but not 'ring'.
_LONG_ING = 6
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*|\d+|[^\w\s]")


def _textblob() -> Chunker:
  extras.require('text', '--noun_phrases=textblob (--noun_phrases=rules needs nothing)')
  from textblob import en

  def chunk(text: str) -> list[list[Token]]:
    chunks: list[list[Token]] = []
    parsed = en.parse(text, tokenize=True, tags=True, chunks=True)
    for token in str.split(parsed):  # Its own split makes lists of sentences.
      word, tag, place = token.split('/')[:3] if token.count('/') >= 3 else ('', '', 'O')
      if place == 'B-NP' or (place == 'I-NP' and not chunks):
        chunks.append([])
      if place.endswith('-NP'):
        chunks[-1].append((word, tag))
    return chunks

  return lambda text: chunk(text.replace('/', ' '))


def _spacy() -> Chunker:
  try:
    import spacy

    parse = spacy.load(_SPACY_MODEL)
  except (ImportError, OSError) as error:
    raise UserError(
      f"--noun_phrases=spacy: spaCy or its model is missing; 'pip install spacy' and "
      f"'python -m spacy download {_SPACY_MODEL}', or choose textblob"
    ) from error
  return lambda text: [
    [(token.text, token.tag_) for token in chunk] for chunk in parse(text).noun_chunks
  ]


def _rules() -> Chunker:
  """Runs of words between stop words, punctuation and -ing forms; the last is the head."""

  def chunk(text: str) -> list[list[Token]]:
    chunks: list[list[Token]] = [[]]
    for word in _WORD.findall(text.lower()):
      inside = word[0].isalpha() and word not in _STOP_WORDS
      verb = word.endswith('ing') and len(word) >= _LONG_ING
      if inside and not verb:
        chunks[-1].append((word, 'NN'))
      else:
        chunks.append([])
    return [chunk[-3:] for chunk in chunks if chunk]

  return chunk


BACKENDS: dict[str, Callable[[], Chunker]] = {
  'textblob': _textblob,
  'spacy': _spacy,
  'rules': _rules,
}
NONE = 'none'


def kept_phrases(chunks: Sequence[Sequence[Token]]) -> list[str]:
  """Phrases of noun chunks, lower-cased, in order, each once.

  Determiners and possessives are stripped. Chunks without a noun, of more than four
  words, and those whose head is the medium ('video', 'background') are dropped.

  Args:
    chunks: words with Penn Treebank tags.
  """
  phrases: dict[str, None] = {}
  for chunk in chunks:
    words = [(word.lower(), tag) for word, tag in chunk if tag not in _STRIPPED]
    words = [(word, tag) for word, tag in words if re.search(r'[a-z]', word)]
    nouns = [word for word, tag in words if tag.startswith('NN')]
    if not nouns or len(words) > _MAX_WORDS or nouns[-1] in _GENERIC:
      continue
    phrases[' '.join(word for word, _ in words)] = None
  return list(phrases)


@functools.cache
def _chunker(backend: str) -> Chunker:
  return BACKENDS[backend]()


def extract(text: str, backend: str = 'textblob') -> list[str]:
  """Noun phrases of a caption.

  Args:
    text: the caption.
    backend: a key of `BACKENDS`.

  Raises:
    UserError: the backend is not installed.
  """
  return kept_phrases(_chunker(backend)(text))


def with_phrases(listing: Listing, backend: str) -> Listing:
  """Adds noun phrases to the captioned clips that have none.

  Args:
    listing: clips of a source.
    backend: a key of `BACKENDS`, or `NONE`.

  Raises:
    UserError: the backend is not installed and a clip needs it.
  """
  if backend == NONE:
    return listing
  clips = [_with_phrases(clip, backend) for clip in listing.clips]
  return Listing(clips, listing.label_names, listing.notes)


def _with_phrases(clip: SourceClip, backend: str) -> SourceClip:
  fields = clip.fields
  if records.TEXT_CONTENT not in fields or records.TEXT_NOUN_PHRASES in fields:
    return clip
  captions = fields[records.TEXT_CONTENT]
  captions = captions if isinstance(captions, list) else [captions]
  pairs = [
    (phrase, number)
    for number, caption in enumerate(captions)
    for phrase in extract(caption, backend)
  ]
  if not pairs:
    return clip
  added = {
    records.TEXT_NOUN_PHRASES: [phrase for phrase, _ in pairs],
    records.TEXT_NOUN_CAPTION: [number for _, number in pairs],
  }
  return dataclasses.replace(clip, fields={**fields, **added})

"""What tasks on clips with texts have in common."""

import functools
import io
import os
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from official.video import files
from official.video.augment import normalization
from official.video.checkpoints import origin, restore
from official.video.data import contexts, records
from official.video.errors import UserError
from official.video.tasks import base

from . import byte_pairs, configs, model, text

# Strings of a sample, and which of the two lengths their ids have.
_LENGTHS = {
  'caption': 'max_length',
  'captions': 'max_length',
  'nouns': 'noun_length',
  'question': 'max_length',
  'questions': 'max_length',
}


# Which of a record's texts the views show.
TEXTS = {
  configs.CAPTIONED: records.TEXT_CONTENT,
  configs.QUESTIONS: records.TEXT_QUESTION,
}


# Outputs of a sample that are kept as predictions.
PREDICTIONS = (
  *('record', 'video_embed', 'captions_embed', 'caption_valid'),
  *('given', 'answers', 'question_valid'),
)
# Of each text, whether it was cut, and of each noun, whether the caption stands in for it.
MARKS = ('captions_cut', 'nouns_cut', 'noun_stands_in')


def shares(
  outputs: Mapping[str, np.ndarray], texts: str, valid: np.ndarray | None = None
) -> dict[str, float]:
  """Shares of the texts that were cut to length, and of nouns that a caption stands for.

  Args:
    outputs: of validation, with some of `MARKS`.
    texts: name of the texts.
    valid: which of them there are; all by default.
  """
  marks = {f'{texts}_cut': f'{texts}_cut'}
  if texts == 'nouns':
    marks['nouns_padded'] = 'noun_stands_in'
  found = {}
  for name, mark in marks.items():
    if mark in outputs:
      of = outputs[mark] if valid is None else outputs[mark][valid.astype(bool)]
      found[name] = float(of.mean()) if of.size else 0.0
  return found


def share_of_sample(marks: tf.Tensor) -> tf.Tensor:
  """float32 `[B]`: the share of each sample's texts that are marked, bool `[B, ...]`."""
  marks = tf.cast(marks, tf.float32)
  return tf.reduce_mean(marks, list(range(1, marks.shape.rank)))


class TextTask(base.VideoTask):
  """A task on clips with texts, which become word pieces after they are batched."""

  @functools.cached_property
  def vocabulary(self) -> tuple[str, ...]:
    """Word pieces by id: as configured, or of the run whose weights are read.

    Raises:
      UserError: both are there and differ, or the text encoder is of another size.
    """
    config = self.task_config
    configured, kind = config.text.vocab_file, self.text_kind
    pieces = kind.read(configured) if configured else None
    for folder in self._runs():
      kept = origin.of(folder).remembered(kind.file)
      if kept is None:
        continue
      theirs = kind.parsed(kept, os.path.join(folder, kind.file))
      if pieces is not None and pieces != theirs:
        raise UserError(
          f'{folder}: was trained with another vocabulary than '
          f'{configured or "that of the checkpoints before it"} ({kind.size(theirs)} and '
          f'{kind.size(pieces)} word pieces); leave task.text.vocab_file empty to take its own'
        )
      pieces = theirs
    pieces = pieces or kind.read('')
    kind.check(pieces, configured, config.model.text.vocab_size)
    return pieces

  @property
  def text_kind(self) -> text.Kind:
    """The kind of the text encoder and of its vocabulary."""
    return text.KINDS.find(self.task_config.model.text.kind)

  def _runs(self) -> list[str]:
    """Checkpoints and folders whose text encoders this task goes on with."""
    config = self.task_config
    named = (
      self.logging_dir,
      config.init_checkpoint,
      config.model.text.init_checkpoint,
      *self._read,
    )
    return [path for path in dict.fromkeys(named) if path]

  @functools.cached_property
  def _read(self) -> list[str]:
    return []

  def check_origin(self, checkpoint: str, heads: Collection[str] = ()) -> origin.Origin:
    """As every task's; the vocabulary has to be the checkpoint's, or becomes it."""
    found = super().check_origin(checkpoint, heads)
    if checkpoint not in self._runs():
      self._read.append(checkpoint)
      for cached in ('vocabulary', 'word_piece'):
        self.__dict__.pop(cached, None)
    pieces = self.vocabulary  # Refuses one that does not fit.
    file = self.text_kind.file
    if found.task is None and found.remembered(file) is None:
      found = found.noting(
        f'{checkpoint}: no {file} tells its word pieces; assumed, if it has a text '
        f'encoder: {self._assumed(pieces)}'
      )
    return found

  def _assumed(self, pieces: tuple[str, ...]) -> str:
    size = self.text_kind.size(pieces)
    return self.task_config.text.vocab_file or f'{size} word pieces'

  def check_text_origin(self) -> None:
    """Refuses a text encoder's own checkpoint of another function or vocabulary.

    Of one that came without a vocabulary it prints which one is assumed.
    """
    config = self.task_config
    path = config.model.text.init_checkpoint
    if not path:
      return
    found = origin.check_text(config, path)
    pieces = self.vocabulary  # Refuses one that does not fit.
    file = self.text_kind.file
    if found.remembered(file) is None:
      found.noting(
        f'{path}: no {file} tells its word pieces; assumed: {self._assumed(pieces)}'
      ).tell()

  def check_initial(self, model: model.GvilmModel) -> str:
    """As every task's; looks at the text encoder's own checkpoint too."""
    self.check_text_origin()
    return super().check_initial(model)

  def vocabularies(self) -> dict[str, str]:
    """The vocabulary, without which the text encoder means nothing."""
    kind = self.text_kind
    return super().vocabularies() | {kind.file: kind.written(self.vocabulary)}

  def save_predictions(self, outputs: Mapping[str, np.ndarray], folder: str) -> list[str]:
    """Writes predictions.npz: embeddings, or the answers given; returns its path."""
    buffer = io.BytesIO()
    kept: dict[str, Any] = {key: outputs[key] for key in PREDICTIONS if key in outputs}
    np.savez(buffer, **kept)
    path = os.path.join(folder, 'predictions.npz')
    files.write_atomically(path, buffer.getvalue())
    return [path]

  @functools.cached_property
  def word_piece(self) -> text.WordPiece | byte_pairs.BytePairs:
    """The tokenizer."""
    return self.text_kind.tokenizer(self.vocabulary)

  def check_data(self, training: bool, evaluation: bool = True) -> None:
    """Finds the data, and checks vocabulary and lengths."""
    config = self.task_config
    _ = self.vocabulary  # Refuses one that does not fit.
    lengths = (3, config.text.noun_length, config.text.max_length)
    if list(lengths) != sorted(lengths) or lengths[-1] > config.model.text.max_positions:
      raise UserError(
        f'task.text.noun_length {lengths[1]}, max_length {lengths[2]}: expected 3 <= '
        f'noun_length <= max_length <= {config.model.text.max_positions}'
      )
    super().check_data(training, evaluation)

  def build_inputs(self, params, input_context=None, start_step=0):
    """As every task's, with the strings as word-piece ids `<name>_ids`."""
    if not params.num_captions:
      params = params.replace(num_captions=self._most_texts(params))
    dataset = super().build_inputs(params, input_context, start_step)
    return dataset.map(self.tokenized, num_parallel_calls=tf.data.AUTOTUNE)

  def _most_texts(self, params) -> int:
    """Captions (or questions) of the record that has most; evaluation takes all."""
    if params.is_training:
      return 1  # It draws one.
    return max(1, self._most_validation_texts)

  @functools.cached_property
  def _most_validation_texts(self) -> int:
    config = self.task_config.validation_data
    key = TEXTS.get(config.views, records.TEXT_CONTENT)
    return contexts.most_values(self.validation_index, key)

  def training_spec(self):
    """As every task's, with word-piece ids for the strings."""
    traced = tf.function(self.tokenized, autograph=False)
    outputs = traced.get_concrete_function(super().training_spec()).structured_outputs
    return tf.nest.map_structure(tf.TensorSpec.from_tensor, outputs)

  def tokenized(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A batch with ids int32 `[..., L]` for its strings."""
    result = dict(inputs)
    lengths = self.task_config.text
    for name in _LENGTHS.keys() & inputs.keys():
      length = getattr(lengths, _LENGTHS[name])
      result[f'{name}_ids'], result[f'{name}_cut'] = self.word_piece.cut(
        result.pop(name), length
      )
    if 'nouns' in inputs:
      # A caption that stands in for a noun phrase is read whole.
      stands_in = inputs['nouns'] == inputs['caption'][..., None]
      ids = result['nouns_ids']
      longer = [0, lengths.max_length - lengths.noun_length]
      ids = tf.pad(ids, [[0, 0]] * (ids.shape.rank - 1) + [longer])
      whole = result['caption_ids'][..., None, :]
      result['nouns_ids'] = tf.where(stands_in[..., None], whole, ids)
      result['nouns_cut'] = tf.where(
        stands_in, result['caption_cut'][..., None], result['nouns_cut']
      )
      result['noun_stands_in'] = stands_in
    return result

  def read_back(self, ids: tf.Tensor) -> np.ndarray:
    """Texts (object) of word-piece ids `[..., L]`: what is left of them to the encoder."""
    rows = np.reshape(ids, [-1, ids.shape[-1]])
    texts = [self.word_piece.text_of(row.tolist()) for row in rows]
    return np.array(texts, object).reshape(ids.shape[:-1])

  def initialize(self, model: model.GvilmModel) -> None:
    """Reads `init_checkpoint` and the text encoder's own checkpoint, loudly.

    Of the first, the video encoder is required; text encoder and projections are taken
    where it holds them.
    """
    config = self.task_config
    if config.model.text.init_checkpoint:
      text_checkpoint = config.model.text.init_checkpoint
      self.check_text_origin()
      restore.restore({'text_encoder': model.text_encoder}, text_checkpoint)
    if config.init_checkpoint:
      found = self.check_origin(config.init_checkpoint, self.initial_heads)
      objects = {
        'backbone': model.backbone,
        'text_encoder': model.text_encoder,
        'head': model.head,
      }
      restore.restore(objects, config.init_checkpoint, required=('backbone',))
      found.tell()

  def clips_of(self, views: tf.Tensor) -> tf.Tensor:
    """The first view of each sample, normalized: [B, T, H, W, 3]."""
    return normalization.normalize(views[:, 0], self.task_config.zero_centering)

"""What tasks on clips with texts have in common."""

import functools
from collections.abc import Mapping

import tensorflow as tf

from official.video.augment import normalization
from official.video.checkpoints import restore
from official.video.errors import UserError
from official.video.tasks import base

from . import model, text

# Strings of a sample, and which of the two lengths their ids have.
_LENGTHS = {
  'caption': 'max_length',
  'captions': 'max_length',
  'nouns': 'noun_length',
  'question': 'max_length',
  'questions': 'max_length',
}


class TextTask(base.VideoTask):
  """A task on clips with texts, which become word pieces after they are batched."""

  @functools.cached_property
  def word_piece(self) -> text.WordPiece:
    """The tokenizer."""
    return text.WordPiece(self.task_config.text.vocab_file)

  def check_data(self, training: bool) -> None:
    """Finds the data, and checks vocabulary and lengths."""
    config = self.task_config
    text.check_vocabulary(config.text.vocab_file, config.model.text.vocab_size)
    lengths = (3, config.text.noun_length, config.text.max_length)
    if list(lengths) != sorted(lengths) or lengths[-1] > config.model.text.max_positions:
      raise UserError(
        f'task.text.noun_length {lengths[1]}, max_length {lengths[2]}: expected 3 <= '
        f'noun_length <= max_length <= {config.model.text.max_positions}'
      )
    super().check_data(training)

  def build_inputs(self, params, input_context=None, start_step=0):
    """As every task's, with the strings as word-piece ids `<name>_ids`."""
    dataset = super().build_inputs(params, input_context, start_step)
    return dataset.map(self.tokenized, num_parallel_calls=tf.data.AUTOTUNE)

  def tokenized(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A batch with ids int32 `[..., L]` for its strings."""
    result = dict(inputs)
    for name in _LENGTHS.keys() & inputs.keys():
      length = getattr(self.task_config.text, _LENGTHS[name])
      result[f'{name}_ids'] = self.word_piece(result.pop(name), length)
    return result

  def initialize(self, model: model.GvilmModel) -> None:
    """Reads `init_checkpoint` and the text encoder's own checkpoint, loudly.

    Of the first, the video encoder is required; text encoder and projections are taken
    where it holds them.
    """
    config = self.task_config
    if config.model.text.init_checkpoint:
      restore.restore(
        {'text_encoder': model.text_encoder}, config.model.text.init_checkpoint
      )
    if config.init_checkpoint:
      objects = {
        'backbone': model.backbone,
        'text_encoder': model.text_encoder,
        'head': model.head,
      }
      restore.restore(objects, config.init_checkpoint, required=('backbone',))

  def clips_of(self, views: tf.Tensor) -> tf.Tensor:
    """The first view of each sample, normalized: [B, T, H, W, 3]."""
    return normalization.normalize(views[:, 0], self.task_config.zero_centering)

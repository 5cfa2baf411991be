"""SavedModel signatures: videos and raw strings to embeddings, and their similarity."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from official.video.augment import normalization
from official.video.serving import module

from . import configs, data, model, text


class DualEncoderModule(module.EncoderModule):
  """Every video encoder's signatures with three more, for any batch size.

  'encode_video' and 'encode_text' return unit vectors 'embedding' `[B, D]`; 'similarity'
  returns the cosines `[videos, texts]` of clips and strings, whose temperature is
  'temperature'. Word pieces are made by TensorFlow's own operations.
  """

  def __init__(
    self,
    dual_encoder: model.GvilmModel,
    config: configs.GvilmTask,
    vocabulary: Sequence[str],
  ):
    """Initializes the module.

    Args:
      dual_encoder: restored model.
      config: of the experiment.
      vocabulary: of its text encoder.
    """
    test = dataclasses.replace(config.validation_data, num_views=0)
    super().__init__(dual_encoder, test, config.zero_centering, classifies=False)
    self._views = data.CaptionedViewMaker(test)
    object.__setattr__(self, '_dual_encoder', dual_encoder)  # As the model itself.
    self._pieces = text.KINDS.find(config.model.text.kind).portable(vocabulary)
    self._length = config.text.max_length

  def encode_video(self, clips: tf.Tensor) -> dict[str, tf.Tensor]:
    """'embedding' and pooled 'feature' of `[B, T, H, W, 3]` uint8 clips."""
    clips = self._checked(clips)
    count, clips = tf.shape(clips)[0], module.at_least_one(clips)
    seen = self._dual_encoder.watch(normalization.normalize(clips, self._zero_centering))
    return {'embedding': seen['video_embed'][:count], 'feature': seen['feature'][:count]}

  def lite(self, clips: tf.Tensor) -> dict[str, tf.Tensor]:
    """As `encode_video`, of clips that need no looking at."""
    seen = self._dual_encoder.watch(normalization.normalize(clips, self._zero_centering))
    return {'embedding': seen['video_embed'], 'feature': seen['feature']}

  def encode_text(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
    """'embedding' of `[B]` strings."""
    ids = self._pieces(tf.ensure_shape(texts, [None]), self._length)
    return {'embedding': self._dual_encoder.read(ids)['text_embed']}

  def similarity(self, clips: tf.Tensor, texts: tf.Tensor) -> dict[str, tf.Tensor]:
    """'similarity' `[videos, texts]` and the learnt 'temperature' `[]`."""
    videos = self.encode_video(clips)['embedding']
    similarity = tf.matmul(videos, self.encode_text(texts)['embedding'], transpose_b=True)
    return {
      'similarity': similarity,
      'temperature': self._dual_encoder.head.contrast.value(),
    }

  def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """The concrete functions to save, by signature name."""
    clips = tf.TensorSpec([None, None, None, None, 3], tf.uint8, 'clips')
    texts = tf.TensorSpec([None], tf.string, 'texts')

    def traced(function, *specs):
      return tf.function(function, autograph=False).get_concrete_function(*specs)

    return super().signatures() | {
      'encode_video': traced(self.encode_video, clips),
      'encode_text': traced(self.encode_text, texts),
      'similarity': traced(self.similarity, clips, texts),
    }

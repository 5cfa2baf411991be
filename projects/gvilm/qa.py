"""Open-ended video question answering: one of a vocabulary of answers."""

import functools
import io
import itertools
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import task_factory

from official.video import files, registry
from official.video.checkpoints import origin
from official.video.configs import reads
from official.video.errors import UserError
from official.video.losses import gather

from . import base, configs, model

# The run's answers by id, one a line.
ANSWERS = 'answers.txt'


class FusionBlock(tf_keras.layers.Layer):
  """Question pieces attend to themselves, then to the video; an MLP follows."""

  def __init__(self, width: int, heads: int, name: str):
    super().__init__(name=name, dtype='float32')
    norm = functools.partial(tf_keras.layers.LayerNormalization, epsilon=1e-6)
    attention = functools.partial(
      tf_keras.layers.MultiHeadAttention, heads, width // heads
    )
    self.self_norm, self.cross_norm = norm(name='self_norm'), norm(name='cross_norm')
    self.mlp_norm = norm(name='mlp_norm')
    self.self_attention = attention(name='self_attention')
    self.cross_attention = attention(name='cross_attention')
    self.mlp_1 = tf_keras.layers.Dense(4 * width, 'gelu', name='mlp_1')
    self.mlp_2 = tf_keras.layers.Dense(width, name='mlp_2')

  def call(self, question: tf.Tensor, video: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """`[B, L, D]` pieces, given tokens `[B, V, D]` and which pieces there are `[B, L]`."""
    x = self.self_norm(question)
    question += self.self_attention(x, x, attention_mask=mask[:, None])
    question += self.cross_attention(self.cross_norm(question), video)
    return question + self.mlp_2(self.mlp_1(self.mlp_norm(question)))


class AttentionHead(tf_keras.layers.Layer):
  """Fusion blocks; of the question's first piece an MLP makes the answer's logits."""

  def __init__(self, config: configs.FusionHead, width: int):
    """Initializes the head.

    Raises:
      UserError: the heads do not divide the width.
    """
    super().__init__(name='fusion', dtype='float32')
    if width % config.num_heads:
      raise UserError(
        f'task.head.num_heads {config.num_heads}: does not divide the text width {width}'
      )
    self.video_dense = tf_keras.layers.Dense(width, name='video')
    self.video_norm = tf_keras.layers.LayerNormalization(epsilon=1e-6, name='video_norm')
    self.blocks = [
      FusionBlock(width, config.num_heads, f'block_{i}') for i in range(config.num_layers)
    ]
    self.hidden = tf_keras.layers.Dense(2 * width, 'gelu', name='hidden')
    self.norm = tf_keras.layers.LayerNormalization(epsilon=1e-6, name='norm')
    self.answer = tf_keras.layers.Dense(config.num_answers, name='answer')

  def call(self, seen: dict, read: dict) -> tf.Tensor:
    """Logits `[B, answers]` of what `AnswerModel.answer` collects."""
    tokens = [seen['feature'][:, None], seen['groups'][:, :, 0, 0], seen['clip_features']]
    tokens = tf.concat([tf.cast(x, tf.float32) for x in tokens], 1)
    video = self.video_norm(self.video_dense(tokens))
    question = tf.cast(read['sequence_output'], tf.float32)
    for block in self.blocks:
      question = block(question, video, read['mask'])
    return self.answer(self.norm(self.hidden(question[:, 0])))


class ConcatHead(tf_keras.layers.Layer):
  """An MLP on both embeddings and their product."""

  def __init__(self, config: configs.FusionHead, width: int):
    super().__init__(name='fusion', dtype='float32')
    self.hidden = tf_keras.layers.Dense(2 * width, 'gelu', name='hidden')
    self.norm = tf_keras.layers.LayerNormalization(epsilon=1e-6, name='norm')
    self.answer = tf_keras.layers.Dense(config.num_answers, name='answer')

  def call(self, seen: dict, read: dict) -> tf.Tensor:
    """Logits `[B, answers]`."""
    video, question = seen['video_embed'], read['text_embed']
    x = tf.concat([video, question, video * question], -1)
    return self.answer(self.norm(self.hidden(x)))


HEADS: registry.Registry[type[tf_keras.layers.Layer]] = registry.Registry(
  'task.head.type', {'attention': AttentionHead, 'concat': ConcatHead}
)


class AnswerModel(model.GvilmModel):
  """The dual encoder under a fusion head.

  Attributes:
    fusion: maps video and question to logits.
  """

  def __init__(self, config: configs.Model, head: configs.FusionHead):
    """Builds all variables.

    Args:
      config: of the encoders.
      head: of the fusion.
    """
    super().__init__(config)
    make = HEADS.find(head.type)
    with reads.all_used(
      head, 'task.head', f'type {head.type!r}', ('type', 'answers_file')
    ) as read_head:
      self.fusion = make(read_head, self.text_encoder.sequence_width)
    groups, width = self.backbone.output_specs['groups'][1::3]
    embedding = tf_keras.Input([config.output_dim])
    seen = {
      'feature': tf_keras.Input([width]),
      'groups': tf_keras.Input([groups, 1, 1, width]),
      'clip_features': tf_keras.Input([None, width]),
      'video_embed': embedding,
    }
    read = {
      'sequence_output': tf_keras.Input([None, self.text_encoder.sequence_width]),
      'mask': tf_keras.Input([None], dtype=tf.bool),
      'text_embed': embedding,
    }
    self.fusion(seen, read)

  @property
  def checkpoint_items(self) -> dict[str, tf_keras.layers.Layer]:
    """The fusion head by name beside the dual encoder's."""
    return super().checkpoint_items | {'fusion': self.fusion}

  def ask(self, seen: dict, questions: tf.Tensor) -> tf.Tensor:
    """Logits `[B, answers]` of `watch`'s results and question ids `[B, L]`."""
    outputs = self.text_encoder.outputs(questions)
    mask = self.text_encoder.mask(questions)
    feature = self.text_encoder.pooled(outputs, mask)
    read = {
      'sequence_output': outputs['sequence_output'],
      'mask': mask,
      'text_embed': self.head.project('text', feature),
    }
    names = ('feature', 'groups', 'clip_features', 'video_embed')
    fused = self.fusion({name: seen[name] for name in names}, read)
    return tf.cast(fused, tf.float32)

  def answer(
    self, clips: tf.Tensor, questions: tf.Tensor, training: bool = False
  ) -> tf.Tensor:
    """Logits `[B, answers]` of normalized clips and question ids `[B, L]`."""
    return self.ask(self.watch(clips, training), questions)


def _check_answers(
  theirs: Sequence[str], mine: Sequence[str], checkpoint: str, source: str
) -> None:
  """Raises `UserError` where answers by id differ; it names the first that does."""
  for number, (one, other) in enumerate(itertools.zip_longest(theirs, mine)):
    if one != other:
      raise UserError(
        f'task.head.answers_file {source}: its answers are not those that {checkpoint} was '
        f'trained on ({len(mine)} and {len(theirs)}; answer {number} is {other!r} and '
        f"{one!r}); use the {ANSWERS} in that run's folder, and data converted with it"
      )


@task_factory.register_task_cls(configs.QuestionTask)
class QuestionTask(base.TextTask):
  """Classifies the answer; one outside of the vocabulary counts as wrong."""

  scalar_names = ('accuracy', 'questions_cut')
  headline = ('accuracy',)
  later_scalars = ('questions_cut',)
  # Of the contrast's temperatures an answer does not depend.
  initial_heads = ('head',)
  takes = {
    name: {'views': configs.QUESTIONS} for name in ('train_data', 'validation_data')
  }

  @property
  def score_names(self) -> tuple[str, ...]:
    """See the base."""
    return ('accuracy', 'answers_in_vocabulary')

  def chance(self) -> float:
    """That of answers which are all as likely."""
    return math.log(self.task_config.head.num_answers)

  def check_data(self, training: bool, evaluation: bool = True) -> None:
    """Finds the data, and reads the answers."""
    config = self.task_config
    if config.head.answers_file:
      self.answers()
    super().check_data(training, evaluation)

  def answers(self) -> Sequence[str]:
    """Answers by id: of the file, else their numbers.

    Raises:
      UserError: the file has not as many as the head.
    """
    head = self.task_config.head
    if not head.answers_file:
      return [str(i) for i in range(head.num_answers)]
    try:
      with tf.io.gfile.GFile(files.encodable(head.answers_file)) as file:
        names = [line.rstrip('\r\n') for line in file if line.strip()]
    except tf.errors.OpError as error:
      raise UserError(
        f'task.head.answers_file {head.answers_file}: can not be read'
      ) from error
    if len(names) != head.num_answers:
      raise UserError(
        f'task.head.answers_file {head.answers_file}: has {len(names)} answers, '
        f'task.head.num_answers is {head.num_answers}; set it to {len(names)}'
      )
    return names

  def vocabularies(self) -> dict[str, str]:
    """The answers too, where a file names them: the head's columns mean nothing else."""
    kept = super().vocabularies()
    if self.task_config.head.answers_file:
      kept[ANSWERS] = ''.join(f'{answer}\n' for answer in self.answers())
    return kept

  def check_origin(self, checkpoint: str, heads: Collection[str] = ()) -> origin.Origin:
    """As every task's; with the fusion, other answers are refused too."""
    found = super().check_origin(checkpoint, heads)
    fused = 'fusion' in heads
    kept = found.remembered(ANSWERS) if fused else None
    named = self.task_config.head.answers_file
    if not fused or not (kept or named):
      return found
    if kept is None:
      note = (
        f'{checkpoint}: keeps no {ANSWERS}; assumed: its answers are those of {named}'
      )
    elif not named:
      note = (
        f"{checkpoint}: was trained on the answers of its {ANSWERS}; assumed: the data's "
        'ids are of them, as no task.head.answers_file is set'
      )
    else:
      theirs = [line.rstrip('\r\n') for line in io.StringIO(kept)]
      _check_answers(theirs, self.answers(), checkpoint, named)
      return found
    return found.noting(note)

  def build_model(self) -> AnswerModel:
    """Encoders under the fusion head."""
    config = self.task_config
    return AnswerModel(config.model, config.head)

  def forward(self, inputs, model, training):
    """{'output': [B, answers] logits} of one question a clip."""
    clips = self.clips_of(inputs['views'])
    return {'output': model.answer(clips, inputs['question_ids'], training)}

  def compute_loss(self, outputs, inputs):
    """Cross entropy and accuracy over the questions whose answer is in the vocabulary.

    'questions_cut' is the share of all that lost word pieces.
    """
    logits = gather.gather(outputs['output'])
    answers = gather.gather(inputs['answer'])
    known = tf.cast(answers >= 0, tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
      tf.maximum(answers, 0), logits
    )
    hits = tf.cast(tf.argmax(logits, -1) == answers, tf.float32)
    total = tf.reduce_sum(known)
    return {
      'loss': tf.math.divide_no_nan(tf.reduce_sum(known * losses), total),
      'accuracy': tf.math.divide_no_nan(tf.reduce_sum(hits), total),
      'questions_cut': tf.reduce_mean(
        gather.gather(base.share_of_sample(inputs['question_cut']))
      ),
    }

  def words_of(self, inputs):
    """Question as it is read, and the answer."""
    names = self.answers()
    pairs = zip(
      self.read_back(inputs['question_ids']), inputs['answer'].numpy(), strict=True
    )
    return [
      {
        'question': str(question),
        'answer': names[x] if x >= 0 else 'none of the vocabulary',
      }
      for question, x in pairs
    ]

  def validation_outputs(self, inputs, model):
    """The answer given to each of a clip's questions."""
    seen = model.watch(self.clips_of(inputs['test_views']))
    ids = inputs['questions_ids']
    count = ids.shape[1]
    repeated = {
      name: tf.repeat(seen[name], count, 0)
      for name in ('feature', 'groups', 'clip_features', 'video_embed')
    }
    logits = model.ask(repeated, tf.reshape(ids, [-1, ids.shape[2]]))
    given = tf.reshape(tf.argmax(logits, -1), [-1, count])
    passed = ('answers', 'question_valid', 'num_questions', 'questions_cut')
    return {'given': given} | {name: inputs[name] for name in passed}

  def score(self, outputs) -> dict[str, Any]:
    """Top-1 accuracy over all questions, and what the commonest answer would score."""
    valid = outputs['question_valid'].astype(bool)
    given, right = outputs['given'][valid], outputs['answers'][valid]
    known = right[right >= 0]
    commonest = np.bincount(known).max() if len(known) else 0
    return {
      'accuracy': float((given == right).mean()),
      'commonest_answer': float(commonest / len(right)),
      'answers_in_vocabulary': float((right >= 0).mean()),
      'questions': len(right),
      'questions_expected': int(outputs['num_questions'].sum()),
      **base.shares(outputs, 'questions', outputs['question_valid']),
      'evaluated': len(valid),
      'expected': len(self.validation_index),
    }

  def protocol_of(self, scores):
    """Which questions were scored, and how an answer counts that is not known."""
    scored, of = scores['questions'], scores['questions_expected']
    which = 'all' if scored == of else f'{scored} of {of}'
    return f'top-1 over {which} questions; an answer outside of the vocabulary is wrong'

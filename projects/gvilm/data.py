"""G-ViLM's views: frames of a whole clip, a caption, noun phrases in a prompt.

Importing this module registers the view makers and the sampler by name.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from official.video import draws, registry
from official.video.augment import mixing
from official.video.data import records, samplers, views
from official.video.data.samplers import Scalar
from official.video.errors import UserError

from . import configs

# One is drawn for each noun phrase in training; evaluation takes the first.
PROMPTS: Sequence[str] = (
  'a video of {}.',
  'a video with {}.',
  'a clip showing {}.',
  'footage of {}.',
  'there is {} in the video.',
  'a photo of {}.',
  'a close-up of {}.',
  'a scene with {}.',
)
# What stands in for the nouns that a caption lacks.
PADDINGS = ('caption', 'none')
# Phrases of a caption that are drawn from.
_MAX_PHRASES = 64
_SIDED = r'(?i)(^|.*\W)(left|right)(\W.*|$)'


def prompted(phrases: tf.Tensor, prompts: tf.Tensor) -> tf.Tensor:
  """Puts each phrase into the prompt of that number, both of one shape."""
  begin, end = zip(*(prompt.split('{}') for prompt in PROMPTS), strict=True)
  return tf.strings.join([tf.gather(begin, prompts), phrases, tf.gather(end, prompts)])


def is_sided(caption: tf.Tensor) -> tf.Tensor:
  """Whether a caption says left or right, so that its mirrored video contradicts it."""
  return tf.strings.regex_full_match(caption, _SIDED)


@samplers.SAMPLERS.register('segments')
class SegmentSampler:
  """One random frame of each of T equal segments of the whole video, for every view."""

  takes_stride = False

  def __call__(
    self, key: tf.Tensor, num_frames: Scalar, num_steps: int, stride: int, num_views: int
  ) -> tf.Tensor:
    """[V, T] int32 frame indices; the stride is the video's length over T."""
    del stride
    num_frames = tf.cast(num_frames, tf.int32)
    bounds = num_frames * tf.range(num_steps + 1) // num_steps
    sizes = tf.maximum(bounds[1:] - bounds[:-1], 1)
    drawn = [
      draws.uniform(draws.fold(key, view), 'jitter', [num_steps])
      for view in range(num_views)
    ]
    offsets = tf.cast(tf.stack(drawn) * tf.cast(sizes, tf.float32), tf.int32)
    return tf.minimum(bounds[:-1] + tf.minimum(offsets, sizes - 1), num_frames - 1)


class CaptionedViewMaker(views.ViewMaker):
  """Frames of the whole clip with a caption and some of its noun phrases, as strings.

  Training draws one of the clip's captions, some of its phrases without replacement and
  a prompt for each; evaluation takes all captions, and the first phrases of the first.
  A training clip whose caption says left or right is not mirrored.
  """

  fields: Sequence[str] = (
    records.TEXT_CONTENT,
    records.TEXT_NOUN_PHRASES,
    records.TEXT_NOUN_CAPTION,
  )
  needs: Mapping[str, str] = {
    records.TEXT_CONTENT: (
      'convert with captions: a source that has them (docs/data_sets.md), or a column '
      "'caption' of --source=csv or jsonl"
    )
  }

  def __init__(self, config: configs.CaptionedData):
    super().__init__(config)
    self._config: configs.CaptionedData
    registry.check_choice('noun_padding', config.noun_padding, PADDINGS)
    if config.num_nouns < 1 or config.num_captions < 0:
      raise UserError(
        f'num_nouns {config.num_nouns}, num_captions {config.num_captions}: expected at '
        'least 1 phrase, and captions or 0 for all'
      )
    # The task asks the records how many there are before it reads them.
    self._reads.add('num_captions')
    self._num_texts = max(1, config.num_captions)

  def training_sample(
    self, clip: Mapping[str, tf.Tensor], key: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """As `training_views`, with what is said of the clip.

    Returns:
      Also 'caption' [R] and 'nouns' [R, K] strings, 'noun_valid' [R, K] bool, 'noun_id'
      [R, K] int64 (equal for equal phrases) and 'sample_key' [R, 2] int32.
    """
    captions = _captions(clip)
    keys = [key] + [
      draws.fold(key, f'repeat/{i}') for i in range(1, self._config.clips_per_decode)
    ]
    chosen = draws.integer(key, 'caption', tf.size(captions))
    texts = [self._text(clip, captions, chosen, k) for k in keys]
    stacked = {name: tf.stack([text[name] for text in texts]) for name in texts[0]}
    sided = is_sided(captions[chosen])
    return self.training_views(clip['frames'], key, ~sided) | stacked

  def test_sample(
    self, clip: Mapping[str, tf.Tensor], number: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """The test view with 'captions' [1, C], 'caption_valid' [1, C] and the first's nouns.

    'num_captions' [1] int32 counts those that the record has.
    """
    captions = _captions(clip)
    count = self._num_texts
    text = self._text(clip, captions, tf.constant(0), None)
    return super().test_sample(clip, number) | {
      'captions': _padded(captions, count, '')[None],
      'caption_valid': (tf.range(count) < tf.size(captions))[None],
      'num_captions': tf.size(captions)[None],
      **{name: value[None] for name, value in text.items()},
    }

  def test_indices(self, num_frames: tf.Tensor, clip: tf.Tensor) -> tf.Tensor:
    """[T] frames of a test clip that spans the whole video, evenly spread."""
    count = max(1, self._config.num_test_clips)
    steps = self._config.feature_shape[0]
    return samplers.uniform_indices(num_frames, steps, count)[clip]

  def _text(
    self,
    clip: Mapping[str, tf.Tensor],
    captions: tf.Tensor,
    chosen: tf.Tensor,
    key: tf.Tensor | None,
  ) -> dict[str, tf.Tensor]:
    """Caption and nouns; without a key the first ones in the first prompt."""
    count = self._config.num_nouns
    phrases = _phrases_of(clip, chosen)[:_MAX_PHRASES]
    if key is None:
      prompts = tf.zeros([count], tf.int32)
    else:
      order = tf.argsort(draws.uniform(key, 'nouns', [_MAX_PHRASES])[: tf.size(phrases)])
      phrases = tf.gather(phrases, order)
      prompts = draws.uniform(key, 'prompts', [count]) * len(PROMPTS)
      prompts = tf.minimum(tf.cast(prompts, tf.int32), len(PROMPTS) - 1)
    caption = captions[chosen]
    present = tf.range(count) < tf.size(phrases)
    nouns = _padded(phrases, count, '')
    padded = self._config.noun_padding == 'caption'
    text = tf.where(present, prompted(nouns, prompts), caption if padded else '')
    # A caption is a noun of its own: its words, not those of the phrases that it lacks.
    ids = tf.where(present, nouns, caption)
    made = {
      'caption': caption,
      'nouns': text,
      'noun_valid': present | padded,
      'noun_id': tf.strings.to_hash_bucket_strong(ids, 2**62, [1, 2]),
    }
    return made if key is None else made | {'sample_key': key}


def _captions(clip: Mapping[str, tf.Tensor]) -> tf.Tensor:
  """[N] captions; an error where there are none, which costs the record only."""
  captions = clip[records.TEXT_CONTENT]
  check = tf.debugging.Assert(
    tf.size(captions) > 0, [f'the record has no {records.TEXT_CONTENT}']
  )
  with tf.control_dependencies([check]):
    return tf.identity(captions)


def _phrases_of(clip: Mapping[str, tf.Tensor], caption: tf.Tensor) -> tf.Tensor:
  phrases = clip[records.TEXT_NOUN_PHRASES]
  owner = clip[records.TEXT_NOUN_CAPTION]
  owner = tf.cond(
    tf.size(owner) > 0,
    lambda: owner,
    lambda: tf.zeros([tf.size(phrases)], tf.int64),
  )
  return tf.boolean_mask(phrases, owner == tf.cast(caption, tf.int64))


def _padded(values: tf.Tensor, count: int, filler: str | int) -> tf.Tensor:
  """The first `count` values, filled up."""
  missing = tf.maximum(count - tf.size(values), 0)
  padding = tf.fill([missing], tf.constant(filler, values.dtype))
  return tf.ensure_shape(tf.concat([values[:count], padding], 0), [count])


class QuestionViewMaker(CaptionedViewMaker):
  """Frames of the whole clip with questions and the ids of their answers.

  Training draws one question of those whose answer is in the vocabulary; evaluation
  takes all.
  """

  fields = (records.TEXT_QUESTION, records.TEXT_ANSWER_INDEX)
  needs = dict.fromkeys(
    fields,
    'convert with questions: --source=videoqa with --answers (docs/data_sets.md), whose '
    'list tfrecords_tools.answers writes',
  )

  def training_sample(
    self, clip: Mapping[str, tf.Tensor], key: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """As `training_views`, with 'question' [R] strings and 'answer' [R] int64.

    The answer is -1 where the clip has no question whose answer is in the vocabulary.
    """
    questions, answers = self._pairs(clip)
    known = tf.reshape(tf.where(answers >= 0), [-1])
    some = tf.size(known) > 0
    known = tf.cond(some, lambda: known, lambda: tf.zeros([1], tf.int64))
    number = known[draws.integer(key, 'question', tf.size(known))]
    repeats = self._config.clips_per_decode
    question = questions[number]
    return self.training_views(clip['frames'], key, ~is_sided(question)) | {
      'question': tf.repeat(question[None], repeats),
      'answer': tf.repeat(tf.where(some, answers[number], -1)[None], repeats),
    }

  def test_sample(
    self, clip: Mapping[str, tf.Tensor], number: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """The test view with 'questions', 'answers' and 'question_valid', each [1, Q].

    'num_questions' [1] int32 counts those that the record has.
    """
    questions, answers = self._pairs(clip)
    count = self._num_texts
    return views.ViewMaker.test_sample(self, clip, number) | {
      'questions': _padded(questions, count, '')[None],
      'answers': _padded(answers, count, -1)[None],
      'question_valid': (tf.range(count) < tf.size(questions))[None],
      'num_questions': tf.size(questions)[None],
    }

  def _pairs(self, clip: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    questions = clip[records.TEXT_QUESTION]
    answers = clip[records.TEXT_ANSWER_INDEX]
    check = tf.debugging.Assert(
      (tf.size(questions) > 0) & (tf.size(questions) == tf.size(answers)),
      [f'the record lacks {records.TEXT_QUESTION} or an answer id for each'],
    )
    with tf.control_dependencies([check]):
      return tf.identity(questions), tf.identity(answers)


def _view_maker(name: str, make: type[views.ViewMaker]):
  def build(config):
    if not isinstance(config, configs.CaptionedData):
      raise UserError(f'views {name!r}: expected the data of a G-ViLM experiment')
    return make(config)

  return build


views.VIEW_MAKERS.register(configs.CAPTIONED)(
  _view_maker(configs.CAPTIONED, CaptionedViewMaker)
)
views.VIEW_MAKERS.register(configs.QUESTIONS)(
  _view_maker(configs.QUESTIONS, QuestionViewMaker)
)


# --- Cut and paste, on the device -----------------------------------------------------


def foreground_spans(
  keys: tf.Tensor, num_steps: int, half_open: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
  """Where each clip keeps its own video: starts and ends, int32 [B].

  The duration is uniform in [ceil(n / 2), n - 1], the start in all that fit.

  Args:
    keys: int32 [B, 2].
    num_steps: n, time steps of a clip, at least 2.
    half_open: leave the last start out, so that the last step never is foreground.
  """
  least = -(-num_steps // 2)

  def span(key: tf.Tensor) -> tf.Tensor:
    duration = least + draws.integer(key, 'paste/duration', num_steps - least)
    starts = num_steps - duration + (0 if half_open else 1)
    start = draws.integer(key, 'paste/start', starts)
    return tf.stack([start, start + duration])

  spans = tf.map_fn(span, keys, fn_output_signature=tf.TensorSpec([2], tf.int32))
  return spans[:, 0], spans[:, 1]


def background_rows(keys: tf.Tensor, group_size: int) -> tf.Tensor:
  """Which other clip of its group each clip is pasted on, int32 [B].

  A group is so many clips in a row; its clips are shifted by one number that its first
  clip's key draws, so no clip is its own background.

  Args:
    keys: int32 [B, 2]; B a multiple of the group's size.
    group_size: at least 2.
  """
  return mixing.partners(keys, group_size, 'paste/partner')


def cut_and_paste(
  clips: tf.Tensor,
  keys: tf.Tensor,
  tubelet: int,
  group_size: int = 2,
  half_open: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Pastes a span of every clip over another clip of the batch, at its own time.

  Args:
    clips: [B, T, H, W, C].
    keys: int32 [B, 2], of each sample.
    tubelet: frames of a time step.
    group_size: see `background_rows`.
    half_open: see `foreground_spans`.

  Returns:
    The blended clips, and the mask float32 [B, T / tubelet], 1 where a clip shows its
    own video: at least half of the steps, and never all.

  Source: arXiv 2303.16341, section on intra-clip temporal grouping.
  """
  num_steps = clips.shape[1] // tubelet
  starts, ends = foreground_spans(keys, num_steps, half_open)
  steps = tf.range(num_steps)[None]
  inside = (steps >= starts[:, None]) & (steps < ends[:, None])
  frames = tf.repeat(inside, tubelet, 1)[:, :, None, None, None]
  background = tf.gather(clips, background_rows(keys, group_size))
  return tf.where(frames, clips, background), tf.cast(inside, tf.float32)


def shuffled_masks(mask: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
  """The masks with their time steps in random order: an ablation.

  Args:
    mask: [B, T].
    keys: int32 [B, 2].
  """
  length = mask.shape[1]
  orders = tf.map_fn(
    lambda key: draws.permutation(key, 'paste/shuffle', length),
    keys,
    fn_output_signature=tf.TensorSpec([length], tf.int32),
  )
  return tf.gather(mask, orders, batch_dims=1)


def record_keys(records_of_batch: tf.Tensor, seed: int) -> tf.Tensor:
  """Keys of evaluation's samples by their record, int32 [B, 2]."""
  return tf.map_fn(
    lambda record: draws.sample_key(seed, 0, record),
    records_of_batch,
    fn_output_signature=tf.TensorSpec([2], tf.int32),
  )

"""How much of its texts a score of G-ViLM covers, and what they met on the way."""

import numpy as np
import pytest
import tensorflow as tf

from official.video.data import records
from official.video.evaluation import coverage
from official.video.projects.gvilm import base, retrieval
from official.video.settings import experiment
from tests import clips, tiny


def batch_of(name, folder, fields, override=''):
  """A task and its one validation batch, of two records."""
  path = clips.write_split(folder, 'test', [0, 1], fields=fields)
  settings = f'task.validation_data: {{global_batch_size: 2{override}}}'
  task = experiment.build_task(tiny.load(name, path, path, settings))
  (batch,) = task.build_inputs(task.task_config.validation_data).as_numpy_iterator()
  return task, batch


def many_questions(row):
  count = (90, 1)[row]
  return {
    records.TEXT_QUESTION: [f'what is {i}' for i in range(count)],
    records.TEXT_ANSWER_INDEX: [i % 4 for i in range(count)],
  }


@pytest.mark.parametrize(('limit', 'scored'), [('', 91), (', num_captions: 64', 65)])
def test_all_questions_of_a_video_are_scored_or_it_is_said(tmp_path, limit, scored):
  task, batch = batch_of('gvilm_qa_msrvtt', tmp_path, many_questions, limit)
  count = batch['answers'].shape[1]
  # The first 64 are answered right, all others wrong.
  right = np.arange(count)[None] < 64
  batch['given'] = np.where(right, batch['answers'], batch['answers'] + 1)
  scores = task.score(batch)
  assert scores['accuracy'] == pytest.approx(65 / scored)
  assert (scores['questions'], scores['questions_expected']) == (scored, 91)
  lines = coverage.lines(scores)
  assert f'scored {scored} of 91 questions' in lines
  assert any('leave out questions' in line for line in lines) == (scored < 91)
  assert coverage.is_complete(scores) == (scored == 91)
  which = 'all' if scored == 91 else '65 of 91'
  assert task.protocol_of(scores).startswith(f'top-1 over {which} questions;')


def some_nouns(row):
  """Of the first record two phrases and a long caption; of the second none of either."""
  if row:
    return {records.TEXT_CONTENT: ['a red circle']}
  words = 'a red circle turns and a blue star moves on a wall '
  return {
    records.TEXT_CONTENT: [words * 2],
    records.TEXT_NOUN_PHRASES: ['red circle', 'wall'],
  }


def embedded(batch):
  """What validation makes of a batch of two records, all captions of one alike."""
  unit = np.eye(2, 8, dtype=np.float32)
  count = batch['caption_valid'].shape[1]
  return batch | {
    'video_embed': unit,
    'captions_embed': np.repeat(unit[:, None], count, 1),
    'feature': unit,
    'contrast_temperature': np.ones(2, np.float32),
  }


def test_what_was_cut_and_what_stands_in_is_told(tmp_path):
  task, batch = batch_of('gvilm_pretrain', tmp_path, some_nouns)
  assert base.shares(batch, 'captions', batch['caption_valid']) == {'captions_cut': 0.5}
  # Both nouns of the second record are its caption, which fits.
  assert base.shares(batch, 'nouns') == {'nouns_cut': 0.0, 'nouns_padded': 0.5}
  outputs = embedded(batch)
  task.task_config.losses.grounding_weight = task.task_config.losses.temporal_weight = 0.0
  scores = task.scores(outputs)
  expected = {'captions_cut': 0.5, 'nouns_padded': 0.5, 'nouns_cut': 0.0}
  assert {name: scores[name] for name in expected} == expected
  assert scores['captions'] == scores['captions_expected'] == 2
  assert scores['clips_wrapped'] == 0.0


WORDS = ('a', 'red', 'circle', 'turns', 'and', 'a', 'blue', 'star')


def test_a_paragraph_of_64_words_is_read_whole():
  params = experiment.load('gvilm_retrieval_activitynet')
  params.task.model.text.vocab_size = 240
  task = experiment.build_task(params)
  for words, is_cut in ((64, False), (94, False), (95, True)):
    paragraph = ' '.join(WORDS * 12).split()[:words]
    made = task.tokenized({'captions': tf.constant([[' '.join(paragraph)]])})
    ids = made['captions_ids'].numpy()
    assert np.count_nonzero(ids) == min(words, 94) + 2
    assert made['captions_cut'].numpy().tolist() == [[is_cut]]


def long_caption(row):
  """31 word pieces, and of the second record one noun phrase of eight."""
  nouns = {records.TEXT_NOUN_PHRASES: [' '.join(WORDS)]} if row else {}
  return {records.TEXT_CONTENT: [' '.join((WORDS * 4)[:31])]} | nouns


def test_a_caption_that_stands_in_for_nouns_is_read_whole(tmp_path):
  lengths = (
    'task.text: {max_length: 33, noun_length: 6}\ntask.model.text.max_positions: 33'
  )
  path = clips.write_split(tmp_path, 'test', [0, 1], fields=long_caption)
  params = tiny.load('gvilm_pretrain_tiny', path, path, lengths)
  params.task.validation_data.global_batch_size = 2
  task = experiment.build_task(params)
  (batch,) = task.build_inputs(task.task_config.validation_data).as_numpy_iterator()
  assert batch['noun_stands_in'].tolist() == [[True, True], [False, True]]
  pieces = np.count_nonzero(batch['nouns_ids'], -1)
  # [CLS], the pieces, [SEP]; the phrase's prompt is cut to six.
  assert pieces.tolist() == [[33, 33], [6, 33]]
  np.testing.assert_array_equal(batch['nouns_ids'][0, 1], batch['caption_ids'][0])
  assert batch['nouns_cut'].tolist() == [[False, False], [True, False]]


def test_training_tells_what_its_texts_met(tmp_path):
  path = clips.write_split(tmp_path, 'train', [0, 1], fields=long_caption)
  params = tiny.load('gvilm_pretrain_tiny', path, path, 'task.paste.group_size: 2')
  task = experiment.build_task(params)
  batch = task.build_inputs(
    params.task.train_data.replace(global_batch_size=2)
  ).as_numpy_iterator()
  scalars = task._means(task.terms({}, next(batch)))
  expected = {'captions_cut': 1.0, 'nouns_cut': 1.0, 'nouns_padded': 0.75}
  assert {name: float(x) for name, x in scalars.items()} == expected
  assert set(expected) <= set(task.scalar_names)
  # Without grounding no noun is read.
  task.task_config.losses.grounding_weight = 0.0
  assert set(task.terms({}, next(batch))) == {'captions_cut'}
  assert 'nouns_cut' not in task.scalar_names


def test_only_known_answers_are_learnt():
  task = experiment.build_task(experiment.load('gvilm_qa_tiny'))
  logits = np.zeros((4, 8), np.float32)
  logits[0, 1], logits[2, 0] = 3.0, 2.0
  inputs = {
    'answer': tf.constant([1, -1, 5, -1], tf.int64),
    'question_cut': tf.constant([False] * 4),
  }
  scalars = task.compute_loss({'output': tf.constant(logits)}, inputs)
  right, wrong = np.log(1 + 7 * np.exp(-3)), np.log(7 + np.exp(2))
  assert float(scalars['loss']) == pytest.approx((right + wrong) / 2, rel=1e-5)
  assert float(scalars['accuracy']) == 0.5


def test_training_tells_how_many_questions_were_cut():
  task = experiment.build_task(experiment.load('gvilm_qa_tiny'))
  inputs = {
    'answer': tf.constant([1, -1, 0, 2], tf.int64),
    'question_cut': tf.constant([True, False, False, False]),
  }
  scalars = task.compute_loss({'output': tf.eye(4, 8)}, inputs)
  assert float(scalars['questions_cut']) == 0.25
  assert 'questions_cut' in task.scalar_names


def test_the_protocol_names_what_was_ranked():
  ways = {
    (
      5,
      5,
      3,
      3,
    ): 'every caption queries all videos; every video queries all captions and',
    (3, 5, 3, 3): '3 of 5 captions query all videos; every video queries those captions',
    (5, 5, 3, 4): 'every caption queries 3 of 4 videos; each of those queries all capt',
  }
  for counts, text in ways.items():
    assert retrieval.protocol(*counts).startswith(text)


def many_captions(row):
  return {records.TEXT_CONTENT: [f'a red circle {i}' for i in range((4, 1)[row])]}


@pytest.mark.parametrize(('limit', 'ranked'), [('', 5), (', num_captions: 2', 3)])
def test_captions_that_are_not_ranked_are_no_part_of_the_protocol(
  tmp_path, limit, ranked
):
  task, batch = batch_of('gvilm_retrieval_msrvtt', tmp_path, many_captions, limit)
  scores = task.scores(embedded(batch))
  assert (scores['captions'], scores['captions_expected']) == (ranked, 5)
  assert ('every caption' in task.protocol_of(scores)) == (ranked == 5)
  assert ('3 of 5 captions query' in task.protocol_of(scores)) == (ranked == 3)

"""How much of its texts a score of G-ViLM covers, and what they met on the way."""

import numpy as np
import pytest

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

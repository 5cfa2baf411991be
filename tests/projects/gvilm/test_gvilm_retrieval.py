"""Ranks of text-video retrieval: hand-worked and golden ones."""

import numpy as np
import pytest

from official.video.projects.gvilm import retrieval
from tests.goldens import cases, golden, relative_error


@pytest.mark.parametrize('name', cases('eval_retrieval.npz', '(.+)/similarity'))
def test_ranks_equal_the_goldens(name):
  expected = golden('eval_retrieval.npz')
  similarity = expected[f'{name}/similarity']
  owner = np.arange(len(similarity))
  for way, ranks in (
    ('query_row', retrieval.caption_ranks(similarity, owner)),
    ('query_column', retrieval.video_ranks(similarity, owner)),
  ):
    stored = expected[f'{name}/out/{way}/rank_average']
    assert relative_error(ranks, stored) < 1e-6
    named = retrieval._named('x', ranks)
    values = [named[f'x_{m}'] for m in ('R@1', 'R@5', 'R@10', 'MedR', 'MeanR')]
    assert relative_error(values, expected[f'{name}/out/{way}/average']) < 1e-6


def unit(*shape, seed=0):
  x = np.random.default_rng(seed).normal(size=shape)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_perfect_and_shuffled_embeddings_score_as_they_must():
  videos_, valid = unit(200, 16), np.ones((200, 1), bool)
  perfect = retrieval.score(videos_, videos_[:, None], valid)
  for way in ('text_to_video', 'video_to_text'):
    assert perfect[f'{way}_R@1'] == 1.0 and perfect[f'{way}_MedR'] == 1.0
  shuffled = retrieval.score(videos_, unit(200, 1, 16, seed=1), valid)
  assert shuffled['text_to_video_R@10'] < 0.15
  assert 70 < shuffled['text_to_video_MedR'] < 130


def test_several_captions_of_a_video_by_hand():
  videos_ = np.eye(3)
  captions = np.zeros((3, 2, 3))
  captions[0, 0], captions[0, 1] = [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]
  captions[1, 0], captions[2, 0] = [0.0, 0.8, 0.6], [0.0, 0.0, 1.0]
  valid = np.array([[1, 1], [1, 0], [1, 0]], bool)
  similarity, owner = retrieval.similarities(videos_, captions, valid)
  assert owner.tolist() == [0, 0, 1, 2]
  assert retrieval.caption_ranks(similarity, owner).tolist() == [2.5, 2, 1, 1]
  assert retrieval.video_ranks(similarity, owner).tolist() == [1, 2, 1]


def test_equal_captions_of_a_video_do_not_stand_in_each_others_way():
  similarity = np.array([[0.7, 0.1], [0.7, 0.2], [0.9, 0.8]])
  owner = np.array([0, 0, 1])
  # Another video's caption is nearer than both of them.
  assert retrieval.video_ranks(similarity, owner).tolist() == [2, 1]

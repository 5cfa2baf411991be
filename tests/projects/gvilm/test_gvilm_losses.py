import math

import numpy as np
import pytest
import tensorflow as tf

from official.video.errors import UserError
from official.video.projects.gvilm import losses
from tests import shared_rows
from tests.goldens import cases, golden, relative_error

TOLERANCE = 1e-6
FILE = 'gvilm_losses.npz'


@pytest.fixture(scope='module')
def expected():
  return golden(FILE)


def random(*shape, seed=0):
  return tf.constant(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize('tau', cases(FILE, r'temporal/tau([\d.]+)/mse'))
def test_temporal_grouping_equals_the_goldens(expected, tau):
  features = expected['temporal/in/clip_features']
  mask = expected['temporal/in/foreground_mask']
  for form in ('mse', 'ce'):
    loss = losses.temporal_grouping(features, mask, float(tau), form).loss
    assert relative_error(loss, expected[f'temporal/tau{tau}/{form}']) < TOLERANCE
  probabilities = losses.assignment_probabilities(features, mask, float(tau))
  golden_probabilities = expected[f'temporal/tau{tau}/probabilities_bg_fg']
  assert relative_error(probabilities, golden_probabilities) < TOLERANCE


@pytest.mark.parametrize(
  ('tau_a', 'case'), cases(FILE, r'grounding/tau_a([\d.]+)/(\w+)/similarity')
)
def test_grounding_equals_the_goldens(expected, tau_a, case):
  groups = expected['grounding/in/group_embed']
  nouns = expected['grounding/in/noun_embed']
  assert case in ('all_nouns', 'masked_nouns', 'max_all_nouns')
  valid = expected['grounding/in/noun_valid'] if case == 'masked_nouns' else None
  alignment = 'max' if case.startswith('max') else 'softmax'
  similarity = losses.grounding_similarity(groups, nouns, valid, float(tau_a), alignment)
  prefix = f'grounding/tau_a{tau_a}/{case}'
  assert relative_error(similarity, expected[f'{prefix}/similarity']) < TOLERANCE
  for tau in cases(FILE, rf'{prefix}/tau_g([\d.]+)/video_to_noun'):
    result = losses.paired_contrast(similarity, float(tau))
    rows = expected[f'{prefix}/tau_g{tau}/video_to_noun']
    columns = expected[f'{prefix}/tau_g{tau}/noun_to_video']
    assert relative_error(result.row_loss, rows) < TOLERANCE
    assert relative_error(result.column_loss, columns) < TOLERANCE
    assert relative_error(result.loss, rows + columns) < TOLERANCE


@pytest.mark.parametrize('tau', cases(FILE, r'contrast/tau([\d.]+)/video_to_text'))
def test_contrast_equals_the_goldens(expected, tau):
  video = tf.math.l2_normalize(expected['contrast/in/video_embed'], -1)
  text = tf.math.l2_normalize(expected['contrast/in/text_embed'], -1)
  result = losses.paired_contrast(tf.matmul(video, text, transpose_b=True), float(tau))
  assert (
    relative_error(result.row_loss, expected[f'contrast/tau{tau}/video_to_text'])
    < TOLERANCE
  )
  assert (
    relative_error(result.column_loss, expected[f'contrast/tau{tau}/text_to_video'])
    < TOLERANCE
  )


@pytest.mark.parametrize('tau', cases(FILE, r'temporal/invariant_orthogonal_tau([\d.]+)'))
def test_orthogonal_constant_features(expected, tau):
  mask = np.array([[0, 1, 1, 0, 1, 1]], np.float64)
  features = np.where(mask[..., None] > 0, [0.0, 3.0], [2.0, 0.0])
  result = losses.temporal_grouping(features, mask, float(tau))
  stored = expected[f'temporal/invariant_orthogonal_tau{tau}']
  assert relative_error(result.loss, stored) < TOLERANCE
  by_hand = (1 / (1 + math.exp(1 / float(tau)))) ** 2
  assert relative_error(result.loss, by_hand) < TOLERANCE
  assert float(result.accuracy) == 1.0
  assert float(result.margin) == pytest.approx(1.0)


def test_temporal_grouping_ignores_scale_and_names():
  features, mask = random(3, 6, 5), np.eye(6)[:3] + np.eye(6)[3:]
  loss = losses.temporal_grouping(features, mask).loss
  scale = tf.constant(np.random.default_rng(1).uniform(0.1, 9, (3, 1, 1)))
  assert float(losses.temporal_grouping(features * scale, mask).loss) == pytest.approx(
    float(loss)
  )
  assert float(losses.temporal_grouping(features, 1 - mask).loss) == pytest.approx(
    float(loss)
  )


def test_gradients_flow_through_the_centres():
  features, mask = tf.Variable(random(1, 4, 5)), [[1.0, 1.0, 1.0, 0.0]]
  with tf.GradientTape() as tape:
    # Step 3 alone is the background: its own similarity is constant 1.
    own = losses.centre_similarities(features, mask)[0, 0, 0]
  gradient = tape.gradient(own, features)
  assert np.abs(gradient[0, 3]).max() > 0


def test_grounding_similarity_is_bounded_and_becomes_the_maximum():
  groups, nouns = random(4, 7, 5), random(4, 2, 5, seed=1)
  similarity = losses.grounding_similarity(groups, nouns)
  assert np.abs(similarity).max() <= 1
  cold = losses.grounding_similarity(groups, nouns, temperature=1e-4)
  highest = losses.grounding_similarity(groups, nouns, alignment='max')
  np.testing.assert_allclose(cold, highest, atol=1e-6)
  hard = losses.grounding_similarity(groups, nouns, alignment='soft_to_hard_st')
  np.testing.assert_allclose(hard, highest, atol=1e-12)


def test_soft_to_hard_has_gradients_for_all_groups():
  groups, nouns = tf.Variable(random(1, 5, 4)), random(1, 1, 4, seed=1)
  with tf.GradientTape() as tape:
    value = losses.grounding_similarity(groups, nouns, None, 0.5, 'soft_to_hard_st')
  assert (np.abs(tape.gradient(value, groups)).max(-1) > 0).all()


def test_one_group_gives_the_mean_cosine():
  groups, nouns = random(3, 1, 5), random(3, 2, 5, seed=1)
  unit = [tf.math.l2_normalize(x, -1) for x in (groups, nouns)]
  cosines = tf.einsum('bmd,ckd->bck', *unit)
  similarity = losses.grounding_similarity(groups, nouns)
  np.testing.assert_allclose(similarity, tf.reduce_mean(cosines, -1), atol=1e-12)


@pytest.mark.parametrize('batch', [2, 5])
def test_constant_similarities_score_chance(batch):
  result = losses.paired_contrast(tf.fill([batch, batch], 0.3), 0.07)
  assert float(result.loss) == pytest.approx(2 * math.log(batch), rel=1e-5)


def test_the_order_of_samples_does_not_matter():
  order = [2, 0, 3, 1]
  groups, nouns, features = random(4, 3, 5), random(4, 2, 5, seed=1), random(4, 6, 5)
  mask = np.tile([[0.0, 1, 1, 1, 0, 0]], (4, 1))
  mask[1] = 1 - mask[1]
  valid = np.array([[1, 1], [1, 0], [0, 1], [1, 1]])

  def total(rows):
    pick = lambda x: tf.gather(x, rows)  # noqa: E731
    similarity = losses.grounding_similarity(pick(groups), pick(nouns), pick(valid))
    temporal = losses.temporal_grouping(pick(features), pick(mask)).loss
    return float(losses.paired_contrast(similarity, 0.1).loss + temporal)

  assert total(order) == pytest.approx(total([0, 1, 2, 3]), rel=1e-9)


def test_captions_without_nouns_leave_the_softmaxes():
  similarity = random(4, 4)
  valid = [True, False, True, True]
  kept = tf.gather(tf.gather(similarity, [0, 2, 3]), [0, 2, 3], axis=1)
  result = losses.paired_contrast(similarity, 0.5, valid)
  expected = losses.paired_contrast(kept, 0.5)
  for one, other in zip(result, expected, strict=True):
    assert float(one) == pytest.approx(float(other), rel=1e-9)
  nothing = losses.paired_contrast(similarity, 0.5, [False] * 4)
  assert [float(value) for value in nothing] == [0, 0, 0, 0]


def test_shared_nouns_can_be_left_out():
  ids = tf.constant([[1, 2], [3, 1], [4, 4]], tf.int64)
  valid = [[1, 1], [1, 1], [1, 0]]
  shared = losses.shares_a_noun(ids, valid).numpy()
  assert shared.tolist() == [
    [True, True, False],
    [True, True, False],
    [False] * 2 + [True],
  ]
  similarity = random(3, 3)
  result = losses.paired_contrast(similarity, 1.0, left_out=shared)
  rows = tf.reduce_logsumexp(tf.gather(similarity[0], [0, 2])) - similarity[0, 0]
  rows += tf.reduce_logsumexp(similarity[1, 1:]) - similarity[1, 1]
  rows += tf.reduce_logsumexp(similarity[2]) - similarity[2, 2]
  assert float(result.row_loss) == pytest.approx(float(rows) / 3, rel=1e-9)


@pytest.mark.parametrize('tau', [0.5, 2.0])
def test_temporal_grouping_by_hand(tau):
  # Background along one axis, foreground along the other: cosines of 1 and 0.
  features = np.array([[[2.0, 0], [0, 3], [0, 1], [5, 0]]])
  mask = np.array([[0.0, 1, 1, 0]])
  wrong = 1 / (1 + math.exp(1 / tau))
  grouped = losses.temporal_grouping(features, mask, tau)
  assert float(grouped.loss) == pytest.approx(wrong**2)
  by_entropy = losses.temporal_grouping(features, mask, tau, 'ce')
  assert float(by_entropy.loss) == pytest.approx(-math.log(1 - wrong))
  assert (float(grouped.accuracy), float(grouped.margin)) == (1.0, pytest.approx(1.0))
  # Two of the background's three steps point where the one of the foreground does.
  features = np.array([[[1.0, 0], [0, 1], [0, 1], [0, 1]]])
  mask = np.array([[0.0, 0, 0, 1]])
  centres = losses.centre_similarities(features, mask).numpy()
  to_background = np.array([1, 2, 2, 2]) / math.sqrt(5)
  np.testing.assert_allclose(centres[0, :, 0], to_background)
  np.testing.assert_allclose(centres[0, :, 1], [0, 1, 1, 1])
  assert float(losses.temporal_grouping(features, mask, tau).accuracy) == 0.5


@pytest.mark.parametrize('tau', [0.5, 2.0])
def test_grounding_by_hand(tau):
  groups = np.array([[[2.0, 0, 0], [0, 3, 0]]])
  nouns = np.array([[[1.0, 0, 0], [0, 0, 1]]])
  first = 1 / (1 + math.exp(-1 / tau))  # Attention of the noun on its own group.
  whole = losses.grounding_similarity(groups, nouns, temperature=tau)
  assert whole.numpy().tolist() == [[pytest.approx(first / 2)]]
  one = losses.grounding_similarity(groups, nouns, [[1, 0]], tau)
  assert one.numpy().tolist() == [[pytest.approx(first)]]
  none = losses.grounding_similarity(groups, nouns, [[0, 0]], tau)
  assert none.numpy().tolist() == [[0]]
  for alignment in ('max', 'soft_to_hard_st'):
    best = losses.grounding_similarity(groups, nouns, [[1, 0]], tau, alignment)
    assert best.numpy().tolist() == [[pytest.approx(1.0)]]


def test_contrast_by_hand():
  result = losses.paired_contrast([[0.9, 0.1], [0.5, 0.3]], 0.5)
  loss = lambda own, other: math.log1p(math.exp((other - own) / 0.5))  # noqa: E731
  rows, columns = loss(0.9, 0.1) + loss(0.3, 0.5), loss(0.9, 0.5) + loss(0.3, 0.1)
  assert float(result.row_loss) == pytest.approx(rows / 2)
  assert float(result.column_loss) == pytest.approx(columns / 2)
  assert float(result.loss) == pytest.approx((rows + columns) / 2)
  assert float(result.top1) == 0.75  # The second row is nearer to the first column.


def test_padding_is_no_noun_in_common():
  ids = tf.constant([[1, 0], [2, 0]], tf.int64)
  shared = losses.shares_a_noun(ids, [[1, 0], [1, 0]]).numpy()
  assert shared.tolist() == [[True, False], [False, True]]


def test_unknown_forms_are_refused():
  with pytest.raises(UserError, match='temporal_form'):
    losses.temporal_grouping(random(1, 2, 3), [[0.0, 1.0]], form='bce')
  with pytest.raises(UserError, match='grounding_similarity'):
    losses.grounding_similarity(random(1, 2, 3), random(1, 2, 3), alignment='mean')


VIDEOS, GROUPS, NOUNS = 8, 3, 2


def _grounded(groups, nouns, valid):
  similarity = losses.grounding_similarity(groups, nouns, tf.cast(valid, tf.bool))
  contrast = losses.paired_contrast(similarity, 0.1)
  return contrast.loss, similarity, contrast.top1


def _groups_and_nouns():
  vectors = [tf.cast(random(VIDEOS, n, 4, seed=n), tf.float32) for n in (GROUPS, NOUNS)]
  return *vectors, tf.constant([[1, i % 3 > 0] for i in range(VIDEOS)], tf.int32)


@pytest.mark.parametrize('replicas', [2, 4])
def test_replicas_share_the_rows(mirrored, replicas):
  tensors = _groups_and_nouns()
  graph = shared_rows.assert_shared(mirrored(replicas), _grounded, tensors)
  assert shared_rows.biggest(graph) == VIDEOS // replicas * GROUPS * VIDEOS * NOUNS


@pytest.mark.parametrize('videos', [1, 2, 4])
def test_chunks_give_the_loss_and_gradient_of_the_whole(monkeypatch, videos):
  def loss(*tensors):
    value, similarity, _ = _grounded(*tensors)
    return value, tf.linalg.trace(similarity), similarity[0, 1]

  each = 4 * GROUPS * VIDEOS * NOUNS
  shared_rows.assert_chunked(monkeypatch, loss, _groups_and_nouns(), videos * each)

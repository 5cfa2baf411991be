import math

import numpy as np
import pytest
import tensorflow as tf

from official.video.losses import gather, info_nce
from tests import shared_rows
from tests.goldens import cases, golden, relative_error

FILE = 'cvrl_infonce.npz'
CASES = cases(FILE, r'infonce/N(\d+)/tau([\d.]+)/contrastive_loss')


def reference(clips):
  arrays = golden(FILE)
  return arrays, tf.split(tf.constant(arrays[f'infonce/N{clips}/embeddings']), 2)


@pytest.mark.parametrize(('clips', 'temperature'), CASES)
def test_golden_loss_and_accuracy(clips, temperature):
  arrays, views = reference(clips)
  key = f'infonce/N{clips}/tau{temperature}/'
  actual = info_nce.info_nce(*views, temperature=float(temperature))
  assert relative_error(actual.loss, arrays[key + 'contrastive_loss']) < 1e-4
  both = arrays[key + 'direction_a'] + arrays[key + 'direction_b']
  assert relative_error(actual.loss, both) < 1e-4
  assert float(actual.top1) == pytest.approx(
    float(arrays[key + 'top1_over_all_candidates'])
  )


@pytest.mark.parametrize(
  ('clips', 'temperature'), cases(FILE, r'infonce/N(\d+)/tau([\d.]+)/gradient')
)
def test_golden_gradient(clips, temperature):
  arrays, views = reference(clips)
  with tf.GradientTape() as tape:
    tape.watch(views)
    loss = info_nce.info_nce(*views, temperature=float(temperature)).loss
  gradient = tf.concat(tape.gradient(loss, views), 0)
  expected = arrays[f'infonce/N{clips}/tau{temperature}/gradient']
  assert relative_error(gradient, expected) < 1e-3


def accuracy_and_entropy(logits, targets):
  probability = np.exp(logits - logits.max(1, keepdims=True))
  probability /= probability.sum(1, keepdims=True)
  entropy = -(probability * np.log(probability + 1e-300)).sum(1).mean()
  return (logits.argmax(1) == targets).mean(), entropy


@pytest.mark.parametrize(('clips', 'temperature'), CASES)
def test_golden_cross_view_scalars_see_one_block_only(clips, temperature):
  # The reference reports accuracy and entropy of view a's rows against view b alone;
  # ours are those of all rows against all others, as in the loss.
  arrays, views = reference(clips)
  a, b = (tf.math.l2_normalize(view, -1).numpy().astype(np.float64) for view in views)
  count, tau = len(a), float(temperature)
  accuracy, entropy = accuracy_and_entropy(a @ b.T / tau, np.arange(count))
  key = f'infonce/N{clips}/tau{temperature}/'
  assert relative_error(accuracy, arrays[key + 'contrast_acc']) < 1e-6
  assert relative_error(entropy, arrays[key + 'contrast_entropy']) < 1e-4
  both = np.concatenate([a, b])
  logits = both @ both.T / tau
  np.fill_diagonal(logits, -np.inf)
  accuracy, entropy = accuracy_and_entropy(logits, np.roll(np.arange(2 * count), count))
  actual = info_nce.info_nce(*views, temperature=tau)
  assert float(actual.top1) == pytest.approx(accuracy)
  assert float(actual.entropy) == pytest.approx(entropy, rel=1e-4)


def test_two_clips_by_hand():
  # Similarities of row 1 of view a: its other view .6, the other clip 0 and .8.
  view_a = tf.constant([[1.0, 0.0], [0.0, 1.0]])
  view_b = tf.constant([[0.6, 0.8], [0.8, 0.6]])
  actual = info_nce.info_nce(view_a, view_b, temperature=1.0)
  row_a = math.log(math.exp(0.6) + math.exp(0.0) + math.exp(0.8)) - 0.6
  row_b = math.log(math.exp(0.6) + math.exp(0.96) + math.exp(0.8)) - 0.6
  assert float(actual.loss) == pytest.approx(row_a + row_b, rel=1e-6)
  assert float(actual.top1) == 0.0
  assert float(actual.positive_similarity) == pytest.approx(0.6)
  negatives = (4 * 0.8 + 2 * 0.0 + 2 * 0.96) / 8
  assert float(actual.negative_similarity) == pytest.approx(negatives, rel=1e-6)


def test_collapse_scores_chance():
  view = tf.ones([16, 4])
  actual = info_nce.info_nce(view, view)
  assert float(actual.loss) == pytest.approx(2 * math.log(31), rel=1e-6)
  assert float(actual.entropy) == pytest.approx(math.log(31), rel=1e-6)
  assert float(actual.top1) <= 2 / 32
  assert float(actual.negative_similarity) == pytest.approx(1.0, rel=1e-6)


def test_separated_clips_score_full_accuracy():
  view = tf.eye(8)
  actual = info_nce.info_nce(view, view, temperature=0.05)
  assert float(actual.loss) < 1e-6
  assert float(actual.top1) == 1.0
  assert float(actual.entropy) < 1e-5


def test_in_view_negative_counts_as_an_error():
  # Each clip's nearest embedding is the other clip in the same view.
  view_a = tf.constant([[1.0, 0.1], [1.0, -0.1]])
  view_b = tf.constant([[-1.0, 1.1], [-1.0, -1.1]])
  assert float(info_nce.info_nce(view_a, view_b).top1) == 0.0


def test_unnormalized_similarity_is_the_dot_product():
  view_a, view_b = tf.constant([[2.0, 0.0]]), tf.constant([[3.0, 1.0]])
  actual = info_nce.info_nce(view_a, view_b, normalize=False)
  assert float(actual.positive_similarity) == pytest.approx(6.0)
  assert float(actual.loss) == 0.0
  assert float(actual.negative_similarity) == 0.0


@pytest.mark.parametrize('dtype', [tf.float16, tf.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
  views = tf.random.stateless_normal([2, 16, 8], [1, 2])
  halves = tf.cast(views, dtype)
  with tf.GradientTape() as tape:
    tape.watch(halves)
    actual = info_nce.info_nce(*tf.unstack(halves))
  expected = info_nce.info_nce(*tf.unstack(tf.cast(halves, tf.float32)))
  assert actual.loss.dtype == tf.float32
  assert [float(x) for x in actual] == [float(x) for x in expected]
  gradient = tape.gradient(actual.loss, halves)
  assert np.isfinite(tf.cast(gradient, tf.float32).numpy()).all()


def test_compiles_and_takes_unknown_batches():
  views = tf.random.stateless_normal([2, 16, 8], [3, 4])
  expected = [float(x) for x in info_nce.info_nce(*tf.unstack(views))]
  compiled = tf.function(info_nce.info_nce, jit_compile=True)
  np.testing.assert_allclose(compiled(*tf.unstack(views)), expected, rtol=1e-5)
  spec = tf.TensorSpec([None, 8])
  dynamic = tf.function(info_nce.info_nce, input_signature=[spec, spec])
  np.testing.assert_allclose(dynamic(*tf.unstack(views)), expected, rtol=1e-5)


def test_the_defaults_are_cvrls():
  views = tf.unstack(tf.random.stateless_normal([2, 8, 4], [5, 6]))
  explicit = info_nce.info_nce(*views, temperature=0.1, normalize=True)
  assert float(info_nce.info_nce(*views).loss) == float(explicit.loss)


def test_views_of_different_size_are_refused():
  with pytest.raises(ValueError, match='incompatible'):
    info_nce.info_nce(tf.ones([4, 8]), tf.ones([3, 8]))


def _views(clips=8, channels=3):
  rng = np.random.default_rng(0)
  return [tf.constant(rng.normal(size=(clips, channels)), tf.float32) for _ in range(2)]


@pytest.mark.parametrize('replicas', [2, 4])
def test_replicas_share_the_rows(mirrored, replicas):
  graph = shared_rows.assert_shared(mirrored(replicas), info_nce.info_nce, _views(8, 2))
  # Both views of a replica's clips, against both of all.
  assert shared_rows.biggest(graph) == (2 * 8 // replicas) * 2 * 8


@pytest.mark.parametrize('clips', [1, 2, 3, 4, 5])
def test_chunks_give_the_loss_and_gradient_of_the_whole(monkeypatch, clips):
  shared_rows.assert_chunked(monkeypatch, info_nce.info_nce, _views(), clips * 128)


@pytest.mark.parametrize(('count', 'expected'), [(521, 2), (512, 2), (256, 1), (301, 2)])
def test_any_number_of_rows_comes_in_few_parts(monkeypatch, count, expected):
  monkeypatch.setattr(gather, 'CHUNK_BYTES', 300 * 128)
  assert gather._chunks(count, 128) == expected
  assert gather._chunks(count, 10**9) == count and gather._chunks(None, 1) == 1


def test_rows_of_parts_keep_their_order(monkeypatch):
  monkeypatch.setattr(gather, 'CHUNK_BYTES', 2 * 4)
  rows = tf.range(5.0)
  first, found = gather.by_rows(
    lambda begin, some, whole: (some + tf.cast(begin, tf.float32), some * whole[0]),
    (rows,),
    (tf.constant([3.0]),),
    4,
  )
  np.testing.assert_array_equal(found, 3 * np.arange(5))
  np.testing.assert_array_equal(first, [0, 1, 4, 5, 8])


def test_replicas_share_the_rows_and_take_them_in_chunks(mirrored, monkeypatch):
  monkeypatch.setattr(gather, 'CHUNK_BYTES', 2 * 128)
  assert gather._chunks(4, 128) == 2
  shared_rows.assert_shared(mirrored(2), info_nce.info_nce, _views())

"""Features without learning, and the linear probe."""

import numpy as np
import pytest
from sklearn import linear_model, pipeline, preprocessing

from official.video.evaluation import baselines, linear, multi_label


def test_raw_pixels_average_areas():
  clip = np.zeros((1, 1, 4, 4, 3), np.uint8)
  clip[0, 0, :2, 2:, 1] = 255
  clip[0, 0, 0, 0, 0] = 51
  features = baselines.raw_pixels(clip, size=2, frames=1).reshape(2, 2, 3)
  expected = np.zeros((2, 2, 3))
  expected[0, 1, 1] = 1
  expected[0, 0, 0] = 0.2 / 4
  np.testing.assert_allclose(features, expected, atol=1e-6)


def test_raw_pixels_share_pixels_between_cells():
  clip = np.zeros((1, 1, 3, 3, 3), np.uint8)
  clip[0, 0, :, 1] = 255
  features = baselines.raw_pixels(clip, size=2, frames=1).reshape(2, 2, 3)
  np.testing.assert_allclose(features, np.full((2, 2, 3), 1 / 3), rtol=1e-5)


def test_raw_pixels_take_evenly_spaced_frames():
  clip = np.zeros((1, 7, 2, 2, 3), np.uint8) + np.arange(7, dtype=np.uint8).reshape(
    1, 7, 1, 1, 1
  )
  features = baselines.raw_pixels(clip, size=1, frames=4) * 255
  np.testing.assert_allclose(features.reshape(4, 3)[:, 0], [0, 2, 4, 6], rtol=1e-5)
  assert baselines.raw_pixels(clip, size=1, frames=99).shape == (1, 21)


def test_color_histogram_counts_pixels():
  clip = np.zeros((1, 1, 1, 4, 3), np.uint8)
  clip[0, 0, 0] = [[0, 0, 0], [63, 63, 63], [64, 0, 0], [255, 255, 255]]
  histogram = baselines.color_histogram(clip)
  assert histogram.shape == (1, 64)
  assert histogram[0, [0, 16, 63]].tolist() == [0.5, 0.25, 0.25]
  assert histogram.sum() == 1


@pytest.mark.parametrize('features', [baselines.raw_pixels, baselines.color_histogram])
def test_clips_must_be_uint8_rgb(features):
  with pytest.raises(ValueError, match='uint8'):
    features(np.zeros((1, 2, 4, 4, 3), np.float32))
  with pytest.raises(ValueError, match='uint8'):
    features(np.zeros((2, 4, 4, 3), np.uint8))


def blobs(seed, count, noise):
  generator = np.random.default_rng(seed)
  labels = np.arange(count) % 3
  centers = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]) * [1, 1000, 0.001]
  spread = noise * np.array([1, 1000, 0.001])
  return centers[labels] + generator.normal(size=(count, 3)) * spread, labels


def test_probe_separates_blobs_of_any_scale_and_repeats_itself():
  train, test = blobs(0, 90, 0.1), blobs(1, 60, 0.1)
  first = baselines.linear_probe(*train, *test)
  assert first.top1 == 1
  assert first.held_out_score == 1
  # All of the grid separates the blobs well: the strongest is taken.
  assert first.inverse_regularization == 1e-4
  second = baselines.linear_probe(*train, *test)
  np.testing.assert_array_equal(first.probabilities, second.probabilities)


def test_probe_is_near_chance_on_noise():
  features = np.random.default_rng(3).normal(size=(300, 5))
  labels = np.arange(300) % 3
  probe = baselines.linear_probe(
    features[:150], labels[:150], features[150:], labels[150:]
  )
  assert probe.top1 < 0.5


def test_the_strength_is_chosen_on_what_was_held_out(monkeypatch):
  # More dimensions than samples: whatever is fitted is told apart, what is not is noise.
  features = np.random.default_rng(0).normal(size=(60, 200))
  labels, sizes, made = np.arange(60) % 3, [], linear.Path

  def counted(features, labels, classes, keep=None, start=None):
    sizes.append(len(features) if keep is None else int(keep.sum()))
    return made(features, labels, classes, keep, start)

  monkeypatch.setattr(linear, 'Path', counted)
  probe = baselines.linear_probe(features, labels, features, labels, held_out=0.5)
  assert sizes == [30, 60]
  assert probe.held_out_score < 0.7 < probe.top1


def test_probe_counts_classes_that_training_lacks():
  features, labels = blobs(0, 30, 0.1)
  kept = labels < 2
  probe = baselines.linear_probe(features[kept], labels[kept], features, labels)
  assert probe.top1 == pytest.approx(2 / 3)
  assert probe.probabilities.shape == (30, 3)
  assert not probe.probabilities[:, 2].any()


def test_probe_does_not_choose_by_the_test_set():
  train, (test, labels) = blobs(0, 60, 0.5), blobs(1, 30, 0.5)
  honest = baselines.linear_probe(*train, test, labels)
  wrong = baselines.linear_probe(*train, test, (labels + 1) % 3)
  assert honest.inverse_regularization == wrong.inverse_regularization


def test_probe_needs_two_classes_and_a_test_set():
  with pytest.raises(ValueError, match='too few'):
    baselines.linear_probe(np.ones((4, 2)), np.zeros(4, int), np.ones((1, 2)), [0])
  with pytest.raises(ValueError, match='0 test samples'):
    baselines.linear_probe(np.eye(4), np.arange(4) % 2, np.ones((0, 4)), np.zeros(0, int))


@pytest.mark.parametrize('classes', [2, 4])
def test_the_probes_weights_are_its_predictions(classes):
  rng = np.random.default_rng(classes)
  labels = np.repeat(np.arange(classes), 12)
  features = rng.normal(3, 2, size=(len(labels), 6)) + labels[:, None]
  kept = labels != 1 if classes > 2 else labels >= 0
  probe = baselines.linear_probe(features[kept], labels[kept], features, labels)
  logits = features @ probe.kernel + probe.bias
  shares = np.exp(logits - logits.max(1, keepdims=True))
  shares /= shares.sum(1, keepdims=True)
  np.testing.assert_allclose(shares, probe.probabilities, atol=1e-9)


def test_the_probe_is_that_of_scikit_learn():
  rng = np.random.default_rng(5)
  centres = rng.normal(size=(7, 30))
  labels, wanted = rng.integers(0, 7, 400), rng.integers(0, 7, 200)
  train, test = (
    (centres[y] + 3 * rng.normal(size=(len(y), 30))) * np.geomspace(1e-3, 1e3, 30)
    for y in (labels, wanted)
  )
  probe = baselines.linear_probe(train, labels, test, wanted)
  assert probe.converged and 0 < probe.gradient <= linear.TOLERANCE
  model = pipeline.make_pipeline(
    preprocessing.StandardScaler(),
    linear_model.LogisticRegression(C=probe.inverse_regularization, tol=1e-9),
  ).fit(train, labels)
  np.testing.assert_allclose(probe.probabilities, model.predict_proba(test), atol=1e-3)
  assert probe.top1 == pytest.approx(model.score(test, wanted), abs=0.011)
  # What each value of the grid reaches on the same part, by scikit-learn.
  mask = baselines._held_out(labels, 0.2, 0)
  reached = {}
  for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0):
    model[-1].C = strength
    fitted = model.fit(train[~mask], labels[~mask])
    reached[strength] = fitted.score(train[mask], labels[mask])
  assert probe.held_out_score == pytest.approx(max(reached.values()), abs=0.013)
  assert reached[probe.inverse_regularization] == pytest.approx(
    max(reached.values()), abs=0.013
  )


def test_of_several_labels_each_class_is_a_regression():
  rng = np.random.default_rng(6)
  features = rng.normal(size=(300, 12))
  has = features[:, :4] + 0.5 * rng.normal(size=(300, 4)) > 0.4
  has[:, 3] = False  # A class that no clip has.
  probe = baselines.linear_probe(features[:200], has[:200], features[200:], has[200:])
  assert probe.probabilities.shape == (100, 4) and probe.probabilities[:, 3].max() < 1e-9
  found = multi_label.evaluate(has[200:], probe.probabilities)
  assert found['map'] > 0.85 and found['classes'] == 3
  scaled = preprocessing.StandardScaler().fit(features[:200])
  for label in range(3):
    model = linear_model.LogisticRegression(C=probe.inverse_regularization, tol=1e-9)
    model.fit(scaled.transform(features[:200]), has[:200, label])
    expected = model.predict_proba(scaled.transform(features[200:]))[:, 1]
    np.testing.assert_allclose(probe.probabilities[:, label], expected, atol=1e-3)
  hit = has[200:][np.arange(100), probe.probabilities.argmax(1)]
  assert probe.top1 == hit.mean()

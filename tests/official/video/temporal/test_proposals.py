import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from official.video.evaluation import temporal_localization as tal
from official.video.temporal import config, features, gtad, proposals, spans, targets


def test_peaks_by_hand():
  scores = np.array([0.9, 0.2, 0.3, 0.1, 0.1, 0.8, 0.6, 0.7])
  # 2 is above its neighbours, 5 too; 6 is above half of the highest. Of the ends only one.
  assert np.flatnonzero(proposals.peaks(scores, edge=0)).tolist() == [0, 2, 5, 6]
  assert np.flatnonzero(proposals.peaks(scores, edge=-1)).tolist() == [2, 5, 6, 7]
  # Equal neighbours are no peak, half of the highest is not above it.
  flat = np.array([1.0, 0.5, 0.4, 0.4, 0.3, 0.0])
  assert np.flatnonzero(proposals.peaks(flat, edge=0)).tolist() == [0]


def test_spans_between_peaks_by_hand():
  start = np.array([0.0, 0.9, 0.0, 0.0, 0.0])
  end = np.array([0.0, 0.0, 0.0, 0.9, 0.0])
  first, length = spans.cells(5)
  found = np.flatnonzero(proposals.between_peaks(start, end))
  pairs = sorted((first[i], first[i] + length[i]) for i in found)
  # Starts at 0 and 1, ends at 3 and at the last step; none ends with the video, at 5.
  assert pairs == [(0, 3), (0, 4), (1, 3), (1, 4)]


def test_soft_suppression_by_hand():
  bounds = np.array([[0.0, 2.0], [0.0, 2.0], [1.0, 3.0], [8.0, 9.0]])
  values = np.array([0.9, 0.8, 0.7, 0.05])
  rows, scores = proposals.soft_nms(bounds, values, sigma=0.5, keep=9)
  assert rows.tolist() == [0, 2, 1, 3]
  second = 0.7 * np.exp(-((1 / 3) ** 2) / 0.5)
  third = 0.8 * np.exp(-1 / 0.5) * np.exp(-((1 / 3) ** 2) / 0.5)
  np.testing.assert_allclose(scores, [0.9, second, third, 0.05])
  assert len(proposals.soft_nms(bounds, values, sigma=0.5, keep=2)[0]) == 2
  with np.errstate(all='raise', under='ignore'):
    rows, _ = proposals.soft_nms(bounds, values, sigma=1e-6, keep=9)
  assert rows.tolist() == [0, 3]  # What is suppressed to nothing is no proposal.


def perfect(truth, steps):
  """Scores of a detector that says of every video what its labels are."""
  made = [targets.targets(spans_, steps) for spans_ in truth]
  columns = {name: np.stack([m[name] for m in made]) for name in made[0]}
  return proposals.Scores(columns['start'], columns['end'], columns['overlap'] ** 2)


def planted(steps=100, count=12):
  """Up to three separate actions a video on the grid, one from the first step."""
  rng = np.random.default_rng(0)
  truth = [np.array([[0, 60]]) / steps, np.array([[1, 99], [0, 1]]) / steps]
  for _ in range(count):
    cuts = np.sort(rng.choice(np.arange(1, steps), 6, replace=False))
    truth.append(cuts.reshape(3, 2) / steps)
  return truth


@pytest.mark.parametrize('border_peaks', [True, False])
def test_a_detector_with_perfect_maps_scores_one(border_peaks):
  truth = planted()
  names = [f'v{i}' for i in range(len(truth))]
  durations = np.linspace(20, 200, len(truth))
  videos = features.VideoFeatures(np.zeros((len(truth), 100, 1)), names, durations)
  classes = {name: {f'c{i % 3}': 0.9, 'other': 0.1} for i, name in enumerate(names)}
  found = proposals.detections(
    config.Gtad(border_peaks=border_peaks), perfect(truth, 100), videos, classes
  )
  annotated = tal.Segments.of(
    [
      (name, f'c{i % 3}', *(span * durations[i]), 1.0)
      for i, (name, own) in enumerate(zip(names, truth, strict=True))
      for span in own
    ]
  )
  assert tal.evaluate(annotated, found.segments).average == pytest.approx(1.0)
  shifted = found.segments.span + 0.3 * durations.min()
  moved = tal.Segments(
    found.segments.video, found.segments.label, shifted, found.segments.score
  )
  assert tal.evaluate(annotated, moved).average < 0.9


def test_what_is_kept_is_counted_and_labelled():
  truth = planted(count=2)
  names = [f'v{i}' for i in range(4)]
  videos = features.VideoFeatures(np.zeros((4, 100, 1)), names, np.full(4, 50.0))
  classes = {name: {'a': 0.2, 'b': 0.7, 'c': 0.1} for name in names}
  every = config.Gtad(border_peaks=False, max_proposals=7)
  found = proposals.detections(every, perfect(truth, 100), videos, classes)
  assert (found.kept, found.proposed) == (4 * 7, 4 * 5050)
  own = found.segments.video == 'v0'
  # The likeliest class first, then the next; the scores carry the class's.
  assert found.segments.label[own].tolist() == ['b'] * 7 + ['a'] * 7
  np.testing.assert_allclose(found.segments.span[own][0], [0, 30])
  assert found.segments.score[own][0] == pytest.approx(0.7)
  assert found.segments.score[own][7] == pytest.approx(0.2)
  narrow = dataclasses.replace(every, nms_sigma=0.1)
  less = proposals.detections(narrow, perfect(truth, 100), videos, classes)
  # What overlaps the best span keeps less of its score.
  kept = [np.sort(x.segments.score[own])[::-1] for x in (found, less)]
  assert kept[1].sum() < kept[0].sum() and kept[1][0] == kept[0][0]
  few = proposals.detections(config.Gtad(), perfect(truth, 100), videos, classes)
  assert few.proposed < found.proposed / 10


def test_defaults_are_the_public_branchs():
  default = config.Gtad()
  assert (default.nms_sigma, default.max_proposals, default.top_classes) == (0.8, 100, 2)


def test_scores_are_products_in_the_order_of_videos():
  tiny = config.Gtad(
    steps=5,
    hidden_dim=4,
    anchor_dim=4,
    map_dim=4,
    cardinality=1,
    input_groups=2,
    inner_samples=2,
    context_samples=1,
    batch_size=2,
  )
  model = gtad.GtadModel(tiny)
  x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
  got = proposals.scores(model, x)
  outputs = model(tf.constant(x))
  p = {name: tf.sigmoid(value).numpy() for name, value in outputs.items()}
  np.testing.assert_allclose(got.start, p['start'], atol=1e-6)
  np.testing.assert_allclose(got.end, p['end'], atol=1e-6)
  np.testing.assert_allclose(got.span, p['regression'] * p['classification'], atol=1e-6)

"""OTB's curves against the got10k toolkit's numbers."""

import numpy as np
import pytest

from official.video.evaluation import tracking
from tests.goldens import cases, golden


def test_golden_curves_of_every_sequence():
  arrays = golden('eval_otb.npz')
  results = []
  for sequence in cases('eval_otb.npz', '(.+)/anno'):
    get = lambda key, name=sequence: arrays[f'{name}/{key}']  # noqa: E731
    result = tracking.evaluate(get('boxes'), get('anno'))
    results.append(result)
    np.testing.assert_allclose(result.success, get('out/success_curve'), rtol=1e-6)
    np.testing.assert_allclose(result.precision, get('out/precision_curve'), rtol=1e-6)
    scores = (result.success_score, result.precision_score, result.success_rate)
    np.testing.assert_allclose(scores, get('out/scores'), rtol=1e-6)
    boxes = np.concatenate([get('anno')[:1], get('boxes')[1:]])
    np.testing.assert_allclose(
      tracking.overlaps(boxes, get('anno')), get('out/iou'), rtol=1e-6
    )
    np.testing.assert_allclose(
      tracking.center_errors(boxes, get('anno')), get('out/center_error'), rtol=1e-6
    )
  whole = tracking.average(results)
  for key in ('success_score', 'precision_score', 'success_rate'):
    assert getattr(whole, key) == pytest.approx(float(arrays[f'overall/{key}']), rel=1e-6)
  for curve in ('success', 'precision'):
    expected = arrays[f'overall/{curve}_curve']
    np.testing.assert_allclose(getattr(whole, curve), expected, rtol=1e-6)
  np.testing.assert_array_equal(
    tracking.ERROR_THRESHOLDS, arrays['thresholds/center_error']
  )
  np.testing.assert_allclose(tracking.IOU_THRESHOLDS, arrays['thresholds/iou'])


def test_one_sequence_by_hand():
  truth = np.array([[10.0, 10, 20, 20]] * 4)
  # The first box is given; then half a box to the right, 15 pixels, and none at all.
  boxes = truth + np.array([[90.0], [10], [15], [200]]) * [1, 0, 0, 0]
  tracked = tracking.evaluate(boxes, truth)
  # Overlaps 1, 1/3, 1/7 and 0, against 0, .05, .1, .15 and so on.
  shares = np.array([3, 3, 3, 2, 2, 2, 2, *[1] * 13, 0]) / 4
  np.testing.assert_allclose(tracked.success, shares)
  assert tracked.success_score == pytest.approx(shares.mean())
  assert tracked.success_rate == 0.25
  off = np.arange(51)
  expected = (1 + (off >= 10).astype(float) + (off >= 15)) / 4
  np.testing.assert_allclose(tracked.precision, expected)
  assert tracked.precision_score == 0.75
  perfect = tracking.evaluate(truth, truth)
  whole = tracking.average([tracked, perfect])
  assert whole.precision_score == (0.75 + 1) / 2
  np.testing.assert_allclose(whole.success, (shares + perfect.success) / 2)
  assert boxes[0, 0] == 100  # What was given stays as it is.


def test_centres_are_those_of_pixels():
  boxes, others = np.array([[10.0, 10, 21, 11]]), np.array([[10.0, 10, 11, 11]])
  assert tracking.center_errors(boxes, others).tolist() == [5.0]


def test_a_perfect_tracker_and_a_lost_one():
  boxes = np.array([[10.0, 20, 30, 40]] * 50) + np.arange(50)[:, None] * [1, 1, 0, 0]
  perfect = tracking.evaluate(boxes, boxes)
  # An overlap is never above 1, so the last threshold is missed.
  assert perfect.success_score == pytest.approx(20 / 21)
  assert perfect.precision_score == perfect.success_rate == 1.0
  lost = tracking.evaluate(boxes + np.array([500, 0, 0, 0]), boxes)
  assert lost.success_score < 0.03 and lost.precision_score < 0.03

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


def test_a_perfect_tracker_and_a_lost_one():
  boxes = np.array([[10.0, 20, 30, 40]] * 50) + np.arange(50)[:, None] * [1, 1, 0, 0]
  perfect = tracking.evaluate(boxes, boxes)
  # An overlap is never above 1, so the last threshold is missed.
  assert perfect.success_score == pytest.approx(20 / 21)
  assert perfect.precision_score == perfect.success_rate == 1.0
  lost = tracking.evaluate(boxes + np.array([500, 0, 0, 0]), boxes)
  assert lost.success_score < 0.03 and lost.precision_score < 0.03

import numpy as np
import pytest

from official.video.evaluation import temporal_localization as tal
from tests.goldens import cases, golden, relative_error

FILE = 'eval_activitynet.npz'


def segments(data, kind, rows=slice(None)):
  video = data[f'{kind}_video'][rows]
  score = data['pred_score'] if kind == 'pred' else np.ones(len(video))
  return tal.Segments(
    video.astype(object),
    data[f'{kind}_label'][rows].astype(object),
    data[f'{kind}_segment'][rows],
    score,
  )


def case(name):
  stored = golden(FILE)
  prefix = f'{name}/'
  data = {k.removeprefix(prefix): stored[k] for k in stored.files if k.startswith(prefix)}
  truth = segments(data, 'gt', data['gt_is_validation'])
  return data, truth, segments(data, 'pred')


TIES = cases(FILE, '(.+)/out/ap_min_over_random_tie_breaks')
DISTINCT = [name for name in cases(FILE, '(.+)/out/average_mAP') if name not in TIES]


@pytest.mark.parametrize('name', DISTINCT)
def test_equals_the_public_evaluation(name):
  data, truth, predicted = case(name)
  result = tal.evaluate(truth, predicted, data['tiou'])
  assert list(result.class_names) == data['class_names'].tolist()
  expected = data['out/ap_tiou_by_class']
  assert relative_error(result.average_precision, expected) < 1e-6
  assert relative_error(result.by_threshold, data['out/mAP_per_tiou']) < 1e-6
  assert result.average == pytest.approx(float(data['out/average_mAP']), rel=1e-6)
  by_name = {
    f'mAP@{tiou:g}': value
    for tiou, value in zip(data['tiou'], data['out/mAP_per_tiou'], strict=True)
  } | {'mAP_average': data['out/average_mAP']}
  scores = result.scores()
  assert len(scores) > 1
  for name, score in scores.items():
    assert score == pytest.approx(float(by_name[name]), rel=1e-6), name


@pytest.mark.parametrize('name', TIES)
def test_ties_stay_within_the_range_of_random_orders(name):
  data, truth, predicted = case(name)
  result = tal.evaluate(truth, predicted, data['tiou'])
  low, high = data['out/average_mAP_range']
  assert low - 1e-6 <= result.average <= high + 1e-6
  assert (
    result.average_precision >= data['out/ap_min_over_random_tie_breaks'] - 1e-6
  ).all()
  assert (
    result.average_precision <= data['out/ap_max_over_random_tie_breaks'] + 1e-6
  ).all()


def test_perfect_and_shuffled_predictors_score_as_they_must():
  rng = np.random.default_rng(0)
  starts = rng.uniform(0, 90, 60)
  rows = [
    (f'v{i % 20}', f'c{i % 4}', s, s + rng.uniform(2, 10), 1.0)
    for i, s in enumerate(starts)
  ]
  truth = tal.Segments.of(rows)
  assert tal.evaluate(truth, truth).average == pytest.approx(1.0)
  spans = truth.span[rng.permutation(60)]
  shuffled = tal.Segments(truth.video, truth.label, spans, rng.random(60))
  assert tal.evaluate(truth, shuffled).average < 0.1
  nothing = tal.Segments.of([])
  assert tal.evaluate(truth, nothing).average == 0.0


def average_precision(truth, predicted, threshold=0.5):
  made = [
    tal.Segments.of([('v', 'c', start, end, score) for start, end, score in rows])
    for rows in (truth, predicted)
  ]
  return tal.evaluate(*made, [threshold]).average


def test_average_precision_by_hand():
  truth = [(0, 10, 1.0), (20, 30, 1.0)]
  # Right, again the same, right: precision 1 up to half of the recall, then 2/3.
  found = [(20, 30, 0.7), (0, 10, 0.9), (0, 10, 0.8)]
  assert average_precision(truth, found) == pytest.approx((1 + 2 / 3) / 2)
  # tIoU is 0.8 of the first: wrong from then on.
  shorter = [(0, 8, 0.9), (20, 30, 0.7)]
  assert average_precision(truth, shorter, 0.75) == 1.0
  assert average_precision(truth, shorter, 0.85) == pytest.approx(1 / 4)
  # Where the nearest annotation is taken, the next one may be hit.
  nested = [(0, 10, 1.0), (0, 9, 1.0)]
  assert average_precision(nested, [(0, 10, 0.9), (0, 10, 0.8)]) == 1.0
  # Neither other videos nor other classes are hit.
  elsewhere = tal.Segments.of([('w', 'c', 0, 10, 0.9), ('v', 'd', 0, 10, 0.8)])
  whole = tal.Segments.of([('v', 'c', 0, 10, 1.0)])
  assert tal.evaluate(whole, elsewhere).average == 0.0


def test_temporal_iou_by_hand():
  others = np.array([[0.0, 2.0], [1.0, 3.0], [4.0, 5.0], [0.0, 0.0]])
  iou = tal.temporal_iou(np.array([0.0, 2.0]), others)
  np.testing.assert_allclose(iou, [1.0, 1 / 3, 0.0, 0.0])

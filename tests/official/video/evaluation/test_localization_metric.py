"""Frame mAP against the official evaluator's numbers and by hand."""

import numpy as np
import pytest

from official.video.errors import UserError
from official.video.evaluation import localization
from tests.goldens import cases, golden

FILE = 'eval_ava.npz'
TIES = cases(FILE, '(.+)/out/ap_min_over_random_tie_breaks')
DISTINCT = [name for name in cases(FILE, '(.+)/out/mAP') if name not in TIES]


def case(name):
  arrays = golden(FILE)
  get = lambda key: arrays[f'{name}/{key}']  # noqa: E731

  def names(kind):
    rows = zip(get(f'{kind}_video'), get(f'{kind}_timestamp'), strict=True)
    return [f'{video},{time:04d}' for video, time in rows]

  truth = localization.boxes_of(names('gt'), get('gt_box_x1y1x2y2'), get('gt_class'))
  found = localization.boxes_of(
    names('det'), get('det_box_x1y1x2y2'), get('det_class'), get('det_score')
  )
  frames = {*names('gt'), *names('empty')}
  return truth, found, frames, get('classes').tolist(), get


@pytest.mark.parametrize('name', DISTINCT)
def test_golden_frame_map(name):
  *inputs, get = case(name)
  result = localization.frame_map(*inputs)
  np.testing.assert_allclose(
    result.per_class, get('out/ap_per_class'), rtol=1e-6, equal_nan=True
  )
  assert result.mean == pytest.approx(float(get('out/mAP')), rel=1e-6)


@pytest.mark.parametrize('name', TIES)
def test_golden_frame_map_with_ties(name):
  *inputs, get = case(name)
  result = localization.frame_map(*inputs)
  low, high = (get(f'out/ap_{end}_over_random_tie_breaks') for end in ('min', 'max'))
  known = ~np.isnan(low)
  assert (np.isnan(result.per_class) == ~known).all()
  assert (result.per_class[known] >= low[known] - 1e-9).all()
  assert (result.per_class[known] <= high[known] + 1e-9).all()


def random_truth(frames=60, classes=5, seed=0):
  rng = np.random.default_rng(seed)
  corners = np.sort(rng.random((frames, 3, 2, 2)), axis=2).reshape(-1, 4)
  names = np.repeat([f'v,{i:04d}' for i in range(frames)], 3)
  return localization.boxes_of(names, corners, rng.integers(0, classes, 3 * frames))


def test_a_perfect_predictor_scores_1():
  truth = random_truth()
  result = localization.frame_map(truth, truth, set(truth.frames), range(5))
  assert result.mean == 1.0


def test_a_shuffled_predictor_scores_near_chance():
  truth = random_truth(400)
  rng = np.random.default_rng(1)
  # Every box with every class, at random scores: precision is the share of the class.
  labels = np.tile(np.arange(5), len(truth))
  rows = np.repeat(np.arange(len(truth)), 5)
  found = localization.boxes_of(
    truth.frames[rows], truth.boxes[rows], labels, rng.random(len(rows))
  )
  result = localization.frame_map(truth, found, set(truth.frames), range(5))
  assert result.mean == pytest.approx(0.2, abs=0.05)


def one_frame(boxes, scores):
  return localization.boxes_of(['v,1'] * len(boxes), boxes, [0] * len(boxes), scores)


def test_a_second_detection_of_a_box_is_false():
  truth = one_frame([[0, 0, 1, 1], [0, 0.9, 0.2, 1]], None)
  twice = one_frame([[0, 0, 1, 0.95], [0, 0, 1, 0.9]], [0.9, 0.8])
  result = localization.frame_map(truth, twice, {'v,1'}, [0])
  assert result.mean == pytest.approx(0.5)


def test_the_threshold_is_that_of_a_hit():
  truth, found = one_frame([[0, 0, 1, 1]], None), one_frame([[0, 0, 1, 0.6]], [0.9])
  means = [
    localization.frame_map(truth, found, {'v,1'}, [0], threshold).mean
    for threshold in (0.5, 0.59, 0.61)
  ]
  assert means == [1.0, 1.0, 0.0]


def test_detections_elsewhere_do_not_count():
  truth = one_frame([[0, 0, 1, 1]], None)
  rows = [*['v,2'] * 3, 'v,1', 'v,3']
  found = localization.boxes_of(rows, [[0, 0, 1, 1]] * 5, [0] * 5, [5, 4, 3, 2, 1])
  result = localization.frame_map(truth, found, {'v,1', 'v,3'}, [0, 1])
  assert result.per_class[0] == 1.0 and np.isnan(result.per_class[1])
  assert result.mean == 1.0  # Of the classes that are annotated.
  with_empty = localization.frame_map(truth, found, {'v,1', 'v,2'}, [0])
  assert with_empty.mean == pytest.approx(0.25)


def test_only_the_highest_50_of_a_frame_count():
  truth = one_frame([[0, 0, 1, 1]], None)
  found = one_frame([[0, 0, 0.1, 0.1]] * 50 + [[0, 0, 1, 1]], np.linspace(1, 0.5, 51))
  assert localization.frame_map(truth, found, {'v,1'}, [0]).mean == 0.0


def test_predictions_round_trip(tmp_path):
  truth = random_truth(10)
  found = localization.boxes_of(
    truth.frames, truth.boxes, truth.labels, np.random.default_rng(0).random(len(truth))
  )
  ids = localization.action_ids(['3: a', '7: b', '12: c, d', '20: e', '80: f'])
  assert ids == [3, 7, 12, 20, 80]
  assert localization.action_ids(['walk', 'run']) == [1, 2]
  path = tmp_path / 'predictions.csv'
  path.write_text(localization.write_predictions(found, ids))
  first = path.read_text().splitlines()[0].split(',')
  assert first[:2] == ['v', '0000'] and len(first) == 8 and int(first[6]) in ids
  again = localization.read_predictions(str(path), ids)
  frames = set(truth.frames)
  assert localization.frame_map(truth, again, frames, range(5)).mean == pytest.approx(
    localization.frame_map(truth, found, frames, range(5)).mean
  )
  path.write_text('v,1,0,0,1\n')
  with pytest.raises(UserError, match=r'line 1: .*expected video, timestamp'):
    localization.read_predictions(str(path), ids)

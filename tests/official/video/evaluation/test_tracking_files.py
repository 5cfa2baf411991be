"""Result files, where the got10k toolkit looks for them."""

import json

import numpy as np

from official.video.evaluation import tracking, tracking_files


def test_files_are_where_the_toolkit_looks(tmp_path):
  boxes = np.array([[1, 2, 3.5, 4], [1.25, 2, 3, 4]])
  seconds = np.array([0.5, 0.25])
  path = tracking_files.save_results(
    str(tmp_path), 'OTB2015', 'me', 'Car1', boxes, seconds
  )
  base = tmp_path / 'results' / 'OTB2015' / 'me'
  assert path == str(base / 'Car1.txt')
  np.testing.assert_array_equal(np.loadtxt(path, delimiter=','), boxes)
  np.testing.assert_array_equal(np.loadtxt(base / 'times' / 'Car1_time.txt'), seconds)
  tracking_files.save_results(str(tmp_path), 'GOT-10k', 'me', 'Val_1', boxes, seconds)
  other = tmp_path / 'results' / 'GOT-10k' / 'me' / 'Val_1'
  assert {p.name for p in other.iterdir()} == {'Val_1_001.txt', 'Val_1_time.txt'}
  tracked = tracking.evaluate(boxes, boxes)
  lost = tracking.evaluate(np.add(boxes, [90, 0, 0, 0]), boxes)
  both = {'Lost': lost, 'Car1': tracked}
  tracking_files.save_performance(str(tmp_path), 'OTB2015', 'me', both)
  report = json.loads(
    (tmp_path / 'reports' / 'OTB2015' / 'me' / 'performance.json').read_text()
  )
  overall = tracking.average([lost, tracked]).success_score
  assert report['me']['overall']['success_score'] == overall < tracked.success_score
  of_one = report['me']['seq_wise']['Car1']
  assert of_one['success_score'] == tracked.success_score
  assert of_one['precision_score'] == tracked.precision_score > tracked.success_score
  assert len(report['me']['seq_wise']['Car1']['precision_curve']) == 51

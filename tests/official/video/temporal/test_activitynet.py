import json

import numpy as np
import pytest

from official.video.errors import UserError
from official.video.evaluation import temporal_localization as tal
from official.video.temporal import activitynet

DATABASE = {
  'a': {'subset': 'training', 'annotations': [{'label': 'x', 'segment': [0, 1.5]}]},
  'b': {
    'subset': 'validation',
    'duration': 7.5,
    'annotations': [
      {'label': 'y', 'segment': [2, 3]},
      {'label': 'z', 'segment': [0, 1]},
    ],
  },
  'c': {'subset': 'validation', 'duration': 3, 'annotations': []},
}


def write(folder, database, name='truth.json'):
  path = folder / name
  path.write_text(json.dumps({'database': database}))
  return str(path)


def test_the_format_goes_in_and_out(tmp_path):
  path = write(tmp_path, DATABASE)
  videos = activitynet.read_videos([path], 'validation')
  assert list(videos) == ['b', 'c']
  assert (videos['b'].duration, videos['b'].labels) == (7.5, ['y', 'z'])
  np.testing.assert_array_equal(videos['b'].spans, [[2, 3], [0, 1]])
  assert videos['c'].spans.shape == (0, 2)
  assert activitynet.read_videos([path], 'training')['a'].duration is None
  truth = activitynet.segments(videos)
  activitynet.write_predictions(tmp_path / 'out.json', truth)
  again = activitynet.read_predictions(str(tmp_path / 'out.json'))
  assert tal.evaluate(truth, again).average == 1.0


def test_several_files_are_one_database(tmp_path):
  paths = [
    write(tmp_path, {name: DATABASE[name]}, f'{name}.json') for name in ('a', 'b', 'c')
  ]
  assert list(activitynet.read_videos(paths, 'validation')) == ['b', 'c']
  with pytest.raises(UserError, match=r'b\.json: b is in .*b\.json too'):
    activitynet.read_videos([*paths, paths[1]], 'validation')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'subset': None}, "no annotation of subset 'validation'; there are"),
    ({'annotations': [{'label': 'y'}]}, 'truth.json: b: expected subset, duration'),
    ({'annotations': [{'label': 'y', 'segment': [1]}]}, 'truth.json: b: expected subset'),
    ({'annotations': {}, 'subset': 'training'}, 'no annotation of subset'),
    (
      {'annotations': [{'label': 'y', 'segment': [1, float('nan')]}]},
      'b: duration and segments are to be seconds',
    ),
    ({'duration': 0}, 'b: duration and segments are to be seconds'),
    ({'duration': 'long'}, 'b: expected subset, duration'),
  ],
)
def test_a_broken_entry_is_named(tmp_path, change, message):
  path = write(tmp_path, {'b': DATABASE['b'] | change})
  with pytest.raises(UserError, match=message):
    activitynet.read_videos([path], 'validation')


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{"results": {}}', "expected a JSON object with 'database'"),
    ('{"database": []}', "expected a JSON object with 'database'"),
    ('[]', "expected a JSON object with 'database'"),
    ('{"data', 'is not JSON'),
  ],
)
def test_another_kind_of_file_is_refused(tmp_path, text, message):
  path = tmp_path / 'other.json'
  path.write_text(text)
  with pytest.raises(UserError, match=message):
    activitynet.read_videos([str(path)], 'validation')
  with pytest.raises(UserError, match='No such file'):
    activitynet.read_videos([str(tmp_path / 'none.json')], 'validation')


@pytest.mark.parametrize(
  ('results', 'message'),
  [
    ([], "expected a JSON object with 'results'"),
    ({'b': [{'label': 'x'}]}, "expected 'results' by video of label"),
    ({'b': [{'label': 'x', 'segment': [1], 'score': 1}]}, 'predictions.json'),
    ({'b': [{'label': 'x', 'segment': [1, 2], 'score': float('nan')}]}, 'finite numbers'),
  ],
)
def test_broken_predictions_are_refused(tmp_path, results, message):
  path = tmp_path / 'predictions.json'
  path.write_text(json.dumps({'results': results}))
  with pytest.raises(UserError, match=message):
    activitynet.read_predictions(str(path))

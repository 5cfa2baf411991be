import json

import numpy as np
import pytest

from official.video.errors import UserError
from official.video.temporal import class_scores, features


def write(folder, content):
  path = folder / 'classes.json'
  path.write_text(json.dumps(content))
  return str(path)


def test_both_layouts_read_alike(tmp_path):
  expected = {'a': {'run': 0.25, 'jump': 0.5}, 'b': {'run': 1.0, 'jump': 0.0}}
  public = {'class': ['run', 'jump'], 'results': {'a': [0.25, 0.5], 'b': [1, 0]}}
  for content in (public, expected):
    assert class_scores.read(write(tmp_path, content)) == expected


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ([], 'expected a JSON object, either'),
    ({}, 'expected a JSON object, either'),
    ({'class': ['x'], 'results': []}, "'class' without 'results' by video"),
    ({'class': ['x', 'y'], 'results': {'a': [1]}}, "results of a are 1, 'class' names 2"),
    ({'class': ['x'], 'results': {'a': {'x': 1}}}, "are a dict, 'class' names 1"),
    ({'class': ['x'], 'results': {'a': [float('nan')]}}, 'a: scores are to be finite'),
    ({'class': ['x'], 'results': {'a': [[1]]}}, 'a: scores are to be finite'),
    ({'a': [1, 2]}, 'a: expected either'),
    ({'a': {'x': 'high'}}, 'a: scores are to be finite'),
  ],
)
def test_another_kind_of_file_is_refused(tmp_path, content, message):
  with pytest.raises(UserError, match=message):
    class_scores.read(write(tmp_path, content))


def test_a_file_that_cant_be_read(tmp_path):
  with pytest.raises(UserError, match='No such file'):
    class_scores.read(str(tmp_path / 'none.json'))
  (tmp_path / 'cut.json').write_text('{"results": {')
  with pytest.raises(UserError, match='is not JSON'):
    class_scores.read(str(tmp_path / 'cut.json'))


def test_the_linear_classifier_tells_the_classes():
  rng = np.random.default_rng(0)
  kinds = np.arange(20) % 2
  x = rng.normal(0, 0.1, (20, 3, 4)) + kinds[:, None, None]
  names = [f'v{i}' for i in range(20)]
  videos = features.VideoFeatures(x, names, np.ones(20))
  train, test = videos.of(names[:12]), videos.of(names[12:])
  labels = {name: 'ab'[kind] for name, kind in zip(names, kinds, strict=True)}
  found = class_scores.linear(train, labels, test)
  assert list(found) == names[12:]
  for name, scores in found.items():
    assert max(scores, key=scores.get) == labels[name]
    assert sum(scores.values()) == pytest.approx(1)
  alone = class_scores.linear(train.of(names[:1]), labels, test)
  assert alone == {name: {'a': 1.0} for name in names[12:]}

"""Classification scores by hand, and predictions through a file."""

import json

import numpy as np
import pytest

from official.video.errors import UserError
from official.video.evaluation import classification

SCORES = np.array([[0.6, 0.3, 0.1], [0.5, 0.2, 0.3], [0.1, 0.2, 0.7], [0.2, 0.5, 0.3]])
LABELS = np.array([0, 2, 2, 0])


def predictions(**changes):
  values = {
    'names': ('a', 'b', 'c', 'd'),
    'labels': LABELS,
    'scores': SCORES,
    'class_names': ('run', 'jump', 'fall'),
  }
  return classification.Predictions(**(values | changes))


def test_evaluate_by_hand():
  result = classification.evaluate(predictions(), ks=(1, 2, 3))
  assert result.topk == {1: 0.5, 2: 0.75}
  assert result.top1 == 0.5
  # Class 0: 1 of 2; class 2: 1 of 2; class 1 has no samples and does not count.
  assert result.mean_class_accuracy == 0.5
  assert result.confusion.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 1]]
  assert (result.evaluated, result.expected, result.missing) == (4, 4, ())


def test_mean_class_accuracy_differs_from_top1_when_classes_are_uneven():
  assert classification.mean_class_accuracy(np.array([[3, 0], [1, 0]])) == 0.5


def test_constant_output_is_right_for_one_class_only():
  ranks = classification.label_ranks(np.ones((3, 3)), np.array([0, 1, 2]))
  assert ranks.tolist() == [0, 1, 2]


def test_missing_samples_are_named_and_counted():
  result = classification.evaluate(predictions(), expected=['a', 'x', 'b', 'c', 'd'])
  assert result.missing == ('x',)
  assert 'top-1 50.00%' in result.summary()
  assert result.summary().endswith('evaluated 4 of 5')
  counted = classification.evaluate(predictions(), expected=9)
  assert (counted.evaluated, counted.expected) == (4, 9)


def test_predictions_of_another_split_are_refused():
  with pytest.raises(UserError, match="such as 'c'"):
    classification.evaluate(predictions(), expected=['a', 'b'])
  with pytest.raises(UserError, match='at most 3'):
    classification.evaluate(predictions(), expected=3)


def test_no_predictions_are_refused():
  empty = predictions(names=(), labels=np.zeros(0, int), scores=np.zeros((0, 3)))
  with pytest.raises(UserError, match='no predictions'):
    classification.evaluate(empty, expected=4)


def test_result_as_json():
  result = classification.evaluate(predictions(), expected=['a', 'b', 'c', 'd', 'e'])
  values = json.loads(result.to_json())
  assert values['topk'] == {'1': 0.5}
  assert values['missing'] == ['e']
  assert values['confusion'][0] == [1, 1, 0]


def test_saved_predictions_score_the_same(tmp_path):
  path = tmp_path / 'new folder' / 'predictions.npz'
  names = ('a', 'b', 'ü <b>', 'd')
  predictions(names=names).save(path)
  loaded = classification.Predictions.load(path)
  assert loaded.names == names
  assert loaded.class_names == ('run', 'jump', 'fall')
  before, after = map(classification.evaluate, (predictions(names=names), loaded))
  assert before.to_json() == after.to_json()
  assert [entry.name for entry in path.parent.iterdir()] == ['predictions.npz']


@pytest.mark.parametrize('content', [b'', b'PK no zip', None])
def test_unreadable_predictions_are_named(tmp_path, content):
  path = tmp_path / 'broken.npz'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError, match=r'broken\.npz'):
    classification.Predictions.load(path)


def test_file_of_other_arrays_is_refused(tmp_path):
  np.savez(tmp_path / 'other.npz', weights=np.ones(3))
  with pytest.raises(UserError, match='names'):
    classification.Predictions.load(tmp_path / 'other.npz')


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'names': ('a', 'b', 'c', 'a')}, 'repeat'),
    ({'names': ('a', 'b')}, r'\[2, classes\]'),
    ({'class_names': ('run',)}, '1 class names for 3'),
    ({'labels': np.array([0, 1, 2, 3])}, 'labels span 0 to 3'),
    ({'scores': np.where(SCORES == 0.7, np.nan, SCORES)}, "first that of 'c'"),
  ],
)
def test_inconsistent_predictions_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    predictions(**changes)


def test_views_are_averaged_per_sample_in_any_order():
  averaged = classification.average_views(
    ['a', 'b', 'a'], np.array([1, 0, 1]), np.array([[0.2, 0.8], [1, 0], [0.6, 0.4]])
  )
  assert averaged.names == ('a', 'b')
  assert averaged.labels.tolist() == [1, 0]
  np.testing.assert_allclose(averaged.scores, [[0.4, 0.6], [1, 0]])


def test_logits_are_averaged_where_asked_for():
  logits = np.array([[2.0, 0.0, 1.0], [-3.0, 3.0, 0.0], [1.0, 1.5, 0.0]])
  averaged = classification.average_views(
    ['a', 'a', 'b'],
    np.array([0, 0, 1]),
    classification.softmax(logits).astype(np.float32),
    average='logit',
  )
  expected = classification.softmax(np.array([logits[:2].mean(0), logits[2]]))
  np.testing.assert_allclose(averaged.scores, expected, rtol=1e-5)
  certain = np.array([[1.0, 0.0]], np.float32)
  sure = classification.average_views(['a'], np.array([0]), certain, average='logit')
  np.testing.assert_allclose(sure.scores, certain, atol=1e-6)
  with pytest.raises(UserError, match=r'task\.average'):
    classification.check_average('median')


def test_views_must_agree_on_the_label():
  with pytest.raises(ValueError, match="'a' have different labels"):
    classification.average_views(['a', 'a'], np.array([0, 1]), np.ones((2, 2)))


def test_softmax():
  logits = np.array([[0.0, np.log(3.0)], [1000.0, 1000.0]])
  np.testing.assert_allclose(classification.softmax(logits), [[0.25, 0.75], [0.5, 0.5]])

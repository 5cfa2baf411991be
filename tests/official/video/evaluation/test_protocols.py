import functools
import json
import re
import types

import numpy as np
import pytest

from official.video.errors import UserError
from official.video.evaluation import blocks, coverage, protocols
from official.video.scoring import of_features

RANGES = blocks.ranges
CLASSIFIERS = ['knn', 'retrieval', 'linear']


def encoded(labels):
  labels = np.asarray(labels)
  features = np.random.default_rng(0).normal(size=(len(labels), 8)).astype(np.float32)
  return types.SimpleNamespace(feature=features, labels=labels, expected=len(labels))


def score(train, test):
  table = types.SimpleNamespace(label_names=(), files=('x',), skipped=0)
  return protocols.score(CLASSIFIERS, encoded(train), encoded(test), table, table)


@pytest.mark.parametrize(
  ('train', 'test', 'reason'),
  [
    ([0] * 6, [0] * 3, '1 class'),
    ([2], [2], '1 class'),
    ([0, 1], [0, 1], 'no class has 2 training clips'),
    ([0, 0, 1], [0], None),
    ([0, 0, 1, 1], [2, 2], None),
  ],
)
def test_what_can_be_scored_of_few_clips_is(train, test, reason, capsys):
  scores = score(train, test)
  assert 0 <= scores['knn']['top1'] <= 1 and 0 <= scores['retrieval']['R@1'] <= 1
  assert scores['linear'].get('not_scored') == reason
  assert ('top1' in scores['linear']) == (reason is None)
  of_features.report(scores)
  lines = capsys.readouterr().out.splitlines()
  line = next(line for line in lines if line.startswith('linear'))
  assert line.split(maxsplit=1)[1].startswith('top1' if reason is None else 'not scored')
  assert reason is None or line.endswith(f'not scored, {reason}')


def test_scores_are_of_test_against_training():
  unit = np.eye(4, dtype=np.float32)
  train = types.SimpleNamespace(
    feature=np.repeat(unit, 3, 0), labels=np.repeat([0, 1, 2, 3], 3), expected=12
  )
  # Each test clip looks like training clips of its class, or of the next one.
  test = types.SimpleNamespace(
    feature=unit, labels=np.array([0, 1, 3, 0]), expected=4, outputs={}
  )
  table = types.SimpleNamespace(label_names=(), files=('x',), skipped=0)
  scores = protocols.score(CLASSIFIERS, train, test, table, table)
  assert scores['retrieval']['R@1'] == scores['linear']['top1'] == 0.5
  # All twelve vote, the three of the same feature by far the most.
  assert scores['knn']['top1'] == 0.5


def test_a_recall_over_the_whole_gallery_is_none(capsys):
  assert list(score([0, 1] * 6, [0, 1])['retrieval']) == ['R@1', 'R@5', 'R@10']
  assert list(score([0, 1] * 5, [0, 1])['retrieval']) == ['R@1', 'R@5']
  assert list(score([0, 1] * 30, [0])['retrieval']) == [
    f'R@{k}' for k in (1, 5, 10, 20, 50)
  ]
  assert list(score([0], [0])['retrieval']) == ['R@1']
  assert 'note' not in capsys.readouterr().err


@pytest.mark.parametrize(
  ('rows', 'said'),
  [
    (np.zeros([5, 3]), 'all are zero, so neighbours are in the order of the rows'),
    (np.outer([1, 2, 3, 4, 5], [3.0, -1, 2]), 'all rows are one, so neighbours'),
    (np.eye(5)[:, :3], '2 of 5 rows are zero, and alike to nothing'),
    (np.eye(3), ''),
    (np.ones([1, 3]), ''),
    (np.zeros([1, 3]), '1 of 1 rows are zero'),
  ],
)
def test_features_that_tell_nothing_are_told(rows, said, monkeypatch):
  for block in (1, 2, 2048):
    monkeypatch.setattr(protocols.blocks, 'ranges', functools.partial(RANGES, rows=block))
    told = protocols.told_nothing(rows.astype(np.float32))
    assert told.startswith(said) and bool(told) == bool(said)


def test_scores_of_constant_features_come_with_a_note(capsys):
  split = types.SimpleNamespace(
    feature=np.ones([6, 8], np.float32), labels=np.arange(6) % 2, expected=6
  )
  table = types.SimpleNamespace(label_names=(), files=('x',), skipped=0)
  protocols.score(['knn'], encoded([0, 1]), split, table, table)
  told = capsys.readouterr().err
  assert told.count('\n') == 1 and told.startswith(
    'note: test features: all rows are one'
  )


def test_probabilities_are_of_either_form():
  probability = np.array([[0.25, 0.75], [0.9, 0.1]])
  plain, logs = (
    types.SimpleNamespace(outputs=outputs)
    for outputs in (
      {'probability': probability},
      {'log_probability': np.log(probability) - 3},
    )
  )
  np.testing.assert_array_equal(protocols.probabilities(plain), probability)
  np.testing.assert_allclose(protocols.probabilities(logs), probability)
  assert protocols.probabilities(types.SimpleNamespace(outputs={})) is None


def test_clips_without_a_label_are_refused():
  for train, test in (([0, -1], [0, 0]), ([0, 0], [-1, 0])):
    with pytest.raises(UserError, match='x: holds clips without a label'):
      score(train, test)


def test_skipped_sources_of_both_splits_are_counted(tmp_path):
  test, train = (
    types.SimpleNamespace(label_names=(), files=('x',), skipped=n) for n in (2, 0)
  )
  encoding = encoded([0, 0, 1, 1])
  encoding.outputs = {'feature': encoding.feature}
  scores = protocols.score(['knn'], encoding, encoding, test, train)
  assert coverage.counts(scores) == {
    'records': (4, 4),
    'sources': (4, 6),
    'gallery records': (4, 4),
  }
  again = protocols.score(['knn'], encoding, encoding, train, test)
  assert coverage.counts(again)['gallery sources'] == (4, 6)
  whole = protocols.score(['knn'], encoding, encoding, train, train)
  for found, complete in ((scores, False), (again, False), (whole, True)):
    of_features.save(found, encoding, test, str(tmp_path))
    saved = json.loads((tmp_path / 'scores.json').read_text())
    assert saved == found | {'complete': complete}


@pytest.mark.parametrize('several', [False, True])
def test_every_protocol_tells_of_the_five_likeliest(several, tmp_path):
  """Features in files, and classes that lie beside one another on a circle."""
  rng, classes = np.random.default_rng(0), 12
  sets = []
  for name, count in (('train', 600), ('test', 200)):
    labels = rng.integers(0, classes, count)
    angles = 2 * np.pi * (labels + rng.normal(0, 0.8, count)) / classes
    features = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    np.save(tmp_path / f'{name}.npy', features)
    if several:
      labels = np.stack([labels, (labels + 1) % classes], 1)
    mapped = np.load(tmp_path / f'{name}.npy', mmap_mode='r')
    sets.append(types.SimpleNamespace(feature=mapped, labels=labels, expected=count))
  table = types.SimpleNamespace(label_names=range(classes), files=('x',), skipped=0)
  names = ['knn', 'linear', 'linear_sgd']
  scores = protocols.score(names, *sets, table, table)
  for name in names:
    found = dict(scores[name])
    first = found.pop('accuracy' if several else 'top1')
    assert found.pop('map', 1) > 0.3, name
    # A class is often taken for one beside it, hardly for one further away.
    assert found.keys() == {'top5'} and first < 0.9 and found['top5'] > 0.95, scores


def test_fits_that_take_long_tell_how_far_they_are(monkeypatch, capsys):
  sets = [encoded(np.arange(60) % 3), encoded(np.arange(30) % 3)]
  table = types.SimpleNamespace(label_names=(), files=('x',), skipped=0)
  protocols.score(['linear', 'linear_sgd'], *sets, table, table)
  assert capsys.readouterr().err == ''
  monkeypatch.setattr(protocols, '_TELL_EVERY', 0)
  protocols.score(['linear', 'linear_sgd'], *sets, table, table)
  lines = capsys.readouterr().err.splitlines()
  assert re.fullmatch(
    r'linear: \d+ passes, \d\.\de[+-]\d+ of the gradient is left', lines[0]
  )
  assert [line for line in lines if 'sgd' in line] == [
    f'linear_sgd: {step} of 100 steps' for step in range(1, 101)
  ]

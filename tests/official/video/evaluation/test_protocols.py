import json
import types

import numpy as np
import pytest

from official.video import evaluate
from official.video.evaluation import coverage, protocols

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
  evaluate.report(scores)
  lines = capsys.readouterr().out.splitlines()
  line = next(line for line in lines if line.startswith('linear'))
  assert line.split(maxsplit=1)[1].startswith('top1' if reason is None else 'not scored')
  assert reason is None or line.endswith(f'not scored, {reason}')


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
    evaluate.save(found, encoding, test, str(tmp_path))
    saved = json.loads((tmp_path / 'scores.json').read_text())
    assert saved == found | {'complete': complete}

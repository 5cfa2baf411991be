import types

import numpy as np
import pytest

from official.video import evaluate
from official.video.evaluation import protocols

CLASSIFIERS = ['knn', 'retrieval', 'linear']


def encoded(labels):
  labels = np.asarray(labels)
  features = np.random.default_rng(0).normal(size=(len(labels), 8)).astype(np.float32)
  return types.SimpleNamespace(feature=features, labels=labels, expected=len(labels))


def score(train, test):
  table = types.SimpleNamespace(label_names=(), files=('x',))
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

import types

import numpy as np
import pytest
import tensorflow as tf

from official.video.errors import UserError
from official.video.run import agreement
from official.video.settings import experiment


def facts(override='', labels=(0, 1), gin=''):
  params = experiment.load('cvrl_pretrain_tiny', params_override=override)
  table = types.SimpleNamespace(
    file_id=np.zeros(2), size=np.ones(2), labels=np.array(labels), sources=None
  )
  return agreement.facts(params, {'task.train_data': table}, gin)


def test_what_differs_is_named():
  mine = facts()
  names = sorted(mine)

  def differing(other):
    rows = [agreement._numbers([each[name] for name in names]) for each in (mine, other)]
    return agreement.differences(np.stack(rows), names)

  assert differing(facts()) == []
  assert differing(facts('task.train_data.seed=3')) == ['task.train_data.seed']
  assert differing(facts(labels=(0, 2))) == ['the records of task.train_data']
  assert differing(facts(gin='a.b = 1')) == ['the gin bindings']


def test_workers_may_have_numbers_of_their_own():
  strategy = 'runtime.distribution_strategy=multi_worker_mirrored'
  first, second = (
    facts(f'{strategy},runtime.worker_hosts="a:1,b:1",runtime.task_index={i}')
    for i in range(2)
  )
  assert first == second != facts()


def test_replicas_of_one_worker_agree(mirrored):
  agreement.check(tf.distribute.get_strategy(), facts())
  agreement.check(mirrored(2), facts())


def test_a_row_that_differs_is_refused(monkeypatch):
  strategy = tf.distribute.get_strategy()
  monkeypatch.setattr(
    type(strategy), 'gather', lambda self, value, axis: tf.concat([value, value + 1], 0)
  )
  with pytest.raises(UserError, match='the workers of this run differ in the fields;'):
    agreement.check(strategy, facts())

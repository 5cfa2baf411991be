"""Rounds that take hours: kept, and what a rival is asked for."""

import json

import numpy as np
import pytest

from benchmarks import harness, probing


def contender(done, fails=()):
  def run(timeout):
    done.append(timeout)
    if len(done) in fails:
      raise RuntimeError('killed')
    return {'minutes': float(len(done))}

  return harness.Contender('probe, to convergence', run)


def test_a_stopped_run_takes_the_rounds_that_were_done(tmp_path):
  done = []
  first = probing.resumable(contender(done, fails=[2]), tmp_path, resume=False)
  assert first.run() == {'minutes': 1.0} and done == [probing._LONGEST]
  with pytest.raises(RuntimeError, match='killed'):
    first.run()
  again = probing.resumable(contender(done), tmp_path, resume=True)
  assert [again.run(), again.run()] == [{'minutes': 1.0}, {'minutes': 3.0}]
  assert len(done) == 3
  # Asked for anew it takes nothing, and leaves other contenders alone.
  other = tmp_path / 'figures_probe_to_convergence_subset_0.json'
  other.write_text(json.dumps({'minutes': 9.0}))
  anew = probing.resumable(contender(done), tmp_path, resume=False)
  assert anew.run() == {'minutes': 4.0}


def test_progress_is_a_line_each(tmp_path):
  tell = probing.progress(str(tmp_path), 'a probe')
  tell('1 of 3 epochs')
  tell('2 of 3 epochs')
  lines = (tmp_path / 'progress.log').read_text().splitlines()
  assert [line.split(' ', 1)[1] for line in lines] == [
    'a probe: 1 of 3 epochs',
    'a probe: 2 of 3 epochs',
  ]


def test_the_rival_ends_at_the_gradient_that_ours_does(monkeypatch):
  from official.video.evaluation import linear

  rng = np.random.default_rng(0)
  labels = rng.integers(0, 5, 200)
  features = (rng.normal(size=(200, 16)) + np.eye(5, 16)[labels]).astype(np.float32)
  monkeypatch.setattr(probing, 'CLASSES', 5)
  loss = linear._Loss(features, labels, None)
  _, gradient = loss(np.zeros(loss.size))
  first = probing._first_gradient(features, labels)
  assert first == pytest.approx(np.abs(gradient).max(), rel=1e-5)
  # What scikit-learn minimises has the gradient of our loss.
  model = probing.rival_model(1e-6)
  model.fit(np.asarray(features, np.float64), labels)
  regression = model[-1]
  loss.set_penalty(1 / probing.STRENGTH)
  there = np.append(regression.coef_.T.ravel(), regression.intercept_)
  assert np.abs(loss(there)[1]).max() < 3e-6

"""An evaluation on two hosts: processes that TF_CONFIG tells of each other."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from official.video import evaluate
from tests import clips, drivers, processes, runs, tiny

LABELS = [0, 1, 2] * 3
# Batches that take long enough to be killed between, and seconds instead of minutes.
DRIVER = """
import os, sys, time
from official.video.evaluation import encoding, sharing, store
store._EVERY = 0
sharing._BEAT, sharing._LOOK, sharing._PATIENCE = 0.2, 0.1, 15
each, pause = encoding.Encoder.each, float(os.environ.get('PAUSE', 0))
encoding.Encoder.each = lambda *given: time.sleep(pause) or each(*given)
from official.video import evaluate
from official.video.settings import command_line
evaluate.define_flags()
command_line.run_process(evaluate.main)
"""
CLUSTER = {'worker': ['localhost:1', 'localhost:2']}  # Nobody listens there.


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """The flags of an experiment and a checkpoint of random weights."""
  folder = tmp_path_factory.mktemp('made')
  data = [clips.write_split(folder / name, name, LABELS) for name in ('train', 'test')]
  params = tiny.load('cvrl_linear_eval_tiny', *data)
  params.task.validation_data.global_batch_size = 2
  return runs.flags_of('cvrl_linear_eval_tiny', params, folder)


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--protocols=task'], '--protocols=task on several hosts: one host runs it'),
    (['--protocols=knn'], 'several hosts without --output_dir: name a folder'),
    (['--random_weights'], '--random_weights on several hosts: each would draw its own'),
  ],
)
def test_what_one_host_does_is_refused(made, monkeypatch, flags, message):
  told = {'cluster': CLUSTER, 'task': {'type': 'worker', 'index': 0}}
  monkeypatch.setenv('TF_CONFIG', json.dumps(told))
  given = made[:2] if '--random_weights' in flags else made
  done = drivers.run(evaluate, *given, *flags)
  assert done.code == 2 and message in done.stderr and done.stderr.count('error') == 1


def start(made, folder, host=None, pause=0.0, output=None):
  told = {'cluster': CLUSTER, 'task': {'type': 'worker', 'index': host}}
  environment = os.environ | {'PAUSE': str(pause)}
  if host is not None:
    environment['TF_CONFIG'] = json.dumps(told)
  flags = f'--features_dir={folder}', '--protocols=knn,retrieval,linear,classify'
  more = [f'--output_dir={output}'] if output else []
  return subprocess.Popen(
    [sys.executable, '-c', DRIVER, *made, *flags, *more],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=environment,
  )


def ended(process):
  stdout, stderr = process.communicate(timeout=240)
  return process.returncode, stdout, stderr


@pytest.mark.slow
def test_two_hosts_lose_one_and_score_as_one_does(made, tmp_path):
  alone = start(made, tmp_path / 'one', output=tmp_path / 'scores_of_one')
  pair = [start(made, tmp_path / 'two', host, pause=0.5 * host) for host in (0, 1)]
  about = tmp_path / 'two' / 'test' / 'shares' / '2_of_2' / 'about.json'

  def has_begun():
    return about.exists() and json.loads(about.read_text())['rows'] > 0

  assert processes.wait_until(has_begun, 240)
  os.kill(pair[1].pid, signal.SIGKILL)
  code, _, stderr = ended(pair[0])
  assert code == 2 and stderr.splitlines()[-1].startswith(
    'error: host 2 of 2: gave no sign of life for 15 s; start its command again'
  )
  assert (
    ended(pair[1])[0] == -signal.SIGKILL and not json.loads(about.read_text())['done']
  )
  again = [
    start(made, tmp_path / 'two', host, output=tmp_path / 'scores') for host in (0, 1)
  ]
  (first, stdout, stderr), (second, other, told) = map(ended, again)
  assert (first, second) == (0, 0), stderr + told
  assert 'share 2 of 2: goes on behind' in told
  assert other.splitlines() == [
    'share 2 of 2 of test and gallery is encoded; host 1 scores'
  ]
  code, expected, stderr = ended(alone)
  assert code == 0, stderr
  assert stdout == expected and 'classify' in stdout
  for path in (tmp_path / 'one').rglob('*.npy'):
    found = np.load(tmp_path / 'two' / path.relative_to(tmp_path / 'one'))
    np.testing.assert_array_equal(found, np.load(path))
  names = ['scores.json', 'predictions.npz']
  for name in names:
    one = (tmp_path / 'scores_of_one' / name).read_bytes()
    assert (tmp_path / 'scores' / name).read_bytes() == one
  assert len((tmp_path / 'scores' / 'ledger.jsonl').read_text().splitlines()) == 1

"""Runs of real processes that are stopped, killed, served and spread over workers."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import clips, processes

pytestmark = pytest.mark.slow
STEPS = 60
LABELS = [i % 3 for i in range(10)]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(tmp_path_factory.mktemp('records'), LABELS, LABELS[:4])


def command(data, model_dir, *flags: str, **overrides) -> list[str]:
  """The command line of a tiny deterministic run."""
  sizes = {
    'global_batch_size': 4,
    'feature_shape': [4, 32, 32, 3],
    'augmentation': {'policy': 'none'},
  }
  config = {
    'task': {
      'train_data': {'input_path': str(data[0])} | sizes,
      'validation_data': {'input_path': str(data[1])} | sizes,
      'model': {
        'backbone': {'resnet_3d': {'model_id': 10, 'width_multiplier': 0.125}},
        'head': {'hidden_dim': 16, 'output_dim': 8},
      },
    },
    'trainer': {
      'train_steps': STEPS,
      'steps_per_loop': 5,
      'summary_interval': 5,
      'validation_interval': 20,
      'checkpoint_interval': 5,
    },
    'runtime': {'distribution_strategy': 'one_device'},
  }
  for name, value in overrides.items():
    group, field = name.split('__')
    config[group][field] = value
  return [
    *(sys.executable, '-m', 'official.video.train', '--experiment=cvrl_pretrain_tiny'),
    *(f'--model_dir={model_dir}', f'--params_override={json.dumps(config)}'),
    *('--deterministic', *flags),
  ]


def start(arguments: list[str], log: pathlib.Path, **variables) -> subprocess.Popen:
  root = pathlib.Path(__file__).parents[4]
  environment = os.environ | {'TF_CPP_MIN_LOG_LEVEL': '3'} | variables
  with log.open('a') as file:
    return subprocess.Popen(
      arguments, cwd=root, env=environment, stdout=file, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen, log: pathlib.Path, timeout: float = 300) -> None:
  assert process.wait(timeout) == 0, log.read_text()[-3000:]


def scores(model_dir: pathlib.Path) -> list[dict]:
  lines = (model_dir / 'scores.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def variables(model_dir: pathlib.Path) -> dict[str, np.ndarray]:
  import tensorflow as tf

  reader = tf.train.load_checkpoint(str(model_dir))
  names = reader.get_variable_to_shape_map()
  return {n: reader.get_tensor(n) for n in names if n != '_CHECKPOINTABLE_OBJECT_GRAPH'}


def assert_same_run(one: pathlib.Path, other: pathlib.Path) -> None:
  assert scores(one) == scores(other)
  expected, actual = variables(one), variables(other)
  assert expected.keys() == actual.keys()
  for name, value in expected.items():
    # How often it was saved is no part of a run.
    if 'save_counter' not in name:
      np.testing.assert_array_equal(actual[name], value, err_msg=name)


def kill_at_random(
  process: subprocess.Popen, log: pathlib.Path, draw: random.Random, by: signal.Signals
) -> int:
  """Kills a process in its start-up or after some reports; returns how it ended."""
  reports, seconds = (
    draw.randrange(6),
    draw.uniform(0, 0.4 if draw.random() < 0.8 else 20),
  )
  deadline = time.monotonic() + 240
  while process.poll() is None and time.monotonic() < deadline:
    if len(re.findall(r'^step \d+ of', log.read_text(), re.M)) >= reports:
      break
    time.sleep(0.02)
  try:
    process.wait(seconds)
  except subprocess.TimeoutExpired:
    process.send_signal(by)
  return process.wait(120)


@pytest.mark.parametrize('wanted', [3, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_killed_at_random_moments(data, tmp_path, wanted):
  whole, broken, log = tmp_path / 'whole', tmp_path / 'broken', tmp_path / 'log'
  finish(start(command(data, whole), log), log)
  draw = random.Random(3)
  ends = {0: 0, -signal.SIGKILL: 0, -signal.SIGTERM: 0, 143: 0}
  kills = 0
  # Besides the wanted kills as many more as it takes for both ends of a running run.
  while kills < wanted or not (ends[-signal.SIGKILL] and ends[143]):
    assert kills < wanted + 10, ends
    by = (signal.SIGTERM, signal.SIGKILL)[kills % 2]
    log.unlink()
    code = kill_at_random(start(command(data, broken), log), log, draw, by)
    assert code in ends, log.read_text()[-3000:]
    ends[code] += 1
    kills += code != 0
    if code == 0:  # It came to its end first; another run takes the next kills.
      assert_same_run(whole, broken)
      shutil.rmtree(broken, ignore_errors=True)
  finish(start(command(data, broken), log), log)
  assert_same_run(whole, broken)


SLOW = """
import time
from official.video.tasks import pretraining
def score(self, outputs):
  print('scoring', flush=True)
  time.sleep(600)
pretraining.PretrainTask.score = score
"""


@pytest.mark.parametrize(
  'number',
  [
    signal.SIGTERM,
    signal.SIGINT,
    pytest.param(signal.SIGHUP, marks=pytest.mark.exhaustive),
  ],
)
def test_a_signal_during_a_validation_loses_nothing(data, tmp_path, number):
  (tmp_path / 'slow_score.py').write_text(SLOW)
  (tmp_path / 'temporary').mkdir()
  log, run = tmp_path / 'log', tmp_path / 'run'
  arguments = command(data, run, '--import=slow_score', trainer__checkpoint_interval=1000)
  variables = {'PYTHONPATH': str(tmp_path), 'TMPDIR': str(tmp_path / 'temporary')}
  process = start(arguments, log, **variables)
  assert processes.wait_until(lambda: 'scoring' in log.read_text(), 240)
  process.send_signal(number)
  begun = time.monotonic()
  assert process.wait(60) == 128 + number, log.read_text()[-3000:]
  assert time.monotonic() - begun < 10
  assert (run / 'ckpt-20.index').exists()
  assert 'all that was trained is saved' in log.read_text()


def test_a_run_ends_soon_after_its_last_line(data, tmp_path):
  log = tmp_path / 'log'
  (tmp_path / 'temporary').mkdir()
  arguments = command(data, tmp_path / 'run', trainer__train_steps=20)
  process = start(arguments, log, TMPDIR=str(tmp_path / 'temporary'))
  done = tmp_path / 'run' / 'scores.jsonl'
  assert processes.wait_until(lambda: done.exists() and 'valid' in done.read_text(), 240)
  assert process.wait(20) == 0, log.read_text()[-3000:]
  assert not list((tmp_path / 'temporary').iterdir())


def test_workers_that_were_told_different_things_do_not_train(data, tmp_path):
  hosts = ','.join(f'localhost:{port}' for port in free_ports(2))
  logs = [tmp_path / f'log.{index}' for index in range(2)]
  (tmp_path / 'temporary').mkdir()
  pair = [
    start(
      command(
        data,
        tmp_path / 'run',
        runtime__distribution_strategy='multi_worker_mirrored',
        runtime__worker_hosts=hosts,
        runtime__task_index=index,
        trainer__loss_upper_bound=10.0 + index,
        trainer__best_checkpoint_export_subdir='best',
        trainer__best_checkpoint_eval_metric='knn_accuracy',
      ),
      logs[index],
      TMPDIR=str(tmp_path / 'temporary'),
    )
    for index in range(2)
  ]
  assert [process.wait(240) for process in pair] == [2, 2]
  for log in logs:
    assert 'error: the workers of this run differ in trainer.loss_upper_bound;' in (
      log.read_text()
    )
  assert not list((tmp_path / 'run').glob('ckpt*'))
  assert not list((tmp_path / 'temporary').iterdir())


def free_ports(count: int) -> list[int]:
  sockets = [socket.socket() for _ in range(count)]
  for s in sockets:
    s.bind(('localhost', 0))
  ports = [s.getsockname()[1] for s in sockets]
  for s in sockets:
    s.close()
  return ports


def workers(data, model_dir, log, **overrides) -> list[subprocess.Popen]:
  hosts = ','.join(f'localhost:{port}' for port in free_ports(2))
  return [
    start(
      command(
        data,
        model_dir,
        runtime__distribution_strategy='multi_worker_mirrored',
        runtime__worker_hosts=hosts,
        runtime__task_index=index,
        **overrides,
      ),
      log.with_suffix(f'.{index}'),
    )
    for index in range(2)
  ]


def finish_all(pair: list[subprocess.Popen], log: pathlib.Path) -> None:
  for index, process in enumerate(pair):
    finish(process, log.with_suffix(f'.{index}'))


def test_two_workers_lose_one_and_go_on(data, tmp_path):
  log = tmp_path / 'log'
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  finish_all(workers(data, whole, log), log)
  pair = workers(data, broken, log)
  deadline = time.monotonic() + 240
  while not list(broken.glob('ckpt-2*.index')) and time.monotonic() < deadline:
    time.sleep(0.1)
  pair[1].kill()
  assert pair[0].wait(240) != 0  # It must not wait for ever.
  assert max(line['step'] for line in scores(broken)) < STEPS
  finish_all(workers(data, broken, log), log)
  assert_same_run(whole, broken)


def test_two_workers_stop_together_on_a_signal(data, tmp_path):
  log = tmp_path / 'log'
  pair = workers(data, tmp_path / 'run', log, trainer__train_steps=100_000)
  deadline = time.monotonic() + 240
  while not list((tmp_path / 'run').glob('ckpt-5.index')) and time.monotonic() < deadline:
    time.sleep(0.1)
  pair[1].terminate()
  assert [process.wait(120) for process in pair] == [143, 143]
  texts = [log.with_suffix(f'.{i}').read_text().splitlines()[-1] for i in range(2)]
  assert texts[0] == texts[1] and texts[0].startswith('stopped at step')


SERVICE = """
import sys, tensorflow as tf
service = tf.data.experimental.service
if sys.argv[1] == 'dispatcher':
  server = service.DispatchServer(service.DispatcherConfig(port=int(sys.argv[2])))
else:
  server = service.WorkerServer(service.WorkerConfig(sys.argv[2]))
server.join()
"""


def test_a_data_service_of_three_processes_feeds_a_run(data, tmp_path):
  port = free_ports(1)[0]
  log = tmp_path / 'log'
  servers = [
    start([sys.executable, '-c', SERVICE, *arguments], log)
    for arguments in (
      ['dispatcher', str(port)],
      *[['worker', f'localhost:{port}']] * 2,
    )
  ]
  try:
    address = f'--tf_data_service=grpc://localhost:{port}'
    finish(start(command(data, tmp_path / 'run', address), log), log)
  finally:
    for server in servers:
      server.kill()
  assert scores(tmp_path / 'run')[-1]['step'] == STEPS

"""The scripts of docs/scripts, as processes of this machine that talk over loopback."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import pytest
import yaml

from official.video.settings import recipes
from tests import clips, pages, processes, test_docs, tiny

SCRIPTS = pages.ROOT / 'docs' / 'scripts'
# What a cluster has and this machine has not: two nodes, which are this one.
SCONTROL = 'echo localhost; echo localhost\n'
SRUN = """
SLURM_PROCID=0 "$@" > worker.0 2>&1 & first=$!
SLURM_PROCID=1 "$@" > worker.1 2>&1 & second=$!
wait $first && wait $second
"""


def free_ports() -> int:
  """The first of two ports in a row that nobody listens at."""
  for port in range(20_000, 60_000, 7):
    if all(socket.socket().connect_ex(('localhost', p)) for p in (port, port + 1)):
      return port
  raise AssertionError('no ports are free')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """Flags of a run of two steps, but for its folder."""
  folder = tmp_path_factory.mktemp('run')
  train, test = clips.write_splits(folder, [i % 3 for i in range(8)], [0, 1, 2, 0])
  texts = [
    tiny.STEPS,
    *tiny.SMALLER['cvrl_pretrain'],
    f'task.train_data: {{input_path: "{train}", global_batch_size: 4}}',
    f'task.validation_data: {{input_path: "{test}", global_batch_size: 4}}',
  ]
  for number, text in enumerate(texts):
    (folder / f'{number}.yaml').write_text(text)
  flags = [f'--config_file={folder / f"{number}.yaml"}' for number in range(len(texts))]
  return ['--experiment=cvrl_pretrain_tiny', *flags]


def start(command: list[str], cwd: pathlib.Path, **variables: str) -> subprocess.Popen:
  environment = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', 'PYTHON': sys.executable}
  with open(cwd / 'log', 'a') as log:
    return subprocess.Popen(
      command, cwd=cwd, env=environment | variables, stdout=log, stderr=subprocess.STDOUT
    )


def steps(folder: pathlib.Path) -> int:
  lines = (folder / 'scores.jsonl').read_text().splitlines()
  return max(json.loads(line)['step'] for line in lines)


@pytest.mark.slow
def test_a_job_of_slurm_trains_on_two_nodes(run, tmp_path):
  (tmp_path / 'bin').mkdir()
  for name, text in (('scontrol', SCONTROL), ('srun', SRUN)):
    program = tmp_path / 'bin' / name
    program.write_text(f'#!/usr/bin/env bash\n{text}')
    program.chmod(0o755)
  (tmp_path / 'docs').symlink_to(pages.ROOT / 'docs')
  variables = {
    'PATH': f'{tmp_path / "bin"}:{os.environ["PATH"]}',
    'SLURM_JOB_NODELIST': 'node[1-2]',
    'PORT': str(free_ports()),
    'PYTHONPATH': str(pages.ROOT),
  }
  command = ['bash', 'docs/scripts/slurm.sbatch', *run, '--model_dir=trained']
  job = start(command, tmp_path, **variables)
  code = job.wait(300)
  logs = [(tmp_path / f'worker.{index}').read_text() for index in range(2)]
  assert code == 0, '\n'.join(logs)
  assert steps(tmp_path / 'trained') == 2
  kept = yaml.safe_load((tmp_path / 'trained' / 'params.yaml').read_text())
  assert kept['runtime']['distribution_strategy'] == 'multi_worker_mirrored'


@pytest.mark.slow
def test_a_chief_and_a_worker_train_as_vertex_starts_them(run, tmp_path):
  port = free_ports()
  cluster = {'chief': [f'localhost:{port}'], 'worker': [f'localhost:{port + 1}']}
  command = [sys.executable, '-m', 'official.video.train', *run, '--model_dir=trained']
  command.append(f'--config_file={SCRIPTS / "hosts.yaml"}')
  pair = [
    start(
      command,
      tmp_path,
      TF_CONFIG=json.dumps({'cluster': cluster, 'task': {'type': kind, 'index': 0}}),
      PYTHONPATH=str(pages.ROOT),
    )
    for kind in cluster
  ]
  assert [process.wait(300) for process in pair] == [0, 0], (tmp_path / 'log').read_text()
  assert steps(tmp_path / 'trained') == 2


@pytest.mark.slow
def test_a_data_service_feeds_a_run(run, tmp_path):
  port, second = free_ports(), str(free_ports() + 1)
  script = [sys.executable, str(SCRIPTS / 'data_service.py')]
  servers = [start([*script, 'dispatcher', f'--port={port}'], tmp_path)]
  log = tmp_path / 'log'
  try:
    assert processes.wait_until(lambda: 'dispatcher on port' in log.read_text())
    servers.append(
      start(
        [*script, 'worker', f'--dispatcher=localhost:{port}', f'--port={second}'],
        tmp_path,
      )
    )
    command = [sys.executable, '-m', 'official.video.train', *run, '--model_dir=trained']
    command.append(f'--tf_data_service=grpc://localhost:{port}')
    trained = start(command, tmp_path, PYTHONPATH=str(pages.ROOT))
    assert trained.wait(300) == 0, log.read_text()
  finally:
    for server in servers:
      server.kill()
      server.wait()
  assert steps(tmp_path / 'trained') == 2


@pytest.mark.parametrize('path', sorted(SCRIPTS.glob('*.s*')), ids=lambda path: path.name)
def test_a_script_is_one_and_names_what_is_there(path):
  done = subprocess.run(['bash', '-n', path], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  text = path.read_text()
  assert 'set -euo pipefail' in text
  for named in re.findall(r'docs/scripts/[\w.]+\w', text):
    assert (pages.ROOT / named).is_file(), named
  for module in re.findall(r'-m (official[\w.]+)', text):
    test_docs.check_module(module, [])
  for experiment in re.findall(r'--experiment=\w+', text):
    test_docs.check_module('official.video.train', [experiment])


def test_hosts_ask_for_what_they_need(tmp_path):
  for variables, missing in (({}, 'HOSTS'), ({'HOSTS': 'a:1'}, 'INDEX')):
    done = subprocess.run(
      ['bash', SCRIPTS / 'hosts.sh'],
      env={'PATH': os.environ['PATH'], **variables},
      capture_output=True,
      text=True,
    )
    assert done.returncode and missing in done.stderr


def test_configs_of_scripts_and_the_job_of_vertex_resolve():
  for name in ('hosts', 'tpu'):
    path = SCRIPTS / f'{name}.yaml'
    assert path.read_text().startswith('# ') and path not in recipes.found().values()
    test_docs.check_module(
      'official.video.train', ['--experiment=cvrl_pretrain', f'--config_file={path}']
    )
  job = yaml.safe_load((SCRIPTS / 'vertex.yaml').read_text())
  pools = job['workerPoolSpecs']
  # The first pool is the chief, of which there is one.
  assert pools[0]['replicaCount'] == 1
  for pool in pools:
    command, *flags = pool['containerSpec']['args']
    flags = [flag.replace('/opt/vidgarden/', f'{pages.ROOT}/') for flag in flags]
    test_docs.check_command(['vidgarden', command, *flags])

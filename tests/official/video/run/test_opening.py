"""What a run says before TensorFlow is there."""

import io
import json
import select
import subprocess
import sys
import time

import pytest

from official.video.run import console, opening
from official.video.settings import methods
from tests import clips

LABELS = [i % 3 for i in range(24)]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('records')
  return clips.write_splits(folder, LABELS, LABELS[:5])


def overrides(data, *more: str) -> str:
  parts = (('train', data[0]), ('validation', data[1]))
  paths = [f'task.{part}_data.input_path={path}' for part, path in parts]
  return ','.join((*paths, *more))


def told(experiment: str, folder='/run', mode='train_and_eval', **given) -> list[str]:
  out = io.StringIO()
  opening.tell(console.Console('line', out), experiment, mode, str(folder), **given)
  return out.getvalue().splitlines()


def facts(experiment: str, folder='/run', mode='train_and_eval', **given) -> dict:
  out = io.StringIO()
  said = opening.tell(
    console.Console('json', out), experiment, mode, str(folder), **given
  )
  (line,) = out.getvalue().splitlines()
  assert json.loads(line) == {'kind': 'opening', **said}
  return said


@pytest.mark.parametrize(
  ('method', 'batch'), [('cvrl', 24), ('const_cl', 24), ('cstp', 24), ('gvilm', 24)]
)
def test_the_first_lines_of_each_method(method, batch, data):
  assert method in methods.METHODS
  lines = told(f'{method}_pretrain_tiny', params_override=overrides(data))
  assert lines[0].endswith(f' · {method}_pretrain_tiny · new run in /run')
  assert lines[1].startswith('data       2 files, 24 clips, 3 classes (')
  assert '; validation ' in lines[1] and '5 clips, 3 classes (' in lines[1]
  # No batch is larger than the set.
  assert lines[2:] == [f'plan       batch {batch} · 600 steps · 600 epochs']


def test_flags_and_files_are_read_in_order(data, tmp_path):
  file = tmp_path / 'a.yaml'
  file.write_text('task: {train_data: {global_batch_size: 6}}\ntrainer.train_steps: 40\n')
  known = facts('cvrl_pretrain_tiny', config_files=[str(file)])
  assert (known['batch'], known['steps'], 'epochs' in known) == (6, 40, False)
  override = overrides(data, 'task.train_data.global_batch_size=8')
  known = facts('cvrl_pretrain_tiny', config_files=[str(file)], params_override=override)
  assert (known['batch'], known['steps'], known['epochs']) == (8, 40, 40 / 3)
  assert known['data']['train']['clips'] == 24
  later = tmp_path / 'b.yaml'
  later.write_text('trainer: {train_steps: 50}\n')
  known = facts('cvrl_pretrain_tiny', config_files=[str(file), str(later)])
  assert (known['batch'], known['steps']) == (6, 50)
  # An override may be a file, and a recipe is known by its short name.
  assert facts('cvrl_pretrain_tiny', params_override=str(file))['batch'] == 6
  known = facts('cvrl_pretrain_kinetics400', config_files=['cvrl/pretrain_tiny'])
  assert known['batch'] > 0


def test_steps_by_epochs_are_those_that_the_run_takes(data):
  from official.video.settings import experiment

  for more in ((), ('trainer.epochs=7',), ('trainer.train_steps=9',)):
    override = overrides(data, 'task.train_data.global_batch_size=5', *more)
    known = facts('cvrl_pretrain', params_override=override)
    params = experiment.load('cvrl_pretrain', params_override=override)
    assert known['steps'] == params.trainer.train_steps
    assert known['batch'] == params.task.train_data.global_batch_size == 5


def test_what_can_not_be_known_is_left_out(tmp_path):
  assert told('strangers_own') == [told('strangers_own')[0]]
  lines = told(
    'cvrl_pretrain', params_override='task.train_data.input_path=gs://bucket/train'
  )
  assert lines[1:] == [
    'data       gs://bucket/train',
    'plan       batch 1024 · 200 epochs',
  ]
  bad = tmp_path / 'train.manifest.json'
  for content in ('{', '[]', '{"shards": 3}', '{"shards": [{}]}', '[' * 10**5):
    bad.write_text(content)
    lines = told(
      'cvrl_pretrain_tiny', params_override=f'task.train_data.input_path={bad}'
    )
    assert lines[1] == f'data       {bad}'
  # Mistakes are told by who reads in earnest.
  assert len(told('cvrl_pretrain_tiny', params_override='trainer: [')) == 2
  assert len(told('cvrl_pretrain_tiny', config_files=[str(tmp_path / 'none.yaml')])) == 2
  wrong = 'task.train_data.global_batch_size=many'
  assert len(told('cvrl_pretrain_tiny', params_override=wrong)) == 1


def test_patterns_tell_what_the_manifest_beside_them_does(data, tmp_path):
  folder = data[0].parent

  def counted(path):
    override = f"task: {{train_data: {{input_path: '{path}'}}}}"
    found = facts('cvrl_pretrain_tiny', params_override=override)
    return [found['data']['train'][key] for key in ('files', 'clips', 'classes')]

  assert counted(folder / 'train-*') == [2, 24, 3]
  assert counted(folder / 'train-00001-of-00002.tfrecord') == [1, 12, 3]
  (one, *_) = sorted(folder.glob('train-*.tfrecord'))
  assert counted(f'{one},{folder / "test-*"}') == [3, 17, 3]
  # As the index does: files of two manifests are scanned, and so are strangers'.
  assert counted(folder / '*.tfrecord') == [4, None, 0]
  other = tmp_path / 'train-00000-of-00001.tfrecord'
  other.write_bytes(one.read_bytes())
  assert counted(other) == [1, None, 0]
  assert counted(f'{other},{folder / "train-*"}') == [3, None, 0]


def test_a_run_that_goes_on_says_from_where(tmp_path):
  for step in (2, 10, 4):
    (tmp_path / f'ckpt-{step}.index').touch()
  (tmp_path / 'ckpt-12.data-00000-of-00001').touch()
  line = told('cvrl_pretrain_tiny', tmp_path)[0]
  assert line.endswith(f'goes on at step 10 in {tmp_path}')
  line = told('cvrl_pretrain_tiny', tmp_path, mode='eval')[0]
  assert line.endswith(f'evaluates step 10 of {tmp_path}')


def command(data, folder) -> list[str]:
  return [
    '--experiment=cvrl_pretrain_tiny',
    f'--model_dir={folder}',
    f'--params_override={overrides(data)}',
  ]


def test_nothing_heavy_is_imported_before_the_first_line(data, tmp_path):
  code = """
import sys
from official.video import train
from official.video.settings import command_line

def stop(flags):
  heavy = {'tensorflow', 'tf_keras', 'orbit', 'gin', 'numpy', 'h5py'}
  print(sorted(heavy & set(sys.modules)))
  sys.exit(0)

command_line.load_experiment = stop
train.define_flags()
command_line.run(train.main)
"""
  done = subprocess.run(
    [sys.executable, '-c', code, *command(data, tmp_path / 'run')],
    capture_output=True,
    text=True,
    check=True,
  )
  lines = done.stdout.splitlines()
  assert lines[0].endswith(f'new run in {tmp_path / "run"}')
  assert lines[-1] == '[]'


@pytest.mark.slow
def test_the_first_line_comes_at_once(data, tmp_path):
  begun = time.monotonic()
  process = subprocess.Popen(
    [sys.executable, '-m', 'official.video.train', *command(data, tmp_path / 'run')],
    stdout=subprocess.PIPE,
    text=True,
  )
  try:
    assert select.select([process.stdout], [], [], 60)[0]
    # A second where nothing else runs; the machine may be busy.
    assert time.monotonic() - begun < 5
    assert 'cvrl_pretrain_tiny · new run' in process.stdout.readline()
  finally:
    process.kill()
    process.wait()

"""What is listed, found by short names, and taken of the machine without being asked."""

import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf
import yaml
from official.core import exp_factory

from official.video import export, train
from official.video.settings import catalogue, command_line, experiment, recipes
from official.video.temporal import windows
from tests import drivers

ROOT = pathlib.Path(__file__).parents[4]


def test_every_experiment_and_every_recipe_is_listed():
  text = '\n'.join(catalogue.lines())
  for name in experiment.experiment_names():
    assert f'\n{name} ' in f'\n{text}'
  yamls = list((ROOT / 'configs').rglob('*.yaml'))
  assert len(yamls) > 50
  detectors = recipes.by_experiment()['gtad']  # For another command than the list's.
  assert detectors == ['gvilm/gtad_activitynet']
  for path in yamls:
    name = f'{path.parent.name}/{path.stem}'
    assert (f'--config_file={name}\n' in f'{text}\n') == (name not in detectors)


def test_a_recipe_is_of_the_command_that_takes_it(tmp_path, monkeypatch):
  commands = [
    '# Two commands.',
    '#',
    '#   python -m official.video.train --experiment=first --config_file=a/bc --model_dir=x',
    '#   python -m official.video.train --experiment=second \\',
    '#     --config_file=other --config_file=configs/a/b.yaml --model_dir=x',
    '# Not run here: python -m official.video.train --experiment=third',
    'task: {}',
  ]
  path = tmp_path / 'b.yaml'
  path.write_text('\n'.join(commands))
  monkeypatch.setattr(recipes, 'found', lambda: dict.fromkeys(('a/b', 'a/c'), path))
  assert recipes.experiment_of('a/b') == 'second'
  assert recipes.experiment_of('a/c') == ''


@pytest.mark.parametrize(
  ('arguments', 'inside', 'outside'),
  [
    (['--list'], 'gvilm_pretrain ', None),
    (['--list='], 'gvilm_pretrain ', None),
    (
      ['--list', 'cvrl_pre'],
      'CVRL pretraining, resnet_3d, 16x224x224, batch 1024',
      'gvilm',
    ),
    (
      ['--list', 'c*tiny', '--mode=train'],
      'cstp_finetune_tiny',
      'cvrl_pretrain_kinetics',
    ),
  ],
)
def test_the_list_ends_the_command(arguments, inside, outside):
  result = drivers.run(train, *arguments)
  assert result.code == 0 and inside in result.stdout
  assert outside is None or outside not in result.stdout


@pytest.mark.parametrize(
  ('driver', 'arguments', 'message'),
  [
    (
      train,
      ['--list=qqq'],
      '--list qqq: no experiment has qqq in its name; did you mean',
    ),
    (train, ['--list=cvrl_pretrian'], ' in its name; did you mean cvrl_pretrain'),
    (train, [], '--experiment is missing; --list prints'),
    (train, ['--experiment=cvrl'], 'did you mean cvrl_'),
    (export, ['--experiment=cvrl_pretrain_tiny'], '--checkpoint is missing'),
    (windows, ['--experiment=cvrl_pretrain_tiny'], '--output is missing'),
  ],
)
def test_what_is_missing_is_named(driver, arguments, message):
  result = drivers.run(driver, *arguments)
  assert result.code == 2 and message in result.stderr
  assert len(result.stderr) < 1200


@pytest.mark.parametrize('driver', [export, windows])
def test_a_dry_run_needs_nothing_else(driver):
  result = drivers.run(driver, '--experiment=cvrl_pretrain_tiny', '--dry_run')
  assert result.code == 0 and 'parameters' in result.stdout


@pytest.mark.parametrize(
  'name', ['cvrl/pretrain_tiny', 'cvrl/pretrain_tiny.yaml', 'configs/cvrl/pretrain_tiny']
)
def test_a_recipe_is_found_by_its_short_name(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  text = experiment.read_text(name)
  assert text == (ROOT / 'configs' / 'cvrl' / 'pretrain_tiny.yaml').read_text()
  # A file of the user's own is what it says.
  path = tmp_path / name
  path.parent.mkdir(parents=True)
  path.write_text('mine: 1')
  assert yaml.safe_load(experiment.read_text(name)) == {'mine': 1}


def test_a_gin_recipe_is_found_too(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert recipes.located('gin/soft_jitter.gin') == str(
    ROOT / 'configs/gin/soft_jitter.gin'
  )
  assert recipes.located('gin/other.gin') == 'gin/other.gin'


def test_a_recipe_that_is_misspelt_is_guessed():
  result = drivers.run(
    train, '--experiment=cvrl_pretrain_tiny', '--config_file=cvrl/pretrain_tinny'
  )
  assert result.code == 2
  assert 'cvrl/pretrain_tinny: cannot be read' in result.stderr
  assert 'did you mean cvrl/pretrain_tiny' in result.stderr


@pytest.mark.parametrize(
  ('strategy', 'asked', 'taken'),
  [('mirrored', 0, 2), ('mirrored', 1, 1), ('one_device', 0, 1), ('off', 0, 0)],
)
def test_gpus_that_are_there_are_used(strategy, asked, taken, monkeypatch, capsys):
  real = tf.config.list_physical_devices
  monkeypatch.setattr(
    tf.config,
    'list_physical_devices',
    lambda kind=None: ['one', 'two'] if kind == 'GPU' else real(kind),
  )
  params = exp_factory.get_exp_config('cvrl_pretrain_tiny')
  params.runtime.distribution_strategy = strategy
  params.runtime.num_gpus = asked
  command_line.use_gpus(params.runtime)
  assert params.runtime.num_gpus == taken
  assert ('CUDA_VISIBLE_DEVICES=-1' in capsys.readouterr().err) == (taken != asked)


def test_a_gpu_that_can_not_be_used_names_the_fix(monkeypatch, capsys):
  monkeypatch.setattr(command_line.glob, 'glob', lambda pattern: ['/dev/nvidia0'])
  params = exp_factory.get_exp_config('cvrl_pretrain_tiny')
  command_line.use_gpus(params.runtime)
  assert 'make setup GPU=1' in capsys.readouterr().err
  params.runtime.num_gpus = 1
  with pytest.raises(ValueError, match=r'sees 0 GPUs here.*make setup GPU=1'):
    command_line.strategy_of(params)


def test_a_script_elsewhere_finds_the_project(tmp_path):
  # `make setup` installs it; a wheel does the same.
  code = 'import official.video, tfrecords_tools, official.video.projects.cvrl'
  done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True)
  assert done.returncode == 0, done.stderr

"""Folders of any name: each tool and driver, from videos to a SavedModel."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from official.video import evaluate, export, files, train
from official.video.configs import data as data_config
from official.video.data import index, records
from official.video.errors import UserError
from official.video.settings import experiment
from tests import clips, drivers
from tests.videos import write_video
from tfrecords_tools import convert, inspect, validate
from tfrecords_tools.commands import run_command

ROOT = pathlib.Path(__file__).parents[1]
# What shells, patterns, YAML, flags and lists read something else in.
NAMES = [
  'with  blanks',
  ' blanks around ',
  'run[lr=0.1]',
  '[abc]',
  'every*',
  'which?',
  'a=b',
  'x #1',
  '#2',
  "it's",
  '"quoted"',
  'Übung größer',
  os.fsdecode(b'caf\xe9'),
  '-dash',
  '--model_dir=x',
  'one, two',
  'a,task.seed=3',
  'key: value',
  '{brace}',
  'back\\slash',
  '$HOME `id` %s',
  '~',
  'new\nline',
  'x' * 200,
]
TINY = (
  'task.model.backbone.resnet_3d={model_id: 10, width_multiplier: 0.125}',
  'task.train_data.global_batch_size=2',
  'task.train_data.feature_shape=[2, 32, 32, 3]',
  'task.validation_data.global_batch_size=2',
  'task.validation_data.feature_shape=[2, 32, 32, 3]',
  'task.validation_data.num_test_clips=1',
  'task.validation_data.min_image_size=32',
  'trainer.steps_per_loop=1',
  'trainer.summary_interval=1',
  'trainer.checkpoint_interval=1',
  'trainer.validation_interval=2',
  'runtime.distribution_strategy=one_device',
)


def named(name: str) -> str:
  """A name as pytest can print it."""
  return ascii(name)[1:20]


# --- Names, quickly -------------------------------------------------------------------


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  return clips.write_split(
    tmp_path_factory.mktemp('records'),
    'train',
    [0, 1, 2],
    fields=lambda row: {records.LABEL_STRING: 'abc'[row]},
  )


@pytest.mark.parametrize('name', NAMES, ids=named)
def test_records_are_found_by_any_name(name, manifest, tmp_path, monkeypatch):
  folder = tmp_path / name
  shutil.copytree(manifest.parent, folder)
  (tmp_path / 'a').mkdir()  # What patterns would find instead.
  for path in (folder, folder / manifest.name, folder / 'train-0000?-*', f'{folder}/'):
    for text in (f'{path}', f'{manifest},{path}', f'{path} , {manifest}'):
      table = index.load_index(data_config.DataConfig(input_path=text))
      assert len(table) == (3 if text == f'{path}' else 6)
  monkeypatch.chdir(tmp_path)
  assert len(index.load_index(data_config.DataConfig(input_path=name))) == 3


@pytest.mark.parametrize('name', NAMES, ids=named)
def test_tools_take_any_name(name, manifest, tmp_path, monkeypatch):
  shutil.copytree(manifest.parent, tmp_path / name)
  monkeypatch.chdir(tmp_path)
  assert run_command(validate.main, [name]) == 0
  assert run_command(inspect.main, [name]) == 0
  assert run_command(inspect.main, [name, f'--output={name[:99]}.png']) == 0
  assert (tmp_path / f'{name[:99]}.png').is_file()


@pytest.mark.parametrize('name', NAMES, ids=named)
def test_overrides_take_any_name(name, tmp_path):
  folder = tmp_path / name
  folder.mkdir()
  (folder / 'ckpt-2.index').touch()
  text = (
    f'task.init_checkpoint={folder}/ckpt-2,task.train_data.input_path={folder},'
    f'trainer.train_steps=7,task.validation_data.input_path={tmp_path}/a,{folder} ,'
    'task.train_data.seed=3'
  )
  (tmp_path / 'a').mkdir()
  params = experiment.load('cvrl_finetune_tiny', params_override=text)
  assert params.task.init_checkpoint == f'{folder}/ckpt-2'
  assert params.task.train_data.input_path == str(folder)
  found = files.split_paths(params.task.validation_data.input_path)
  assert found == [f'{tmp_path}/a', str(folder)]
  assert (params.trainer.train_steps, params.task.train_data.seed) == (7, 3)
  again = experiment.load('cvrl_finetune_tiny')
  experiment.apply_overrides(again, experiment.to_yaml(params), 'params.yaml')
  assert again.as_dict() == params.as_dict()


def test_what_is_there_wins_over_a_pattern(manifest, tmp_path):
  for name in ('rec1', 'rec[12]'):
    shutil.copytree(manifest.parent, tmp_path / name)
  for text in (f'{tmp_path}/rec[12]/train-*', f'{tmp_path}/rec[12]'):
    table = index.load_index(data_config.DataConfig(input_path=text))
    assert {pathlib.Path(file).parent.name for file in table.files} == {'rec[12]'}
  shutil.rmtree(tmp_path / 'rec[12]')
  table = index.load_index(
    data_config.DataConfig(input_path=f'{tmp_path}/rec[12]/*.json')
  )
  assert {pathlib.Path(file).parent.name for file in table.files} == {'rec1'}


def test_values_that_are_no_paths_stay_yaml(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ('10', 'true', '[2,32,32,3]'):
    (tmp_path / name).mkdir()
  params = experiment.load(
    'cvrl_finetune_tiny',
    params_override='trainer.train_steps=10,task.zero_centering=true,'
    'task.train_data.feature_shape=[2,32,32,3],task.train_data.input_path=10',
  )
  assert params.trainer.train_steps == 10
  assert params.task.zero_centering is True
  assert params.task.train_data.feature_shape == (2, 32, 32, 3)
  assert params.task.train_data.input_path == '10'


def test_a_list_of_nothing_is_refused():
  with pytest.raises(UserError, match="input_path ', ,': names no path"):
    index.load_index(data_config.DataConfig(input_path=', ,'))


def test_a_name_that_tensorflow_cannot_write_is_refused(tmp_path):
  path = os.path.join(tmp_path, os.fsdecode(b'\xe9'))
  with pytest.raises(UserError, match='reads UTF-8 names only; rename'):
    files.encodable(path)
  made = files.encodable(path, make=True)
  assert os.path.samefile(made, path)
  assert files.shown(f'error in {made}/x') == f'error in {path}/x'


@pytest.mark.parametrize('name', ["/a 'b", '/a "b', '/a b', '$HOME/`id`', '/a\\b;c#d'])
def test_make_demo_hands_folders_over_as_they_are(name, tmp_path):
  (tmp_path / 'bin').mkdir()
  python = tmp_path / 'bin' / 'python'
  python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
  python.chmod(0o755)
  (tmp_path / '.ready').touch()
  command = ['make', '-s', 'demo', f'VENV={tmp_path}', f'VIDEOS={name}', f'DEMO={name}2']
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines() == [
    *('-m', 'official.video.demo', f'--output_dir={name}2', f'--videos={name}')
  ]


# --- The whole way --------------------------------------------------------------------


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('videos')
  for split, count in (('train', 2), ('test', 2)):
    for label in ('jump', 'run'):
      (folder / split / label).mkdir(parents=True)
      for number in range(count):
        write_video(folder / split / label / f'{number}.mp4', 6, size=(48, 48))
  return folder


def succeeds(driver, *arguments: str) -> str:
  result = drivers.run(driver, *arguments)
  assert result.code == 0, result.stderr
  return result.stdout + result.stderr


def steps(folder: str) -> list[int]:
  lines = pathlib.Path(folder, 'scores.jsonl').read_text().splitlines()
  return [line['step'] for line in map(json.loads, lines) if line['kind'] == 'train']


# Names in one another, as each folder costs half a minute.
NESTED = [NAMES[first::4] for first in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize('names', NESTED, ids=lambda names: named(names[0]))
def test_everything_works_in_folders_of_any_name(names, videos, tmp_path, monkeypatch):
  root, name = tmp_path.joinpath(*names), names[-1]
  shutil.copytree(videos, root / 'videos' / name)
  data, run, model = (f'{root}/{part}/{name}' for part in ('records', 'run', 'model'))
  arguments = [
    *('--source=folder', f'--path={root}/videos/{name}', f'--output_dir={data}'),
    *('--num_workers=1', '--quality=80'),
  ]
  assert run_command(convert.main, arguments) == 0
  monkeypatch.chdir(root / 'records')
  assert run_command(validate.main, [name, '--full']) == 0
  settings = root / f'{name[:99]}.yaml'
  settings.write_text('\n'.join(line.replace('=', ': ', 1) for line in TINY))
  common = ('--experiment=cvrl_finetune_tiny', f'--config_file={settings}')
  sets = (
    f'--params_override=task.train_data.input_path={data}/train.manifest.json,'
    f'task.validation_data.input_path={data}/test-*,trainer.train_steps='
  )
  succeeds(train, *common, f'{sets}2', f'--model_dir={run}')
  succeeds(train, *common, f'{sets}3', f'--model_dir={run}')
  assert steps(run) == [1, 2, 3]
  assert {'ckpt-2.index', 'ckpt-3.index'} <= set(os.listdir(run))
  flags = (*common, f'{sets}3', '--protocols=knn,classify')
  scores = f'{root}/scores/{name}'
  succeeds(evaluate, *flags, f'--checkpoint={run}', f'--output_dir={scores}')
  monkeypatch.chdir(root)
  exported = (f'--checkpoint=run/{name}', f'--export_dir=model/{name}')
  succeeds(export, *common, f'{sets}3', *exported)
  about = json.loads(pathlib.Path(model, 'assets.extra', 'vidgarden.json').read_text())
  assert about['checkpoint'].endswith(f'run/{name}/ckpt-3')
  succeeds(evaluate, *flags, f'--saved_model={model}', f'--output_dir={scores}2')
  one, two = (
    json.loads(pathlib.Path(folder, 'scores.json').read_text())
    for folder in (scores, scores + '2')
  )
  assert one == two
  warm = f'{sets}1,task.init_checkpoint={run}/ckpt-3'
  assert 'restored' in succeeds(train, *common, warm, f'--model_dir={run}.warm')

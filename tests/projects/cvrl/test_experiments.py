"""Every registered experiment of the method: builds, trains, saves, restores, exports."""

import dataclasses
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
import yaml

from official.video import evaluate, export, train
from official.video.configs import tasks
from official.video.run import trainer
from official.video.settings import experiment
from tests import clips, tiny

ROOT = pathlib.Path(__file__).parents[3]
EXPERIMENTS = [
  name
  for name in experiment.experiment_names()
  if name.startswith('cvrl_')
  and not name.endswith(('kinetics600', 'hmdb51'))  # Others but in sizes and schedules.
]
QUICK = ('cvrl_pretrain_kinetics400',)
CONFIGS = sorted((ROOT / 'configs' / 'cvrl').glob('*.yaml'))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('records')
  return (
    clips.write_split(folder, 'train', [0, 1, 2, 0, 1, 2, 0, 1]),
    clips.write_split(folder, 'test', [0, 1, 2, 0, 1, 2]),
  )


@pytest.mark.parametrize(
  'name',
  [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in EXPERIMENTS
  ],
)
def test_trains_two_steps_restores_and_exports(name, data, tmp_path):
  params = tiny.load(name, *data)
  runner, scores = train.run(params, str(tmp_path / 'run'))
  assert int(runner.trainer.global_step) == 2
  assert scores['evaluated'] == scores['expected'] == 6
  assert all(np.isfinite(value) for value in scores.values())
  again, _ = train.run(params, str(tmp_path / 'run'), 'eval')
  for one, other in zip(
    runner.trainer.model.variables, again.trainer.model.variables, strict=True
  ):
    np.testing.assert_array_equal(one.numpy(), other.numpy())
  export.export(params, str(tmp_path / 'run'), str(tmp_path / 'model'))
  task = experiment.build_task(params)
  encode = evaluate.checkpoint_encoder(params, task, str(tmp_path / 'run'))
  batch = np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32, 3), np.uint8)
  exported = evaluate.saved_model_encoder(str(tmp_path / 'model'))(tf.constant(batch))
  expected = encode(tf.constant(batch))
  assert set(exported) == set(expected)
  assert ('probability' in exported) == isinstance(params.task, tasks.ClassificationTask)
  for key, value in expected.items():
    np.testing.assert_allclose(exported[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_published_rows_resolve(path):
  name = path.stem
  for suffix in ('_200ep', '_800ep', '_1pct', '_10pct'):
    name = name.removesuffix(suffix)
  params = experiment.load(f'cvrl_{name}', [str(path)])
  optimizer = params.trainer.optimizer_config
  assert optimizer.learning_rate.cosine.decay_steps == params.trainer.train_steps
  assert 0 < optimizer.warmup.linear.warmup_steps < params.trainer.train_steps
  text = path.read_text()
  assert f'--experiment=cvrl_{name} ' in text
  assert f'configs/cvrl/{path.name}' in text
  assert yaml.safe_load(text)


def test_pretraining_steps_are_the_published_epochs():
  params = experiment.load(
    'cvrl_pretrain_kinetics600',
    [str(ROOT / 'configs/cvrl/pretrain_kinetics600_200ep.yaml')],
  )
  epochs = params.trainer.train_steps * 1024 / 366_016
  assert abs(epochs - 200) < 0.01


def test_the_published_net_has_its_published_size():
  params = experiment.load('cvrl_pretrain_kinetics400')
  shape = tuple(params.task.train_data.feature_shape)
  assert shape == (16, 224, 224, 3)
  model = trainer.built(experiment.build_task(params))
  assert model.backbone.count_params() == 31_725_248


def test_every_config_field_is_read():
  """A field that no line of the library reads is a promise that nobody keeps."""
  source = '\n'.join(
    path.read_text()
    for folder in ('official/video', 'projects')
    for path in (ROOT / folder).rglob('*.py')
    if 'configs' not in path.parts and path.name != 'configs.py'
  )
  own = {
    name.rsplit('.', 1)[-1]
    for experiment_name in experiment.experiment_names()
    for name in experiment.fields(experiment.load(experiment_name).task)
  }
  inherited = {field.name for field in dataclasses.fields(tiny.cfg.TaskConfig)}
  # Read as an attribute, or passed on by name to a constructor's argument.
  unread = sorted(
    name for name in own - inherited if not re.search(rf'\.{name}\b|\b{name}:', source)
  )
  assert not unread

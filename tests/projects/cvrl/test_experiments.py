"""Every registered experiment of the method: builds, trains, saves, restores, exports."""

import pathlib

import pytest
import yaml

from official.video.run import trainer
from official.video.settings import experiment
from tests import clips

ROOT = pathlib.Path(__file__).parents[3]
CONFIGS = sorted((ROOT / 'configs' / 'cvrl').glob('*.yaml'))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(tmp_path_factory.mktemp('records'))


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

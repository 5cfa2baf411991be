"""Every registered experiment of the method: builds, trains, saves, restores, exports."""

import pathlib

import pytest
import yaml

from official.video.backbones import factory
from official.video.settings import experiment
from tests import clips

ROOT = pathlib.Path(__file__).parents[3]
# Ends of files of other nets, and how many variables the published ones have.
NETS = {
  '_r3d101': 59_682_496,
  '_r3d152_2x': 328_000_000,
  '_r3d152': 82_187_968,
  '_r3d50_4x': None,
}
# Ends of files of what CVRL is compared with.
BASELINES = ('_scratch', '_frames')
CONFIGS = sorted((ROOT / 'configs' / 'cvrl').glob('*.yaml'))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(tmp_path_factory.mktemp('records'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_published_rows_resolve(path):
  name = path.stem
  for suffix in (
    *NETS,
    '_200ep',
    '_800ep',
    '_200k',
    '_1pct',
    '_10pct',
    '_inflated',
    '_roi',
    *BASELINES,
  ):
    name = name.removesuffix(suffix)
  params = experiment.load(f'cvrl_{name}', [str(path)])
  optimizer, steps = params.trainer.optimizer_config, params.trainer.train_steps
  if optimizer.learning_rate.type == 'cosine':
    assert optimizer.learning_rate.cosine.decay_steps == steps
    assert 0 < optimizer.warmup.linear.warmup_steps < steps
  else:
    assert 0 < max(optimizer.learning_rate.stepwise.boundaries) < steps
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


@pytest.mark.parametrize(
  ('name', 'videos'), [('kinetics400', 215_570), ('kinetics600', 366_016)]
)
def test_published_numbers_of_pretraining(name, videos):
  params = experiment.load(f'cvrl_pretrain_{name}')
  task, optimizer = params.task, params.trainer.optimizer_config
  assert task.train_data.global_batch_size == task.validation_data.global_batch_size
  assert task.train_data.global_batch_size == 1024
  # 0.32, summed over 128 replicas; the warm-up takes five epochs.
  rate = optimizer.learning_rate.cosine.initial_learning_rate
  assert rate == pytest.approx(40.96)
  assert optimizer.warmup.linear.warmup_steps == pytest.approx(5 * videos / 1024, abs=1)
  assert (task.losses.temperature, task.l2_weight_decay) == (0.1, 1e-6)


def test_the_published_net_has_its_published_size():
  params = experiment.load('cvrl_pretrain_kinetics400')
  shape = tuple(params.task.train_data.feature_shape)
  assert shape == (16, 224, 224, 3)
  model = experiment.build_task(params).built_model()
  assert model.backbone.count_params() == 31_725_248


@pytest.mark.slow
@pytest.mark.parametrize('net', [net for net, size in NETS.items() if size])
def test_bigger_nets_have_their_published_sizes(net):
  path = ROOT / f'configs/cvrl/pretrain_kinetics600_800ep{net}.yaml'
  params = experiment.load('cvrl_pretrain_kinetics600', [str(path)])
  backbone = factory.build_encoder(params.task.model)
  # Published to the digit for the nets that the public code can build; else to the million.
  published = NETS[net]
  assert backbone.count_params() == pytest.approx(
    published, abs=5e5 if published % 1_000_000 == 0 else 0
  )

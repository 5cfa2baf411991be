"""CSTP's experiments end to end, at a size that trains in seconds."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
import yaml

from official.video import command_line, experiment, trainer
from official.video.errors import UserError
from tests import clips

ROOT = pathlib.Path(__file__).parents[3]
EXPERIMENTS = [name for name in experiment.experiment_names() if name.startswith('cstp_')]
CONFIGS = sorted((ROOT / 'configs' / 'cstp').glob('*.yaml'))
STEP = 'task: {model: {target_momentum: 0.5}, train_data: {augmentation: {policy: none}}}'
QUICK = ('cstp_pretrain_ucf101', 'cstp_finetune_hmdb51')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('records')
  return (
    clips.write_split(folder, 'train', [0, 1, 2, 0, 1, 2, 0, 1]),
    clips.write_split(folder, 'test', [0, 1, 2, 0, 1, 2]),
  )


def load(name, data, overrides=''):
  params = experiment.load(name)
  for split, path in zip(('train', 'validation'), data, strict=True):
    text = (
      f'task.{split}_data: {{input_path: "{path}", global_batch_size: 4, '
      'feature_shape: [8, 32, 32, 3], min_image_size: 0}'
    )
    experiment.apply_overrides(params, text, 'tiny')
  texts = [
    'task.model.backbone: {type: c3d, c3d: {width_multiplier: 0.125}}',
    'trainer: {train_steps: 2, steps_per_loop: 1, summary_interval: 1, '
    'validation_interval: 2, checkpoint_interval: 1}',
    'runtime.distribution_strategy: one_device',
  ]
  if 'pretrain' in name:
    texts.append('task.model: {predictor_dim: 16, projector_dim: 16}')
  else:
    texts.append('task: {model: {num_classes: 3}, validation_data: {num_test_clips: 2}}')
  for text in [*texts, overrides]:
    if text:
      experiment.apply_overrides(params, text, 'tiny')
  return params


def run(params, model_dir, mode='train_and_eval'):
  task = experiment.build_task(params, str(model_dir))
  task.check_data(True)
  runner = trainer.ExperimentRunner(
    distribution_strategy=command_line.strategy_of(params),
    task=task,
    mode=mode,
    params=params,
    model_dir=str(model_dir),
  )
  return runner, runner.run()


@pytest.mark.parametrize(
  'name',
  [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in EXPERIMENTS
  ],
)
def test_trains_two_steps_and_restores(name, data, tmp_path):
  params = load(name, data)
  runner, scores = run(params, tmp_path / 'run')
  assert int(runner.trainer.global_step) == 2
  assert scores['evaluated'] == scores['expected'] == 6
  assert all(np.isfinite(value) for value in scores.values())
  again, _ = run(params, tmp_path / 'run', 'eval')
  for one, other in zip(
    runner.trainer.model.variables, again.trainer.model.variables, strict=True
  ):
    np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.slow
def test_finetuning_takes_the_pretrained_encoder(data, tmp_path):
  for encoder in ('online', 'target'):
    folder = tmp_path / encoder
    params = load(
      'cstp_pretrain_tiny',
      data,
      f'task.model: {{encoder: {encoder}, target_momentum: 0.5}}',
    )
    runner, _ = run(params, folder)
    expected = getattr(runner.trainer.model, f'{encoder}_backbone').get_weights()
    task = experiment.build_task(
      load('cstp_finetune_tiny', data, f'task.init_checkpoint: "{folder}"')
    )
    model = trainer.built(task)
    task.initialize(model)
    actual = model.backbone.get_weights()
    for one, other in zip(actual, expected, strict=True):
      np.testing.assert_array_equal(one, other)


def one_step(task, model, optimizer, batch):
  return tf.function(lambda: task.train_step(batch, model, optimizer), autograph=False)()


@pytest.fixture
def pretraining(data):
  params = load('cstp_pretrain_tiny', data, STEP)
  task = experiment.build_task(params)
  model = trainer.built(task)
  for _, online in model.averaged():
    online.assign_add(0.01 * tf.ones_like(online))
  batch = next(iter(task.build_inputs(params.task.train_data)))
  optimizer = task.create_optimizer(params.trainer.optimizer_config)
  return task, model, optimizer, batch


def test_a_step_moves_the_target_towards_the_weights_before_it(pretraining):
  task, model, optimizer, batch = pretraining
  expected = [(0.5 * t + 0.5 * o).numpy() for t, o in model.averaged()]
  before = [o.numpy() for _, o in model.averaged()]
  logs = one_step(task, model, optimizer, batch)
  assert logs['finite']
  for (target, _), value in zip(model.averaged(), expected, strict=True):
    np.testing.assert_allclose(target, value, atol=1e-6)
  after = [o.numpy() for _, o in model.averaged()]
  assert any((a != b).any() for a, b in zip(after, before, strict=True))


def test_a_bad_step_takes_the_target_back_too(pretraining):
  task, model, optimizer, batch = pretraining
  before = [v.numpy() for v in model.variables]
  bad = batch | {'views': batch['views'] * np.nan}
  logs = one_step(task, model, optimizer, bad)
  assert not logs['finite']
  for variable, value in zip(model.variables, before, strict=True):
    np.testing.assert_array_equal(variable, value)


def test_micro_batches_average_the_target_once(data):
  params = load(
    'cstp_pretrain_tiny', data, STEP.replace('task: {', 'task: {micro_batches: 2, ')
  )
  task = experiment.build_task(params)
  task.check_data(True)
  model = trainer.built(task)
  for _, online in model.averaged():
    online.assign_add(0.01 * tf.ones_like(online))
  expected = [(0.5 * t + 0.5 * o).numpy() for t, o in model.averaged()]
  batch = next(iter(task.build_inputs(params.task.train_data)))
  optimizer = task.create_optimizer(params.trainer.optimizer_config)
  assert one_step(task, model, optimizer, batch)['finite']
  for (target, _), value in zip(model.averaged(), expected, strict=True):
    np.testing.assert_allclose(target, value, atol=1e-6)


def test_two_replicas_keep_one_target(data):
  params = load('cstp_pretrain_tiny', data, STEP)
  task = experiment.build_task(params)
  devices = tf.config.list_logical_devices('CPU')
  if len(devices) < 2:
    pytest.skip('one logical device')
  strategy = tf.distribute.MirroredStrategy(devices[:2])
  with strategy.scope():
    model = trainer.built(task)
    optimizer = task.create_optimizer(params.trainer.optimizer_config)
  inputs = strategy.distribute_datasets_from_function(
    lambda context: task.build_inputs(params.task.train_data, context)
  )
  batch = next(iter(inputs))
  run_step = tf.function(
    lambda: strategy.run(task.train_step, args=(batch, model, optimizer)), autograph=False
  )
  losses = strategy.experimental_local_results(run_step()['loss'])
  assert float(losses[0]) == pytest.approx(float(losses[1]))
  for target, _ in model.averaged():
    one, other = strategy.experimental_local_results(target)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('task.train_data.views: augmented', 'labelled views'),
    ('task.losses.weights: [1, 1]', 'expected 5 numbers'),
  ],
)
def test_refuses_what_it_cannot_learn_from(data, override, message):
  task = experiment.build_task(load('cstp_pretrain_tiny', data, override))
  with pytest.raises(UserError, match=message):
    task.check_data(True)


def test_schedules_are_the_published_ones():
  params = experiment.load('cstp_pretrain_kinetics400')
  assert params.trainer.train_steps == 561_000
  assert params.task.train_data.global_batch_size == 128
  config = params.trainer.optimizer_config
  assert config.learning_rate.epochwise_cosine.peak_learning_rate == 0.09
  assert config.optimizer.pytorch_sgd.global_clipnorm == 18.0
  assert params.task.losses.weights == (0.1, 1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_files_belong_to_their_experiments(path):
  name = re.search(r'--experiment=(\w+)', path.read_text())[1]
  params = experiment.load(name, [str(path)])
  for field, value in experiment.flat(yaml.safe_load(path.read_text())).items():
    assert experiment.flat(params.as_dict())[field] == value

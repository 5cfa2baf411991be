"""CSTP's experiments end to end, at a size that trains in seconds."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
import yaml

from official.video import export, train
from official.video.data import records as records_module
from official.video.errors import UserError
from official.video.evaluation import classification, extract, protocols
from official.video.serving import encoders
from official.video.settings import experiment, leaves
from tests import clips, tiny

ROOT = pathlib.Path(__file__).parents[3]
CONFIGS = sorted((ROOT / 'configs' / 'cstp').glob('*.yaml'))
STEP = 'task: {model: {target_momentum: 0.5}, train_data: {augmentation: {policy: none}}}'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(tmp_path_factory.mktemp('records'))


def load(name, data, *overrides):
  return tiny.load(name, *data, *overrides)


def random_clips():
  shape = (3, 8, 32, 32, 3)
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.slow
def test_the_averaged_weights_are_exported_where_they_are_the_encoder(data, tmp_path):
  target = 'task.model: {encoder: target, target_init: independent}'
  params = load('cstp_pretrain_tiny', data, target)
  model = experiment.build_task(params).built_model()
  path = tf.train.Checkpoint(model=model, **model.checkpoint_items).save(
    str(tmp_path / 'ckpt')
  )
  export.export(params, path, str(tmp_path / 'model'))
  clips_ = tf.constant(random_clips())
  exported = encoders.saved_model_encoder(str(tmp_path / 'model'))(clips_)['feature']
  normalized = tf.cast(clips_, tf.float32) / 127.5 - 1
  features = {
    name: tf.reduce_mean(getattr(model, f'{name}_backbone')(normalized)['5'], [1, 2, 3])
    for name in ('target', 'online')
  }
  np.testing.assert_allclose(exported, features['target'], rtol=1e-4, atol=1e-5)
  assert np.abs(exported - features['online']).max() > 1e-3


@pytest.mark.slow
def test_finetuning_takes_the_pretrained_encoder(data, tmp_path):
  for encoder in ('online', 'target'):
    folder = tmp_path / encoder
    params = load(
      'cstp_pretrain_tiny',
      data,
      f'task.model: {{encoder: {encoder}, target_momentum: 0.5}}',
    )
    runner, _ = train.run(params, str(folder))
    expected = getattr(runner.trainer.model, f'{encoder}_backbone').get_weights()
    task = experiment.build_task(
      load('cstp_finetune_tiny', data, f'task.init_checkpoint: "{folder}"')
    )
    model = task.built_model()
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
  model = task.built_model()
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


@pytest.mark.slow
def test_micro_batches_average_the_target_once(data):
  params = load(
    'cstp_pretrain_tiny', data, STEP.replace('task: {', 'task: {micro_batches: 2, ')
  )
  task = experiment.build_task(params)
  task.check_data(True)
  model = task.built_model()
  for _, online in model.averaged():
    online.assign_add(0.01 * tf.ones_like(online))
  expected = [(0.5 * t + 0.5 * o).numpy() for t, o in model.averaged()]
  batch = next(iter(task.build_inputs(params.task.train_data)))
  optimizer = task.create_optimizer(params.trainer.optimizer_config)
  assert one_step(task, model, optimizer, batch)['finite']
  for (target, _), value in zip(model.averaged(), expected, strict=True):
    np.testing.assert_allclose(target, value, atol=1e-6)


def test_two_replicas_keep_one_target(data, mirrored):
  params = load('cstp_pretrain_tiny', data, STEP)
  task = experiment.build_task(params)
  strategy = mirrored(2)
  with strategy.scope():
    model = task.built_model()
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
    ('task.train_data.views: augmented', "CstpTask takes 'pretext'"),
    ('task.losses.weights: [1, 1]', 'expected 5 numbers'),
  ],
)
def test_refuses_what_it_cannot_learn_from(data, override, message):
  task = experiment.build_task(load('cstp_pretrain_tiny', data, override))
  with pytest.raises(UserError, match=message):
    task.check_data(True)


def test_every_view_and_clip_counts_in_the_protocol(data, tmp_path):
  """The test in training, `evaluate` and the export agree on stepped clips' mean logits."""
  stepped = 'task.validation_data: {num_test_clips: 4, test_clip_step: 9}'
  params = load('cstp_finetune_tiny', data, stepped)
  assert params.task.average == 'logit'
  task = experiment.build_task(params)
  model = task.built_model()
  for index, variable in enumerate(model.head.trainable_variables):
    noise = tf.random.stateless_normal(variable.shape, [index, 3])
    variable.assign_add(0.3 * noise)
  dataset = task.build_inputs(params.task.validation_data)
  state = None
  for batch in dataset:
    state = task.aggregate_logs(state, task.validation_step(batch, model))
  found = task.joined(state)
  # 40 frames and clips that span 14: starts 0, 9, 18 and 25.
  records, counts = np.unique(found['record'], return_counts=True)
  assert records.tolist() == list(range(6)) and set(counts) == {4}
  logs = np.log(found['probability'])
  rows = found['record']
  expected = np.stack([logs[rows == r].mean(0) for r in records])
  path = tf.train.Checkpoint(model=model, **model.checkpoint_items).save(
    str(tmp_path / 'ckpt')
  )
  encoder = encoders.checkpoint_encoder(params, task, path)
  encoded = extract.encode(
    params.task.validation_data,
    task.validation_index,
    encoders.averaging(encoder, params.task.average),
  )
  made = protocols.predictions(encoded, task.validation_index)
  np.testing.assert_allclose(made.scores, classification.softmax(expected), rtol=1e-3)
  scores = task.score(found)
  assert scores['accuracy'] == classification.evaluate(made).top1
  export.export(params, path, str(tmp_path / 'model'))
  serve = tf.saved_model.load(str(tmp_path / 'model')).signatures['records']
  serialized = [records_module.encode_record(clips.clip(r, r % 3)) for r in range(2)]
  served = serve(serialized=tf.constant(serialized))['probability']
  np.testing.assert_allclose(served, made.scores[:2], rtol=2e-2, atol=1e-3)


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
  for field, value in leaves.flat(yaml.safe_load(path.read_text())).items():
    assert leaves.flat(params.as_dict())[field] == value


@pytest.mark.parametrize('family', ['r2plus1d', 'c3d', 'r3d', 's3d', 'i3d'])
@pytest.mark.parametrize(
  'path',
  [p for p in CONFIGS if 'tiny' not in p.stem and 'i3d' not in p.stem],
  ids=lambda path: path.stem,
)
def test_published_rows_resolve_for_every_backbone(path, family):
  name = re.search(r'--experiment=(\w+)', path.read_text())[1]
  files = [str(path)]
  if family == 'i3d' and 'finetune' in name:
    files.append(str(path.with_name('i3d_finetune.yaml')))
  override = f'task.model.backbone.type={family}'
  params = experiment.load(name, files, params_override=override)
  epochs = 300 if 'pretrain' in name else 100
  config = params.trainer.optimizer_config.learning_rate
  assert params.trainer.train_steps % epochs == 0
  if 'pretrain' in name:
    own = config.epochwise_cosine
    assert own.steps_per_epoch * own.epochs == params.trainer.train_steps
  else:
    assert max(config.stepwise.boundaries) < params.trainer.train_steps
    assert params.task.model.num_classes == (51 if 'hmdb51' in name else 101)
    convolutional = params.task.model.head.type == 'temporal_convolution'
    assert convolutional == (family == 'i3d')
  assert params.task.model.backbone.type == family
  experiment.build_task(params)

"""ConST-CL's experiments end to end, at a size that trains in seconds."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import yaml

from official.video import export, train
from official.video.errors import UserError
from official.video.projects.const_cl import losses
from official.video.settings import experiment, leaves
from tests import clips, tiny, updates

ROOT = pathlib.Path(__file__).parents[3]
CONFIGS = sorted((ROOT / 'configs' / 'const_cl').glob('*.yaml'))
PLAIN = (
  'task: {train_data: {augmentation: {policy: none}}, '
  'validation_data: {augmentation: {policy: none}}}'
)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(tmp_path_factory.mktemp('records'))


def load(name, data, *overrides):
  return tiny.load(name, *data, PLAIN, *overrides)


@pytest.mark.parametrize(
  'name',
  [
    'const_cl_linear_eval_tiny',
    pytest.param('const_cl_pretrain_tiny', marks=pytest.mark.slow),
  ],
)
def test_regions_are_exported(name, data, tmp_path):
  params = load(name, data)
  runner, _ = train.run(params, str(tmp_path / 'run'), 'train')
  model = runner.trainer.model
  export.export(params, str(tmp_path / 'run'), str(tmp_path / 'model'))
  batch = np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32, 3), np.uint8)
  loaded = tf.saved_model.load(str(tmp_path / 'model'))
  boxes = tf.constant([[[0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1]]] * 3, tf.float32)
  by_region = loaded.signatures['regions'](clips=tf.constant(batch), boxes=boxes)
  pixels = tf.cast(batch, tf.float32) / 255 * 2 - 1
  inside = model.encode_regions(pixels, boxes)
  for key, value in by_region.items():
    np.testing.assert_allclose(value, inside[key], rtol=1e-3, atol=1e-4, err_msg=key)
  assert by_region['region'].shape[:2] == (3, 2)
  assert ('attention' in by_region) == ('pretrain' in name)


@pytest.mark.slow
def test_a_plain_net_takes_the_global_branch(data, tmp_path):
  runner, _ = train.run(load('const_cl_pretrain_tiny', data), str(tmp_path / 'run'))
  params = load(
    'const_cl_linear_eval_tiny', data, f'task.init_checkpoint: "{tmp_path / "run"}"'
  )
  task = experiment.build_task(params)
  model = task.built_model()
  task.initialize(model)
  batch = tf.random.stateless_uniform([2, 4, 32, 32, 3], [1, 2], -1)
  expected = runner.trainer.model.encode(batch)['feature']
  np.testing.assert_allclose(model.encode(batch)['feature'], expected, rtol=1e-5)


def batch_of(batch=4):
  generator = np.random.default_rng(0)
  corners = np.sort(generator.random((batch, 2, 8, 2, 2)), axis=3)
  return {
    'views': generator.random((batch, 2, 4, 32, 32, 3), np.float32),
    'regions': corners.reshape(batch, 2, 8, 4).astype(np.float32),
    'region_valid': generator.random((batch, 2, 8)) > 0.3,
    'label': np.zeros(batch, np.int64),
    'valid': np.ones(batch, bool),
  }


LOCAL = 'task.losses.local_weight: 1.0'


def one_update(strategy, data, inputs, *overrides):
  params = load('const_cl_pretrain_tiny', data, *overrides or [LOCAL])
  return updates.one_update(strategy, params, inputs)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_two_replicas_update_as_one(data, mirrored):
  inputs = batch_of()
  alone, statistics, scalars = one_update(mirrored(1), data, inputs)
  shared, shared_statistics, shared_scalars = one_update(mirrored(2), data, inputs)
  assert np.linalg.norm(shared - alone) < 1e-2 * np.linalg.norm(alone)
  for key, value in scalars.items():
    assert shared_scalars[key] == pytest.approx(value, rel=1e-3), key
  # Batch norm of every block of both branches, by its statistics.
  moving = [key for key in statistics if 'moving' in key]
  assert len(moving) == len(statistics) == 32
  for key in moving:
    np.testing.assert_allclose(
      shared_statistics[key], statistics[key], rtol=1e-3, atol=1e-3, err_msg=key
    )


def test_statistics_tell_whether_they_are_synchronized(data, mirrored):
  inputs = batch_of()
  inputs['views'][2:] *= 0.2  # The replicas see different brightness.
  overrides = 'task.model.norm_activation.use_sync_bn: false'
  _, whole, _ = one_update(mirrored(1), data, inputs, overrides)
  _, shared, _ = one_update(mirrored(2), data, inputs, overrides)
  variances = [key for key in whole if 'moving_variance' in key]
  apart = [
    key
    for key in variances
    if np.abs(shared[key] - whole[key]).max() > 1e-2 * np.abs(whole[key]).max()
  ]
  assert len(apart) > len(variances) / 2


def test_a_sample_depends_on_itself_alone(data):
  """What lets a batch be computed in parts."""
  tf_keras.utils.set_random_seed(1)
  task = experiment.build_task(load('const_cl_pretrain_tiny', data))
  model = task.built_model()
  inputs = {key: tf.constant(value) for key, value in batch_of().items()}
  whole = task.forward(inputs, model, False)
  parts = [
    task.forward({key: value[i : i + 2] for key, value in inputs.items()}, model, False)
    for i in (0, 2)
  ]
  for key, value in whole.items():
    together = tf.concat([part[key] for part in parts], 0)
    np.testing.assert_allclose(together, value, rtol=1e-3, atol=1e-5, err_msg=key)


def test_regions_are_reconstructed_from_the_other_view(data):
  tf_keras.utils.set_random_seed(1)
  task = experiment.build_task(load('const_cl_pretrain_tiny', data))
  model = task.built_model()
  inputs = {key: tf.constant(value) for key, value in batch_of().items()}
  before = task.forward(inputs, model, False)
  views = inputs['views'].numpy()
  views[:, 1] = views[:, 1, :, ::-1] * 0.5  # Another second view.
  after = task.forward(inputs | {'views': tf.constant(views)}, model, False)
  np.testing.assert_allclose(after['region'][:, 0], before['region'][:, 0], atol=1e-5)
  assert np.abs(after['region'][:, 1] - before['region'][:, 1]).max() > 1e-3
  assert np.abs(after['reconstruction'][:, 0] - before['reconstruction'][:, 0]).max() > 0
  np.testing.assert_array_equal(
    np.argmax(np.abs(after['embedding'] - before['embedding']).max((0, 2))), 1
  )


def test_boxes_reach_the_heads_as_float32_under_bfloat16(data):
  tf_keras.mixed_precision.set_global_policy('mixed_bfloat16')
  try:
    task = experiment.build_task(load('const_cl_pretrain_tiny', data))
    model = task.built_model()
    inputs = {key: tf.constant(value) for key, value in batch_of(2).items()}
    outputs = task.forward(inputs, model, True)
    outputs.pop('region_valid')
    assert {value.dtype for value in outputs.values()} == {tf.float32}
    maps = tf.random.stateless_normal([4, 4, 4, 4, 8], [1, 2])
    boxes = tf.constant([[[0.998, 0.1, 0.999, 0.3]]] * 4)
    kept = model.local_head.regions(maps, boxes)
  finally:
    tf_keras.mixed_precision.set_global_policy('float32')
  np.testing.assert_array_equal(kept, model.local_head.regions(maps, boxes))


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('task.train_data.views: augmented', "ConstClTask takes 'regions'"),
    ('task.train_data.regions.generator: boxs', "did you mean 'boxes'"),
    ('task.train_data.regions.count: 0', 'regions.count 0'),
    ('task.losses.same_order: true', "generator 'random': only tracks"),
  ],
)
def test_refuses_what_it_cannot_learn_from(data, override, message):
  task = experiment.build_task(load('const_cl_pretrain_tiny', data, override))
  with pytest.raises(UserError, match=message):
    task.check_data(True)


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('task.model.local_endpoint: "6"', "local_endpoint '6'.*has 2, 3, 4, 5, 5_1"),
    ('task.model.local_head.context_length: 4', 'context_length 4: expected an odd'),
  ],
)
def test_refuses_models_that_cannot_be(data, override, message):
  task = experiment.build_task(load('const_cl_pretrain_tiny', data, override))
  with pytest.raises(UserError, match=message):
    task.build_model()


@pytest.mark.parametrize('same_order', [False, True])
def test_the_order_of_regions_reaches_the_loss(data, same_order):
  override = f'task.losses.same_order: {same_order}'
  task = experiment.build_task(load('const_cl_pretrain_tiny', data, override))
  random = np.random.default_rng(0)
  regions, rebuilt = random.normal(size=(2, 4, 2, 3, 5)).astype(np.float32)
  outputs = {
    'embedding': tf.constant(random.normal(size=(4, 2, 8)), tf.float32),
    'region': tf.constant(regions),
    'reconstruction': tf.constant(rebuilt),
    'region_valid': tf.ones([4, 2, 3], tf.bool),
  }
  valid = outputs['region_valid']
  scalars = task.compute_loss(outputs, {})
  expected = losses.local_loss(regions, rebuilt, valid, same_order=same_order).loss
  assert float(scalars['local_loss']) == pytest.approx(float(expected), rel=1e-5)


def test_sizes_and_schedules_are_the_published_ones():
  params = experiment.load('const_cl_pretrain_kinetics400')
  optimizer = params.trainer.optimizer_config
  assert optimizer.learning_rate.cosine.initial_learning_rate == 40.96
  assert optimizer.warmup.linear.warmup_steps == 2500
  assert params.task.train_data.feature_shape == (16, 224, 224, 3)
  model = experiment.build_task(params).build_model()
  model.head(tf_keras.Input((2048,)))
  assert model.backbone.count_params() == 51_955_392
  assert model.local_head.count_params() == 6_928_356
  trained = sum(int(np.prod(v.shape)) for v in model.head.trainable_variables)
  assert trained == 12_857_472


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_files_belong_to_their_experiments(path):
  text = path.read_text()
  name = re.search(r'--experiment=(\w+)', text)[1]
  assert f'configs/const_cl/{path.name}' in text
  params = experiment.load(name, [str(path)])
  for field, value in leaves.flat(yaml.safe_load(text)).items():
    assert leaves.flat(params.as_dict())[field] == value
  rates = params.trainer.optimizer_config.learning_rate
  if rates.type == 'cosine':
    assert rates.cosine.decay_steps == params.trainer.train_steps


@pytest.mark.parametrize(
  ('generator', 'override', 'exact'),
  [
    ('random', '', False),
    ('tracks', '', True),
    ('grid', '', True),
    ('boxes', '', True),
    ('random', 'task.model.local_head.half_pixel_centers: true', True),
    ('tracks', 'task.model.local_head.half_pixel_centers: false', False),
  ],
)
def test_only_random_regions_are_read_as_published(data, generator, override, exact):
  params = load('const_cl_pretrain_tiny', data, override)
  for split in ('train', 'validation'):
    text = f'task.{split}_data.regions.generator: {generator}'
    experiment.apply_overrides(params, text, 'test')
  model = experiment.build_task(params).build_model()
  maps = np.broadcast_to((np.arange(4, dtype=np.float32) + 0.5) / 4, (1, 2, 1, 4, 4))
  box = tf.constant([[[0.3, 0.3, 0.7, 0.7]]])
  found = model.local_head.regions(np.moveaxis(maps, 2, -1)[..., [0, 0]], box)
  assert float(found[0, 0, 0]) == pytest.approx(0.5 if exact else 0.625, abs=1e-6)

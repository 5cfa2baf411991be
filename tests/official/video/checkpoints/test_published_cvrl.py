"""A checkpoint of exactly the form of CVRL's published ones, by the reference's own classes.

An archive of a folder: the trainer's object graph with its optimizer's slots, and the Model
Garden's params.yaml beside it.
"""

import tarfile

import numpy as np
import pytest
import tensorflow as tf
from official.core import base_trainer, train_utils

from benchmarks import model_garden
from official.video import export
from official.video.backbones import factory, families
from official.video.checkpoints import from_pytorch, origin, restore
from official.video.inference import loading
from official.video.settings import experiment
from tests import clips, drivers, tiny

# Of the zoo's table, and of the archive.
NAME, ARCHIVE = 'cvrl_r3d50_k400_800ep', 'r3d_1x_k400_800ep'
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def published(tmp_path_factory):
  """The folder of the zoo with an archive, and the reference's model."""
  place = tmp_path_factory.mktemp('published')
  overrides = {
    'task': {'model': model_garden.model_overrides()},
    'runtime': model_garden.RUNTIME,
  }
  params = model_garden.experiment(model_garden.PRETRAIN, overrides)
  task = model_garden.task(params)
  model = task.build_model()
  rng = np.random.default_rng(1)
  for variable in model.variables:
    noise = rng.uniform(0.5, 1.0, variable.shape) if 'variance' in variable.name else None
    drift = rng.normal(size=variable.shape, scale=0.02)
    variable.assign(noise if noise is not None else variable + drift)
  optimizer = task.create_optimizer(params.trainer.optimizer_config, params.runtime)
  optimizer._create_all_weights(model.trainable_variables)  # Slots of the momentum.
  trainer = base_trainer.Trainer(
    params, task, model, optimizer, train=False, evaluate=False
  )
  run = place / ARCHIVE
  train_utils.serialize_config(params, str(run))
  tf.train.CheckpointManager(trainer.checkpoint, str(run), max_to_keep=1).save(168_414)
  assert (run / 'params.yaml').exists()
  with tarfile.open(place / f'{ARCHIVE}.tar.gz', 'w:gz', compresslevel=1) as packed:
    packed.add(run, ARCHIVE)
  return place, model


@pytest.fixture(autouse=True)
def zoo_folder(published, monkeypatch):
  monkeypatch.setenv('VIDGARDEN_ZOO', str(published[0]))


def test_it_is_foreign_and_its_features_are_the_references(published, tmp_path, equality):
  _, reference = published
  found = origin.of(f'zoo:{NAME}')
  assert found.task is None  # The Model Garden's config means other things by its names.
  net = factory.build_backbone(families.Backbone())
  report = restore.restore_backbone(net, f'zoo:{NAME}')
  assert len(report.restored) == 265 and not report.new
  views = tf.random.stateless_uniform([1, 4, 224, 224, 3], [1, 2])
  found, expected = (
    backbone(views)['5'].numpy() for backbone in (net, reference.backbone)
  )
  equality('CVRL as published (trainer, R3D-50), maps', found, expected)
  done = drivers.run(
    from_pytorch,
    *('--reverse', '--backbone=resnet_3d', f'--checkpoint=zoo:{NAME}'),
    f'--pytorch_file={tmp_path / "net.pth"}',
  )
  assert done.code == 0, done.stderr


@pytest.mark.parametrize('kind', ['linear_eval', 'finetune'])
def test_protocols_start_from_it_and_are_exported(kind, published, tmp_path):
  from official.video import train

  manifests = clips.write_splits(tmp_path)
  small = 'task: {SPLIT: {feature_shape: [4, 32, 32, 3]}}'
  params = experiment.load(f'cvrl_{kind}_kinetics400')
  params = tiny.shrunk(
    params,
    'as published',  # Whose net stays as large as it is.
    *manifests,
    *(small.replace('SPLIT', split) for split in ('train_data', 'validation_data')),
    'task: {model: {num_classes: 3}, validation_data: {num_test_clips: 1, num_test_crops: 1}}',
    'task: {validation_data: {min_image_size: 36}}',
    f'task.init_checkpoint: "zoo:{NAME}"',
    tiny.STEPS,
    'trainer.optimizer_config.warmup.linear.warmup_steps: 0',
    # Drawn weights are no start for the published rate.
    'trainer.optimizer_config.learning_rate.cosine.initial_learning_rate: 1.0e-5',
  )
  runner, scores = train.run(params, str(tmp_path / 'run'))
  assert int(runner.trainer.global_step) == 2 and scores['evaluated'] == 6
  kernel = runner.trainer.model.backbone.get_layer('stem/conv').kernel
  reference = published[1].backbone.trainable_variables[0]
  assert (np.abs(kernel - reference).max() == 0) == (kind == 'linear_eval')
  export.export(params, str(tmp_path / 'run'), str(tmp_path / 'model'))
  assert loading.load(str(tmp_path / 'model')).classifies


def test_clips_are_embedded_by_its_name():
  model = loading.load(f'zoo:{NAME}')
  steps, height, width, _ = model.config.feature_shape
  shown = np.random.default_rng(0).integers(
    0, 256, (1, steps, height, width, 3), np.uint8
  )
  found = model.encode(shown)['feature']
  net = factory.build_backbone(families.Backbone())
  restore.restore_backbone(net, f'zoo:{NAME}')
  maps = net(tf.constant(shown, tf.float32) / 255)['5']
  np.testing.assert_allclose(found, tf.reduce_mean(maps, [1, 2, 3]), rtol=1e-3, atol=1e-5)

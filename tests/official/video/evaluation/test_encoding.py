"""What is encoded on several devices is what one device makes of it, bit for bit."""

import numpy as np
import pytest
import tensorflow as tf

from official.video import export
from official.video.configs import data as data_config
from official.video.data import index
from official.video.evaluation import encoding, extract
from official.video.inference import embedding, footage, loading
from official.video.temporal import windows
from tests import clips, drivers, runs, tiny, videos

DEVICES = (2, 3)


def on_devices(mirrored, devices: int, make):
  with mirrored(devices).scope():
    made = make()
  return made


def where_and_what(batch):
  """The device that computed, and values that round by the place in a batch."""
  replica = tf.distribute.get_replica_context().replica_id_in_sync_group
  places = 1 + 1e-6 * tf.cast(tf.range(tf.shape(batch)[0]), tf.float32)
  means = tf.reduce_mean(tf.cast(batch, tf.float32), [1, 2, 3, 4]) * places
  return {
    'feature': means[:, None],
    'device': tf.fill([tf.shape(batch)[0], 1], tf.cast(replica, tf.float32)),
  }


def some_batches(count):
  rng = np.random.default_rng(0)
  return [rng.integers(0, 256, (3, 2, 4, 4, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize('devices', DEVICES)
def test_each_device_computes_a_batch_of_its_own(mirrored, devices):
  encoder = on_devices(mirrored, devices, lambda: encoding.Encoder(where_and_what))
  assert encoder.num_devices == devices
  batches = some_batches(devices)
  made, alone = encoder.each(batches), encoding.Encoder(where_and_what)
  for number, (batch, outputs) in enumerate(zip(batches, made, strict=True)):
    assert (outputs['device'] == number).all()
    np.testing.assert_array_equal(outputs['feature'], alone(batch)['feature'])
  assert len(encoder.each(batches[:1])) == 1
  np.testing.assert_array_equal(encoder(batches[1])['feature'], made[1]['feature'])


def test_what_follows_is_done_in_turn_and_changes_no_other(mirrored):
  encoder = on_devices(mirrored, 2, lambda: encoding.Encoder(where_and_what))
  doubled = encoder.then(lambda outputs: {'feature': 2 * outputs['feature']})
  again = doubled.then(lambda outputs: outputs | {'feature': outputs['feature'] + 1})
  (plain,), (double,) = encoder.each(some_batches(1)), doubled.each(some_batches(1))
  np.testing.assert_array_equal(double['feature'], 2 * plain['feature'])
  np.testing.assert_array_equal(
    again(some_batches(1)[0])['feature'], double['feature'] + 1
  )
  assert again.num_devices == 2 and set(plain) == {'feature', 'device'}


@pytest.fixture(scope='module')
def paths(tmp_path_factory):
  folder = tmp_path_factory.mktemp('videos')
  for number in range(7):
    videos.write_video(folder / f'v{number}.mp4', 20 + 3 * number, fps=10)
  return footage.listed(folder)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  manifest = clips.write_split(folder / 'records', 'test', [0, 1, 2])
  params = tiny.load('cvrl_finetune_tiny', manifest, manifest)
  runs.save_run(params, folder / 'run')
  return folder / 'run'


@pytest.mark.parametrize('step', [0.0, 0.9])
def test_files_give_the_same_bytes(run, paths, mirrored, step, tmp_path):
  made = []
  for devices in (1, *DEVICES):
    model = on_devices(mirrored, devices, lambda: loading.load(run))
    output = tmp_path / f'{devices}.npy'
    embedding.embed(
      model,
      paths,
      str(output),
      outputs=['feature', 'probability'],
      window_step=step,
      batch_size=4,
    )
    made.append(output.read_bytes())
  assert made[0] == made[1] == made[2] and len(made[0]) > 1000


def test_an_export_encodes_on_all(run, mirrored, tmp_path):
  result = drivers.run(
    export,
    '--experiment=cvrl_finetune_tiny',
    f'--checkpoint={run}',
    f'--export_dir={tmp_path / "model"}',
    f'--config_file={run / "params.yaml"}',
  )
  assert result.code == 0, result.stderr
  shown = np.random.default_rng(1).integers(0, 256, (21, 4, 32, 32, 3), np.uint8)
  models = [
    on_devices(mirrored, devices, lambda: loading.load(str(tmp_path / 'model')))
    for devices in (1, 2)
  ]
  one, two = (model.encode(shown) for model in models)
  for name in ('feature', 'probability'):
    np.testing.assert_allclose(one[name], two[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('devices', DEVICES)
def test_a_set_scores_the_same(mirrored, devices, tmp_path):
  manifest = clips.write_split(tmp_path, 'test', [0, 1, 2, 0, 1, 2, 0])
  config = data_config.DataConfig(
    input_path=str(manifest),
    is_training=False,
    global_batch_size=2,
    feature_shape=(4, 24, 24, 3),
    num_test_clips=2,
  )
  table = index.load_index(config)
  encoders = [
    encoding.Encoder(where_and_what),
    on_devices(mirrored, devices, lambda: encoding.Encoder(where_and_what)),
  ]
  one, some = (extract.encode(config, table, e, keep_clips=True) for e in encoders)
  for name in ('feature', 'labels', 'records', 'clips'):
    np.testing.assert_array_equal(getattr(one, name), getattr(some, name))
  assert not one.outputs['device'].any() and some.outputs['device'].any()


def test_windows_of_a_film_are_the_same(mirrored):
  grey = [np.full((8, 8, 3), number, np.uint8) for number in range(100)]
  frames = tf.stack([tf.io.encode_png(frame) for frame in grey])
  film = windows.Film('film', frames, 25.0, [])
  config = data_config.DataConfig(feature_shape=(32, 8, 8, 3), global_batch_size=2)
  made = [
    windows.WindowEncoder(
      config,
      on_devices(mirrored, devices, lambda: encoding.Encoder(where_and_what)),
      7,
      10,
    )(film)
    for devices in (1, 2)
  ]
  np.testing.assert_array_equal(*made)

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from official.video import export
from official.video.augment import normalization
from official.video.data import records
from official.video.run import trainer
from official.video.serving import encoders
from official.video.settings import experiment
from tests import clips, tiny

ROOT_ONLY_TENSORFLOW = """
import sys
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
clips = np.load(sys.argv[2])
outputs = model.signatures['clips'](clips=tf.constant(clips))
# Strings come as objects, which a file would need pickles for.
arrays = {name: value.numpy() for name, value in outputs.items()}
arrays['classes'] = arrays['classes'].astype(bytes)
np.savez(sys.argv[3], **arrays)
foreign = ('official', 'projects', 'tfrecords_tools', 'tensorflow_models')
loaded = [name for name in sys.modules if name.split('.')[0] in foreign]
assert not loaded, loaded
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(
    tmp_path_factory.mktemp('records'), [0, 1, 2, 0, 1, 2], [0, 1, 2, 0]
  )


def make(folder, data, zero_centering=False):
  """A probe at its initial weights: config, checkpoint, exported folder."""
  params = tiny.load('cvrl_linear_eval_tiny', *data)
  text = (
    f'task: {{zero_centering: {str(zero_centering).lower()}, '
    'validation_data: {num_test_clips: 1, num_test_crops: 1}}'
  )
  experiment.apply_overrides(params, text, 'test')
  model = trainer.built(experiment.build_task(params))
  # The initial moving statistics would make normalization by them an identity.
  for index, variable in enumerate(model.variables):
    if 'moving_mean' in variable.name:
      variable.assign(tf.random.stateless_normal(variable.shape, [index, 0], 0, 0.1))
  checkpoint = tf.train.Checkpoint(model=model, **model.checkpoint_items)
  path = checkpoint.save(str(folder / 'ckpt'))
  export.export(params, path, str(folder / 'model'))
  return params, path, folder / 'model'


@pytest.fixture(scope='module')
def exported(tmp_path_factory, data):
  return make(tmp_path_factory.mktemp('probe'), data)


def signature(folder, name, **inputs):
  loaded = tf.saved_model.load(str(folder))
  outputs = loaded.signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
  return {key: value.numpy() for key, value in outputs.items()}


def random_clips(batch, shape=(4, 32, 32, 3)):
  return np.random.default_rng(0).integers(0, 256, (batch, *shape), np.uint8)


def test_signatures_agree_with_the_checkpoint(exported, data):
  params, checkpoint, folder = exported
  task = experiment.build_task(params)
  encode = encoders.checkpoint_encoder(params, task, checkpoint)
  stored = [clips.clip(record, 0) for record in (3, 9)]
  serialized = [records.encode_record(values) for values in stored]
  by_record = signature(folder, 'records', serialized=serialized)
  # One centred test clip of 4 frames with stride 2 out of 40.
  indices = range(16, 24, 2)
  frames = [[values[records.IMAGE_ENCODED][i] for i in indices] for values in stored]
  by_frame = signature(folder, 'jpeg_frames', frames=frames)
  assert set(by_record) == set(by_frame)
  views = np.stack([_views(params, record) for record in serialized])
  assert len(np.unique(views)) > 50
  by_clip = signature(folder, 'clips', clips=views)
  expected = encode(tf.constant(views))
  assert by_clip['feature'].shape == (2, 64) and by_clip['probability'].shape == (2, 3)
  np.testing.assert_allclose(by_clip['probability'].sum(1), 1, rtol=1e-5)
  assert np.abs(by_clip['feature'][0] - by_clip['feature'][1]).max() > 1e-3
  for name in ('feature', 'probability'):
    np.testing.assert_allclose(by_clip[name], expected[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_record[name], by_clip[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_frame[name], by_clip[name], rtol=1e-4, atol=1e-5)
  pooled = by_clip['endpoint_5'].mean((1, 2, 3))
  np.testing.assert_allclose(pooled, by_clip['feature'], rtol=1e-4, atol=1e-5)


def _views(params, serialized):
  from official.video.data import reader, views

  frames = reader.parse_record(tf.constant(serialized))['frames']
  maker = views.ViewMaker(params.task.validation_data)
  return maker.test_views(frames, tf.constant(0)).numpy()[0]


def assert_same(one, other):
  """Numbers but for rounding; names of classes exactly."""
  if other.dtype == object:
    np.testing.assert_array_equal(one.astype(bytes), other.astype(bytes))
  else:
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_any_batch_size_gives_the_same_rows(exported):
  batch = random_clips(5)
  whole = signature(exported[2], 'clips', clips=batch)
  for size in (1, 2):
    part = signature(exported[2], 'clips', clips=batch[:size])
    assert set(part) == set(whole)
    for name, value in part.items():
      assert_same(value, whole[name][:size])


def test_other_clip_lengths_and_sizes_are_taken_aloud(exported, capfd):
  signature(exported[2], 'clips', clips=random_clips(1))
  assert 'warning' not in capfd.readouterr().err
  outputs = signature(exported[2], 'clips', clips=random_clips(1, (6, 40, 48, 3)))
  assert outputs['feature'].shape == (1, 64)
  told = capfd.readouterr().err
  assert 'warning: clips of [6 40 48] frames, rows and columns' in told
  assert 'the model was tested on [4, 32, 32]' in told


HOSTILE = """
import sys
import numpy as np
import tensorflow as tf

calls = {
  'clips': [dict(clips=np.zeros(shape, np.uint8)) for shape in
            [(4, 32, 32, 3), (32, 32, 3), (1, 1, 4, 32, 32, 3), (1, 4, 32, 32, 1), ()]],
  'regions': [dict(clips=np.zeros(shape, np.uint8), boxes=np.zeros(boxes, np.float32))
              for shape, boxes in [((4, 32, 32, 3), (1, 1, 4)), ((1, 4, 32, 32, 3), (1, 4)),
                                   ((1, 4, 30, 32, 3), (1, 1, 4))]],
  'jpeg_frames': [dict(frames=np.array([b'x'] * 4)), dict(frames=np.array([[[b'x']]]))],
  'records': [dict(serialized=np.array(b'x')), dict(serialized=np.array([[b'x']]))],
}
loaded = tf.saved_model.load(sys.argv[1])
for name, arguments in calls.items():
  for number, given in enumerate(arguments):
    try:
      loaded.signatures[name](**{k: tf.constant(v) for k, v in given.items()})
      print(name, number, 'answered')
    except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
      print(name, number, 'refused')
print('alive')
"""


def test_calls_of_other_ranks_are_refused(exported):
  """In a process of its own, which such a call may end."""
  result = subprocess.run(
    [sys.executable, '-c', HOSTILE, str(exported[2])], capture_output=True, text=True
  )
  lines = result.stdout.splitlines()
  assert lines[-1:] == ['alive'], result.stderr[-2000:]
  assert len(lines) == 13 and not [line for line in lines if 'answered' in line], lines


def test_tensorflow_alone_runs_the_model(exported, tmp_path):
  batch = random_clips(2)
  np.save(tmp_path / 'clips.npy', batch)
  paths = [str(exported[2]), str(tmp_path / 'clips.npy'), str(tmp_path / 'out.npz')]
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  result = subprocess.run(
    [sys.executable, '-c', ROOT_ONLY_TENSORFLOW, *paths],
    cwd=tmp_path,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  here = signature(exported[2], 'clips', clips=batch)
  there = np.load(tmp_path / 'out.npz')
  assert set(there.files) == set(here)
  for name, value in here.items():
    assert_same(there[name], value)


def test_the_training_normalization_is_exported(exported, data, tmp_path):
  params, checkpoint, folder = make(tmp_path, data, zero_centering=True)
  batch = random_clips(2)
  task = experiment.build_task(params)
  model = trainer.built(task)
  tf.train.Checkpoint(model=model).restore(checkpoint).expect_partial()
  centred = tf.constant(batch, tf.float32) / 127.5 - 1
  normalized = normalization.normalize(tf.constant(batch), True)
  np.testing.assert_allclose(normalized, centred, atol=1e-6)
  expected = model(centred)['feature']
  outputs = signature(folder, 'clips', clips=batch)
  np.testing.assert_allclose(outputs['feature'], expected, rtol=1e-4, atol=1e-5)
  uncentred = model(tf.constant(batch, tf.float32) / 255)['feature']
  assert np.abs(outputs['feature'] - uncentred).max() > 1e-3


def test_an_interrupted_export_leaves_nothing(exported, tmp_path, monkeypatch):
  params, checkpoint, _ = exported
  save = tf.saved_model.save

  def interrupted(module, path, **kwargs):
    save(module, path, **kwargs)
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(tf.saved_model, 'save', interrupted)
    with pytest.raises(KeyboardInterrupt):
      export.export(params, checkpoint, str(tmp_path / 'model'))
  assert not list(tmp_path.iterdir())
  export.export(params, checkpoint, str(tmp_path / 'model'))
  assert [path.name for path in tmp_path.iterdir()] == ['model']

"""One model object, three verbs: what they take, what they refuse."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

import official.video
from official.video import export, files
from official.video.checkpoints import zoo
from official.video.errors import UserError
from official.video.evaluation import encoding
from official.video.inference import embedding, footage
from official.video.inference.model import Model
from tests import clips, runs, tiny, videos


@pytest.fixture(scope='module')
def video(tmp_path_factory):
  return videos.write_video(tmp_path_factory.mktemp('v') / 'v.mp4', 40, fps=10)


def test_a_window_is_seen_as_a_file_of_its_length_would_be(video, tmp_path):
  model = runs.mean_model()
  found = model.embed(video, window_step=1.0, window_length=2.0, jpeg=False)
  assert found.start.tolist() == [0.0, 1.0, 2.0] and found.end.tolist() == [2.0, 3.0, 4.0]
  storage = dataclasses.replace(model.storage, jpeg=False)
  frames = _frames(footage.read(video, storage))
  for row, first in enumerate((0, 10, 20)):
    # Clips of 4 frames, 2 apart, at the begin and at the end: 20 - 4 * 2.
    parts = [frames[first + at : first + at + 8 : 2] for at in (0, 12)]
    expected = model.encode(np.stack(parts))['feature'].mean(0)
    np.testing.assert_allclose(found.feature[row], expected, rtol=1e-5)


def _frames(seen) -> np.ndarray:
  example = tf.train.SequenceExample.FromString(seen.record)
  images = example.feature_lists.feature_list['image/encoded'].feature
  return np.stack([tf.io.decode_png(f.bytes_list.value[0]).numpy() for f in images])


def test_inputs_in_all_their_forms(video, tmp_path):
  model = runs.mean_model()
  batch = np.random.default_rng(0).integers(0, 256, (5, 4, 16, 16, 3), np.uint8)
  expected = 100 * batch.reshape(5, 4, 2, 8, 2, 8, 3).mean((1, 3, 5)).reshape(5, 12)
  np.testing.assert_allclose(model.encode(batch)['feature'], expected, rtol=1e-5)
  np.testing.assert_allclose(model.embed(batch).feature, expected, rtol=1e-5)
  assert model.embed(batch).path == [f'clip {number}' for number in range(5)]
  dataset = tf.data.Dataset.from_tensor_slices(batch)
  for given in (dataset, dataset.batch(2)):
    np.testing.assert_allclose(model.embed(given).feature, expected, rtol=1e-5)
  assert model.embed(video).feature.shape == (1, 12)
  assert model.embed([video, video]).path == [video]
  floats = (batch / 255).astype(np.float32)
  np.testing.assert_allclose(
    255 * model.encode(floats)['feature'], expected, rtol=1e-4, atol=1e-3
  )


def test_clips_of_another_size_are_cropped_as_the_test_does():
  model = runs.mean_model()
  wide = np.zeros((2, 4, 32, 64, 3), np.uint8)
  wide[:, :, :, 16:48] = 100  # The central square is all that is seen.
  np.testing.assert_allclose(model.encode(wide)['feature'], 10_000, rtol=1e-5)


def test_no_more_is_computed_at_once_than_one_machine_holds(video, tmp_path):
  sizes = []

  def encode(clips):
    sizes.append(clips.shape[0])
    return {'feature': tf.zeros([clips.shape[0], 2])}

  # The batch of a training on many devices.
  config = dataclasses.replace(runs.mean_model().config, global_batch_size=1024)
  model = Model('large', encoding.Encoder(encode), config, identity='large')
  model.embed(video)
  model.encode(np.zeros((3, 4, 16, 16, 3), np.uint8))
  model.embed(video, window_step=0.1)
  embedding.embed(model, [str(video)], str(tmp_path / 'f.npy'))
  assert sizes[:2] == [2, 3] and set(sizes[2:]) == {8}
  model.embed(video, batch_size=20)
  assert sizes[-1] == 20


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (np.zeros((2, 3, 16, 16, 3), np.uint8), r'shape \[2, 3, 16, 16, 3\]: .*4 frames'),
    (np.zeros((4, 16, 16, 3), np.uint8), r'expected \[clips, 4 frames'),
    (np.zeros((0, 4, 16, 16, 3), np.uint8), 'at least one clip'),
    (np.zeros((1, 4, 16, 16, 3), np.int64), 'clips of int64: expected uint8'),
    (np.full((1, 4, 16, 16, 3), 2.0), r'floats from 2 to 2: expected \[0, 1\]'),
    (np.full((1, 4, 16, 16, 3), np.nan), 'floats from nan'),
    (np.zeros((1, 4, 8, 8, 3)), 'clips of 8x8 floats: the model takes 16x16'),
  ],
)
def test_what_are_no_clips(given, message):
  with pytest.raises(UserError, match=message):
    runs.mean_model().encode(given)


def test_what_can_not_be_asked(video, tmp_path):
  model = runs.mean_model()
  with pytest.raises(
    UserError, match='means: has no classifier to predict by; use embed'
  ):
    model.predict(video)
  with pytest.raises(UserError, match='reads no text'):
    model.embed_text(['a'])
  with pytest.raises(UserError, match=r'nowhere\.mp4: no such file or folder'):
    model.embed(tmp_path / 'nowhere.mp4')
  with pytest.raises(UserError, match='the folder holds no video'):
    model.embed(tmp_path)
  with pytest.raises(UserError, match='window_step: is for files'):
    model.embed(np.zeros((1, 4, 16, 16, 3), np.uint8), window_step=1.0)
  with pytest.raises(UserError, match='does not exist'):
    official.video.load(tmp_path / 'nothing')


def test_another_pace_is_told_once(video, capsys):
  model = runs.mean_model('30', frame_rate=30.0)
  model.embed(video)
  model.embed(video)
  err = capsys.readouterr().err
  assert err.count('10 frames a second; the model was trained on 30') == 1
  model = runs.mean_model('again 30', frame_rate=30.0)
  model.embed(video, storage=footage.Storage(fps=30))
  assert 'frames a second' not in capsys.readouterr().err


def test_storage_decides_what_is_seen(video):
  small = footage.read(video, footage.Storage(fps=5, short_side=24, jpeg=False))
  assert _frames(small).shape == (20, 24, 32, 3)
  assert small.frame_rate == 5 and small.end == pytest.approx(4.0)
  coarse = footage.Storage(quality=1)
  stored, raw = (
    runs.mean_model().embed(video, storage=coarse, jpeg=jpeg).feature
    for jpeg in (True, False)
  )
  as_by_default = runs.mean_model().embed(video, storage=coarse).feature
  np.testing.assert_array_equal(stored, as_by_default)
  assert np.abs(raw - stored).max() > 1


@pytest.mark.slow
def test_workers_that_die_cost_their_file(tmp_path, monkeypatch):
  paths = [videos.write_video(tmp_path / f'{n}.mp4', 8) for n in range(4)]
  monkeypatch.setattr(footage, '_work', dies_of_the_second)
  seen = list(footage.read_all(paths, footage.Storage(), 2))
  assert [each.path for each in seen] == paths
  failures = [each.failure for each in seen]
  assert failures == ['', 'its decoder crashed (exit code 3)', '', '']


def dies_of_the_second(task, tell):
  del tell
  if task[0].endswith('1.mp4'):
    os._exit(3)
  return footage.read(*task)


@pytest.mark.slow
@pytest.mark.parametrize('average', ['probability', 'logit'])
def test_an_export_is_the_run(average, video, tmp_path):
  manifests = clips.write_splits(tmp_path / 'records')
  settings = f'task.average: {average}'
  params = tiny.load('cvrl_finetune_tiny', *manifests, settings)
  runs.save_run(params, tmp_path / 'run')
  export.export(params, str(tmp_path / 'run'), str(tmp_path / 'model'))
  run = official.video.load(tmp_path / 'run')
  exported = official.video.load(tmp_path / 'model')
  assert run.identity == exported.identity and len(run.identity) == 64
  assert run.class_names == exported.class_names == ('a', 'b', 'c')
  assert run.config.as_dict() | {'input_path': ''} == exported.config.as_dict()
  a, b = (m.embed([video], window_step=1.0) for m in (run, exported))
  assert a.outputs.keys() == b.outputs.keys() == {'feature', 'probability'}
  for name, value in a.outputs.items():
    np.testing.assert_allclose(value, b.outputs[name], rtol=1e-3, atol=1e-5)
  (found,) = run.predict(video, top_k=2)
  assert len(found.classes) == 2 and found.classes[0][1] >= found.classes[1][1]
  assert found.classes[0][0] in ('a', 'b', 'c')
  other = tiny.load('cvrl_finetune_tiny', *manifests, 'task.zero_centering: true')
  runs.save_run(other, tmp_path / 'other')
  assert official.video.load(tmp_path / 'other').identity != run.identity


@pytest.mark.slow
def test_text_and_video_meet(video, tmp_path):
  from tests import captioned

  manifests = captioned.write(tmp_path / 'records')
  params = tiny.load('gvilm_pretrain_tiny', *manifests)
  runs.save_run(params, tmp_path / 'run')
  export.export(params, str(tmp_path / 'run'), str(tmp_path / 'model'))
  run, exported = (official.video.load(tmp_path / name) for name in ('run', 'model'))
  assert run.reads_text and exported.reads_text and run.identity == exported.identity
  texts = ['a red ball', 'something else']
  np.testing.assert_allclose(
    run.embed_text(texts), exported.embed_text(texts), rtol=1e-3, atol=1e-5
  )
  one, other = (m.embed(video).outputs['embedding'] for m in (run, exported))
  np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-2)


def test_loading_in_a_program_says_what_was_restored_alone(tmp_path):
  import os
  import subprocess
  import sys

  code = 'import official.video; official.video.load("zoo:actions_tiny_synthetic")'
  environment = {k: v for k, v in os.environ.items() if k != 'TF_CPP_MIN_LOG_LEVEL'}
  done = subprocess.run(
    [sys.executable, '-c', code], env=environment, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert [line.split()[0] for line in done.stderr.splitlines()] == ['restored']


def test_importing_the_package_loads_no_tensorflow():
  import subprocess
  import sys

  code = 'import sys, official.video; assert "tensorflow" not in sys.modules'
  subprocess.run([sys.executable, '-c', code], check=True)


def test_of_several_files_those_that_are_not_there_are_named(video, capsys):
  again = os.path.join(os.path.dirname(video), '.', os.path.basename(video))
  found = runs.mean_model().embed([video, 'gone.mp4', again])
  assert found.path == [video] and found.failed == {'gone.mp4': 'missing'}
  assert 'skipped gone.mp4: missing' in capsys.readouterr().err
  with pytest.raises(UserError, match=r'^gone\.mp4: no such file or folder'):
    runs.mean_model().embed('gone.mp4')


@pytest.mark.parametrize(
  ('inputs', 'options', 'message'),
  [
    (None, {'fps': float('nan')}, 'fps nan: expected 0 to'),
    (None, {'fps': -1.0}, 'fps -1'),
    (None, {'quality': 500}, 'quality 500: expected 1 to 100'),
    (None, {'short_side': -1}, 'short_side -1'),
    (None, {'batch_size': -1}, 'batch_size -1: expected 0 at least'),
    (None, {'num_workers': 0}, 'num_workers 0: expected 1 at least'),
    (
      [np.zeros((4, 16, 16, 3), np.uint8)],
      {},
      'inputs of ndarray: expected names of files',
    ),
    (tf.data.Dataset.from_tensor_slices(([1], [2])), {}, 'a data set of tuple'),
    (tf.data.Dataset.from_tensor_slices({'a': [1]}), {}, 'a data set of dict'),
    (tf.data.Dataset.range(0), {}, 'a data set without clips'),
  ],
)
def test_what_means_nothing_is_one_line(inputs, options, message, video):
  with pytest.raises(UserError, match=message):
    runs.mean_model().embed(video if inputs is None else inputs, **options)


def test_an_hour_is_no_limit():
  options = footage.Storage().options()
  assert options.max_frames == 0 and options.max_seconds > 24 * 3600


def test_of_a_published_checkpoint_the_backbone_is_taken(video, tmp_path, monkeypatch):
  paths = [clips.write_split(tmp_path, split, [0, 1, 2]) for split in ('a', 'b')]
  params = tiny.load('cvrl_finetune_tiny', *paths)
  runs.save_run(params, tmp_path / 'run')
  expected = official.video.load(tmp_path / 'run').embed(video).feature
  published = tmp_path / 'zoo' / 'mine'
  published.mkdir(parents=True)
  for path in (tmp_path / 'run').glob('ckpt*'):
    shutil.copy(path, published)
  data = params.task.validation_data.as_dict()
  differs = {
    'task.model.backbone.resnet_3d.width_multiplier': 0.125,
    **{
      f'task.validation_data.{name}': data[name]
      for name in ('feature_shape', 'num_test_clips', 'num_test_crops', 'min_image_size')
    },
  }
  row = zoo.Entry(
    *('a net', 'none', 'cvrl_finetune_tiny', 'nothing', 'page', '', 'mine.tar'),
    overrides=json.dumps(differs),
  )
  monkeypatch.setattr(zoo, 'entries', lambda: {'mine': row})
  monkeypatch.setenv(files.ZOO, str(tmp_path / 'zoo'))
  with pytest.raises(UserError, match=r'or an experiment that has its backbone'):
    official.video.load(published)
  with pytest.raises(UserError, match='60 of 60 backbone variables do not match'):
    official.video.load(published, name='cvrl_finetune_tiny')
  model, again = (official.video.load('zoo:mine') for _ in range(2))
  assert model.identity == again.identity and not model.classifies
  np.testing.assert_allclose(model.embed(video).feature, expected, rtol=1e-5)

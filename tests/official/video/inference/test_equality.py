"""What a model gives for a file is what `evaluate` computes of the file's record."""

import json
import pathlib

import numpy as np
import pytest
import tf_keras

from official.video import export
from official.video.checkpoints import origin
from official.video.configs import tasks
from official.video.data import records
from official.video.evaluation import extract, protocols
from official.video.inference import identity, loading
from official.video.serving import encoders
from official.video.settings import experiment
from tests import every, runs, tiny, videos
from tfrecords_tools import convert

# One in the default run; the others take minutes.
QUICK = ('cvrl_finetune_tiny',)
SIZES = ((64, 48), (48, 64), (66, 50))


def _looks_at_clips(name: str) -> bool:
  config = experiment.load(name).task
  return not isinstance(config, tasks.LocalizationTask | tasks.TrackingTask)


NAMES = [name for name in every.NAMES if _looks_at_clips(name)]
EACH = pytest.mark.parametrize('name', every.each(NAMES, QUICK))


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> tuple[list[str], pathlib.Path]:
  """Files, the last of them shorter than a clip, and their records."""
  folder = tmp_path_factory.mktemp('data')
  rows, paths = [], []
  for number, frames in enumerate((40, 33, 61, 25, 3)):
    path = folder / f'v{number}.mp4'
    noise = np.random.default_rng(number)
    videos.write_video(
      path,
      frames,
      size=SIZES[number % 3],
      draw=lambda n, w, h, noise=noise: (
        videos.numbered_frame(n, w, h) // 2 + noise.integers(0, 99, (h, w, 3), np.uint8)
      ),
    )
    paths.append(str(path))
    rows.append(
      {
        'path': path.name,
        'label': 'abc'[number % 3],
        'text/content': ['a red ball', 'it rolls'],
        'text/question': ['what rolls?'],
        'text/answer/index': [number % 3],
      }
    )
  listing = folder / 'list.jsonl'
  listing.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  flags = ['--source=jsonl', f'--path={listing}', '--split=test', '--num_workers=1']
  flags += [f'--output_dir={folder / "records"}', '--short_side=40', '--quality=90']
  assert convert.main([*flags, '--fps=15']) == 0
  return paths, folder / 'records' / 'test.manifest.json'


def evaluated(params, task, folder: pathlib.Path):
  """What the protocols of `evaluate` score."""
  encoder = encoders.checkpoint_encoder(params, task, str(folder / 'ckpt-1'))
  encoder = encoders.averaging(encoder, task.average)
  return extract.encode(params.task.validation_data, task.validation_index, encoder)


@pytest.mark.parametrize('backbone', ['', 'c3d'])
def test_a_run_tells_which_task_it_is_of(backbone, tmp_path):
  for name in NAMES:
    params = experiment.load(name)
    if backbone:
      params.task.model.backbone.override({'type': backbone, backbone: {}})
    (tmp_path / 'params.yaml').write_text(experiment.to_yaml(params))
    found = loading._params_of(origin.of(str(tmp_path)), '')
    assert type(found.task) is type(params.task), name
    assert found.task.as_dict() == params.task.as_dict(), name


@EACH
def test_a_file_gives_what_its_record_gives(name, data, tmp_path):
  paths, manifest = data
  tf_keras.utils.set_random_seed(1)
  params = tiny.load(name, manifest, manifest)
  task, _ = runs.save_run(params, tmp_path / 'run')
  expected = evaluated(params, task, tmp_path / 'run')
  model = loading.load(str(tmp_path / 'run'))
  # Floats round by the place in a batch, so the files come as the records do.
  paths = [paths[number] for number in np.argsort(rows_of(paths, manifest))]
  found = model.embed(paths)
  assert list(found.path) == paths
  np.testing.assert_array_equal(found.feature, expected.feature.astype(np.float32))
  probability = protocols.probabilities(expected)
  assert model.classifies == (probability is not None)
  if probability is not None:
    np.testing.assert_array_equal(
      found.outputs['probability'], probability.astype(np.float32)
    )
  other = model.embed(paths[::-1], batch_size=3).feature[::-1]
  np.testing.assert_allclose(other, found.feature, rtol=1e-4, atol=1e-6)
  # Frames that were never JPEG: the pixels of noise differ by some levels.
  raw = model.embed(paths, jpeg=False).feature
  assert not np.array_equal(raw, found.feature)
  error = np.linalg.norm(raw - found.feature, axis=1)
  assert (error < 0.15 * np.linalg.norm(found.feature, axis=1)).all()


def rows_of(paths: list[str], manifest: pathlib.Path) -> list[int]:
  """The record of each file."""
  shards = sorted(manifest.parent.glob('*.tfrecord'))
  names = []
  for shard in shards:
    with open(shard, 'rb') as file:
      for record in records.read_records(file):
        path = records.decode_record(record)[records.DATA_PATH][0]
        names.append(path.decode())
  return [names.index(pathlib.Path(path).name) for path in paths]


def test_files_of_any_rate_are_seen_at_the_pace_of_training(data, tmp_path, capsys):
  """With `stride_seconds` runs, exports and `evaluate` take frames as far apart in time."""
  paths, manifest = data
  tf_keras.utils.set_random_seed(1)
  paced = (
    'task: {train_data: {stride_seconds: 0.2}, validation_data: {stride_seconds: 0.2}}'
  )
  params = tiny.load('cvrl_finetune_tiny', manifest, manifest, paced)
  task, _ = runs.save_run(params, tmp_path / 'run')
  expected = evaluated(params, task, tmp_path / 'run').feature
  model = loading.load(str(tmp_path / 'run'))
  paths = [paths[number] for number in np.argsort(rows_of(paths, manifest))]
  np.testing.assert_array_equal(model.embed(paths).feature, expected.astype(np.float32))
  # The records store 15 frames a second, the files 30: the same times, other pixels.
  capsys.readouterr()
  twice = model.embed(paths, fps=30.0).feature
  assert 'frames a second' not in capsys.readouterr().err
  near = np.linalg.norm(twice - expected, axis=1) / np.linalg.norm(expected, axis=1)
  plain = tiny.load('cvrl_finetune_tiny', manifest, manifest)
  other = model.config
  assert (near < 0.3).all(), near
  found = model.embed(paths[:1], window_step=0.2)
  assert np.diff(found.start).max() == pytest.approx(0.2, abs=0.04)
  length = other.feature_shape[0] * 0.2
  assert (found.end - found.start)[0] == pytest.approx(length, abs=0.11)
  # Another pace is another model; without one it is what it was.
  facts = identity.facts(plain.task.validation_data, False)
  assert 'stride_seconds' not in facts and facts != identity.facts(other, False)
  export.export(params, str(tmp_path / 'run'), str(tmp_path / 'model'))
  exported = loading.load(str(tmp_path / 'model'))
  assert exported.identity == model.identity
  np.testing.assert_allclose(
    exported.embed(paths).feature, expected, rtol=1e-4, atol=1e-5
  )

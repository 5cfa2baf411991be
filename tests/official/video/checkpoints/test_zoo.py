"""Weights by name: found, checked, unpacked, or a line that says what to do."""

import hashlib
import io
import pathlib
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import yaml

import official.video
from official.video import evaluate, files
from official.video.checkpoints import restore, vit_layouts, zoo
from official.video.errors import UserError
from official.video.settings import experiment
from tests import drivers
from tfrecords_tools import synthesize

CVRL = 'cvrl_r3d50_k400_800ep'


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv(files.ZOO, str(tmp_path / 'zoo'))
  (tmp_path / 'zoo').mkdir()
  return tmp_path / 'zoo'


def checkpoint(place: pathlib.Path) -> pathlib.Path:
  place.mkdir(parents=True, exist_ok=True)
  tf.train.Checkpoint(x=tf.Variable(1.0)).write(str(place / 'ckpt'))
  return place


def archive(source: pathlib.Path, target: pathlib.Path) -> None:
  target.parent.mkdir(exist_ok=True)
  if target.suffix == '.zip':
    shutil.make_archive(str(target.with_suffix('')), 'zip', source.parent, source.name)
    return
  with tarfile.open(target, 'w:gz') as packed:
    packed.add(source, source.name)


def test_the_table_is_whole():
  registered = experiment.experiment_names()
  for name, entry in zoo.entries().items():
    assert entry.experiment in registered, name
    assert entry.about and entry.licence and entry.checked
    assert bool(entry.page) == bool(entry.file), name
    assert not entry.file or not (zoo._SHIPPED / name).exists()
    assert entry.file or (zoo._SHIPPED / name).is_dir(), f'{name} does not ship'


def _as_published(key, width, *shape):
  """Of a transformer's file, what its sizes are read from."""
  inner = [f'a.encoder.layer{"s" * ("patch_embedding." in key)}.{i}' for i in range(12)]
  names = ('mlp.fc1' if 'patch_embedding.' in key else 'intermediate.dense',)
  flat = {f'{block}.{name}.bias': (4 * width,) for block in inner for name in names}
  flat |= {f'a.{key}': (width, 3, *shape, 16, 16)}
  return {name: np.broadcast_to(np.float32(0), size) for name, size in flat.items()}


_HF = 'embeddings.patch_embeddings.projection.weight'
_CLS = {'a.embeddings.cls_token': np.zeros((1, 1, 768), np.float32)}
_POOL = {'fc_norm.weight': np.zeros(768, np.float32)}
_OF_CLIP = {
  'a.embeddings.class_embedding': np.zeros(768, np.float32),
  'a.pre_layrnorm.weight': np.zeros(768, np.float32),
  'a.embeddings.position_embedding.weight': np.zeros((197, 768), np.float32),
}


@pytest.mark.parametrize(
  ('name', 'tensors'),
  [
    ('vivit_b16x2_k400', _as_published(_HF, 768, 2) | _CLS),
    ('videomae_b_k400', _as_published(_HF, 768, 2) | _POOL),
    (
      'clip_vit_b16',
      _as_published('embeddings.patch_embedding.weight', 768) | _OF_CLIP,
    ),
  ],
)
def test_transformers_are_read_as_their_files_are(name, tensors):
  entry = zoo.entries()[name]
  params = experiment.load(entry.experiment, params_override=entry.overrides)
  assert not params.task.zero_centering and '--nozero_centering' in entry.convert
  net = params.task.model.backbone.get().as_dict()
  fields = vit_layouts.recognized(tensors, name).fields()
  assert {'activation': 'gelu', 'norm_epsilon': 1e-6, 'num_groups': 0} | fields == {
    field: net[field] for field in {'activation', 'norm_epsilon', 'num_groups', *fields}
  }
  pooled = fields['final_norm'] == 'mean'
  assert params.task.model.endpoint == ('pooled' if pooled else 'cls')
  for data in (params.task.train_data, params.task.validation_data):
    assert data.feature_shape[0] == 2 * net['grid'][0]


def test_other_paths_are_what_they_are():
  assert zoo.located('runs/zoo:x') == 'runs/zoo:x'
  assert zoo.located(pathlib.Path('runs/x')) == 'runs/x'
  with pytest.raises(UserError, match=rf"zoo 'cvrl_r3d50_k400_80ep'.*'{CVRL}'"):
    zoo.located('zoo:cvrl_r3d50_k400_80ep')


def test_what_is_not_there_says_what_to_download(folder):
  with pytest.raises(UserError) as error:
    restore.find_checkpoint(f'zoo:{CVRL}')
  message = str(error.value)
  assert 'storage.googleapis.com/tf_model_garden/vision/cvrl/r3d_1x_k400_800ep' in message
  assert str(folder) in message and '--zoo' in message and '\n' not in message
  assert not list(folder.iterdir())


@pytest.mark.parametrize('below', ['', 'inner'])
@pytest.mark.parametrize('name', [CVRL, 'r3d_1x_k400_800ep'])
def test_an_unpacked_folder_is_found(name, below, folder):
  checkpoint(folder / name / below)
  assert restore.find_checkpoint(f'zoo:{CVRL}') == str(folder / name / below / 'ckpt')


@pytest.mark.parametrize('place', ['.', CVRL])
def test_an_archive_is_unpacked_once(place, folder, tmp_path):
  file = folder / place / 'r3d_1x_k400_800ep.tar.gz'
  archive(checkpoint(tmp_path / 'r3d_1x_k400_800ep'), file)
  expected = str(folder / CVRL / 'r3d_1x_k400_800ep' / 'ckpt')
  assert restore.find_checkpoint(f'zoo:{CVRL}') == expected
  file.unlink()
  assert restore.find_checkpoint(f'zoo:{CVRL}') == expected
  assert not list(folder.glob('**/.unpacking_*'))


def entry(monkeypatch, **fields):
  base = {'about': 'a', 'licence': 'l', 'experiment': 'e', 'checked': 'c', 'page': 'P'}
  monkeypatch.setattr(zoo, 'entries', lambda: {'x': zoo.Entry(**base | fields)})


def test_zips_are_unpacked_too(folder, tmp_path, monkeypatch):
  entry(monkeypatch, file='weights.zip')
  archive(checkpoint(tmp_path / 'inside'), folder / 'weights.zip')
  assert zoo.located('zoo:x') == str(folder / 'x' / 'inside')


def test_checksums_are_checked(folder, tmp_path, monkeypatch):
  file = folder / 'weights.zip'
  archive(checkpoint(tmp_path / 'inside'), file)
  digest = hashlib.sha256(file.read_bytes()).hexdigest()
  entry(monkeypatch, file='weights.zip', sha256='0' * 8)
  with pytest.raises(UserError, match=f'has the SHA-256 {digest}, expected 00000000'):
    zoo.located('zoo:x')
  assert not (folder / 'x').exists()
  entry(monkeypatch, file='weights.zip', sha256=digest[:8])
  assert zoo.located('zoo:x') == str(folder / 'x' / 'inside')


@pytest.mark.parametrize('name', ['weights.tar.gz', 'weights.zip'])
def test_damage_leaves_nothing_behind(name, folder, tmp_path, monkeypatch):
  entry(monkeypatch, file=name)
  file = folder / name
  archive(checkpoint(tmp_path / 'inside'), file)
  file.write_bytes(file.read_bytes()[:100])
  with pytest.raises(UserError, match=rf"{name}: can't be unpacked: .*; download"):
    zoo.located('zoo:x')
  assert list(folder.iterdir()) == [file]


@pytest.mark.parametrize('kind', ['tar', 'zip'])
def test_nothing_is_written_outside(kind, folder, monkeypatch):
  entry(monkeypatch, file=f'bad.{kind}')
  if kind == 'tar':
    with tarfile.open(folder / 'bad.tar', 'w') as packed:
      member = tarfile.TarInfo('../../outside')
      member.size = 4
      packed.addfile(member, io.BytesIO(b'evil'))
  else:
    with zipfile.ZipFile(folder / 'bad.zip', 'w') as packed:
      packed.writestr('../../outside', 'evil')
  with pytest.raises(UserError, match=r"can't be unpacked|holds no checkpoint"):
    zoo.located('zoo:x')
  assert not (folder.parent / 'outside').exists()


def test_other_forms_name_their_conversion(folder):
  source = folder / 'bert_base_uncased' / 'model.safetensors'
  source.parent.mkdir()
  source.touch()
  with pytest.raises(UserError) as error:
    zoo.located('zoo:bert_base_uncased')
  command = f'from_bert --source={source} --checkpoint={source.parent / "ckpt"}'
  assert command in str(error.value)
  checkpoint(source.parent)
  assert zoo.located('zoo:bert_base_uncased') == str(source.parent)


def test_drivers_take_names(folder, tmp_path):
  other = tmp_path / 'other'
  other.mkdir()
  result = drivers.run(
    evaluate,
    '--experiment=cvrl_linear_eval_tiny',
    f'--checkpoint=zoo:{CVRL}',
    f'--zoo={other}',
    '--protocols=task',
  )
  assert result.code == 2
  assert f'zoo:{CVRL}: is not in {other}' in result.stderr


def test_the_page_of_the_zoo_names_each():
  page = (pathlib.Path(__file__).parents[4] / 'docs' / 'zoo.md').read_text()
  table = yaml.safe_load((pathlib.Path(zoo.__file__).parent / 'zoo.yaml').read_text())
  for name, fields in table.items():
    (row,) = [line for line in page.splitlines() if line.startswith(f'| `{name}`')]
    assert fields['about'] in row and fields.get('published', '') in row


def test_what_ships_names_the_actions(tmp_path):
  # Another seed than that of the videos that it was trained on.
  flags = ['--splits=test=24', f'--output_dir={tmp_path / "videos"}', '--seed=5']
  assert synthesize.run(flags) == 0
  model = official.video.load('zoo:actions_tiny_synthetic')
  found = model.predict(str(tmp_path / 'videos'), top_k=1)
  named = [one.classes[0][0] == pathlib.Path(one.path).parent.name for one in found]
  assert len(named) == 24 and sum(named) >= 22

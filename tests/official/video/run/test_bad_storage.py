"""Full and read-only disks, and records damaged in every way, while training."""

import collections
import pathlib
import random

import numpy as np
import pytest
import tensorflow as tf

from official.video import train
from official.video.configs import data as data_config
from official.video.data import index, reader
from official.video.errors import UserError
from official.video.settings import experiment
from tests import clips, drivers, tiny

LABELS = [i % 3 for i in range(8)]


@pytest.fixture(scope='module')
def command(tmp_path_factory):
  """Runs the training command into a folder."""
  folder = tmp_path_factory.mktemp('records')
  paths = [clips.write_split(folder, split, LABELS) for split in ('train', 'test')]
  params = tiny.load('cvrl_pretrain_tiny', *paths)
  plain = '{augmentation: {policy: none}}'
  experiment.apply_overrides(
    params, f'task: {{train_data: {plain}, validation_data: {plain}}}', 'test'
  )
  config = folder / 'config.yaml'
  config.write_text(experiment.to_yaml(params))

  def run(model_dir):
    return drivers.run(
      train,
      '--experiment=cvrl_pretrain_tiny',
      f'--config_file={config}',
      f'--model_dir={model_dir}',
    )

  return run


def assert_one_line(result, text: str) -> None:
  errors = [line for line in result.stderr.splitlines() if line.startswith('error: ')]
  assert result.code == 2, result.stderr
  assert len(errors) == 1 and text in errors[0], result.stderr


def test_a_full_disk_ends_in_one_line_and_harms_nothing(command, small_disk, tmp_path):
  disk = small_disk('size=200k')
  assert_one_line(command(disk / 'run'), 'No space left on device')
  assert tf.train.latest_checkpoint(disk / 'run') is None
  small_disk('remount,size=64m')
  result = command(disk / 'run')
  assert result.code == 0, result.stderr
  assert tf.train.latest_checkpoint(disk / 'run').endswith('ckpt-2')
  left = [path.name for path in (disk / 'run').iterdir()]
  assert not [name for name in left if 'temp' in name]


def test_a_read_only_disk_is_named(command, small_disk):
  disk = small_disk('size=1m')
  small_disk('remount,ro')
  assert_one_line(command(disk / 'run'), str(disk / 'run'))


def damage(kind: str, content: bytearray, rng: random.Random) -> bytearray:
  """One file's bytes, damaged."""
  place = rng.randrange(len(content))
  if kind == 'flip a bit':
    content[place] ^= 1 << rng.randrange(8)
  elif kind == 'zero a block':
    content[place : place + 512] = bytes(len(content[place : place + 512]))
  elif kind == 'absurd length':
    content[0:8] = rng.randbytes(8)
  elif kind == 'noise':
    content[place:] = rng.randbytes(len(content) - place)
  elif kind == 'truncate':
    del content[place:]
  elif kind == 'empty':
    content.clear()
  return content


SAME_SIZE = ('flip a bit', 'zero a block', 'absurd length', 'noise')
OTHER_SIZE = ('truncate', 'empty')


@pytest.fixture(scope='module')
def shards(tmp_path_factory):
  folder = tmp_path_factory.mktemp('shards')
  manifest = clips.write_split(folder, 'train', LABELS, num_frames=10)
  return manifest, {f.name: f.read_bytes() for f in sorted(folder.glob('*.tfrecord'))}


@pytest.mark.parametrize('cases', [40, pytest.param(150, marks=pytest.mark.slow)])
def test_damaged_records_are_found_and_no_other_is_lost(shards, tmp_path, cases):
  """Every damage is refused at the start or costs just the records that it touches."""
  manifest, whole = shards
  (tmp_path / manifest.name).write_bytes(manifest.read_bytes())
  config = data_config.DataConfig(
    input_path=str(tmp_path / manifest.name),
    global_batch_size=len(LABELS),
    is_training=False,
    feature_shape=(2, 16, 16, 3),
    num_test_clips=1,
  )
  for name, content in whole.items():
    (tmp_path / name).write_bytes(content)
  table = index.load_index(config)
  dataset = reader.build_dataset(config, table)
  clean = next(iter(dataset))
  rng = random.Random(cases)
  done: collections.Counter = collections.Counter()
  for _ in range(cases):
    kind = rng.choice(SAME_SIZE + OTHER_SIZE)
    name = rng.choice(sorted(whole))
    content = damage(kind, bytearray(whole[name]), rng)
    (tmp_path / name).write_bytes(content)
    done[kind, _outcome(config, table, dataset, clean, whole[name], content, name)] += 1
    (tmp_path / name).write_bytes(whole[name])
  for (kind, outcome), count in sorted(done.items()):
    print(f'{kind:<16}{outcome:<34}{count:>6}')
  assert sum(done.values()) == cases


def _outcome(config, table, dataset, clean, before, after, name) -> str:
  """What became of a damaged file; asserts that it is what it should be."""
  if len(after) != len(before):
    with pytest.raises(UserError, match=name):
      index.load_index(config)
    return 'refused before the first step'
  changed = [i for i in range(len(before)) if before[i] != after[i]]
  if not changed:
    return 'harmless'
  index.load_index(config)
  file = [pathlib.Path(f).name for f in table.files].index(name)
  touched = {
    row
    for row in np.flatnonzero(table.file_id == file)
    for byte in (changed[0], changed[-1])
    if table.offset[row] <= byte < table.offset[row] + table.size[row]
  }
  span = (
    set(range(min(touched), max(touched) + 1)) if touched else set()
  )  # Damage is one block.
  batch = next(iter(dataset))
  valid = batch['valid'].numpy()
  assert set(np.flatnonzero(~valid)) <= span
  assert touched <= set(np.flatnonzero(~valid))
  np.testing.assert_array_equal(
    batch['test_views'].numpy()[valid], clean['test_views'].numpy()[valid]
  )
  return 'named, the others read'

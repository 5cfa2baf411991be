import dataclasses
import json

import numpy as np
import pytest

from official.video.configs import data as data_config
from official.video.data import index, records
from official.video.errors import FieldError, UserError
from tests import clips


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  return clips.write_split(
    tmp_path_factory.mktemp('records'),
    'train',
    [0, 1, 2, 0, 1, 2, 0, 1, 2, 0],
    num_shards=3,
  )


def load(path, **fields):
  return index.load_index(data_config.DataConfig(input_path=str(path), **fields))


def same_places(a, b):
  return (
    [a.files[f] for f in a.file_id] == [b.files[f] for f in b.file_id]
    and np.array_equal(a.offset, b.offset)
    and np.array_equal(a.size, b.size)
  )


def test_manifest_folder_pattern_and_scan_find_the_same_records(manifest, tmp_path):
  by_manifest = load(manifest)
  assert len(by_manifest) == 10
  assert by_manifest.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
  assert by_manifest.label_names == ('a', 'b', 'c')
  assert by_manifest.offset[0] == 0
  assert by_manifest.offset[1] == by_manifest.size[0]
  assert same_places(by_manifest, load(manifest.parent))
  assert same_places(by_manifest, load(manifest.parent / 'train-*.tfrecord'))
  for shard in manifest.parent.glob('*.tfrecord'):
    (tmp_path / shard.name).write_bytes(shard.read_bytes())
  scanned = load(tmp_path / '*.tfrecord')
  assert np.array_equal(scanned.offset, by_manifest.offset)
  assert scanned.labels is None


def test_a_pattern_of_some_shards_takes_only_their_records(manifest):
  part = load(manifest.parent / 'train-00001-*')
  assert len(part) == 3
  assert {part.files[f][-26:] for f in part.file_id} == {
    'train-00001-of-00003.tfrecord'[-26:]
  }
  assert part.labels.tolist() == [1, 2, 0]


def test_several_inputs_are_joined(manifest, tmp_path):
  other = clips.write_split(tmp_path, 'more', [2, 2])
  both = load(f'{manifest},{other}')
  assert len(both) == 12
  assert both.labels.tolist()[-2:] == [2, 2]
  assert both.files[both.file_id[-1]].startswith(str(tmp_path))


def test_label_fraction_takes_a_share_of_each_class(manifest):
  half = load(manifest, label_fraction=0.5)
  assert np.bincount(half.labels).tolist() == [2, 2, 2]
  again = load(manifest, label_fraction=0.5)
  assert same_places(half, again)
  tiny = load(manifest, label_fraction=0.01)
  assert sorted(tiny.labels.tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
  ('path', 'message'),
  [
    ('', 'input_path: names no data'),
    ('{tmp}/none-*', "input_path '{tmp}/none-*': no file matches"),
    ('{tmp}', 'a folder with 0 manifests'),
    ('{tmp}/text.tfrecord', 'not a readable TFRecord file'),
    ('{tmp}/bad.manifest.json', 'bad.manifest.json'),
  ],
)
def test_mistakes_name_the_path(path, message, tmp_path):
  (tmp_path / 'sub').mkdir()
  (tmp_path / 'text.tfrecord').write_text('this is no record file at all')
  if 'bad' in path:
    (tmp_path / 'bad.manifest.json').write_text('{}')
  with pytest.raises(UserError) as error:
    load(path.format(tmp=tmp_path))
  assert message.format(tmp=tmp_path) in str(error.value)
  assert '\n' not in str(error.value)


def test_a_cut_or_missing_shard_is_named(manifest, tmp_path):
  for file in manifest.parent.iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  victim = tmp_path / records.shard_name('train', 1, 3)
  victim.write_bytes(victim.read_bytes()[:-20])
  with pytest.raises(UserError, match=r'train-00001-of-00003.tfrecord: \d+ bytes, but'):
    load(tmp_path / 'train.manifest.json')
  victim.unlink()
  with pytest.raises(UserError, match=r'train-00001-of-00003.tfrecord: named by'):
    load(tmp_path / 'train.manifest.json')


def test_differing_class_names_are_refused(manifest, tmp_path):
  other = clips.write_split(tmp_path, 'x', [0], num_shards=1, label_names=('z',))
  with pytest.raises(UserError, match='class names differ'):
    load(f'{manifest},{other}')


def test_sources_are_known_where_every_manifest_tells(tmp_path):
  paths = []
  for name, sources in (('a', [5, 6, 5]), ('b', [6, 7, 8]), ('old', [])):
    path = clips.write_split(tmp_path / name, 'train', [0, 1, 2], 1, num_frames=2)
    made = records.Manifest.from_json(path.read_text())
    shard = dataclasses.replace(made.shards[0], sources=sources)
    path.write_text(dataclasses.replace(made, shards=[shard]).to_json())
    paths.append(str(path))
  both = load(f'{paths[0]},{paths[1]}')
  assert both.sources.tolist() == [5, 6, 5, 6, 7, 8]
  assert both.take(np.array([4, 0])).sources.tolist() == [7, 5]
  assert load(','.join(paths)).sources is None


def test_label_fraction_draws_by_seed(manifest):
  by_seed = [load(manifest, label_fraction=0.4, seed=seed) for seed in range(8)]
  taken = {tuple(part.number.tolist()) for part in by_seed}
  assert len(taken) > 4  # Not the first of each class, whatever the seed.


def test_copies_of_a_set_that_lack_videos_share_their_labelled_ones(tmp_path):
  """The share is of videos by name: other shards and gaps leave it as it is."""

  def taken(folder, videos, seed, shards):
    labels = [video % 3 for video in videos]
    table = load(
      clips.write_split(tmp_path / folder, 'train', labels, shards, num_frames=1)
    )
    numbers = [records.source_number(f'video {video}') for video in videos]
    table = dataclasses.replace(table, sources=np.array(numbers))
    found = index.label_subset(table, 0.25, seed).sources.tolist()
    return {
      video for video, number in zip(videos, numbers, strict=True) if number in found
    }

  whole = taken('whole', list(range(84)), 1, 3)
  assert len(whole) == 21 and {video % 3 for video in whole} == {0, 1, 2}
  assert taken('moved', list(range(84))[::-1], 1, 1) == whole
  fewer = taken('fewer', [video for video in range(84) if video not in (5, 18, 42)], 1, 2)
  assert len(fewer & whole) >= len(whole - {5, 18, 42}) - 1
  assert taken('other', list(range(84)), 2, 3) != whole


def test_what_the_conversion_skipped_is_counted(manifest, tmp_path):
  for file in manifest.parent.iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  path = tmp_path / manifest.name
  content = json.loads(path.read_text())
  content['skipped'] = [{'source': f'{i}.mp4', 'reason': 'empty file'} for i in range(3)]
  path.write_text(json.dumps(content))
  assert load(path).skipped == 3
  assert load(f'{path},{manifest}').skipped == 3


def test_what_is_named_twice_is_refused(manifest, tmp_path):
  folder = manifest.parent
  (tmp_path / 'link').symlink_to(folder)
  shard = min(folder.glob('*.tfrecord'))
  for again in (manifest, shard, tmp_path / 'link' / manifest.name):
    with pytest.raises(UserError, match='is named 2 times'):
      load(f'{manifest},{again}')


@pytest.mark.parametrize('pattern', ['*.manifest.json', '*.tfrecord', 't*'])
def test_a_pattern_over_splits_is_told_and_no_test(pattern, tmp_path, capsys):
  for split in ('test', 'train'):
    clips.write_split(tmp_path, split, [0, 1])
  path = f'{tmp_path}/{pattern}'
  train = data_config.DataConfig(input_path=path)
  if pattern != 't*':  # Which takes manifests and what they name.
    assert len(index.load_index(train)) == len(index.load_index(train)) == 4
    told = capsys.readouterr().err
    assert told == f'note: input_path {path!r}: takes the splits test, train together\n'
  test = data_config.DataConfig(input_path=path, is_training=False)
  with pytest.raises(FieldError, match='takes the splits test, train together, so that'):
    index.load_index(test)
  both = ','.join(f'{tmp_path}/{split}.manifest.json' for split in ('test', 'train'))
  meant = data_config.DataConfig(input_path=both, is_training=False)
  assert len(index.load_index(meant)) == 4 and not capsys.readouterr().err


def test_one_split_of_several_folders_is_one(tmp_path, capsys):
  for part in ('a', 'b'):
    clips.write_split(tmp_path / part, 'test', [0, 1])
  path = f'{tmp_path}/*/test.manifest.json'
  test = data_config.DataConfig(input_path=path, is_training=False)
  assert len(index.load_index(test)) == 4 and not capsys.readouterr().err

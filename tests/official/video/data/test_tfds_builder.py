"""Sets of TensorFlow Datasets of the conversion's listings, by Beam's own runner."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from official.video.configs import data as data_config
from official.video.data import index, reader, records, tfds_builder
from tests.tfrecords_tools.test_published_sets import didemo, diving48
from tests.videos import frame_number, write_video
from tfrecords_tools.commands import run_command


def prepared(folder, *flags):
  """The driver's exit code for a data folder."""
  given = [f'--data_dir={folder}', '--short_side=32', *map(str, flags)]
  return run_command(tfds_builder.main, given)


@pytest.fixture(scope='module')
def dives(tmp_path_factory):
  """Diving48's official layout in small, prepared; the folder of sets and its lists."""
  root = tmp_path_factory.mktemp('dives')
  diving48(root)
  flags = ('--source=diving48', f'--path={root}/videos', f'--annotations={root}/lists')
  assert prepared(root / 'sets', *flags) == 0
  return root


def entries(root, split):
  return json.loads((root / 'lists' / f'Diving48_V2_{split}.json').read_text())


@pytest.mark.slow
def test_tfds_loads_what_is_listed(dives):
  import tensorflow_datasets as tfds

  loaded, info = tfds.load('diving48', data_dir=f'{dives}/sets', with_info=True)
  assert set(loaded) == {'train', 'test'}
  vocabulary = json.loads((dives / 'lists' / 'Diving48_vocab.json').read_text())
  assert info.features['label'].names == [' '.join(parts) for parts in vocabulary]
  assert info.supervised_keys == ('video', 'label')
  for split in loaded:
    found = {
      example['media_id'].decode(): example for example in tfds.as_numpy(loaded[split])
    }
    expected = {entry['vid_name']: entry['label'] for entry in entries(dives, split)}
    assert {name: int(x['label']) for name, x in found.items()} == expected
    for example in found.values():
      assert example['video'].dtype == np.uint8 and min(example['video'].shape[1:3]) == 32
      assert example['frame_rate'] > 0


@pytest.mark.slow
def test_training_reads_it_by_name(dives):
  config = data_config.DataConfig(
    tfds_name='diving48',
    tfds_split='train',
    tfds_data_dir=f'{dives}/sets',
    global_batch_size=2,
    feature_shape=(2, 16, 16, 3),
    num_views=1,
    sampler=data_config.Sampler(name='random'),
    augmentation=data_config.Augmentation(policy='none'),
  )
  table = index.load_index(config)
  labels = sorted(entry['label'] for entry in entries(dives, 'train'))
  assert len(table) == len(labels) and len(table.label_names) == 3
  batch = next(iter(reader.build_dataset(config, table)))
  assert batch['views'].shape == (2, 1, 2, 16, 16, 3)
  assert set(batch['label'].numpy()) <= set(labels)


@pytest.mark.slow
def test_captions_and_clips_that_give_nothing(tmp_path, capfd):
  import tensorflow_datasets as tfds

  didemo(tmp_path)
  broken = sorted((tmp_path / 'videos').iterdir())[0]
  broken.write_bytes(b'no video')
  flags = (
    '--source=didemo',
    f'--path={tmp_path}/videos',
    f'--annotations={tmp_path}/lists',
  )
  assert prepared(tmp_path / 'sets', *flags, '--name=moments') == 1
  told = capfd.readouterr()
  assert f'skipped {broken.name}' in told.err
  loaded = tfds.load('moments', data_dir=f'{tmp_path}/sets')
  found = [x for split in loaded.values() for x in tfds.as_numpy(split)]
  assert f': {len(found)} of {len(found) + 1} clips' in told.out
  assert found and 'label' not in found[0]
  assert all(len(example['captions']) == 1 for example in found)


@pytest.mark.slow
def test_the_command_prepares_a_set(tmp_path):
  write_video(tmp_path / 'a.mp4', 40, 20)
  (tmp_path / 'list.jsonl').write_text('{"path": "a.mp4", "caption": "one runs"}\n')
  command = [sys.executable, '-m', 'official.video.data.tfds_builder', '--data_dir=sets']
  flags = ('--source=jsonl', '--path=list.jsonl', '--name=mine', '--short_side=32')
  done = subprocess.run(
    [*command, *flags],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(pathlib.Path(__file__).parents[4])},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  assert 'sets/mine/1.0.0: 1 of 1 clips' in done.stdout
  assert (
    len(
      index.load_index(
        data_config.DataConfig(
          tfds_name='mine', tfds_split='train', tfds_data_dir=f'{tmp_path}/sets'
        )
      )
    )
    == 1
  )


def test_an_example_has_the_frames_of_its_span(tmp_path):
  from tfrecords_tools.datasets.source import SourceClip
  from tfrecords_tools.frames import FrameOptions

  write_video(tmp_path / 'a.mp4', 40, 20)
  clip = SourceClip(
    path='a.mp4',
    file=str(tmp_path / 'a.mp4'),
    split='train',
    media_id='a',
    labels=('run', 'jump'),
    start=0.5,
    end=1.0,
    fields={records.TEXT_CONTENT: ['one', 'two']},
  )
  keys = [records.LABEL_INDEX, records.TEXT_CONTENT]
  options = FrameOptions(short_side=0)
  made = tfds_builder.example(clip, {'jump': 0, 'run': 1}, options, keys)
  assert (made['label'], made['labels'], made['captions']) == (
    1,
    [1, 0],
    [b'one', b'two'],
  )
  assert (made['media_id'], made['frame_rate']) == (b'a', 20)
  images = [tf.io.decode_jpeg(frame).numpy() for frame in made['video']]
  assert [frame_number(image) for image in images] == list(range(10, 20))
  assert 'captions' not in tfds_builder.example(clip, {'jump': 0, 'run': 1}, options, [])


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--name=ucf101'], '--name=ucf101: TFDS has a set of that name'),
    (['--name=My-Set'], '--name=My-Set: expected small letters'),
    (['--version=2'], '--version=2: expected three numbers'),
    (['--num_shards=3'], '--num_shards: is of records'),
    (['--output_dir=x'], '--output_dir: is of records'),
    (['--check'], '--check: is of records'),
    (['--fold=1'], '--fold: --source=csv does not read it'),
    (['--fpss=1'], 'unrecognized arguments: --fpss=1'),
  ],
)
def test_requests_that_mean_nothing_are_one_line(flags, message, tmp_path, capsys):
  path = tmp_path / 'list.csv'
  path.write_text('path,label\na.mp4,run\n')
  assert prepared(tmp_path / 'sets', '--source=csv', f'--path={path}', *flags) == 2
  told = capsys.readouterr().err
  assert message in told and told.count('\n') == 1
  assert not (tmp_path / 'sets').exists()


def test_a_set_that_is_there_stays(tmp_path, capsys):
  path = tmp_path / 'list.csv'
  path.write_text('path,label\na.mp4,run\n')
  (tmp_path / 'sets' / 'mine' / '1.0.0').mkdir(parents=True)
  flags = ('--source=csv', f'--path={path}', '--name=mine')
  assert prepared(tmp_path / 'sets', *flags) == 2
  assert 'mine/1.0.0 exists; remove it' in capsys.readouterr().err

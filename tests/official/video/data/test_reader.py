import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from official.video.configs import data as data_config
from official.video.data import index, reader
from official.video.errors import UserError
from tests import clips

LABELS = [i % 3 for i in range(11)]


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  return clips.write_split(tmp_path_factory.mktemp('records'), 'train', LABELS)


def config(manifest, **fields):
  defaults = {
    'input_path': str(manifest),
    'global_batch_size': 4,
    'feature_shape': (4, 24, 24, 3),
    'temporal_stride': 2,
    'num_views': 2,
    'augmentation': data_config.Augmentation(policy='none', flip_probability=0.0),
  }
  return data_config.DataConfig(**(defaults | fields))


def batches(config, steps=None, context=None, start_step=0):
  dataset = reader.build_dataset(config, index.load_index(config), context, start_step)
  dataset = dataset if steps is None else dataset.take(steps)
  return [{k: v.numpy() for k, v in batch.items()} for batch in dataset]


def evaluation(manifest, **fields):
  return config(
    manifest, is_training=False, num_views=0, **({'num_test_clips': 1} | fields)
  )


def context(pipelines, pipeline, replicas=None):
  return tf.distribute.InputContext(pipelines, pipeline, replicas or pipelines)


def test_views_show_the_record_that_the_batch_names(manifest):
  for batch in batches(config(manifest), 3):
    assert batch['views'].shape == (4, 2, 4, 24, 24, 3)
    assert batch['views'].dtype == np.float32
    red = np.rint(batch['views'][..., 0].mean((1, 2, 3, 4)) * 255 / 8)
    assert red.tolist() == batch['record'].tolist()
    assert batch['label'].tolist() == [LABELS[r] for r in batch['record']]


def test_frames_of_a_view_are_one_stride_apart(manifest):
  batch = batches(config(manifest), 1)[0]
  green = np.rint(batch['views'][..., 1].mean((3, 4)) * 255 / 4)
  assert np.all(np.abs(np.diff(green, axis=2) - 2) <= 1)


def test_an_epoch_holds_no_record_twice_and_epochs_differ(manifest):
  rows = np.stack([b['record'] for b in batches(config(manifest), 20)])
  epochs = rows.reshape(10, 8)
  for epoch in epochs:
    assert len(set(epoch)) == 8
  assert not np.array_equal(epochs[0], epochs[1])
  assert set(rows.ravel()) == set(range(11))


def test_the_order_mixes_the_whole_set():
  rows = [
    int(reader.training_position(tf.constant(p, tf.int64), 1000, 10, 3).row)
    for p in range(200)
  ]
  assert len(set(rows)) == 200
  assert abs(np.corrcoef(rows, np.arange(200))[0, 1]) < 0.2
  assert max(rows) > 900 > 100 > min(rows)


def test_starting_at_any_step_continues_bit_for_bit(manifest):
  settings = config(manifest, augmentation=data_config.Augmentation(policy='cvrl'))
  whole = batches(settings, 5)
  for start in range(5):
    rest = batches(settings, 5 - start, start_step=start)
    for expected, actual in zip(whole[start:], rest, strict=True):
      for key in expected:
        np.testing.assert_array_equal(actual[key], expected[key], err_msg=key)


@pytest.mark.parametrize('pipelines', [2, 4])
def test_pipelines_share_the_same_global_batches(manifest, pipelines):
  whole = batches(config(manifest), 3)
  parts = [batches(config(manifest), 3, context(pipelines, p)) for p in range(pipelines)]
  for step, expected in enumerate(whole):
    joined = np.concatenate([part[step]['views'] for part in parts])
    np.testing.assert_array_equal(joined, expected['views'])


def test_seed_changes_order_and_draws(manifest):
  first = batches(config(manifest), 1)[0]
  other = batches(config(manifest, seed=7), 1)[0]
  assert first['record'].tolist() != other['record'].tolist()


def test_evaluation_sees_each_record_once_and_pads(manifest):
  seen = batches(evaluation(manifest))
  assert all(len(b['record']) == 4 for b in seen)
  valid = np.concatenate([b['valid'] for b in seen])
  rows = np.concatenate([b['record'] for b in seen])
  assert rows[valid].tolist() == list(range(11))
  assert valid.sum() == 11 and len(valid) == 12


def test_evaluation_over_pipelines_is_complete(manifest):
  parts = [batches(evaluation(manifest), context=context(2, p)) for p in range(2)]
  assert len(parts[0]) == len(parts[1])
  rows = [int(r) for p in parts for b in p for r in b['record'][b['valid']]]
  assert sorted(rows) == list(range(11))


def test_test_clips_are_evenly_spaced_and_crops_apart(manifest):
  seen = batches(evaluation(manifest, num_test_clips=3, num_test_crops=3))
  views = np.concatenate([b['test_views'][b['valid']] for b in seen])
  assert views.shape == (33, 3, 4, 24, 24, 3) and views.dtype == np.uint8
  # Clips start at 0, 16 and 32 of 40 frames (32 = 40 - 4 * 2).
  starts = np.rint(views[:3, 1, 0, ..., 1].mean((1, 2)) / 4)
  assert starts.tolist() == [0, 16, 32]
  blue = views[0, :, 0, ..., 2].mean((1, 2))
  assert blue[0] < blue[1] - 20 and blue[1] < blue[2] - 20


def test_a_clip_longer_than_its_video_wraps_around(tmp_path):
  short = clips.write_split(tmp_path, 'short', [0, 1], num_shards=1, num_frames=3)
  seen = batches(evaluation(short, feature_shape=(4, 24, 24, 3), temporal_stride=1))
  green = np.rint(seen[0]['test_views'][0, 0, ..., 1].mean((1, 2)) / 4)
  assert green.tolist() == [0, 1, 2, 0]


def test_records_of_the_model_gardens_test_helper_are_read(tmp_path, monkeypatch):
  from official.vision.data import fake_feature_generator
  from official.vision.dataloaders import tfexample_utils

  # The helper's image generator calls NumPy with an argument that NumPy 2.4 dropped.
  monkeypatch.setattr(
    fake_feature_generator,
    'generate_image_np',
    lambda h, w, c=3: (np.arange(h * w * c) % 255).astype(np.uint8).reshape(h, w, c),
  )
  example = tfexample_utils.make_video_test_example((48, 64, 3), (2, 8), 5)
  path = str(tmp_path / 'theirs.tfrecord')
  tfexample_utils.dump_to_tfrecord(path, tf_examples=[example, example])
  seen = batches(evaluation(path, global_batch_size=2))
  assert seen[0]['label'].tolist() == [5, 5]
  assert seen[0]['test_views'].shape == (2, 1, 4, 24, 24, 3)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'global_batch_size': 12}, 'has only 11 records'),
    ({'global_batch_size': 0}, 'global_batch_size 0'),
    ({'num_views': 0}, 'nothing is read'),
    ({'num_test_clips': 3}, 'at most one test clip'),
  ],
)
def test_impossible_configs_are_refused(manifest, fields, message):
  with pytest.raises(UserError, match=message):
    batches(config(manifest, **fields), 1)


def test_a_batch_that_pipelines_do_not_divide_is_refused(manifest):
  with pytest.raises(UserError, match='multiple of the 3 input pipelines'):
    batches(config(manifest), 1, context(3, 0))


def test_a_flipped_byte_is_noticed(manifest, tmp_path):
  for file in manifest.parent.iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  shard = tmp_path / 'train-00000-of-00002.tfrecord'
  data = bytearray(shard.read_bytes())
  data[2000] ^= 1
  shard.write_bytes(bytes(data))
  with pytest.raises(tf.errors.DataLossError):
    batches(dataclasses.replace(evaluation(manifest), input_path=str(tmp_path)))

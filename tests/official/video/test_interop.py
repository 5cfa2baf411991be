"""The Model Garden reads our records; we read those of TensorFlow Datasets."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from official.video.configs import data as data_config
from official.video.data import index, reader
from official.video.errors import UserError
from tests import clips


@pytest.mark.slow
def test_the_model_gardens_classification_trains_on_our_records(tmp_path):
  from official.core import exp_factory, task_factory, train_lib
  from official.vision import tasks  # noqa: F401  (registers the task and its experiments)

  manifest = clips.write_split(
    tmp_path / 'records', 'train', [0, 1, 2, 0], num_frames=12, size=(48, 48)
  )
  params = exp_factory.get_exp_config('video_classification_kinetics400')
  data = {
    'input_path': str(manifest.parent / 'train-*.tfrecord'),
    'global_batch_size': 2,
    'feature_shape': (4, 32, 32, 3),
    'temporal_stride': 2,
    'num_classes': 3,
    'min_image_size': 32,
    'num_examples': 4,
    'num_test_clips': 1,
    'num_test_crops': 1,
    'shuffle_buffer_size': 4,
    'dtype': 'float32',
  }
  params.override(
    {
      'task': {
        'train_data': data,
        'validation_data': data | {'is_training': False},
        'model': {'backbone': {'type': 'resnet_3d', 'resnet_3d': {'model_id': 50}}},
      },
      'trainer': {
        'train_steps': 2,
        'steps_per_loop': 1,
        'summary_interval': 1,
        'validation_interval': 2,
        'validation_steps': 1,
        'checkpoint_interval': 2,
      },
    }
  )
  model, _ = train_lib.run_experiment(
    distribution_strategy=tf.distribute.OneDeviceStrategy('/cpu:0'),
    task=task_factory.get_task(params.task, logging_dir=str(tmp_path / 'run')),
    mode='train',
    params=params,
    model_dir=str(tmp_path / 'run'),
  )
  assert tf.train.latest_checkpoint(str(tmp_path / 'run')).endswith('ckpt-2')
  assert all(np.isfinite(v.numpy()).all() for v in model.trainable_variables)


class TinyVideos(tfds.core.GeneratorBasedBuilder):
  """Ten clips whose pixels say which clip and frame they are."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(
        {
          'video': tfds.features.Video(shape=(None, 48, 64, 3)),
          'label': tfds.features.ClassLabel(names=['run', 'jump', 'sit']),
        }
      )
    )

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples(10), 'test': self._generate_examples(3)}

  def _generate_examples(self, count):
    for clip in range(count):
      frames = np.stack([clips.frame_image(clip, frame) for frame in range(12)])
      yield f'{clip:02d}', {'video': frames, 'label': clip % 3}


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tfds')
  builder = TinyVideos(data_dir=str(folder), file_format='tfrecord')
  builder.download_and_prepare()
  return folder


def config(prepared, **fields):
  defaults = {
    'tfds_name': 'tiny_videos',
    'tfds_data_dir': str(prepared),
    'tfds_split': 'train',
    'global_batch_size': 5,
    'is_training': False,
    'feature_shape': (4, 24, 24, 3),
    'temporal_stride': 1,
    'num_test_clips': 1,
  }
  return data_config.DataConfig(**(defaults | fields))


def read(settings):
  dataset = reader.build_dataset(settings, index.load_index(settings))
  found = []
  for batch in dataset:
    valid = batch['valid'].numpy()
    found += zip(
      batch['test_views'].numpy()[valid], batch['label'].numpy()[valid], strict=True
    )
  return found


def truth(prepared, split):
  """The clips of a split in the order that TFDS itself reads them."""
  builder = TinyVideos(data_dir=str(prepared), file_format='tfrecord')
  dataset = builder.as_dataset(split=split, shuffle_files=False)
  return [(e['video'].numpy(), int(e['label'])) for e in dataset]


def test_the_names_of_the_classes_are_those_of_tfds(prepared):
  assert index.load_index(config(prepared)).label_names == ('run', 'jump', 'sit')


@pytest.mark.parametrize('split', ['train', 'train[:50%]', 'train[7:]', 'test'])
def test_a_split_of_tfds_is_read(prepared, split):
  expected = truth(prepared, split)
  found = read(config(prepared, tfds_split=split))
  assert (
    len(found)
    == len(expected)
    == {'train': 10, 'test': 3}.get(split, 3 if '7' in split else 5)
  )
  for (views, label), (frames, expected_label) in zip(found, expected, strict=True):
    assert label == expected_label
    # Colours but the gradient survive the centre crop and resize of lossless frames.
    np.testing.assert_array_equal(
      views[0, ..., 0], np.full((4, 24, 24), frames[0, 0, 0, 0])
    )
    start = views[0, 0, 0, 0, 1] // 4
    green = frames[start : start + 4, 0, 0, 1]
    np.testing.assert_array_equal(views[0, :, 12, 12, 1], green)


def test_training_views_come_from_tfds_too(prepared):
  settings = config(
    prepared,
    is_training=True,
    num_views=2,
    num_test_clips=0,
    augmentation=data_config.Augmentation(policy='none'),
  )
  dataset = reader.build_dataset(settings, index.load_index(settings))
  batch = next(iter(dataset))
  reds = {int(frames[0, 0, 0, 0]): label for frames, label in truth(prepared, 'train')}
  red = np.rint(batch['views'].numpy()[..., 0].mean((1, 2, 3, 4)) * 255).astype(int)
  assert [reds[r] for r in red] == batch['label'].numpy().tolist()


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'tfds_name': 'no_such_set'}, "tfds_name 'no_such_set': unknown"),
    ({'tfds_split': 'holdout'}, r"tfds_split 'holdout': tiny_videos has \['test', 'tr"),
    ({'tfds_data_dir': '/nowhere'}, "tfds_name 'tiny_videos': not prepared in"),
    ({'tfds_split': ''}, "tfds_split ''"),
  ],
)
def test_mistakes_are_named(prepared, fields, message):
  with pytest.raises(UserError, match=message) as error:
    index.load_index(config(prepared, **fields))
  assert '\n' not in str(error.value)

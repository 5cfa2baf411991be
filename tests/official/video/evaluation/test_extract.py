import numpy as np
import pytest
import tensorflow as tf

from official.video.configs import data as data_config
from official.video.data import index
from official.video.errors import UserError
from official.video.evaluation import encoding, extract, protocols
from tests import clips

LABELS = [0, 1, 2, 0, 1, 2, 0]


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  return clips.write_split(tmp_path_factory.mktemp('records'), 'test', LABELS)


def config(manifest, **fields):
  defaults = {
    'input_path': str(manifest),
    'global_batch_size': 4,
    'is_training': False,
    'feature_shape': (4, 24, 24, 3),
    'temporal_stride': 2,
    'num_test_clips': 3,
    'num_test_crops': 3,
  }
  return data_config.DataConfig(**(defaults | fields))


def colours(views):
  """Mean red, green and blue: the record, the frames and the place of the crop."""
  return {'feature': tf.reduce_mean(tf.cast(views, tf.float32), [1, 2, 3])}


def encode(manifest, encoder=colours, keep_clips=False, **fields):
  settings = config(manifest, **fields)
  encoder = encoding.Encoder(encoder)
  return extract.encode(settings, index.load_index(settings), encoder, keep_clips)


@pytest.mark.parametrize('batch', [1, 4, 7, 32])
def test_features_are_means_over_clips_and_crops(manifest, batch):
  encoded = encode(manifest, global_batch_size=batch)
  assert encoded.feature.shape == (7, 3)
  assert encoded.labels.tolist() == LABELS
  assert encoded.records.tolist() == list(range(7))
  assert encoded.expected == 7
  red, green, blue = encoded.feature.T
  np.testing.assert_allclose(red, 8 * np.arange(7), atol=1.5)
  # Clips start at 0, 16 and 32; a clip's frames are 3 after its start on average.
  np.testing.assert_allclose(green, 4 * (16 + 3), atol=1.5)
  np.testing.assert_allclose(blue, 127.5, atol=3)


def test_one_view_differs_from_the_mean(manifest):
  first = encode(manifest, num_test_clips=1, num_test_crops=1)
  # The clip in the middle of 40 frames: 17, 19, 21, 23 or one frame beside.
  np.testing.assert_allclose(first.feature[:, 1], 4 * 20, atol=5.5)


def test_the_encoder_sees_every_view_and_no_more_at_once_than_a_batch(manifest):
  seen = []

  def counting(views):
    seen.append(len(views))
    return colours(views)

  encode(manifest, counting)
  # 7 records x 3 clips in batches of 4 places, 3 crops each.
  assert sum(seen) == 24 * 3
  assert set(seen) == {4 * 3}


def test_several_outputs_and_clips_are_kept(manifest):
  def two(views):
    return colours(views) | {'probability': tf.ones([len(views), 5]) / 5}

  encoded = encode(manifest, two, keep_clips=True)
  assert encoded.outputs['probability'].shape == (7, 5)
  np.testing.assert_allclose(encoded.outputs['probability'], 0.2, rtol=1e-5)
  assert encoded.clips.shape == (7, 4, 24, 24, 3)
  red = encoded.clips[..., 0].mean((1, 2, 3))
  np.testing.assert_allclose(red, 8 * np.arange(7), atol=1.5)
  assert encode(manifest).clips is None


def test_a_training_config_is_read_in_order_too(manifest):
  encoded = encode(manifest, is_training=True, num_views=2, num_test_clips=0)
  assert encoded.records.tolist() == list(range(7))


def test_an_unreadable_record_shifts_no_other(tmp_path):
  broken = clips.write_split(tmp_path, 'test', LABELS, truncate_frames_of=1)
  encoded = encode(broken, num_test_clips=1, num_test_crops=1)
  assert encoded.records.tolist() == [0, 2, 3, 4, 5, 6]
  assert encoded.labels.tolist() == [LABELS[row] for row in encoded.records]
  np.testing.assert_allclose(encoded.feature[:, 0], 8 * encoded.records, atol=1.5)
  assert encoded.expected == 7


def made(features, labels, expected=None):
  return extract.Encoded(
    {'feature': features.astype(np.float32)},
    np.asarray(labels),
    np.arange(len(labels)),
    expected or len(labels),
  )


def classes_apart(count, generator):
  labels = np.arange(count) % 3
  return 4 * np.eye(3, 8)[labels] + 0.1 * generator.normal(size=(count, 8)), labels


def table(manifest):
  return index.load_index(config(manifest))


def test_perfect_features_score_one(manifest):
  generator = np.random.default_rng(0)
  train = made(*classes_apart(60, generator))
  test = made(*classes_apart(30, generator), expected=33)
  names = table(manifest)
  scores = protocols.score(('knn', 'retrieval', 'linear'), train, test, names, names)
  assert scores['knn']['top1'] == 1
  assert scores['linear']['top1'] == 1
  assert set(scores['retrieval'].values()) == {1.0}
  assert (scores['evaluated'], scores['expected']) == (30, 33)
  assert scores['gallery'] == {'evaluated': 60, 'expected': 60}


def test_features_without_the_labels_score_chance(manifest):
  generator = np.random.default_rng(0)
  features, labels = classes_apart(300, generator)
  train = made(features, generator.permutation(labels))
  test = made(features, generator.permutation(labels))
  names = table(manifest)
  scores = protocols.score(('knn', 'retrieval', 'linear'), train, test, names, names)
  # A third, give or take three standard deviations.
  assert scores['knn']['top1'] == pytest.approx(1 / 3, abs=0.09)
  assert scores['linear']['top1'] == pytest.approx(1 / 3, abs=0.09)
  assert scores['retrieval']['R@1'] == pytest.approx(1 / 3, abs=0.09)


def test_data_without_labels_is_refused(manifest):
  generator = np.random.default_rng(0)
  features, labels = classes_apart(9, generator)
  names = table(manifest)
  blank = made(features, np.full(9, -1))
  with pytest.raises(UserError, match='without a label'):
    protocols.score(('knn',), made(features, labels), blank, names, names)

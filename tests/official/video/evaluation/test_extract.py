import collections
import functools
import json

import numpy as np
import pytest
import tensorflow as tf

from official.video.data import index, records
from official.video.errors import UserError
from official.video.evaluation import encoding, extract, protocols, store
from tests import clips
from tests.encoders import Killed, by_place, colours, config, killed_after

LABELS = [0, 1, 2, 0, 1, 2, 0]


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  return clips.write_split(tmp_path_factory.mktemp('records'), 'test', LABELS)


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


def test_clips_longer_than_their_videos_are_told(manifest, capsys):
  # Videos have 40 frames: a clip of stride 13 has its last at 39, one of 14 has none there.
  encode(manifest, temporal_stride=13, num_test_clips=1)
  assert 'note' not in capsys.readouterr().err
  encode(manifest, temporal_stride=14, num_test_clips=1)
  assert (
    'note: task.validation_data: 100 % of the clips show frames again, as their videos are '
    'shorter than 4 frames of temporal_stride 14;'
  ) in capsys.readouterr().err


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


@pytest.mark.parametrize('crops', [1, 3])
def test_a_frame_is_decoded_once_for_all_crops(manifest, monkeypatch, crops):
  decoded = collections.Counter()

  def counted(decode, frame, *given, **named):
    def count(content):
      decoded[content] += 1
      return content

    passed = tf.numpy_function(count, [frame], tf.string)
    passed.set_shape([])
    return decode(passed, *given, **named)

  for place in (tf.image, tf.io):
    for name in ('decode_jpeg', 'decode_and_crop_jpeg'):
      decode = getattr(place, name)
      monkeypatch.setattr(place, name, functools.partial(counted, decode))
  encode(manifest, global_batch_size=7, num_test_clips=2, num_test_crops=crops)
  # 7 records, 2 clips of 4 frames that have none in common; and no more than that.
  assert sum(decoded.values()) == 7 * 2 * 4 == len(decoded)


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


@pytest.mark.parametrize(
  ('after', 'settings'),
  [(2, {}), (4, {}), (4, {'test_clip_step': 8, 'num_test_clips': 5})],
)
def test_a_killed_encoding_goes_on_bit_for_bit(
  manifest, tmp_path, monkeypatch, capsys, after, settings
):
  monkeypatch.setattr(store, '_EVERY', 0)
  config_ = config(manifest, **settings)
  table = index.load_index(config_)

  def run(encoder, folder):
    with store.Store(str(tmp_path / folder)) as kept:
      made = encoding.Encoder(encoder)
      return extract.encode(config_, table, made, keep_clips=True, kept=kept)

  whole = run(by_place, 'whole')
  with pytest.raises(Killed):
    run(killed_after(after), 'part')
  assert (
    not (tmp_path / 'part' / 'about.json').exists()
    or not json.loads((tmp_path / 'part' / 'about.json').read_text())['done']
  )
  seen = []

  def counted(views):
    seen.append(len(views))
    return by_place(views)

  again = run(counted, 'part')
  for name in ('feature', 'labels', 'records', 'clips'):
    np.testing.assert_array_equal(getattr(whole, name), getattr(again, name))
  if after >= 4 and not settings:  # Three batches hold four records and no part of one.
    assert len(seen) == 3 and 'goes on behind 4 of 7 clips' in capsys.readouterr().err
  seen.clear()
  run(counted, 'part')
  assert not seen  # What is there is not encoded again.


def test_an_encoder_is_made_where_something_is_left(manifest, tmp_path):
  config_ = config(manifest)
  table, made = index.load_index(config_), []

  def make():
    made.append(1)
    return encoding.Encoder(colours)

  for _ in range(2):
    with store.Store(str(tmp_path)) as kept:
      extract.encode(config_, table, make, kept=kept)
  assert made == [1]


def test_a_record_that_cannot_be_read_at_the_seam_costs_itself_only(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(store, '_EVERY', 0)
  broken = clips.write_split(tmp_path, 'test', LABELS, truncate_frames_of=4)
  config_ = config(broken, global_batch_size=3)
  table = index.load_index(config_)
  folder = str(tmp_path / 'kept')
  with pytest.raises(Killed), store.Store(folder) as kept:
    extract.encode(config_, table, encoding.Encoder(killed_after(5)), kept=kept)
  with store.Store(folder) as kept:
    assert kept.next == 4  # The damaged one.
    again = extract.encode(config_, table, encoding.Encoder(by_place), kept=kept)
  whole = extract.encode(config_, table, encoding.Encoder(by_place))
  assert again.records.tolist() == [0, 1, 2, 3, 5, 6] == whole.records.tolist()
  np.testing.assert_array_equal(again.feature, whole.feature)


def test_labels_of_several_are_kept(tmp_path):
  several = [(0, 2), (1,), (2, 0, 1)]
  made = clips.write_split(
    tmp_path,
    'test',
    [labels[0] for labels in several],
    fields=lambda row: {records.LABEL_INDEX: list(several[row])},
  )
  encoded = encode(made, num_labels=4)
  assert encoded.labels.tolist() == [[0, 2, -1, -1], [1, -1, -1, -1], [2, 0, 1, -1]]


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

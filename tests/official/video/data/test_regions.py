"""Region generators: statistics, independence of draws, crop and flip."""

import numpy as np
import pytest
import tensorflow as tf

from official.video import draws
from official.video.configs import data as data_config
from official.video.data import regions
from official.video.errors import UserError
from tests import modes


def shown(key, boxes=None, tracks=None, window=None, flip=False, size=(100, 200)):
  image = tf.zeros([64, 64, 3], tf.uint8)
  boxes = tf.zeros([0, 4]) if boxes is None else tf.constant(boxes, tf.float32)
  if tracks is None:
    tracks = tf.fill(tf.shape(boxes)[:1], tf.constant(-1, tf.int64))
  window = tf.constant([0, 0, *size] if window is None else window, tf.int32)
  size = tuple(tf.constant(side) for side in size)
  return regions.Shown(
    key, draws.fold(key, 'clip'), image, window, tf.constant(flip), size, boxes,
    tf.cast(tracks, tf.int64),
  )  # fmt: skip


def random_boxes(count=2000, **kwargs):
  generator = regions.RandomRegions(**kwargs)
  return modes.over_keys(lambda key: generator(shown(key), 8)[0], count)


def unclipped(boxes):
  """Left, top, and where nothing is cut off width and aspect."""
  top, left, bottom, right = np.moveaxis(boxes.reshape(-1, 4), -1, 0)
  whole = (bottom < 0.9985) & (right < 0.9985)
  return left, top, (right - left)[whole], ((bottom - top) / (right - left))[whole]


def test_random_regions_have_the_intended_statistics():
  boxes = random_boxes()
  top, left, bottom, right = np.moveaxis(boxes, -1, 0)
  area = (bottom - top) * (right - left)
  clipped = (bottom > 0.9985) | (right > 0.9985)
  assert clipped.mean() == pytest.approx(0.547, abs=0.012)
  assert area.mean() == pytest.approx(0.077, abs=0.002)
  assert np.median(area) == pytest.approx(0.053, abs=0.003)
  assert (area < 0.01).mean() == pytest.approx(0.102, abs=0.008)
  assert ((left + right) / 2).mean() == pytest.approx(0.62, abs=0.01)
  assert ((top + bottom) / 2).mean() == pytest.approx(0.64, abs=0.01)
  assert modes.kolmogorov(left.ravel(), lambda x: np.clip(x, 0, 1)) < 0.015
  assert (boxes[..., 2:] > boxes[..., :2]).all()
  assert boxes.dtype == np.float32


def test_no_two_coordinates_of_random_regions_are_related():
  generator = regions.RandomRegions()
  names = ('left', 'top', 'width', 'aspect')
  drawn = modes.over_keys(
    lambda key: tf.stack([generator._draw(key, name, 8) for name in names], -1), 2000
  )
  # Of one box, and of neighbours in one view.
  beside = np.concatenate([drawn[:, :-1], drawn[:, 1:]], -1).reshape(-1, 8)
  correlation = np.corrcoef(beside.T) - np.eye(8)
  assert np.abs(correlation).max() < 0.035
  left, top, width, aspect = unclipped(random_boxes())
  assert abs(np.corrcoef(left, top)[0, 1]) < 0.035
  assert width.min() >= 0.1 and width.max() <= 0.5 + 1e-6
  assert aspect.min() >= 0.5 - 1e-4 and aspect.max() <= 2 + 1e-4


def test_reference_compatible_regions_begin_on_the_diagonal():
  top, left, _, right = np.moveaxis(random_boxes(200, reference_compatible=True), -1, 0)
  np.testing.assert_array_equal(top, left)
  whole = right < 0.9985
  np.testing.assert_allclose((right - left)[whole], (0.1 + 0.4 * left)[whole], atol=1e-5)


@pytest.mark.parametrize('name', ['random', 'grid'])
def test_eager_and_mapped_regions_are_the_same(name):
  generator = regions.build_generator(data_config.Regions(generator=name))
  key = draws.sample_key(3, 1, 4)
  one = modes.assert_same(lambda k: generator(shown(k), 6), key, atol=1e-6)
  again = modes.eager(lambda k: generator(shown(k), 6), key)
  np.testing.assert_array_equal(one[0], again[0])
  other = generator(shown(draws.fold(key, 1)), 6)[0].numpy()
  assert (name == 'grid') == np.array_equal(one[0], other)


@pytest.mark.parametrize(('count', 'cells'), [(8, (2, 4)), (9, (3, 3)), (5, (1, 5))])
def test_grid_covers_the_view_without_overlap(count, cells):
  boxes, valid = regions.GridRegions()(shown(draws.sample_key(0, 0, 0)), count)
  top, left, bottom, right = boxes.numpy().T
  assert valid.numpy().all()
  np.testing.assert_allclose((bottom - top) * (right - left), 1 / count, rtol=1e-5)
  assert len(set(zip(top, left, strict=True))) == count
  assert (len(set(top)), len(set(left))) == cells
  assert (boxes.numpy().min(), boxes.numpy().max()) == (0, 1)


BOXES = [[0.1, 0.1, 0.3, 0.2], [0.5, 0.6, 0.9, 0.8], [0.2, 0.7, 0.4, 0.95]]


def test_annotated_regions_follow_crop_and_flip():
  key = draws.sample_key(0, 0, 1)
  view = shown(key, BOXES, window=[40, 100, 60, 100], flip=True)
  boxes, valid = regions.AnnotatedRegions()(view, 4)
  assert valid.numpy().tolist() == [True, False, False, False]
  # In pixels of the 100 x 200 frame: rows 50 to 90, columns 120 to 160.
  np.testing.assert_allclose(boxes[0], [10 / 60, 0.4, 50 / 60, 0.8], rtol=1e-5)
  np.testing.assert_array_equal(boxes[1:], [[0, 0, 1, 1]] * 3)


def test_annotated_regions_come_in_another_order_for_each_view():
  orders = {
    tuple(regions.AnnotatedRegions()(shown(key, BOXES), 3)[0][:, 0].numpy().tolist())
    for key in (draws.sample_key(0, 0, i) for i in range(40))
  }
  assert len(orders) == 6
  boxes, valid = regions.AnnotatedRegions()(shown(draws.sample_key(0, 0, 0), BOXES), 2)
  assert boxes.shape == (2, 4) and valid.numpy().all()


def test_boxes_that_are_hardly_seen_are_invalid():
  view = shown(draws.sample_key(0, 0, 0), BOXES[:1], window=[28, 0, 70, 200])
  _, valid = regions.AnnotatedRegions(min_visible=0.25)(view, 2)
  assert not valid.numpy().any()
  _, valid = regions.AnnotatedRegions(min_visible=0.05)(view, 2)
  assert valid.numpy().tolist() == [True, False]


@pytest.mark.parametrize('record', range(6))
def test_tracks_keep_their_place_in_both_views(record):
  key = draws.sample_key(0, 0, record)
  first = shown(draws.fold(key, 0), BOXES, [7, 2, 4])._replace(clip_key=key)
  second = shown(
    draws.fold(key, 1), BOXES[::-1], [4, 2, 7], window=[0, 100, 100, 100]
  )._replace(clip_key=key)
  generator = regions.TrackedRegions()
  (boxes_a, valid_a), (boxes_b, valid_b) = (generator(v, 8) for v in (first, second))
  assert valid_a.numpy().sum() == 3 and valid_b.numpy().sum() == 2
  both = (valid_a & valid_b).numpy()
  assert both.sum() == 2
  expected = boxes_a.numpy()[both] * [1, 2, 1, 2] - [0, 1, 0, 1]
  np.testing.assert_allclose(boxes_b.numpy()[both], expected, atol=1e-5)


def test_tracks_that_share_a_place_do_not_mix():
  key = draws.sample_key(0, 0, 0)
  view = shown(key, BOXES, [1, 3, 5])
  boxes, valid = regions.TrackedRegions()(view, 2)
  assert valid.numpy().sum() == 1
  np.testing.assert_allclose(boxes.numpy()[valid.numpy()], BOXES[:1], rtol=1e-6)


def test_superpixels_bound_what_is_there():
  image = np.full((64, 64, 3), 40, np.uint8)
  image[8:24, 32:56] = [250, 30, 30]
  view = shown(draws.sample_key(0, 0, 0))._replace(image=tf.constant(image))
  generator = regions.SuperpixelRegions(segments=8)

  def make(key):
    return generator(view._replace(key=key), 24)

  boxes, valid = modes.assert_same(make, draws.sample_key(0, 0, 0), jit=False)
  kept = boxes[valid]
  assert 1 < len(kept) <= 24
  expected = np.array([8, 32, 24, 56]) / 64
  assert np.abs(kept - expected).max(1).min() < 0.05
  few, valid = generator(view, 2)
  assert few.shape == (2, 4) and valid.numpy().all()


def test_annotations_next_in_time():
  clip = {
    key: tf.RaggedTensor.from_row_splits(tf.constant([0.1, 0.2, 0.3]), [0, 1, 3])
    for key in regions.ANNOTATION_KEYS[:4]
  }
  rows = tf.RaggedTensor.from_row_splits
  clip |= {
    'region/timestamp': rows(tf.constant([0, 1000], tf.int64), [0, 1, 2]),
    'region/track/index': rows(tf.constant([5, 6, 7], tf.int64), [0, 1, 3]),
    'image/timestamp': rows(tf.range(0, 2000, 400, tf.int64), range(6)),
  }
  for frame, expected in ((0, [5]), (1, [5]), (2, [6, 7]), (4, [6, 7])):
    boxes, tracks = regions.annotations_at(clip, tf.constant(frame))
    assert tracks.numpy().tolist() == expected
    assert boxes.shape == (len(expected), 4)
  empty = tf.RaggedTensor.from_row_splits(tf.zeros([0]), [0])
  nothing = clip | dict.fromkeys(regions.ANNOTATION_KEYS[:4], empty)
  none = tf.RaggedTensor.from_row_splits(tf.zeros([0], tf.int64), [0])
  nothing |= {'region/timestamp': none, 'region/track/index': none}
  assert regions.annotations_at(nothing, tf.constant(0))[0].shape == (0, 4)


def test_unknown_generators_are_refused():
  with pytest.raises(UserError, match=r"regions.generator 'rand'.*'random'"):
    regions.build_generator(data_config.Regions(generator='rand'))

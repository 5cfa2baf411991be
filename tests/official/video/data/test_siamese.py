"""Pairs of frames for tracking, worked out again in NumPy."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from official.video import draws
from official.video.configs import data as data_config
from official.video.data import records, siamese
from official.video.errors import UserError

FRAME = (150, 200)
SEARCH, EXEMPLAR = 255, 127
# Left, top, width and height, the first pixel being 0.
BOXES = np.array(
  [[60, 50, 40, 30], [70, 55, 44, 33], [75, 52, 36, 40], [66, 48, 30, 30.0]]
)


def frame(number: int) -> bytes:
  """A frame that says of each pixel where it is, and in which frame."""
  image = np.zeros((*FRAME, 3), np.uint8)
  image[..., 0], image[..., 1] = np.arange(FRAME[1]), np.arange(FRAME[0])[:, None]
  image[..., 2] = 40 * number
  return tf.io.encode_png(image).numpy()


def clip_of(boxes=BOXES, cover=None) -> dict:
  """A parsed record; see `parsing.parse_record`."""
  left, top, width, height = boxes.T
  sides = np.stack([top / FRAME[0], left / FRAME[1]], 1)
  sides = np.concatenate(
    [sides, np.stack([(top + height) / FRAME[0], (left + width) / FRAME[1]], 1)], 1
  )
  ragged = {
    key: tf.RaggedTensor.from_tensor(tf.constant(sides[:, i : i + 1], tf.float32))
    for i, key in enumerate(siamese._SIDES)
  }
  times = tf.RaggedTensor.from_tensor(
    tf.range(len(boxes), dtype=tf.int64)[:, None] * 40_000
  )
  return ragged | {
    'frames': tf.constant([frame(number) for number in range(len(boxes))]),
    records.REGION_TIMESTAMP: times,
    records.IMAGE_TIMESTAMP: times,
    siamese.COVER: tf.constant([cover] if cover else [], tf.string),
  }


def config(flip=0.0, **fields) -> data_config.DataConfig:
  augmentation = data_config.Augmentation(flip_probability=flip)
  return data_config.DataConfig(
    **{
      'views': 'siamese',
      'num_views': 2,
      'feature_shape': (1, SEARCH, SEARCH, 3),
      'augmentation': augmentation,
    }
    | fields
  )


def key_of(number: int) -> tf.Tensor:
  return draws.sample_key(0, 0, number)


def expected_square(key, box, size: int) -> tuple[np.ndarray, float]:
  """Centre (x, y) and side of a view, in pixels of the frame."""
  left, top, width, height = box
  context = (width + height) / 2
  side = np.sqrt((width + context) * (height + context)) * size / EXEMPLAR
  side /= draws.uniform(key, 'stretch', (), 0.95, 1.05).numpy()
  shift = draws.uniform(key, 'shift', (2,), -4.0, 4.0).numpy()[::-1]
  centre = np.array([left + (width - 1) / 2, top + (height - 1) / 2])
  return centre + shift * side / size, side


def expected_pixels(centre: float, side: float, size: int, extent: int) -> np.ndarray:
  """[size] what a row or column of a view shows of a ramp; NaN outside of the frame."""
  places = centre + (side - 1) * (np.arange(size) / (size - 1) - 0.5)
  return np.where((places >= 0) & (places <= extent - 1), places, np.nan)


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_views_show_the_squares_that_numpy_works_out(flip):
  maker = siamese.SiameseViewMaker(config(flip))
  for number in range(4):
    made = maker.training_sample(clip_of(), key_of(number))
    steps = []
    for name, size in (('exemplar', EXEMPLAR), ('search', SEARCH)):
      view = made[name][0].numpy().astype(float)
      assert view.shape == (size, size, 3)
      step = round(view[size // 2, size // 2, 2] / 40)
      steps.append(step)
      key = draws.fold(key_of(number), name)
      centre, side = expected_square(key, BOXES[step], size)
      xs = expected_pixels(centre[0], side, size, FRAME[1])
      ys = expected_pixels(centre[1], side, size, FRAME[0])
      middle = size // 2
      for actual, expected in (
        (view[middle, :, 0][:: -1 if flip else 1], xs),
        (view[:, middle, 1], ys),
      ):
        shown = ~np.isnan(expected)
        assert shown.sum() > size / 2
        # Pixels are rounded to integers.
        np.testing.assert_allclose(actual[shown], expected[shown], atol=0.51)
    assert steps[0] < steps[1]


def test_views_are_stretched_and_shifted_as_far_as_published():
  key = tf.stack([key_of(number) for number in range(500)])
  box = tf.constant([50.0, 60, 80, 100])
  centers, sides = tf.map_fn(
    lambda k: siamese.draw_square(k, box, 2.0, SEARCH),
    key,
    fn_output_signature=(tf.float32, tf.float32),
  )
  plain = 2 * np.sqrt((40 + 35) * (30 + 35))
  stretch = plain / sides.numpy()
  assert 0.95 <= stretch.min() < 0.952 and 1.048 < stretch.max() <= 1.05
  shift = (centers - [64.5, 79.5]) / sides[:, None] * SEARCH
  assert 3.9 < np.abs(shift).max() <= 4.0
  spread = np.corrcoef(np.stack([stretch, *np.transpose(shift)]))
  assert np.abs(spread - np.eye(3)).max() < 0.15


@pytest.mark.parametrize('steps', [[0, 3, 90, 120, 300], [5, 6], [0, 500], [7]])
def test_every_pair_that_is_near_is_as_likely(steps):
  near = [p for p in itertools.combinations(steps, 2) if p[1] - p[0] < siamese.MAX_GAP]
  keys = tf.stack([key_of(number) for number in range(600)])
  pairs = tf.map_fn(
    lambda k: siamese.draw_pair(k, tf.constant(steps, tf.int64)),
    keys,
    fn_output_signature=(tf.int64, tf.int64),
  )
  found, counts = np.unique(np.transpose(pairs), axis=0, return_counts=True)
  expected = near or [(step, step) for step in steps]
  assert sorted(map(tuple, found.tolist())) == sorted(expected)
  assert counts.min() > 0.75 * 600 / len(expected)


def test_targets_that_are_tiny_large_or_thin_are_not_plausible():
  rows = [  # Height and width in a frame of 1,000 x 2,000 pixels.
    ((20, 20), True),
    ((19, 40), False),
    ((40, 19), False),
    ((500, 500), True),
    ((501, 500), False),
    ((125, 500), True),
    ((124, 500), False),
    ((100, 24), False),
    ((100, 25), True),
  ]
  boxes = tf.constant([[7.0, 9.0, 7 + h, 9 + w] for (h, w), _ in rows])
  actual = siamese.plausible(boxes, tf.constant([1000.0, 2000.0]))
  assert actual.numpy().tolist() == [expected for _, expected in rows]


@pytest.mark.parametrize(
  ('frame', 'expected'),
  [((40, 40), True), ((39, 40), False), ((40, 39), False), ((2000, 2001), False)],
)
def test_targets_are_half_of_the_frame_at_most(frame, expected):
  box = tf.constant([[0.0, 0, 20, 20]])
  assert bool(siamese.plausible(box, tf.constant(frame, tf.float32))[0]) == expected


@pytest.mark.parametrize(
  ('cover', 'expected'),
  [
    (['8\n3\n2\n0'], [True, True, False, False]),  # More than 0.3 * 8.
    (['3\n2\n1\n1'], [True, True, False, False]),  # More than an eighth.
    ([], [True] * 4),
  ],
)
def test_covered_targets_are_left_out(cover, expected):
  actual = siamese.uncovered(tf.constant(cover, tf.string), tf.constant(4))
  assert actual.numpy().tolist() == expected


def frames_of(clip: dict, count: int = 40) -> set[int]:
  """Which frames pairs are made of, inside tf.data as in training."""
  maker = siamese.SiameseViewMaker(config(feature_shape=(1, 31, 31, 3)))
  keys = tf.data.Dataset.from_tensor_slices([key_of(i) for i in range(count)])
  made = keys.map(lambda key: maker.training_sample(clip, key))
  return {
    round(int(view[0, size // 2, size // 2, 2]) / 40)
    for sample in made.as_numpy_iterator()
    for view, size in ((sample['exemplar'], 15), (sample['search'], 31))
  }


def test_pairs_are_of_good_frames_where_there_are_two():
  assert frames_of(clip_of()) == {0, 1, 2, 3}
  small, none = BOXES.copy(), BOXES.copy()
  small[1, 2:] = 10
  assert frames_of(clip_of(small)) == {0, 2, 3}
  assert frames_of(clip_of(cover='8\n8\n2\n8')) == {0, 1, 3}
  small[2:, 2:] = 10  # One good frame is left.
  assert frames_of(clip_of(small)) == {0, 1, 2, 3}
  none[3, 2:] = 0  # No box at all is never taken.
  none[1:3, 2:] = 10
  assert frames_of(clip_of(none)) == {0, 1, 2}


def test_a_target_without_a_box_fails():
  nowhere = BOXES * [1, 1, 0, 0]
  with pytest.raises(tf.errors.InvalidArgumentError):
    siamese.SiameseViewMaker(config()).training_sample(clip_of(nowhere), key_of(0))


def test_other_views_are_refused():
  with pytest.raises(UserError, match='num_views 1, num_test_clips 0; expected 2 and 0'):
    siamese.SiameseViewMaker(config(num_views=1))

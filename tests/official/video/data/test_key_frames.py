"""Boxes of key frames, their labels, and the clip about the frame."""

import numpy as np
import pytest
import tensorflow as tf

from official.video import draws
from official.video.configs import data as data_config
from official.video.data import key_frames, records, views
from official.video.errors import UserError
from official.video.tasks import localization
from tests import modes

A, B, C = [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.9, 0.8], [0.0, 0.0, 1.0, 1.0]


def labels_of(row):
  return [int(x) for x in row if x >= 0]


def test_labels_of_equal_boxes_are_gathered():
  boxes = tf.constant([A, B, A, C, B, A])
  labels = tf.constant([7, 1, 3, 5, 2, 4], tf.int64)
  made = modes.assert_same(
    lambda b, y: tuple(key_frames.grouped(b, y, 4)), boxes, labels, jit=False
  )
  found, valid, table, cut, labels_cut = made
  np.testing.assert_array_equal(found, np.float32([A, B, C, [0, 0, 1, 1]]))
  assert valid.tolist() == [True, True, True, False]
  assert [labels_of(row) for row in table] == [[7, 3, 4], [1, 2], [5], []]
  assert cut == labels_cut == 0


def test_boxes_beyond_the_count_are_counted_with_their_labels():
  made = key_frames.grouped(
    tf.constant([A, B, C, B]), tf.constant([0, 1, 2, 3], tf.int64), 2
  )
  assert made.valid.numpy().all() and made.boxes.shape == (2, 4)
  assert [labels_of(row) for row in made.labels.numpy()] == [[0], [1, 3]]
  assert int(made.cut) == int(made.labels_cut) == 1
  many = [[i / 100, 0.0, 1.0, 1.0] for i in range(70) for _ in range(2)]
  made = key_frames.grouped(tf.constant(many), tf.range(140, dtype=tf.int64), 32)
  assert int(made.cut) == 70 - 32 and int(made.labels_cut) == 2 * (70 - 32)
  assert made.valid.numpy().all()


def test_a_frame_without_boxes_has_none():
  made = key_frames.grouped(tf.zeros([0, 4]), tf.zeros([0], tf.int64), 3)
  assert not made.valid.numpy().any()
  assert (made.labels.numpy() == -1).all()
  assert int(made.cut) == int(made.labels_cut) == 0


@pytest.mark.parametrize('labels', [1, key_frames.MAX_LABELS, key_frames.MAX_LABELS + 5])
def test_many_labels_of_one_box(labels):
  made = key_frames.grouped(
    tf.constant([A] * labels), tf.range(labels, dtype=tf.int64), 2
  )
  expected = list(range(min(labels, key_frames.MAX_LABELS)))
  assert labels_of(made.labels[0].numpy()) == expected
  assert int(made.labels_cut) == labels - len(expected) and int(made.cut) == 0


def test_overlaps_by_hand():
  boxes = tf.constant(
    [[0.0, 0.0, 0.5, 0.5], [0.0, 0.25, 0.5, 0.75], [0.2, 0.2, 0.2, 0.2]]
  )
  found = key_frames.intersection_over_union(boxes, boxes).numpy()
  third = 1 / 3  # Half of each is shared.
  np.testing.assert_allclose(found, [[1, third, 0], [third, 1, 0], [0, 0, 0]], atol=1e-6)


def test_detected_boxes_take_the_labels_of_the_box_that_they_lie_as():
  annotated = key_frames.grouped(
    tf.constant([A, B, A]), tf.constant([7, 1, 3], tf.int64), 5
  )
  near_b, near_a = [0.5, 0.5, 0.9, 0.79], [0.1, 0.2, 0.3, 0.39]
  far = [0.6, 0.0, 0.9, 0.2]
  made = key_frames.with_detected(annotated, tf.constant([near_b, far, near_a]), 0.9)
  expected = [A, B, near_b, near_a, [0, 0, 1, 1]]
  np.testing.assert_array_equal(made.boxes, np.float32(expected))
  assert made.valid.numpy().tolist() == [True] * 4 + [False]
  assert [labels_of(row) for row in made.labels.numpy()] == [[7, 3], [1], [1], [7, 3], []]
  assert int(made.cut) == 0
  # Those without a place are counted; annotated ones come first.
  few = key_frames.grouped(tf.constant([A, B, A]), tf.constant([7, 1, 3], tf.int64), 3)
  made = key_frames.with_detected(few, tf.constant([near_b, far, near_a]), 0.9)
  np.testing.assert_array_equal(made.boxes, np.float32([A, B, near_b]))
  assert [labels_of(row) for row in made.labels.numpy()] == [[7, 3], [1], [1]]
  assert int(made.cut) == 1


@pytest.mark.parametrize('count', [0, 2])
def test_without_people_nothing_is_detected_as_one(count):
  annotated = key_frames.grouped(tf.zeros([0, 4]), tf.zeros([0], tf.int64), 2)
  # One that fills the frame lies as the places that hold none.
  made = key_frames.with_detected(annotated, tf.constant([C, B])[:count], 0.5)
  assert not made.valid.numpy().any() and (made.labels.numpy() == -1).all()


def names_of(names):
  return localization.frame_names(
    np.stack([key_frames.name_bytes(tf.constant(name)).numpy() for name in names])
  )


def test_names_of_any_length_never_collide():
  long = 'a' * 1000
  names = [
    'v,0902',
    '',
    'film name, with a comma,0903',
    'été 映画,1000',
    'n' * key_frames.NAME_BYTES,
    'n' * (key_frames.NAME_BYTES + 1),
    *(f'{long}{tail},0902' for tail in ('', 'a', 'b')),
    *(f'{head}{long},0902' for head in ('b', 'ba', 'bb')),
    *(f'{long}{middle}{long},0902' for middle in ('x', 'y', 'xy')),
    *(f'{long},{second:04d}' for second in (903, 904)),
    *(f'{2 * long},{second:04d}' for second in (903, 904)),
  ]
  found = names_of(names)
  assert len(set(found)) == len(names)
  assert found[:5] == names[:5]
  # A shortened name still ends in its time.
  assert [n.rpartition(',')[2] for n in found[6:]] == [
    n.rpartition(',')[2] for n in names[6:]
  ]


def test_a_name_that_is_cut_inside_of_a_character_can_be_read():
  names = [
    f'{pad}{300 * chr(0x6620)}{i},0902' for i in range(2) for pad in ('', 'a', 'ab')
  ]
  found = names_of(names)
  assert len(set(found)) == len(names) and all(n.endswith(',0902') for n in found)


def film(height, width, box, boxes=(), steps=6):
  """A parsed record of grey frames with a red box, in pixels, at 10 frames a second."""
  image = np.full((height, width, 3), 90, np.uint8)
  top, left, bottom, right = box
  image[top:bottom, left:right] = (230, 20, 20)
  shares = [np.divide(b, [height, width] * 2) for b in (box, *boxes)]
  clip = {
    'frames': tf.constant([tf.io.encode_png(image).numpy()] * steps),
    records.IMAGE_TIMESTAMP: tf.ragged.constant([[100_000 * i] for i in range(steps)]),
    records.REGION_TIMESTAMP: tf.ragged.constant([[300_000]]),
    records.REGION_LABEL_INDEX: tf.ragged.constant(
      [[i % 3 for i in range(len(shares))]], dtype=tf.int64
    ),
    records.DETECTED_SCORE: tf.ragged.constant([[0.3, 0.9, 0.85]], dtype=tf.float32),
    records.MEDIA_ID: tf.constant(['film,0902']),
  }
  for i, key in enumerate(key_frames._SIDES):
    sides = [float(share[i]) for share in shares]
    clip[key] = tf.ragged.constant([sides], dtype=tf.float32)
    detected = [float(shares[0][i])] * 3
    clip[f'detected/{key}'] = tf.ragged.constant([detected], dtype=tf.float32)
  return clip


def maker(training, **fields):
  fields = {
    'feature_shape': (4, 64, 64 if training else 160, 3),
    'views': 'key_frame',
    'num_views': int(training),
    'num_test_clips': int(not training),
    'whole_frame': not training,
    'min_image_size': 0 if training else 64,
    'augmentation': data_config.Augmentation(
      policy='none', short_side_range=(64, 80) if training else ()
    ),
    'regions': data_config.Regions(generator='boxes', count=4),
    'augment_on': 'host',
  } | fields
  return views.build_view_maker(data_config.DataConfig(**fields))


def red_sides(image):
  """Rows and columns of what is red, in pixels."""
  red = (image[..., 0] > 150) & (image[..., 1] < 60)
  return np.ptp(np.flatnonzero(red.any(1))) + 1, np.ptp(np.flatnonzero(red.any(0))) + 1


FILMS = {
  '16:9': (180, 320),
  '2.35:1': (136, 320),
  '4:3': (150, 200),
  'upright': (320, 180),
}


@pytest.mark.parametrize('name', FILMS)
def test_a_square_object_is_square_in_the_test(name):
  height, width = FILMS[name]
  side = min(height, width) // 2
  clip = film(height, width, (20, 30, 20 + side, 30 + side))
  make = maker(False)
  sample = make.test_sample(clip, tf.constant(0))
  assert sample['test_views'].shape == (1, 1, 4, 64, 160, 3)
  view, box = sample['test_views'].numpy()[0, 0, 2], sample['boxes'].numpy()[0, 0]
  rows, columns = red_sides(view)
  assert abs(rows - columns) <= 1
  high, wide = (box[2:] - box[:2]) * (64, 160)
  assert high == pytest.approx(wide, rel=0.02)
  assert abs(high - rows) <= 1 and abs(wide - columns) <= 1
  top, left, bottom, right = sample['shown'].numpy()[0] * ([64, 160] * 2)
  # The short side is that of `min_image_size`, if the longer one fits.
  short = 64 * 180 / 320 if name == 'upright' else 64
  assert min(bottom - top, right - left) == pytest.approx(short, abs=0.01)
  outside = np.ones((64, 160), bool)
  outside[round(top) : round(bottom), round(left) : round(right)] = False
  assert not view[outside].any() and view[~outside].min() > 10


@pytest.mark.parametrize('name', FILMS)
def test_a_square_object_is_square_in_training(name):
  height, width = FILMS[name]
  clip = film(height, width, (60, 70, 100, 110))
  make = maker(True)
  sample_of = tf.function(lambda key: make.training_sample(clip, key))
  whole = 0
  for number in range(30):
    sample = sample_of(draws.sample_key(0, 0, number))
    box = sample['boxes'].numpy()[0, 0]
    if (box > 0).all() and (box < 1).all():
      rows, columns = red_sides(np.uint8(255 * sample['views'].numpy()[0, 0, 2]))
      assert abs(rows - columns) <= 1
      high, wide = (box[2:] - box[:2]) * 64
      assert high == pytest.approx(wide, rel=0.02) and abs(high - rows) <= 1.5
      # Between the scales at which the short side is 64 and 80 pixels.
      assert 64 - 1 < high / 40 * min(height, width) < 80 + 1.5
      whole += 1
  assert whole >= 5


def test_shapes_are_static_whatever_the_film():
  for training in (True, False):
    make, key = maker(training), draws.sample_key(0, 0, 0)

    def sample(clip, make=make, training=training, key=key):
      if training:
        return make.training_sample(clip, key)
      return make.test_sample(clip, tf.constant(0))

    clip = film(60, 100, (10, 10, 30, 30))
    data = tf.data.Dataset.from_tensors(clip).concatenate(
      tf.data.Dataset.from_tensors(film(100, 60, (10, 10, 30, 30), steps=9))
    )
    made = data.map(sample)
    assert all(spec.shape.is_fully_defined() for spec in made.element_spec.values())
    assert len(list(made)) == 2


def test_boxes_and_detections_without_a_place_are_counted():
  boxes = [(10, 10 + i, 40, 50 + i) for i in range(1, 40)]
  clip = film(60, 100, (10, 10, 40, 50), boxes)
  sample = maker(False).test_sample(clip, tf.constant(0))
  assert sample['box_valid'].numpy().sum() == 4
  assert sample['boxes_cut'].numpy() == sample['labels_cut'].numpy() == [36]
  assert sample['detected_cut'].numpy() == [-1.0]
  few = data_config.Regions(generator='boxes', count=2)
  sample = maker(False, regions=few).test_sample(clip, tf.constant(0))
  np.testing.assert_allclose(sample['detected_score'], [[0.9, 0.85]])
  np.testing.assert_allclose(sample['detected_cut'], [0.3])
  trained = maker(True).training_sample(clip, draws.sample_key(0, 0, 0))
  assert trained['boxes_cut'].numpy() == [36]


def test_contradicting_crops_are_refused():
  with pytest.raises(UserError, match='whole_frame false'):
    maker(False, whole_frame=False)
  for crop, text in (
    ({'area_range': (0.5, 1.0)}, r'area_range \[0.5, 1.0\] with short_side_range'),
    ({'aspect_range': (1.0, 1.0)}, 'aspect_range'),
    ({'short_side_range': (80, 64)}, r'short_side_range \[80, 64\]: expected'),
    ({'short_side_range': (64,)}, 'short_side_range'),
  ):
    crop = {'policy': 'none', 'short_side_range': (64, 80)} | crop
    with pytest.raises(UserError, match=text):
      maker(True, augmentation=data_config.Augmentation(**crop))
  with pytest.raises(UserError, match="resize 'bicubic': expected one of bilinear"):
    maker(True, resize='bicubic')

"""The tracking loop on responses that are right."""

import types

import numpy as np
import pytest
import tensorflow as tf

from official.video.augment import squares
from official.video.configs import tasks as task_config
from official.video.data import parsing, records
from official.video.errors import UserError
from official.video.evaluation import tracking as metric
from official.video.tracking import sequences, tracker
from tests import clips


def brightness(exemplar, crops):
  """A response that is largest where the search image is bright about a cell's centre."""
  del exemplar
  bright = tf.cast(crops[..., :1], tf.float32)
  blurred = tf.nn.avg_pool2d(bright, 65, 1, 'SAME')[..., 0]
  cells = tf.range(17) * 8 + 63
  return tf.gather(tf.gather(blurred, cells, axis=1), cells, axis=2)


def test_the_loop_follows_a_response_that_is_right():
  config = task_config.Tracker(scale_step=1.0, num_scales=1, window_influence=0.05)
  follower = tracker.SiameseTracker(lambda image: image, brightness, config, 255)
  assert squares.exemplar_size(255) == 127
  boxes, found = [], []
  for frame in range(15):
    left, top = 40 + 3 * frame, 60 - 2 * frame
    image = np.zeros((140, 200, 3), np.uint8)
    image[top : top + 20, left : left + 20] = 250
    box = np.array([left + 1, top + 1, 20, 20])
    boxes.append(box)
    if frame == 0:
      follower.start(image, box)
      found.append(box)
    else:
      found.append(follower.follow(image))
  errors = metric.center_errors(np.array(found, float), np.array(boxes, float))
  assert errors.max() < 3.0


def test_the_loop_follows_a_change_of_size():
  """The scale whose crop shows the target as large as the exemplar did wins."""
  config = task_config.Tracker(window_influence=0.3)

  def respond(exemplar, crops):
    del exemplar
    bright = tf.cast(crops[..., 0] > 120, tf.float32)
    share = tf.reduce_mean(bright, [1, 2])
    match = tf.exp(-(((share - target_share) / 0.01) ** 2))
    peak = np.zeros((17, 17), np.float32)
    peak[8, 8] = 1.0
    return match[:, None, None] * peak

  def image_of(side):
    image = np.zeros((200, 200, 3), np.uint8)
    low = 100 - side // 2
    image[low : low + side, low : low + side] = 250
    return image

  follower = tracker.SiameseTracker(lambda image: image, respond, config, 255)
  follower.start(image_of(20), np.array([91.0, 91, 20, 20]))
  shown = follower.target.side * 255 / 127
  target_share = 400 / shown**2
  for side in range(20, 34, 2):
    for _ in range(3):
      box = follower.follow(image_of(side))
  assert box[2] == pytest.approx(32, abs=4)
  assert box[2] == pytest.approx(box[3])


def test_records_of_another_kind_are_refused():
  data = records.encode_record(clips.clip(0, 0, 4))
  with pytest.raises(UserError, match='somewhere: has no extra/annotation'):
    sequences.sequence_of(parsing.parse_record(data, sequences.FIELDS), 'somewhere')


def test_frames_that_a_record_lacks_are_counted():
  more = {sequences.ANNOTATION: '1,2,3,4\n5,6,7,8\n9,10,11,12'}
  data = records.encode_record(clips.clip(0, 0, 2) | more)
  clip = parsing.parse_record(data, sequences.FIELDS)
  sequence = sequences.sequence_of(clip, 'somewhere')
  assert len(sequence.frames) == 2 and sequence.annotated == 3
  np.testing.assert_array_equal(sequence.boxes, [[1, 2, 3, 4], [5, 6, 7, 8]])
  assert sequence.width == 0


def test_boxes_are_in_pixels_of_the_source():
  image = np.zeros((50, 100, 3), np.uint8)
  encoded = tf.io.encode_jpeg(image).numpy()
  boxes = np.array([[20.0, 40, 60, 20]] * 2)
  seen = []
  fake = types.SimpleNamespace(
    start=lambda image, box: seen.append(box), follow=lambda image: seen[0] + 1
  )
  sequence = sequences.Sequence('s', [encoded] * 2, boxes, width=400, annotated=2)
  found, seconds = tracker.follow(fake, sequence)
  # A quarter of the source: its pixels 1 to 4 are the frame's first, from 0.625 to 1.375.
  np.testing.assert_allclose(seen[0], [5.75, 10.75, 15, 5])
  np.testing.assert_allclose(found, [boxes[0], boxes[0] + 4])
  assert seconds.shape == (2,)


def followed(heights=(1.0, 1.0, 1.0), cells=((8, 8),), box=(91.0, 91, 20, 20), **config):
  """A tracker after one frame, and its box; of each scale, equal cells respond so high."""
  shown = []

  def respond(exemplar, crops):
    shown.append(len(crops))
    response = np.zeros((len(crops), 17, 17), np.float32)
    for row, column in cells:
      response[:, row, column] = heights[: len(crops)]
    return response

  settings = task_config.Tracker(**({'window_influence': 0.0} | config))
  follower = tracker.SiameseTracker(lambda image: image, respond, settings, 255)
  image = np.zeros((200, 200, 3), np.uint8)
  follower.start(image, np.array(box))
  return follower, follower.follow(image), shown


def test_another_size_pays_the_penalty():
  # 1.02 is above 1, but not after a penalty of 0.9745.
  higher = (1.02, 1.0, 1.01)
  assert followed(higher, scale_penalty=0.9745)[1][2] == 20
  assert followed(higher, scale_penalty=1.0, scale_step=1.1)[1][2] < 20
  assert followed(higher[::-1], scale_penalty=0.985, scale_step=1.1)[1][2] > 20


@pytest.mark.parametrize('rate', [0.25, 1.0])
def test_a_change_of_size_is_followed_at_its_rate(rate):
  follower, box, _ = followed(
    (0.0, 0.0, 1.0), box=(91.0, 86, 20, 30), scale_step=1.2, scale_rate=rate
  )
  grown = 1 - rate + rate * 1.2
  np.testing.assert_allclose(box[2:], [20 * grown, 30 * grown])
  # The square about it grows alike.
  assert follower.target.side == pytest.approx(grown * np.sqrt((20 + 25) * (30 + 25)))


def test_as_many_scales_are_looked_at_as_asked():
  assert followed((1.0, 1, 1, 1, 1), num_scales=5)[2] == [5]
  step = followed((1.0, 0, 0, 0, 0), num_scales=5, scale_step=1.1, scale_rate=1.0)
  assert step[1][2] == pytest.approx(20 / 1.1**2)


def test_no_size_beyond_the_bounds_is_followed():
  follower, _, _ = followed((1.0, 0, 0), scale_step=1.5, scale_rate=1.0)
  for _ in range(8):
    box = follower.follow(np.zeros((200, 200, 3), np.uint8))
  assert box[2] == pytest.approx(tracker.LEAST_SIZE * 20)


def test_the_window_draws_to_the_middle():
  def moved(influence):
    response = np.zeros((3, 17, 17), np.float32)
    response[:, 8, 8], response[:, 1, 1] = 1.0, 1.1
    settings = task_config.Tracker(window_influence=influence)
    follower = tracker.SiameseTracker(lambda x: x, lambda *_: response, settings, 255)
    follower.start(np.zeros((200, 200, 3), np.uint8), np.array([91.0, 91, 20, 20]))
    return follower.follow(np.zeros((200, 200, 3), np.uint8))[:2]

  np.testing.assert_allclose(moved(0.5), [91, 91], atol=0.5)
  assert (moved(0.0) < 80).all()


def test_a_cell_of_the_response_is_its_stride_in_the_frame():
  # 8 of 255 pixels a cell, of a square that is twice the one about target and context.
  pixels = 8 * 2 * 40 / 254
  _, box, _ = followed(cells=((8, 11),))
  np.testing.assert_allclose(box, [91 + 3 * pixels, 91, 20, 20], atol=0.2)
  _, box, _ = followed(cells=((4, 8),))
  np.testing.assert_allclose(box, [91, 91 - 4 * pixels, 20, 20], atol=0.2)
  # Between two equal cells, which one alone could not say.
  between = ((8, 8), (8, 9))
  assert followed(cells=between)[1][0] == pytest.approx(91 + pixels / 2, abs=0.2)
  assert followed(cells=between, upsampling=1)[1][0] == pytest.approx(91, abs=0.2)


def test_context_surrounds_the_exemplar():
  assert followed(context=0.0)[0].target.side == pytest.approx(20)
  assert followed(context=0.5)[0].target.side == pytest.approx(40)

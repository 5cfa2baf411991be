"""The tracking loop on responses that are right."""

import types

import numpy as np
import pytest
import tensorflow as tf

from official.video.augment import squares
from official.video.configs import tasks as task_config
from official.video.data import records
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
    sequences.read_sequence(data, 'somewhere')


def test_frames_that_a_record_lacks_are_counted():
  more = {sequences.ANNOTATION: '1,2,3,4\n5,6,7,8\n9,10,11,12'}
  data = records.encode_record(clips.clip(0, 0, 2) | more)
  sequence = sequences.read_sequence(data, 'somewhere')
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

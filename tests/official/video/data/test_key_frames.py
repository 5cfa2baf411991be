"""Boxes of key frames, their labels, and the clip about the frame."""

import numpy as np
import pytest
import tensorflow as tf

from official.video.data import key_frames
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
  found, valid, table = made
  np.testing.assert_array_equal(found, np.float32([A, B, C, [0, 0, 1, 1]]))
  assert valid.tolist() == [True, True, True, False]
  assert [labels_of(row) for row in table] == [[7, 3, 4], [1, 2], [5], []]


def test_boxes_beyond_the_count_are_left_out_with_their_labels():
  made = key_frames.grouped(
    tf.constant([A, B, C, B]), tf.constant([0, 1, 2, 3], tf.int64), 2
  )
  assert made.valid.numpy().all() and made.boxes.shape == (2, 4)
  assert [labels_of(row) for row in made.labels.numpy()] == [[0], [1, 3]]


def test_a_frame_without_boxes_has_none():
  made = key_frames.grouped(tf.zeros([0, 4]), tf.zeros([0], tf.int64), 3)
  assert not made.valid.numpy().any()
  assert (made.labels.numpy() == -1).all()


@pytest.mark.parametrize('labels', [1, key_frames.MAX_LABELS, key_frames.MAX_LABELS + 5])
def test_many_labels_of_one_box(labels):
  made = key_frames.grouped(
    tf.constant([A] * labels), tf.range(labels, dtype=tf.int64), 2
  )
  expected = list(range(min(labels, key_frames.MAX_LABELS)))
  assert labels_of(made.labels[0].numpy()) == expected

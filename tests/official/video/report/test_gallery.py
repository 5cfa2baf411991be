"""Strips of frames, the choice of queries, and the gallery they make."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from official.video.report import gallery


def decode(uri):
  head, data = uri.split(',', 1)
  assert head == 'data:image/jpeg;base64'
  return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def grey_clip(*levels, height=32, width=48):
  ones = np.ones((1, height, width, 3), np.uint8)
  return np.concatenate([ones * level for level in levels])


def test_strip_shows_evenly_spaced_frames_in_order():
  image = decode(gallery.strip(grey_clip(0, 40, 80, 120, 160, 200, 240), count=4))
  assert image.shape == (32, 4 * 48 + 3 * 2, 3)
  centers = image[16, [24, 74, 124, 174], 0].astype(int)
  np.testing.assert_allclose(centers, [0, 80, 160, 240], atol=6)


def test_strip_shrinks_large_frames_and_keeps_small_ones():
  assert decode(gallery.strip(grey_clip(9, height=144, width=72))).shape == (72, 36, 3)
  assert decode(gallery.strip(grey_clip(9, 9))).shape == (32, 98, 3)


def test_strip_refuses_floats():
  with pytest.raises(ValueError, match='uint8'):
    gallery.strip(np.zeros((2, 8, 8, 3), np.float32))


def test_queries_are_the_first_of_each_class_then_the_second():
  labels = np.array([2, 2, 0, 0, 1, 2])
  assert gallery.choose_queries(labels, 5).tolist() == [2, 4, 0, 3, 1]
  assert len(gallery.choose_queries(labels, 99)) == 6


def test_gallery_marks_right_and_wrong():
  features = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
  rows = gallery.build_gallery(
    [grey_clip(10)], np.array([[1.0, 0.1]]), np.array([1]),
    [grey_clip(60), grey_clip(120), grey_clip(240)], features, np.array([0, 1, 1]),
    ['run', 'jump'], k=2, gallery_names=['a', 'b', 'c'],
  )  # fmt: skip
  (row,) = rows
  assert (row.query.label, row.query.right) == ('jump', None)
  assert decode(row.query.image).mean() == pytest.approx(10, abs=2)
  assert [(n.name, n.label, n.right) for n in row.neighbors] == [
    ('a', 'run', False),
    ('b', 'jump', True),
  ]
  assert decode(row.neighbors[1].image).mean() == pytest.approx(120, abs=2)
  assert row.neighbors[0].similarity == pytest.approx(1 / np.sqrt(1.01))


def test_neighbours_are_those_of_the_query_that_is_shown():
  features = np.eye(3)
  rows = gallery.build_gallery(
    [grey_clip(10), grey_clip(90), grey_clip(170)], features, np.array([1, 1, 0]),
    [grey_clip(0)] * 3, features, np.array([1, 1, 0]),
    ['run', 'jump'], rows=2, k=1, gallery_names=['a', 'b', 'c'],
  )  # fmt: skip
  # The first of class 0 is the third query, whose nearest is the third clip.
  assert [row.neighbors[0].name for row in rows] == ['c', 'a']
  assert [round(decode(row.query.image).mean(), -1) for row in rows] == [170, 10]


def test_a_film_has_evenly_spaced_frames():
  tile = gallery.film(grey_clip(*range(0, 240, 16)), 'run')
  levels = decode(tile.image).reshape(32, tile.frames, 48 * 3).mean((0, 2))
  assert tile.frames == 8 and levels[0] < 8 and levels[-1] > 216
  assert np.diff(levels).min() > 20

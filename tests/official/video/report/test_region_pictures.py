"""Pictures of regions."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from official.video.report import plots, regions

FRAME = np.full((36, 48, 3), 200, np.uint8)
BOXES = np.array([[0.1, 0.1, 0.5, 0.4], [0.4, 0.5, 0.9, 0.9]])


def pixels(picture):
  data = base64.b64decode(picture.image.removeprefix('data:image/jpeg;base64,'))
  return np.asarray(Image.open(io.BytesIO(data)))


def has_color(image, color):
  rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
  return (np.abs(image.astype(int) - rgb).max(-1) < 20).any()


def test_a_region_and_its_match_have_one_colour():
  features = np.eye(2)
  picture = regions.correspondence(
    [FRAME, FRAME],
    [BOXES, BOXES],
    [features, features[::-1]],
    [np.array([True, False]), np.array([True, True])],
  )
  image = pixels(picture)
  left, right = np.split(image, [image.shape[1] // 2], axis=1)
  for half in (left, right):
    assert has_color(half, plots.COLORS[0]) and not has_color(half, plots.COLORS[1])
  # Region 0 meets region 1: in the right view the lower box is outlined.
  rows = np.flatnonzero(
    (np.abs(right.astype(int) - [0x3B, 0x7D, 0xD8]).max(-1) < 20).any(1)
  )
  assert rows.min() > 0.35 * len(right)
  assert '1.00' in picture.caption and '0 of 1 match themselves' in picture.caption


def test_matches_are_valid_ones():
  found, cosine = regions.matches(np.eye(2), np.eye(2), np.array([False, True]))
  assert found.tolist() == [1, 1]
  np.testing.assert_allclose(cosine, [0, 1])


def test_without_a_valid_region_there_is_no_picture():
  with pytest.raises(ValueError, match='no valid region'):
    regions.correspondence(
      [FRAME] * 2, [BOXES] * 2, [np.eye(2)] * 2, [np.ones(2, bool), np.zeros(2, bool)]
    )


def test_attention_is_bright_where_it_is():
  weights = np.zeros((3, 4, 4))
  weights[2, :, 2:] = 0.1
  weights[1, 0, 0] = 0.2
  picture = regions.attention(np.stack([FRAME] * 3), BOXES[0], weights)
  parts = np.array_split(pixels(picture), 3, axis=1)
  assert parts[0][20:-20, 20:-20].max() < 90
  assert parts[2][20:-20, -40:-20].min() > 120
  assert has_color(parts[1], plots.COLORS[0])
  assert not has_color(parts[0], plots.COLORS[0])
  assert picture.caption == 'attention by frame: 0 %, 20 %, 80 %'
  with pytest.raises(ValueError, match='2 frames for 3 maps'):
    regions.attention(np.stack([FRAME] * 2), BOXES[0], weights)


def test_frames_must_be_pixels():
  with pytest.raises(ValueError, match='expected uint8'):
    regions.attention(np.zeros((1, 4, 4, 3), np.float32), BOXES[0], np.ones((1, 2, 2)))

"""Region features: by their definition, where the cells are, and under a mirror."""

import numpy as np
import pytest
import tensorflow as tf

from official.video.configs import heads as heads_config
from official.video.heads import action, context, regions


def slow_roi_align(features, box, samples, half_pixel_centers):
  """One box by its definition: bilinear between floor and floor + 1, clamped."""
  height, width, _ = features.shape
  shift = 0.5 if half_pixel_centers else 0.0
  rows = []
  for i in range(samples):
    for j in range(samples):
      y = (box[0] + (i + 0.5) * (box[2] - box[0]) / samples) * height - shift
      x = (box[1] + (j + 0.5) * (box[3] - box[1]) / samples) * width - shift
      y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
      total = 0.0
      for dy in (0, 1):
        for dx in (0, 1):
          weight = abs(1 - dy - (y - np.floor(y))) * abs(1 - dx - (x - np.floor(x)))
          row = min(int(np.floor(y)) + dy, height - 1)
          column = min(int(np.floor(x)) + dx, width - 1)
          total = total + weight * features[row, column]
      rows.append(total)
  return np.reshape(rows, [samples, samples, -1])


@pytest.mark.parametrize('half_pixel_centers', [True, False])
def test_roi_align_by_its_definition(half_pixel_centers):
  rng = np.random.default_rng(0)
  features = rng.normal(size=(2, 5, 7, 3)).astype(np.float32)
  corners = np.sort(rng.random((2, 4, 2, 2)), axis=2).astype(np.float32)
  boxes = corners.reshape(2, 4, 4)
  boxes[0, 0] = [0, 0, 1, 1]
  actual = regions.roi_align(features, boxes, 3, half_pixel_centers).numpy()
  for b in range(2):
    for n in range(4):
      expected = slow_roi_align(features[b], boxes[b, n], 3, half_pixel_centers)
      np.testing.assert_allclose(actual[b, n], expected, rtol=1e-4, atol=1e-5)
  means = regions.region_means(features, boxes, 3, half_pixel_centers)
  np.testing.assert_allclose(means, actual.mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_boxes_keep_their_digits_beside_bfloat16_features():
  features = tf.cast(tf.random.stateless_normal([1, 7, 7, 4], [1, 2]), tf.bfloat16)
  boxes = tf.constant([[[0.998, 0.2, 0.999, 0.7]]])
  exact = regions.region_means(tf.cast(features, tf.float32), boxes)
  np.testing.assert_array_equal(regions.region_means(features, boxes), exact)


def coordinate_map(cells):
  """A map `[1, cells, cells, 2]` of each cell's own middle: row, then column."""
  middles = (np.arange(cells, dtype=np.float32) + 0.5) / cells
  return np.stack(np.meshgrid(middles, middles, indexing='ij'), -1)[None]


def mirrored(boxes):
  top, left, bottom, right = np.moveaxis(boxes, -1, 0)
  return np.stack([top, 1 - right, bottom, 1 - left], -1)


def means_of_head(kind, maps, boxes, **fields):
  """What a head of either kind reads of `[B, H, W, C]` maps, before its layers."""
  clip = np.repeat(maps[:, None], 2, 1)
  if kind == 'context':
    config = heads_config.ContextHead(context_length=1, **fields)
    return context.ContextHead(config, 1).regions(clip, boxes).numpy()
  config = heads_config.ActionHead(kind='roi', samples=4, **fields)
  head = action.ActionHead(config, maps.shape[-1])
  head(clip, boxes)
  kernel = head.classifier.output_dense
  kernel.set_weights([np.eye(maps.shape[-1]), np.zeros(maps.shape[-1])])
  # The head takes the maximum: of a map and of its negative, that is both ends.
  return (head(clip, boxes) - head(-clip, boxes)).numpy() / 2


@pytest.mark.parametrize('kind', action.KINDS)
@pytest.mark.parametrize('cells', [7, 8, 16])
def test_a_box_reads_the_place_that_it_is_centred_at(kind, cells):
  # Both coordinates of the centre, in each quarter of the map.
  for y, x in ((0.4, 0.4), (0.35, 0.6), (0.62, 0.41), (0.5, 0.55)):
    box = np.float32([[[y - 0.2, x - 0.2, y + 0.2, x + 0.2]]])
    found = means_of_head(kind, coordinate_map(cells), box)[0, 0]
    np.testing.assert_allclose(found, [y, x], atol=1e-5)


def test_the_published_aligner_reads_half_a_cell_further():
  box = np.float32([[[0.2, 0.2, 0.6, 0.6], [0.4, 0.4, 0.8, 0.8]]])
  found = means_of_head('context', coordinate_map(7), box, half_pixel_centers=False)
  np.testing.assert_allclose(found[0, :, 1], [0.4 + 0.5 / 7, 0.6 + 0.5 / 7], atol=1e-5)
  assert round(float(found[0, 0, 1]), 3) == 0.471
  assert round(float(1 - found[0, 1, 1]), 3) == 0.329


def mirror_cosine(kind, half_pixel_centers):
  """Mean cosine of objects with their mirrored selves, on smooth random maps."""
  rng = np.random.default_rng(0)
  maps = tf.image.resize(rng.normal(size=(16, 4, 4, 32)), (7, 7), 'bicubic').numpy()
  corners = rng.random((16, 8, 2)) * 0.6
  boxes = np.concatenate([corners, corners + 0.15 + 0.2 * rng.random((16, 8, 2))], -1)
  boxes = boxes.astype(np.float32)
  fields = {'half_pixel_centers': half_pixel_centers}
  one = means_of_head(kind, maps, boxes, **fields)
  other = means_of_head(kind, maps[:, :, ::-1], mirrored(boxes), **fields)
  lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
  return float(((one * other).sum(-1) / lengths).mean())


@pytest.mark.parametrize('kind', action.KINDS)
def test_an_object_and_its_mirrored_self_have_one_feature(kind):
  assert mirror_cosine(kind, True) == pytest.approx(1.0, abs=1e-5)
  assert mirror_cosine(kind, False) < 0.95

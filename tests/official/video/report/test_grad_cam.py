"""Grad-CAM against maps worked out by hand, on nets whose CAM is known, and in place."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video.backbones import factory, families
from official.video.heads import classification
from official.video.models import encoder
from official.video.report import grad_cam


class Pooling(tf_keras.Model):
  """A 'backbone' of given channels: each cell is the mean of its pixels, by channel."""

  def __init__(self, cell=(2, 4, 4), scales=(1.0, -2.0, 0.5)):
    super().__init__()
    self._pool = tf_keras.layers.AveragePooling3D(cell)
    self._scales = tf.constant(scales)

  def call(self, clips, training=False):
    return {'5': self._pool(clips) * self._scales}


def linear_model(kernel, backbone=None):
  """A pooled map under a dense layer of known weights."""
  head = tf_keras.layers.Dense(kernel.shape[1], kernel_initializer='zeros')
  model = encoder.VideoModel(backbone or Pooling(), head)
  head.build((None, kernel.shape[0]))
  head.set_weights([kernel, np.ones(kernel.shape[1])])
  return model


@pytest.fixture
def clips():
  rng = np.random.default_rng(0)
  return tf.constant(rng.normal(size=(2, 8, 16, 24, 3)), tf.float32)


def test_under_a_linear_head_it_is_the_class_activation_map(clips):
  kernel = np.random.default_rng(1).normal(size=(3, 5))
  model = linear_model(kernel)
  found, logits = grad_cam.of_classes(model, clips, [3, 1])
  maps = model.backbone(clips)['5'].numpy()
  assert found.shape == maps.shape[:4] == (2, 4, 4, 6)
  for row, asked in enumerate((3, 1)):
    by_hand = np.maximum(maps[row] @ kernel[:, asked], 0) / (4 * 4 * 6)
    np.testing.assert_allclose(found[row], by_hand, atol=1e-6)
  np.testing.assert_allclose(logits, maps.mean((1, 2, 3)) @ kernel + 1, atol=1e-5)


def test_without_a_class_it_is_of_the_likeliest(clips):
  model = linear_model(np.random.default_rng(2).normal(size=(3, 5)))
  _, logits = grad_cam.of_classes(model, clips, [0, 0])
  found, _ = grad_cam.of_classes(model, clips, [-1, -1])
  asked, _ = grad_cam.of_classes(model, clips, logits.argmax(1).tolist())
  np.testing.assert_array_equal(found, asked)


def test_the_similarity_is_differentiated_in_both_maps(clips):
  model = linear_model(np.eye(3))
  first, second = clips[:1], clips[1:]
  *found, cosine = grad_cam.of_similarity(model, first, second, embeds=False)
  maps = [model.backbone(x)['5'].numpy()[0] for x in (first, second)]
  u, v = (x.mean((0, 1, 2)) for x in maps)
  size = [np.linalg.norm(x) for x in (u, v)]
  by_hand = u @ v / np.prod(size)
  assert cosine[0] == pytest.approx(by_hand, abs=1e-5)
  for heat, mine, other, map_ in zip(found, (u, v), (v, u), maps, strict=True):
    gradient = (
      other / np.linalg.norm(other) - by_hand * mine / np.linalg.norm(mine)
    ) / np.linalg.norm(mine)
    expected = np.maximum(map_ @ gradient, 0) / map_[..., 0].size
    np.testing.assert_allclose(heat[0], expected, atol=1e-6)


def test_an_embedding_is_compared_where_it_is_asked_for(clips):
  kernel = np.random.default_rng(3).normal(size=(3, 4))
  model = linear_model(kernel)
  *_, cosine = grad_cam.of_similarity(model, clips[:1], clips[1:], embeds=True)
  u, v = (model.backbone(clips)['5'].numpy().mean((1, 2, 3)) @ kernel) + 1
  assert cosine[0] == pytest.approx(
    u @ v / np.linalg.norm(u) / np.linalg.norm(v), abs=1e-5
  )


def test_heat_lies_where_the_clip_is_bright():
  clip = np.zeros((1, 8, 16, 24, 3), np.float32)
  clip[0, 4:6, 8:12, 4:8] = 1  # The cell 2, 2, 1.
  heat, _ = grad_cam.of_classes(
    linear_model(np.ones((3, 1)) * [[1], [0], [0]]), clip, [0]
  )
  large = grad_cam.enlarged(heat[0], (8, 16, 24))
  assert large.shape == (8, 16, 24)
  place = np.indices(large.shape).reshape(3, -1) @ large.ravel() / large.sum()
  # The middle of the frames, lines and columns that were bright.
  np.testing.assert_allclose(place, (4.5, 9.5, 5.5), atol=1e-6)


def test_enlarged_heat_keeps_the_middles_of_cells():
  heat = np.random.default_rng(0).uniform(size=(2, 3, 1))
  large = grad_cam.enlarged(heat, (6, 9, 4))
  np.testing.assert_allclose(large[1::3, 1::3, 0], heat[..., 0])
  assert large.min() >= heat.min() - 1e-12 and large.max() <= heat.max() + 1e-12
  # Between two middles it is the mean by distance.
  assert large[2, 1, 0] == pytest.approx(heat[0, 0, 0] * 2 / 3 + heat[1, 0, 0] / 3)
  np.testing.assert_array_equal(grad_cam.enlarged(heat, heat.shape), heat)


def test_shares_are_of_the_masks():
  heat = np.ones((2, 8, 16))
  heat[:, :, 8:] = 3
  right = np.zeros((8, 16), bool)
  right[:, 8:] = True
  assert grad_cam.share_in(heat, right) == pytest.approx(0.75)
  assert grad_cam.share_in(np.zeros((2, 8, 16)), right) == 0
  assert grad_cam.border((8, 16)).mean() == pytest.approx(1 - 6 / 8 * 12 / 16)
  boxes = np.array([[0.0, 0.5, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0], [0, 0, 1, 1]])
  mask = grad_cam.in_boxes(boxes, np.array([True, False, False]), (8, 16))
  assert mask[:4, 8:].all() and mask.sum() == 32
  assert grad_cam.in_boxes(boxes, np.array([True, True, False]), (8, 16)).sum() == 96


@pytest.mark.parametrize(
  ('family', 'values', 'size', 'places'),
  [
    ('r3d', {'model_id': 18, 'width_multiplier': 0.125}, (8, 64, 64), (2, 2, 2)),
    (
      'video_vit',
      {
        'hidden_size': 24,
        'num_layers': 2,
        'num_heads': 2,
        'mlp_dim': 32,
        'tubelet': (2, 16, 16),
        'grid': (2, 4, 4),
        'num_groups': 0,
        'grouping_layers': (),
      },
      (4, 64, 64),
      (2, 4, 4),
    ),
  ],
)
def test_nets_with_places_are_looked_through(family, values, size, places):
  net = factory.build_backbone(families.of(family, **values))
  rng = np.random.default_rng(0)
  clips = tf.constant(rng.uniform(size=(2, *size, 3)), tf.float32)
  endpoint = 'tokens' if family == 'video_vit' else '5'
  maps = net(clips)[endpoint].numpy()
  head = classification.ClassificationHead(3)
  model = encoder.VideoModel(net, head, endpoint)
  found, logits = grad_cam.of_classes(model, clips, [2, 0])
  kernel, bias = head.output_dense.get_weights()
  np.testing.assert_allclose(logits, maps.mean((1, 2, 3)) @ kernel + bias, atol=1e-4)
  assert found.shape[2:] == places[1:]
  cells = np.prod(found.shape[1:])
  for row, asked in enumerate((2, 0)):
    by_hand = np.maximum(maps[row] @ kernel[:, asked], 0) / cells
    np.testing.assert_allclose(found[row], by_hand, atol=1e-5)
  same, _, cosine = grad_cam.of_similarity(model, clips, clips, embeds=True)
  np.testing.assert_allclose(cosine, 1, atol=1e-5)
  assert same.shape == found.shape


def test_what_stands_on_a_vector_has_no_places():
  class Vector(Pooling):
    def call(self, clips, training=False):
      return {'cls': tf.reduce_mean(clips, [1, 2, 3], keepdims=True)}

  model = encoder.VideoModel(Vector(), tf_keras.layers.Dense(2), 'cls')
  with pytest.raises(grad_cam.NoPlacesError, match="'cls' of shape 1 x 1 x 1 x 3"):
    grad_cam.of_classes(model, tf.zeros((1, 2, 4, 4, 3)), [0])

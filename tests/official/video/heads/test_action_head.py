"""Heads for boxes."""

import numpy as np
import pytest
import tensorflow as tf

from official.video.configs import heads as heads_config
from official.video.errors import UserError
from official.video.heads import action

BOXES = tf.constant([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]])


def head(kind, **fields):
  config = heads_config.ActionHead(kind=kind)
  # Each kind is given its own.
  config.override({k: v for k, v in fields.items() if (k == 'context') <= (kind == k)})
  return action.ActionHead(config, 3)


@pytest.mark.parametrize('kind', action.KINDS)
def test_boxes_get_logits_of_their_own(kind):
  layer = head(kind, context={'channels': 8, 'context_length': 3})
  maps = tf.random.stateless_normal([1, 4, 6, 6, 8], [1, 2])
  both = layer(maps, BOXES)
  assert both.shape == (1, 2, 3) and both.dtype == tf.float32
  np.testing.assert_allclose(layer(maps, BOXES[:, 1:]), both[:, 1:], rtol=1e-4, atol=1e-5)
  assert not np.allclose(both[0, 0], both[0, 1])
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(layer(maps, BOXES) ** 2)
  gradients = tape.gradient(loss, layer.trainable_variables)
  assert all(g is not None and np.abs(g).max() > 0 for g in gradients[-2:])


def test_roi_head_takes_the_maximum_inside_the_box():
  layer = head('roi', samples=3)  # Samples in the middles of the box's nine cells.
  maps = np.zeros((1, 2, 6, 6, 1), np.float32)
  maps[0, :, 1, 1] = 2.0
  layer(maps, BOXES)
  layer.classifier.output_dense.set_weights([np.ones((1, 3)), np.zeros(3)])
  logits = layer(maps, BOXES).numpy()
  np.testing.assert_allclose(logits[0, 1], 0)
  assert logits[0, 0, 0] == pytest.approx(2.0)


def test_only_the_context_head_sees_beyond_the_box():
  maps = tf.random.stateless_normal([1, 3, 8, 8, 4], [1, 2])
  box = tf.constant([[[0.0, 0.0, 0.2, 0.2]]])
  far = np.zeros((1, 3, 8, 8, 1), np.float32)
  far[:, :, 6:, 6:] = 5.0
  for kind, sees in (('roi', False), ('context', True)):
    layer = head(kind, context={'channels': 8, 'context_length': 3})
    change = np.abs(layer(maps, box) - layer(maps + far, box)).max()
    assert (change > 1e-4) == sees


def test_unknown_kinds_are_refused():
  with pytest.raises(UserError, match="kind 'rio': expected one of roi, context"):
    head('rio')


@pytest.mark.parametrize('kind', action.KINDS)
def test_a_picture_in_a_larger_map_is_seen_as_if_alone(kind):
  layer = head(kind, context={'channels': 8, 'context_length': 3})
  alone = tf.random.stateless_normal([1, 4, 4, 6, 8], [1, 2])
  around = np.random.default_rng(0).normal(size=(1, 4, 8, 10, 8)).astype(np.float32)
  around[:, :, 2:6, 2:8] = alone
  shown = tf.constant([[2 / 8, 2 / 10, 6 / 8, 8 / 10]])
  boxes = tf.concat([BOXES, [[[0, 0, 1, 1], [0.0, 0.9, 0.05, 1.0]]]], 1)
  inside = boxes * ([4 / 8, 6 / 10] * 2) + ([2 / 8, 2 / 10] * 2)
  expected = layer(alone, boxes)
  np.testing.assert_allclose(layer(around, inside, shown=shown), expected, atol=1e-5)
  assert not np.allclose(layer(around, inside), expected, atol=1e-3)

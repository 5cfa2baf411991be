import numpy as np
import tensorflow as tf

from official.video.temporal import graph


def test_grouped_convolution_equals_one_by_group():
  layer = graph.GroupedConv1D(6, 3, 2, 'conv')
  x = tf.constant(np.random.default_rng(0).normal(size=(2, 5, 4)), tf.float32)
  layer(x)
  layer.bias.assign([0.0, 0.0, 0.0, 1.0, 2.0, 3.0])
  y = layer(x).numpy()
  padded = np.pad(x.numpy(), ((0, 0), (1, 1), (0, 0)))
  for group in range(2):
    kernel = layer.kernel.numpy()[group].reshape(3, 2, 3)
    part = padded[..., 2 * group : 2 * group + 2]
    expected = sum(part[:, i : i + 5] @ kernel[i] for i in range(3))
    expected += layer.bias.numpy()[3 * group : 3 * group + 3]
    np.testing.assert_allclose(y[..., 3 * group : 3 * group + 3], expected, atol=1e-5)


def test_nearest_nodes_by_hand():
  x = tf.constant([[[0.0], [1.0], [5.0], [5.5]]])
  rows = graph.nearest_nodes(x, 2).numpy()[0]
  assert [set(row) for row in rows] == [{0, 1}, {0, 1}, {2, 3}, {2, 3}]


def test_layers_begin_as_pytorchs_do():
  layer = graph.linear(100, 500, 'layer')
  layer(tf.zeros([1, 100]))
  for values in layer.get_weights():
    assert 0.09 < np.abs(values).max() <= 0.1  # Uniform in 1 / sqrt(100) of zero.
    assert abs(values.std() - 0.1 / 3**0.5) < 5e-3

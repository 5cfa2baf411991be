import numpy as np
import pytest
import tensorflow as tf

from official.video.backbones import batch_norm
from official.video.checkpoints.names import logical_variables
from official.video.configs import heads
from official.video.heads.projection import ProjectionHead
from tests.goldens import cases, fill, golden, relative_error

FEATURES = tf.random.stateless_normal([8, 6], [1, 2])


def sized(hidden, layers, output, **more):
  return heads.ProjectionHead(
    hidden_dim=hidden, num_hidden_layers=layers, output_dim=output, **more
  )


def test_names_and_defaults():
  head = ProjectionHead(heads.ProjectionHead(hidden_dim=5))
  assert head(FEATURES).shape == (8, 128)
  shapes = {name: tuple(v.shape) for name, v in logical_variables(head).items()}
  norm = ('gamma', 'beta', 'moving_mean', 'moving_variance')
  expected = {f'bn_{i}/{part}': (5,) for i in range(3) for part in norm}
  expected |= {f'dense_{i}/kernel': (5 if i else 6, 5) for i in range(3)}
  expected |= {f'dense_{i}/bias': (5,) for i in range(3)}
  assert shapes == expected | {'output/kernel': (5, 128), 'output/bias': (128,)}
  assert (head.bn_0.momentum, head.bn_0.epsilon) == (0.997, 1e-5)


def test_hidden_layers_without_bias():
  head = ProjectionHead(sized(4, 2, 3, use_bias=False))
  head(FEATURES)
  names = logical_variables(head)
  assert 'dense_0/bias' not in names
  assert 'dense_1/bias' not in names
  assert 'output/bias' in names


def test_linear_head_by_hand():
  head = ProjectionHead(
    heads.ProjectionHead(num_hidden_layers=0, output_dim=2, normalize_input=True)
  )
  features = tf.constant([[3.0, 4.0]])
  head(features)
  head.set_weights([np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.5, 0.0])])
  np.testing.assert_allclose(head(features), [[0.6 + 0.5, 1.6]], rtol=1e-6)


def test_input_normalization_makes_scale_irrelevant():
  head = ProjectionHead(sized(4, 1, 3, normalize_input=True))
  np.testing.assert_allclose(head(FEATURES), head(10 * FEATURES), rtol=1e-4, atol=1e-6)
  plain = ProjectionHead(sized(4, 1, 3))
  assert np.abs(plain(FEATURES) - plain(10 * FEATURES)).max() > 0.1


def test_takes_synchronization_and_activation_of_the_backbone():
  norm = batch_norm.NormActivation()
  norm.override({'use_sync_bn': False, 'activation': 'swish'})
  config = heads.ProjectionHead(hidden_dim=4, num_hidden_layers=1)
  head = ProjectionHead(config, norm)
  head(FEATURES)
  assert not head.bn_0.synchronized
  moved = head.bn_0(head.dense_0(FEATURES))
  expected = head.output_dense(tf.nn.swish(moved))
  np.testing.assert_allclose(head(FEATURES), expected, rtol=1e-6)


def run(head, strategy=None):
  features = FEATURES * tf.reshape(tf.linspace(0.1, 4.0, 8), [8, 1])
  if strategy is None:
    return head(features, training=True).numpy()
  parts = strategy.experimental_distribute_values_from_function(
    lambda c: features[4 * c.replica_id_in_sync_group :][:4]
  )
  step = tf.function(lambda x: strategy.run(lambda f: head(f, training=True), (x,)))
  return tf.concat(strategy.experimental_local_results(step(parts)), 0).numpy()


@pytest.mark.parametrize('sync', [True, False])
def test_two_replicas_share_batch_statistics_if_synchronized(mirrored, sync):
  config, norm = sized(5, 2, 3), batch_norm.NormActivation(use_sync_bn=sync)
  single = ProjectionHead(config, norm)
  single.build(FEATURES.shape)
  single(FEATURES)
  weights = single.get_weights()
  expected = run(single)
  strategy = mirrored(2)
  with strategy.scope():
    double = ProjectionHead(config, norm)
    double(FEATURES)
    double.set_weights(weights)
  actual = run(double, strategy)
  moved = [
    np.abs(b - a).max() / np.abs(a - w).max()
    for a, b, w in zip(single.get_weights(), double.get_weights(), weights, strict=True)
    if not np.array_equal(a, w)
  ]
  assert len(moved) == 4  # two layers, mean and variance
  gap = max(*moved, np.abs(actual - expected).max())
  assert gap < 1e-3 if sync else gap > 0.05


@pytest.mark.parametrize('case', cases('constcl_global_head.npz', '(.+)/config'))
def test_golden_head_without_bias(case):
  arrays = golden('constcl_global_head.npz')
  layers, hidden, out, channels, batch = (int(n) for n in arrays[f'{case}/config'])
  head = ProjectionHead(sized(hidden, layers, out, use_bias=False, norm_momentum=0.9))
  features = fill(f'constcl/mlp_{case}/features', (batch, channels), 'input')
  head(features)
  for name, variable in logical_variables(head).items():
    variable.assign(fill(f'global_head/{name}', variable.shape))
  trainable = sum(int(tf.size(v)) for v in head.trainable_variables)
  assert trainable == int(arrays[f'{case}/param_count'])
  assert relative_error(head(features), arrays[f'{case}/output']) < 1e-4
  trained = head(features, training=True)
  assert relative_error(trained, arrays[f'{case}/output_training']) < 1e-4

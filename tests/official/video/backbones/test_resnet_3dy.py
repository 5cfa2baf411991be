"""The net with two last stages: goldens, its plain half, recomputation."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video.backbones import factory, families
from official.video.checkpoints import restore
from official.video.checkpoints.names import logical_variables
from official.video.errors import UserError
from tests import backbones as golden_nets
from tests.goldens import cases, fill

FILE = 'constcl_resnet3dy.npz'
TINY = {
  'model_id': 10,
  'width_multiplier': 0.125,
  'temporal_kernel_sizes': (1, 1, 3, 3),
}


def build(family='resnet_3dy', remat='none', **fields):
  config = families.Backbone()
  config.override({'type': family, family: TINY | fields})
  return factory.build_backbone(config, remat=remat)


@pytest.fixture(scope='module')
def published():
  net = factory.build_backbone(families.of('resnet_3dy'))
  for name, variable in logical_variables(net).items():
    variable.assign(fill(name.removeprefix('local_stage/'), variable.shape))
  return net, net(golden_nets.resnet_clip(net, FILE, 'constcl/clip'))


def test_published_parameter_count(published):
  assert published[0].count_params() == 51_955_392


@pytest.mark.parametrize('endpoint', cases(FILE, 'endpoint_(.+)/shape'))
def test_golden_endpoints(published, endpoint):
  golden_nets.assert_golden_endpoint(published[1][endpoint], FILE, endpoint)


def test_specs_name_all_endpoints():
  net = build()
  assert list(net.output_specs) == ['2', '3', '4', '5', '5_1']
  assert net.output_specs['5'] == net.output_specs['5_1']


def test_a_plain_net_takes_its_half(tmp_path):
  tf_keras.utils.set_random_seed(1)
  net = build()
  path = tf.train.Checkpoint(backbone=net).save(tmp_path / 'ckpt')
  plain = build('resnet_3d')
  report = restore.restore_backbone(plain, path)
  assert len(report.ignored) == len(net.local_stage.variables)
  clips = tf.random.stateless_uniform([2, 4, 32, 32, 3], [1, 2])
  np.testing.assert_array_equal(plain(clips)['5'], net(clips)['5'])
  other = build()
  restore.restore_backbone(other, path)
  np.testing.assert_array_equal(other(clips)['5_1'], net(clips)['5_1'])


def test_a_plain_checkpoint_is_refused(tmp_path):
  path = tf.train.Checkpoint(backbone=build('resnet_3d')).save(tmp_path / 'ckpt')
  with pytest.raises(UserError, match=r'do not match.*local_stage'):
    restore.restore_backbone(build(), path)


def test_both_stages_start_and_learn_apart():
  net = build()
  clips = tf.random.stateless_uniform([2, 4, 32, 32, 3], [1, 2])
  endpoints = net(clips)
  assert not np.allclose(endpoints['5'], endpoints['5_1'])
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(net(clips, training=True)['5_1'] ** 2)
  gradients = tape.gradient(loss, net.trainable_variables)
  named = {id(v): name for name, v in logical_variables(net).items()}
  for variable, gradient in zip(net.trainable_variables, gradients, strict=True):
    own_of_global = named[id(variable)].startswith('res5/')
    assert (gradient is None) == own_of_global, named[id(variable)]


@pytest.mark.parametrize('stages', ['all', 'res5_1', 'res2,res5_1'])
def test_recomputation_changes_nothing(stages):
  tf_keras.utils.set_random_seed(1)
  plain = build()
  remat = build(remat=stages)
  remat.set_weights(plain.get_weights())
  clips = tf.random.stateless_uniform([2, 4, 32, 32, 3], [1, 2])
  results = []
  for net in (plain, remat):
    with tf.GradientTape() as tape:
      endpoints = net(clips, training=True)
      loss = sum(tf.reduce_mean(x**2) for x in endpoints.values())
    results.append([loss, *tape.gradient(loss, net.trainable_variables)])
  for one, other in zip(*results, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)

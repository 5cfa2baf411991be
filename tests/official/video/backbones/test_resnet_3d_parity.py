"""R3D-50 against the golden numbers and the installed Model Garden."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.projects.video_ssl.configs import video_ssl
from official.projects.video_ssl.losses import losses as reference_losses
from official.projects.video_ssl.modeling import video_ssl_model
from official.vision.configs import backbones_3d

from official.video.backbones import batch_norm, factory, families
from official.video.checkpoints import restore
from official.video.checkpoints.names import logical_variables
from official.video.configs import heads as heads_config
from official.video.heads import projection
from official.video.losses import info_nce, regularization
from tests import backbones as golden_nets
from tests.goldens import cases, fill, golden, golden_text, relative_error

FILE = 'cvrl_r3d50.npz'
KERNELS = ((1, 1, 1), (1, 1, 1, 1), (3, 3, 3, 3, 3, 3), (3, 3, 3))


def pool(endpoints) -> tf.Tensor:
  return tf.reduce_mean(endpoints['5'], [1, 2, 3])


@pytest.fixture(scope='module')
def net() -> tf_keras.Model:
  """The default backbone, holding the goldens' weights."""
  net = factory.build_backbone(families.Backbone())
  for name, variable in logical_variables(net).items():
    variable.assign(fill(name, variable.shape))
  return net


@pytest.fixture(scope='module')
def head() -> projection.ProjectionHead:
  """The head of the goldens' sizes, holding their weights."""
  shapes = {name: shape for shape, name in head_keys().values()}
  dense = [name for name in shapes if name.endswith('kernel') and 'dense_' in name]
  features, hidden = shapes['projection_head/dense_0/kernel']
  config = heads_config.ProjectionHead(
    hidden_dim=hidden,
    num_hidden_layers=len(dense),
    output_dim=shapes['projection_head/output/kernel'][-1],
  )
  head = projection.ProjectionHead(config)
  head(tf.zeros([1, features]))
  for name, variable in logical_variables(head).items():
    variable.assign(fill(f'projection_head/{name}', variable.shape))
  return head


@pytest.fixture(scope='module')
def reference() -> video_ssl_model.VideoSSLModel:
  """The Model Garden's pretraining model in the published shape."""
  blocks = tuple(
    backbones_3d.ResNet3DBlock(temporal_kernel_sizes=k, use_self_gating=False)
    for k in KERNELS
  )
  resnet = backbones_3d.ResNet3D(
    model_id=50, stem_pool_temporal_stride=1, block_specs=blocks
  )
  config = video_ssl.VideoSSLModel(
    backbone=backbones_3d.Backbone3D(type='resnet_3d', resnet_3d=resnet),
    norm_activation=batch_norm.NormActivation(),
  )
  config.hidden_norm_activation.use_sync_bn = True
  specs = tf_keras.layers.InputSpec(shape=[None, None, None, None, 3])
  return video_ssl_model.build_video_ssl_pretrain_model(specs, config, num_classes=0)


@pytest.fixture(scope='module')
def endpoints(net):
  return net(golden_nets.resnet_clip(net, FILE, 'cvrl/clip', lambda x: (x + 1) / 2))


@pytest.fixture(scope='module')
def theirs(reference, tmp_path_factory) -> str:
  """A checkpoint that the Model Garden's trainer would write."""
  rng = np.random.default_rng(1)
  for variable in reference.variables:
    noise = rng.uniform(0.5, 1.0, variable.shape) if 'variance' in variable.name else None
    drift = rng.normal(size=variable.shape, scale=0.02)
    variable.assign(noise if noise is not None else variable + drift)
  path = tmp_path_factory.mktemp('theirs') / 'ckpt'
  return tf.train.Checkpoint(model=reference, backbone=reference.backbone).save(path)


def test_published_parameter_count(net, reference):
  assert net.count_params() == reference.backbone.count_params() == 31_725_248
  assert sum(int(tf.size(v)) for v in net.trainable_variables) == 31_672_128


@pytest.mark.parametrize('endpoint', cases(FILE, 'endpoint_(.+)/shape'))
def test_golden_endpoints(endpoints, endpoint):
  golden_nets.assert_golden_endpoint(endpoints[endpoint], FILE, endpoint)


def test_golden_feature_and_projection(endpoints, head):
  feature = pool(endpoints)
  assert relative_error(feature, golden(FILE)['feature']) < 1e-4
  arrays = golden('cvrl_projection_head.npz')
  assert relative_error(feature, arrays['feature']) < 1e-4
  assert relative_error(head(feature), arrays['output']) < 1e-4


def test_golden_head_alone(head):
  expected = golden('cvrl_projection_head.npz')['head_only/output']
  shape = len(expected), head.dense_0.kernel.shape[0]
  features = fill('cvrl/head/features', shape, 'input')
  assert relative_error(head(features), expected) < 1e-4


def expected_keys(name: str) -> dict[str, tuple[list[int], str]]:
  rows = [line.split('\t') for line in golden_text(name).splitlines()]
  return {
    key: ([int(n) for n in shape.strip('[]').split(',')], logical)
    for key, shape, logical in rows
    if shape != '-'
  }


def head_keys() -> dict[str, tuple[list[int], str]]:
  found = expected_keys('cvrl_model_checkpoint_keys.txt')
  return {key: value for key, value in found.items() if key.startswith('model/')}


def test_golden_checkpoint_keys_of_the_backbone(net, tmp_path):
  expected = expected_keys('cvrl_backbone_checkpoint_keys.txt')
  reader = tf.train.load_checkpoint(
    tf.train.Checkpoint(backbone=net).write(tmp_path / 'ckpt')
  )
  shapes = reader.get_variable_to_shape_map()
  del shapes['_CHECKPOINTABLE_OBJECT_GRAPH']
  assert shapes == {key: shape for key, (shape, _) in expected.items()}
  for key, (_, logical) in expected.items():
    np.testing.assert_array_equal(
      reader.get_tensor(key), logical_variables(net)[logical], err_msg=logical
    )


def test_golden_checkpoint_keys_of_the_head(head, tmp_path):
  expected = head_keys()
  root = tf.train.Checkpoint(model=projection.model_garden_layout(head))
  reader = tf.train.load_checkpoint(root.write(tmp_path / 'ckpt'))
  shapes = reader.get_variable_to_shape_map()
  del shapes['_CHECKPOINTABLE_OBJECT_GRAPH']
  assert shapes == {key: shape for key, (shape, _) in expected.items()}
  variables = logical_variables(head)
  for key, (_, logical) in expected.items():
    name = logical.removeprefix('projection_head/')
    np.testing.assert_array_equal(reader.get_tensor(key), variables[name], err_msg=name)


def test_their_checkpoint_restores_here_with_equal_outputs(reference, theirs, capsys):
  net = factory.build_backbone(families.Backbone())
  head = projection.ProjectionHead(heads_config.ProjectionHead())
  head(tf.zeros([1, 2048]))
  clips = tf.random.stateless_uniform([4, 8, 32, 32, 3], [1, 2])
  objects = {'backbone': net, 'model': projection.model_garden_layout(head)}
  report = restore.restore(objects, theirs)
  assert (len(report.restored), report.new, report.ignored) == (285, (), ())
  assert (
    'restored 285 variables (265 of backbone, 20 of model)' in capsys.readouterr().err
  )
  features = pool(reference.backbone(clips))
  assert relative_error(pool(net(clips)), features) < 1e-4
  hidden = reference({'image': clips})
  embeddings = head(pool(net(clips)))
  assert relative_error(embeddings, hidden) < 1e-4
  expected = reference_losses.contrastive_loss(hidden, 1, True, 0.1, reference, 1e-6)
  loss = info_nce.info_nce(*tf.split(embeddings, 2)).loss
  assert relative_error(loss, expected['contrastive_loss']) < 1e-4
  decay = regularization.kernel_l2(net.variables + head.variables, 1e-6)
  assert relative_error(decay, expected['reg_loss']) < 1e-4


def test_their_backbone_alone_is_loud_about_the_rest(net, theirs):
  fresh = [v.numpy() for v in net.variables]
  report = restore.restore_backbone(net, theirs)
  assert len(report.restored) == 265
  assert len(report.ignored) == 20
  assert all(name.startswith('model/') for name in report.ignored)
  for variable, value in zip(net.variables, fresh, strict=True):
    variable.assign(value)


def test_our_checkpoint_restores_there(net, reference, tmp_path):
  path = tf.train.Checkpoint(backbone=net).write(tmp_path / 'ckpt')
  status = tf.train.Checkpoint(backbone=reference.backbone).read(path)
  status.assert_existing_objects_matched().assert_consumed()
  clips = tf.random.stateless_uniform([1, 8, 32, 32, 3], [3, 4])
  assert relative_error(reference.backbone(clips)['5'], net(clips)['5']) < 1e-4

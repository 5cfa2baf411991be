import os

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video.backbones import batch_norm, resnet_3d
from official.video.checkpoints import restore
from official.video.checkpoints.names import logical_variables
from official.video.configs import heads
from official.video.errors import UserError
from official.video.heads.classification import ClassificationHead
from official.video.heads.projection import ProjectionHead


def backbone(width=0.0625, depth=10, **options) -> resnet_3d.ResNet3D:
  config = resnet_3d.ResNet3DConfig(model_id=depth, width_multiplier=width, **options)
  return resnet_3d.ResNet3D(config, batch_norm.NormActivation())


def classifier(classes=3, channels=32) -> ClassificationHead:
  head = ClassificationHead(classes)
  head(tf.zeros([1, channels]))
  return head


def values(layer) -> list[np.ndarray]:
  return [v.numpy() for v in layer.variables]


def assert_equal(left, right):
  for a, b in zip(left, right, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.fixture(scope='module')
def source():
  """A backbone whose every variable differs from a fresh one."""
  net = backbone()
  for i, variable in enumerate(net.variables):
    variable.assign(tf.random.stateless_uniform(variable.shape, [i, 1], 0.5, 1.5))
  return net


@pytest.fixture(scope='module')
def saved(source, tmp_path_factory) -> str:
  """A checkpoint of backbone, head, optimizer with slots and step, as trainers write."""
  head = classifier()
  optimizer = tf_keras.optimizers.legacy.SGD(0.0, momentum=0.9)
  variables = source.trainable_variables
  before = values(source)
  optimizer.apply_gradients([(tf.ones_like(v), v) for v in variables])
  assert_equal(values(source), before)
  root = tf.train.Checkpoint(
    backbone=source, head=head, optimizer=optimizer, global_step=tf.Variable(7)
  )
  folder = tmp_path_factory.mktemp('saved')
  return tf.train.CheckpointManager(root, folder, 3, checkpoint_name='ckpt').save(7)


def test_backbone_is_restored_and_the_rest_is_named(source, saved, capsys):
  net = backbone()
  report = restore.restore_backbone(net, saved)
  assert_equal(values(net), values(source))
  assert report.path == saved
  assert set(report.restored) == {f'backbone/{name}' for name in logical_variables(net)}
  assert report.new == ()
  slots = [name for name in report.ignored if '.OPTIMIZER_SLOT' in name]
  assert len(slots) == len(net.trainable_variables)
  assert {'global_step', 'head/output_dense/kernel'} <= set(report.ignored)
  assert not any('save_counter' in name for name in report.ignored)
  assert capsys.readouterr().err == report.summary() + '\n'
  count = len(net.variables)
  assert f'restored {count} variables ({count} of backbone) from' in report.summary()
  assert '1 of global_step' in report.summary()
  assert f'{len(slots)} of optimizer slots' in report.summary()


def test_new_variables_of_the_model_are_named(saved):
  net, head = backbone(), classifier(classes=5)
  clips = tf_keras.Input([4, 16, 16, 3])
  feature = tf.reduce_mean(net(clips)['5'], [1, 2, 3])
  model = tf_keras.Model(clips, head(feature))
  report = restore.restore_backbone(net, saved, model)
  prefix = 'classification_head/output/'
  assert set(report.new) == {prefix + 'kernel', prefix + 'bias'}
  assert 'new 2 variables (2 of classification_head)' in report.summary()


def test_backbone_and_head_together(source, saved):
  net, head = backbone(), classifier()
  report = restore.restore({'backbone': net, 'head': head}, saved)
  stored = tf.train.load_variable(
    saved, 'head/output_dense/kernel/.ATTRIBUTES/VARIABLE_VALUE'
  )
  np.testing.assert_array_equal(head.get_weights()[0], stored)
  assert_equal(values(net), values(source))
  assert 'head/output/kernel' in report.restored
  assert not any(name.startswith('head') for name in report.ignored)


def test_an_optional_head_that_does_not_fit_is_new(source, saved):
  net, head = backbone(), classifier(classes=5)
  before = values(head)
  objects = {'backbone': net, 'head': head}
  report = restore.restore(objects, saved, required=['backbone'])
  assert set(report.new) == {'head/output/kernel', 'head/output/bias'}
  assert_equal(values(head), before)
  assert_equal(values(net), values(source))
  absent = restore.restore({'backbone': net, 'probe': head}, saved, ['backbone'])
  assert set(absent.new) == {'probe/output/kernel', 'probe/output/bias'}


def test_nothing_changes_where_a_required_object_does_not_fit(saved):
  net, head = backbone(), classifier(classes=5)
  before = values(net)
  message = (
    r'2 of 2 head variables do not match: head/output/kernel is \[32, 5\] here and '
    r'\[32, 3\] there, head/output/bias is \[5\] here and \[3\] there; configure head'
  )
  with pytest.raises(UserError, match=message):
    restore.restore({'backbone': net, 'head': head}, saved)
  assert_equal(values(net), before)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'width': 0.125}, r'stem/conv/kernel is \[5, 7, 7, 3, 8\] here and .* 4\] there'),
    (
      {'temporal_kernel_sizes': (1, 1, 3, 1)},
      r'2 of 60 .* backbone/res5/block_0/first/conv/kernel is \[1, .* \[3, .* there',
    ),
    ({'depth': 18}, r'there and \d+ more; configure backbone'),
    ({'depth': 50}, r'temporal/conv/kernel is .* here and absent there'),
  ],
)
def test_another_architecture_is_refused_whole(saved, options, message):
  net = backbone(**options)
  before = values(net)
  with pytest.raises(UserError, match=message):
    restore.restore_backbone(net, saved)
  assert_equal(values(net), before)


def test_a_backbone_with_other_child_names_is_refused(source, tmp_path):
  # Weights of the right shapes under names that match nothing: TensorFlow's own restore
  # leaves the net random and passes.
  class Subclassed(tf_keras.Model):
    def __init__(self):
      super().__init__()
      self.stem = source.layers[1]
      self.blocks = source.layers[5:]

  path = tf.train.Checkpoint(backbone=Subclassed()).save(tmp_path / 'ckpt')
  net = backbone()
  count = len(net.variables)
  with pytest.raises(UserError, match=rf'{count} of {count} .* absent there'):
    restore.restore_backbone(net, path)


def test_more_blocks_in_the_checkpoint_are_ignored_loudly(tmp_path):
  class Wider(tf.train.Checkpoint):
    pass

  net = backbone()
  extra = tf.Variable([1.0])
  children = {f'layer_with_weights-{i}': layer for i, layer in enumerate(weighted(net))}
  root = tf.train.Checkpoint(backbone=Wider(**children, local_branch=extra))
  report = restore.restore_backbone(backbone(), root.write(tmp_path / 'ckpt'))
  assert report.ignored == ('backbone/local_branch',)


def weighted(net) -> list[tf_keras.layers.Layer]:
  return [layer for layer in net.layers if layer.weights]


def test_weightless_layers_do_not_matter(source, tmp_path):
  # Numbered like a net without activation and pooling layers.
  inputs = tf_keras.Input([4, 16, 16, 3])
  x = inputs
  for layer in weighted(source):
    x = layer(x)
  path = tf.train.Checkpoint(backbone=tf_keras.Model(inputs, x)).write(tmp_path / 'ckpt')
  net = backbone()
  restore.restore_backbone(net, path)
  assert_equal(values(net), values(source))


def test_a_checkpoint_without_the_object_says_what_it_holds(source, tmp_path):
  path = tf.train.Checkpoint(net=source, step=tf.Variable(1)).save(tmp_path / 'ckpt')
  message = rf"holds no 'backbone', but net \({len(source.variables)} variables\), step"
  with pytest.raises(UserError, match=message):
    restore.restore_backbone(backbone(width=0.125), path)


def whole_model(net) -> tf_keras.Model:
  clips = tf_keras.Input([4, 16, 16, 3])
  x = tf_keras.layers.GlobalAveragePooling3D()(net(clips)['5'])
  return tf_keras.Model(clips, tf_keras.layers.Dense(3, name='classes')(x))


def test_backbones_inside_of_whole_models_are_found(source, tmp_path, capsys):
  model = whole_model(source)
  optimizer = tf_keras.optimizers.legacy.SGD(0.0, momentum=0.9)
  optimizer.apply_gradients([(tf.zeros_like(v), v) for v in model.trainable_variables])
  inside = tf.train.Checkpoint(model=model, optimizer=optimizer).write(tmp_path / 'model')
  model.save_weights(str(tmp_path / 'whole'))
  source.save_weights(str(tmp_path / 'own'))
  places = {
    inside: 'model/layer_with_weights-0',
    str(tmp_path / 'whole'): 'layer_with_weights-0',
    str(tmp_path / 'own'): 'its root',
  }
  for path, place in places.items():
    net = backbone()
    restore.restore_backbone(net, path)
    assert_equal(values(net), values(source))
    note = f"{path}: has no 'backbone'; took {place}, which fits in every variable"
    assert note in capsys.readouterr().err


def test_one_of_several_that_fit_is_not_guessed(source, tmp_path):
  path = tf.train.Checkpoint(online=source, target=backbone()).write(tmp_path / 'two')
  net = backbone()
  before = values(net)
  with pytest.raises(UserError, match=r"2 objects that fit 'backbone': .*online.*target"):
    restore.restore_backbone(net, path)
  assert_equal(values(net), before)


def test_other_kinds_of_files_are_told_with_the_way(source, tmp_path):
  source.save_weights(str(tmp_path / 'a.h5'))
  tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=[2])]).save(tmp_path / 'b.h5')
  tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=[2])]).save(
    tmp_path / 'c.keras'
  )
  header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
  (tmp_path / 'd.safetensors').write_bytes(
    len(header).to_bytes(8, 'little') + header + b'1234'
  )
  for name, message in {
    'a.h5': r"is Keras' \(HDF5\); build .* load_weights\(.*a\.h5.*\.write",
    'b.h5': r"is Keras' \(HDF5\); convert it: .*load_model\(.*b\.h5",
    'c.keras': r"is Keras'; convert it: .*load_model\(",
    'd.safetensors': r'safetensors; convert it with .*from_image_vit',
  }.items():
    with pytest.raises(UserError, match=message) as caught:
      restore.find_checkpoint(tmp_path / name)
    assert '\n' not in str(caught.value)


def test_projection_head_restores(tmp_path):
  config = heads.ProjectionHead(hidden_dim=4, num_hidden_layers=2, output_dim=3)
  head, other = ProjectionHead(config), ProjectionHead(config)
  head(tf.zeros([1, 5])), other(tf.zeros([1, 5]))
  path = tf.train.Checkpoint(head=head).save(tmp_path / 'ckpt')
  report = restore.restore({'head': other}, path)
  assert_equal(values(other), values(head))
  assert 'head/bn_1/moving_variance' in report.restored


def test_restores_under_a_strategy_and_mixed_precision(source, saved, mirrored):
  tf_keras.mixed_precision.set_global_policy('mixed_bfloat16')
  strategy = mirrored(2)
  try:
    with strategy.scope():
      net = backbone()
      restore.restore_backbone(net, saved)
  finally:
    tf_keras.mixed_precision.set_global_policy('float32')
  assert_equal(values(net), values(source))
  copies = strategy.experimental_local_results(net.variables[0])
  assert_equal([c.numpy() for c in copies], [source.variables[0].numpy()] * 2)


def test_find_checkpoint(saved, tmp_path):
  folder = os.path.dirname(saved)
  assert restore.find_checkpoint(saved) == saved
  assert restore.find_checkpoint(saved + '.index') == saved
  assert restore.find_checkpoint(saved + '.data-00000-of-00001') == saved
  assert restore.find_checkpoint(folder) == saved
  root = tf.train.Checkpoint(v=tf.Variable(1))
  first = root.write(tmp_path / 'a')
  assert restore.find_checkpoint(tmp_path) == first
  root.write(tmp_path / 'b')
  with pytest.raises(UserError, match=r"2 checkpoints \(a, b\) and no 'checkpoint' file"):
    restore.find_checkpoint(tmp_path)


def test_paths_without_a_checkpoint(tmp_path):
  with pytest.raises(
    UserError, match=r'the folder holds no checkpoint \(no \.index file'
  ):
    restore.find_checkpoint(tmp_path)
  with pytest.raises(UserError, match=r'does not exist \(no ckpt-1\.index\); expected'):
    restore.find_checkpoint(tmp_path / 'ckpt-1')
  (tmp_path / 'net.pth').write_bytes(b'torch')
  with pytest.raises(UserError, match=r'net\.pth: is no TensorFlow checkpoint'):
    restore.find_checkpoint(tmp_path / 'net.pth')


def test_broken_checkpoints(saved, tmp_path):
  path = tf.train.Checkpoint(backbone=backbone()).write(tmp_path / 'ckpt')
  (tmp_path / 'ckpt.data-00000-of-00001').unlink()
  with pytest.raises(
    UserError, match=r'ckpt: cannot be read \(.*\); expected a complete'
  ):
    restore.restore_backbone(backbone(), path)
  (tmp_path / 'bad.index').write_bytes(b'not an index')
  with pytest.raises(UserError, match=r'bad: cannot be read'):
    restore.restore_backbone(backbone(), tmp_path / 'bad')


def test_truncated_values_leave_the_backbone_alone(source, tmp_path):
  path = tf.train.Checkpoint(backbone=source).write(tmp_path / 'ckpt')
  data = tmp_path / 'ckpt.data-00000-of-00001'
  content = bytearray(data.read_bytes())
  content[len(content) // 2] ^= 0xFF
  data.write_bytes(content)
  net = backbone()
  before = values(net)
  with pytest.raises(UserError, match=r'cannot be read'):
    restore.restore_backbone(net, path)
  assert_equal(values(net), before)


def test_name_based_checkpoints_are_refused(tmp_path):
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    variable = tf.compat.v1.get_variable('v', initializer=1.0)
    session.run(variable.initializer)
    path = tf.compat.v1.train.Saver().save(session, str(tmp_path / 'v1'))
  with pytest.raises(UserError, match='holds variables by name only'):
    restore.restore_backbone(backbone(), path)


def test_misuse(saved):
  with pytest.raises(ValueError, match='head has no variables yet; build it'):
    restore.restore({'head': ClassificationHead(3)}, saved)
  with pytest.raises(ValueError, match=r"required \['head'\] are not among"):
    restore.restore({'backbone': backbone()}, saved, required=['head'])


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('ckpt.tar.gz', b'\x1f\x8b\x08', 'packed; unpack it .tar xf, or gunzip. and name'),
    ('ckpt.zip', b'PK\x03\x04', 'packed; unpack it .unzip.'),
    ('ckpt.tar', bytes(257) + b'ustar' + bytes(250), 'packed; unpack it .tar xf.'),
    ('ckpt.tar.xz', b'\xfd7zXZ\x00', 'unxz'),
    ('model.pth', b'PK\x03\x04', "PyTorch's; convert it with .*from_pytorch"),
    ('notes.txt', b'text', 'is no TensorFlow checkpoint'),
    ('empty', b'', 'is no TensorFlow checkpoint'),
  ],
)
def test_files_of_other_forms_say_what_to_do(tmp_path, name, content, message):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(UserError, match=message):
    restore.find_checkpoint(str(tmp_path / name))

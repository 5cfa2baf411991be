"""Files of public libraries' nets become nets of the same function, and go back."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video.backbones import factory, families
from official.video.checkpoints import (
  from_image_vit,
  from_pytorch,
  origin,
  pytorch_file,
  pytorch_layouts,
  pytorch_mapping,
  restore,
  zoo,
)
from official.video.errors import UserError
from official.video.settings import experiment
from tests import drivers, goldens

# The file of goldens' net to our family.
FAMILIES = {
  'torchvision_r3d_18': 'r3d',
  'torchvision_mc3_18': 'r3d',
  'torchvision_r2plus1d_18': 'r2plus1d',
  'torchvision_s3d': 's3d',
  'slowfast_slow': 'resnet_3d',
  'slowfast_c2d': 'resnet_3d',
  'slowfast_i3d': 'resnet_3d',
  'pytorchvideo_slow': 'resnet_3d',
  'pytorchvideo_i3d': 'resnet_3d',
}
# Those that the others differ from by a rule of names or by a field only.
QUICK = (
  *('torchvision_r3d_18', 'torchvision_r2plus1d_18', 'torchvision_s3d'),
  *('slowfast_i3d', 'pytorchvideo_slow'),
)
NETS = [x if x in QUICK else pytest.param(x, marks=pytest.mark.slow) for x in FAMILIES]


def arrays():
  return np.load(goldens.PYTORCH / 'nets.npz')


def state_dict(name):
  shapes = json.loads(str(arrays()[f'{name}/keys']))
  return {
    key: goldens.net(f'{name}/{key}', shape) if shape else np.array(0)
    for key, shape in shapes.items()
  }


def target_of(name, tensors, **changes):
  layout = pytorch_layouts.recognized(tensors)
  assert layout.family == FAMILIES[name]
  assert name.startswith(layout.name)
  fields = layout.config_of(tensors) | changes
  plain = from_pytorch.convertible(layout.family, '', fields, layout.epsilon)
  return from_pytorch.named_by(plain, layout)


def pixels(target):
  """The goldens' clip as pixels that become it by the net's own normalization."""
  clip = 2 * goldens.net('nets/clip', (1, 6, 40, 44, 3), 'clip')
  mean, deviation = target.layout.pixels
  return clip * np.float32(deviation) + np.float32(mean)


def maps_of(target):
  return target.objects['backbone'](pixels(target), training=False)


@pytest.mark.parametrize('name', NETS)
def test_features_are_those_of_the_library(name, equality):
  tensors = state_dict(name)
  target = target_of(name, tensors)
  others = from_pytorch.read(target, tensors, 'x.pth', '')
  assert len(others) == 2 and all(x.endswith(('weight', 'bias')) for x in others)
  stored, maps = arrays(), maps_of(target)
  assert f'{name}/maps/5/places' in stored
  for endpoint, found in maps.items():
    if f'{name}/maps/{endpoint}/places' not in stored:
      continue
    for kind, axes in {'places': 4, 'channels': (1, 2, 3)}.items():
      expected = stored[f'{name}/maps/{endpoint}/{kind}']
      mean = tf.reduce_mean(found, axes)
      equality(f'{target.layout.title}, maps', mean, expected)
  # Back, every tensor is the file's, bit for bit.
  back = pytorch_mapping.to_state_dict(target.layers)
  own = {key: value for key, value in tensors.items() if key not in others}
  assert set(back) == set(own)
  for key, value in own.items():
    assert key.endswith('tracked') or back[key].tobytes() == value.tobytes(), key
    if not key.endswith('tracked'):
      equality(f'{target.layout.title}, weights written back', back[key], value)


# --- The driver -----------------------------------------------------------------------


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
  """The folder of a mixed-convolution net, and what its conversion printed."""
  folder = tmp_path_factory.mktemp('mc3')
  tensors = state_dict('torchvision_mc3_18')
  pytorch_file.write(str(folder / 'mc3.pth'), tensors)
  result = drivers.run(
    from_pytorch,
    '--backbone=r3d',
    f'--pytorch_file={folder / "mc3.pth"}',
    f'--checkpoint={folder / "ckpt"}',
  )
  assert result.code == 0, result.stderr
  return folder, result.stdout


def test_the_conversion_says_what_the_net_is(converted):
  folder, text = converted
  assert (
    'mc3.pth: the names of a torchvision r3d, of pixels in [0, 1] less [0.43216,' in text
  )
  assert '\nfc.weight: not part of the backbone\n' in text
  found = next(line for line in text.splitlines() if line.startswith('tasks that start'))
  for field in (
    'task.model.backbone.type=r3d',
    'r3d.stem_pool=false',
    'r3d.stem_conv_temporal_kernel_size=3',
    'r3d.temporal_kernel_sizes=[3,1,1,1]',
    'r3d.temporal_strides=[1,1,1,1]',
    'r3d.pixel_deviation=[0.22803,0.22145,0.216989]',
  ):
    assert field in found, field
  assert 'norm_epsilon' not in found
  # The line is one that an experiment takes, and its task the checkpoint.
  params = experiment.load(
    'cvrl_linear_eval_kinetics400', params_override=found.partition('override=')[2]
  )
  task = experiment.build_task(params)
  origin.check(task.task_config, str(folder / 'ckpt'))
  assert origin.of(str(folder)).converted == origin.of(str(folder / 'ckpt')).converted


@pytest.mark.parametrize(
  ('change', 'field'),
  [
    ('task.model.backbone.r3d.stem_pool=true', 'stem_pool'),
    ('task.model.backbone.r3d.temporal_strides=[1,2,2,2]', 'temporal_strides'),
    ('task.model.backbone.r3d.pixel_mean=[]', 'pixel_mean'),
    ('task.model.norm_activation.norm_epsilon=0.001', 'norm_epsilon'),
    ('task.zero_centering=true', 'zero_centering'),
    ('task.model.backbone.type=c3d', 'backbone.type'),
  ],
)
def test_a_task_of_another_function_is_refused(converted, change, field):
  folder, _ = converted
  name = 'cvrl_linear_eval_kinetics400'
  params = experiment.load(name, params_override=origin.of(str(folder)).overrides)
  origin.check(params.task, str(folder / 'ckpt'))
  experiment.apply_overrides(params, change, 'test')
  with pytest.raises(UserError, match=rf'was trained with task\..*{field}'):
    origin.check(params.task, str(folder / 'ckpt'))


def test_back_it_has_the_librarys_names_again(converted, tmp_path):
  folder, _ = converted
  back = tmp_path / 'back.pth'
  # The fields are those that the conversion left beside the checkpoint.
  flags = f'--pytorch_file={back}', f'--checkpoint={folder / "ckpt"}'
  result = drivers.run(from_pytorch, '--backbone=r3d', '--reverse', *flags)
  assert result.code == 0, result.stderr
  assert f'{back}: gets the names of a torchvision r3d' in result.stdout
  tensors = state_dict('torchvision_mc3_18')
  found = pytorch_file.read_state_dict(str(back))
  assert found.keys() == {key for key in tensors if not key.startswith('fc.')}
  for key, value in found.items():
    assert np.array_equal(value, tensors[key]), key
  other = tmp_path / 'own.pth'
  flags = f'--pytorch_file={other}', f'--checkpoint={folder / "ckpt"}', '--layout=cstp'
  assert drivers.run(from_pytorch, '--backbone=r3d', '--reverse', *flags).code == 0
  own = pytorch_file.read_state_dict(str(other))
  assert 'module.online_net.layer2.0.downsample.1.running_var' in own
  assert len(own) == len(found)


def refusal(*flags):
  result = drivers.run(from_pytorch, *flags)
  assert result.code == 2
  assert result.stderr.count('\n') == 1
  return result.stderr


def test_what_fits_no_family_is_refused(converted, tmp_path):
  folder, _ = converted
  given = f'--pytorch_file={folder / "mc3.pth"}', f'--checkpoint={tmp_path / "ckpt"}'
  message = refusal('--backbone=r2plus1d', *given)
  assert 'the keys are those of a torchvision r3d; use --backbone=r3d' in message
  message = refusal('--backbone=r3d', '--layout=slowfast', *given)
  assert 'its keys are those of torchvision, such as stem.0.weight' in message
  message = refusal('--backbone=r3d', '--params_override=r3d.model_id=10', *given)
  assert 'does not match the torchvision r3d' in message
  assert not list(tmp_path.iterdir())


def test_nets_that_are_none_of_ours_are_refused():
  tensors = state_dict('slowfast_slow')
  layout = pytorch_layouts.recognized(tensors)
  two = tensors | {'s1.pathway1_stem.conv.weight': np.zeros((1, 3, 5, 7, 7))}
  with pytest.raises(UserError, match='two pathways'):
    layout.config_of(two)
  mixed = tensors | {'s3.pathway0_res1.branch2.a.weight': np.zeros((8, 32, 3, 1, 1))}
  mixed['s3.pathway0_res3.branch2.a.weight'] = np.zeros((8, 32, 3, 1, 1))
  assert layout.config_of(mixed)['temporal_kernel_blocks'] == ('all', 'odd', 'all', 'all')
  mixed['s3.pathway0_res2.branch2.a.weight'] = np.zeros((8, 32, 5, 1, 1))
  with pytest.raises(UserError, match=r'see \[1, 3, 5, 3\] frames'):
    layout.config_of(mixed)
  shallow = {key: x for key, x in tensors.items() if '4.pathway0_res5' not in key}
  with pytest.raises(UserError, match=r'of \[3, 4, 5, 3\] blocks'):
    layout.config_of(shallow)
  del tensors['s2.pathway0_res1.branch2.a.weight']
  with pytest.raises(UserError, match=r"slowfast's of a resnet_3d, but .* is missing"):
    layout.config_of(tensors)


@pytest.mark.parametrize(
  ('family', 'fields', 'epsilon', 'reason'),
  [
    ('r3d', {'stem_pool': True}, 1e-5, 'stem_pool is true, there false'),
    ('s3d', {'gating': False}, 1e-5, 'norm_epsilon is 1e-05, there 0.001'),
    ('s3d', {}, 1e-3, 'gating is true, there false'),
    ('r3d', {'stem_pool': False}, 1e-5, 'stem_conv_temporal_kernel_size is 3 there'),
    (
      'r3d',
      {
        'stem_pool': False,
        'stem_conv_temporal_kernel_size': 3,
        'temporal_kernel_sizes': (3, 1, 1, 1),
      },
      1e-5,
      r'temporal_strides are \[1, 1, 1, 1\] there',
    ),
    (
      'r2plus1d',
      {'mid_width': 'block', 'shortcut': 'plain'},
      1e-5,
      'stem_mid_filters is 0, there 45',
    ),
    ('resnet_3d', {}, 1e-5, 'symmetric_padding is false, there true'),
    (
      'resnet_3d',
      {'model_id': 18, 'symmetric_padding': True, 'stem_conv_temporal_stride': 1},
      1e-5,
      'basic blocks',
    ),
  ],
)
def test_a_net_of_another_function_gets_no_public_names(family, fields, epsilon, reason):
  assert factory.registered_backbones()
  config = families.of(family, **fields).get()
  target = from_pytorch.Convertible(
    family, family, {}, {}, 'backbone', config=config, epsilon=epsilon
  )
  assert from_pytorch.layout_out(None, target) is None
  name = next(x.name for x in pytorch_layouts.LAYOUTS if x.family == family)
  with pytest.raises(UserError, match=reason):
    from_pytorch.layout_out(name, target)
  with pytest.raises(UserError, match=f'names no {family}'):
    from_pytorch.layout_out(
      'slowfast' if name == 'torchvision' else 'torchvision', target
    )


OTHERS = {
  'resnet_3d': 'model_id=10,width_multiplier=0.0625',
  'resnet_3dy': 'model_id=10,width_multiplier=0.0625',
  'video_vit': (
    'hidden_size=8,num_layers=2,num_heads=2,mlp_dim=8,grid=[2,2,2],tubelet=[2,4,4],'
    'num_groups=3,grouping_layers=[2]'
  ),
}


@pytest.mark.parametrize('family', OTHERS)
def test_other_families_go_by_their_own_names(family, tmp_path):
  fields = re.sub(r'(^|,)(?=[a-z])', rf'\1{family}.', OTHERS[family])
  net, layers = from_pytorch.build_backbone(family, fields)
  assert {id(x.variable) for x in pytorch_mapping.weights(layers).values()} == {
    id(v) for v in net.variables
  }
  tf.train.Checkpoint(backbone=net).write(str(tmp_path / 'ckpt'))
  flags = f'--backbone={family}', f'--params_override={fields}'
  file = f'--pytorch_file={tmp_path / "a.pth"}'
  result = drivers.run(
    from_pytorch, *flags, file, f'--checkpoint={tmp_path / "ckpt"}', '--reverse'
  )
  assert result.code == 0, result.stderr
  found = pytorch_file.read_state_dict(str(tmp_path / 'a.pth'))
  assert ('layer4_1.0.conv2.weight' in found) == (family == 'resnet_3dy')
  result = drivers.run(from_pytorch, *flags, file, f'--checkpoint={tmp_path / "b"}')
  assert result.code == 0, result.stderr
  again, _ = from_pytorch.build_backbone(family, fields)
  restore.restore_backbone(again, str(tmp_path / 'b'))
  for new, old in zip(again.variables, net.variables, strict=True):
    assert np.array_equal(new, old), old.name


def test_a_classifier_is_taken_where_it_is_the_experiments(converted, tmp_path):
  folder, _ = converted
  overrides = origin.of(str(folder)).overrides + ',task.model.num_classes=5'
  flags = (
    f'--pytorch_file={folder / "mc3.pth"}',
    f'--checkpoint={tmp_path / "c" / "ckpt"}',
  )
  name = '--experiment=cvrl_finetune_kinetics400'
  assert 'is none of torchvision: stem_pool is true' in refusal(
    name,
    '--params_override=task.model.backbone.type=r3d,task.model.num_classes=5',
    *flags,
  )
  result = drivers.run(from_pytorch, name, f'--params_override={overrides}', *flags)
  assert result.code == 0, result.stderr
  params = experiment.load(name[13:], params_override=overrides)
  model = experiment.build_task(params).built_model()
  restore.restore({'model': model}, str(tmp_path / 'c' / 'ckpt'))
  clip = 2 * goldens.net('nets/clip', (1, 6, 40, 44, 3), 'clip')
  config = params.task.model.backbone.get()
  clip = clip * np.float32(config.pixel_deviation) + np.float32(config.pixel_mean)
  feature = tf.reduce_mean(model.backbone(clip, training=False)['5'], [1, 2, 3])
  logits = model.head(feature, training=False)
  expected = arrays()['torchvision_mc3_18/maps/logits']
  assert goldens.relative_error(logits, expected) < 1e-4


def test_a_transformer_is_hugging_faces(tmp_path):
  fields = OTHERS['video_vit'].partition(',num_groups')[0] + ',num_groups=0'
  config = families.of('video_vit')
  experiment.apply_overrides(config.get(), fields, 'test')
  config.get().activation = 'gelu_tanh'
  tf_keras.utils.set_random_seed(0)
  net = factory.build_backbone(config)
  random = np.random.default_rng(3)
  for variable in net.variables:
    variable.assign(random.normal(size=variable.shape))
  tf.train.Checkpoint(backbone=net).write(str(tmp_path / 'ckpt'))
  file, flags = tmp_path / 'vivit.pth', ['--backbone=video_vit', '--reverse']
  flags += [f'--pytorch_file={file}', f'--checkpoint={tmp_path / "ckpt"}']
  named = re.sub(r'(^|,)(?=[a-z])', r'\1video_vit.', fields)
  message = refusal(*flags, f'--params_override={named}', '--layout=huggingface')
  assert 'activation is gelu, there gelu_tanh' in message
  named += ',video_vit.activation=gelu_tanh'
  result = drivers.run(from_pytorch, *flags, f'--params_override={named}')
  assert result.code == 0, result.stderr
  assert 'gets the names of a huggingface video_vit' in result.stdout
  found = pytorch_file.read_state_dict(str(file))
  assert found['embeddings.patch_embeddings.projection.weight'].shape == (8, 3, 2, 4, 4)
  key = 'encoder.layer.1.attention.attention.value.weight'
  assert np.array_equal(found[key], net.blocks[1].value.kernel.numpy().T)
  assert found['embeddings.position_embeddings'].shape == (1, 9, 8)
  # What reads such files makes the same net of it, bit for bit.
  again = factory.build_backbone(config)
  assert not from_image_vit.load(again, str(file))
  for new, old in zip(again.variables, net.variables, strict=True):
    assert np.array_equal(new, old), old.name
  back = [x for x in flags[:-2] if x != '--reverse']
  message = refusal(*back, f'--pytorch_file={file}', f'--checkpoint={tmp_path / "b"}')
  assert 'convert it by python -m official.video.checkpoints.from_image_vit' in message


# Parameters of the published nets, without their classifiers of 400 classes.
ZOO = {
  'r3d_18_k400': ('torchvision', 33_371_472 - 513 * 400),
  'mc3_18_k400': ('torchvision', 11_695_440 - 513 * 400),
  'r2plus1d_18_k400': ('torchvision', 31_505_325 - 513 * 400),
  's3d_k400': ('torchvision', 8_320_048 - 1025 * 400),
  'slow_r50_k400': ('pytorchvideo', 32_454_096 - 2049 * 400),
}


def test_tasks_of_the_zoo_are_the_librarys_nets():
  for name, (library, _) in ZOO.items():
    entry = zoo.entries()[name]
    params = experiment.load(entry.experiment, params_override=entry.overrides)
    model = params.task.model
    layout = pytorch_layouts.of(library, str(model.backbone.type))
    config, norm = model.backbone.get(), model.norm_activation
    assert not layout.misfit(config, norm.norm_epsilon, norm.activation), name
    pixels = tuple(config.pixel_mean), tuple(config.pixel_deviation)
    assert pixels == layout.pixels and not params.task.zero_centering
    assert f'--backbone={layout.family} ' in entry.convert


@pytest.mark.slow
@pytest.mark.parametrize('name', ZOO)
def test_nets_of_the_zoo_have_the_published_size(name):
  entry = zoo.entries()[name]
  params = experiment.load(entry.experiment, params_override=entry.overrides)
  net = factory.build_backbone(params.task.model.backbone)
  assert sum(int(tf.size(v)) for v in net.trainable_variables) == ZOO[name][1]

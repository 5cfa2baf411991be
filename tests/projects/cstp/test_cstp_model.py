"""The networks of CSTP against the reference's numbers, and the moving target."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video.backbones import families
from official.video.checkpoints import pytorch_mapping
from official.video.errors import UserError
from official.video.models import momentum
from official.video.projects.cstp import configs, losses, model
from tests import backbones, goldens

TINY = {'width_multiplier': 0.125}


def config(family='c3d', **fields):
  made = configs.Model(
    backbone=families.Backbone(), norm_activation=backbones.unsynchronized()
  )
  made.override({'backbone': {'type': family, family: TINY}, 'predictor_dim': 16})
  made.override(fields)
  return made


def published(family):
  made = config(family, predictor_dim=4096)
  made.override({'backbone': {family: {'width_multiplier': 1.0}}})
  return made


def clip(shape=(2, 8, 32, 32, 3)):
  return tf.random.stateless_uniform(shape, [1, 2], -1.0, 1.0)


# Parameters of the online and target networks and the heads; tensors without counters.
@pytest.mark.parametrize(
  ('family', 'count'),
  [
    pytest.param('r2plus1d', 43_997_954, marks=pytest.mark.slow),
    ('c3d', 59_544_338),
    pytest.param('r3d', 70_629_266, marks=pytest.mark.slow),
    pytest.param('s3d', 41_335_348, marks=pytest.mark.slow),
    pytest.param('i3d', 33_005_138, marks=pytest.mark.slow),
  ],
)
def test_has_the_published_number_of_parameters(family, count):
  net = model.CstpModel(published(family))
  averaged = [target for target, _ in net.averaged()]
  assert sum(int(tf.size(v)) for v in [*net.trainable_variables, *averaged]) == count
  assert not {id(v) for v in averaged} & {id(v) for v in net.trainable_variables}


@contextlib.contextmanager
def precision_of(family):
  """Float64 for s3d, to be entered before it is built; float32 for the others.

  Its gradient comes through batch norms over nearly equal samples: in float32, rounding
  alone is about as large as the tolerance.
  """
  before = tf_keras.mixed_precision.global_policy()
  if family == 's3d':
    tf_keras.mixed_precision.set_global_policy('float64')
  yield
  tf_keras.mixed_precision.set_global_policy(before)


def golden_weights(net, family, file):
  """Gives a model the goldens' weights; returns them by PyTorch's key."""
  gain = float(goldens.golden(file)['meta/conv_gain'])
  weights = pytorch_mapping.weights(model.pytorch_layers(net))
  for key, weight in weights.items():
    if '.block' not in key or family != 's3d':
      value = goldens.fill(
        key, weight.shape, gain=gain if len(weight.shape) == 5 else 1.0
      )
      weight.variable.assign(weight.to_keras(value))
  return weights


def golden_step(net, file):
  """Outputs, terms and gradients, by variable, of one step on the goldens' clips."""
  arrays, clips = goldens.golden(file), backbones.clips(net.online_backbone, file)
  labels = {
    'spatial_label': arrays['labels/spa'],
    'temporal_label': arrays['labels/tem'],
    'playback_label': arrays['labels/pb'],
    'rotation_label': np.stack([arrays['labels/rot1'], arrays['labels/rot2']], 1),
  }

  @tf.function(autograph=False)
  def run():
    momentum.average_into(net.averaged(), 0.996)
    with tf.GradientTape() as tape:
      outputs = net.pair(*clips, training=True)
      terms = losses.per_sample(outputs, labels)
      terms = {name: tf.reduce_mean(value) for name, value in terms.items()}
      terms['total'] = losses.total(terms)
    return outputs, terms, tape.gradient(terms['total'], net.trainable_variables)

  outputs, terms, gradients = run()
  by_id = {id(v): g for v, g in zip(net.trainable_variables, gradients, strict=True)}
  return outputs, terms, by_id


_LATER = (pytest.mark.slow, pytest.mark.exhaustive)


@pytest.mark.parametrize(
  ('family', 'file'),
  [
    ('c3d', 'cstp_c3d.npz'),
    pytest.param('r2plus1d', 'cstp_r21d.npz', marks=pytest.mark.slow),
    # The goldens of each family's own layers are in the tests of the backbones.
    pytest.param('r3d', 'cstp_r3d18.npz', marks=_LATER),
    pytest.param('i3d', 'cstp_i3d.npz', marks=_LATER),
    pytest.param('s3d', 'cstp_s3d.npz', marks=pytest.mark.slow),
  ],
)
def test_one_step_is_the_references(family, file):
  with precision_of(family):
    assert_golden_step(family, file)


def assert_golden_step(family, file):
  arrays, net = goldens.golden(file), model.CstpModel(published(family))
  weights = golden_weights(net, family, file)
  assert_golden_heads(net, arrays)
  outputs, terms, gradients = golden_step(net, file)
  loose = family == 's3d'
  of_logits, of_losses = (5e-3, 2e-3) if loose else (1e-3, 3e-4)
  for name, actual in {
    'spa': outputs['spatial'],
    'tem': outputs['temporal'],
    'pb1': outputs['playback'][:, 0],
    'pb2': outputs['playback'][:, 1],
    'rot1': outputs['rotation'][:, 0],
    'rot2': outputs['rotation'][:, 1],
  }.items():
    expected = arrays[f'train/logits_{name}']
    assert goldens.relative_error(actual, expected) < of_logits, name
  sums = {'byol': ['byol'], 'spatial': ['spa'], 'temporal': ['tem']}
  sums |= {'playback': ['pb1', 'pb2'], 'rotation': ['rot1', 'rot2'], 'total': ['total']}
  for name, parts in sums.items():
    expected = sum(float(arrays[f'train/loss_{part}']) for part in parts)
    assert float(terms[name]) == pytest.approx(expected, rel=of_losses), name
  # Of float64, Keras' batch norm moves the variance towards the biased one.
  cells = int(np.prod(arrays[f'eval/stage_shape/{backbones.FIRST_MAPS[file][0]}'][:4]))
  assert_golden_state(arrays, weights, 1e-4 + loose / cells)
  assert_golden_gradients(arrays, weights, gradients, loose)


def assert_golden_heads(net, arrays):
  """The projector, where there is one, and the predictor on the golden feature."""
  embedding = arrays['eval/feature']
  if net.online_projector is not None:
    embedding = net.online_projector(embedding)
    assert goldens.relative_error(embedding, arrays['eval/projection']) < 1e-4
  prediction = net.predictor(embedding)
  assert goldens.relative_error(prediction, arrays['eval/prediction']) < 1e-4


def assert_golden_state(arrays, weights, of_statistics):
  moved = [k for k in arrays.files if k.startswith('train/ema/')]
  assert moved
  for key in moved:
    actual = weights[key.removeprefix('train/ema/')].to_pytorch()
    assert goldens.relative_error(actual, arrays[key]) < 1e-6, key
  moments = [k for k in arrays.files if k.startswith('train/bn/')]
  assert any('target_net' in key for key in moments)
  for key in moments:
    name = key.removeprefix('train/bn/')
    if '.project.' in name and name.endswith('running_var'):
      continue  # Keras moves the variance of vectors towards the biased one.
    actual = weights[name].to_pytorch()
    assert goldens.relative_error(actual, arrays[key]) < of_statistics, key


def assert_golden_gradients(arrays, weights, gradients, loose):
  total = tf.linalg.global_norm(list(gradients.values()))
  expected = float(arrays['train/grad_norm_total'])
  assert float(total) == pytest.approx(expected, rel=5e-2 if loose else 1e-3)
  tensors, elements = (int(n) for n in arrays['train/grad_count'])
  assert len(gradients) == tensors
  assert sum(int(tf.size(g)) for g in gradients.values()) == elements
  for key in [k for k in arrays.files if k.startswith('train/grad/')]:
    weight = weights[key.removeprefix('train/grad/')]
    gradient = tf.convert_to_tensor(gradients[id(weight.variable)]).numpy()
    assert weight.to_keras(arrays[key]).shape == gradient.shape
    first = 'online_net' in key
    tolerance = 5e-2 if first else 5e-3 if loose else 1e-3
    assert goldens.relative_error(gradient, weight.to_keras(arrays[key])) < tolerance, key


def test_the_target_starts_as_a_copy_and_follows_weights_alone():
  net = model.CstpModel(config('r2plus1d', projector_dim=16))
  for target, online in net.averaged():
    np.testing.assert_array_equal(target, online)
  for _, online in net.averaged():
    online.assign_add(tf.ones_like(online))
  means = [v for v in net.target_backbone.variables if 'moving' in v.name]
  before = [v.numpy() for v in means]
  first = [target.numpy() for target, _ in net.averaged()]
  momentum.average_into(net.averaged(), 0.75)
  for (target, _), was in zip(net.averaged(), first, strict=True):
    np.testing.assert_allclose(target, was + 0.25, atol=1e-6)
  for variable, value in zip(means, before, strict=True):
    np.testing.assert_array_equal(variable, value)


def test_an_independent_target_starts_elsewhere():
  net = model.CstpModel(config(target_init='independent'))
  assert any(np.any(t.numpy() != o.numpy()) for t, o in net.averaged())


def test_the_target_uses_batch_statistics_in_training():
  net = model.CstpModel(config())
  twice = [net.pair(clip(), clip(), training=True)['target'] for _ in range(2)]
  means = [v for v in net.target_backbone.variables if 'moving_mean' in v.name]
  assert any(np.abs(v).max() > 0 for v in means)
  np.testing.assert_allclose(twice[0], twice[1], atol=1e-5)
  still = net.pair(clip(), clip(), training=False)['target']
  assert np.abs(still - twice[0]).max() > 1e-4


@pytest.mark.parametrize('encoder', model.ENCODERS)
def test_evaluates_the_chosen_encoder(encoder):
  net = model.CstpModel(config(encoder=encoder, target_init='independent'))
  backbone = getattr(net, f'{encoder}_backbone')
  feature = tf.reduce_mean(backbone(clip())['5'], [1, 2, 3])
  np.testing.assert_allclose(net(clip())['feature'], feature, atol=1e-6)


def test_rare_classes_count_as_much_as_frequent_ones():
  hits = np.array([1, 1, 1, 0, 0, 1], float)
  classes = np.array([0, 0, 0, 0, 2, 2])
  assert losses.balanced_accuracy(hits, classes) == (0.75 + 0.5) / 2


def test_refuses_what_there_is_not():
  for field in ('encoder', 'target_init'):
    with pytest.raises(UserError, match=field):
      model.CstpModel(config(**{field: 'nonsense'}))


def test_the_references_first_weights_reach_all_heads():
  config = configs.Model()
  config.backbone.type = 'c3d'
  config.backbone.c3d.width_multiplier = 0.125
  config.projector_dim, config.predictor_dim, config.hidden_heads = 8, 8, True
  config.backbone.c3d.weight_init = 'reference'
  net = model.CstpModel(config)
  heads = [net.online_projector, net.predictor, *net.classifiers.values()]
  for head in heads:
    gamma, limit = head.bn_0.gamma.numpy(), np.sqrt(6 / head.bn_0.gamma.shape[0])
    assert (gamma < 0).any() and (gamma > 0).any() and np.abs(gamma).max() <= limit
    assert np.abs(head.dense_0.bias).max() > 0

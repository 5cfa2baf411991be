"""A multiplied rate is that rate, whatever the optimizer, and follows the depth of a net."""

import copy
import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.modeling import optimization

from official.video.backbones import depth, factory, families
from official.video.configs import tasks as task_config
from official.video.errors import UserError
from official.video.heads import classification
from official.video.models import encoder
from official.video.settings import experiment, ranges
from official.video.tasks import multipliers
from tests import tiny

SMALL = {'width_multiplier': 0.0625}
VIT = {
  **{'hidden_size': 8, 'num_layers': 3, 'num_heads': 2, 'mlp_dim': 8},
  **{'tubelet': (2, 8, 8), 'grid': (2, 2, 2), 'num_groups': 2, 'grouping_layers': (2,)},
}
FACTORS = (0.25, 3.0)
# Without clipping by the joint norm, in which all variables meet.
RULES = {
  'sgd': {'momentum': 0.9, 'nesterov': True},
  'adam': {},
  'adamw': {'weight_decay_rate': 0.1, 'gradient_clip_norm': 0.0},
  'adamw_experimental': {'weight_decay': 0.1, 'global_clipnorm': None},
  'lars': {'momentum': 0.9, 'weight_decay_rate': 0.1},
}


def optimizer_of(kind, rate=0.1, ema=None):
  schedule = {'type': 'constant', 'constant': {'learning_rate': rate}}
  config = {'optimizer': {'type': kind, kind: RULES[kind]}, 'learning_rate': schedule}
  config = optimization.OptimizationConfig(config | ({'ema': ema} if ema else {}))
  maker = optimization.OptimizerFactory(config)
  return maker.build_optimizer(maker.build_learning_rate())


def weights():
  """Two vectors in a model: kernels, so that their decay is not left out."""
  model = tf_keras.Sequential(
    [tf_keras.layers.Dense(3, use_bias=False, name=name) for name in ('low', 'high')]
  )
  model(tf.zeros([1, 3]))
  generator = np.random.default_rng(0)
  for variable in model.trainable_variables:
    variable.assign(generator.standard_normal([3, 3]))
  return model


def gradients(step):
  generator = np.random.default_rng(step + 1)
  return [tf.constant(generator.standard_normal([3, 3]), tf.float32) for _ in range(2)]


def trained(optimizer, model, places=(0, 1), steps=range(3)):
  """Values after some steps, of which only the variables at `places` are taken."""
  variables = [model.trainable_variables[i] for i in places]

  @tf.function(autograph=False)
  def apply(values):
    optimizer.apply_gradients(zip(values, variables, strict=True))

  for step in steps:
    apply([gradients(step)[i] for i in places])
  return [variable.numpy() for variable in variables]


@pytest.mark.parametrize('kind', RULES)
def test_a_scaled_update_is_that_of_a_scaled_rate(kind):
  model, optimizer = weights(), optimizer_of(kind)
  multipliers.scale_updates(optimizer, model.trainable_variables, FACTORS)
  # Again changes nothing: a step is traced once a replica.
  multipliers.scale_updates(optimizer, model.trainable_variables, FACTORS)
  actual = trained(optimizer, model)
  for place, factor in enumerate(FACTORS):
    expected = trained(optimizer_of(kind, 0.1 * factor), weights(), [place])[0]
    np.testing.assert_allclose(actual[place], expected, rtol=2e-5, atol=1e-6)


def test_a_moving_average_is_that_of_the_scaled_weights():
  ema = {'average_decay': 0.5, 'dynamic_decay': False}
  model, optimizer = weights(), optimizer_of('sgd', ema=ema)
  optimizer.shadow_copy(model)
  multipliers.scale_updates(optimizer, model.trainable_variables, FACTORS)
  mean = np.zeros([3, 3])
  for step in range(3):
    low, _ = trained(optimizer, model, steps=[step])
    mean = 0.5 * mean + 0.5 * low
  plain = trained(optimizer_of('sgd', 0.1 * FACTORS[0]), weights(), [0])[0]
  np.testing.assert_allclose(low, plain, rtol=1e-5)
  average = optimizer.get_slot(model.trainable_variables[0], 'average')
  np.testing.assert_allclose(average, mean, rtol=1e-5)


def test_a_scaled_loss_is_no_scaled_rate():
  model, plain = weights(), optimizer_of('sgd')
  optimizer = tf_keras.mixed_precision.LossScaleOptimizer(plain)
  multipliers.scale_updates(optimizer, model.trainable_variables, FACTORS)
  actual = trained(optimizer, model)
  for place, factor in enumerate(FACTORS):
    expected = trained(optimizer_of('sgd', 0.1 * factor), weights(), [place])[0]
    np.testing.assert_allclose(actual[place], expected, rtol=1e-5)


@pytest.mark.parametrize('kind', ['sgd', 'adamw'])
def test_two_replicas_scale_as_one_and_a_resumed_run_goes_on(kind, mirrored, tmp_path):
  once = weights()
  optimizer = optimizer_of(kind)
  multipliers.scale_updates(optimizer, once.trainable_variables, FACTORS)
  expected = trained(optimizer, once, steps=range(4))
  strategy = mirrored(2)
  for steps in (range(2), range(2, 4)):
    with strategy.scope():
      model, optimizer = weights(), optimizer_of(kind)
      optimizer._create_all_weights(model.trainable_variables)
      checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    if steps[0]:
      checkpoint.read(str(tmp_path / 'weights')).assert_consumed()

    def replica(values, model=model, optimizer=optimizer):
      multipliers.scale_updates(optimizer, model.trainable_variables, FACTORS)
      halves = [0.5 * value for value in values]
      optimizer.apply_gradients(zip(halves, model.trainable_variables, strict=True))

    run = tf.function(lambda v, f=replica: strategy.run(f, args=(v,)), autograph=False)
    for step in steps:
      run(gradients(step))
    checkpoint.write(str(tmp_path / 'weights'))
  for variable, value in zip(model.trainable_variables, expected, strict=True):
    np.testing.assert_allclose(variable, value, rtol=1e-6, atol=1e-7)


@functools.cache
def net(family):
  fields = VIT if family == 'video_vit' else copy.copy(SMALL)
  if family in ('resnet_3d', 'resnet_3dy', 'r3d'):
    fields['model_id'] = 10
  return factory.build_backbone(families.of(family, **fields))


FAMILIES = [
  pytest.param(name, marks=pytest.mark.slow) if name in ('s3d', 'i3d') else name
  for name in factory.registered_backbones()
]


@pytest.mark.parametrize('family', FAMILIES)
def test_every_family_tells_its_layers_by_depth(family):
  backbone = net(family)
  stages = depth.stages_of(backbone)
  found = [id(v) for layers in stages for x in layers for v in x.trainable_variables]
  above = [v.name for v in backbone.trainable_variables if id(v) not in found]
  assert len(set(found)) == len(found)
  assert len(stages) == (4 if family == 'video_vit' else 5)
  assert all(any(x.trainable_variables for x in layers) for layers in stages)
  # Final norms alone stand above the last block.
  assert all('norm/' in name for name in above)
  assert bool(above) == (family == 'video_vit')


def factors_by_name(backbone, head=10.0, decay=0.5, **kwargs):
  layer = classification.build_classification_head(
    *(tiny_head(), 3, factory.batch_norm.NormActivation())
  )
  model = encoder.VideoModel(backbone, layer, list(backbone.output_specs)[-1], **kwargs)
  model(tf_keras.Input((8, 32, 32, 3)))
  config = task_config.RateMultipliers(head=head, layer_decay=decay)
  factors = multipliers.of_variables(config, model)
  names = [v.name for v in model.trainable_variables]
  return dict(zip(names, factors, strict=True)), multipliers.described(model, factors)


def tiny_head():
  return task_config.ClassifierModel().head


def test_depth_counts_from_the_head():
  factors, told = factors_by_name(net('resnet_3dy'))
  of_stage = {}
  for name, factor in factors.items():
    of_stage.setdefault(name.split('/')[0], set()).add(factor)
  assert of_stage.pop('res5') == of_stage.pop('res5_1') == {0.5}
  stages = {'res4': {0.25}, 'res3': {0.125}, 'res2': {0.0625}, 'stem': {0.03125}}
  assert {name: of_stage.pop(name) for name in stages} == stages
  assert list(of_stage.values()) == [{10.0}]
  assert told == 'head 10; backbone 0.5, 0.25, 0.125, 0.0625, 0.0312'


def test_blocks_of_a_transformer_are_its_layers():
  factors, _ = factors_by_name(net('video_vit'))

  def of(part):
    return {factor for name, factor in factors.items() if part in name}

  assert of('block_2/') == {0.5} and of('block_1/') == of('grouping_2/') == {0.25}
  assert of('block_0/') == {0.125} and of('embedding/') == {0.0625}
  assert of('group_norm/') == {1.0}


def test_nothing_is_the_default():
  factors, told = factors_by_name(net('c3d'), 2.0, 1.0)
  assert sorted(set(factors.values())) == [1.0, 2.0]
  assert told == 'head 2; backbone 1'
  task = experiment.build_task(tiny.load('cvrl_finetune_tiny', 'none', 'none'))
  assert task.rate_multipliers(task.built_model()) == []


class Silent(tf_keras.Model):
  """A net that does not tell its layers."""

  output_specs = {'5': tf.TensorShape([None, None, None, None, 3])}

  def __init__(self):
    super().__init__(name='silent')
    self.dense = tf_keras.layers.Dense(3)

  def call(self, clips, training=None):
    return {'5': self.dense(clips)}


def test_what_has_no_layers_is_refused():
  with pytest.raises(UserError, match=r'layer_decay 0\.5: the backbone silent does not'):
    factors_by_name(Silent())
  factors, _ = factors_by_name(Silent(), decay=1.0)
  assert sorted(set(factors.values())) == [1.0, 10.0]
  with pytest.raises(UserError, match=r'layer_decay 0\.5: the backbone is frozen'):
    factors_by_name(net.__wrapped__('c3d'), freeze_backbone=True)


@pytest.mark.parametrize('field,value', [('head', 0), ('layer_decay', 1.5)])
def test_numbers_that_mean_nothing_are_refused(field, value):
  params = tiny.load('cvrl_finetune_tiny', 'none', 'none')
  setattr(params.task.learning_rate_multipliers, field, value)
  with pytest.raises(UserError, match=rf'learning_rate_multipliers\.{field} {value}'):
    ranges.check_fields(params)


def update(override=''):
  """What a step of SGD on four clips does to each trainable weight of the tiny task."""
  fixed = 'task.model.head.dropout_rate=0,task.l2_weight_decay=0'
  params = tiny.load('cvrl_finetune_tiny', 'none', 'none', f'{fixed}{override}')
  task = experiment.build_task(params)
  tf_keras.utils.set_random_seed(1)
  model = task.built_model()
  for layer in model._flatten_layers():
    if isinstance(layer, tf_keras.layers.BatchNormalization):
      layer.trainable = False
  before = [v.numpy() for v in model.trainable_variables]
  clips = np.random.default_rng(0).random((4, 1, 4, 32, 32, 3), np.float32)
  batch = {'views': tf.constant(clips), 'label': tf.constant([0, 1, 2, 0], tf.int64)}
  optimizer = tf_keras.optimizers.legacy.SGD(0.1)
  tf.function(lambda x: task.train_step(x, model, optimizer), autograph=False)(batch)
  changes = [
    v.numpy() - b for v, b in zip(model.trainable_variables, before, strict=True)
  ]
  return changes, task.rate_multipliers(model)


def test_a_step_of_the_task_is_scaled_in_parts_too():
  plain, none = update()
  fields = 'task.learning_rate_multipliers'
  scaled, factors = update(
    f',{fields}.head=4,{fields}.layer_decay=0.5,task.micro_batches=2'
  )
  assert none == [] and len(set(factors)) == 6
  for one, other, factor in zip(plain, scaled, factors, strict=True):
    scale = np.abs(one).max()
    np.testing.assert_allclose(other / factor, one, rtol=1e-2, atol=2e-3 * scale + 1e-6)

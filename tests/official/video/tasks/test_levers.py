"""What saves memory changes no result; what is broken changes no weight."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.modeling import optimization

from official.video.backbones import factory, families, recompute
from official.video.configs import tasks as task_config
from official.video.errors import UserError
from official.video.losses import gather
from official.video.settings import experiment
from official.video.tasks import base, step
from tests import tiny

CLIPS = tf.random.stateless_uniform([4, 4, 32, 32, 3], [1, 2])
TASKS = ['cvrl_pretrain_tiny', 'cvrl_finetune_tiny']
SMALL = {'model_id': 10, 'width_multiplier': 0.125}
legacy = tf_keras.optimizers.legacy


def task_of(name, override=''):
  params = tiny.load(name, 'none', 'none')
  if override:
    experiment.apply_overrides(params, override, 'test')
  return experiment.build_task(params)


def batch_of(name):
  generator = np.random.default_rng(0)
  views = 2 if 'pretrain' in name else 1
  return {
    'views': generator.random((4, views, 4, 32, 32, 3), np.float32),
    'label': np.array([0, 1, 2, 0], np.int64),
    'record': np.arange(4),
  }


def run_step(active, task, model, optimizer, inputs):
  """One training step of a batch shared out; returns the first replica's outputs."""
  share = len(inputs['label']) // active.num_replicas_in_sync

  def part(context):
    start = context.replica_id_in_sync_group * share
    return {key: tf.constant(v[start : start + share]) for key, v in inputs.items()}

  @tf.function
  def update(values):
    return active.run(task.train_step, args=(values, model, optimizer))

  outputs = update(active.experimental_distribute_values_from_function(part))
  return {k: active.experimental_local_results(v)[0] for k, v in outputs.items()}


def one_update(active, name, override, fixed_statistics=False):
  """Change of the trainable weights by one step of SGD, and the other variables after."""
  with active.scope():
    tf_keras.utils.set_random_seed(1)
    task = task_of(name, override)
    model = task.built_model()
    optimizer = legacy.SGD(0.1)
  for layer in model._flatten_layers():
    if fixed_statistics and isinstance(layer, tf_keras.layers.BatchNormalization):
      layer.trainable = False
  before = [v.numpy() for v in model.trainable_variables]
  run_step(active, task, model, optimizer, batch_of(name))
  changes = [
    (v.numpy() - old).ravel()
    for v, old in zip(model.trainable_variables, before, strict=True)
  ]
  return np.concatenate(changes), [v.numpy() for v in model.non_trainable_variables]


def close(actual, expected, tolerance=1e-3):
  return np.linalg.norm(actual - expected) < tolerance * np.linalg.norm(expected)


# Rematerialization


def backbone(remat):
  return factory.build_backbone(families.of('resnet_3d', **SMALL), remat=remat)


def loss_and_gradients(net, clips):
  with tf.GradientTape() as tape:
    endpoints = net(clips, training=True)
    loss = tf.add_n([tf.reduce_mean(value**2) for value in endpoints.values()])
  return loss, tape.gradient(loss, net.trainable_variables)


@pytest.mark.parametrize(
  ('mode', 'remat'),
  [
    *itertools.product(('eager', 'graph'), ('all', 'stem, res3')),
    ('compiled', 'all'),
  ],
)
def test_recomputed_stages_have_the_same_gradients_and_statistics(mode, remat):
  results = []
  nets = backbone('none'), backbone(remat)
  weights = nets[0].get_weights()
  for net in nets:
    net.set_weights(weights)

    def run(clips, net=net):
      return loss_and_gradients(net, clips)

    if mode != 'eager':
      run = tf.function(run, jit_compile=mode == 'compiled')
    loss, gradients = run(CLIPS)
    assert all(gradient is not None for gradient in gradients)
    flat = np.concatenate([gradient.numpy().ravel() for gradient in gradients])
    results.append((loss.numpy(), flat, [v.numpy() for v in net.non_trainable_variables]))
  (loss, gradients, statistics), (same_loss, same_gradients, same_statistics) = results
  assert same_loss == pytest.approx(loss, rel=1e-5)
  assert close(same_gradients, gradients, 1e-4)
  for one, other in zip(statistics, same_statistics, strict=True):
    np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def test_a_recomputed_graph_holds_the_stage_twice():
  def convolutions(remat):
    net = backbone(remat)
    step = tf.function(lambda clips: loss_and_gradients(net, clips))
    operations = step.get_concrete_function(CLIPS).graph.get_operations()
    return sum(op.type == 'Conv3D' for op in operations)

  once = convolutions('none')
  assert convolutions('all') == 2 * once
  assert convolutions('res2') == once + 2  # Its only block, with identity shortcut.


def test_xla_does_not_merge_what_is_recomputed():
  layer = tf_keras.Sequential([tf_keras.layers.Dense(8, 'tanh') for _ in range(2)])
  x = tf.random.stateless_normal([4, 8], [1, 2])
  layer(x)

  def products(call):
    def run(x):
      with tf.GradientTape() as tape:
        loss = tf.reduce_sum(call(x) ** 2)
      return tape.gradient(loss, layer.trainable_variables)

    compiler_ir = tf.function(run, jit_compile=True).experimental_get_compiler_ir(x)
    return compiler_ir(stage='optimized_hlo').count(' dot(')

  kept = products(lambda x: layer(x, training=True))
  assert kept == 2 + 3  # Forward; of the first layer's input no gradient is asked for.
  assert products(lambda x: recompute.recompute(layer, x)) >= kept + 2


def test_recomputation_changes_no_checkpoint(tmp_path):
  def keys(remat):
    path = tf.train.Checkpoint(net=backbone(remat)).write(str(tmp_path / remat))
    return tf.train.list_variables(path)

  assert keys('all') == keys('none')


def test_inference_is_not_recomputed():
  net = backbone('all')
  call = tf.function(lambda clips: net(clips, training=False)['5'])
  operations = call.get_concrete_function(CLIPS).graph.get_operations()
  assert sum(op.type == 'IdentityN' for op in operations) == 0


@pytest.mark.parametrize('family', factory.registered_backbones())
def test_every_family_can_be_recomputed(family):
  net = factory.build_backbone(families.of(family), remat='all')
  graph = tf.function(lambda clip: net(clip, training=True)).get_concrete_function(
    tf.TensorSpec([1, 16, 64, 64, 3])
  )
  assert graph.structured_outputs.keys() == net.output_specs.keys()


@pytest.mark.parametrize(
  ('family', 'stages'),
  [
    ('r3d', 'all'),
    ('r2plus1d', 'all'),
    pytest.param('s3d', 'Mixed_5c', marks=pytest.mark.slow),
    pytest.param('i3d', 'mixed_5c', marks=pytest.mark.slow),
  ],
)
def test_stages_that_branch_have_the_same_gradients(family, stages):
  config = families.of(family)
  config.get().width_multiplier = 0.0625
  plain = factory.build_backbone(config)
  clips = tf.random.stateless_uniform([2, 16, 32, 32, 3], [1, 2])

  def gradients(net):
    net.set_weights(plain.get_weights())

    @tf.function
    def run():
      with tf.GradientTape() as tape:
        outputs = net(clips, training=True)
        loss = tf.add_n([tf.reduce_mean(v**2) for v in outputs.values()])
      return tape.gradient(loss, net.trainable_variables)

    return run()

  expected = gradients(factory.build_backbone(config))
  net = factory.build_backbone(config, remat=stages)
  for one, other in zip(gradients(net), expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-5)


def test_an_unknown_stage_lists_the_known_ones():
  with pytest.raises(UserError, match=r"no stage 'res6'; .* stem,res2,res3,res4,res5"):
    backbone('res2,res6')


@pytest.mark.slow
@pytest.mark.parametrize('name', TASKS)
def test_recomputed_stages_train_the_same_on_two_replicas(name, mirrored):
  expected, statistics = one_update(mirrored(2), name, '')
  actual, same = one_update(mirrored(2), name, 'task.model.remat=all')
  assert close(actual, expected)
  for one, other in zip(statistics, same, strict=True):
    np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


class Masked(tf_keras.layers.Layer):
  """A dense layer under a random mask that is a function of a counter."""

  def build(self, input_shape):
    self.dense = tf_keras.layers.Dense(input_shape[-1])
    self.counter = self.add_weight(
      name='counter',
      dtype=tf.int64,
      initializer='zeros',
      trainable=False,
      aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
    super().build(input_shape)

  def call(self, x, training=None):
    x = self.dense(x)
    if training:
      mask = tf.random.stateless_uniform(tf.shape(x), tf.stack([self.counter, 5])) > 0.5
      with tf.control_dependencies([mask]):
        self.counter.assign_add(1)
      x = tf.where(mask, x, 0.0)
    return x


@pytest.mark.parametrize('mode', ['eager', 'graph', 'compiled'])
def test_random_masks_are_recomputed_the_same(mode):
  tf_keras.utils.set_random_seed(1)
  layer = Masked()
  x = tf.random.stateless_normal([8, 16], [1, 2])
  layer(x)

  def gradients(call):
    with tf.GradientTape() as tape:
      tape.watch(x)
      # Twice, so that the counter has moved on when the first is recomputed.
      loss = tf.reduce_sum(call(call(x)) ** 2)
    return tape.gradient(loss, [x, *layer.trainable_variables])

  calls = [lambda x: layer(x, training=True), lambda x: recompute.recompute(layer, x)]
  found = []
  for call in calls:
    layer.counter.assign(7)

    def run(call=call):
      return gradients(call)

    found.append(
      run() if mode == 'eager' else tf.function(run, jit_compile=mode[0] == 'c')()
    )
    assert layer.counter.numpy() == 9
  for one, other in zip(*found, strict=True):
    np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)


# Micro-batches


@pytest.mark.parametrize(
  ('replicas', 'name'),
  [
    (2, TASKS[0]),
    (1, TASKS[1]),
    pytest.param(1, TASKS[0], marks=pytest.mark.slow),
    pytest.param(2, TASKS[1], marks=pytest.mark.slow),
  ],
)
def test_micro_batches_have_the_whole_batchs_gradient(name, replicas, mirrored):
  still = 'task.model.head.dropout_rate=0' if 'finetune' in name else ''
  expected, _ = one_update(mirrored(1), name, still, fixed_statistics=True)
  parts = ','.join(filter(None, [still, f'task.micro_batches={4 // replicas}']))
  actual, _ = one_update(mirrored(replicas), name, parts, fixed_statistics=True)
  assert close(actual, expected)


def dense_model(width=6):
  model = tf_keras.Sequential(
    [
      tf_keras.layers.Dense(width),
      tf_keras.layers.BatchNormalization(momentum=0.5),
      Masked(),
    ]
  )
  model(tf.zeros([1, 5]))
  return model


@pytest.mark.parametrize('mode', ['graph', 'compiled'])
def test_micro_batches_match_one_pass_with_their_statistics_and_masks(mode):
  """One tape over all parts, of which each has its own statistics, is the reference."""
  tf_keras.utils.set_random_seed(1)
  model = dense_model()
  start = [v.numpy() for v in model.variables]
  x = tf.random.stateless_normal([6, 5], [1, 2])

  def forward(inputs):
    return {'output': model(inputs['x'], training=True), 'unused': inputs['x']}

  def objective(outputs):
    rows = tf.math.l2_normalize(outputs['output'], -1)
    value = tf.reduce_mean(tf.exp(tf.matmul(rows, rows, transpose_b=True)))
    return value, {'value': value}

  def reference():
    with tf.GradientTape() as tape:
      parts = [forward({'x': part})['output'] for part in tf.split(x, 3)]
      value, result = objective({'output': tf.concat(parts, 0)})
    return result, tape.gradient(value, model.trainable_variables)

  def cached():
    return step.whole_batch_gradients(forward, objective, {'x': x}, model, 3)

  results = []
  for run in (reference, cached):
    for variable, value in zip(model.variables, start, strict=True):
      variable.assign(value)
    result, gradients = tf.function(run, jit_compile=mode == 'compiled')()
    results.append((result['value'], gradients, [v.numpy() for v in model.variables]))
  (value, gradients, variables), (same_value, same_gradients, same_variables) = results
  np.testing.assert_allclose(same_value, value, rtol=1e-5)
  for one, other in zip(gradients, same_gradients, strict=True):
    np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)
  for one, other in zip(variables, same_variables, strict=True):
    np.testing.assert_allclose(other, one, rtol=1e-5)
  assert model.layers[-1].counter.numpy() == 3
  assert np.abs(same_variables[4] - start[4]).max() > 0


@pytest.mark.parametrize('parts', [0, 3, 8])
def test_micro_batches_that_do_not_divide_are_refused(parts):
  with pytest.raises(UserError, match=rf'task.micro_batches {parts}: .* divisor of 4'):
    task_of(TASKS[0], f'task.micro_batches={parts}').check_data(True)


def test_micro_batches_that_do_not_divide_on_replicas_are_refused():
  task = task_of(TASKS[0], 'task.micro_batches=4')
  context = tf.distribute.InputContext(1, 0, 2)
  with pytest.raises(UserError, match=r'on 2 replicas; use a divisor of 2'):
    task.build_inputs(task.task_config.train_data, context)


# Steps that are not finite


class Toy(base.VideoTask):
  """A dense net whose outputs are to be small."""

  def forward(self, inputs, model, training):
    return {'output': tf.cast(model(inputs['views'], training=training), tf.float32)}

  def compute_loss(self, outputs, inputs):
    return {'loss': tf.reduce_mean(gather.gather(outputs['output']) ** 2)}

  def validation_outputs(self, inputs, model):
    return self.forward(inputs, model, False)

  def score(self, outputs):
    return {}


def everything(model, optimizer):
  """Every variable's value on every replica."""
  variables = [*model.variables, *step._optimizer_variables(optimizer, [])]
  return {
    f'{i} {v.name} {part}': value.numpy()
    for i, v in enumerate(variables)
    for part, value in enumerate(getattr(v, 'values', [v]))
  }


def changed(before, after):
  assert before.keys() == after.keys()
  return [k for k, v in before.items() if not np.array_equal(v, after[k])]


@pytest.mark.parametrize('replicas', [1, 2])
@pytest.mark.parametrize(
  ('name', 'override'),
  [
    ('cvrl_pretrain_tiny', 'task.model.norm_activation.use_sync_bn=false'),
    ('cvrl_finetune_tiny', 'task.model.head.dropout_rate=0.5'),
  ],
)
def test_one_bad_pixel_leaves_every_variable_as_it_was(
  name, override, replicas, mirrored
):
  active = mirrored(replicas)
  with active.scope():
    task = task_of(name, override)
    model = task.built_model()
    optimizer = legacy.SGD(0.1, momentum=0.9)
    optimizer._create_all_weights(model.trainable_variables)
  good, bad = batch_of(name), batch_of(name)
  bad['views'][3, 0, 0, 0, 0, 0] = np.nan
  start = everything(model, optimizer)
  outputs = run_step(active, task, model, optimizer, bad)
  assert not outputs['finite'] and np.isnan(outputs['loss'])
  assert not changed(start, everything(model, optimizer))
  outputs = run_step(active, task, model, optimizer, good)
  assert outputs['finite'] and np.isfinite(outputs['loss'])
  assert outputs['record'].numpy().tolist() == list(range(4 // replicas))
  moved = changed(start, everything(model, optimizer))
  assert any('moving_mean' in key for key in moved)
  assert any('iter' in key for key in moved) and any('momentum' in key for key in moved)


def averaged(model):
  optimizer = optimization.ExponentialMovingAverage(legacy.SGD(0.1, momentum=0.9))
  optimizer.shadow_copy(model)
  return optimizer


@pytest.mark.parametrize(
  'make',
  [
    lambda model: legacy.Adam(0.1),
    lambda model: tf_keras.optimizers.Adam(0.1),
    averaged,
    lambda model: tf_keras.mixed_precision.LossScaleOptimizer(legacy.SGD(0.1, 0.9)),
  ],
  ids=['legacy_adam', 'adam', 'average', 'loss_scale'],
)
@pytest.mark.parametrize('compiled', [False, True])
def test_every_kind_of_optimizer_is_set_back(make, compiled):
  task = Toy(task_config.VideoTask())
  model = dense_model()
  optimizer = make(model)
  train = tf.function(task.train_step, jit_compile=compiled)
  good = tf.random.stateless_normal([4, 5], [1, 2])
  bad = tf.tensor_scatter_nd_update(good, [[2, 1]], [np.inf])
  train({'views': good}, model, optimizer)
  before = everything(model, optimizer)
  assert not train({'views': bad}, model, optimizer)['finite']
  assert not changed(before, everything(model, optimizer))
  assert train({'views': good}, model, optimizer)['finite']
  assert len(changed(before, everything(model, optimizer))) > len(model.variables) / 2


def test_a_gradient_that_overflows_is_not_finite():
  task = Toy(task_config.VideoTask())
  model = dense_model()
  optimizer = legacy.SGD(0.1)
  task.train_step({'views': tf.ones([4, 5])}, model, optimizer)
  before = everything(model, optimizer)

  class Steep(Toy):
    def compute_loss(self, outputs, inputs):
      output = outputs['output']
      return {'loss': tf.reduce_sum(tf.sqrt(output - tf.stop_gradient(output)))}

  outputs = Steep(task_config.VideoTask()).train_step(
    {'views': tf.ones([4, 5])}, model, optimizer
  )
  assert outputs['loss'] == 0 and not outputs['finite']
  assert not changed(before, everything(model, optimizer))


# Mixed precision


@pytest.fixture
def reduced(request):
  tf_keras.mixed_precision.set_global_policy(f'mixed_{request.param}')
  yield request.param
  tf_keras.mixed_precision.set_global_policy('float32')


@pytest.mark.parametrize('reduced', ['bfloat16', 'float16'], indirect=True)
@pytest.mark.parametrize('name', TASKS)
def test_losses_stay_float32_under_mixed_precision(name, reduced):
  task = task_of(name, 'task.l2_weight_decay=0.1,task.model.remat=res2')
  model = task.built_model()
  inputs = {key: tf.constant(value) for key, value in batch_of(name).items()}
  convolution = model.backbone.get_layer('stem/conv')
  assert convolution.compute_dtype == reduced
  assert {v.dtype for v in model.variables if v.dtype.is_floating} == {tf.float32}

  @tf.function
  def run(inputs):
    outputs = task.forward(inputs, model, True)
    whole = model(inputs['views'][:, 0], training=True)
    return outputs | whole, task.compute_loss(outputs, inputs)

  # Traced and not run: convolutions' gradients are wrong in bfloat16 on CPUs.
  outputs, scalars = run.get_concrete_function(inputs).structured_outputs
  assert {'feature', 'output'} < {*outputs, 'embedding'}
  assert {value.dtype for value in (*outputs.values(), *scalars.values())} == {tf.float32}


@pytest.mark.parametrize('reduced', ['float16'], indirect=True)
def test_loss_scaling_trains_and_skips_overflows(reduced):
  task = Toy(task_config.VideoTask(micro_batches=2))
  model = dense_model()
  inner = legacy.SGD(0.1)
  optimizer = tf_keras.mixed_precision.LossScaleOptimizer(
    inner, initial_scale=2.0**10, dynamic_growth_steps=100
  )
  train = tf.function(task.train_step)
  x = tf.random.stateless_normal([4, 5], [1, 2])
  with tf.GradientTape() as tape:
    loss = task.compute_loss(task.forward({'views': x}, model, False), {})['loss']
  del tape
  weights = [v.numpy() for v in model.trainable_variables]
  first = train({'views': x}, model, optimizer)
  assert first['finite'] and first['loss'].dtype == tf.float32
  assert 0.01 < first['loss'] / loss < 100
  for old, new in zip(weights, model.trainable_variables, strict=True):
    assert np.abs(new.numpy() - old).max() < 1  # The scale was taken out again.
  optimizer._loss_scale._current_loss_scale.assign(2.0**60)
  weights = [v.numpy() for v in model.trainable_variables]
  overflowed = train({'views': x}, model, optimizer)
  assert overflowed['finite']  # Nothing is wrong: the optimizer skips it and scales down.
  assert optimizer.loss_scale == 2.0**59
  for old, new in zip(weights, model.trainable_variables, strict=True):
    np.testing.assert_array_equal(new.numpy(), old)

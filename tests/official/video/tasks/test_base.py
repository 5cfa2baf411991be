"""What the one train step makes of a task, on a model of one weight."""

import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video.configs import tasks as task_config
from official.video.tasks import base

X = np.array([[1.0], [2.0], [3.0], [6.0]], np.float32)
TARGET = np.array([0.0, 1.0, 2.0, 3.0], np.float32)
WEIGHT, RATE = 0.5, 0.125


class Line(base.VideoTask):
  """Fits y = w x by squared error, and by the product of the batch's mean and its size."""

  scalar_names = ('error', 'joint')

  def __init__(self, **fields):
    super().__init__(task_config.VideoTask(**fields))
    self.seen = []

  def forward(self, inputs, model, training):
    self.seen.append((inputs['x'].shape[0], training))
    return {'y': model(inputs['x'])[:, 0]}

  def terms(self, outputs, inputs):
    return {'error': tf.square(outputs['y'] - inputs['target'])}

  def contrast(self, whole):
    # Not the mean of what parts of the batch would give.
    return {'joint': tf.square(tf.reduce_sum(whole['y']))}

  def total(self, scalars):
    return scalars['error'] + 0.25 * scalars['joint']

  def after_forward(self, model, outputs):
    model.moved.assign_add(1.0)

  def validation_outputs(self, inputs, model):
    return self.forward(inputs, model, False)

  def score(self, outputs):
    return {'y': outputs['y'], 'record': outputs['record']}


class Model(tf_keras.Sequential):
  def __init__(self):
    dense = tf_keras.layers.Dense(
      1, use_bias=False, kernel_initializer=tf_keras.initializers.Constant(WEIGHT)
    )
    super().__init__([dense])
    self.moved = tf.Variable(0.0, trainable=False, name='moved')
    self.build([None, 1])


def by_hand(x=X, target=TARGET, decay=0.0):
  """Loss and its derivative by the weight, of the whole batch."""
  y = WEIGHT * x[:, 0]
  error, joint = np.mean((y - target) ** 2), np.sum(y) ** 2
  slope = np.mean(2 * (y - target) * x[:, 0]) + 0.25 * 2 * np.sum(y) * np.sum(x)
  scalars = {'error': error, 'joint': joint, 'regularization_loss': decay * WEIGHT**2 / 2}
  return scalars, slope + decay * WEIGHT


def step(task, active, x=X, make=lambda: tf_keras.optimizers.legacy.SGD(RATE)):
  """One step on the batch shared out: the weight, the metrics, what came back."""
  with active.scope():
    model, optimizer, metrics = Model(), make(), task.build_metrics()
  replicas = active.num_replicas_in_sync
  batch = {'x': x, 'target': TARGET, 'record': np.arange(4)}

  def share(context):
    first = context.replica_id_in_sync_group
    return {key: tf.constant(np.split(v, replicas)[first]) for key, v in batch.items()}

  inputs = active.experimental_distribute_values_from_function(share)
  run = tf.function(
    lambda values: active.run(task.train_step, args=(values, model, optimizer, metrics)),
    autograph=False,
  )
  logs = tf.nest.map_structure(active.experimental_local_results, run(inputs))
  return types.SimpleNamespace(
    weight=model.trainable_variables[0].numpy().item(),
    moved=float(model.moved.numpy()),
    iterations=int(optimizer.iterations.numpy()),
    metrics={metric.name: float(metric.result()) for metric in metrics},
    logs=logs,
  )


@pytest.mark.parametrize(('replicas', 'parts'), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_one_step_by_hand(replicas, parts, mirrored):
  task = Line(micro_batches=parts, l2_weight_decay=3.0)
  found = step(task, mirrored(replicas))
  scalars, slope = by_hand(decay=3.0)
  assert found.weight == pytest.approx(WEIGHT - RATE * slope, rel=1e-5)
  assert found.metrics == pytest.approx(scalars, rel=1e-5)
  loss = scalars['error'] + 0.25 * scalars['joint'] + scalars['regularization_loss']
  for of_replica in found.logs[task.loss]:
    assert float(of_replica) == pytest.approx(loss, rel=1e-5)
  assert np.concatenate(found.logs['record']).tolist() == [0, 1, 2, 3]
  assert (found.moved, found.iterations) == (1, 1)
  assert set(task.seen) == {(4 // replicas // parts, True)}


def test_a_bad_sample_of_another_replica_undoes_the_step(mirrored):
  x = X.copy()
  x[3] = np.nan
  found = step(Line(), mirrored(2), x)
  assert (found.weight, found.moved, found.iterations) == (WEIGHT, 0, 0)
  assert [bool(finite) for finite in found.logs['finite']] == [False, False]


class Root(Line):
  """A loss whose gradient is not finite where a sample is 0, though the loss is."""

  def terms(self, outputs, inputs):
    return {'error': tf.sqrt(tf.abs(outputs['y']))}


@pytest.mark.parametrize('sample', [0, 3])
def test_a_bad_gradient_of_another_replica_undoes_the_step(mirrored, sample):
  x = X.copy()
  x[sample] = 0
  found = step(Root(), mirrored(2), x)
  assert all(np.isfinite(x) for x in found.logs['loss'])
  assert (found.weight, found.moved, found.iterations) == (WEIGHT, 0, 0)
  assert [bool(finite) for finite in found.logs['finite']] == [False, False]


def test_a_scaled_loss_gives_the_same_step(mirrored):
  def make():
    return tf_keras.mixed_precision.LossScaleOptimizer(
      tf_keras.optimizers.legacy.SGD(RATE), initial_scale=1024
    )

  found = step(Line(), mirrored(1), make=make)
  assert found.weight == pytest.approx(WEIGHT - RATE * by_hand()[1], rel=1e-5)


def test_a_validation_keeps_valid_samples_and_does_not_train():
  task, model, state = Line(), Model(), None
  for first, valid in ((0, [True, True]), (2, [True, False])):
    rows = slice(first, first + 2)
    batch = {
      'x': X[rows],
      'record': np.arange(4)[rows],
      'label': np.zeros(2),
      'valid': valid,
    }
    batch = {key: tf.constant(value) for key, value in batch.items()}
    state = task.aggregate_logs(state, task.validation_step(batch, model))
  scores = task.reduce_aggregated_logs(state)
  assert scores['record'].tolist() == [0, 1, 2]
  np.testing.assert_allclose(scores['y'], WEIGHT * X[:3, 0])
  assert task.seen == [(2, False), (2, False)]


def test_a_record_with_a_part_that_cannot_be_read_has_no_score():
  task, state = Line(), None
  # Two clips a record, those of 1 and 2 on both sides of a seam; the last place pads.
  for record, valid, bad in (
    ([0, 0, 1], [True, True, True], [0, 0, 0]),
    ([1, 2, 2], [False, True, True], [1, 0, 0]),
    ([3, 3, 0], [False, True, False], [1, 0, 0]),
  ):
    logs = {'record': record, 'valid': valid, 'bad': bad, 'y': np.arange(3.0)}
    logs = {key: tf.constant(value) for key, value in logs.items()}
    state = task.aggregate_logs(state, logs)
  found = task.joined(state)
  assert found['record'].tolist() == [0, 0, 2, 2] and 'bad' not in found
  assert found['y'].tolist() == [0, 1, 1, 2]


def test_a_validation_keeps_texts_too():
  logs = {
    'record': tf.range(3, dtype=tf.int64),
    'text': tf.constant([['a', 'bc'], ['d', ''], ['e', 'f']]),
    'valid': tf.constant([True, False, True]),
  }
  task = Line()
  found = task.joined(task.aggregate_logs(task.aggregate_logs(None, logs), logs))
  assert found['record'].tolist() == [0, 2, 0, 2]
  assert found['text'].tolist() == [[b'a', b'bc'], [b'e', b'f']] * 2


@pytest.mark.parametrize(
  ('method', 'made', 'message'),
  [
    ('forward', lambda *_: {'y': tf.ones([3])}, r"Line.forward: 'y' has shape \(3,\)"),
    ('terms', lambda *_: {'error': tf.ones([])}, r"Line.terms: 'error' has shape \(\)"),
    ('contrast', lambda _: {}, r"Line.total: .*\['error'\], not 'joint'"),
    ('total', lambda _: tf.ones([4]), r"Line.compute_loss: 'loss' has shape \(4,\)"),
  ],
)
def test_an_authors_mistake_is_named(method, made, message, mirrored, monkeypatch):
  monkeypatch.setattr(Line, method, lambda self, *arguments: made(*arguments))
  with pytest.raises(base.UserError, match=message):
    step(Line(), mirrored(1))

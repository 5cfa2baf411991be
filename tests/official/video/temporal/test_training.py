import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video.errors import UserError
from official.video.temporal import config, gtad, losses, training

SMALL = {
  'steps': 6,
  'hidden_dim': 8,
  'anchor_dim': 4,
  'map_dim': 4,
  'cardinality': 1,
  'input_groups': 2,
  'inner_samples': 2,
  'context_samples': 1,
  'batch_size': 3,
  'learning_rate': 1e-2,
}
KEY = tf.constant([1, 2])


def examples(seed=0, count=5):
  rng = np.random.default_rng(seed)
  truth = [np.array([[0.1, 0.5]]), np.array([[0.4, 0.9]])] * count
  return training.Examples.of(
    rng.normal(size=(count, 6, 4)).astype(np.float32), truth[:count]
  )


def new(**fields):
  tf_keras.utils.set_random_seed(fields.get('seed', 0))
  return gtad.GtadModel(config.Gtad(**SMALL | fields))


def test_batches_hold_every_video_once():
  made = examples()
  order = np.array([4, 2, 0, 1, 3])
  batches = list(made.batches(3, order))
  assert [len(x) for x, _ in batches] == [3, 2]
  np.testing.assert_array_equal(
    np.concatenate([x for x, _ in batches]), made.features[order]
  )
  for name, value in made.labels.items():
    got = np.concatenate([labels[name] for _, labels in batches])
    np.testing.assert_array_equal(got, value[order])


@pytest.mark.parametrize(('clip_norm', 'weight_decay'), [(0.0, 0.5), (0.01, 0.0)])
def test_a_step_by_hand(clip_norm, weight_decay):
  model = new(clip_norm=clip_norm, weight_decay=weight_decay)
  x, labels = next(examples().batches(3, np.arange(3)))
  with tf.GradientTape() as tape:
    expected = losses.total_loss(model(x), labels, KEY)
  before = [v.numpy() for v in model.trainable_variables]
  gradients = [
    g.numpy() for g in tape.gradient(expected['loss'], model.trainable_variables)
  ]
  norm = np.sqrt(sum(np.square(g).sum() for g in gradients))
  assert norm > 0.01
  scale = clip_norm / norm if clip_norm else 1.0
  step = training._training_step(model, tf_keras.optimizers.SGD(1.0))
  got = step(x, labels, KEY)
  assert float(got['loss']) == pytest.approx(float(expected['loss']), rel=1e-5)
  for variable, old, gradient in zip(
    model.trainable_variables, before, gradients, strict=True
  ):
    wanted = old - scale * gradient - weight_decay * old
    np.testing.assert_allclose(variable, wanted, atol=1e-5, err_msg=variable.name)


def test_the_rate_falls_to_a_tenth_after_half_of_the_epochs():
  rates = [training.learning_rate(config.Gtad(), epoch) for epoch in range(1, 11)]
  np.testing.assert_allclose(rates, [4e-3] * 5 + [4e-4] * 5)
  assert training.learning_rate(config.Gtad(epochs=1), 1) == 4e-3


@pytest.fixture(scope='module')
def runs():
  """Trainings that overfit: what each epoch reported, the epoch kept, and the model."""
  found = {}
  for checkpoint in ('best', 'last'):
    model, reported = new(checkpoint=checkpoint, epochs=8, learning_rate=0.05), []
    validation = examples(seed=1)
    kept = training.train(
      model, examples(), validation, lambda _, scores, into=reported: into.append(scores)
    )
    found[checkpoint] = model, reported, kept, validation
  return found


@pytest.mark.slow
@pytest.mark.parametrize('checkpoint', ['best', 'last'])
def test_the_epoch_that_is_asked_for_is_kept(runs, checkpoint):
  model, reported, kept, validation = runs[checkpoint]
  curve = [scores['validation_loss'] for scores in reported]
  assert int(np.argmin(curve)) + 1 < 8  # It overfits, so the choice shows.
  assert kept == (8 if checkpoint == 'last' else int(np.argmin(curve)) + 1)
  keys = np.random.default_rng(0)
  check = training._validation_step(model)
  batches = validation.batches(3, np.arange(5))
  now = training._mean_losses(check, batches, keys)['loss']
  assert now == pytest.approx(curve[kept - 1], rel=1e-5)


def test_it_learns_and_repeats_itself(runs):
  (_, first, *_), (_, second, *_) = runs['best'], runs['last']
  # The same seed; what is kept changes nothing before the end.
  for one, other in zip(first, second, strict=True):
    assert one == pytest.approx(other, rel=1e-4)
  assert first[-1]['loss'] < 0.8 * first[0]['loss']


@pytest.mark.parametrize('broken', ['_training_step', '_validation_step'])
def test_a_loss_that_is_not_finite_ends_the_training(broken, monkeypatch):
  for name in ('_training_step', '_validation_step'):
    value = np.nan if name == broken else 1.0
    monkeypatch.setattr(
      training, name, lambda *_, value=value: lambda *_: {'loss': tf.constant(value)}
    )
  reported = []
  with pytest.raises(
    UserError, match='epoch 1: the loss is not finite; lower learning_rate'
  ):
    training.train(
      new(epochs=3), examples(), examples(), lambda *row: reported.append(row)
    )
  assert len(reported) == 1  # It is said before it ends.

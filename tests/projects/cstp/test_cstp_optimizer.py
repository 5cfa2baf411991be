"""PyTorch's SGD and the published schedule, against the reference's numbers."""

import math

import numpy as np
import pytest
import tensorflow as tf
from official.modeling import optimization

from official.video.errors import UserError
from official.video.projects.cstp import optimizer
from tests import goldens

RATES = r'lr/base([\d.]+)_epochs(\d+)'


@pytest.mark.parametrize(
  'case', goldens.cases('cstp_optimizer.npz', '(.+)/gradient_scale')
)
def test_steps_are_those_of_pytorch(case):
  arrays = goldens.golden('cstp_optimizer.npz')
  count = len(goldens.cases('cstp_optimizer.npz', rf'{case}/step0/p(\d+)'))
  shapes = [arrays[f'{case}/step0/p{i}'].shape for i in range(count)]
  variables = [
    tf.Variable(goldens.fill(f'sgd/p{i}', shape, 'input'))
    for i, shape in enumerate(shapes)
  ]
  sgd = optimizer.PyTorchSGD(0.1, l2_decay=5e-4, global_clipnorm=18.0)
  for step, rate in enumerate(arrays['learning_rates']):
    sgd.learning_rate = rate
    scale = arrays[f'{case}/gradient_scale']
    gradients = [
      tf.constant(
        scale * goldens.fill(f'sgd/g{i}/step{step}', shape, 'input'), tf.float32
      )
      for i, shape in enumerate(shapes)
    ]
    sgd.apply_gradients(zip(gradients, variables, strict=True))
    for i, variable in enumerate(variables):
      error = goldens.relative_error(variable, arrays[f'{case}/step{step}/p{i}'])
      assert error < 2e-6, (step, i)


def test_two_steps_by_hand():
  variable = tf.Variable([1.0])
  sgd = optimizer.PyTorchSGD(0.1, momentum=0.9, l2_decay=0.1)
  sgd.apply_gradients([(tf.constant([0.5]), variable)])
  # v = 0.5 + 0.1 * 1.
  assert variable.numpy()[0] == pytest.approx(1 - 0.1 * 0.6)
  sgd.learning_rate = 0.2
  sgd.apply_gradients([(tf.constant([0.5]), variable)])
  # The new rate takes all of v = 0.9 * 0.6 + 0.5 + 0.1 * 0.94.
  assert variable.numpy()[0] == pytest.approx(0.94 - 0.2 * 1.134)


def test_the_schedule_by_hand():
  schedule = optimizer.EpochwiseCosine(1.0, epochs=4, steps_per_epoch=3)
  rates = [float(schedule(step)) for step in range(15)]
  low = 1e-5
  middle = low + 0.5 * (1 - low)
  # Epochs of three steps at one rate: up by halves, and down by the cosine of a quarter.
  expected = np.repeat([low, middle, 1.0, middle, middle], 3)
  np.testing.assert_allclose(rates, expected, rtol=1e-6)
  slow = optimizer.EpochwiseCosine(1.0, epochs=8, steps_per_epoch=1, min_learning_rate=0)
  assert float(slow(5)) == pytest.approx(0.5 * (1 + np.cos(np.pi / 4)))


@pytest.mark.parametrize(('base', 'epochs'), goldens.cases('cstp_samplers.npz', RATES))
def test_learning_rates_are_the_published_ones(base, epochs):
  rates = goldens.golden('cstp_samplers.npz')[f'lr/base{base}_epochs{epochs}']
  epochs = int(epochs)
  schedule = optimizer.EpochwiseCosine(float(base), epochs=epochs, steps_per_epoch=7)
  ours = [float(schedule(7 * epoch + epoch % 7)) for epoch in range(epochs)]
  np.testing.assert_allclose(ours, rates, rtol=1e-4, atol=2e-8)
  assert float(schedule(7 * epochs)) == ours[-1]


def test_is_configured_like_the_model_gardens():
  config = optimizer.OptimizationConfig(
    {
      'optimizer': {'type': 'pytorch_sgd', 'pytorch_sgd': {'global_clipnorm': 18.0}},
      'learning_rate': {
        'type': 'epochwise_cosine',
        'epochwise_cosine': {'epochs': 4, 'steps_per_epoch': 2},
      },
    }
  )
  factory = optimization.OptimizerFactory(config)
  sgd = factory.build_optimizer(factory.build_learning_rate())
  assert isinstance(sgd, optimizer.PyTorchSGD)
  assert sgd.global_clipnorm == 18.0 and sgd.l2_decay == 5e-4
  assert float(sgd.learning_rate) == pytest.approx(1e-5)


def test_a_score_that_is_hardly_better_is_no_better():
  schedule = optimizer.Plateau(0.2, factor=0.5, patience=1, threshold=1e-4)
  for step, loss in enumerate([1.0, 0.99995, 0.99992]):
    schedule.heed(step, {'cross_entropy': loss})
  assert float(schedule(0)) == pytest.approx(0.1)


def test_the_plateau_by_hand():
  schedule = optimizer.Plateau(0.2, factor=0.5, patience=1, min_learning_rate=0.04)
  rates = []
  # Better by more than a ten thousandth counts; once or twice no better is too often.
  for step, loss in enumerate(
    [1.0, 0.99995, 0.9, 0.9, 0.95, math.nan, 0.9, 0.8, 1, 1, 1]
  ):
    schedule.heed(step, {'cross_entropy': loss})
    rates.append(float(schedule(0)))
  expected = [0.2, 0.2, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.04, 0.04]
  np.testing.assert_allclose(rates, expected, rtol=1e-6)
  assert int(schedule.state.heeded) == 10
  rising = optimizer.Plateau(0.2, patience=0, metric='accuracy', higher_is_better=True)
  for step, (accuracy, rate) in enumerate([(0.5, 0.2), (0.6, 0.2), (0.6, 0.02)]):
    rising.heed(step, {'accuracy': accuracy})
    assert float(rising(0)) == pytest.approx(rate)


def test_the_plateau_names_what_it_misses():
  schedule = optimizer.Plateau(0.1, metric='loss')
  with pytest.raises(
    UserError, match=r"plateau\.metric 'loss': .* gives pretext/recall, score/accuracy"
  ):
    schedule.heed(1, {'recall': 0.1, 'accuracy': 0.5})
  with pytest.raises(UserError, match=r'plateau\.factor 1\.0: expected more than 0'):
    optimizer.Plateau(0.1, factor=1.0)

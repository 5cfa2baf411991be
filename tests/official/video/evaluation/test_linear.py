"""Linear classifiers: to convergence and by the published schedule, from disk as in memory."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import exp_factory
from official.modeling import optimization
from sklearn import linear_model, preprocessing

from official.video.configs import heads, protocols
from official.video.evaluation import blocks, linear
from official.video.heads import classification
from official.video.settings import methods


def planted(seed, count, width=16, classes=5, noise=2.0):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, classes, count)
  centres = np.random.default_rng(99).normal(size=(classes, width))
  features = centres[labels] + noise * rng.normal(size=(count, width))
  return features.astype(np.float32), labels


def expected(features, labels, strength):
  scaler = preprocessing.StandardScaler().fit(features.astype(np.float64))
  model = linear_model.LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
  model.fit(scaler.transform(features.astype(np.float64)), labels)
  return model.predict_proba(scaler.transform(features.astype(np.float64)))


# --- To convergence -------------------------------------------------------------------


@pytest.mark.parametrize('classes', [2, 3, 8])
@pytest.mark.parametrize('strength', [1e-3, 0.1, 10.0])
def test_a_fit_is_that_of_scikit_learn(classes, strength):
  features, labels = planted(classes, 400, classes=classes)
  fit = linear.Path(features, labels, classes).fit(strength)
  assert 0 < fit.gradient <= linear.TOLERANCE and fit.passes > 2
  found = fit.probabilities(features)
  np.testing.assert_allclose(found, expected(features, labels, strength), atol=1e-3)
  np.testing.assert_allclose(found.sum(1), 1)


def test_the_gradient_is_that_of_the_loss_that_it_ends_at():
  features, labels = planted(0, 200)
  fit = linear.Path(features, labels, 5).fit(0.1, tolerance=1e-6)
  x = (features - features.mean(0)) / features.std(0)
  kernel = fit.kernel * features.std(0)[:, None]
  residual = fit.probabilities(features) - np.eye(5)[labels]
  gradient = x.T @ residual / 200 + kernel / (200 * 0.1)
  first = np.abs(x.T @ (0.2 - np.eye(5)[labels]) / 200).max()
  assert np.abs(gradient).max() <= 2e-6 * first
  assert np.abs(residual.mean(0)).max() <= 2e-6 * first


def test_a_fit_that_is_stopped_says_so():
  features, labels = planted(1, 300, noise=0.5)
  path = linear.Path(features, labels, 5)
  stopped = path.fit(10.0, max_iterations=3)
  assert stopped.gradient > linear.TOLERANCE
  assert path.fit(10.0).gradient <= linear.TOLERANCE  # Where it stopped, it goes on.


def test_blocks_and_disk_change_nothing(monkeypatch, tmp_path):
  features, labels = planted(2, 500)
  whole = linear.Path(features, labels, 5).fit(0.1, tolerance=1e-8)
  np.save(tmp_path / 'f.npy', features)
  mapped = np.load(tmp_path / 'f.npy', mmap_mode='r')
  monkeypatch.setattr(blocks.ranges, '__defaults__', (37,))
  small = linear.Path(mapped, labels, 5).fit(0.1, tolerance=1e-8)
  np.testing.assert_allclose(small.kernel, whole.kernel, atol=1e-6)
  np.testing.assert_allclose(small.bias, whole.bias, atol=1e-6)
  # What is large is read again in each pass, in float32.
  for name in ('_KEPT_ELEMENTS', '_FEW_ELEMENTS'):
    monkeypatch.setattr(linear, name, 100)
    large = linear.Path(mapped, labels, 5).fit(0.1)
    assert large.gradient <= linear.TOLERANCE
    np.testing.assert_allclose(
      large.probabilities(mapped), whole.probabilities(features), atol=1e-3
    )


def test_only_the_rows_that_are_kept_are_fitted():
  features, labels = planted(3, 300)
  keep = np.arange(300) % 3 != 0
  some = linear.Path(features, labels, 5, keep).fit(0.1, tolerance=1e-8)
  alone = linear.Path(features[keep], labels[keep], 5).fit(0.1, tolerance=1e-8)
  np.testing.assert_allclose(some.kernel, alone.kernel, atol=1e-8)


def test_classes_that_no_row_has_are_never_predicted():
  features, labels = planted(4, 200)
  fit = linear.Path(features, labels + 2, 9).fit(0.1)
  found = fit.probabilities(features)
  assert found.shape == (200, 9)
  assert not found[:, [0, 1, 7, 8]].any() and found[:, 2:7].min() > 0


def test_the_start_is_another_paths_end():
  features, labels = planted(5, 400)
  path = linear.Path(features, labels, 5)
  cold = path.fit(0.1)
  warm = linear.Path(features, labels, 5, start=path.weights).fit(0.1)
  assert warm.passes < cold.passes / 2
  other = linear.Path(features[:, :3], labels, 5, start=path.weights)
  assert other.fit(0.1).gradient <= linear.TOLERANCE


@pytest.mark.parametrize('offset', [0.0, 1e4])
def test_moments_are_those_of_scikit_learn(monkeypatch, offset):
  monkeypatch.setattr(blocks.ranges, '__defaults__', (7,))
  features = np.random.default_rng(6).normal(offset, 0.1, (100, 4))
  features[:, 2] = offset + 0.1  # Constant, and so not scaled.
  mean, scale = linear.moments(features)
  scaler = preprocessing.StandardScaler().fit(features)
  np.testing.assert_allclose(mean, scaler.mean_, rtol=1e-12)
  np.testing.assert_allclose(scale, scaler.scale_, rtol=1e-9)
  assert scale[2] == 1
  features[50, 1] = np.nan
  with pytest.raises(ValueError, match='not all finite'):
    linear.moments(features)


# --- By a schedule --------------------------------------------------------------------


def test_the_rates_are_those_of_the_published_experiment():
  methods.register_all()
  experiment = exp_factory.get_exp_config('cvrl_linear_eval_kinetics400')
  factory = optimization.OptimizerFactory(experiment.trainer.optimizer_config)
  rate = factory.build_learning_rate()
  rates = linear.Schedule().rates(protocols.DATASETS['kinetics400'].train)
  assert len(rates) == experiment.trainer.train_steps
  for step in (0, 1, 500, 1051, 1052, 1053, 1054, 10_000, len(rates) - 1):
    assert rates[step] == pytest.approx(float(rate(step)), rel=2e-4, abs=1e-6)


def test_few_rows_are_one_batch_at_a_lower_rate():
  rates = linear.Schedule(epochs=10, batch=1000, rate=5.0, warmup_epochs=2).rates(100)
  assert len(rates) == 10 and rates[0] == 0 and rates.max() <= 0.5
  assert rates[1] == pytest.approx(rates[2] / 2)


@pytest.mark.parametrize('several', [False, True])
def test_training_is_that_of_the_classification_head(several):
  # The head that linear evaluation trains, by Keras' optimizer, on the same batches.
  features, labels = planted(7, 96)
  targets = np.eye(5, dtype=bool)[labels]
  targets[:, 0] |= features[:, 0] > 1
  schedule = linear.Schedule(epochs=6, batch=32, rate=3.0, warmup_epochs=1)
  given = targets if several else labels
  fit = linear.train(features, given, 5, schedule, seed=3)

  head = classification.build_classification_head(
    heads.ClassificationHead(normalize_input=True), 5
  )
  head(features[:1])
  for variable in head.trainable_variables:
    variable.assign(tf.zeros_like(variable))
  optimizer = tf_keras.optimizers.SGD(momentum=0.9)
  for step, rate in enumerate(schedule.rates(96)):
    order = np.random.default_rng((3, step // 3)).permutation(96)
    rows = order[step % 3 * 32 : (step % 3 + 1) * 32]
    with tf.GradientTape() as tape:
      logits = head(features[rows], training=True)
      if several:
        wanted = targets[rows].astype(np.float32)
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits))
      else:
        loss = tf.reduce_mean(
          tf.nn.sparse_softmax_cross_entropy_with_logits(labels[rows], logits)
        )
    optimizer.learning_rate = rate
    gradients = tape.gradient(loss, head.trainable_variables)
    optimizer.apply_gradients(zip(gradients, head.trainable_variables, strict=True))
  kernel, bias = (variable.numpy() for variable in head.trainable_variables)
  np.testing.assert_allclose(fit.kernel, kernel, atol=1e-5)
  np.testing.assert_allclose(fit.bias, bias, atol=1e-5)
  activation = tf.sigmoid if several else tf.nn.softmax
  np.testing.assert_allclose(
    fit.probabilities(features), activation(head(features)).numpy(), atol=1e-5
  )
  assert fit.passes == 6 and np.isnan(fit.gradient)


def test_training_from_disk_is_training_from_memory(tmp_path):
  features, labels = planted(8, 100)
  np.save(tmp_path / 'f.npy', features)
  mapped = np.load(tmp_path / 'f.npy', mmap_mode='r')
  schedule = linear.Schedule(epochs=4, batch=16)
  one, two = (linear.train(x, labels, 5, schedule) for x in (features, mapped))
  np.testing.assert_array_equal(one.kernel, two.kernel)
  other = linear.train(features, labels, 5, schedule, seed=1)
  assert (other.kernel != one.kernel).any()
  bad = features.copy()
  bad[5] = np.nan
  with pytest.raises(ValueError, match='first 5, are not finite'):
    linear.train(bad, labels, 5, schedule)


@pytest.mark.parametrize('several', [False, True])
def test_a_device_computes_what_the_host_does(several):
  rng = np.random.default_rng(9)
  block, kernel, bias = (rng.normal(size=s) for s in ((20, 6), (6, 4), (4,)))
  targets = rng.integers(0, 4, 20)
  given = np.eye(4, dtype=bool)[targets] | (several & (rng.random((20, 4)) < 0.3))
  arguments = block, given if several else targets, kernel, bias
  pairs = zip(
    linear._of_block(*arguments), linear._of_block_on('/cpu:0', *arguments), strict=True
  )
  for one, other in pairs:
    np.testing.assert_allclose(one, other, rtol=1e-12)
  # And the gradient is that of the loss.
  moved = kernel.copy()
  moved[2, 1] += 1e-6
  step = linear._of_block(block, arguments[1], moved, bias)[0]
  loss, by_kernel, _ = linear._of_block(*arguments)
  assert (step - loss) / 1e-6 == pytest.approx(by_kernel[2, 1], rel=1e-4)

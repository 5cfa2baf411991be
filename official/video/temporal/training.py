"""Training the detector, and choosing the epoch that is kept."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras

from official.video.errors import UserError
from official.video.temporal import losses, targets
from official.video.temporal.config import Gtad
from official.video.temporal.gtad import GtadModel


class Examples(NamedTuple):
  """Videos with their labels.

  Attributes:
    features: `[V, T, D]`.
    labels: of `targets.targets`, each `[V, ...]`.
  """

  features: np.ndarray
  labels: dict[str, np.ndarray]

  @classmethod
  def of(cls, features: np.ndarray, truth: Sequence[np.ndarray]) -> 'Examples':
    """From features `[V, T, D]` and for each video spans `[N, 2]`, as shares of it."""
    made = [targets.targets(spans, features.shape[1]) for spans in truth]
    return cls(features, {name: np.stack([m[name] for m in made]) for name in made[0]})

  def batches(self, size: int, order: np.ndarray) -> Iterator[tuple[tf.Tensor, dict]]:
    """Features and labels in that order of videos; the last batch may be smaller."""
    for start in range(0, len(order), size):
      rows = order[start : start + size]
      yield (
        tf.constant(self.features[rows], tf.float32),
        {name: tf.constant(value[rows]) for name, value in self.labels.items()},
      )


def train(
  model: GtadModel,
  examples: Examples,
  validation: Examples,
  report: Callable[[int, dict[str, float]], None] = lambda epoch, scores: None,
) -> int:
  """Trains the detector, and keeps one of its epochs.

  Equal arguments and weights give equal results, but for the order in which a device adds.

  Args:
    model: a new detector. It ends with the weights of the epoch that is returned.
    examples: to learn from.
    validation: whose loss chooses the epoch.
    report: called after each epoch with its number and its mean losses.

  Returns:
    The epoch that `config.checkpoint` asks for, from 1.

  Raises:
    UserError: a loss is not finite.
  """
  config = model.config
  optimizer = tf_keras.optimizers.Adam(config.learning_rate, epsilon=1e-8)
  step, check = _training_step(model, optimizer), _validation_step(model)
  generator = np.random.default_rng(config.seed)
  kept, least, weights = config.epochs, np.inf, None
  for epoch in range(1, config.epochs + 1):
    optimizer.learning_rate = learning_rate(config, epoch)
    order = generator.permutation(len(examples.features))
    keys = np.random.default_rng([config.seed, epoch])
    scores = _mean_losses(step, examples.batches(config.batch_size, order), keys)
    every = np.arange(len(validation.features))
    # The same draws in every epoch, so that epochs are compared on equal terms.
    keys = np.random.default_rng(config.seed)
    checked = _mean_losses(check, validation.batches(config.batch_size, every), keys)
    scores['validation_loss'] = checked['loss']
    report(epoch, scores)
    if not np.isfinite([*scores.values()]).all():
      raise UserError(
        f'epoch {epoch}: the loss is not finite; lower learning_rate '
        f'{config.learning_rate}, or set clip_norm=1, by --params_override'
      )
    if config.checkpoint == 'best' and scores['validation_loss'] < least:
      kept, least, weights = epoch, scores['validation_loss'], model.get_weights()
  if weights is not None:
    model.set_weights(weights)
  return kept


def learning_rate(config: Gtad, epoch: int) -> float:
  """Of an epoch, from 1: a tenth in the second half."""
  late = 2 * (epoch - 1) >= config.epochs
  return config.learning_rate / (10 if late else 1)


def _mean_losses(
  step: Callable, batches: Iterator, keys: np.random.Generator
) -> dict[str, float]:
  """Means over the batches, each batch weighing the same, as in the public code."""
  results = [
    step(x, labels, tf.constant(keys.integers(2**31, size=2), tf.int32))
    for x, labels in batches
  ]
  return {name: float(np.mean([r[name] for r in results])) for name in results[0]}


def _training_step(
  model: GtadModel, optimizer: tf_keras.optimizers.Optimizer
) -> Callable:
  config = model.config

  @tf.function(reduce_retracing=True, autograph=False)
  def step(x, labels, key):
    with tf.GradientTape() as tape:
      scores = losses.total_loss(model(x), labels, key)
    variables = model.trainable_variables
    gradients = tape.gradient(scores['loss'], variables)
    if config.clip_norm:
      gradients, _ = tf.clip_by_global_norm(gradients, config.clip_norm)
    # After the clipping, as PyTorch's Adam adds it.
    decayed = [
      g + config.weight_decay * v for g, v in zip(gradients, variables, strict=True)
    ]
    optimizer.apply_gradients(zip(decayed, variables, strict=True))
    return scores

  return step


def _validation_step(model: GtadModel) -> Callable:
  return tf.function(
    lambda x, labels, key: losses.total_loss(model(x), labels, key),
    reduce_retracing=True,
    autograph=False,
  )

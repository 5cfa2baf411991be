"""SGD and its schedules as CSTP was trained: PyTorch's form, rates by epoch or by score."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras
from official.modeling import optimization
from official.modeling.optimization import optimizer_factory
from official.modeling.optimization.configs import learning_rate_config, optimizer_config

from official.video import scalars
from official.video.errors import UserError
from official.video.settings import schedule


class PyTorchSGD(tf_keras.optimizers.Optimizer):
  """SGD whose momentum holds gradients, not steps.

  With gradient g, weight w: g += weight_decay * w; v = momentum * v + g; w -= rate * v.
  Keras' SGD has v = momentum * v - rate * g; the two differ where the rate changes. The
  decay reaches every variable, biases and batch norm included, after the clipping.
  """

  def __init__(
    self,
    learning_rate: float | tf_keras.optimizers.schedules.LearningRateSchedule = 0.01,
    momentum: float = 0.9,
    l2_decay: float = 0.0,
    name: str = 'PyTorchSGD',
    **kwargs,
  ):
    """Initializes the optimizer.

    Args:
      learning_rate: number or schedule.
      momentum: share of the velocity kept at each step.
      l2_decay: what of each weight is added to its gradient.
      name: of the optimizer.
      **kwargs: of `tf_keras.optimizers.Optimizer`, clipping among them.
    """
    super().__init__(name=name, **kwargs)
    self._learning_rate = self._build_learning_rate(learning_rate)
    self.momentum = momentum
    self.l2_decay = l2_decay

  def build(self, var_list) -> None:
    """Makes a velocity for every variable."""
    super().build(var_list)
    if getattr(self, '_built', False):
      return
    self.velocities = [
      self.add_variable_from_reference(model_variable=var, variable_name='v')
      for var in var_list
    ]
    self._built = True

  def update_step(self, gradient, variable) -> None:
    """Updates one variable."""
    rate = tf.cast(self.learning_rate, variable.dtype)
    velocity = self.velocities[self._index_dict[self._var_key(variable)]]
    gradient = tf.convert_to_tensor(gradient) + self.l2_decay * variable
    velocity.assign(self.momentum * velocity + gradient)
    variable.assign_sub(rate * velocity)


class EpochwiseCosine(tf_keras.optimizers.schedules.LearningRateSchedule):
  """Rises linearly over the first half of the epochs, then falls as half a cosine.

  The rate stays the same within an epoch. The first epoch has the smallest rate; the
  last one falls just short of it.
  """

  def __init__(
    self,
    peak_learning_rate: float,
    epochs: int,
    steps_per_epoch: int,
    min_learning_rate: float = 1e-5,
    name: str = 'EpochwiseCosine',
  ):
    """Initializes the schedule.

    Args:
      peak_learning_rate: of the epoch in the middle.
      epochs: of the whole run.
      steps_per_epoch: optimizer steps of one epoch.
      min_learning_rate: of the first epoch.
      name: of the schedule.
    """
    self.peak_learning_rate = peak_learning_rate
    self.epochs = epochs
    self.steps_per_epoch = steps_per_epoch
    self.min_learning_rate = min_learning_rate
    self.name = name

  def __call__(self, step) -> tf.Tensor:
    """The rate of a step, float32."""
    # Integers first: a quotient of floats may fall below the epoch that begins.
    epoch = tf.cast(step, tf.int64) // self.steps_per_epoch
    passed = tf.cast(tf.minimum(epoch, self.epochs - 1), tf.float32)
    warm = max(self.epochs / 2, 1e-9)
    rising = passed / warm
    falling = 0.5 * (1 + tf.cos(math.pi * (passed - warm) / max(warm, 1e-9)))
    share = tf.where(passed < warm, rising, falling)
    return self.min_learning_rate + share * (
      self.peak_learning_rate - self.min_learning_rate
    )


class Plateau(schedule.FollowsScores):
  """Falls whenever the score of validation has not improved for long.

  As PyTorch's ReduceLROnPlateau: after more than `patience` validations in a row without
  a score that is better by the share `threshold`, the rate is multiplied by `factor`.
  The trainer hands it each validation's scores (`heed`) and keeps `state` in the
  checkpoint.

  Attributes:
    state: rate, best score, validations in a row that were no better, and the step of
      the last validation that was heeded, or -1.
  """

  def __init__(
    self,
    initial_learning_rate: float,
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    min_learning_rate: float = 0.0,
    metric: str = 'cross_entropy',
    higher_is_better: bool = False,
    name: str = 'Plateau',
  ):
    """Initializes the schedule.

    Args:
      initial_learning_rate: until the first fall.
      factor: of a fall.
      patience: validations in a row that may be no better.
      threshold: share of the best score that a better one differs by, at least.
      min_learning_rate: where the falling ends.
      metric: name of the score.
      higher_is_better: whether the score is to rise.
      name: of the schedule.

    Raises:
      UserError: the factor makes no fall.
    """
    if not 0 < factor < 1:
      raise UserError(f'{_PLATEAU}.factor {factor}: expected more than 0 and less than 1')
    self.initial_learning_rate = initial_learning_rate
    self.factor = factor
    self.patience = patience
    self.threshold = threshold
    self.min_learning_rate = min_learning_rate
    self.metric = metric
    self.higher_is_better = higher_is_better
    self.name = name
    worst = -math.inf if higher_is_better else math.inf
    self.state = tf.Module()
    with tf.init_scope():
      self.state.rate = tf.Variable(initial_learning_rate, trainable=False)
      self.state.best = tf.Variable(worst, trainable=False, dtype=tf.float64)
      self.state.waited = tf.Variable(0, trainable=False, dtype=tf.int64)
      self.state.heeded = tf.Variable(-1, trainable=False, dtype=tf.int64)

  def __call__(self, step) -> tf.Tensor:
    """The rate of now, float32; only validations change it."""
    del step
    return tf.convert_to_tensor(self.state.rate)

  def heed(self, step: int, scores: Mapping[str, Any]) -> None:
    """See the base."""
    value, state = scalars.look_up(scores, self.metric), self.state
    if value is None:
      raise UserError(
        f'{_PLATEAU}.metric {self.metric!r}: the validation gives '
        f'{", ".join(sorted(scalars.publish(scores)))}'
      )
    score = float(value)
    if self._is_better(score, float(state.best.numpy())):
      state.best.assign(score)
      state.waited.assign(0)
    else:
      state.waited.assign_add(1)
    if state.waited.numpy() > self.patience:
      state.rate.assign(max(float(state.rate.numpy()) * self.factor, self._least))
      state.waited.assign(0)
    state.heeded.assign(step)

  @property
  def _least(self) -> float:
    return min(self.min_learning_rate, self.initial_learning_rate)

  def _is_better(self, score: float, best: float) -> bool:
    if self.higher_is_better:
      return score > best * (1 + self.threshold)
    return score < best * (1 - self.threshold)


_PLATEAU = 'trainer.optimizer_config.learning_rate.plateau'


@dataclasses.dataclass
class PyTorchSGDConfig(optimizer_config.BaseOptimizerConfig):
  """Configures `PyTorchSGD`.

  Attributes:
    name: of the optimizer.
    momentum: share of the velocity kept at each step.
    l2_decay: what of each weight is added to its gradient.
  """

  name: str = 'PyTorchSGD'
  momentum: float = 0.9
  l2_decay: float = 5e-4


@dataclasses.dataclass
class OptimizerConfig(optimization.OptimizerConfig):
  """The Model Garden's optimizers and `PyTorchSGD`.

  Attributes:
    pytorch_sgd: SGD in PyTorch's form.
  """

  pytorch_sgd: PyTorchSGDConfig = dataclasses.field(default_factory=PyTorchSGDConfig)


@dataclasses.dataclass
class EpochwiseCosineConfig(learning_rate_config.base_config.Config):
  """Configures `EpochwiseCosine`.

  Attributes:
    peak_learning_rate: of the epoch in the middle.
    epochs: of the whole run.
    steps_per_epoch: optimizer steps of one epoch.
    min_learning_rate: of the first epoch.
  """

  peak_learning_rate: float = 0.09
  epochs: int = 300
  steps_per_epoch: int = 1
  min_learning_rate: float = 1e-5


@dataclasses.dataclass
class PlateauConfig(learning_rate_config.base_config.Config):
  """Configures `Plateau`.

  Attributes:
    initial_learning_rate: until the first fall.
    factor: of a fall.
    patience: validations in a row that may be no better.
    threshold: share of the best score that a better one differs by, at least.
    min_learning_rate: where the falling ends.
    metric: name of the validation's score.
    higher_is_better: whether the score is to rise.
  """

  initial_learning_rate: float = 0.02
  factor: float = 0.1
  patience: int = 10
  threshold: float = 1e-4
  min_learning_rate: float = 0.0
  metric: str = 'cross_entropy'
  higher_is_better: bool = False


@dataclasses.dataclass
class LearningRateConfig(optimization.LrConfig):
  """The Model Garden's schedules, `EpochwiseCosine` and `Plateau`.

  Attributes:
    epochwise_cosine: the schedule of CSTP's pretraining.
    plateau: that of the published fine-tuning.
  """

  epochwise_cosine: EpochwiseCosineConfig = dataclasses.field(
    default_factory=EpochwiseCosineConfig
  )
  plateau: PlateauConfig = dataclasses.field(default_factory=PlateauConfig)


@dataclasses.dataclass
class OptimizationConfig(optimization.OptimizationConfig):
  """How a CSTP experiment optimizes.

  Attributes:
    optimizer: by type.
    learning_rate: by type.
  """

  optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
  learning_rate: LearningRateConfig = dataclasses.field(
    default_factory=LearningRateConfig
  )


def _register() -> None:
  if 'pytorch_sgd' not in optimizer_factory.LEGACY_OPTIMIZERS_CLS:
    for legacy in (True, False):
      optimization.register_optimizer_cls('pytorch_sgd', PyTorchSGD, legacy)
  optimizer_factory.LR_CLS['epochwise_cosine'] = EpochwiseCosine
  optimizer_factory.LR_CLS['plateau'] = Plateau


_register()

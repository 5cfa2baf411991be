"""AdamW whose rate is smaller for a pretrained part of the model."""

import dataclasses

import tensorflow as tf
import tf_keras
from official.modeling import optimization
from official.modeling.optimization import optimizer_factory
from official.modeling.optimization.configs import optimizer_config


class ScaledAdamW(tf_keras.optimizers.AdamW):
  """AdamW that moves the variables of some layers by a share of the usual step.

  The weight decay is that of AdamW for all of them; biases, normalization, tokens,
  position codes and temperatures do not decay.
  """

  def __init__(
    self,
    learning_rate: float | tf_keras.optimizers.schedules.LearningRateSchedule = 1e-4,
    weight_decay: float = 0.05,
    scaled_layer: str = '',
    scale: float = 1.0,
    name: str = 'ScaledAdamW',
    **kwargs,
  ):
    """Initializes the optimizer.

    Args:
      learning_rate: number or schedule.
      weight_decay: of kernels and embeddings.
      scaled_layer: part of the names of the variables that move less; '' for none.
      scale: their share.
      name: of the optimizer.
      **kwargs: of `tf_keras.optimizers.AdamW`.
    """
    super().__init__(learning_rate, weight_decay, name=name, **kwargs)
    self.scaled_layer, self.scale = scaled_layer, scale
    self.exclude_from_weight_decay(
      var_names=['bias', 'norm', 'cls', 'position', 'groups', 'temperature']
    )

  def update_step(self, gradient, variable) -> None:
    """Updates one variable."""
    if not self.scaled_layer or self.scaled_layer not in variable.name:
      super().update_step(gradient, variable)
      return
    before = tf.identity(variable)
    super().update_step(gradient, variable)
    variable.assign(before + self.scale * (variable - before))


@dataclasses.dataclass
class ScaledAdamWConfig(optimizer_config.BaseOptimizerConfig):
  """Configures `ScaledAdamW`; the attributes are its arguments."""

  name: str = 'ScaledAdamW'
  beta_1: float = 0.9
  beta_2: float = 0.98
  epsilon: float = 1e-8
  weight_decay: float = 0.05
  scaled_layer: str = 'text_encoder'
  scale: float = 0.1


@dataclasses.dataclass
class OptimizerConfig(optimization.OptimizerConfig):
  """The Model Garden's optimizers and `ScaledAdamW`.

  Attributes:
    scaled_adamw: AdamW with a smaller rate for a part of the model.
  """

  scaled_adamw: ScaledAdamWConfig = dataclasses.field(default_factory=ScaledAdamWConfig)


@dataclasses.dataclass
class OptimizationConfig(optimization.OptimizationConfig):
  """How a G-ViLM experiment optimizes.

  Attributes:
    optimizer: by type.
  """

  optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)


def _register() -> None:
  if 'scaled_adamw' not in optimizer_factory.LEGACY_OPTIMIZERS_CLS:
    for legacy in (True, False):
      optimization.register_optimizer_cls('scaled_adamw', ScaledAdamW, legacy)


_register()

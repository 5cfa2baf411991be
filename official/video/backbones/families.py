"""What a family of backbones registers as. Each has a module of its own."""

from collections.abc import Callable
from typing import Any, TypeVar

import tf_keras

from official.modeling import hyperparams
from official.video import registry
from official.video.configs import backbones as backbones_config

Builder = Callable[
  [Any, backbones_config.NormActivation, tf_keras.layers.InputSpec | None], tf_keras.Model
]

# A builder receives the family's configuration, the normalization and the input's
# specification, and returns a model from clips `[B, T, H, W, 3]` to a dict of endpoints
# `{'2': [B, T', H', W', C], ...}` with an `output_specs` property. It is registered by the
# name of the field of `configs.backbones.Backbone` that configures the family.
BACKBONES: registry.Registry[Builder] = registry.Registry('backbone.type')
Net = TypeVar('Net', bound=Callable[..., tf_keras.Model])


def family(
  name: str, config: type[hyperparams.Config] | None = None
) -> Callable[[Net], Net]:
  """Registers a class whose arguments are configuration, normalization and clip shape.

  Args:
    name: of the family, see `BACKBONES`.
    config: the family's configuration, of a family that `configs.backbones.Backbone` does
      not have.

  Returns:
    A decorator of the class. The clip shape that it is built with is [T, H, W, C], None
    where any size is taken.
  """

  def register(net: Net) -> Net:
    if config is not None:
      backbones_config.add_family(name, config)

    @BACKBONES.register(name)
    def build(config, norm_activation, input_specs=None) -> tf_keras.Model:
      shape = input_specs.shape[1:] if input_specs else (None, None, None, 3)
      return net(config, norm_activation, tuple(shape))

    return net

  return register

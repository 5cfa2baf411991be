"""What a family of backbones registers as, and the choice among them.

Each has a module of its own, with its configuration.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import tf_keras

from official.modeling import hyperparams
from official.video import registry
from official.video.backbones import batch_norm

Builder = Callable[
  [Any, batch_norm.NormActivation, tf_keras.layers.InputSpec | None], tf_keras.Model
]

# A builder receives the family's configuration, the normalization and the input's
# specification, and returns a model from clips `[B, T, H, W, 3]` to a dict of endpoints
# `{'2': [B, T', H', W', C], ...}` with an `output_specs` property.
BACKBONES: registry.Registry[Builder] = registry.Registry('backbone.type')
Net = TypeVar('Net', bound=Callable[..., tf_keras.Model])


@dataclasses.dataclass
class Backbone(hyperparams.OneOfConfig):
  """The backbone of a model.

  Every registered family is a field, called as the family is, that holds its configuration.

  Attributes:
    type: name of the family.
  """

  type: str | None = 'resnet_3d'


def of(name: str, **fields: Any) -> Backbone:
  """A backbone of a family, of whose configuration some fields are set."""
  chosen = Backbone(type=name)
  if fields:
    chosen.get().override(fields)
  return chosen


def family(name: str, config: type[hyperparams.Config]) -> Callable[[Net], Net]:
  """Registers a class whose arguments are configuration, normalization and clip shape.

  What was configured before the registration knows nothing of it.

  Args:
    name: of the family, and of the field of `Backbone` that configures it.
    config: the family's configuration.

  Returns:
    A decorator of the class. The clip shape that it is built with is [T, H, W, C], None
    where any size is taken.
  """

  def register(net: Net) -> Net:
    def build(config, norm_activation, input_specs=None) -> tf_keras.Model:
      shape = input_specs.shape[1:] if input_specs else (None, None, None, 3)
      return net(config, norm_activation, tuple(shape))

    builder(name, config)(build)
    return net

  return register


def builder(name: str, config: type[hyperparams.Config]) -> Callable[[Builder], Builder]:
  """As `family`, of a function that builds the net.

  Raises:
    ValueError: something else has the name.
  """
  global Backbone
  if name in {field.name for field in dataclasses.fields(Backbone)}:
    raise ValueError(f'backbone.{name} is a field already; choose another name')
  Backbone = dataclasses.make_dataclass(  # type: ignore[misc,assignment]
    'Backbone',
    [(name, config, dataclasses.field(default_factory=config))],
    bases=(Backbone,),
    namespace={'__doc__': Backbone.__doc__, '__module__': __name__},
  )
  return BACKBONES.register(name)

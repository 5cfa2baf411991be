"""From a configuration to a backbone. One module of this package holds one family."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tf_keras

from official.video.backbones import remat as rematerialization
from official.video.configs import backbones as backbones_config
from official.video.configs import tasks as tasks_config
from official.video.errors import UserError
from official.video.settings import registry

Builder = Callable[
  [Any, backbones_config.NormActivation, tf_keras.layers.InputSpec | None], tf_keras.Model
]

# A builder receives the family's configuration, the normalization and the input's
# specification, and returns a model from clips `[B, T, H, W, 3]` to a dict of endpoints
# `{'2': [B, T', H', W', C], ...}` with an `output_specs` property. It is registered by the
# name of the field of `configs.backbones.Backbone` that configures the family.
BACKBONES: registry.Registry[Builder] = registry.Registry('backbone.type')
Net = TypeVar('Net', bound=Callable[..., tf_keras.Model])


def family(name: str) -> Callable[[Net], Net]:
  """Registers a class whose arguments are configuration, normalization and clip shape.

  Args:
    name: of the family, see `BACKBONES`.

  Returns:
    A decorator of the class. The clip shape that it is built with is [T, H, W, C], None
    where any size is taken.
  """

  def register(net: Net) -> Net:
    @BACKBONES.register(name)
    def build(config, norm_activation, input_specs=None) -> tf_keras.Model:
      shape = input_specs.shape[1:] if input_specs else (None, None, None, 3)
      return net(config, norm_activation, tuple(shape))

    return net

  return register


def build_backbone(
  config: backbones_config.Backbone,
  norm_activation: backbones_config.NormActivation | None = None,
  input_specs: tf_keras.layers.InputSpec | None = None,
  remat: str = 'none',
) -> tf_keras.Model:
  """Builds the backbone that `config.type` names.

  Args:
    config: the family and its configuration.
    norm_activation: normalization and activation; `configs.backbones.NormActivation`
      by default.
    input_specs: `[B, T, H, W, C]`, any of B, T, H, W may be None; every clip size is
      taken by default.
    remat: stages whose activations the backward pass recomputes; see
      `remat.rematerialize`.

  Returns:
    A model from clips to endpoints.

  Raises:
    UserError: if no such backbone is registered or its configuration is impossible.
  """
  registered_backbones()
  build = BACKBONES.find(str(config.type))
  norm_activation = norm_activation or backbones_config.NormActivation()
  model = build(config.get(), norm_activation, input_specs)
  rematerialization.rematerialize(model, remat)
  return model


def build_encoder(
  config: tasks_config.Encoder, name: str | None = None
) -> tf_keras.Model:
  """The backbone of a task's model, which has the endpoint that is asked for.

  Args:
    config: of the task's model.
    name: of the net, where a model has several; the family's by default.

  Raises:
    UserError: as `build_backbone`, or there is no such endpoint.
  """
  backbone = build_backbone(config.backbone, config.norm_activation, remat=config.remat)
  check_endpoints(config, backbone, 'endpoint')
  if name:
    backbone._name = name  # Families name their nets; Keras takes no name afterwards.
  return backbone


def check_endpoints(
  config: tasks_config.Encoder, backbone: tf_keras.Model, *fields: str
) -> None:
  """Raises `UserError` where a field names an endpoint that the backbone lacks."""
  for field in fields:
    name, specs = getattr(config, field), backbone.output_specs
    if name not in specs:
      raise UserError(
        f'task.model.{field} {name!r}: the backbone {config.backbone.type} has '
        f'{", ".join(specs)}; name one of them'
      )


def registered_backbones() -> Sequence[str]:
  """Names of all backbones, those of this package's modules included, sorted."""
  package = importlib.import_module('official.video.backbones')
  for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):
    importlib.import_module(module.name)
  return sorted(BACKBONES)

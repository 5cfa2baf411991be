"""From a configuration to a backbone. One module of this package holds one family."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any

import tf_keras

from official.video.backbones import remat as rematerialization
from official.video.configs import backbones as backbones_config
from official.video.errors import UserError

Builder = Callable[
  [Any, backbones_config.NormActivation, tf_keras.layers.InputSpec | None], tf_keras.Model
]

_BUILDERS: dict[str, Builder] = {}


def register(name: str) -> Callable[[Builder], Builder]:
  """Registers the decorated function as the builder of the backbones of type `name`.

  The builder receives the family's configuration, the normalization and the input's
  specification, and returns a model from clips `[B, T, H, W, 3]` to a dict of endpoints
  `{'2': [B, T', H', W', C], ...}` with an `output_specs` property.

  Args:
    name: the field of `configs.backbones.Backbone` that configures the family.

  Returns:
    The decorator.

  Raises:
    KeyError: if the name is taken.
  """

  def decorate(builder: Builder) -> Builder:
    if name in _BUILDERS:
      raise KeyError(f'backbone {name!r} is registered already')
    _BUILDERS[name] = builder
    return builder

  return decorate


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
  name = config.type
  known = registered_backbones()
  if name is None or name not in known:
    raise UserError(
      f'backbone.type is {name!r}; expected one of {", ".join(known)}; '
      'correct the name or register the backbone'
    )
  norm_activation = norm_activation or backbones_config.NormActivation()
  model = _BUILDERS[name](config.get(), norm_activation, input_specs)
  rematerialization.rematerialize(model, remat)
  return model


def registered_backbones() -> Sequence[str]:
  """Names of all backbones, those of this package's modules included, sorted."""
  package = importlib.import_module('official.video.backbones')
  for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):
    importlib.import_module(module.name)
  return sorted(_BUILDERS)

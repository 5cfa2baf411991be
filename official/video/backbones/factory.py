"""From a configuration to a backbone. One module of this package holds one family."""

import importlib
import pkgutil
from collections.abc import Sequence

import tf_keras

from official.video.backbones import families
from official.video.backbones import remat as rematerialization
from official.video.configs import backbones as backbones_config
from official.video.configs import tasks as tasks_config
from official.video.errors import UserError


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
  build = families.BACKBONES.find(str(config.type))
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
  return sorted(families.BACKBONES)

"""From a configuration to a backbone. One module of this package holds one family."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Sequence

import tf_keras

from official.modeling import hyperparams
from official.video import backbones
from official.video.backbones import batch_norm, families
from official.video.backbones import remat as rematerialization
from official.video.errors import UserError

# What is a field of `families.Backbone` is known once every family is.
for _module in pkgutil.iter_modules(backbones.__path__, backbones.__name__ + '.'):
  importlib.import_module(_module.name)


@dataclasses.dataclass
class Encoder(hyperparams.Config):
  """A backbone and what of it stands for a clip; `build_encoder` builds it.

  Attributes:
    backbone: its architecture.
    norm_activation: batch norm and activation, those of the heads on it too.
    remat: stages whose activations the backward pass recomputes instead of keeping them:
      'none', 'all', or names like 'stem,res2'. Saves memory, costs up to one more forward
      pass; results stay the same.
    endpoint: the endpoint that is pooled, or that boxes are pooled from.
  """

  # Looked up when it is made: a family that comes later makes another class of it.
  backbone: families.Backbone = dataclasses.field(
    default_factory=lambda: families.Backbone()
  )
  norm_activation: batch_norm.NormActivation = dataclasses.field(
    default_factory=batch_norm.NormActivation
  )
  remat: str = 'none'
  endpoint: str = '5'


def build_backbone(
  config: families.Backbone,
  norm_activation: batch_norm.NormActivation | None = None,
  input_specs: tf_keras.layers.InputSpec | None = None,
  remat: str = 'none',
) -> tf_keras.Model:
  """Builds the backbone that `config.type` names.

  Args:
    config: the family and its configuration.
    norm_activation: normalization and activation; `batch_norm.NormActivation`
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
  build = families.BACKBONES.find(str(config.type))
  norm_activation = norm_activation or batch_norm.NormActivation()
  model = build(config.get(), norm_activation, input_specs)
  rematerialization.rematerialize(model, remat)
  return model


def build_encoder(config: Encoder, name: str | None = None) -> tf_keras.Model:
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


def check_endpoints(config: Encoder, backbone: tf_keras.Model, *fields: str) -> None:
  """Raises `UserError` where a field names an endpoint that the backbone lacks."""
  for field in fields:
    name, specs = getattr(config, field), backbone.output_specs
    if name not in specs:
      raise UserError(
        f'task.model.{field} {name!r}: the backbone {config.backbone.type} has '
        f'{", ".join(specs)}; name one of them'
      )


def registered_backbones() -> Sequence[str]:
  """Names of all backbones, sorted."""
  return sorted(families.BACKBONES)

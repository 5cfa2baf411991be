"""Learning rates of their own for head and layers: what a step moves them is multiplied."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from official.video.backbones import depth
from official.video.configs import tasks as task_config
from official.video.errors import UserError
from official.video.models import encoder

FIELD = 'learning_rate_multipliers'


def of_variables(
  config: task_config.RateMultipliers, model: encoder.VideoModel
) -> list[float]:
  """The multiplier of each trainable variable, in their order; none where all are 1.

  Args:
    config: of the head, and the decay from layer to layer.
    model: built.

  Raises:
    UserError: the rate is to decay in a backbone that is frozen, or does not tell its
      layers.

  Source: arXiv 2106.08254, whose layers are a transformer's blocks.
  """
  if config.head == config.layer_decay == 1:
    return []
  factors = {id(v): 1.0 for v in model.backbone.trainable_variables}
  if config.layer_decay != 1:
    stages = _stages(config, model.backbone)
    for below, layers in enumerate(reversed(stages), 1):
      for variable in (v for layer in layers for v in layer.trainable_variables):
        factors[id(variable)] = config.layer_decay**below
  return [factors.get(id(v), config.head) for v in model.trainable_variables]


def _stages(
  config: task_config.RateMultipliers, backbone: tf_keras.Model
) -> depth.Stages:
  where = f'task.{FIELD}.layer_decay {config.layer_decay:g}'
  if not backbone.trainable_variables:
    raise UserError(
      f'{where}: the backbone is frozen; leave it 1.0, or set task.model.freeze_backbone '
      'to false'
    )
  stages = depth.stages_of(backbone)
  if stages is None:
    raise UserError(
      f'{where}: the backbone {backbone.name} does not tell its layers by depth; leave it '
      '1.0, or give the net a method layers_by_depth'
    )
  return stages


def described(model: encoder.VideoModel, factors: Sequence[float]) -> str:
  """Multipliers of a model's trainable variables, in a line."""
  inside = {id(v) for v in model.backbone.trainable_variables}
  parts: dict[bool, list[float]] = {True: [], False: []}
  for variable, factor in zip(model.trainable_variables, factors, strict=True):
    parts[id(variable) in inside].append(factor)
  told = [f'head {factor:g}' for factor in sorted(set(parts[False]))]
  if of_backbone := sorted(set(parts[True]), reverse=True):
    told.append('backbone ' + ', '.join(f'{factor:.3g}' for factor in of_backbone))
  return '; '.join(told)


def scale_updates(
  optimizer: Any, variables: Sequence[tf.Variable], factors: Sequence[float]
) -> None:
  """Lets an optimizer move variables by a multiple of its step, whatever its rule.

  What it keeps of gradients stays as it was, so the result is that of a multiple of the
  rate, decoupled weight decay included. A wrapper's moving average sees the scaled step.

  Args:
    optimizer: of either kind of Keras, or a wrapper of one; changed in place. To be called
      again for other variables or factors.
    variables: that it trains.
    factors: one of each.
  """
  inner = _innermost(optimizer)
  plain = getattr(inner.apply_gradients, 'plain', inner.apply_gradients)
  by_id = {id(v): f for v, f in zip(variables, factors, strict=True) if f != 1}

  def apply_gradients(grads_and_vars, *args, **kwargs):
    pairs = list(grads_and_vars)
    scaled = [variable for _, variable in pairs if id(variable) in by_id]
    before = [tf.identity(variable) for variable in scaled]
    result = plain(pairs, *args, **kwargs)

    def scale(variable, old, factor):
      return variable.assign(old + factor * (variable - old))

    def merged(strategy, before):
      for variable, old in zip(scaled, before, strict=True):
        factor = by_id[id(variable)]
        strategy.extended.update(variable, scale, args=(old, factor), group=False)

    # As `step.Undo` does, and for the same reason.
    tf.__internal__.distribute.interim.maybe_merge_call(
      merged, tf.distribute.get_strategy(), before
    )
    return result

  apply_gradients.plain = plain  # type: ignore[attr-defined]
  inner.apply_gradients = apply_gradients


def _innermost(optimizer: Any) -> Any:
  """The optimizer inside of those that scale the loss or average the weights."""
  for name in ('inner_optimizer', '_optimizer'):
    if (inner := getattr(optimizer, name, None)) is not None:
      return _innermost(inner)
  return optimizer

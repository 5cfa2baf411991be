"""Logical names of variables: where a variable sits, whatever its checkpoint key is."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from official.video.errors import UserError


def logical_variables(layer: tf_keras.layers.Layer) -> dict[str, tf.Variable]:
  """Maps logical names to the variables of a built layer or model.

  A logical name joins the names of the layers on the way from `layer`, itself left out,
  with the variable's own: 'res2/block_0/temporal/conv/kernel'. Converters, inflation and
  restore reports speak of variables by these names.

  Args:
    layer: a built layer or model whose sublayers carry logical names.

  Returns:
    Every variable by its logical name, in the order of `layer.variables` per sublayer.

  Raises:
    ValueError: if two variables share a name.
  """
  named: dict[str, tf.Variable] = {}
  _collect(layer, '', named)
  return named


def modules(layer: tf_keras.layers.Layer, prefix: str = '') -> dict[str, Any]:
  """The layers that have weights of their own, and variables of those that hold layers.

  Args:
    layer: as `logical_variables` takes it.
    prefix: what the names begin with.

  Returns:
    Layers and floating variables by logical name, with '.' for '/'; a layer's own name is
    left out.
  """
  found: dict[str, Any] = {}
  for child in layer._flatten_layers(recursive=False, include_self=False):
    name = f'{prefix}{child.name}'
    below = modules(child, f'{name}.')
    inherited = {id(variable) for part in below.values() for variable in _all(part)}
    own = [x for x in child.variables if id(x) not in inherited and x.dtype.is_floating]
    if own and not below:
      found[name] = child
    elif own:
      found |= {f'{name}.{_own_name(variable)}': variable for variable in own}
    found |= below
  return found


def _all(part: Any) -> Sequence[tf.Variable]:
  return [part] if isinstance(part, tf.Variable) else part.variables


def _own_name(variable: tf.Variable) -> str:
  return variable.name.split(':')[0].rsplit('/', 1)[-1]


def _collect(layer, prefix: str, named: dict[str, tf.Variable]) -> None:
  children = list(layer._flatten_layers(recursive=False, include_self=False))
  inherited = {id(variable) for child in children for variable in child.variables}
  for variable in layer.variables:
    if id(variable) not in inherited:
      _add(prefix + _own_name(variable), variable, named)
  for child in children:
    _collect(child, f'{prefix}{child.name}/', named)


def _add(name: str, variable: tf.Variable, named: dict[str, tf.Variable]) -> None:
  if named.setdefault(name, variable) is not variable:
    raise ValueError(f'two variables are named {name!r}; name their layers apart')


def check(model: tf_keras.Model, of: str) -> None:
  """Raises `UserError` where two variables could not be told apart in a checkpoint.

  Such a model trains and saves; what it saved could not be read back.

  Args:
    model: built.
    of: the task that builds it, for the message.
  """
  try:
    logical_variables(model)
  except ValueError as error:
    raise UserError(
      f'{of}.build_model: {error}, for example by the name of a head'
    ) from error

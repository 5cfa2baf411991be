"""Logical names of variables: where a variable sits, whatever its checkpoint key is."""

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


def _collect(layer, prefix: str, named: dict[str, tf.Variable]) -> None:
  children = list(layer._flatten_layers(recursive=False, include_self=False))
  inherited = {id(variable) for child in children for variable in child.variables}
  for variable in layer.variables:
    if id(variable) not in inherited:
      _add(prefix + variable.name.split(':')[0].rsplit('/', 1)[-1], variable, named)
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

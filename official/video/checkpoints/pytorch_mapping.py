"""PyTorch state dicts and Keras layers: which key is which variable, and how it lies."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from official.video.errors import UserError

# PyTorch module name to the layer that has its weights, or to a mapping of the modules
# inside it, whose names follow after a dot; or a parameter's name to a variable.
Mapped = Mapping[str, Any]

DATA_PARALLEL = 'module.'
_COUNTER = 'num_batches_tracked'
_BATCH_NORM = {
  'weight': 'gamma',
  'bias': 'beta',
  'running_mean': 'moving_mean',
  'running_var': 'moving_variance',
}
_LINEAR = {'weight': 'kernel', 'bias': 'bias'}
_LAYER_NORM = {'weight': 'gamma', 'bias': 'beta'}


@dataclasses.dataclass(frozen=True)
class Weight:
  """A key of a state dict and the variable that stands for it.

  Attributes:
    key: 'conv1.weight'.
    name: the variable's: 'conv1/kernel'.
    variable: of a convolution, dense layer or norm, or a parameter.
    kernel: whether its axes have another order there.
  """

  key: str
  name: str
  variable: tf.Variable
  kernel: bool = True

  @property
  def _axes(self) -> tuple[int, ...]:
    """PyTorch's axes (out, in, ...) of a kernel in Keras' order (..., in, out)."""
    rank = len(self.variable.shape)
    if not self.kernel:
      return tuple(range(rank))
    return (*range(2, rank), 1, 0) if rank > 1 else (0,)[:rank]

  @property
  def shape(self) -> tuple[int, ...]:
    """Shape under the key."""
    return tuple(int(self.variable.shape[i]) for i in np.argsort(self._axes))

  def to_keras(self, tensor: np.ndarray) -> np.ndarray:
    """A tensor of the state dict as the variable holds it."""
    return tensor.transpose(self._axes).astype(self.variable.dtype.as_numpy_dtype)

  def to_pytorch(self) -> np.ndarray:
    """The variable's value as the state dict holds it."""
    return np.ascontiguousarray(self.variable.numpy().transpose(np.argsort(self._axes)))


@dataclasses.dataclass(frozen=True)
class Assignment:
  """A variable's new value.

  Attributes:
    weight: the key it was read from, and the variable.
    value: in the variable's layout and type.
  """

  weight: Weight
  value: np.ndarray


@dataclasses.dataclass(frozen=True)
class Unmatched:
  """What a state dict and a mapping do not have in common; false if that is nothing.

  Attributes:
    missing: keys of variables for which the state dict has none.
    unexpected: keys of the state dict that are no variable's.
    unfit: keys whose tensors can't be the variable's value, and why.
  """

  missing: Sequence[str] = ()
  unexpected: Sequence[str] = ()
  unfit: Sequence[str] = ()

  def __bool__(self) -> bool:
    return bool(self.missing or self.unexpected or self.unfit)

  def __str__(self) -> str:
    parts = {'missing': self.missing, 'unexpected': self.unexpected, 'unfit': self.unfit}
    return '; '.join(
      f'{len(keys)} {what}: {some(keys)}' for what, keys in parts.items() if keys
    )


def some(items: Sequence[str], limit: int = 3) -> str:
  """The first few of many, and how many more there are."""
  more = f' and {len(items) - limit} more' if len(items) > limit else ''
  return ', '.join(items[:limit]) + more


def weights(mapping: Mapped) -> dict[str, Weight]:
  """Every key that a mapping stands for, in its order.

  Args:
    mapping: built layers by PyTorch module. One layer may stand under several names:
      the original registered that module as often.

  Raises:
    ValueError: a layer isn't built.
    TypeError: a layer is no convolution, dense layer or norm.
  """
  return {weight.key: weight for _, weight in _weights(mapping)}


def _layers(mapping: Mapped, prefix: str = '') -> Iterator[tuple[str, Any]]:
  for name, value in mapping.items():
    if isinstance(value, Mapping):
      yield from _layers(value, f'{prefix}{name}.')
    else:
      yield prefix + name, value


def _weights(mapping: Mapped) -> Iterator[tuple[str, Weight]]:
  """Modules and their weights."""
  for module, layer in _layers(mapping):
    if isinstance(layer, tf.Variable):
      yield module, Weight(module, layer.name.split(':')[0], layer, kernel=False)
      continue
    if not layer.built:
      raise ValueError(f'{layer.name} has no variables yet; build it before converting')
    for own, attribute in _attributes(layer).items():
      variable = getattr(layer, attribute, None)
      if variable is not None:
        name = f'{layer.name}/{attribute}'
        yield module, Weight(f'{module}.{own}', name, variable)


def _is_batch_norm(layer: Any) -> bool:
  return hasattr(layer, 'moving_variance')


def _attributes(layer: Any) -> Mapping[str, str]:
  kernels = (tf_keras.layers.Conv2D, tf_keras.layers.Conv3D, tf_keras.layers.Dense)
  others = (tf_keras.layers.Conv2DTranspose, tf_keras.layers.Conv3DTranspose)
  if _is_batch_norm(layer):
    return _BATCH_NORM
  if isinstance(layer, tf_keras.layers.LayerNormalization):
    return _LAYER_NORM
  if isinstance(layer, kernels) and not isinstance(layer, others):
    return _LINEAR
  raise TypeError(f'{layer.name} is a {type(layer).__name__}, which has no counterpart')


def _counters(mapping: Mapped) -> list[str]:
  """Keys of the steps that batch norms count, which no result depends on."""
  modules = [name for name, layer in _layers(mapping) if _is_batch_norm(layer)]
  return [f'{name}.{_COUNTER}' for name in modules]


def check_finite(state_dict: Mapping[str, np.ndarray], path: str) -> None:
  """Raises `UserError` where a tensor of a file has numbers that are not finite."""
  for key, tensor in state_dict.items():
    if np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
      raise UserError(f'{path}: {key} has numbers that are not finite; copy it again')


def convert(
  state_dict: Mapping[str, np.ndarray], mapping: Mapped
) -> tuple[list[Assignment], Unmatched]:
  """Matches a state dict with layers; changes nothing.

  Args:
    state_dict: tensors by key, without what `without_data_parallel` takes off.
    mapping: layers by PyTorch module, as `weights` takes it. Where a layer stands under
      several names, the state dict's tensors under them have to agree.

  Returns:
    A value for every variable that the state dict has one for, and what doesn't match.
  """
  expected = weights(mapping)
  found: dict[int, Assignment] = {}
  first: dict[int, str] = {}
  seen: set[int] = set()
  unfit = []
  for key, weight in expected.items():
    variable = id(weight.variable)
    first.setdefault(variable, key)
    if key not in state_dict:
      continue
    seen.add(variable)
    known = found.get(variable)
    if reason := _misfit(weight, state_dict[key]):
      unfit.append(f'{key} {reason}')
    elif known is None:
      found[variable] = Assignment(weight, weight.to_keras(state_dict[key]))
    elif not _equal(state_dict[known.weight.key], state_dict[key]):
      unfit.append(f'{key} is another name of {known.weight.key}, but differs from it')
  missing = [key for variable, key in first.items() if variable not in seen]
  known_keys = expected.keys() | set(_counters(mapping))
  unexpected = [key for key in state_dict if key not in known_keys]
  return list(found.values()), Unmatched(missing, unexpected, unfit)


def _misfit(weight: Weight, tensor: np.ndarray) -> str:
  if tensor.shape != weight.shape:
    return f'is {list(tensor.shape)} there and {list(weight.shape)} here'
  if not np.issubdtype(tensor.dtype, np.floating):
    return f'is of {tensor.dtype} there, expected a float'
  return ''


def _equal(left: np.ndarray, right: np.ndarray) -> bool:
  return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=True)


def apply(assignments: Sequence[Assignment]) -> None:
  """Gives the variables their values."""
  for assignment in assignments:
    assignment.weight.variable.assign(assignment.value)


def to_state_dict(mapping: Mapped) -> dict[str, np.ndarray]:
  """The state dict of layers, in the mapping's order; batch norms count from 0 steps.

  Args:
    mapping: layers by PyTorch module. A variable that stands under several names gives
      one array for all of them.
  """
  counters = set(_counters(mapping))
  tensors: dict[int, np.ndarray] = {}
  state_dict: dict[str, np.ndarray] = {}
  for module, weight in _weights(mapping):
    tensor = tensors.setdefault(id(weight.variable), weight.to_pytorch())
    state_dict[weight.key] = tensor
    counter = f'{module}.{_COUNTER}'
    if weight.key.endswith('.running_var') and counter in counters:
      state_dict[counter] = np.zeros((), np.int64)
  return state_dict


def without_data_parallel(
  state_dict: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """The state dict without the 'module.' that data-parallel training puts before all."""
  if not all(key.startswith(DATA_PARALLEL) for key in state_dict):
    return dict(state_dict)
  return {key.removeprefix(DATA_PARALLEL): value for key, value in state_dict.items()}

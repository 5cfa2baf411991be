"""Pickles of NumPy arrays in containers, as JAX programs save them: Haiku's nets, BYOL's.

Nothing that a pickle names is imported or called (see `pytorch_pickle`): of arrays it is known
how they are put together, and any other object is read as what it was made of.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from official.video.checkpoints import pytorch_pickle
from official.video.checkpoints.pytorch_pickle import Object, PickleError
from official.video.errors import UserError

# What BYOL's training state is made of, in its order; the class itself tells positions only.
_BYOL_STATE = '_ByolExperimentState'
# Each of its nets is parameters and a state, whose names differ: one net by one name. What the
# optimizer keeps is none.
_BYOL_FIELDS = ('online', 'target', 'online', 'target', None)
# More than the largest public net has, far fewer than what a few bytes can nest.
_MAX_NODES = 1_000_000
_MAX_DEPTH = 100


class _Dtype:
  """A NumPy type as a pickle builds it: its code, then its byte order."""

  def __init__(self, code: Any, *_: Any):
    self._code, self._order = code, '<'

  def set_state(self, state: Any) -> None:
    self._order = state[1]

  @property
  def numpy(self) -> np.dtype:
    """The type; of numbers only, which no code is in."""
    dtype = np.dtype(self._code) if isinstance(self._code, str) else np.dtype(object)
    if dtype.kind not in 'biuf':
      raise PickleError(f'refused: an array of {self._code}')
    return dtype.newbyteorder('>' if self._order == '>' else '<')


class _Array:
  """An array as a pickle builds it: empty first, its shape and numbers after."""

  def __init__(self, *_: Any):
    self.values = np.zeros(0, np.float32)

  def set_state(self, state: Any) -> None:
    _, shape, dtype, is_fortran, data = state
    self.values = _numbers(data, dtype, shape, 'F' if is_fortran else 'C')


def _numbers(data: Any, dtype: Any, shape: Any, order: Literal['C', 'F']) -> np.ndarray:
  if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
    raise PickleError('refused: an array of objects')
  return np.frombuffer(data, dtype.numpy).reshape(shape, order=order)


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Literal['C', 'F']) -> _Array:
  made = _Array()
  made.values = _numbers(data, dtype, shape, order)
  return made


def _dill_array(make: Any, arguments: Any, state: Any, *_: Any) -> _Array:
  """As dill writes an array, in one call."""
  if make.function is not _Array:
    raise PickleError(f'refused: an array made by {make.name}')
  made = _Array(*arguments)
  made.set_state(state)
  return made


def _dill_tuple(name: str, fields: Any, module: str, *_: Any) -> pytorch_pickle.Global:
  """A class of tuples with names, which dill writes down with the names."""
  full = f'{module}.{name}'
  return pytorch_pickle.Global(full, lambda *parts: Object(full, parts, tuple(fields)))


def _scalar(dtype: Any, data: Any) -> Any:
  return _numbers(data, dtype, (), 'C')[()].item()


def _encoded(text: str, encoding: str) -> bytes:
  """How the second protocol writes bytes."""
  if encoding not in ('latin1', 'latin-1'):
    raise PickleError(f'refused: text as {encoding}')
  return text.encode('latin-1')


_KNOWN: Mapping[str, Callable[..., Any]] = {
  '_codecs.encode': _encoded,
  '__builtin__.bytes': lambda: b'',  # How the second protocol writes none.
  # Pairs that are not items yet.
  'collections.OrderedDict': lambda pairs=(): pytorch_pickle.mapping(pairs),
  'dill._dill._create_array': _dill_array,
  'dill._dill._create_namedtuple': _dill_tuple,
  'numpy.dtype': _Dtype,
  **{
    f'numpy.{core}.{name}': function
    for core in ('core', '_core')
    for name, function in (
      ('multiarray._reconstruct', _Array),
      ('multiarray.scalar', _scalar),
      ('numeric._frombuffer', _from_buffer),
    )
  },
}


class _Functions(dict):
  """Of every name what a call of it gives; of unknown ones a record of the call."""

  def __contains__(self, name: object) -> bool:
    return True

  def __missing__(self, name: str) -> Callable[..., Any]:
    return lambda *parts: Object(name, parts)


def read_pickle(path: str) -> dict[str, np.ndarray]:
  """The arrays of a pickle by name: keys and places joined by '/'.

  Of a training state of BYOL's code, `online/` and `target/` are its two nets, parameters
  and state of one together.

  Args:
    path: file that pickle or dill wrote: dicts, lists, tuples and objects, of arrays.

  Returns:
    Read-only arrays in the file's order; 16-bit ones as float32.

  Raises:
    UserError: the file can't be read, is damaged, or holds no arrays by name.
  """
  try:
    with open(path, 'rb') as file:
      value = pytorch_pickle.load(file, _Functions(_KNOWN), _no_reference, objects=True)
    if isinstance(value, dict):  # BYOL's is beside a step and a key.
      value = value.get('experiment_state', value)
    arrays = dict(_named(value, '', 0, iter(range(_MAX_NODES))))
  except PickleError as error:
    raise UserError(f'{path}: {error}; expected a pickle of arrays in dicts') from error
  except (MemoryError, RecursionError) as error:
    raise UserError(f'{path}: a damaged pickle ({type(error).__name__})') from error
  except OSError as error:
    raise UserError(f'{path}: {error.strerror or error}') from error
  if not arrays:
    raise UserError(f'{path}: holds no arrays; expected a pickle of arrays in dicts')
  return {
    name: x.astype(np.float32) if x.dtype == np.float16 else x
    for name, x in arrays.items()
  }


def _no_reference(reference: Any) -> Any:
  del reference
  raise PickleError('refused: a reference to what is not in the file')


def _named(
  value: Any, name: str, depth: int, left: Iterator[int]
) -> Iterator[tuple[str, np.ndarray]]:
  """Arrays in nested values, with their joined names."""
  if depth > _MAX_DEPTH or next(left, None) is None:
    raise PickleError('nests too many values for the weights of a net')
  if isinstance(value, _Array):
    yield name, value.values
    return
  for key, inner in _parts(value):
    joined = f'{name}/{key}' if name else str(key)
    yield from _named(inner, joined, depth + 1, left)


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
  if isinstance(value, Object):
    if value.name.endswith(f'.{_BYOL_STATE}') and len(value.parts) == len(_BYOL_FIELDS):
      named = zip(_BYOL_FIELDS, value.parts, strict=True)
      yield from (pair for pair in named if pair[0])
      return
    yield from value.items
    if len(value.fields) == len(value.parts) > 0:
      yield from zip(value.fields, value.parts, strict=True)
      return
    # A class around one container, as Haiku's mappings are, is that container.
    value = value.parts[0] if len(value.parts) == 1 else value.parts
  if isinstance(value, dict):
    yield from value.items()
  elif isinstance(value, (list, tuple)):
    yield from enumerate(value)

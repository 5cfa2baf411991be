"""Pickles read and written as data: nothing that a pickle names is imported or called.

A pickle is a program for a stack machine. The machine here knows the instructions that
PyTorch's files are made of (text, numbers, lists, tuples, dicts, references to tensors),
and calls functions of its caller only, by name; any other instruction or name is refused.
"""

import pickletools
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple


class PickleError(ValueError):
  """A pickle is damaged, or asks for what is not data; the message says which."""


class Global(NamedTuple):
  """A name that a pickle refers to: 'torch.FloatStorage'.

  Attributes:
    name: module and name, joined by a dot.
    function: what a call of it calls when read; None if it can't be called.
  """

  name: str
  function: Callable[..., Any] | None = None


class Object:
  """What a class or function made, read as what it was made of.

  Attributes:
    name: of the class.
    parts: what it was called with.
    fields: names of the parts, where the file tells them.
    items: what it holds as a list or a dict does.
  """

  def __init__(self, name: str, parts: tuple, fields: tuple = ()):
    self.name, self.parts, self.fields = name, parts, fields
    self.items: list[tuple[Any, Any]] = []

  def extend(self, values: Iterable[Any]) -> None:
    """Items by their places."""
    self.items.extend(enumerate(values, len(self.items)))

  def update(self, pairs: Mapping[Any, Any]) -> None:
    """Items by their keys."""
    self.items.extend(pairs.items())

  def set_state(self, state: Any) -> None:
    """Attributes, where a dict tells them."""
    for part in state if isinstance(state, tuple) else (state,):
      if isinstance(part, dict):
        self.update(part)


class Call(NamedTuple):
  """To be written: the reader calls `function`, a global's name, with `arguments`."""

  function: str
  arguments: tuple


class Persistent(NamedTuple):
  """To be written: a reference to something outside of the pickle."""

  id: tuple


# --- Reading --------------------------------------------------------------------------


class _Machine:
  """The stack machine: values, the stacks below the marks, and the memo."""

  def __init__(self, functions: Mapping[str, Any], find_persistent: Callable[[Any], Any]):
    self._functions = functions
    self._find_persistent = find_persistent
    self._below: list[list] = []
    self._memo: dict[int, Any] = {}
    self.stack: list = []

  def mark(self) -> None:
    self._below.append(self.stack)
    self.stack = []

  def pop_mark(self) -> list:
    items, self.stack = self.stack, self._below.pop()
    return items

  def fold(self, count: int, make: Callable[[list], Any]) -> None:
    """Replaces the last `count` values by what `make` makes of them."""
    if len(self.stack) < count:
      raise IndexError
    items = self.stack[len(self.stack) - count :]
    self.stack[len(self.stack) - count :] = [make(items)]

  def fold_mark(self, make: Callable[[list], Any]) -> None:
    items = self.pop_mark()
    self.stack.append(make(items))

  def remember(self, slot: int) -> None:
    self._memo[slot] = self.stack[-1]

  def memoize(self) -> None:
    self.remember(len(self._memo))

  def recall(self, slot: int) -> None:
    self.stack.append(self._memo[slot])

  def extend(self, items: list) -> None:
    if type(self.stack[-1]) not in (list, Object):
      raise TypeError
    self.stack[-1].extend(items)

  def update(self, items: list) -> None:
    if type(self.stack[-1]) not in (dict, Object):
      raise TypeError
    self.stack[-1].update(_pairs(items))

  def find_global(self, module: str, name: str) -> None:
    full = f'{module}.{name}'
    if full not in self._functions:
      raise PickleError(f'refused: {full if full.isprintable() else ascii(full)}')
    self.stack.append(Global(full, self._functions[full]))

  def find_stack_global(self) -> None:
    name, module = self.stack.pop(), self.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
      raise TypeError
    self.find_global(module, name)

  def call(self) -> None:
    arguments, function = self.stack.pop(), self.stack.pop()
    if not isinstance(function, Global) or type(arguments) is not tuple:
      raise TypeError
    if function.function is None:
      raise PickleError(f'refused: a call of {function.name}')
    self.stack.append(function.function(*arguments))

  def give_state(self) -> None:
    """State of a dict is metadata; any other value has to know what to do with it."""
    state, value = self.stack.pop(), self.stack[-1]
    if hasattr(value, 'set_state'):
      value.set_state(state)
    elif type(value) is not dict:
      raise PickleError('refused: the state of an object')

  def find_persistent(self) -> None:
    self.stack.append(self._find_persistent(self.stack.pop()))


def _pairs(items: list) -> dict:
  return mapping(zip(items[::2], items[1::2], strict=True))


def mapping(pairs: Iterable[tuple[Any, Any]] = ()) -> dict:
  """A dict of pairs, whose keys are texts or numbers.

  The hash of a tuple visits all that it holds as often as it holds it: 60 tuples, each of
  the one before twice, would keep the reader busy for ever.

  Raises:
    PickleError: a key is something else.
  """
  made = {}
  for key, value in pairs:
    if not isinstance(key, _KEYS):
      raise PickleError(f'refused: a key that is a {type(key).__name__}')
    made[key] = value
  return made


_KEYS = (str, bytes, int, float, type(None))


def _nothing(machine: _Machine, argument: Any) -> None:
  del machine, argument


_Step = Callable[[_Machine, Any], Any]
_LITERALS = (
  *('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT'),
  *('STRING', 'BINSTRING', 'SHORT_BINSTRING', 'UNICODE', 'BINUNICODE', 'BINUNICODE8'),
  *('SHORT_BINUNICODE', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8'),
)
_STEPS: Mapping[str, _Step] = {
  **{name: lambda m, value: m.stack.append(value) for name in _LITERALS},
  **dict.fromkeys(('PROTO', 'FRAME', 'STOP'), _nothing),
  'NONE': lambda m, _: m.stack.append(None),
  'NEWTRUE': lambda m, _: m.stack.append(True),
  'NEWFALSE': lambda m, _: m.stack.append(False),
  'MARK': lambda m, _: m.mark(),
  'POP': lambda m, _: m.stack.pop(),
  'POP_MARK': lambda m, _: m.pop_mark(),
  'EMPTY_LIST': lambda m, _: m.stack.append([]),
  'EMPTY_TUPLE': lambda m, _: m.stack.append(()),
  'EMPTY_DICT': lambda m, _: m.stack.append({}),
  'LIST': lambda m, _: m.fold_mark(list),
  'TUPLE': lambda m, _: m.fold_mark(tuple),
  'DICT': lambda m, _: m.fold_mark(_pairs),
  'TUPLE1': lambda m, _: m.fold(1, tuple),
  'TUPLE2': lambda m, _: m.fold(2, tuple),
  'TUPLE3': lambda m, _: m.fold(3, tuple),
  'APPEND': lambda m, _: m.extend([m.stack.pop()]),
  'APPENDS': lambda m, _: m.extend(m.pop_mark()),
  'SETITEM': lambda m, _: m.update([m.stack.pop(), m.stack.pop()][::-1]),
  'SETITEMS': lambda m, _: m.update(m.pop_mark()),
  'PUT': lambda m, slot: m.remember(slot),
  'BINPUT': lambda m, slot: m.remember(slot),
  'LONG_BINPUT': lambda m, slot: m.remember(slot),
  'MEMOIZE': lambda m, _: m.memoize(),
  'GET': lambda m, slot: m.recall(slot),
  'BINGET': lambda m, slot: m.recall(slot),
  'LONG_BINGET': lambda m, slot: m.recall(slot),
  'GLOBAL': lambda m, names: m.find_global(*names.split(' ', 1)),
  'STACK_GLOBAL': lambda m, _: m.find_stack_global(),
  'REDUCE': lambda m, _: m.call(),
  'BUILD': lambda m, _: m.give_state(),
  'BINPERSID': lambda m, _: m.find_persistent(),
}
# How later protocols make objects: by a call too, which `functions` answer.
_OBJECTS: Mapping[str, _Step] = {
  'NEWOBJ': lambda m, _: m.call(),
  'BYTEARRAY8': lambda m, value: m.stack.append(bytes(value)),
}


def load(
  file: BinaryIO,
  functions: Mapping[str, Any],
  find_persistent: Callable[[Any], Any],
  objects: bool = False,
) -> Any:
  """Reads one pickle, up to its end.

  Args:
    file: open at the pickle's first byte; left behind its last.
    functions: full name of each global that the pickle may refer to, and what a call of
      it calls; None where it can't be called.
    find_persistent: from a persistent id to the value that stands for it.
    objects: whether objects are read that a class makes of arguments, by `functions` too.

  Returns:
    The value: plain containers, texts, numbers, `Global`s and what the functions return.

  Raises:
    PickleError: the pickle is damaged, or refers to anything else.
  """
  machine = _Machine(functions, find_persistent)
  steps = {**_STEPS, **_OBJECTS} if objects else _STEPS
  try:
    for instruction, argument, _ in pickletools.genops(file):
      step = steps.get(instruction.name)
      if step is None:
        raise PickleError(f'refused: the instruction {instruction.name}')
      step(machine, argument)
    (value,) = machine.stack
  except PickleError:
    raise
  except (ValueError, TypeError, IndexError, KeyError, AttributeError, struct.error) as e:
    raise PickleError(f'a damaged pickle ({type(e).__name__})') from e
  return value


# --- Writing --------------------------------------------------------------------------


def dump(value: Any) -> bytes:
  """A pickle of protocol 2 of plain containers, texts, numbers and the nodes above.

  Raises:
    TypeError: the value holds anything else.
  """
  return b'\x80\x02' + _written(value) + b'.'


def _written(value: Any) -> bytes:
  if value is None or isinstance(value, bool):
    return {None: b'N', True: b'\x88', False: b'\x89'}[value]
  for kind, write in _WRITERS.items():
    if isinstance(value, kind):
      return write(value)
  raise TypeError(f"a pickle of data can't hold a {type(value).__name__}")


def _written_int(value: int) -> bytes:
  if -(2**31) <= value < 2**31:
    return b'J' + struct.pack('<i', value)
  data = value.to_bytes(value.bit_length() // 8 + 1, 'little', signed=True)
  return b'\x8a' + struct.pack('<B', len(data)) + data


def _written_text(value: str) -> bytes:
  data = value.encode('utf-8', 'surrogatepass')
  return b'X' + struct.pack('<I', len(data)) + data


def _written_all(values: Any) -> bytes:
  return b'(' + b''.join(_written(value) for value in values)


def _written_dict(value: Mapping) -> bytes:
  return b'}' + _written_all(x for item in value.items() for x in item) + b'u'


def _written_name(name: str) -> bytes:
  module, _, own = name.rpartition('.')
  return f'c{module}\n{own}\n'.encode()


_WRITERS: Mapping[type, Callable[[Any], bytes]] = {
  Global: lambda value: _written_name(value.name),
  Call: lambda value: _written_name(value.function) + _written(value.arguments) + b'R',
  Persistent: lambda value: _written(value.id) + b'Q',
  int: _written_int,
  float: lambda value: b'G' + struct.pack('>d', value),
  str: _written_text,
  tuple: lambda value: _written_all(value) + b't',
  list: lambda value: b']' + _written_all(value) + b'e',
  Mapping: _written_dict,
}

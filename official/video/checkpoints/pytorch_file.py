"""PyTorch's `.pth` files of tensors, read and written without PyTorch.

Two layouts are read: the zip archive that torch.save writes since version 1.6, and the
stream of pickles before. Nothing that a file's pickles name is imported or called (see
`pytorch_pickle`), every size is held against the file's before memory is asked for, and
tensors are views of the bytes read.
"""

import contextlib
import dataclasses
import io
import os
import secrets
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from official.video.checkpoints import pytorch_pickle
from official.video.checkpoints.pytorch_pickle import PickleError
from official.video.errors import UserError

_BFLOAT16 = 'torch.BFloat16Storage'
# As stored; of bfloat16, which NumPy lacks, the bits.
_DTYPES: Mapping[str, np.dtype] = {
  'torch.DoubleStorage': np.dtype('f8'),
  'torch.FloatStorage': np.dtype('f4'),
  'torch.HalfStorage': np.dtype('f2'),
  _BFLOAT16: np.dtype('u2'),
  'torch.LongStorage': np.dtype('i8'),
  'torch.IntStorage': np.dtype('i4'),
  'torch.ShortStorage': np.dtype('i2'),
  'torch.CharStorage': np.dtype('i1'),
  'torch.ByteStorage': np.dtype('u1'),
  'torch.BoolStorage': np.dtype('?'),
}
_STORAGE_OF = {dtype: name for name, dtype in _DTYPES.items() if name != _BFLOAT16}
_REBUILD = 'torch._utils._rebuild_tensor_v2'
_ORDERED_DICT = 'collections.OrderedDict'

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_ZIP_START = b'PK\x03\x04'
# Under these a training script keeps the state dict beside its epoch and optimizer.
_WRAPPERS = ('state_dict', 'model_state_dict', 'model_state', 'model', 'net')
_MAX_RANK = 32
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError)
_MENDING = 'copy it again'


class _Storage(NamedTuple):
  """A storage that a file holds: elements in a row, which tensors view."""

  name: str
  key: str
  size: int


class _Tensor(NamedTuple):
  """A tensor as the pickle describes it, in elements of its storage."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Content:
  """A file's pickle, and how to read the storages it refers to.

  Attributes:
    value: what was saved, tensors as `_Tensor`.
    read: from a storage's key to its bytes.
    byte_order: '<' or '>'.
  """

  value: Any
  read: Callable[[str], bytes]
  byte_order: Literal['<', '>']


# --- Reading --------------------------------------------------------------------------


def read_state_dict(path: str) -> dict[str, np.ndarray]:
  """Reads the tensors of a saved model by name.

  A file is a state dict, or a dict that holds one under 'state_dict', 'model' or the
  like; its optimizer, epoch and the rest are left out. Names of nested dicts are joined
  by dots.

  Args:
    path: file that torch.save wrote.

  Returns:
    Read-only arrays in the file's order; bfloat16 as float32, which holds the same
    values.

  Raises:
    UserError: the file can't be read, is damaged, holds no tensors by name, or refers
      to more than tensors in containers.
  """
  try:
    with open(path, 'rb') as file:
      content = _read_content(file)
      tensors = dict(_flat(_state_dict(content.value), '', set()))
      return _arrays(content, tensors)
  except PickleError as error:
    raise UserError(f'{path}: {error}{_advice(str(error))}') from error
  except RecursionError as error:
    raise UserError(f'{path}: holds dicts nested too deep for a state dict') from error
  except _ZIP_ERRORS as error:
    raise UserError(f'{path}: a damaged zip archive ({error}); {_MENDING}') from error
  except OSError as error:
    raise UserError(f'{path}: {error.strerror or error}') from error


def read_text(path: str, key: str) -> str:
  """A text that a file keeps beside its state dict; '' where it keeps none.

  Args:
    path: file that `read_state_dict` reads.
    key: of the text.
  """
  with open(path, 'rb') as file:
    value = _read_content(file).value
  found = value.get(key) if isinstance(value, dict) else None
  return found if isinstance(found, str) else ''


def _advice(message: str) -> str:
  if not message.startswith('refused'):
    return ''
  return (
    '; only tensors in plain containers are read, no code: save it again as '
    "torch.save({'state_dict': model.state_dict()}, path)"
  )


def _read_content(file: BinaryIO) -> _Content:
  start = file.read(len(_ZIP_START))
  file.seek(0)
  if start == _ZIP_START:
    return _read_zip(file)
  if start[:1] == b'\x80':
    return _read_legacy(file)
  raise PickleError(
    f'is no PyTorch file (it begins with {start!r}); expected one that torch.save wrote'
  )


def _find_storage(reference: Any) -> _Storage:
  """The storage of a persistent id: ('storage', type, key, device, size)."""
  if type(reference) is not tuple or len(reference) not in (5, 6):
    raise PickleError('refused: a reference that is no storage')
  kind, of, key, _, size, *views = reference
  named = isinstance(of, pytorch_pickle.Global) and isinstance(key, str)
  if kind != 'storage' or not named or type(size) is not int or size < 0:
    raise PickleError('refused: a reference that is no storage')
  if any(view is not None for view in views):
    raise PickleError('refused: a view of a storage, as PyTorch before 0.4 wrote it')
  return _Storage(of.name.replace('torch.cuda.', 'torch.'), key, size)


def _is_sizes(value: Any) -> bool:
  return type(value) is tuple and all(type(n) is int and n >= 0 for n in value)


def _rebuild_tensor(
  storage: Any,
  offset: Any,
  shape: Any,
  strides: Any,
  requires_grad: Any = False,
  hooks: Any = None,
  metadata: Any = None,
) -> _Tensor:
  """Describes a tensor, once it is known to lie inside its storage."""
  del requires_grad, hooks
  if metadata:
    raise PickleError('refused: a conjugate or negated view of a tensor')
  typed = isinstance(storage, _Storage) and storage.name in _DTYPES
  if not typed or not _is_sizes(shape) or not _is_sizes(strides):
    raise PickleError('a damaged pickle (a tensor without sizes)')
  if not _is_sizes((offset,)) or len(shape) != len(strides) or len(shape) > _MAX_RANK:
    raise PickleError(f'a damaged pickle (sizes {shape}, strides {strides})')
  count, last = 1, offset
  for size, stride in zip(shape, strides, strict=True):
    count *= size
    last += (size - 1) * stride
  if count and (last >= storage.size or count > storage.size):
    raise PickleError(
      f'a damaged pickle (a tensor of sizes {shape}, strides {strides} and offset '
      f'{offset} exceeds its storage of {storage.size} values)'
    )
  return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
  return data


_FUNCTIONS: Mapping[str, Callable[..., Any] | None] = {
  _ORDERED_DICT: pytorch_pickle.mapping,
  'torch.Size': tuple,
  'torch._utils._rebuild_tensor': _rebuild_tensor,
  _REBUILD: _rebuild_tensor,
  'torch._utils._rebuild_parameter': _rebuild_parameter,
  **dict.fromkeys(_DTYPES),
  **{name.replace('torch.', 'torch.cuda.'): None for name in _DTYPES},
}


def _load(file: BinaryIO) -> Any:
  return pytorch_pickle.load(file, _FUNCTIONS, _find_storage)


def _size_of(file: BinaryIO) -> int:
  return os.fstat(file.fileno()).st_size


def _read_zip(file: BinaryIO) -> _Content:
  archive = zipfile.ZipFile(file)
  entries = {entry.filename: entry for entry in archive.infolist()}
  if sum(entry.file_size for entry in archive.infolist()) > _size_of(file):
    raise PickleError('refused: a zip archive that unpacks to more than its own size')
  roots = [
    name.removesuffix('/data.pkl') for name in entries if name.endswith('/data.pkl')
  ]
  if len(roots) != 1 or f'{roots[0]}/constants.pkl' in entries:
    kind = 'a TorchScript archive' if roots else 'a zip archive without a data.pkl'
    raise PickleError(f'is {kind}; expected a state dict that torch.save wrote')
  root = roots[0]

  def read(key: str) -> bytes:
    if f'{root}/{key}' not in entries:
      raise PickleError(f'lacks {root}/{key}, which holds values of a tensor; {_MENDING}')
    return archive.read(f'{root}/{key}')

  order = read('byteorder') if f'{root}/byteorder' in entries else b'little'
  value = _load(io.BytesIO(read('data.pkl')))
  return _Content(value, lambda key: read(f'data/{key}'), '>' if order == b'big' else '<')


def _storages_of(value: Any) -> dict[str, _Storage]:
  """All storages in nested containers, by key."""
  found: dict[str, _Storage] = {}
  seen: set[int] = set()
  waiting = [value]
  while waiting:
    value = waiting.pop()
    if isinstance(value, _Tensor):
      found[value.storage.key] = value.storage
    elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
      seen.add(id(value))
      waiting.extend(value.values() if isinstance(value, dict) else value)
  return found


def _read_legacy(file: BinaryIO) -> _Content:
  """A stream: magic number, protocol, system, content, storage keys, storages."""
  if _load(file) != _LEGACY_MAGIC:
    raise PickleError('is a pickle without the magic number of torch.save')
  if (protocol := _load(file)) != _LEGACY_PROTOCOL:
    raise PickleError(f'is of protocol {protocol}, expected {_LEGACY_PROTOCOL}')
  system, value, keys = _load(file), _load(file), _load(file)
  little = not isinstance(system, dict) or system.get('little_endian', True)
  order: Literal['<', '>'] = '<' if little else '>'
  spans = _legacy_spans(file, keys, _storages_of(value), order)

  def read(key: str) -> bytes:
    if key not in spans:
      raise PickleError(f'lacks storage {key}, which holds values of a tensor')
    start, size = spans[key]
    file.seek(start)
    return file.read(size)

  return _Content(value, read, order)


def _legacy_spans(
  file: BinaryIO, keys: Any, storages: Mapping[str, _Storage], order: str
) -> dict[str, tuple[int, int]]:
  """Where each storage's bytes are: first byte and number."""
  spans: dict[str, tuple[int, int]] = {}
  end = _size_of(file)
  for key in keys if isinstance(keys, list) else []:
    if not isinstance(key, str) or key not in storages:
      raise PickleError('a damaged pickle (a storage that no tensor refers to)')
    head = file.read(8)
    count = struct.unpack(f'{order}q', head)[0] if len(head) == 8 else -1
    storage = storages[key]
    size = storage.size * _DTYPES[storage.name].itemsize
    start = file.tell()
    if count != storage.size or start + size > end:
      raise PickleError(
        f'is cut or damaged: {max(0, end - start)} bytes from storage {key} on, which '
        f'has {size}; {_MENDING}'
      )
    spans[key] = start, size
    file.seek(start + size)
  return spans


def _state_dict(value: Any) -> Mapping[Any, Any]:
  """The dict of tensors in what was saved."""
  for _ in _WRAPPERS:
    if not isinstance(value, dict):
      break
    inner = [key for key in _WRAPPERS if isinstance(value.get(key), dict)]
    if not inner:
      break
    value = value[inner[0]]
  if isinstance(value, dict) and any(True for _ in _flat(value, '', set())):
    return value
  seen = f'keys {_some(value)}' if isinstance(value, dict) else f'a {_kind(value)}'
  raise PickleError(
    f'holds no tensors by name but {seen}; expected a state dict, or a dict that has one '
    f'under {", ".join(map(repr, _WRAPPERS))}'
  )


def _kind(value: Any) -> str:
  return 'tensor' if isinstance(value, _Tensor) else type(value).__name__


def _some(keys: Mapping[Any, Any]) -> str:
  names = [repr(key) if isinstance(key, (str, int)) else _kind(key) for key in keys]
  return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '') or '(none)'


def _flat(
  values: Mapping[Any, Any], prefix: str, seen: set[int]
) -> Iterator[tuple[str, _Tensor]]:
  """Tensors of nested dicts by their joined names; other values are left out."""
  seen.add(id(values))
  for key, value in values.items():
    if isinstance(value, _Tensor):
      if not isinstance(key, str):
        raise PickleError(f'names a tensor by a {_kind(key)}, expected a text')
      yield prefix + key, value
    elif isinstance(value, dict) and isinstance(key, str):
      # Containers may be shared, or hold themselves; their names would never end.
      if id(value) in seen:
        raise PickleError(f'a damaged pickle ({prefix}{key} repeats another dict)')
      yield from _flat(value, f'{prefix}{key}.', seen)


def _arrays(content: _Content, tensors: Mapping[str, _Tensor]) -> dict[str, np.ndarray]:
  storages: dict[_Storage, np.ndarray] = {}
  arrays = {}
  for name, tensor in tensors.items():
    if tensor.storage not in storages:
      storages[tensor.storage] = _storage_array(content, tensor.storage)
    values = storages[tensor.storage]
    arrays[name] = np.lib.stride_tricks.as_strided(
      values[tensor.offset :],
      tensor.shape,
      [stride * values.itemsize for stride in tensor.strides],
      writeable=False,
    )
  return arrays


def _storage_array(content: _Content, storage: _Storage) -> np.ndarray:
  """A storage's values in this machine's byte order."""
  dtype = _DTYPES[storage.name]
  data = content.read(storage.key)
  if len(data) < storage.size * dtype.itemsize:
    raise PickleError(
      f'data/{storage.key} has {len(data)} bytes, expected '
      f'{storage.size * dtype.itemsize}; {_MENDING}'
    )
  stored = np.frombuffer(data, dtype.newbyteorder(content.byte_order), storage.size)
  values = stored.astype(dtype, copy=False)
  if storage.name == _BFLOAT16:  # The upper half of a float32.
    return (values.astype(np.uint32) << 16).view(np.float32)
  return values


# --- Writing --------------------------------------------------------------------------


def write(path: str, content: Mapping[str, Any]) -> None:
  """Writes a file that torch.load reads, with weights_only too; whole or not at all.

  Args:
    path: file to write.
    content: arrays, texts, numbers, and dicts, lists and tuples of them; an array that
      stands in several places becomes tensors that share their storage.

  Raises:
    TypeError: the content holds anything else.
    UserError: the file can't be written.
  """
  arrays: dict[int, tuple[str, np.ndarray]] = {}
  pickled = pytorch_pickle.dump(_described(content, arrays))
  root = os.path.splitext(os.path.basename(path))[0]
  temporary = f'{path}.{secrets.token_hex(6)}.tmp'
  try:
    with zipfile.ZipFile(temporary, 'x') as archive:
      _add(archive, f'{root}/data.pkl', pickled)
      _add(archive, f'{root}/byteorder', b'little')
      for key, array in arrays.values():
        data = array.astype(array.dtype.newbyteorder('<'), copy=False).tobytes()
        _add(archive, f'{root}/data/{key}', data)
      _add(archive, f'{root}/version', b'3\n')
    os.replace(temporary, path)
  except OSError as error:
    raise UserError(f"{path}: can't be written: {error.strerror or error}") from error
  finally:
    with contextlib.suppress(OSError):
      os.remove(temporary)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
  """Adds an entry with the earliest date a zip can have, so equal content is equal."""
  archive.writestr(zipfile.ZipInfo(name), data)


def _described(value: Any, arrays: dict[int, tuple[str, np.ndarray]]) -> Any:
  """The value with arrays as tensors; `arrays` takes the arrays by their storage keys."""
  if isinstance(value, np.ndarray):
    return _described_array(value, arrays)
  if isinstance(value, Mapping):
    return {key: _described(item, arrays) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return type(value)(_described(item, arrays) for item in value)
  return value


def _described_array(
  array: np.ndarray, arrays: dict[int, tuple[str, np.ndarray]]
) -> pytorch_pickle.Call:
  if array.dtype not in _STORAGE_OF:
    raise TypeError(f'PyTorch has no storage of {array.dtype}')
  key, _ = arrays.setdefault(id(array), (str(len(arrays)), array))
  strides = [1]
  for size in array.shape[:0:-1]:
    strides.insert(0, strides[0] * max(1, size))
  storage = pytorch_pickle.Global(_STORAGE_OF[array.dtype])
  reference = pytorch_pickle.Persistent(('storage', storage, key, 'cpu', array.size))
  hooks = pytorch_pickle.Call(_ORDERED_DICT, ())
  strided = tuple(strides[: array.ndim])
  return pytorch_pickle.Call(
    _REBUILD, (reference, 0, tuple(array.shape), strided, False, hooks)
  )

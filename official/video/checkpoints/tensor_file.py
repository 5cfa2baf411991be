"""Named tensors of other libraries: safetensors, .npz, .pth, .pkl, TensorFlow's own."""

import json
import math
import os
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

from official.video import files
from official.video.checkpoints import keras_file
from official.video.errors import UserError

# Longest header that is read; the largest public models stay far below it.
_MAX_HEADER = 100_000_000
_DTYPES = {
  'F64': '<f8',
  'F32': '<f4',
  'F16': '<f2',
  'I64': '<i8',
  'I32': '<i4',
  'I16': '<i2',
  'I8': '<i1',
  'U8': '<u1',
  'BOOL': '?',
}


def read_tensors(path: str) -> dict[str, np.ndarray]:
  """All tensors of a file by name, floating ones at least float32. Runs no code of it.

  Args:
    path: .safetensors, .npz, a PyTorch file (.pth, .pt, .bin), a pickle of arrays (.pkl),
      Keras' (.h5, .keras), or the prefix of a TensorFlow checkpoint.

  Raises:
    UserError: there is no such file, or it is damaged or of another kind.
  """
  suffix = kind_of(path)
  if suffix == '.safetensors':
    return read_safetensors(path)
  if suffix == '.npz':
    return _read_npz(path)
  if suffix in keras_file.SUFFIXES:
    return keras_file.read_keras(path)
  if suffix in ('.pkl', '.pickle'):
    from official.video.checkpoints import haiku_file

    return haiku_file.read_pickle(path)
  if suffix in ('.pth', '.pt', '.bin'):
    from official.video.checkpoints import pytorch_file

    return pytorch_file.read_state_dict(path)
  return _read_checkpoint(path)


def is_safetensors(path: str) -> bool:
  """Whether a file's name says that it is one."""
  return os.path.splitext(path)[1].lower() == '.safetensors'


def write_safetensors(
  path: str, tensors: Mapping[str, np.ndarray], texts: Mapping[str, str] | None = None
) -> None:
  """Writes a file that safetensors' libraries read; whole or not at all.

  Args:
    path: file to write.
    tensors: by name; of the types that `read_safetensors` knows.
    texts: by key, for the file's metadata.

  Raises:
    UserError: the file can't be written.
  """
  names = {np.dtype(code): name for name, code in _DTYPES.items()}
  header, parts, end = {}, [], 0
  for key, value in tensors.items():
    values = np.asarray(value)
    begin, end = end, end + values.nbytes
    header[key] = {
      'dtype': names[values.dtype.newbyteorder('<')],
      'shape': list(values.shape),
      'data_offsets': [begin, end],
    }
    parts.append(values.astype(values.dtype.newbyteorder('<'), copy=False).tobytes())
  header['__metadata__'] = {'format': 'pt', **(texts or {})}
  described = json.dumps(header).encode()
  described += b' ' * (-len(described) % 8)  # Tensors begin at a multiple of eight.
  files.write_atomically(
    path, struct.pack('<Q', len(described)) + described + b''.join(parts)
  )


# How files begin whose content tells what they are; a zip's names do.
_BEGINS = {
  b'\x89HDF\r\n\x1a\n': '.h5',
  b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.': '.pth',  # Of PyTorch before 1.6.
}


def kind_of(path: str) -> str:
  """The suffix that a file should have by its content, else the one that it has.

  People's files are called .pth.tar, .ckpt or .model.
  """
  suffix = os.path.splitext(path)[1].lower()
  try:
    with open(path, 'rb') as file:
      begin = file.read(16)
  except OSError:  # Of a checkpoint's prefix there is no file.
    return suffix
  for sign, kind in _BEGINS.items():
    if begin.startswith(sign):
      return kind
  if begin.startswith(b'PK'):
    try:
      with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
      return suffix
    if any(name.endswith('data.pkl') for name in names):
      return '.pth'
    return '.npz' if names and all(name.endswith('.npy') for name in names) else suffix
  if begin[8:9] == b'{' and struct.unpack('<Q', begin[:8])[0] <= _MAX_HEADER:
    return '.safetensors'
  # Pickles of arrays, those of PyTorch aside.
  known = (*keras_file.SUFFIXES, '.pth', '.pt', '.bin', '.npz', '.safetensors')
  return '.pkl' if begin[:1] == b'\x80' and suffix not in known else suffix


def read_safetensors(path: str) -> dict[str, np.ndarray]:
  """Tensors of a .safetensors file by name; bfloat16 as float32.

  Raises:
    UserError: the file can't be read or its header does not describe it.
  """
  try:
    size = os.path.getsize(path)
    with open(path, 'rb') as file:
      (length,) = struct.unpack('<Q', file.read(8))
      if not 2 <= length <= min(_MAX_HEADER, size - 8):
        raise ValueError(f'its header claims {length} bytes of {size}')
      header = json.loads(file.read(length))
      data = file.read()
    header.pop('__metadata__', None)
    return {name: _tensor(name, entry, data) for name, entry in header.items()}
  except OSError as error:
    raise UserError(f'{path}: {error.strerror}') from error
  except (ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
    raise UserError(f'{path}: is no whole safetensors file: {error}') from error


def read_texts(path: str) -> dict[str, str]:
  """The metadata of a .safetensors file, which was read before."""
  with open(path, 'rb') as file:
    (length,) = struct.unpack('<Q', file.read(8))
    found = json.loads(file.read(length)).get('__metadata__')
  return found if isinstance(found, dict) else {}


def _tensor(name: str, entry: dict, data: bytes) -> np.ndarray:
  begin, end = entry['data_offsets']
  shape, dtype = entry['shape'], entry['dtype']
  if not 0 <= begin <= end <= len(data) or any(side < 0 for side in shape):
    raise ValueError(f'tensor {name} lies outside of the file')
  raw = data[begin:end]
  if dtype == 'BF16':
    values = (np.frombuffer(raw, '<u2').astype(np.uint32) << 16).view(np.float32)
  elif dtype in _DTYPES:
    values = np.frombuffer(raw, _DTYPES[dtype])
  else:
    raise ValueError(f'tensor {name} is of type {dtype}')
  if values.size != math.prod(shape):
    raise ValueError(f'tensor {name} has {values.size} numbers, its shape is {shape}')
  return _widened(values.reshape(shape))


def _widened(values: np.ndarray) -> np.ndarray:
  return values.astype(np.float32) if values.dtype == np.float16 else values


def _read_npz(path: str) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as stored:
      return {name: _widened(stored[name]) for name in stored.files}
  except files.NPZ_ERRORS as error:
    raise UserError(
      f'{path}: can not be read ({error}); expected a whole .npz file of plain arrays'
    ) from error


def _read_checkpoint(path: str) -> dict[str, np.ndarray]:
  import tensorflow as tf

  try:
    reader = tf.train.load_checkpoint(path)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
  except (tf.errors.OpError, ValueError, RuntimeError) as error:
    raise UserError(
      f'{path}: expected .safetensors, .npz, .pth, .pt, .bin, .pkl, .h5, .keras or the prefix '
      'of a TensorFlow checkpoint'
    ) from error


def assign_all(values: dict, tensors: dict[str, np.ndarray], path: str) -> list[str]:
  """Gives variables the tensors that they are mapped to, all of them or none.

  Args:
    values: variable's name to (variable, key of the tensor, what is done to it).
    tensors: by key.
    path: of the file, for messages.

  Returns:
    Keys of the tensors that no variable took.

  Raises:
    UserError: a tensor is missing, not finite, or of another shape than its variable.
  """
  missing = [key for _, key, _ in values.values() if key not in tensors]
  if missing:
    raise UserError(
      f'{path}: lacks {missing[0]} and {len(missing) - 1} more tensors; it holds '
      f'{", ".join(sorted(tensors)[:3])} ...'
    )
  converted: dict[str, np.ndarray] = {}
  for name, (variable, key, change) in values.items():
    try:
      converted[name] = change(tensors[key])
    except UserError:  # Knows better what is wrong.
      raise
    except ValueError:  # No reshaping makes it fit.
      pass
    if name not in converted or tuple(variable.shape) != converted[name].shape:
      raise UserError(
        f'{path}: {key} is {list(tensors[key].shape)}, {name} is '
        f'{list(variable.shape)}; the configurations differ'
      )
    if not np.isfinite(converted[name]).all():
      raise UserError(f'{path}: {key} has numbers that are not finite; copy it again')
  for name, (variable, _, _) in values.items():
    variable.assign(converted[name])
  used = {key for _, key, _ in values.values()}
  return sorted(set(tensors) - used)

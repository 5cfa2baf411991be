"""Named weights of Keras' files of whole models and of weights: .h5 and .keras."""

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from official.video.errors import UserError

SUFFIXES = ('.h5', '.hdf5', '.keras')
_CONFIG, _WEIGHTS = 'config.json', 'model.weights.h5'
# What a layer's variables are, in the order in which newer files number them.
_NUMBERED: Mapping[str, tuple[str, ...]] = {
  'BatchNormalization': ('gamma', 'beta', 'moving_mean', 'moving_variance'),
  'Conv2D': ('kernel', 'bias'),
  'Dense': ('kernel', 'bias'),
}


def read_keras(path: str) -> dict[str, np.ndarray]:
  """Weights by name, 'conv1_conv/kernel'. Builds no model and runs no code of the file.

  Of a .keras file, those of convolutions, dense layers and batch norms of its outermost
  model.

  Args:
    path: .keras, or .h5 of a model or its weights.

  Raises:
    UserError: the file can't be read, or names no layers.
  """
  import h5py

  try:
    if path.lower().endswith('.keras'):
      with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read(_CONFIG))
        weights = io.BytesIO(archive.read(_WEIGHTS))
      with h5py.File(weights, 'r') as file:
        found = dict(_numbered(file, config['config']['layers']))
    else:
      with h5py.File(path, 'r') as file:
        found = dict(_named(file.get('model_weights', file)))
  except FileNotFoundError as error:
    raise UserError(f'{path}: {error.strerror}') from error
  except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
    what = ' '.join(str(error).split())
    raise UserError(f"{path}: is no whole file of Keras': {what}") from error
  if not found:
    raise UserError(
      f'{path}: names no layers; expected a file of Keras, of named weights'
    )
  return found


def _named(file: Any) -> Iterator[tuple[str, np.ndarray]]:
  """Of files whose layers list their weights."""
  for layer in file:
    for name in file[layer].attrs.get('weight_names', ()):
      name = name.decode() if isinstance(name, bytes) else str(name)
      # 'conv1_conv/kernel:0', or below the name of a model.
      short = name.split(':')[0].rsplit('/', 1)[-1]
      yield f'{layer}/{short}', np.asarray(file[layer][name])


def _numbered(file: Any, layers: Any) -> Iterator[tuple[str, np.ndarray]]:
  """Of files whose layers are called as their classes are, and number their variables."""
  counts: dict[str, int] = {}
  for layer in layers:
    kind, name = layer['class_name'], layer['config'].get('name') or layer['name']
    snake = re.sub(r'(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])', '_', kind).lower()
    number = counts.get(snake, 0)
    counts[snake] = number + 1
    if kind not in _NUMBERED:
      continue
    place = f'{snake}_{number}' if number else snake
    group = file['layers'][place if place in file['layers'] else name]
    for i, variable in enumerate(_NUMBERED[kind]):
      if str(i) in group['vars']:
        yield f'{name}/{variable}', np.asarray(group['vars'][str(i)])

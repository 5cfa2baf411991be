"""Golden arrays of the reference implementations, and what makes their inputs.

The repository's own set lies in `arrays`; the environment variable VIDGARDEN_GOLDENS names
another one of the same layout, of any seed and any sizes (see `arrays/README.md`).
"""

import functools
import importlib.util
import itertools
import os
import pathlib
import re
import types
from collections.abc import Callable, Iterator, Sequence

import numpy as np

OWN = pathlib.Path(__file__).parent / 'arrays'
PYTORCH = OWN.parent / 'pytorch'
FOLDER = pathlib.Path(os.environ.get('VIDGARDEN_GOLDENS') or OWN).absolute()


@functools.cache
def seed() -> int:
  """The seed that the golden arrays were made with."""
  return int(golden_text('seed.txt'))


def golden(file: str) -> np.lib.npyio.NpzFile:
  """Opens one file of golden arrays."""
  return np.load(FOLDER / file, allow_pickle=False)


def golden_text(file: str) -> str:
  """Reads one text file of the goldens."""
  return (FOLDER / file).read_text()


def cases(file: str, pattern: str) -> list:
  """What the groups of a pattern match in a file's keys, each once, in their order.

  Tests take their parameters from it, so that no size or name of a set is written down.

  Returns:
    A tuple for each match, or a string where the pattern has one group.

  Raises:
    ValueError: no key matches; a test without parameters would be left out in silence.
  """
  matches = (re.fullmatch(pattern, key) for key in golden(file).files)
  found = [match.groups() for match in matches if match]
  if not found:
    raise ValueError(f'{FOLDER / file}: no key like {pattern}')
  return list(dict.fromkeys(x if len(x) > 1 else x[0] for x in found))


def inventory(file: str) -> list[tuple[str, tuple[int, ...], np.dtype]]:
  """Key, shape and type of every tensor in a file of CSTP's own, without 'module.'.

  They belong to the published models, whatever a set's seed and sizes; a set that has no
  lists of its own is read with the repository's.
  """
  path = FOLDER / 'cstp_keys' / f'{file}.txt'
  if not path.exists():
    path = OWN / 'cstp_keys' / path.name
  rows = [line.split('\t') for line in path.read_text().splitlines()]
  return [
    (
      key,
      tuple(int(n) for n in shape.strip('()').split(',') if n.strip()),
      np.dtype(dtype.removeprefix('torch.')),
    )
    for key, shape, dtype in rows
  ]


def pytorch(name: str) -> dict[str, np.ndarray]:
  """What PyTorch finds in `PYTORCH/<name>.pth` (see `make_pytorch`)."""
  return dict(np.load(PYTORCH / f'{name}.npz'))


def written(tensors) -> dict:
  """The content of `PYTORCH/written.pth`."""
  return {'epoch': 2**40, 'rate': 0.1, 'state_dict': tensors}


@functools.cache
def generator(folder: pathlib.Path = FOLDER) -> types.ModuleType:
  """A set's `fill.py`."""
  spec = importlib.util.spec_from_file_location('golden_fill', folder / 'fill.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def fill(name: str, shape, kind: str = 'weight', gain: float = 1.0) -> np.ndarray:
  """The deterministic array that the goldens' reference was fed under `name`."""
  return generator().fill(name, shape, seed(), kind, gain)


def net(name: str, shape, kind: str = 'weight', gain: float = 1.3) -> np.ndarray:
  """As `fill`, behind `PYTORCH/nets.npz` whatever VIDGARDEN_GOLDENS says."""
  return generator(OWN).fill(name, shape, 0, kind, gain)


def wave(shape, k: int) -> np.ndarray:
  """The float64 signal that number k of G-ViLM's inputs is."""
  return generator().wave(shape, k)


def clip(
  name: str,
  map_shape: Sequence[int],
  strides: Sequence[int],
  fits: Callable[[np.ndarray], bool],
) -> np.ndarray:
  """The clip `[B, T, H, W, 3]` that the reference was fed, whose shape is not stored.

  A net's first map has ceil(n / s) cells along an axis of n, so up to s lengths could
  have made it. Whole multiples of the strides are the first guess.

  Args:
    name: of the clip, for `fill`.
    map_shape: `[B, T', H', W', C]`, stored.
    strides: of the map along time, height and width.
    fits: whether a clip of one of these shapes gives the golden map.

  Returns:
    The first clip that fits, or the first guess where none does.
  """
  shapes = list(_clip_shapes(map_shape, strides))
  for shape in shapes:
    values = fill(name, shape, 'clip')
    if len(shapes) == 1 or fits(values):
      return values
  return fill(name, shapes[0], 'clip')


def _clip_shapes(
  map_shape: Sequence[int], strides: Sequence[int]
) -> Iterator[tuple[int, ...]]:
  batch, *cells = (int(n) for n in map_shape[:4])
  lengths = [range(n * s, (n - 1) * s, -1) for n, s in zip(cells, strides, strict=True)]
  return ((batch, *sides, 3) for sides in itertools.product(*lengths))


def relative_error(actual, expected) -> float:
  """Largest absolute difference over the largest absolute expected value."""
  actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
  assert actual.shape == expected.shape, f'{actual.shape} is not {expected.shape}'
  return float(np.abs(actual - expected).max() / np.abs(expected).max())

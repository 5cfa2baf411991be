"""Golden arrays of the reference implementations, and what makes their inputs."""

import importlib.util
import os
import pathlib

import numpy as np
import pytest

FOLDER = pathlib.Path(
  os.environ.get('VIDGARDEN_GOLDENS')
  or pathlib.Path(__file__).parents[2] / 'shared' / 'goldens'
)


def _require() -> pathlib.Path:
  if not FOLDER.is_dir():
    pytest.skip(f'no golden numbers at {FOLDER}; set VIDGARDEN_GOLDENS to their folder')
  return FOLDER


def seed() -> int:
  """The seed that the golden arrays were made with."""
  return int((_require() / 'seed.txt').read_text())


def golden(name: str) -> np.lib.npyio.NpzFile:
  """Opens one file of golden arrays."""
  return np.load(_require() / name, allow_pickle=False)


def golden_text(name: str) -> str:
  """Reads one text file of the goldens."""
  return (_require() / name).read_text()


def inventory(name: str) -> list[tuple[str, tuple[int, ...], np.dtype]]:
  """Key, shape and type of every tensor in a file of CSTP's own, without 'module.'."""
  path = _require().parent / 'specs' / 'cstp_keys' / f'{name}.txt'
  if not path.exists():
    pytest.skip(f'no list of keys at {path}')
  rows = [line.split('\t') for line in path.read_text().splitlines()]
  return [
    (
      key,
      tuple(int(n) for n in shape.strip('()').split(',') if n.strip()),
      np.dtype(dtype.removeprefix('torch.')),
    )
    for key, shape, dtype in rows
  ]


def fill(name: str, shape, kind: str = 'weight', gain: float = 1.0) -> np.ndarray:
  """The deterministic array that the goldens' reference was fed under `name`."""
  spec = importlib.util.spec_from_file_location('golden_fill', _require() / 'fill.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.fill(name, shape, seed(), kind, gain)


def relative_error(actual, expected) -> float:
  """Largest absolute difference over the largest absolute expected value."""
  actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
  return float(np.abs(actual - expected).max() / np.abs(expected).max())

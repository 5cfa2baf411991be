"""The published rows as files, YAML and gin, found by short names wherever they stand."""

import functools
import os
import pathlib
import re

from official.video import files

# The wheel has them beside this package, a checkout at its root.
_FOLDERS = (
  pathlib.Path(__file__).parents[1] / 'recipes',
  pathlib.Path(__file__).parents[3] / 'configs',
)
_SUFFIXES = ('.yaml', '.gin')


@functools.cache
def found() -> dict[str, pathlib.Path]:
  """All of them by short name, such as 'cvrl/pretrain_kinetics400_200ep'."""
  folder = next((folder for folder in _FOLDERS if (folder / 'cvrl').is_dir()), None)
  if folder is None:
    return {}
  return {
    str(path.relative_to(folder).with_suffix('')): path
    for path in sorted(folder.rglob('*'))
    if path.suffix in _SUFFIXES
  }


def located(path: str) -> str:
  """A path as it is where something is there; else that of the recipe of this name.

  A short name may have its suffix, and the folder 'configs' before it.
  """
  if files.is_remote(path) or os.path.exists(path):
    return path
  name = path.removeprefix('configs/')
  for suffix in _SUFFIXES:
    name = name.removesuffix(suffix)
  return str(found().get(name, path))


@functools.cache
def by_experiment() -> dict[str, list[str]]:
  """Short names of the recipes of each experiment, as their heads name it."""
  named: dict[str, list[str]] = {}
  for name, path in found().items():
    if experiment := re.search(r'--experiment=(\w+)', path.read_text()):
      named.setdefault(experiment[1], []).append(name)
  return named

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
# Commands that take recipes and no experiment, and the name that their scores go by.
_WITHOUT_EXPERIMENT = {'official.video.temporal.detect': 'gtad'}


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


def head(name: str) -> str:
  """What a recipe says of itself, in one line."""
  lines = found()[name].read_text().splitlines()
  count = next(i for i, line in enumerate(lines) if not line.startswith('#'))
  return ' '.join(line.lstrip('# ') for line in lines[:count])


def experiment_of(name: str) -> str:
  """The experiment of the command of a recipe's head that takes the recipe.

  Args:
    name: short name of the recipe.

  Returns:
    Its name; 'gtad' of `official.video.temporal.detect`; '' where no command takes it.
  """
  taken = re.compile(rf'=(configs/)?{re.escape(name)}(\.\w+)?(?!\S)')
  for command in head(name).split('python -m ')[1:]:
    if taken.search(command):
      named = re.search(r'--experiment=(\w+)', command)
      return named[1] if named else _WITHOUT_EXPERIMENT.get(command.split()[0], '')
  return ''


@functools.cache
def by_experiment() -> dict[str, list[str]]:
  """Short names of the recipes of each experiment, see `experiment_of`."""
  named: dict[str, list[str]] = {}
  for name in found():
    if experiment := experiment_of(name):
      named.setdefault(experiment, []).append(name)
  return named

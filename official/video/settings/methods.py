"""Importing the methods, ours and others', so that their experiments are registered."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from official.video.errors import UserError, printable

METHODS = ('cvrl', 'const_cl', 'cstp', 'gvilm')
# Packages that bring a method, a backbone, a view maker and the like name a module here:
# [project.entry-points."vidgarden.methods"] my_method = "my_package.task"
ENTRY_POINTS = 'vidgarden.methods'

# Entry points that failed: told once, and left alone.
_broken: set[str] = set()


def register_all() -> None:
  """Registers the library's tasks, its methods, and those of installed packages.

  A package that can't be imported is noted on stderr: not every command needs it.
  """
  for task in ('classification', 'localization', 'tracking'):
    importlib.import_module(f'official.video.tasks.{task}')
  for method in METHODS:
    importlib.import_module(f'official.video.projects.{method}.task')
  for point in metadata.entry_points(group=ENTRY_POINTS):
    if point.value in _broken:
      continue
    source = f'entry point {point.name} of {ENTRY_POINTS}'
    try:
      _import(point.value.partition(':')[0], source)
    except UserError as error:
      _broken.add(point.value)
      print(f'note: {printable(str(error))}; it is left out', file=sys.stderr)


def register(modules: Sequence[str]) -> None:
  """Imports modules that register something, those of the current folder included.

  Args:
    modules: their names; one name is a list of one.

  Raises:
    UserError: one can't be imported.
  """
  for module in [modules] if isinstance(modules, str) else modules:
    if module.endswith('.py') or os.sep in module:
      folder, name = os.path.split(os.path.abspath(module))
      raise UserError(
        f"--import {module}: takes a module's name, not a file; use "
        f"--import={name.removesuffix('.py')} with the folder on Python's path: "
        f'PYTHONPATH={folder}'
      )
    try:
      found = importlib.util.find_spec(module.partition('.')[0])
    except (ImportError, ValueError):
      found = None
    # As `python -m` has it, but last: a file here must not hide an installed package.
    if found is None and os.getcwd() not in sys.path:
      sys.path.append(os.getcwd())
    _import(module, '--import')


def _import(module: str, source: str) -> None:
  try:
    importlib.import_module(module)
  except (Exception, SystemExit) as error:
    named = isinstance(error, ModuleNotFoundError) and error.name in _parents(module)
    what = '' if isinstance(error, ImportError) else f'{type(error).__name__}: '
    text = ' '.join(str(error).split())
    raise UserError(
      f'{source}: the module {module!r} cannot be imported: {what}{text}'
      + ("; name a module on Python's path, such as my_package.task" if named else '')
    ) from error


def _parents(module: str) -> list[str]:
  """A module's name, and those of the packages that it is in."""
  parts = module.split('.')
  return ['.'.join(parts[: i + 1]) for i in range(len(parts))]

"""Importing the methods, ours and others', so that their experiments are registered."""

import importlib
from collections.abc import Sequence
from importlib import metadata

from official.video.errors import UserError

METHODS = ('cvrl', 'const_cl', 'cstp', 'gvilm')
# Packages that bring a method, a backbone, a view maker and the like name a module here:
# [project.entry-points."vidgarden.methods"] my_method = "my_package.task"
ENTRY_POINTS = 'vidgarden.methods'


def register_all() -> None:
  """Registers the library's tasks, its methods, and those of installed packages.

  Raises:
    UserError: an installed package names a module that can't be imported.
  """
  for task in ('classification', 'localization', 'tracking'):
    importlib.import_module(f'official.video.tasks.{task}')
  for method in METHODS:
    importlib.import_module(f'official.video.projects.{method}.task')
  for point in metadata.entry_points(group=ENTRY_POINTS):
    _import(point.value.partition(':')[0], f'entry point {point.name} of {ENTRY_POINTS}')


def register(modules: Sequence[str]) -> None:
  """Imports modules that register something.

  Raises:
    UserError: one can't be imported.
  """
  for module in modules:
    _import(module, '--import')


def _import(module: str, source: str) -> None:
  try:
    importlib.import_module(module)
  except ImportError as error:
    raise UserError(
      f'{source}: the module {module!r} cannot be imported: {error}; name a module on '
      "Python's path, such as my_package.task"
    ) from error

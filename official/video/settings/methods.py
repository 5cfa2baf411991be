"""Imports every method, so that the Model Garden's registries know its experiments."""

import importlib

METHODS = ('cvrl', 'const_cl', 'cstp', 'gvilm')


def register_all() -> None:
  """Registers the tasks and experiments of the library and of each method in `projects`."""
  for task in ('classification', 'localization', 'tracking'):
    importlib.import_module(f'official.video.tasks.{task}')
  for method in METHODS:
    importlib.import_module(f'official.video.projects.{method}.task')

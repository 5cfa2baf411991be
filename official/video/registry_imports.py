"""Imports every method, so that the Model Garden's registries know its experiments."""

import importlib

METHODS = ('cvrl', 'cstp', 'gvilm')


def register_all() -> None:
  """Registers the tasks and experiments of the library and of each method in `projects`."""
  importlib.import_module('official.video.tasks.classification')
  for method in METHODS:
    importlib.import_module(f'projects.{method}.task')

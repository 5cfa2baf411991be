"""Pickles as JAX programs write them, by pickle or by dill."""

import io
import pickle
import sys
import types
from typing import Any, NamedTuple
from unittest import mock

import numpy as np


class _ByolExperimentState(NamedTuple):
  online_params: Any
  target_params: Any
  online_state: Any
  target_state: Any
  opt_state: Any


class Mapping:
  """As Haiku's, whose pickle is a call with a dict."""

  def __init__(self, values):
    self._values = values

  def __reduce__(self):
    return Mapping, (self._values,)


DILL = types.ModuleType('dill._dill')
exec('def _create_array(*a): 0\ndef _create_namedtuple(*a): 0', DILL.__dict__)


class DillPickler(pickle.Pickler):
  """Writes arrays and classes of named tuples in dill's way."""

  def reducer_override(self, value):
    if isinstance(value, np.ndarray):
      make, arguments, state = value.__reduce__()
      return DILL._create_array, (make, arguments, state, None)
    if isinstance(value, type) and hasattr(value, '_fields'):
      fields = value._fields
      return DILL._create_namedtuple, (value.__name__, fields, 'byol.byol_experiment')
    return NotImplemented


def pickled(value, protocol=2, by=pickle.Pickler):
  """The bytes of a pickle."""
  file = io.BytesIO()
  modules = {'dill': types.ModuleType('dill'), DILL.__name__: DILL}
  with mock.patch.dict(sys.modules, modules):
    by(file, protocol).dump(value)
  return file.getvalue()


def byol_state(online, target):
  """BYOL's state of two nets, each (parameters, state): module, then name, to array."""
  maps = [Mapping({m: Mapping(x) for m, x in d.items()}) for d in (*online, *target)]
  params, state, target_params, target_state = maps
  slots = (Mapping({m: Mapping(x) for m, x in online[0].items()}),)
  parts = (params, target_params, state, target_state, slots)
  return {
    'experiment_state': _ByolExperimentState(*parts),
    'step': 3,
    'rng': np.array([0, 7], np.uint32),
  }

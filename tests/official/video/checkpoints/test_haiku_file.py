"""Pickles of arrays: as pickle and dill write BYOL's state; no code of theirs runs."""

import collections
import os
import pickle
import types
from typing import Any, NamedTuple

import numpy as np
import pytest

from official.video.checkpoints import haiku_file
from official.video.errors import UserError
from tests.pickles import DillPickler, Mapping, byol_state, pickled


def read(tmp_path, data):
  path = tmp_path / 'pretrain.pkl'
  path.write_bytes(data)
  return haiku_file.read_pickle(str(path))


@pytest.mark.parametrize('by', [pickle.Pickler, DillPickler])
@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_byols_state_is_two_nets(by, protocol, tmp_path):
  kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
  mean = np.asfortranarray(kernel.astype('>f4'))
  nets = [
    ({'net/~/conv': {'w': kernel + i}}, {'net/~/bn': {'average': mean + i, 'n': 3}})
    for i in (0, 1)
  ]
  found = read(tmp_path, pickled(byol_state(*nets), protocol, by))
  assert found.keys() == {
    f'{net}/net/~/{rest}'
    for net in ('online', 'target')
    for rest in ('conv/w', 'bn/average')
  }
  for i, net in enumerate(('online', 'target')):
    np.testing.assert_array_equal(found[f'{net}/net/~/conv/w'], kernel + i)
    np.testing.assert_array_equal(found[f'{net}/net/~/bn/average'], mean + i)


@pytest.mark.parametrize('dtype', ['?', 'u1', 'i4', '>i8', 'f2', 'f4', 'f8'])
@pytest.mark.parametrize('shape', [(), (0,), (3, 1, 2)])
def test_arrays_are_what_was_saved(dtype, shape, tmp_path):
  values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
  value = [{'a': values, 'b': (values.T, 'text', 1.5, None, values[...])}]
  for protocol in range(2, 6):
    found = read(tmp_path, pickled(value, protocol))
    assert list(found) == ['0/a', '0/b/0', '0/b/4']
    for name, x in zip(found, (values, values.T, values), strict=True):
      np.testing.assert_array_equal(found[name], x)
      assert found[name].dtype != np.float16


class TrainState(NamedTuple):
  params: Any
  step: int


def test_fields_have_names_where_the_file_tells_them(tmp_path):
  state = TrainState({'net': {'w': np.ones(2, np.float32)}}, 3)
  assert list(read(tmp_path, pickled(state, by=DillPickler))) == ['params/net/w']
  assert list(read(tmp_path, pickled(state))) == ['0/net/w']


class Own(dict):
  pass


class Wrapped:
  def __init__(self, **attributes):
    vars(self).update(attributes)


@pytest.mark.parametrize('protocol', range(2, 6))
def test_other_containers_are_what_they_hold(protocol, tmp_path):
  one, two = np.ones(2, np.float32), np.zeros((3, 1), np.float32)
  for container in (
    collections.OrderedDict(a=one, b=two),
    collections.defaultdict(list, a=one, b=two),
    Own(a=one, b=two),
    Wrapped(a=one, b=two),
    types.SimpleNamespace(a=one, b=two),
    Mapping({'a': one, 'b': two}),
  ):
    found = read(tmp_path, pickled(container, protocol))
    assert list(found) == ['a', 'b'], container
    np.testing.assert_array_equal(found['b'], two)


class Evil:
  def __init__(self, *call):
    self._call = call

  def __reduce__(self):
    return self._call[0], self._call[1:]


@pytest.mark.parametrize('protocol', range(6))
def test_no_code_runs(protocol, tmp_path):
  marker = tmp_path / 'marker'
  evil = [Evil(os.mkdir, str(marker)), Evil(eval, f'open({str(marker)!r}, "w")')]
  found = read(
    tmp_path, pickled([*evil, {'a': np.ones(2, np.float32)}], max(protocol, 2))
  )
  assert list(found) == ['2/a'] and not marker.exists()
  with pytest.raises(UserError):
    read(tmp_path, pickled(evil, protocol))
  assert not marker.exists()


# Sixty tuples, each of the one before twice.
NESTED = b'\x80\x02)' + b'q\x00h\x00\x86' * 60 + b'.'
DEEP = b'\x80\x02)' + b'\x85' * 5000 + b'.'
LIST_OF_ITSELF = b'\x80\x02]q\x00h\x00a.'


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (NESTED, 'nests too many'),
    (DEEP, 'nests too many'),
    (LIST_OF_ITSELF, 'nests too many'),
    (pickled({'step': 3}), 'holds no arrays'),
    (pickled({'a': np.array([{}])}), 'an array of objects'),
    (pickled({'a': np.array(['text'])}), 'refused: an array of U4'),
    (pickled(np.ones(100, np.float32))[:-60], 'a damaged pickle'),
    (b'', 'a damaged pickle'),
    (b'no pickle at all', 'a damaged pickle'),
    (
      pickled({'a': np.ones(4, np.float32)}).replace(b'K\x04\x85', b'K\x05\x85'),
      'damaged',
    ),
  ],
)
def test_what_is_no_pickle_of_arrays_is_one_line(data, message, tmp_path):
  with pytest.raises(UserError, match=message) as caught:
    read(tmp_path, data)
  assert 'pretrain.pkl' in str(caught.value) and '\n' not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
  with pytest.raises(UserError, match='No such file'):
    haiku_file.read_pickle(str(tmp_path / 'none.pkl'))

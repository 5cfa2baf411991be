"""What the default run leaves out is still there, and is what takes longest."""

import ast
import pathlib

import pytest

from tests import times

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize('path', [times.LIST, times.EXHAUSTIVE], ids=lambda p: p.stem)
def test_what_is_listed_is_there(path):
  listed = times.listed(path.read_text())
  assert len(listed) > 10 and min(listed.values()) > 1
  for test in listed:
    path, name = test.split('[')[0].split('::')
    tree = ast.parse((ROOT / path).read_text())
    assert name in {
      node.name for node in tree.body if isinstance(node, ast.FunctionDef)
    }, test


def test_the_longest_are_left_out():
  log = """
12.50s call     tests/a.py::test_a[x y]
1.00s setup    tests/a.py::test_a[x y]
08:41:02 3.00s call     tests/b.py::test_b
0.50s call     tests/b.py::test_c
"""
  taken = times.durations(log)
  assert taken == {
    'tests/a.py::test_a[x y]': 13.5,
    'tests/b.py::test_b': 3.0,
    'tests/b.py::test_c': 0.5,
  }
  assert times.longest(taken, 20) == {}
  assert list(times.longest(taken, 3.5)) == ['tests/a.py::test_a[x y]']
  assert list(times.longest(taken, 3.4)) == [
    'tests/a.py::test_a[x y]',
    'tests/b.py::test_b',
  ]


def test_every_test_keeps_its_shortest_case():
  whole = times.WHOLE[0]
  taken = {
    'a.py::one[x]': 40.0,
    'a.py::one[y]': 10.0,
    'a.py::one[z]': 20.0,
    'a.py::two': 30.0,
    f'{whole}::all[x]': 50.0,
    f'{whole}::all[y]': 60.0,
  }
  assert times.spare(taken, 300) == {}
  assert list(times.spare(taken, 170)) == ['a.py::one[x]']
  assert list(times.spare(taken, 0)) == ['a.py::one[x]', 'a.py::one[z]']


def test_a_list_reads_back():
  text = times.HEAD + '14 tests/a.py::test_a[x y]\n3 tests/b.py::test_b\n'
  assert times.listed(text) == {
    'tests/a.py::test_a[x y]': 14.0,
    'tests/b.py::test_b': 3.0,
  }

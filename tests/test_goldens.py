"""The golden arrays' own rules: what makes their inputs, their size, their cases."""

import hashlib
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from tests import goldens

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(
  ('name', 'shape', 'kind', 'digest'),
  [
    ('check/kernel', (3, 4), 'weight', '8e123754afc4f80c'),
    ('check', (5,), 'input', '5c2485c51d6d8dd3'),
    ('check', (1, 6, 20, 20, 3), 'clip', 'a077e2ce74dc94f3'),
  ],
)
def test_inputs_are_those_of_the_references(name, shape, kind, digest):
  values = goldens.generator().fill(name, shape, 0, kind)
  assert hashlib.sha256(values.tobytes()).hexdigest().startswith(digest)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_another_seed_and_other_sizes_pass_too(tmp_path):
  """All but CSTP's nets, whose arrays take minutes to make; `make test-goldens` has them."""
  environment = os.environ | {'VIDGARDEN_GOLDENS': str(tmp_path)}

  def run(*command):
    result = subprocess.run(
      [sys.executable, '-m', *command],
      cwd=ROOT,
      env=environment,
      capture_output=True,
      text=True,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    return result.stdout

  run('tests.goldens.resized', '--quick')
  assert goldens.seed() != int((tmp_path / 'seed.txt').read_text())
  written = {path.name for path in tmp_path.glob('*.npz')}
  tests = []
  for path in (ROOT / 'tests').rglob('test_*.py'):
    text = path.read_text()
    files = set(re.findall(r"'(\w+\.npz)'", text))
    if 'tests.goldens import' in text or 'import goldens' in text:
      tests += [str(path)] * (bool(files) and files <= written)
  assert len(tests) >= 14
  options = ('-o', 'addopts=--strict-markers --import-mode=importlib', '-q')
  options += ('-p', 'no:cacheprovider', '-m', 'slow or not slow')
  said = run('pytest', *options, *tests)
  assert 'passed' in said and 'skipped' not in said


def test_the_seed_is_that_of_the_set():
  by_seed = goldens.generator().fill('a/kernel', (2, 3), goldens.seed())
  np.testing.assert_array_equal(goldens.fill('a/kernel', (2, 3)), by_seed)


def test_they_stay_small_enough_for_the_repository():
  files = [path for path in goldens.OWN.parent.rglob('*') if path.is_file()]
  assert sum(path.stat().st_size for path in files) < 5_000_000


def test_cases_are_what_the_keys_say(tmp_path, monkeypatch):
  monkeypatch.setattr(goldens, 'FOLDER', tmp_path)
  keys = ('n7/tau0.5/loss', 'n7/tau0.1/loss', 'n7/tau0.1/gradient', 'n12/tau2/loss')
  np.savez(tmp_path / 'a.npz', **dict.fromkeys(keys, 0))
  losses = goldens.cases('a.npz', r'n(\d+)/tau([\d.]+)/loss')
  assert losses == [('7', '0.5'), ('7', '0.1'), ('12', '2')]
  assert goldens.cases('a.npz', r'n(\d+)/.+') == ['7', '12']
  with pytest.raises(ValueError, match=r'a\.npz: no key like n'):
    goldens.cases('a.npz', r'n(\d+)/accuracy')


def test_a_clips_shape_is_found_by_its_map():
  # Every second frame, row and column of clips whose sides are odd.
  made = goldens.fill('clip', (2, 3, 5, 7, 3), 'clip')
  strided = made[:, ::2, ::2, ::2]

  def fits(clip):
    return np.array_equal(clip[:, ::2, ::2, ::2], strided)

  found = goldens.clip('clip', strided.shape, (2, 2, 2), fits)
  np.testing.assert_array_equal(found, made)
  # Where none fits, the test that compares the maps is to say so.
  guess = goldens.clip('clip', strided.shape, (2, 2, 2), lambda _: False)
  assert guess.shape == (2, 4, 6, 8, 3)


def test_arrays_of_other_shapes_are_not_compared():
  assert goldens.relative_error([1.0, 2.0], [1.0, 4.0]) == 0.5
  with pytest.raises(AssertionError, match=r'\(\) is not \(2,\)'):
    goldens.relative_error(2.0, [2.0, 2.0])

"""The list of breakages fits the source, and the tool tells caught from survived."""

import textwrap

import pytest

from tests import mutants, mutations

SOURCE = """
  def mean(values):
    # Sum over count.
    return sum(values) / len(values)


  def largest(values):
    return max(values)
"""
TESTS = """
  import os
  import signal

  import numbers_of


  def test_mean():
    assert numbers_of.mean([1, 3]) == 2


  def test_largest_of_one():
    assert numbers_of.largest([5]) == 5
"""


@pytest.fixture
def checkout(tmp_path):
  (tmp_path / 'tests').mkdir()
  (tmp_path / 'numbers_of.py').write_text(textwrap.dedent(SOURCE))
  (tmp_path / 'tests' / 'test_numbers.py').write_text(textwrap.dedent(TESTS))
  (tmp_path / 'pyproject.toml').write_text(
    '[tool.pytest.ini_options]\nmarkers = ["slow: minutes"]\n'
    'addopts = "--import-mode=importlib"\npythonpath = ["."]\n'
  )
  return tmp_path


def listed(folder, text):
  path = folder / 'list.txt'
  path.write_text('== numbers_of.py tests/test_numbers.py\n' + textwrap.dedent(text))
  return mutants.read_list(path)


def test_the_list_fits_source_and_tests():
  breakages = mutants.read_list()
  assert mutants.stale(breakages) == []
  assert len(breakages) >= 60
  applied = [(b.source, b.text, b.broken) for b in breakages]
  assert len(set(applied)) == len(applied)


def test_caught_and_survived(checkout, capsys):
  breakages = listed(
    checkout,
    """
    # Not the mean.
    - / len(values)
    + / (len(values) + 1)
    # The test of one value does not see it.
    - return max(values)
    + return min(values)
    # Two lines, and one test.
    - sum(values) / len(values)
    + sum(values) * len(values)
    ? test_largest_of_one
    """,
  )
  results = mutants.run(breakages, checkout, jobs=1, preloaded=())
  verdicts = {b.line: outcome.verdict for b, outcome in results}
  assert list(verdicts.values()) == ['caught', 'SURVIVED', 'SURVIVED']
  assert results[0][1].by.endswith('::test_mean')
  assert 'SURVIVED' in capsys.readouterr().out
  assert (checkout / 'numbers_of.py').read_text() == textwrap.dedent(SOURCE)


def test_a_breakage_that_tests_cannot_judge_is_no_catch(checkout):
  breakages = listed(
    checkout,
    """
    - def mean(values):
    + import no_such_module
    +
    +
    + def mean(values):
    - return max(values)
    + return __import__('os').kill(__import__('os').getpid(), 9)
    """,
  )
  results = mutants.run(breakages, checkout, jobs=1, preloaded=())
  assert [outcome.verdict for _, outcome in results] == ['UNUSABLE', 'UNUSABLE']


def test_tests_that_fail_by_themselves_judge_nothing(checkout):
  path = checkout / 'tests' / 'test_numbers.py'
  path.write_text(path.read_text() + '\n\ndef test_wrong():\n  assert False\n')
  breakages = listed(checkout, '- / len(values)\n+ * len(values)\n')
  with pytest.raises(ValueError, match=r'must pass as they are: .*test_wrong'):
    mutants.run(breakages, checkout, jobs=1, preloaded=())


@pytest.mark.parametrize(
  ('entry', 'message'),
  [
    ('- (values)\n+ (1)\n', 'has 5 times, expected once'),
    ('- no such text\n+ (1)\n', 'has 0 times'),
    ('- Sum over count.\n+ Sum.\n', 'means the same'),
    ('- return max(values)\n+ return max(\n', 'is no Python'),
    ('- max(values)\n+ min(values)\n? test_none\n', 'has no test test_none'),
  ],
)
def test_a_stale_entry_is_named(checkout, entry, message):
  (mistake,) = mutants.stale(listed(checkout, entry), checkout)
  assert message in mistake and mistake.startswith('line ')


@pytest.mark.parametrize('text', ['- a\n', '+ b\n', '- a\nb\n'])
def test_a_list_of_another_form_is_refused(checkout, text):
  with pytest.raises(ValueError, match=r'list\.txt:\d: '):
    listed(checkout, text)


def test_made_up_breakages_are_python_and_differ():
  content = textwrap.dedent("""
    def f(x, axis=0, scale=2.0):
      'A docstring.'
      x = g(x, axis, flag=True)
      if x > 1 and axis is None:
        x += 1
      return -h.stop_gradient(x[::2]) * scale if axis else h.minimum(x, 3)
  """)
  broken = [text for _, text in mutations.of(content)]
  assert len(set(broken)) == len(broken) > 25
  for text in broken:
    compile(text, 'broken', 'exec')
    assert 'A docstring.' in text
  joined = '\n'.join(broken)
  for piece in (
    'g(axis, x, flag=True)',
    'g(x, axis)',
    'flag=False',
    'x >= 1',
    'x > 1) or (',
    'axis is not None',
    'pass',
    '-(x[::2])',
    '(x) * scale',
    'maximum(x, 3)',
    'scale=4.0',
  ):
    assert piece in joined, piece

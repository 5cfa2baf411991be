"""The harness measures in turns, keeps every round and reports what it kept."""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import __main__ as suite
from benchmarks import harness, report

RATE = harness.Metric('rate', 'pairs/s', higher_is_better=True)
SECONDS = harness.Metric('seconds', 's')


def from_list(name, values, calls=None, **fields):
  """A contender whose rounds are given."""
  rounds = iter(values)

  def run():
    if calls is not None:
      calls.append(name)
    value = next(rounds)
    if isinstance(value, Exception):
      raise value
    return value

  return harness.Contender(name, run, **fields)


def of(*contenders, targets=(), metrics=(RATE,), rival='theirs'):
  return harness.Benchmark('toy', 'Toy', 'About.', metrics, contenders, rival, targets)


def document(benchmark, rounds=3, quick=False):
  options = harness.Options(rounds, quick, pathlib.Path(), cores=1)
  rows = harness.measure(benchmark, rounds, say=lambda line: None)
  return harness.result(benchmark, options, 'python -m benchmarks.toy', rows)


def rates(*values):
  return [{'rate': value} for value in values]


def test_rounds_alternate_and_reverse_after_the_warm_up():
  calls = []
  rows = harness.measure(
    of(
      from_list('ours', rates(9, 1, 2), calls), from_list('theirs', rates(9, 3, 4), calls)
    ),
    2,
    say=lambda line: None,
  )
  assert calls == ['theirs', 'ours', 'ours', 'theirs', 'theirs', 'ours']
  assert [row['rounds'] for row in rows] == [rates(1, 2), rates(3, 4)]


def test_a_contender_without_its_package_is_shown_and_never_run():
  contender = from_list('theirs', [], requires=('no_such_package.part', 'json'))
  result = document(of(from_list('ours', rates(0, 1, 1, 1)), contender))
  assert '| theirs | not installed: no_such_package.part |' in report.table(result)
  assert harness.failures(result) == []


def test_a_contender_that_raises_is_shown_and_leaves_the_others_running():
  broken = from_list('theirs', [*rates(0, 1), RuntimeError('first\nout of memory')])
  closed = []
  ours = from_list('ours', rates(0, 1, 2, 3), close=lambda: closed.append(True))
  result = document(of(ours, broken))
  assert [len(row['rounds']) for row in result['contenders']] == [3, 1]
  assert '| theirs | failed: out of memory |' in report.table(result)
  assert harness.failures(result) == ['theirs']
  assert closed == [True]


def test_a_ratio_is_the_median_of_the_ratios_of_rounds():
  # The ratio of the medians would be 30 / 10.
  ours, theirs = rates(0, 20, 30, 40), rates(0, 10, 40, 10)
  result = document(of(from_list('ours', ours), from_list('theirs', theirs)))
  assert report.ratios(result['contenders'], 'ours', 'theirs', 'rate') == [2, 0.75, 4]
  assert '| ours | 30 (20 to 40) | 2 (0.75 to 4) |' in report.table(result)
  assert '| theirs | 10 (10 to 40) | 1 |' in report.table(result)


def test_a_ratio_of_a_round_that_the_rival_lacks_is_left_out():
  rows = [
    {'name': 'ours', 'rounds': rates(1, 2)},
    {'name': 'theirs', 'rounds': [{'rate': 4}, {}]},
  ]
  assert report.ratios(rows, 'ours', 'theirs', 'rate') == [0.25]
  assert report.ratios(rows, 'ours', 'absent', 'rate') == []


@pytest.mark.parametrize(
  ('metric', 'ratio', 'verdict'),
  [
    ('rate', 2.0, 'at least 2 | 2: reached'),
    ('rate', 2.1, 'at least 2.1 | 2: MISSED'),
    ('seconds', 0.5, 'at most 0.5 | 0.5: reached'),
    ('seconds', 0.4, 'at most 0.4 | 0.5: MISSED'),
  ],
)
def test_a_target_is_judged_in_the_metrics_direction(metric, ratio, verdict):
  ours = [{'rate': 8, 'seconds': 2}] * 4
  theirs = [{'rate': 4, 'seconds': 4}] * 4
  result = document(
    of(
      from_list('ours', ours),
      from_list('theirs', theirs),
      targets=(harness.Target('ours', metric, ratio),),
      metrics=(RATE, SECONDS),
    )
  )
  assert verdict in report.judge(result, result['targets'][0])


def test_a_target_without_its_rival_says_so():
  absent = from_list('theirs', [], requires=('no_such_package',))
  target = harness.Target('ours', 'rate', 2.0)
  result = document(of(from_list('ours', rates(0, 1, 1, 1)), absent, targets=(target,)))
  assert 'not measured' in report.section(result)


def test_a_result_survives_json_and_makes_the_readme(tmp_path):
  result = document(
    of(from_list('ours', rates(0, 6, 8, 7)), from_list('theirs', rates(0, 2, 4, 3)))
  )
  report.keep('toy', result, tmp_path)
  kept = json.loads((tmp_path / 'toy.json').read_text())
  assert kept == result
  text = (tmp_path / 'README.md').read_text()
  assert report.section(kept) in text
  assert 'python -m benchmarks.toy' in text and '3 rounds' in text


def test_the_kept_results_are_what_the_readme_says():
  assert report.README.read_text() == report.readme(report.RESULTS)


def test_the_machine_is_described_without_host_or_folder():
  text = json.dumps(harness.machine(1))
  assert os.uname().nodename not in text
  assert str(harness.REPOSITORY) not in text
  assert harness.machine(1)['cores_used'] == 1


def test_quick_results_are_marked():
  result = document(of(from_list('ours', rates(0, 1)), rival='ours'), 1, quick=True)
  assert 'A quick run' in report.section(result)


@pytest.mark.parametrize(
  ('value', 'text'),
  [(0, '0'), (1234.5, '1234'), (99.96, '100'), (1.234, '1.23'), (0.01234, '0.0123')],
)
def test_numbers_have_three_digits(value, text):
  assert report.number(value) == text


def make_counter(start: int):
  """A worker's contender: counts its rounds, and prints what must not mix with answers."""
  count = iter(range(start, start + 100))
  pid = os.getpid()

  def run():
    print('noise of a library')
    value = next(count)
    if value == start + 3:
      raise ValueError('no more')
    return {'rate': value, 'pid': pid}

  return run


def worker(**arguments):
  return harness.Worker('tests.benchmarks.test_harness:make_counter', 1, arguments)


def test_a_worker_is_prepared_once_and_answers_every_round():
  counter = worker(start=5)
  try:
    answers = [counter.run() for _ in range(3)]
    assert [answer['rate'] for answer in answers] == [5, 6, 7]
    assert {answer['pid'] for answer in answers} != {os.getpid()}
    with pytest.raises(RuntimeError, match=r'ValueError: no more \(exit code 1\)'):
      counter.run()
  finally:
    counter.close()


def test_a_command_is_measured_alone():
  code = 'import time; x = bytearray(200_000_000); time.sleep(0.3); print("done")'
  done = harness.run_command([sys.executable, '-c', code], cores=1)
  assert done.stdout == 'done\n'
  assert 0.3 <= done.wall < 30
  assert 200 < done.peak_memory < 400
  idle = harness.run_command([sys.executable, '-c', 'pass'])
  assert idle.peak_memory < 100


def test_a_failed_command_says_why():
  with pytest.raises(RuntimeError, match='ValueError: bad flag'):
    harness.run_command([sys.executable, '-c', 'raise ValueError("bad flag")'])


def test_peak_memory_is_the_processs_own():
  code = (
    'from benchmarks import harness; before = harness.peak_memory();'
    'x = bytearray(300_000_000); print(harness.peak_memory() - before)'
  )
  ballast = bytearray(500_000_000)  # A child must not inherit its parent's peak.
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=harness.REPOSITORY,
    capture_output=True,
    text=True,
    check=True,
  )
  assert len(ballast) and 250 < float(done.stdout) < 350


@pytest.mark.parametrize('name', report.BENCHMARKS)
def test_every_benchmark_is_there(name):
  assert callable(importlib.import_module(f'benchmarks.{name}').benchmark)


def test_an_unknown_benchmark_is_named():
  assert suite.chosen('startup,input') == ['startup', 'input']
  with pytest.raises(SystemExit, match="unknown 'inputs'"):
    suite.chosen('inputs')

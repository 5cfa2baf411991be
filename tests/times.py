"""Which tests run when, by what they took: lists that a run's durations are made to.

  python -m pytest -n 2 --dist=loadfile -m "not slow" --durations=0 | tee run.log
  python -m tests.times run.log

rewrites tests/slow.txt: of what ran, with what was listed before, the longest tests until the
rest takes `SECONDS` of test time. `make test` leaves them to `make test-slow`.

  python -m pytest -n 2 -m "slow and not exhaustive" --durations=0 | tee run.log
  python -m tests.times --slow run.log

rewrites tests/exhaustive.txt likewise, until the slow tests take `SLOW_SECONDS`: every slow
test stays in CI with its shortest case at least; `make test-exhaustive` runs the others, and
those below the line `BY_HAND`, whose like another test asks in CI.
"""

import collections
import pathlib
import re
import sys
from collections.abc import Mapping

LIST = pathlib.Path(__file__).with_name('slow.txt')
EXHAUSTIVE = LIST.with_name('exhaustive.txt')
# Twelve minutes of two processes, less what they take to start, to wait for each other, and
# for the thousands of tests that are too short to be told.
SECONDS = 900
# CI has ninety minutes for all. Measured on two cores that are busy beside the tests.
SLOW_SECONDS = 4400
# What takes less is not worth leaving out.
LEAST = 5
# Every method passes there, whatever it takes.
WHOLE = ('tests/test_experiments.py',)
HEAD = """# Seconds on two quiet cores, and test: what `make test` leaves to `make test-slow`.
# Written by `python -m tests.times`, see there.
"""
EXHAUSTIVE_HEAD = """# Seconds, and case of a slow test: what CI leaves to test-exhaustive.
# Written by `python -m tests.times --slow`, see there.
"""
BY_HAND = '# By hand:\n'
_DURATION = re.compile(r'(\d+\.\d+)s (?:call|setup|teardown) +(tests/.*\S)')


def listed(text: str) -> dict[str, float]:
  """Seconds by test, of the list."""
  rows = [line.split(' ', 1) for line in text.splitlines() if line and line[0] != '#']
  return {test: float(seconds) for seconds, test in rows}


def durations(log: str) -> dict[str, float]:
  """Seconds by test, of what a run with --durations=0 printed."""
  found: dict[str, float] = {}
  for seconds, test in _DURATION.findall(log):
    found[test] = found.get(test, 0.0) + float(seconds)
  return found


def longest(taken: Mapping[str, float], seconds: float) -> dict[str, float]:
  """The longest of the tests, so many that the others take no more than `seconds`."""
  return _until(taken, taken, seconds)


def spare(taken: Mapping[str, float], seconds: float) -> dict[str, float]:
  """Cases of tests, the longest, without which they take no more than `seconds`.

  Of each test the shortest case stays, and of `WHOLE` files all; so more may be left.
  """
  cases: dict[str, list[str]] = collections.defaultdict(list)
  for test in sorted(taken, key=lambda test: taken[test]):
    cases[test.split('[')[0]].append(test)
  others = [
    test
    for name, tests in cases.items()
    if not name.startswith(WHOLE)
    for test in tests[1:]
    if taken[test] >= LEAST
  ]
  return _until(taken, {test: taken[test] for test in others}, seconds)


def _until(
  taken: Mapping[str, float], may_go: Mapping[str, float], seconds: float
) -> dict[str, float]:
  rest, chosen = sum(taken.values()), {}
  for test, time in sorted(may_go.items(), key=lambda item: -item[1]):
    if rest <= seconds:
      break
    chosen[test] = time
    rest -= time
  return chosen


def main() -> None:
  """Rewrites a list."""
  slow = '--slow' in sys.argv
  path, head = (EXHAUSTIVE, EXHAUSTIVE_HEAD) if slow else (LIST, HEAD)
  written, _, by_hand = path.read_text().partition(BY_HAND)
  taken = listed(written) | durations(pathlib.Path(sys.argv[-1]).read_text())
  taken = {test: taken[test] for test in taken if test not in listed(by_hand)}
  chosen = spare(taken, SLOW_SECONDS) if slow else longest(taken, SECONDS)
  rows = [f'{time:.0f} {test}\n' for test, time in sorted(chosen.items())]
  path.write_text(head + ''.join(rows) + (BY_HAND + by_hand if by_hand else ''))
  rest = sum(taken.values()) - sum(chosen.values())
  print(f'{len(chosen)} of {len(taken)} tests; the others take {rest:.0f} s')


if __name__ == '__main__':
  main()

"""Which tests the default run leaves to `make test-slow`, by what they took.

  python -m pytest -n 2 --dist=loadfile -m "not slow" --durations=0 | tee run.log
  python -m tests.times run.log

rewrites tests/slow.txt: of what ran, with what was listed before, the longest tests until the
rest takes `SECONDS` of test time. The two processes of `make test` share that.
"""

import pathlib
import re
import sys
from collections.abc import Mapping

LIST = pathlib.Path(__file__).with_name('slow.txt')
# Twelve minutes of two processes, less what they take to start, to wait for each other, and
# for the thousands of tests that are too short to be told.
SECONDS = 900
HEAD = """# Seconds on two quiet cores, and test: what `make test` leaves to `make test-slow`.
# Written by `python -m tests.times`, see there.
"""
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
  rest, chosen = sum(taken.values()), {}
  for test, time in sorted(taken.items(), key=lambda item: -item[1]):
    if rest <= seconds:
      break
    chosen[test] = time
    rest -= time
  return chosen


def main() -> None:
  """Rewrites the list."""
  taken = listed(LIST.read_text()) | durations(pathlib.Path(sys.argv[1]).read_text())
  chosen = longest(taken, SECONDS)
  rows = [f'{time:.0f} {test}\n' for test, time in sorted(chosen.items())]
  LIST.write_text(HEAD + ''.join(rows))
  print(f'{len(chosen)} of {len(taken)} tests, {sum(chosen.values()):.0f} s of theirs')


if __name__ == '__main__':
  main()

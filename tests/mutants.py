"""Breaks the source one line at a time and sees whether the tests beside it notice.

  python -m tests.mutants                      every breakage of tests/mutants.txt
  python -m tests.mutants evaluation/knn       those of sources whose path has the word
  python -m tests.mutants --explore SOURCE TESTS...   made-up breakages of one source

A breakage is applied to a copy of the checkout. Each is tried in a process of its own,
forked from one that has imported TensorFlow but run none of it (then it can be forked),
so that a breakage costs its tests alone. Ends with 1 if a breakage survives, or if the
list itself is not sound.
"""

import argparse
import ast
import collections
import compileall
import contextlib
import dataclasses
import importlib
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any

from tests import mutations

ROOT = pathlib.Path(__file__).parents[1]
LIST = pathlib.Path(__file__).with_suffix('.txt')
FOLDERS = ('official', 'projects', 'tfrecords_tools', 'benchmarks', 'tests', 'configs')
# What the processes share: other people's packages, and nothing of the checkout.
PRELOADED = ('numpy', 'scipy', 'tensorflow', 'tf_keras', 'official.core.base_trainer')
SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Breakage:
  """One wrong line.

  Attributes:
    source: path of the file, from the root of the checkout.
    text: what stands there, once in the file.
    broken: what stands there instead.
    tests: what must notice: files, or node ids of pytest.
    line: of the list, or of the source where the breakage is made up.
  """

  source: str
  text: str
  broken: str
  tests: tuple[str, ...]
  line: int

  def applied(self, content: str) -> str:
    """The source with the breakage.

    Raises:
      ValueError: the text is not there once, or the breakage changes nothing.
    """
    times = content.count(self.text)
    if times != 1:
      raise ValueError(f'{self.source} has {times} times, expected once: {self.text}')
    broken = content.replace(self.text, self.broken)
    try:
      same = ast.dump(ast.parse(broken)) == ast.dump(ast.parse(content))
    except SyntaxError as error:
      raise ValueError(f'{self.source} is no Python with: {self.broken}') from error
    if same:
      raise ValueError(f'{self.source} means the same with: {self.broken}')
    return broken

  def __str__(self) -> str:
    texts = (' '.join(text.split()) for text in (self.text, self.broken))
    return f'{self.source}: {" -> ".join(texts)}'


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What the tests said of a breakage.

  Attributes:
    verdict: 'caught', 'SURVIVED', or 'UNUSABLE' where no test ran to its end.
    by: the first test that failed, or why the outcome is unusable.
    seconds: that it took.
  """

  verdict: str
  by: str
  seconds: float


def read_list(path: pathlib.Path = LIST) -> list[Breakage]:
  """Reads a list of breakages; its head says how it is written.

  Raises:
    ValueError: a line that is none of these, or an entry that lacks a part.
  """
  found: list[Breakage] = []
  source, beside = '', ()
  entry: dict[str, list[str]] = collections.defaultdict(list)

  def finish(number: int) -> None:
    if not entry:
      return
    if not (source and beside and entry['-'] and entry['+']):
      raise ValueError(f'{path.name}:{number}: an entry needs a source, tests, - and +')
    text, broken = ('\n'.join(entry[mark]) for mark in '-+')
    names = ' '.join(entry['?']).split()
    tests = tuple(f'{beside[0]}::{name}' for name in names) or beside
    found.append(Breakage(source, text, broken, tests, number))
    entry.clear()

  lines = path.read_text().splitlines()
  for number, line in enumerate([*lines, ''], 1):
    if not line or line[0] == '#':
      finish(number - 1)
    elif line.startswith('== '):
      source, *tests = line[3:].split()
      beside = tuple(tests)
    elif line[:2] in ('- ', '+ ', '? ') or line in '-+':
      if line[0] == '-' and entry['+']:
        finish(number - 1)
      entry[line[0]].append(line[2:])
    else:
      raise ValueError(
        f'{path.name}:{number}: expected ==, -, +, ?, # or nothing: {line}'
      )
  return found


def stale(breakages: Iterable[Breakage], root: pathlib.Path = ROOT) -> list[str]:
  """What is wrong with a list, one line a mistake: texts and tests that are not there."""
  mistakes = []
  for breakage in breakages:
    try:
      breakage.applied((root / breakage.source).read_text())
    except (OSError, ValueError) as error:
      mistakes.append(f'line {breakage.line}: {error}')
    for test in breakage.tests:
      name, _, function = test.partition('::')
      path = root / name
      if not path.is_file():
        mistakes.append(f'line {breakage.line}: there is no {name}')
      elif not re.search(rf'^def {function.partition("[")[0]}', path.read_text(), re.M):
        mistakes.append(f'line {breakage.line}: {name} has no test {function}')
  return mistakes


class _FirstFailure:
  """A pytest plugin that remembers which test failed first, and how many passed."""

  def __init__(self):
    self.by, self.passed = '', 0

  def pytest_runtest_logreport(self, report) -> None:
    self.passed += report.when == 'call' and report.passed
    self.by = self.by or (report.nodeid if report.failed else '')

  def pytest_collectreport(self, report) -> None:
    self.by = self.by or (f'{report.nodeid}: no import' if report.failed else '')


def _pytest(
  tests: Sequence[str], log: pathlib.Path, seconds: int = SECONDS
) -> tuple[int, str, int]:
  """Runs tests in a fork: pytest's code, the first failure, how many passed."""
  answer = log.with_suffix('.json')
  answer.unlink(missing_ok=True)
  child = os.fork()
  if not child:
    os.setsid()
    signal.alarm(seconds)
    for name in [name for name in sys.modules if name.split('.')[0] == 'tests']:
      del sys.modules[name]
    with open(log, 'wb') as file:
      os.dup2(file.fileno(), 1)
      os.dup2(file.fileno(), 2)
    import pytest

    seen = _FirstFailure()
    options = ['-x', '--tb=short', '-p', 'no:cacheprovider']
    if not all('::' in test for test in tests):  # What is named runs, slow or not.
      options += ['-m', 'not slow']
      os.environ['SLOW_TESTS'] = os.environ['EXHAUSTIVE_TESTS'] = os.devnull
    code = pytest.main([*options, *tests], plugins=[seen])
    answer.write_text(json.dumps([int(code), seen.by, seen.passed]))
    sys.stdout.flush()
    # Neither pytest's nor TensorFlow's threads are waited for.
    os._exit(0)
  _, status = os.waitpid(child, 0)
  with contextlib.suppress(ProcessLookupError, PermissionError):
    os.killpg(child, signal.SIGKILL)  # Processes that a failing test left.
  if not answer.exists():
    said = log.read_text(errors='replace').splitlines()
    return -1, f'no answer (status {status}): {said[-1] if said else "silence"}', 0
  code, by, passed = json.loads(answer.read_text())
  return code, by, passed


# --- In the process that breakages are forked from -------------------------------------


def copy_checkout(root: pathlib.Path, folder: pathlib.Path) -> None:
  """Copies the source, with its bytecode, so that a fork compiles nothing."""
  unwanted = shutil.ignore_patterns('__pycache__', '.*')
  for name in FOLDERS:
    if (root / name).is_dir():
      shutil.copytree(root / name, folder / name, ignore=unwanted, dirs_exist_ok=True)
  for path in root.iterdir():
    if path.is_file():
      shutil.copy2(path, folder)
  compileall.compile_dir(folder, quiet=2)


def _enter(root: pathlib.Path, folder: pathlib.Path, preloaded: Sequence[str]) -> None:
  """Makes this process one whose checkout is a copy, at its root."""
  copy = pathlib.Path(tempfile.mkdtemp(dir=folder))
  copy_checkout(root, copy)
  os.chdir(copy)
  os.environ['PYTHONDONTWRITEBYTECODE'] = '1'
  sys.dont_write_bytecode = True
  sys.path[:] = [str(copy), *(p for p in sys.path if p and pathlib.Path(p) != ROOT)]
  if preloaded:
    importlib.import_module('tests.conftest')  # Settings that count before the import.
  for name in preloaded:
    importlib.import_module(name)


def _try(breakage: Breakage) -> tuple[Breakage, Outcome]:
  """Applies a breakage to this process' copy, runs its tests, takes it back."""
  source, began = pathlib.Path(breakage.source), time.monotonic()
  content, stamp = source.read_text(), source.stat().st_mtime
  source.write_text(breakage.applied(content))
  os.utime(source, (0, 0))  # No bytecode of the whole file may pass for the broken one.
  try:
    code, by, _ = _pytest(breakage.tests, pathlib.Path('mutant.log').absolute())
  finally:
    source.write_text(content)
    os.utime(source, (stamp, stamp))
  verdict = {0: 'SURVIVED', 1: 'caught'}.get(code, 'UNUSABLE')
  return breakage, Outcome(verdict, by, time.monotonic() - began)


def _unbroken(tests: Sequence[str]) -> str:
  """Why tests do not pass as they are; empty if they do."""
  log = pathlib.Path('unbroken.log').absolute()
  # All of a file's, where a breakage is mostly noticed by one: it takes longer.
  code, by, passed = _pytest(tests, log, 4 * SECONDS)
  if code == 0 and passed:
    return ''
  said = f'{by or "no test passed"}\n{log.read_text()[-4000:]}'
  return f'{" ".join(tests)}: {said}'


# --- The whole -------------------------------------------------------------------------


@contextlib.contextmanager
def _processes(
  root: pathlib.Path, jobs: int, preloaded: Sequence[str]
) -> Iterator[Callable[[Callable, Iterable], Iterator[Any]]]:
  """Processes that breakages can be forked from: a map of tasks in no order."""
  with tempfile.TemporaryDirectory(prefix='mutants_') as folder:
    arguments = (root, pathlib.Path(folder), preloaded)
    context = multiprocessing.get_context('spawn')
    # No multiprocessing.Pool: its processes are daemons, whose tests could begin none.
    pool = futures.ProcessPoolExecutor(jobs, context, _enter, arguments)
    try:
      yield lambda function, tasks: _as_done(pool, function, tasks)
    finally:
      pool.shutdown(cancel_futures=True)


def _as_done(
  pool: futures.Executor, function: Callable, tasks: Iterable
) -> Iterator[Any]:
  """Results in the order in which they come."""
  for done in futures.as_completed([pool.submit(function, task) for task in tasks]):
    yield done.result()


def run(
  breakages: Sequence[Breakage],
  root: pathlib.Path = ROOT,
  jobs: int = 2,
  preloaded: Sequence[str] = PRELOADED,
) -> list[tuple[Breakage, Outcome]]:
  """Tries breakages and prints a line for each.

  Args:
    breakages: in any order.
    root: of the checkout.
    jobs: processes side by side.
    preloaded: modules that forks find imported.

  Raises:
    ValueError: the tests fail without a breakage.
  """
  results = []
  with _processes(root, jobs, preloaded) as mapped:
    # A process for each file of tests: all in one would outgrow its time and memory.
    files = collections.defaultdict(dict)
    for test in (test for breakage in breakages for test in breakage.tests):
      files[test.partition('::')[0]][test] = None
    for failure in mapped(_unbroken, map(list, files.values())):
      if failure:
        raise ValueError(f'the tests must pass as they are: {failure}')
    for breakage, outcome in mapped(_try, breakages):
      line = f'{outcome.verdict:9}{outcome.seconds:6.1f} s  {breakage}'
      print(f'{line}\n{"":18}{outcome.by.partition("::")[2] or outcome.by}', flush=True)
      results.append((breakage, outcome))
  return results


def explored(source: str, tests: Sequence[str]) -> list[Breakage]:
  """Made-up breakages of a file, by line."""
  content = (ROOT / source).read_text()
  return [
    _Whole(source, content, broken, tuple(tests), line)
    for line, broken in mutations.of(content)
  ]


@dataclasses.dataclass(frozen=True)
class _Whole(Breakage):
  """A breakage whose text is the whole file."""

  def __str__(self) -> str:
    olds, news = self.text.splitlines(), self.broken.splitlines()
    first = next(
      (i for i, (a, b) in enumerate(zip(olds, news, strict=False)) if a != b), 0
    )
    return f'{self.source}:{first + 1}: {olds[first].strip()} -> {news[first].strip()}'


def main(arguments: Sequence[str]) -> int:
  """Prints the table; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('words', nargs='*', help='parts of the paths of sources')
  parser.add_argument('--explore', metavar='SOURCE', help='words are its tests')
  parser.add_argument('--jobs', type=int, default=2)
  flags = parser.parse_args(arguments)
  if flags.explore:
    breakages = explored(flags.explore, flags.words)
  else:
    chosen = flags.words or ['']
    breakages = [b for b in read_list() if any(word in b.source for word in chosen)]
    if mistakes := stale(breakages):
      print(*mistakes, sep='\n', file=sys.stderr)
      return 1
  began = time.monotonic()
  try:
    results = run(breakages, jobs=flags.jobs)
  except ValueError as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  counts = collections.Counter(outcome.verdict for _, outcome in results)
  print(', '.join(f'{count} {verdict}' for verdict, count in sorted(counts.items())))
  print(f'{len(results)} breakages in {time.monotonic() - began:.0f} s')
  return int(counts.keys() != {'caught'})


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))

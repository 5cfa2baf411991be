"""Worker processes: what they give back, how they fail, and that none stays."""

import errno
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from official.video.errors import UserError
from tests import processes
from tfrecords_tools import pool

ROOT = pathlib.Path(__file__).parents[2]


# --- What the workers run -------------------------------------------------------------


def square(task, tell):
  tell(f'{task} begun')
  return task * task, os.getpid()


def wait_for_the_next(task, tell):
  """Of two tasks the first is done last."""
  own, other = map(pathlib.Path, task)
  own.touch()
  assert processes.wait_until(other.exists)
  if own.name == 'first':
    time.sleep(0.5)
  return own.name


def sleep(task, tell):
  tell('asleep')
  time.sleep(600)


def end(task, tell):
  tell('about to end')
  os._exit(task) if task >= 0 else os.kill(os.getpid(), -task)


class Unpicklable(Exception):
  def __init__(self, one, two):
    super().__init__(f'{one} and {two}')


def refuse(task, tell):
  raise {'user': UserError('bad'), 'other': KeyError('x')}.get(task) or Unpicklable(1, 2)


def limit(task, tell):
  return os.environ.get('LIMIT')


def set_limit():
  os.environ['LIMIT'] = 'set'


# --- Tests ----------------------------------------------------------------------------


@pytest.mark.parametrize('num_workers', [1, 3])
def test_results_and_what_is_told(num_workers):
  told = []
  with pool.results(square, range(20), num_workers, told.append) as results:
    found = dict(results)
  assert {task: value for task, (value, _) in found.items()} == {
    k: k * k for k in range(20)
  }
  assert sorted(told) == sorted(f'{k} begun' for k in range(20))
  ids = {process for _, process in found.values()}
  assert ids == {os.getpid()} if num_workers == 1 else 1 < len(ids) <= 3
  assert not multiprocessing.active_children()


def test_no_more_workers_than_tasks():
  with pool.results(square, [3], 8) as results:
    assert list(results) == [(3, (9, os.getpid()))]


def test_results_come_as_they_are_done(tmp_path):
  first, second = (str(tmp_path / name) for name in ('first', 'second'))
  tasks = [(first, second), (second, first)]
  with pool.results(wait_for_the_next, tasks, 2) as results:
    assert [name for _, name in results] == ['second', 'first']


def test_large_tasks_and_results():
  tasks = [[size] * 500_000 for size in range(4)]
  with pool.results(count, tasks, 2) as results:
    assert sorted(len(result) for _, result in results) == [500_000] * 4


def count(task, tell):
  return task


def test_initializer_runs_in_the_workers_alone():
  with pool.results(limit, [1, 2], 2, initializer=set_limit) as results:
    assert [value for _, value in results] == ['set', 'set']
  assert 'LIMIT' not in os.environ


@pytest.mark.parametrize(
  'how, reason', [(3, 'exit code 3'), (0, 'exit code 0'), (-signal.SIGSEGV, 'SIGSEGV')]
)
def test_a_worker_that_dies_is_named_with_its_task(how, reason):
  with (
    pytest.raises(pool.WorkerDied, match=reason) as caught,
    pool.results(end, [how, how], 2) as results,
  ):
    list(results)
  assert (caught.value.task, caught.value.told) == (how, 'about to end')
  assert not multiprocessing.active_children()


@pytest.mark.parametrize(
  'task, kind, message',
  [
    ('user', UserError, 'bad'),
    ('other', KeyError, 'x'),
    ('unpicklable', RuntimeError, 'test_pool.Unpicklable: 1 and 2'),
  ],
)
def test_what_a_worker_raises_is_raised_here(task, kind, message):
  with (
    pytest.raises(kind, match=message) as caught,
    pool.results(refuse, [task, task], 2) as results,
  ):
    list(results)
  notes = ''.join(getattr(caught.value, '__notes__', [str(caught.value)]))
  assert 'in refuse' in notes, 'the trace is lost'
  assert not multiprocessing.active_children()


def test_leaving_early_ends_workers_that_are_at_work():
  begun = []
  with pool.results(sleep, [1, 2], 2, begun.append) as results, pytest.raises(KeyError):
    assert len(multiprocessing.active_children()) == 2
    raise KeyError
  assert not begun and results
  assert not multiprocessing.active_children()


def test_more_processes_than_the_machine_has(monkeypatch):
  class Worker(pool._Worker):
    started = 0

    def __init__(self, *arguments):
      Worker.started += 1
      if Worker.started == 3:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
      super().__init__(*arguments)

  monkeypatch.setattr(pool, '_Worker', Worker)
  expected = r'--num_workers=4: worker 3 could not be started: Resource .*; use fewer'
  with (
    pytest.raises(UserError, match=expected),
    pool.results(sleep, range(9), 4),
  ):
    pass
  assert not multiprocessing.active_children()


PARENT = """
import sys
from tests.tfrecords_tools import test_pool
from tfrecords_tools import pool

if __name__ == '__main__':
  with pool.results(test_pool.sleep, [1, 2, 3], 2, lambda _: print('told', flush=True)) as r:
    list(r)
"""


@pytest.mark.parametrize('moment', ['starting', 'at work'])
@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_leave_with_their_parent_however_it_ends(moment, how, tmp_path):
  script = tmp_path / 'parent.py'
  script.write_text(PARENT)
  with subprocess.Popen(
    [sys.executable, script],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  ) as process:
    if moment == 'at work':
      assert [process.stdout.readline() for _ in range(2)] == ['told\n'] * 2
    else:
      assert processes.wait_until(lambda: processes.workers(process.pid))
    members = processes.family(process.pid)
    # However early it comes: they are started so.
    for worker in processes.workers(process.pid):
      assert processes.blocks(worker, signal.SIGINT)
    # As a terminal does it: Ctrl-C reaches all processes, the others one.
    (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
    process.wait(timeout=20)
    assert processes.all_end(members)
    traces = process.stderr.read().count('Traceback')
  assert process.returncode == -how
  # A worker whose parent is killed before it has said what to do fails in the standard
  # library's own start.
  if moment == 'at work' or how == signal.SIGINT:
    assert traces == (how == signal.SIGINT), 'the workers complain too'

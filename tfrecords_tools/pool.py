"""Worker processes on this machine, which talk to their parent over pipes and listen nowhere.

The processes are those of `concurrent.futures`, without its queues: each worker has a pipe
of its own. So the parent knows which worker died and at what, and a worker's pipe ends with
its parent; a worker of `concurrent.futures` holds both ends of the queue it waits for, and
outlives a parent that was killed.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, resource_tracker
from typing import Any, NoReturn

from official.video.errors import UserError

# What a worker sends: something told, the result of a task, or what the task raised.
_TOLD, _DONE, _RAISED = range(3)

# Takes a task and a function that tells the parent something; returns the result.
Work = Callable[[Any, Callable[[Any], None]], Any]


class WorkerDied(Exception):
  """A worker process ended in the middle of a task; the message says how.

  Attributes:
    task: what it worked on.
    told: what it told last of that task; None if nothing.
  """

  def __init__(self, reason: str, task: Any, told: Any):
    super().__init__(reason)
    self.task, self.told = task, told


def tell_nobody(event: Any) -> None:
  """Takes what is told where nobody listens."""


# --- In the worker --------------------------------------------------------------------


def _leave_with_parent() -> None:
  parent = multiprocessing.parent_process()
  assert parent is not None
  # It waits for the end of a pipe that the parent alone holds open, however that ends.
  parent.join()
  os._exit(1)


def _send(pipe: connection.Connection, kind: int, value: Any) -> None:
  try:
    pipe.send((kind, value))
  except (BrokenPipeError, ConnectionResetError):
    os._exit(1)  # The parent is gone; the other thread is about to notice.


def _portable(error: Exception) -> Exception:
  """The error with this process's trace as a note, if it survives pickling."""
  trace = traceback.format_exc()
  error.add_note(f'in a worker process: {trace}')
  try:
    pickle.loads(pickle.dumps(error))
  except Exception:
    return RuntimeError(f'a worker process failed: {trace}')
  return error


def _serve(
  pipe: connection.Connection, work: Work, initializer: Callable[[], None] | None
) -> None:
  """Works off what comes through the pipe until it ends."""
  threading.Thread(target=_leave_with_parent, daemon=True).start()
  if initializer:
    initializer()
  with contextlib.suppress(EOFError):
    while True:
      task = pipe.recv()
      try:
        result = work(task, lambda event: _send(pipe, _TOLD, event))
      except Exception as error:
        _send(pipe, _RAISED, _portable(error))
      else:
        _send(pipe, _DONE, result)


# --- In the parent --------------------------------------------------------------------


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
  """Holds Ctrl-C up; processes started meanwhile never see one, the parent ends them."""
  # The tracker would be started with the first worker, and lift the block before it.
  resource_tracker.ensure_running()
  before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
  """A process, this end of its pipe, and what it is at.

  Attributes:
    pipe: to the process; readable when it has said something, or is gone.
    task: what it works on; None while it has nothing to do.
  """

  def __init__(self, work: Work, initializer: Callable[[], None] | None):
    # A forked child of a process with threads may hang; a fork server listens on a socket.
    context = multiprocessing.get_context('spawn')
    self.pipe, theirs = context.Pipe()
    self._process = context.Process(
      target=_serve, args=(theirs, work, initializer), daemon=True
    )
    with theirs, _interrupts_blocked():
      self._process.start()
    self.task: Any = None
    self._told: Any = None

  def give(self, task: Any) -> None:
    """Hands over the next task; raises `WorkerDied` where nobody is there to take it."""
    self.task, self._told = task, None
    try:
      self.pipe.send(task)
    except (BrokenPipeError, ConnectionResetError):
      self._died()

  def receive(self) -> tuple[int, Any]:
    """The next message; raises `WorkerDied` where none will come."""
    try:
      kind, value = self.pipe.recv()
    except (EOFError, OSError):
      self._died()
    if kind == _TOLD:
      self._told = value
    return kind, value

  def _died(self) -> NoReturn:
    self._process.join()
    code = self._process.exitcode or 0
    reason = signal.Signals(-code).name if code < 0 else f'exit code {code}'
    raise WorkerDied(reason, self.task, self._told)

  def kill(self) -> None:
    """Ends the process, whatever it is at."""
    self._process.kill()

  def close(self) -> None:
    """Waits for the end of the process and lets its pipe go."""
    self._process.join()
    self.pipe.close()


def _collected(
  workers: Sequence[_Worker], tasks: Iterator[Any], tell: Callable[[Any], None]
) -> Iterator[tuple[Any, Any]]:
  """Keeps the workers busy; yields tasks with their results as they are done."""
  for worker, task in zip(workers, tasks, strict=False):
    worker.give(task)
  while busy := {worker.pipe: worker for worker in workers if worker.task is not None}:
    for pipe in connection.wait(list(busy)):
      worker = busy[pipe]  # type: ignore[index]
      kind, value = worker.receive()
      if kind == _TOLD:
        tell(value)
      elif kind == _RAISED:
        raise value
      else:
        done, worker.task = worker.task, None
        if (task := next(tasks, None)) is not None:
          worker.give(task)
        yield done, value


@contextlib.contextmanager
def _started(
  work: Work, count: int, initializer: Callable[[], None] | None = None
) -> Iterator[Sequence[_Worker]]:
  """Some workers, which end with the context.

  Raises:
    UserError: this machine can't have that many processes.
  """
  workers: list[_Worker] = []
  try:
    try:
      for _ in range(count):
        workers.append(_Worker(work, initializer))
    except OSError as error:
      raise UserError(
        f'--num_workers={count}: worker {len(workers) + 1} could not be started: '
        f'{error.strerror}; use fewer'
      ) from error
    yield workers
  finally:
    # None holds anything that it would have to give back: one that is idle waits for its
    # pipe, and what one that is not has half written is not wanted.
    for worker in workers:
      worker.kill()
    for worker in workers:
      worker.close()


def in_order(work: Work, tasks: Sequence[Any], num_workers: int) -> Iterator[Any]:
  """Results of tasks in their order, worked off ahead: at most one a worker waits.

  Args:
    work: as of `results`; what it tells is dropped.
    tasks: as of `results`.
    num_workers: as of `results`.

  Raises:
    WorkerDied: as of `results`; so the others.
    UserError: see there.
    Exception: see there.
  """
  num_workers = min(num_workers, len(tasks))
  if num_workers <= 1:
    yield from (work(task, tell_nobody) for task in tasks)
    return
  with _started(work, num_workers) as workers:
    for worker, task in zip(workers, tasks, strict=False):
      worker.give(task)
    for number in range(len(tasks)):
      worker = workers[number % num_workers]
      kind, value = worker.receive()
      while kind == _TOLD:
        kind, value = worker.receive()
      if kind == _RAISED:
        raise value
      if number + num_workers < len(tasks):
        worker.give(tasks[number + num_workers])
      yield value


@contextlib.contextmanager
def results(
  work: Work,
  tasks: Sequence[Any],
  num_workers: int,
  tell: Callable[[Any], None] = tell_nobody,
  initializer: Callable[[], None] | None = None,
) -> Iterator[Iterator[tuple[Any, Any]]]:
  """Works tasks off, in this process or in several; ends them with the context.

  Args:
    work: function of a module, called with a task and a function that hands anything to
      `tell`.
    tasks: what `work` is called with; what is handed over has to be picklable.
    num_workers: processes at most; 1 works in this one.
    tell: called in this process with what `work` tells.
    initializer: called first in every worker process.

  Yields:
    Pairs of a task and its result, in the order in which they are done.

  Raises:
    WorkerDied: a worker was killed or crashed.
    UserError: this machine can't have that many processes.
    Exception: what `work` raised.
  """
  num_workers = min(num_workers, len(tasks))
  if num_workers <= 1:
    yield ((task, work(task, tell)) for task in tasks)
    return
  with _started(work, num_workers, initializer) as workers:
    yield _collected(workers, iter(tasks), tell)

"""Noticing SIGTERM, SIGHUP and Ctrl-C inside a training loop that runs in the graph."""

import contextlib
import os
import signal
import sys
import threading
import time
from types import TracebackType
from typing import NoReturn

import tensorflow as tf

from official.video.settings import command_line

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Who stops a job may signal the process and its group: within this time that is once.
_ONCE_SECONDS = 1.0


class Stopped(SystemExit):
  """Raised when a run has stopped cleanly on a signal; exits with 128 + its number."""

  def __init__(self, number: int):
    super().__init__(128 + number)


class Interrupt:
  """While entered, turns the first signal into `requested`; a later one ends at once.

  Python runs signal handlers between bytecodes of the main thread, which sees none while
  TensorFlow runs a loop of a thousand steps. The wake-up file descriptor is written by the
  C handler itself, so a thread that reads it can set the variable that the loop looks at.

  Attributes:
    requested: bool variable on the host; read it inside or outside a `tf.function`.
    number: of the signal that came; 0 before.
    nothing_to_lose: whether a signal may end a driver's process at once, as everything
      that was computed is saved; set by whoever knows.
  """

  def __init__(self):
    with tf.device('/cpu:0'):
      self.requested = tf.Variable(False, trainable=False, name='stop_requested')
    self.number = 0
    self.nothing_to_lose = False
    self._thread: threading.Thread | None = None

  def __enter__(self) -> 'Interrupt':
    if threading.current_thread() is not threading.main_thread():
      return self  # Only the main thread may install handlers.
    self._read, self._write = os.pipe()
    os.set_blocking(self._write, False)
    self._handlers = {
      number: signal.signal(number, lambda *_: None)
      for number in SIGNALS
      # Of what `nohup` started.
      if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    self._descriptor = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    if self._thread is None:
      return
    signal.set_wakeup_fd(self._descriptor)
    for number, handler in self._handlers.items():
      signal.signal(number, handler)
    os.close(self._write)  # Ends the thread's reading.
    self._thread.join()
    os.close(self._read)
    self._thread = None

  def _watch(self) -> None:
    came = 0.0
    while received := os.read(self._read, 1):
      if received[0] not in SIGNALS:
        continue
      if self.number and time.monotonic() - came < _ONCE_SECONDS:
        continue
      if self.number:
        _end(128 + received[0])
      self.number, came = received[0], time.monotonic()
      name = signal.Signals(self.number).name
      if self.nothing_to_lose and command_line.owns_process:
        print(f'{name}: all that was trained is saved', file=sys.stderr)
        _end(128 + self.number)
      print(f'{name}: stopping after this step; once more ends at once', file=sys.stderr)
      self.requested.assign(True)


def _end(code: int) -> NoReturn:
  with contextlib.suppress(OSError, ValueError):
    sys.stdout.flush()
    sys.stderr.flush()
  os._exit(code)

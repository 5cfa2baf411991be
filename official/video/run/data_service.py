"""Noticing that the tf.data service which feeds a run is gone."""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

from official.video.errors import UserError

# So long a training step may wait while nobody answers at the dispatcher's address.
GONE_SECONDS = 120.0
_LOOK_SECONDS = 5.0


def _problem(address: str) -> str:
  """Why nobody answers at grpc://host:port; '' if somebody does."""
  host, _, port = address.partition('://')[2].rpartition(':')
  try:
    socket.create_connection((host.strip('[]'), int(port)), _LOOK_SECONDS).close()
  except (OSError, ValueError, OverflowError) as error:
    return str(error)
  return ''


def check(address: str, seconds: float = GONE_SECONDS) -> None:
  """Waits for a dispatcher, which may start together with the run.

  Raises:
    UserError: none answers within that time.
  """
  begun, told = time.monotonic(), False
  while problem := _problem(address):
    if time.monotonic() - begun >= seconds:
      raise UserError(
        f'task.train_data.tf_data_service_address {address}: nobody answers ({problem}) '
        f'in {seconds:g} s; start the dispatcher'
      )
    if not told:
      print(f'waiting for the tf.data service at {address}', file=sys.stderr)
    told = True
    time.sleep(min(1.0, seconds / 4))


@contextlib.contextmanager
def watched(
  address: str,
  progress: Callable[[], int],
  seconds: float = GONE_SECONDS,
  end: Callable[[int], None] = os._exit,
) -> Iterator[None]:
  """Ends the process, exit code 2, if steps wait for a service that is gone.

  TensorFlow would wait for ever. One that comes back in time is gone on with.

  Args:
    address: of the dispatcher.
    progress: a number that changes with every step.
    seconds: without a step and without an answer.
    end: what ends the process.
  """
  over = threading.Event()

  def look() -> None:
    seen, since = progress(), time.monotonic()
    while not over.wait(min(_LOOK_SECONDS, seconds / 4)):
      if progress() != seen or not _problem(address):
        seen, since = progress(), time.monotonic()
      elif time.monotonic() - since > seconds:
        print(
          f'error: the tf.data service at {address} is gone for {seconds:g} s; start it '
          'again, then the same command, which goes on from the last checkpoint',
          file=sys.stderr,
          flush=True,
        )
        end(2)
        return

  thread = threading.Thread(target=look, daemon=True)
  thread.start()
  try:
    yield
  finally:
    over.set()
    thread.join()

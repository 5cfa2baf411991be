"""A worker process of the in-process runner: quiet, and gone when its parent is.

Beam's own worker logs to stderr, and waits for ever when its parent was killed.
"""

import logging
import os
import sys
import threading
import time

from tfrecords_tools.beam import import_beam
from tfrecords_tools.pipeline import PARENT_VARIABLE

_POLL_SECONDS = 0.5


def _leave_with(process: int) -> None:
  while True:
    try:
      os.kill(process, 0)
    except ProcessLookupError:
      os._exit(1)
    time.sleep(_POLL_SECONDS)


def main() -> None:
  """Runs Beam's worker until its parent has no more work or is gone."""
  parent = int(os.environ[PARENT_VARIABLE])
  threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
  import_beam()
  logging.disable(logging.CRITICAL)
  from apache_beam.runners.worker import sdk_worker_main

  # The parent reports what fails; Beam would print the trace of it here as well.
  sys.stderr = open(os.devnull, 'w')  # noqa: SIM115
  sdk_worker_main.main(sys.argv)


if __name__ == '__main__':
  main()

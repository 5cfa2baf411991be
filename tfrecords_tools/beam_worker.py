"""A worker process of the in-process runner: quiet, and gone when its parent is.

Beam's own worker logs to stderr, and waits for ever when its parent was killed.
"""

import os
import sys
import threading
import time

_POLL_SECONDS = 0.5


def _leave_with_parent() -> None:
  parent = int(os.environ['TFRECORDS_TOOLS_PARENT'])
  while True:
    try:
      os.kill(parent, 0)
    except ProcessLookupError:
      os._exit(1)
    time.sleep(_POLL_SECONDS)


def main() -> None:
  """Runs Beam's worker until its parent has no more work or is gone."""
  threading.Thread(target=_leave_with_parent, daemon=True).start()
  from tfrecords_tools.pipeline import import_beam

  import_beam()
  from apache_beam.runners.worker import sdk_worker_main

  sdk_worker_main.main(sys.argv)


if __name__ == '__main__':
  main()

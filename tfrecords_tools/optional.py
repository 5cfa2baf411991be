"""Packages that are imported only where somebody asks for what they do."""

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from official.video import extras

# Beam imports these where they are installed, for connectors and data frames that nothing
# here uses; they are half of its start.
_UNUSED_BY_BEAM = ('pandas', 'pymongo')


@contextlib.contextmanager
def _hidden_modules(names: Sequence[str]) -> Iterator[None]:
  """Makes imports of these modules fail, unless they are imported already."""
  hidden = [name for name in names if name not in sys.modules]
  sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
  try:
    yield
  finally:
    for name in hidden:
      del sys.modules[name]


def import_beam(wanted_by: str) -> Any:
  """Imports Beam, which takes seconds, without its remarks on optional packages.

  Args:
    wanted_by: the flag or path that asks for it, for the message.

  Raises:
    UserError: it is not installed.
  """
  logging.disable(logging.CRITICAL)
  try:
    with _hidden_modules(_UNUSED_BY_BEAM):
      extras.require('beam', wanted_by)
      import apache_beam
      import apache_beam.io.filesystems
  finally:
    logging.disable(logging.NOTSET)
  logging.getLogger('apache_beam').setLevel(logging.CRITICAL)
  return apache_beam

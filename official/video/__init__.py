"""Self-supervised video learning: what every method of the library shares."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from official.video.inference.model import Model

# Commands of the first version that have another name now.
_MOVED = {
  'official.video.localization.detect': 'official.video.temporal.detect',
  'official.video.localization.windows': 'official.video.temporal.windows',
}
for _old, _new in _MOVED.items():
  if _old in sys.orig_argv:
    print(f'error: {_old} has moved; use python -m {_new}', file=sys.stderr)
    sys.exit(2)


def load(path: str | os.PathLike, name: str = '', modules: Sequence[str] = ()) -> 'Model':
  """A trained model that predicts, embeds and encodes; see `inference.loading.load`."""
  # Who imports the package alone waits for no TensorFlow; the first of these keeps that from
  # telling of every device that it does not find.
  from official.video.settings import command_line  # noqa: F401, I001
  from official.video.inference import loading

  return loading.load(path, name, modules)

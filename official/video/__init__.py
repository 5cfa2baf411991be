"""Self-supervised video learning: what every method of the library shares."""

import sys

# Commands of the first version that have another name now.
_MOVED = {
  'official.video.localization.detect': 'official.video.temporal.detect',
  'official.video.localization.windows': 'official.video.temporal.windows',
}
for _old, _new in _MOVED.items():
  if _old in sys.orig_argv:
    print(f'error: {_old} has moved; use python -m {_new}', file=sys.stderr)
    sys.exit(2)

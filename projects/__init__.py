"""The methods, one folder each, imported as `official.video.projects.<method>`.

Users have folders of this name too, so nothing imports it under this one.
"""

import sys

_SCORE = 'projects.gvilm.score'
_MESSAGE = (
  f'{_SCORE} is python -m official.video.evaluate --protocols=task now'
  if _SCORE in sys.orig_argv
  else 'the methods are imported as official.video.projects.<method>, for example '
  'python -m official.video.projects.gvilm.pictures'
)
if any(word.startswith('projects.') for word in sys.orig_argv):  # An earlier version's.
  print(f'error: {_MESSAGE}', file=sys.stderr)
  sys.exit(2)
raise ImportError(_MESSAGE)

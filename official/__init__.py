"""Joins this checkout's `official.video` to the installed Model Garden's `official`.

Not part of the wheel: in site-packages the Model Garden's own file stands here.
"""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)

"""The methods, one folder each, imported as `official.video.projects.<method>`.

Users have folders of this name too, so nothing imports it under this one.
"""

raise ImportError(
  'the methods are imported as official.video.projects.<method>, for example '
  'python -m official.video.projects.gvilm.pictures'
)

"""Where the videos of a list are."""

import os
from collections import defaultdict
from collections.abc import Sequence

from tfrecords_tools.datasets.folder import is_video, walk_files


class VideoFiles:
  """The videos below a folder, by file name without suffix."""

  def __init__(self, root: str):
    """Walks the folder."""
    self.root = root
    self._paths = defaultdict(list)
    for path in walk_files(root):
      if is_video(path):
        self._paths[os.path.splitext(os.path.basename(path))[0]].append(path)

  def names(self) -> list[str]:
    """File names without suffix."""
    return list(self._paths)

  def find(self, name: str, folders: Sequence[str] = ()) -> str | None:
    """Path of `name` relative to the root, preferring one below such folders."""
    wanted = set(folders)

    def folders_in_common(path):
      return len(wanted & set(os.path.dirname(path).split(os.sep)))

    paths = self._paths.get(name, ())
    return max(paths, key=folders_in_common) if paths else None

  def first(self, names: Sequence[str]) -> str:
    """Path of the first of `names` that there is, else what it would be called.

    A clip without a file is listed all the same: the conversion names it as skipped.
    """
    found = (path for name in names if (path := self.find(name)))
    return next(found, f'{names[0]}.mp4')

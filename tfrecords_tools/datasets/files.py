"""Where the videos of a list are."""

import contextlib
import os
import re
import urllib.parse
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tfrecords_tools.datasets.folder import is_video, walk_files
from tfrecords_tools.summary import Summary

# `<video>_<start>` and `<video>_<start>_<end>`; a video's own name may end in a number.
_NUMBER = r'(\d+(?:\.\d+)?)'
_PARTS = (
  re.compile(rf'(.+)_{_NUMBER}()', re.ASCII),
  re.compile(rf'(.+)_{_NUMBER}_{_NUMBER}', re.ASCII),
)
# Seconds, milliseconds and microseconds, with the least number that is one.
_UNITS = ((1.0, 0.0), (1e3, 1e3), (1e6, 1e5))
# `<title> [<id>]`, as downloaders name files, and the stream that a file holds.
_TITLED = re.compile(r'.*\[([\w-]{11})\]')
_STREAM = re.compile(r'(.+)\.f\d{2,3}(?:-\d+)?')


def _other_names(name: str) -> Iterator[str]:
  """What a file without its suffix may be called in a list: `a` of `a.mp4.mkv`."""
  while is_video(name):
    name = os.path.splitext(name)[0]
    yield name
  if match := _STREAM.fullmatch(name):
    name = match[1]
    yield name
  if match := _TITLED.fullmatch(name):
    yield match[1]


def _of_url(listed: str) -> str:
  """The path that a file:// address, or one with %20 for a blank, means."""
  return urllib.parse.unquote(listed.removeprefix('file://'), errors='surrogateescape')


class VideoFiles:
  """The videos below a folder, by file name without suffix."""

  def __init__(self, root: str):
    """Walks the folder."""
    self.root = root
    self._paths: dict[str, list[str]] = defaultdict(list)
    self._others: dict[str, list[str]] = defaultdict(list)
    # First and last second, and the path, of the parts of a video.
    self._parts: dict[str, list[tuple[float, float | None, str]]] = defaultdict(list)
    for path in walk_files(root):
      if is_video(path):
        self._add(path)

  def _add(self, path: str) -> None:
    name = os.path.splitext(os.path.basename(path))[0]
    self._paths[name].append(path)
    for other in _other_names(name):
      self._others[other].append(path)
    for called in (name, *_other_names(name)):
      for pattern in _PARTS:
        if match := pattern.fullmatch(called):
          start, end = float(match[2]), float(match[3]) if match[3] else None
          self._parts[match[1]].append((start, end, path))

  def find(self, name: str, folders: Sequence[str] = ()) -> str | None:
    """Path of `name` relative to the root, preferring one below such folders."""
    paths = self._paths.get(name) or self._others.get(name) or ()
    return self._nearest(paths, folders)

  def _nearest(self, paths: Sequence[str], folders: Sequence[str]) -> str | None:
    wanted = set(folders)

    def folders_in_common(path):
      return len(wanted & set(os.path.dirname(path).split(os.sep)))

    return max(paths, key=folders_in_common) if paths else None

  def first(self, names: Sequence[str], missing: str = '') -> str:
    """Path of the first of `names` that there is, else `missing`: what it would be called.

    A clip without a file is listed all the same: the conversion names it as skipped.
    """
    found = (path for name in names if (path := self.find(name)))
    return next(found, missing or f'{names[0]}.mp4')

  def has_parts(self, video: str) -> bool:
    """Whether there are files `<video>_<start>` or `<video>_<start>_<end>`."""
    return video in self._parts

  def cut_to(
    self, video: str, start: float, end: float | None, folders: Sequence[str] = ()
  ) -> str | None:
    """Path of the file that was cut to a span, within a second, as its name tells.

    Args:
      video: name of the whole video.
      start: seconds; names may also have milliseconds or microseconds.
      end: seconds; names may leave it out.
      folders: names of folders that it may lie in.
    """
    nearest: dict[float, list[str]] = defaultdict(list)
    for first, last, path in self._parts.get(video, ()):
      for unit, least in _UNITS:
        if 0 < first < least:
          continue
        fits = last is None or end is None or abs(last / unit - end) < 1
        if fits and abs(first / unit - start) < 1:
          nearest[abs(first / unit - start)].append(path)
    return self._nearest(nearest[min(nearest)], folders) if nearest else None

  def part_with(
    self, video: str, second: float, folders: Sequence[str] = ()
  ) -> tuple[str, float] | None:
    """Path of the file that holds a second, as its name tells, and its own first one."""
    begun: dict[float, list[str]] = defaultdict(list)
    for first, last, path in self._parts.get(video, ()):
      if first <= second and (last is None or second <= last):
        begun[first].append(path)
    if not begun:
      return None
    nearest = self._nearest(begun[max(begun)], folders)
    return (nearest, max(begun)) if nearest else None


class ListedFiles:
  """Files by the paths of a list, which may name another container or folder."""

  def __init__(self, root: str, found: Summary, anywhere: bool = False):
    """Looks at nothing yet.

    Args:
      root: folder that relative paths start from.
      found: where files are reported that are called otherwise than listed.
      anywhere: whether one may lie in another folder below the root than listed.
    """
    self._root, self._found, self._anywhere = root, found, anywhere
    self._folders: dict[str, tuple[frozenset[str], dict[str, str]]] = {}
    self._all: VideoFiles | None = None

  def has(self, listed: str) -> bool:
    """Whether a file is there under its listed name."""
    return os.path.lexists(os.path.join(self._root, listed))

  def path(self, listed: str) -> str:
    """Where a listed file is; where it should be, if it isn't anywhere."""
    path = os.path.join(self._root, listed)
    folder, name = os.path.split(path)
    names, others = self._names(folder)
    if name in names or os.path.lexists(path):
      return path
    for called in (name, os.path.splitext(name)[0]):
      if called.casefold() in others:
        return self._other(listed, os.path.join(folder, others[called.casefold()]))
    for other in (listed.replace('\\', '/'), _of_url(listed)):
      if other != listed and self.has(other):
        return self._other(listed, os.path.join(self._root, other))
    if self._anywhere and (elsewhere := self._elsewhere(listed)):
      return self._other(listed, os.path.join(self._root, elsewhere))
    return path

  def _other(self, listed: str, path: str) -> str:
    self._found.corrected(
      'files called otherwise than listed',
      f'{listed}, which is {os.path.relpath(path, self._root or ".")}',
    )
    return path

  def _names(self, folder: str) -> tuple[frozenset[str], dict[str, str]]:
    """File names of a folder, and those of videos by what lists may call them."""
    if folder not in self._folders:
      names: list[str] = []
      with contextlib.suppress(OSError, ValueError):
        names = sorted(os.listdir(folder or '.'))
      others: dict[str, str] = {}
      for name in filter(is_video, names):
        plain = os.path.splitext(name)[0]
        for other in (name, plain, *_other_names(plain)):
          others.setdefault(other.casefold(), name)
      self._folders[folder] = frozenset(names), others
    return self._folders[folder]

  def _elsewhere(self, listed: str) -> str | None:
    self._all = self._all or VideoFiles(self._root)
    folder, name = os.path.split(listed)
    return self._all.find(os.path.splitext(name)[0], folder.split(os.sep))


class RealFiles:
  """Where files really are, with one look at each folder: some are on slow networks."""

  def __init__(self):
    self._folders: dict[str, tuple[str, frozenset[str]]] = {}

  def __call__(self, file: str) -> str:
    """The path of a file without links on the way."""
    folder, name = os.path.split(os.path.normpath(file))
    if folder not in self._folders:
      links: list[str] = []
      with contextlib.suppress(OSError, ValueError), os.scandir(folder or '.') as entries:
        links = [entry.name for entry in entries if entry.is_symlink()]
      self._folders[folder] = os.path.realpath(folder), frozenset(links)
    real, among = self._folders[folder]
    return os.path.realpath(file) if name in among else os.path.join(real, name)

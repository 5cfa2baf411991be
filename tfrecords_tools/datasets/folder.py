"""Videos in class folders, with or without a folder a split above them."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

from official.video.errors import UserError
from tfrecords_tools.datasets.rows import split_of_name
from tfrecords_tools.datasets.source import (
  VIDEO_SUFFIXES,
  Listing,
  SourceClip,
  SourceRequest,
  existing_folder,
  stem,
)
from tfrecords_tools.summary import Summary

DEFAULT_SPLIT = 'train'
# Folders that systems make beside people's own, some with copies of the files in them.
_OF_SYSTEMS = frozenset(
  {
    *('__MACOSX', '@eaDir', '#recycle', '$RECYCLE.BIN', 'System Volume Information'),
    'lost+found',
  }
)


def walk_files(root: str) -> Iterator[str]:
  """Yields files below `root`, relative to it, sorted; hidden ones are left out.

  So are those of folders that a system made.

  Raises:
    UserError: a folder can't be read.
  """
  # The real paths of the folders that each one is in: a link to one of these would be
  # walked for ever.
  above: dict[str, frozenset[str]] = {}
  for folder, folders, files in os.walk(root, onerror=_refuse, followlinks=True):
    around = above.pop(folder, frozenset())
    if (real := os.path.realpath(folder)) in around:
      folders.clear()
      continue
    folders[:] = sorted(
      name for name in folders if not name.startswith('.') and name not in _OF_SYSTEMS
    )
    within = (os.path.join(folder, name) for name in folders)
    above |= dict.fromkeys(within, around | {real})
    for name in sorted(files):
      if not name.startswith('.'):
        yield os.path.relpath(os.path.join(folder, name), root)


def _refuse(error: OSError) -> NoReturn:
  raise UserError(
    f"{error.filename}: can't be read: {error.strerror}; make it readable, or move it away"
  ) from error


def is_video(path: str) -> bool:
  """Whether the suffix is one of a video container."""
  return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


# Suffixes of what lies beside videos and is none; the others' first bytes are looked at.
_OTHER_SUFFIXES = frozenset(
  f'.{name}'
  for name in (
    *('bmp', 'csv', 'db', 'gz', 'h5', 'htm', 'html', 'ini', 'jpeg', 'jpg', 'json'),
    *('jsonl', 'log', 'm4a', 'md', 'mp3', 'npy', 'npz', 'pdf', 'pkl', 'png', 'py', 'rar'),
    *('srt', 'tar', 'tfrecord', 'tsv', 'txt', 'vtt', 'wav', 'xml', 'yaml', 'yml', 'zip'),
  )
)
# ISO media, Matroska, AVI, MPEG program streams, ASF, Flash.
_VIDEO_STARTS = re.compile(
  rb'....(?:ftyp|moov|mdat)|\x1aE\xdf\xa3|RIFF....AVI |\0\0\x01[\xba\xb3]|'
  rb'0&\xb2u\x8ef\xcf\x11|FLV\x01',
  re.DOTALL,
)


def _holds_video(path: str) -> bool:
  """Whether a file that is not called a video is one by its first bytes."""
  if os.path.splitext(path)[1].lower() in _OTHER_SUFFIXES or not os.path.isfile(path):
    return False
  try:
    with open(path, 'rb') as file:
      return _VIDEO_STARTS.match(file.read(12)) is not None
  except OSError:
    return False


def _tops(videos: Iterable[str]) -> list[str]:
  return sorted(
    {top for path in videos for top, _, below in [path.partition(os.sep)] if below}
  )


class _Layout:
  """What the folders above videos mean: splits, then classes; or classes alone.

  Attributes:
    split_depth: which folder above a video, from the top, is its split; None for none.
  """

  def __init__(self, root: str, videos: Sequence[str], split: str | None):
    """Looks at the folders.

    Args:
      root: folder of the source.
      videos: paths below it.
      split: of --split.

    Raises:
      UserError: some folders of one depth are called as splits and others aren't.
    """
    self._root, self._split = root, split
    tops = _tops(videos)
    called = [top for top in tops if split_of_name(top)]
    self.split_depth: int | None = None
    if called and not (split and len(called) == 1 and len(tops) > 1):
      self._check_splits(videos, tops, called)
      self.split_depth = 0
    elif self._classes_hold_splits(videos):
      self.split_depth = 1
    if split and self.split_depth is not None:
      self._refuse_flag(called or ['below the classes'])

  def _refuse_flag(self, folders: Sequence[str]) -> NoReturn:
    raise UserError(
      f'--split={self._split}: --path={self._root} has split folders {folders}; drop '
      '--split, or name one of them as --path'
    )

  def _check_splits(
    self, videos: Sequence[str], tops: Sequence[str], called: Sequence[str]
  ) -> None:
    if self._split:
      self._refuse_flag(called)
    loose = [path for path in videos if os.sep not in path]
    others = [top for top in tops if top not in called] + loose[:1]
    if not others:
      return
    way = (
      f'; or, if {called[0]} is a class, name the split by --split'
      if len(called) == 1 and not loose
      else ''
    )
    raise UserError(
      f'--path={self._root}: {", ".join(called)} would be splits, but there is '
      f'{others[0]} beside them; move it away, or name one folder as --path{way}'
    )

  def _classes_hold_splits(self, videos: Sequence[str]) -> bool:
    """Whether it is `<class>/<split>/<video>` throughout, or nowhere."""
    below = {path: path.split(os.sep)[1:-1] for path in videos}
    within = [path for path, rest in below.items() if rest and split_of_name(rest[0])]
    others = sorted(below.keys() - set(within))
    # With --split, such folders are none of splits unless all are.
    if within and others and not self._split:
      raise UserError(
        f'--path={self._root}: {os.path.dirname(within[0])} would be a split, but there is '
        f'{others[0]} in none; move it into one, or, if they are no splits, name the split '
        'by --split'
      )
    return not others

  def read(self, path: str) -> tuple[str, list[str]]:
    """The split of a video, and its path without the folder of it."""
    parts = path.split(os.sep)
    if self.split_depth is None:
      return self._split or DEFAULT_SPLIT, parts
    name = parts.pop(self.split_depth)
    return split_of_name(name) or name, parts


class Folder:
  """`<class>/<video>`, `<split>/<class>/<video>`, or videos without a class."""

  flags = frozenset({'split'})
  summary = (
    'class folders, <class>/<video>; also <split>/<class>/<video> or '
    '<class>/<split>/<video> where all those folders are train, val, test (in capitals, '
    'as training, validation, ...); videos outside a class folder are unlabelled'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the videos below `request.path`."""
    root = existing_folder('path', request.path)
    found = Summary()
    paths = list(walk_files(root))
    videos = [path for path in paths if is_video(path)]
    if not videos:
      raise UserError(f'--path={root}: holds no video; expected <class>/<video> files')
    layout = _Layout(root, videos, request.split)
    clips = [self._clip(root, path, layout) for path in videos]
    _note_others(root, [path for path in paths if not is_video(path)], found)
    _note_classes(clips, videos, found)
    return Listing(clips, notes=found.lines())

  def _clip(self, root: str, path: str, layout: _Layout) -> SourceClip:
    split, parts = layout.read(path)
    return SourceClip(
      path=path,
      file=os.path.join(root, path),
      split=split,
      media_id=stem(os.path.join(*parts)),
      labels=(parts[0],) if len(parts) > 1 else (),
    )


def _note_others(root: str, others: Sequence[str], found: Summary) -> None:
  unnamed = [path for path in others if _holds_video(os.path.join(root, path))]
  for path in unnamed:
    found.left_out('files that hold a video but lack the suffix of one', path)
  if ignored := len(others) - len(unnamed):
    plural = 's' if ignored > 1 else ''
    found.note(f'{ignored} other file{plural} in {root} ignored')


def _note_classes(
  clips: Sequence[SourceClip], videos: Sequence[str], found: Summary
) -> None:
  classes = {clip.labels for clip in clips}
  if len(classes) == 1 and all(path.count(os.sep) > 1 for path in videos):
    for (label,) in filter(None, classes):
      found.note(
        f'all videos are below {label}, which is taken for their class; where the classes '
        'are the folders in it, name it as --path'
      )


SOURCE = Folder()

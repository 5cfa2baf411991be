"""Videos in class folders, with or without a folder a split above them."""

import os
from collections.abc import Iterator

from official.video.errors import UserError
from tfrecords_tools.datasets.source import (
  VIDEO_SUFFIXES,
  Listing,
  SourceClip,
  SourceRequest,
  existing_folder,
  stem,
)

SPLIT_FOLDERS = ('train', 'val', 'validation', 'valid', 'test')
DEFAULT_SPLIT = 'train'


def walk_files(root: str) -> Iterator[str]:
  """Yields files below `root`, relative to it, sorted; hidden ones are left out."""
  seen = set()
  for folder, folders, files in os.walk(root, followlinks=True):
    # A link to a folder above would otherwise be walked for ever.
    if (real := os.path.realpath(folder)) in seen:
      folders.clear()
      continue
    seen.add(real)
    folders[:] = sorted(name for name in folders if not name.startswith('.'))
    for name in sorted(files):
      if not name.startswith('.'):
        yield os.path.relpath(os.path.join(folder, name), root)


def is_video(path: str) -> bool:
  """Whether the suffix is one of a video container."""
  return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


class Folder:
  """`<class>/<video>`, `<split>/<class>/<video>`, or videos without a class."""

  flags = frozenset({'split'})
  summary = (
    'class folders, <class>/<video>; also <split>/<class>/<video> where the folders are '
    'train, val, test; videos outside a class folder are unlabelled'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the videos below `request.path`."""
    root = existing_folder('path', request.path)
    tops = [name for name in os.listdir(root) if os.path.isdir(os.path.join(root, name))]
    by_split = any(name in SPLIT_FOLDERS for name in tops)
    if by_split and request.split:
      raise UserError(
        f'--split={request.split}: --path={root} has split folders '
        f'{sorted(set(tops) & set(SPLIT_FOLDERS))}; drop --split, or name one of them '
        'as --path'
      )
    paths = list(walk_files(root))
    videos = [path for path in paths if is_video(path)]
    split = None if by_split else request.split or DEFAULT_SPLIT
    clips = [clip for path in videos if (clip := self._clip(root, path, split))]
    if not clips:
      raise UserError(f'--path={root}: holds no video; expected <class>/<video> files')
    ignored = len(paths) - len(clips)
    plural = 's' if ignored > 1 else ''
    notes = [f'{ignored} other file{plural} in {root} ignored'] if ignored else []
    return Listing(clips, notes=notes)

  def _clip(self, root: str, path: str, split: str | None) -> SourceClip | None:
    parts = path.split(os.sep)
    if split is None:
      split = parts.pop(0)
      if split not in SPLIT_FOLDERS:
        return None
    return SourceClip(
      path=path,
      file=os.path.join(root, path),
      split=split,
      media_id=stem(os.path.join(*parts)),
      labels=(parts[0],) if len(parts) > 1 else (),
    )


SOURCE = Folder()

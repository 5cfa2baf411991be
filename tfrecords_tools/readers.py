"""How a listed clip becomes frames: one reader a kind of storage."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Protocol

from tfrecords_tools.datasets.source import SourceClip
from tfrecords_tools.decode import Frame, open_video
from tfrecords_tools.frame_folder import read_frame_folder
from tfrecords_tools.lmdb_store import read_lmdb


class Footage(Protocol):
  """An open source.

  Attributes:
    frame_rate: frames a second as the source states them; 0 if it doesn't.
  """

  frame_rate: float

  def frames(self, start: int = 0) -> Iterator[Frame]:
    """Yields frames in order of time, from the one shown at `start` us or before."""


class Reader(Protocol):
  """Opens the source of a clip; raises `SourceError` where it can't."""

  def __call__(
    self, clip: SourceClip, max_pixels: int
  ) -> contextlib.AbstractContextManager[Footage]:
    """Opens `clip.file`, refusing frames over `max_pixels`."""


def read_video(
  clip: SourceClip, max_pixels: int
) -> contextlib.AbstractContextManager[Footage]:
  """Opens a video file."""
  return open_video(clip.file, max_pixels)


# Keys are what a source names in `SourceClip.reader`.
READERS: Mapping[str, Reader] = {
  'video': read_video,
  'frames': read_frame_folder,
  'lmdb': read_lmdb,
}

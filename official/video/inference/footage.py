"""Video files as the records that a conversion would make of them, in memory.

A model saw frames that were stored: scaled, sampled in time, encoded as JPEG. What it is
shown of a file passes through the converter's own functions, so it is that again. Nothing
here imports TensorFlow: worker processes start in a moment.
"""

import dataclasses
import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools import clips, pool
from tfrecords_tools.datasets.folder import is_video, walk_files
from tfrecords_tools.datasets.source import SourceClip, stem
from tfrecords_tools.decode import FFMPEG_ERRORS, MICROSECONDS, SourceError, open_video
from tfrecords_tools.frames import FrameEncoder, FrameOptions, PngEncoder

# Seconds; what claims to be longer is damaged.
_DAYS = 7 * 86400.0


@dataclasses.dataclass(frozen=True)
class Storage:
  """How the frames of a file are stored before a model sees them.

  The defaults are those of `tfrecords_tools.convert`; a model knows what its data was
  converted with.

  Attributes:
    fps: frames a second; 0 keeps every frame.
    short_side: pixels that a larger short side is scaled down to; 0 keeps sizes.
    quality: of the JPEGs, 1 to 100.
    jpeg: whether there are JPEGs: without, frames lose nothing that training's lost.
  """

  fps: float = FrameOptions.fps
  short_side: int = FrameOptions.short_side
  quality: int = FrameOptions.quality
  jpeg: bool = True

  def __post_init__(self):
    """Raises `UserError` for numbers that no file can be stored by."""
    for name, least, most in (
      ('fps', 0, 1e6),
      ('short_side', 0, 1 << 16),
      ('quality', 1, 100),
    ):
      value = getattr(self, name)
      if not least <= value <= most:  # NaN is nowhere.
        raise UserError(f'{name} {value}: expected {least} to {most:g}')

  def options(self) -> FrameOptions:
    """What the converter is asked for; files of any length are looked at."""
    return FrameOptions(
      self.fps,
      self.short_side,
      self.quality,
      max_frames=0,
      max_seconds=_DAYS,
    )

  def encoder(self) -> FrameEncoder:
    """What encodes the frames of one file."""
    return (FrameEncoder if self.jpeg else PngEncoder)(self.options())

  def remembered(self) -> dict[str, Any]:
    """What `of_conversion` reads back."""
    return {'fps': self.fps, 'short_side': self.short_side, 'quality': self.quality}

  @classmethod
  def of_conversion(cls, arguments: Mapping[str, Any]) -> 'Storage':
    """As a manifest's arguments tell; what they don't is the converter's default."""
    names = ('fps', 'short_side', 'quality')
    return cls(**{name: arguments[name] for name in names if name in arguments})


@dataclasses.dataclass(frozen=True)
class Footage:
  """One file, decoded.

  Attributes:
    path: the file as it was asked for.
    record: the serialized `SequenceExample`; empty where there is none.
    times: seconds from the start, of each stored frame.
    end: second where the last frame ends.
    frame_rate: stored frames a second.
    failure: why there is no record; '' where there is one.
    notes: what a user may want to know about the pixels.
  """

  path: str
  record: bytes = b''
  times: Sequence[float] = ()
  end: float = 0.0
  frame_rate: float = 0.0
  failure: str = ''
  notes: Sequence[str] = ()


def read(path: str, storage: Storage) -> Footage:
  """Decodes a file; one that can't be has a `failure`."""
  clip = SourceClip(path, os.path.abspath(path), 'test', stem(path))
  try:
    made = clips.build_record(clip, {}, storage.options(), encoder=storage.encoder())
  except SourceError as error:
    return Footage(path, failure=str(error))
  except FFMPEG_ERRORS as error:
    return Footage(path, failure=str(error) or type(error).__name__)
  fields = made.fields
  return Footage(
    path,
    b''.join(made.record.chunks()),
    [time / MICROSECONDS for time in fields[records.IMAGE_TIMESTAMP]],
    fields[records.END_TIMESTAMP] / MICROSECONDS,
    made.frame_rate,
    notes=made.notes,
  )


def still(path: str, second: float, short_side: int = 180) -> bytes:
  """The frame that a file shows at a time, as a small JPEG; b'' where there is none."""
  options = Storage(short_side=short_side, quality=80).options()
  try:
    with open_video(os.path.abspath(path), options.max_pixels) as video:
      for frame in video.frames(round(second * MICROSECONDS)):
        if frame.time + frame.duration > second * MICROSECONDS:
          return FrameEncoder(options).encode(frame)
  except (SourceError, OSError, *FFMPEG_ERRORS):
    pass  # What is to be shown of it is said without a picture.
  return b''


def _work(task: tuple[str, Storage], tell: Callable[[Any], None]) -> Footage:
  del tell
  return read(*task)


def read_all(
  paths: Sequence[str], storage: Storage, num_workers: int = 1
) -> Iterator[Footage]:
  """Decodes files, in this process or ahead in several, in their order.

  A file that takes its worker down costs itself only. A worker waits until its file was
  taken, so that no more than one each is in memory.
  """
  tasks = [(path, storage) for path in paths]
  done = 0
  while done < len(tasks):
    try:
      for seen in pool.in_order(_work, tasks[done:], num_workers):
        done += 1
        yield seen
    except pool.WorkerDied as death:  # That of the next file, whose turn it is.
      yield Footage(tasks[done][0], failure=f'its decoder crashed ({death})')
      done += 1


def listed(
  inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[str]:
  """The files that are meant by a file, a pattern, a folder, or a sequence of these.

  Of a folder those with the suffix of a video, whatever folders they are in, sorted;
  each file once, as it was called first. Of several those that are not there are listed,
  too: reading them names them, and goes on with the others.

  Raises:
    UserError: nothing is called so, or a folder holds no video.
  """
  if isinstance(inputs, (str, os.PathLike)):
    inputs = [inputs]
  found: dict[str, str] = {}
  for given in inputs:
    for path in _listed(os.fspath(given), len(inputs) > 1):
      found.setdefault(os.path.abspath(path), path)
  if not found:
    raise UserError('no input is named; give video files or a folder of them')
  return list(found.values())


def _listed(given: str, among_others: bool) -> list[str]:
  if os.path.isdir(given):
    videos = [os.path.join(given, path) for path in walk_files(given) if is_video(path)]
    if not videos:
      raise UserError(f'{given}: the folder holds no video; name one that does')
    return videos
  if os.path.exists(given):
    return [given]
  matches = sorted(glob.glob(given)) if re.search(r'[*?\[]', given) else []
  if not matches and not among_others:
    raise UserError(f'{given}: no such file or folder')
  return matches or [given]

"""Reads a folder of numbered JPEG frames."""

import contextlib
import os
import re
from collections.abc import Collection, Iterator

from tfrecords_tools.datasets.source import SourceClip
from tfrecords_tools.datasets.stored import DEFAULT_FRAME_RATE, StoredClip
from tfrecords_tools.decode import SourceError
from tfrecords_tools.jpegs import JpegFootage

_FRAME = re.compile(r'(?P<prefix>.*?)(?P<number>\d+)\.jpe?g', re.IGNORECASE)


def _frame_names(folder: str, prefix: str | None) -> list[str]:
  """File names in order of their numbers, which begin at 0 or 1 and leave none out.

  Args:
    folder: of the frames.
    prefix: that the names begin with; None where all begin alike.
  """
  try:
    names = os.listdir(folder)
  except FileNotFoundError:
    raise SourceError('missing folder') from None
  except (OSError, ValueError) as error:
    reason = getattr(error, 'strerror', None) or str(error)
    raise SourceError(f"the folder can't be read: {reason}") from error
  matches = [match for name in names if (match := _FRAME.fullmatch(name))]
  if prefix is not None:
    matches = [match for match in matches if match['prefix'] == prefix]
  if not matches:
    raise SourceError(f'the folder holds no frame such as {prefix or ""}00001.jpg')
  if len({match['prefix'] for match in matches}) > 1:
    first, second = sorted({match['prefix'] for match in matches})[:2]
    raise SourceError(
      f'the folder holds frames named both {first}* and {second}*; choose by '
      '--frame_prefix'
    )
  by_number: dict[int, str] = {}
  for match in matches:
    number = int(match['number'])
    if number in by_number:
      pair = sorted([by_number[number], match[0]])
      raise SourceError(f'frame {number} is there twice: {pair[0]} and {pair[1]}')
    by_number[number] = match[0]
  _check_numbers(by_number.keys())
  return [by_number[number] for number in sorted(by_number)]


def _check_numbers(numbers: Collection[int]) -> None:
  first, last = min(numbers), max(numbers)
  if first > 1:
    raise SourceError(f'frame 1 is missing; the first is {first}')
  lost = last - first + 1 - len(numbers)
  if lost:
    missing = next(number for number in range(first, last) if number not in numbers)
    more = f' and {lost - 1} more' if lost > 1 else ''
    raise SourceError(f'frame {missing}{more} missing, of {first} to {last}')


def check_count(found: int, clip: StoredClip) -> None:
  """Raises `SourceError` where a clip has another number of frames than listed."""
  if clip.num_frames is not None and found != clip.num_frames:
    raise SourceError(f'has {found} frames, the list says {clip.num_frames}')


@contextlib.contextmanager
def read_frame_folder(clip: SourceClip, max_pixels: int) -> Iterator[JpegFootage]:
  """Opens a folder of JPEG frames.

  Args:
    clip: a `StoredClip`; its `file` is the folder.
    max_pixels: largest frame to accept.

  Raises:
    SourceError: the folder or a frame is missing, or there are more or fewer than listed.
  """
  assert isinstance(clip, StoredClip)
  names = _frame_names(clip.file, clip.prefix)
  check_count(len(names), clip)

  def read(index: int) -> tuple[str, bytes]:
    try:
      with open(os.path.join(clip.file, names[index]), 'rb') as file:
        return names[index], file.read()
    except OSError as error:
      raise SourceError(f"{names[index]} can't be read: {error.strerror}") from error

  rate = clip.frame_rate or DEFAULT_FRAME_RATE
  yield JpegFootage(len(names), read, rate, max_pixels)

"""Clips that move on a page without a script: frames in one picture, shown in turn by CSS."""

import base64
import dataclasses
import io
from collections.abc import Sequence

import numpy as np

from official.video.report import markup
from official.video.report.markup import Markup

FRAMES = 8
SIDE = 84  # Pixels of a frame's short side.
_QUALITY = 60  # Of the JPEG.
# Seconds around a clip's middle that are shown: more frames would weigh more.
_SPAN = 2.4


@dataclasses.dataclass(frozen=True)
class Sheet:
  """Frames side by side in one picture.

  Attributes:
    image: data URI.
    count: of the frames.
  """

  image: str
  count: int


def sheet(frames: Sequence[np.ndarray], side: int = SIDE) -> Sheet:
  """Puts frames side by side in one JPEG.

  Args:
    frames: each [H, W, 3] uint8, all of one size; at least one.
    side: pixels that a larger short side is scaled down to.
  """
  from PIL import Image

  high, wide = frames[0].shape[:2]
  scale = min(1.0, side / min(high, wide))
  # No frame may be seen at the edge of another's.
  size = max(1, round(scale * wide)), max(1, round(scale * high))
  whole = Image.new('RGB', (size[0] * len(frames), size[1]))
  for place, frame in enumerate(frames):
    image = Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)
    whole.paste(image, (place * size[0], 0))
  buffer = io.BytesIO()
  # Without subsampling, colours of a frame would stay within it; with, the page is smaller.
  whole.save(buffer, 'JPEG', quality=_QUALITY, optimize=True)
  uri = 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()
  return Sheet(uri, len(frames))


def span(start: float, end: float) -> tuple[float, float]:
  """The seconds of a clip that are shown: those around its middle, where it is long."""
  if end - start <= _SPAN:
    return start, end
  middle = (start + end) / 2
  return middle - _SPAN / 2, middle + _SPAN / 2


def frames_of(
  path: str, start: float, end: float, count: int = FRAMES, side: int = SIDE
) -> list[np.ndarray]:
  """Frames [H, W, 3] uint8 of a video, evenly spaced in time; none where it can't be read.

  Args:
    path: of the file.
    start: second of the first frame.
    end: second behind the last.
    count: how many; fewer where the video has no more.
    side: pixels that a larger short side is scaled down to.
  """
  from PIL import Image

  from tfrecords_tools import decode, frames

  options = frames.FrameOptions(short_side=side, quality=90)
  encoder = frames.FrameEncoder(options)
  times = decode.MICROSECONDS * (start + (end - start) * np.arange(count) / count)
  made: list[np.ndarray] = []
  try:
    with decode.open_video(path, options.max_pixels) as video:
      wanted = 0
      for frame in video.frames(int(times[0])):
        shown = wanted
        while wanted < count and frame.time + frame.duration > times[wanted]:
          wanted += 1
        if wanted > shown:
          picture = Image.open(io.BytesIO(encoder.encode(frame))).convert('RGB')
          made.append(np.asarray(picture))
        if wanted == count:
          break
  except (decode.SourceError, OSError, *decode.FFMPEG_ERRORS):
    pass  # What is to be shown of it is said without pictures.
  return made


def clip(shown: Sheet, what: str) -> Markup:
  """A clip that moves; it stands still in print and for who wants no motion.

  A sheet of one frame is a picture.
  """
  kind = 'clip moving' if shown.count > 1 else 'clip'
  return Markup(
    f'<span class="{kind}"><img style="--n:{shown.count}" src="{shown.image}" '
    f'alt="{markup.text(what)}"></span>'
  )


def tile(shown: Sheet | None, caption: str, small: str = '', kind: str = '') -> Markup:
  """A clip and what is said of it.

  Args:
    shown: the clip; None says it without one.
    caption: of it.
    small: a second line.
    kind: 'query', 'right' or 'wrong'; the last two are marked in words, too.
  """
  mark = {'right': '✓', 'wrong': '✗'}.get(kind, '')
  parts = [clip(shown, f'Frames of a clip: {caption}')] if shown else []
  words = [markup.element('b', markup.text(mark))] if mark else []
  words += [markup.text(f' {caption}' if mark else caption)]
  words += [markup.element('small', markup.text(small))] if small else []
  parts.append(markup.element('figcaption', markup.join(words)))
  return markup.element('figure', markup.join(parts), class_=kind or None)

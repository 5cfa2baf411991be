"""A copy of a video with the likeliest classes written into its frames."""

import fractions
import os
from collections.abc import Iterator, Sequence

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from official.video import files
from official.video.errors import UserError
from official.video.inference.model import Prediction
from tfrecords_tools.decode import MICROSECONDS, SourceError, open_video
from tfrecords_tools.frames import FrameOptions
from tfrecords_tools.pixels import Scaler, orientation_of, shown_size

# Height of a line of text, as a share of the frame's.
_LINE = 1 / 18


def write(source: str, target: str, predictions: Sequence[Prediction]) -> None:
  """Writes H.264 in MP4; it appears when it is whole.

  Args:
    source: the video.
    target: file to write.
    predictions: of its windows, in their order; a frame shows those of the window whose
      middle is nearest.

  Raises:
    UserError: the source can't be read to its end, or the target can't be written.
  """
  partial = f'{target}.partial.mp4'
  try:
    with files.storage_errors(target):
      os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
      _write(source, partial, predictions)
      os.replace(partial, target)
  except SourceError as error:
    raise UserError(f'{source}: {error}') from error
  except av.FFmpegError as error:
    raise UserError(f"--video {target}: can't be written: {error}") from error
  finally:
    if os.path.exists(partial):
      os.remove(partial)


def _write(source: str, target: str, predictions: Sequence[Prediction]) -> None:
  with (
    open_video(source, FrameOptions.max_pixels) as video,
    av.open(target, 'w', options={'movflags': '+faststart'}) as file,
  ):
    rate = fractions.Fraction(video.frame_rate or 25).limit_denominator(1001)
    stream = file.add_stream('libx264', rate=rate, options={'crf': '20'})
    stream.pix_fmt = 'yuv420p'
    # Frames keep their times, whatever the rate.
    stream.codec_context.time_base = fractions.Fraction(1, MICROSECONDS)
    for time, pixels in _frames(video):
      if not stream.codec_context.is_open:
        stream.height, stream.width = pixels.shape[:2]
      drawn = draw(pixels, lines_at(time / MICROSECONDS, predictions))
      frame = av.VideoFrame.from_ndarray(drawn, 'rgb24')
      frame.pts, frame.time_base = time, fractions.Fraction(1, MICROSECONDS)
      file.mux(stream.encode(frame))
    file.mux(stream.encode())


def _frames(video) -> Iterator[tuple[int, np.ndarray]]:
  """Microseconds and upright RGB of each frame, all of the first's size, with even sides."""
  scaler, size = Scaler(), None
  for frame in video.frames():
    image = frame.image
    if size is None:
      size = shown_size(image.width, image.height, frame.pixel_aspect)
      orientation = orientation_of(image)
    (pixels,) = orientation.apply(scaler.scale_to_rgb(image, *size))
    height, width = (side - side % 2 for side in pixels.shape[:2])
    yield frame.time, np.ascontiguousarray(pixels[:height, :width])


def lines_at(second: float, predictions: Sequence[Prediction]) -> list[str]:
  """What is written at a second."""
  nearest = min(predictions, key=lambda p: abs((p.start + p.end) / 2 - second))
  return [f'{name} {100 * share:.0f} %' for name, share in nearest.classes]


def draw(pixels: np.ndarray, lines: Sequence[str]) -> np.ndarray:
  """[H, W, 3] with lines of text in the upper left corner, on a dark ground."""
  image = Image.fromarray(pixels)
  size = max(8, round(image.height * _LINE))
  font = ImageFont.load_default(size)
  painter = ImageDraw.Draw(image, 'RGBA')
  box = painter.multiline_textbbox((size // 2, size // 2), '\n'.join(lines), font)
  margin = size // 4
  left, top, right, bottom = box
  painter.rectangle(
    (left - margin, top - margin, right + margin, bottom + margin), (0, 0, 0, 160)
  )
  painter.multiline_text((size // 2, size // 2), '\n'.join(lines), 'white', font)
  return np.asarray(image)

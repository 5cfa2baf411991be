"""Real encoded videos for tests."""

import contextlib
import fractions
import pathlib
from collections.abc import Callable, Sequence

import av
import numpy as np

_OPTIONS = {
  'libx264': {'preset': 'ultrafast', 'crf': '12'},
  'libvpx-vp9': {'deadline': 'realtime', 'cpu-used': '8', 'crf': '20', 'b': '0'},
  'mpeg4': {'qmin': '2', 'qmax': '3'},
}


def numbered_frame(number: int, width: int, height: int) -> np.ndarray:
  """A frame that tells its number, 0 to 255: 8 bits as dark and bright columns."""
  bits = [number >> bit & 1 for bit in range(8)]
  columns = np.repeat(np.array(bits, np.uint8), -(-width // 8))[:width]
  return np.broadcast_to((columns * 180 + 40)[None, :, None], (height, width, 3)).copy()


def frame_number(frame: np.ndarray) -> int:
  """The number that `numbered_frame` drew, after any coding and scaling."""
  width = frame.shape[1]
  centres = [(2 * bit + 1) * width // 16 for bit in range(8)]
  return sum(
    int(frame[frame.shape[0] // 2, x].mean() > 130) << b for b, x in enumerate(centres)
  )


def write_video(
  path: str | pathlib.Path,
  num_frames: int = 30,
  fps: float = 30,
  size: tuple[int, int] = (64, 48),
  codec: str = 'libx264',
  draw: Callable[[int, int, int], np.ndarray] | None = None,
  *,
  times: Sequence[float] | None = None,
  rotation: int | None = None,
  gop: int = 12,
  b_frames: int = 0,
  sound: bool = False,
  options: dict[str, str] | None = None,
) -> str:
  """Encodes a video; the container follows from the suffix.

  Args:
    path: file to write.
    num_frames: frames; ignored where `times` are given.
    fps: frames a second.
    size: width, height; even.
    codec: encoder of FFmpeg, such as libx264, libvpx-vp9, mpeg4.
    draw: `(number, width, height) -> [height, width, 3] uint8`; default
      `numbered_frame`.
    times: seconds of each frame, for a variable rate.
    rotation: degrees that players turn it counter-clockwise.
    gop: frames from keyframe to keyframe.
    b_frames: frames between two that only they refer to.
    sound: whether to add a sound track of the same length.
    options: of the container, such as movflags.

  Returns:
    The path as text.
  """
  draw = draw or numbered_frame
  rate = fractions.Fraction(fps).limit_denominator(1001)
  with av.open(str(path), 'w', options=options or {}) as file:
    stream = file.add_stream(codec, rate=rate, options=dict(_OPTIONS.get(codec, {})))
    stream.width, stream.height = size
    stream.pix_fmt = 'yuv420p'
    stream.codec_context.gop_size = gop
    stream.codec_context.max_b_frames = b_frames
    if times is not None:
      stream.codec_context.time_base = fractions.Fraction(1, 1000)
    if rotation is not None:
      stream.set_display_rotation(rotation)
    audio = file.add_stream('aac', rate=16000, layout='mono') if sound else None
    for number in range(num_frames if times is None else len(times)):
      frame = av.VideoFrame.from_ndarray(draw(number, *size), 'rgb24')
      if times is not None:
        frame.time_base = fractions.Fraction(1, 1000)
        frame.pts = round(times[number] * 1000)
      file.mux(stream.encode(frame))
    file.mux(stream.encode())
    if audio is not None:
      _write_silence(file, audio, num_frames / fps)
  return str(path)


def write_classes(folder: pathlib.Path, count: int, **options) -> pathlib.Path:
  """Videos of two classes in turn, `a/v0.mp4`, `b/v1.mp4`; returns the folder."""
  for index in range(count):
    path = folder / 'ab'[index % 2] / f'v{index}.mp4'
    path.parent.mkdir(exist_ok=True)
    write_video(path, **options)
  return folder


def write_sound(path: str | pathlib.Path, seconds: float = 1.0) -> str:
  """Encodes a file with a sound track only."""
  with av.open(str(path), 'w') as file:
    _write_silence(file, file.add_stream('aac', rate=16000, layout='mono'), seconds)
  return str(path)


def _write_silence(file, stream, seconds: float) -> None:
  for block in range(int(seconds * 16000) // 1024):
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
    frame.sample_rate = 16000
    frame.pts = block * 1024
    file.mux(stream.encode(frame))
  with contextlib.suppress(EOFError):
    file.mux(stream.encode())

"""Encodes frames into video files."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import cast

import av
import cv2
import numpy as np
from av.video.stream import VideoStream


@dataclasses.dataclass(frozen=True)
class Codec:
  """How a container's video is encoded.

  Attributes:
    encoder: FFmpeg's name of the encoder.
    muxer: FFmpeg's name of the container.
    options: of the encoder.
  """

  encoder: str
  muxer: str
  options: Mapping[str, str]


_H264 = {'preset': 'ultrafast', 'crf': '23'}
CODECS: Mapping[str, Codec] = {
  'mp4': Codec('libx264', 'mp4', _H264),
  'mkv': Codec('libx264', 'matroska', _H264),
  'webm': Codec(
    'libvpx-vp9',
    'webm',
    {'deadline': 'realtime', 'cpu-used': '8', 'crf': '34', 'b': '0'},
  ),
  'avi': Codec('mpeg4', 'avi', {'qmin': '3', 'qmax': '5'}),
}


def encode_video(
  path: str, frames: Iterable[np.ndarray], fps: int, container: str
) -> None:
  """Writes a video whole or not at all; equal frames give equal files.

  Args:
    path: where to write; a neighbour with the suffix `.tmp` is there meanwhile.
    frames: `[height, width, 3]` uint8 RGB, sides even, at least one.
    fps: frames a second.
    container: key of `CODECS`.
  """
  codec = CODECS[container]
  temporary = f'{path}.tmp'
  options = {'fflags': '+bitexact'}  # Else Matroska draws random identifiers.
  with av.open(temporary, 'w', format=codec.muxer, options=options) as file:
    added = file.add_stream(codec.encoder, rate=fps, options=dict(codec.options))
    stream = cast(VideoStream, added)
    stream.pix_fmt = 'yuv420p'
    stream.codec_context.thread_count = 1
    for number, frame in enumerate(frames):
      if number == 0:
        stream.height, stream.width = frame.shape[:2]
      planes = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420), np.uint8)
      file.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format='yuv420p')))
    file.mux(stream.encode())
  os.replace(temporary, path)

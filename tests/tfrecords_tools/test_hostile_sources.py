"""Files made to exhaust memory or time: each is skipped by name, at little cost."""

import json
import pathlib
import struct
import subprocess
import sys
import zlib

import av
import numpy as np
import pytest

from official.video.data import records
from tests.videos import write_video
from tfrecords_tools import convert, decode
from tfrecords_tools.clips import build_record
from tfrecords_tools.commands import run_command
from tfrecords_tools.datasets.source import SourceClip
from tfrecords_tools.frames import FrameOptions

REPOSITORY = pathlib.Path(__file__).parents[2]


def patch(data, marker, offset, layout, *values):
  """Overwrites numbers `offset` bytes after the last `marker`."""
  result = bytearray(data)
  struct.pack_into(layout, result, result.rindex(marker) + offset, *values)
  return bytes(result)


def mp4_sample_table(data, count, size):
  """Tables that claim `count` frames of `size` bytes, in one chunk."""
  data = patch(data, b'stsz', 8, '>II', size, count)
  data = patch(data, b'stts', 8, '>III', 1, count, 1)
  return patch(data, b'stsc', 8, '>IIII', 1, 1, count, 1)


def png(width, height):
  def chunk(name, data):
    body = name + data
    return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))

  return b''.join(
    [
      b'\x89PNG\r\n\x1a\n',
      chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 6, 0, 0, 0)),
      chunk(b'IDAT', zlib.compress(bytes(10_000_000), 9)),
      chunk(b'IEND', b''),
    ]
  )


def write_raw(path, codec, pixel_format, size, num_frames=2, rate=10):
  width, height = size
  with av.open(str(path), 'w') as file:
    stream = file.add_stream(codec, rate=rate)
    stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
    for number in range(num_frames):
      image = np.full((height, width, 3), number * 20, np.uint8)
      frame = av.VideoFrame.from_ndarray(image, 'rgb24').reformat(format=pixel_format)
      file.mux(stream.encode(frame))
    file.mux(stream.encode())
  return pathlib.Path(path)


def growing_stream(folder):
  """H.264 whose frames become larger on the way."""
  parts = []
  for name, size in (('small', (64, 48)), ('large', (640, 480))):
    path = folder / f'{name}.h264'
    write_video(path, num_frames=20, size=size)
    parts.append(path.read_bytes())
    path.unlink()
  return b''.join(parts)


def hostile_files(folder):
  """Name to content, and what the reason of its skip tells."""
  mp4 = pathlib.Path(write_video(folder / 'base.mp4', num_frames=12)).read_bytes()
  avi = pathlib.Path(write_video(folder / 'base.avi', 12, codec='mpeg4')).read_bytes()
  gif = write_raw(folder / 'base.gif', 'gif', 'rgb8', (64, 48)).read_bytes()
  mjpeg = write_raw(folder / 'mjpeg.avi', 'mjpeg', 'yuvj420p', (64, 48)).read_bytes()
  raw = write_raw(folder / 'raw.avi', 'rawvideo', 'yuv420p', (64, 48)).read_bytes()
  wide = write_raw(folder / 'wide.mkv', 'ffv1', 'yuv420p', (70_000, 2)).read_bytes()
  return {
    'billions_of_frames.mp4': (mp4_sample_table(mp4, 2**32 - 1, 0), 'not a readable'),
    'large_index.mp4': (mp4_sample_table(mp4, 170_000_000, 1), 'truncated or damaged'),
    'no_clock.mp4': (patch(mp4, b'mdhd', 16, '>I', 0), 'no frame'),
    'fast_clock.mp4': (patch(mp4, b'mdhd', 16, '>I', 2**32 - 1), 'no frame'),
    'all_at_once.mp4': (patch(mp4, b'stts', 12, '>II', 12, 0), 'do not increase'),
    'frames_of_days.mp4': (
      patch(mp4, b'stts', 12, '>II', 12, 2**31 - 1),
      'a frame lasts',
    ),
    'frames_of_years.avi': (
      patch(avi, b'strh', 28, '<II', 2**32 - 1, 1),
      'lasts over 3600 s (--max_seconds)',
    ),
    'billions_of_frames.avi': (
      patch(patch(avi, b'avih', 24, '<I', 2**32 - 1), b'strh', 40, '<I', 2**32 - 1),
      'truncated',
    ),
    'huge.gif': (patch(gif, b'GIF89a', 6, '<HH', 65_535, 65_535), '--max_pixels'),
    'huge_raw.avi': (patch(raw, b'strf', 12, '<ii', 60_000, 60_000), 'decoding failed'),
    'huge_mjpeg.avi': (
      patch(
        patch(mjpeg, b'strf', 12, '<ii', 60_000, 60_000),
        b'\xff\xc0',
        5,
        '>HH',
        60_000,
        60_000,
      ),
      '',
    ),
    'huge.png': (png(2**31 - 1, 2**31 - 1), 'not a'),
    'bomb.mp4': (png(22_000, 22_000), 'not a'),
    'growing.ts': (growing_stream(folder), ''),
    'wide.mkv': (wide, 'frames of 70000x2 are larger than a JPEG can be'),
  }


READ_ONE = """
import json, resource, sys, time
from tfrecords_tools.clips import build_record
from tfrecords_tools.datasets.source import SourceClip
from tfrecords_tools.decode import SourceError
from tfrecords_tools.frames import FrameOptions

def peak():
  for line in open('/proc/self/status'):
    if line.startswith('VmHWM'):
      return int(line.split()[1]) // 1024

path, fps, max_pixels = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
before, began = peak(), time.process_time()
options = FrameOptions(fps=fps, max_pixels=max_pixels)
try:
  result = len(build_record(SourceClip(path, path, 'train', 'm'), {}, options)[0])
except SourceError as error:
  result = str(error)
print(json.dumps([result, time.process_time() - began, peak() - before]))
"""


def read_one(path, fps=0, max_pixels=FrameOptions.max_pixels):
  """Bytes of the record or the reason, CPU seconds, MB that memory grew by."""
  done = subprocess.run(
    [sys.executable, '-c', READ_ONE, str(path), str(fps), str(max_pixels)],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, f'{path}: exit code {done.returncode}\n{done.stderr}'
  return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != 'linux', reason='peak memory is read from /proc')
def test_hostile_files_are_skipped_cheaply(tmp_path):
  for name, (data, reason) in hostile_files(tmp_path).items():
    path = tmp_path / name
    path.write_bytes(data)
    limit = 10_000 if name.startswith('growing') else FrameOptions.max_pixels
    result, seconds, memory = read_one(path, max_pixels=limit)
    assert isinstance(result, str) and reason in result, (name, result)
    assert seconds < 5 and memory < 400, (name, seconds, memory)


@pytest.mark.skipif(sys.platform != 'linux', reason='peak memory is read from /proc')
def test_resampling_repeats_no_frame_for_days(tmp_path):
  path = write_video(tmp_path / 'days.mkv', times=[0, 0.1, 500_000])
  result, seconds, memory = read_one(path, fps=30)
  assert 'lasts over 3600 s (--max_seconds)' in result
  assert seconds < 5 and memory < 100


def clip_of(path, **span):
  return SourceClip(str(path), str(path), 'train', 'm', **span)


def reason(path, **options):
  with pytest.raises(decode.SourceError) as error:
    build_record(clip_of(path), {}, FrameOptions(**options))
  return str(error.value)


def test_limit_of_seconds(tmp_path):
  path = write_video(tmp_path / 'v.mp4', num_frames=60)
  assert reason(path, max_seconds=1.9) == (
    'lasts over 1.9 s (--max_seconds); cut it up by start and end'
  )
  assert build_record(clip_of(path), {}, FrameOptions(max_seconds=2))
  # A short span of a long source is a short clip.
  span = clip_of(path, start=0.5, end=1.5)
  assert build_record(span, {}, FrameOptions(max_seconds=1))
  assert build_record(span, {}, FrameOptions(max_seconds=1, fps=10))


def test_limit_of_what_is_decoded(tmp_path, monkeypatch):
  path = write_video(tmp_path / 'v.mp4', num_frames=60)
  monkeypatch.setattr(decode, '_MAX_DECODED_PIXELS', 59 * 2**20)
  assert reason(path).startswith("over 59 megapixels of frames up to the clip's end")
  # Also where next to none is stored.
  assert reason(path, fps=1).startswith('over 59 megapixels')
  monkeypatch.setattr(decode, '_MAX_DECODED_PIXELS', 60 * 2**20)
  assert build_record(clip_of(path), {}, FrameOptions())


def test_limits_are_named_in_the_manifest(tmp_path):
  (tmp_path / 'videos').mkdir()
  write_video(tmp_path / 'videos' / 'small.mp4', num_frames=10)
  write_video(tmp_path / 'videos' / 'long.mp4', num_frames=70)
  write_video(tmp_path / 'videos' / 'large.mp4', num_frames=2, size=(320, 240))
  write_video(tmp_path / 'videos' / 'many.mp4', num_frames=40, fps=60)
  arguments = ['--source=folder', f'--path={tmp_path / "videos"}', '--num_workers=1']
  arguments += [f'--output_dir={tmp_path / "out"}', '--max_failed_fraction=1']
  limits = ['--max_pixels=10000', '--max_seconds=1.5', '--max_frames=30']
  assert run_command(convert.main, arguments + limits) == 0
  text = (tmp_path / 'out' / 'train.manifest.json').read_text()
  manifest = records.Manifest.from_json(text)
  skipped = {entry.source: entry.reason for entry in manifest.skipped}
  assert manifest.records == 1
  assert skipped.keys() == {'large.mp4', 'long.mp4', 'many.mp4'}
  assert skipped['many.mp4'] == 'more than 30 frames (--max_frames)'
  assert '--max_pixels' in skipped['large.mp4']
  assert '--max_' in skipped['long.mp4']
  assert manifest.arguments['max_seconds'] == 1.5

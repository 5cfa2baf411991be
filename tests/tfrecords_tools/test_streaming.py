"""Records written frame by frame: the bytes of the whole ones, in little memory."""

import fractions
import io
import json
import pathlib
import subprocess
import sys

import av
import numpy as np
import pytest

from official.video.data import records
from tfrecords_tools import convert, streaming
from tfrecords_tools.commands import run_command
from tfrecords_tools.streaming import FrameSpool, Record

REPOSITORY = pathlib.Path(__file__).parents[2]
# Around the borders where a length takes one more byte.
SIZES = [1, 118, 121, 124, 127, 128, 16_370, 16_380, 16_384, 2**21 - 4, 2**21, 0]


def frames_of(sizes):
  return [bytes([index % 256]) * size for index, size in enumerate(sizes)]


def fields_of(count, **changes):
  return {
    records.IMAGE_TIMESTAMP: [40_000 * k for k in range(count)],
    records.IMAGE_FORMAT: 'JPEG',
    records.IMAGE_HEIGHT: 240,
    records.IMAGE_WIDTH: 320,
    records.IMAGE_FRAME_RATE: 25.0,
    records.MEDIA_ID: 'süß',
    records.DATA_PATH: 'b\udce4d.mp4',
    records.START_TIMESTAMP: 0,
    records.END_TIMESTAMP: 40_000 * count,
    **changes,
  }


# Feature lists that sort before and after that of the frames.
EVERYTHING = {
  records.DETECTED_TIMESTAMP: [0, 5],
  records.DETECTED_SCORE: [[0.5], [0.25, 0.5]],
  records.REGION_TIMESTAMP: [0],
  records.BBOX_YMIN: [[]],
  records.LABEL_INDEX: [3, 5],
  records.TEXT_CONTENT: ['a' * 300],
  'extra/n': '2',
}


@pytest.mark.parametrize('more', [{}, EVERYTHING])
@pytest.mark.parametrize('sizes', [[], [5], SIZES, [300] * 1000])
def test_same_bytes_as_the_whole_record(sizes, more):
  frames = frames_of(sizes)
  fields = fields_of(len(frames), **more)
  whole = records.encode_record({**fields, records.IMAGE_ENCODED: frames})
  expected, found = io.BytesIO(), io.BytesIO()
  records.write_record(expected, whole)
  with FrameSpool() as spool:
    for frame in frames:
      spool.append(frame)
    record = Record(fields, spool, [len(frame) for frame in frames])
    assert len(record) == len(whole)
    assert record.write(found) == len(whole) + records.FRAMING_BYTES
    assert b''.join(record.chunks()) == whole
  assert found.getvalue() == expected.getvalue()


def test_frames_of_other_sizes_are_refused():
  record = Record(fields_of(2), [b'a', b'bcd'], [1, 2])
  with pytest.raises(RuntimeError, match='became'):
    record.write(io.BytesIO())


def test_a_missing_key_is_refused():
  fields = fields_of(1)
  del fields[records.MEDIA_ID]
  with pytest.raises(KeyError, match='clip/media_id'):
    Record(fields, [b'a'], [1])


def test_a_large_spool_is_a_nameless_file(tmp_path, monkeypatch):
  monkeypatch.setattr(streaming, '_SPOOLED_BYTES', 1000)
  frames = frames_of([400] * 20)
  with FrameSpool(str(tmp_path)) as spool:
    for frame in frames:
      spool.append(frame)
    assert spool._file._rolled
    assert list(tmp_path.iterdir()) == []
    assert len(spool) == 20
    assert list(spool) == list(spool) == frames
    # Frames may still come after the first were read.
    next(iter(spool))
    spool.append(b'last')
    assert list(spool)[-2:] == [frames[-1], b'last']


def write_film(path, num_frames, size=(960, 544)):
  """A film of noise, of one JPEG that is stored `num_frames` times."""
  noise = np.random.RandomState(0).randint(0, 255, (*size[::-1], 3)).astype(np.uint8)
  with av.open(str(path), 'w') as file:
    stream = file.add_stream('mjpeg', rate=25, options={'qmin': '1', 'qmax': '2'})
    stream.width, stream.height, stream.pix_fmt = *size, 'yuvj420p'
    image = av.VideoFrame.from_ndarray(noise, 'rgb24')
    (first, *_) = [*stream.encode(image), *stream.encode()]
    data = bytes(first)
    for number in range(num_frames):
      packet = av.Packet(data)
      packet.pts = packet.dts = number
      packet.time_base = fractions.Fraction(1, 25)
      packet.stream, packet.is_keyframe = stream, True
      file.mux(packet)


# What getrusage calls the peak begins with that of the process that forked this one.
CONVERT = """
import json, re, sys
from tfrecords_tools.datasets.source import SourceClip
from tfrecords_tools.frames import FrameOptions
from tfrecords_tools.plan import ShardTask
from tfrecords_tools.shards import write_shard

path, output = sys.argv[1:]
clip = SourceClip('film', path, 'train', 'film')
write_shard(ShardTask(output, 'train', 0, 1, [clip], {}, FrameOptions(short_side=0)))
status = open('/proc/self/status').read()
print(json.dumps(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) / 1024))
"""


def peak_memory(path, output):
  """MB of a process that converts one film to one record."""
  output.mkdir()
  done = subprocess.run(
    [sys.executable, '-c', CONVERT, str(path), str(output)],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    check=True,
  )
  return json.loads(done.stdout)


def test_memory_does_not_grow_with_the_film(tmp_path):
  write_film(tmp_path / 'short.avi', 5)
  write_film(tmp_path / 'long.avi', 400)
  short = peak_memory(tmp_path / 'short.avi', tmp_path / 'short')
  long = peak_memory(tmp_path / 'long.avi', tmp_path / 'long')
  record = (tmp_path / 'long' / 'train-00000-of-00001.tfrecord').stat().st_size / 1e6
  assert record > 150
  assert long - short < 80, (short, long, record)
  names = sorted(path.name for path in (tmp_path / 'long').iterdir())
  shard = 'train-00000-of-00001.tfrecord'
  assert names == [shard, f'{shard}.frames', f'{shard}.json']


def test_large_records_are_offered_spans(tmp_path, capsys, monkeypatch):
  (tmp_path / 'films').mkdir()
  write_film(tmp_path / 'films' / 'v.avi', 5, size=(64, 48))
  arguments = [f'--path={tmp_path}/films', f'--output_dir={tmp_path}/out']
  assert run_command(convert.main, ['--source=folder', *arguments]) == 0
  assert 'records hold over' not in capsys.readouterr().out
  monkeypatch.setattr(convert, '_LARGE_RECORD_BYTES', 1000)
  assert run_command(convert.main, ['--source=folder', *arguments]) == 0
  assert '1 of 1 records hold over' in capsys.readouterr().out
